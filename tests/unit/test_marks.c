#include "cmocka_all.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "shared/marks.h"

static bool take(struct marks *marks, uint64_t fingerprint)
{
	return marks_take(marks, &fingerprint, 1);
}

static void test_taken_once(void **state)
{
	struct marks *marks = marks_new(8);

	(void)state;
	assert_false(marks_are_waiting(marks));
	marks_add(marks, 5);
	marks_add(marks, 5);
	assert_true(marks_are_waiting(marks));
	assert_false(take(marks, 6));
	assert_true(take(marks, 5));
	assert_true(take(marks, 5));
	assert_false(take(marks, 5));
	assert_false(marks_are_waiting(marks));
	marks_free(marks);
}

static void test_out_of_order_and_round_the_ring(void **state)
{
	struct marks *marks = marks_new(8);
	uint64_t round;

	(void)state;
	for (round = 1; round < 1000; round += 5) {
		marks_add(marks, round);
		marks_add(marks, round + 1);
		marks_add(marks, round + 2);
		assert_true(take(marks, round + 1));
		assert_true(take(marks, round + 2));
		assert_false(take(marks, round + 1));
		assert_true(marks_are_waiting(marks));
		assert_true(take(marks, round));
		assert_false(marks_are_waiting(marks));
	}
	marks_free(marks);
}

/* A copy that the broker dropped must not swallow a message with the same content later. */
static void test_a_fence_clears_what_did_not_come(void **state)
{
	struct marks *marks = marks_new(8);

	(void)state;
	marks_add(marks, 5);
	marks_fence(marks, 100);
	marks_add(marks, 5);
	marks_pass(marks, 99);
	marks_pass(marks, 100);
	assert_true(take(marks, 5));
	assert_false(take(marks, 5));
	/* A fence with the number of a fingerprint is no mark. */
	marks_fence(marks, 107);
	assert_false(take(marks, 107));
	assert_false(marks_are_waiting(marks));
	marks_pass(marks, 107);
	/* One that the others have overtaken. */
	marks_add(marks, 1);
	marks_fence(marks, 108);
	assert_true(take(marks, 1));
	marks_add(marks, 2);
	marks_pass(marks, 108);
	assert_true(take(marks, 2));
	assert_false(marks_are_waiting(marks));
	/* One that got lost: the next one ends its marks, too. */
	marks_add(marks, 3);
	marks_fence(marks, 109);
	marks_add(marks, 4);
	marks_fence(marks, 110);
	marks_add(marks, 5);
	marks_pass(marks, 110);
	assert_false(take(marks, 3));
	assert_false(take(marks, 4));
	assert_true(take(marks, 5));
	marks_free(marks);
}

/* What is not marked for want of room comes twice; what was never marked is no copy, whatever else is the
 * case. */
static void test_overflow_makes_nothing_a_copy(void **state)
{
	struct marks *marks = marks_new(4);
	uint64_t i;

	(void)state;
	for (i = 10; i < 17; i++) {
		marks_add(marks, i);
	}
	assert_int_equal(marks_missing(marks), 3);
	assert_false(take(marks, 99));
	assert_false(take(marks, 14));
	assert_true(take(marks, 13));
	assert_true(take(marks, 10));
	/* There is room again. */
	marks_add(marks, 17);
	assert_true(take(marks, 17));
	assert_int_equal(marks_missing(marks), 3);
	/* A fence is marked also where there is no room, and makes it, when no copy comes. */
	assert_true(take(marks, 11));
	assert_true(take(marks, 12));
	for (i = 18; i < 23; i++) {
		marks_add(marks, i);
	}
	assert_int_equal(marks_missing(marks), 4);
	marks_fence(marks, 1);
	marks_pass(marks, 1);
	assert_false(marks_are_waiting(marks));
	marks_add(marks, 21);
	assert_false(take(marks, 11));
	assert_true(take(marks, 21));
	marks_free(marks);
}

/* More of them than anybody keeps: the later ones do it. */
static void test_fences_without_end(void **state)
{
	struct marks *marks = marks_new(8);
	uint64_t i;

	(void)state;
	for (i = 1; i <= 1000; i++) {
		marks_fence(marks, i);
	}
	marks_add(marks, 5);
	marks_fence(marks, i);
	marks_pass(marks, i);
	marks_fence(marks, i + 1);
	marks_pass(marks, i + 1);
	assert_false(marks_are_waiting(marks));
	assert_false(take(marks, 5));
	marks_free(marks);
}

static void test_forgetting_up_to_a_place(void **state)
{
	struct marks *marks = marks_new(8);
	size_t place;

	(void)state;
	marks_add(marks, 5);
	marks_add(marks, 6);
	place = marks_place(marks);
	marks_add(marks, 5);
	marks_forget(marks, place);
	assert_false(take(marks, 6));
	assert_true(take(marks, 5));
	assert_false(take(marks, 5));
	marks_add(marks, 7);
	marks_forget(marks, place); /* the others have overtaken it */
	assert_true(take(marks, 7));
	marks_free(marks);
}

/* What the ring does, slowly. */
struct plain {
	uint64_t marks[64];
	size_t count;
};

static bool plain_take(struct plain *plain, uint64_t mark)
{
	size_t i;

	for (i = 0; i < plain->count; i++) {
		if (plain->marks[i] == mark) {
			plain->count--;
			memmove(&plain->marks[i], &plain->marks[i + 1], (plain->count - i) * sizeof(plain->marks[0]));
			return true;
		}
	}
	return false;
}

/* Marks that share buckets, equal ones, copies out of order, copies that never come, and fences: as a list
 * would do it. */
static void test_like_a_plain_list(void **state)
{
	enum { CAPACITY = 64, STEPS = 200000 };
	struct marks *marks = marks_new(CAPACITY);
	struct plain plain = {.count = 0};
	uint64_t fence = 0, random = 88172645463325252U, mark, missing;
	size_t step;

	(void)state;
	for (step = 0; step < STEPS; step++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		mark = 1 + random % 5 + (random >> 8) % 3 * CAPACITY;
		if (random >> 60 < 8) {
			missing = marks_missing(marks);
			marks_add(marks, mark);
			if (marks_missing(marks) == missing) {
				plain.marks[plain.count++] = mark;
			}
		} else if (random >> 60 < 15 || random % 16) {
			assert_int_equal(take(marks, mark), plain_take(&plain, mark));
			assert_int_equal(marks_are_waiting(marks), plain.count > 0);
		} else {
			/* Half of what waits came behind the fence. */
			size_t half = plain.count / 2, i;
			uint64_t behind[64];

			memcpy(behind, &plain.marks[half], (plain.count - half) * sizeof(behind[0]));
			marks_fence(marks, ++fence);
			marks_pass(marks, fence);
			for (i = half; i < plain.count; i++) {
				marks_add(marks, behind[i - half]);
			}
			plain.count -= half;
			memmove(plain.marks, behind, plain.count * sizeof(behind[0]));
		}
	}
	assert_true(fence > 0);
	assert_true(marks_missing(marks) > 0);
	marks_free(marks);
}

/* The broker has dropped 60,000 copies: that costs the others nothing. Without an index this takes
 * minutes. */
static void test_many_that_never_come(void **state)
{
	enum { DROPPED = 60000, OTHERS = 1000000 };
	struct marks *marks = marks_new(1U << 16);
	uint64_t i;

	(void)state;
	for (i = 1; i <= DROPPED; i++) {
		marks_add(marks, i);
	}
	for (i = 1; i <= OTHERS; i++) {
		assert_false(take(marks, DROPPED + 1 + i)); /* no copy at all */
	}
	for (i = 1; i <= 5000; i++) {
		marks_add(marks, DROPPED + 1 + i);
		assert_true(take(marks, DROPPED + 1 + i));
	}
	/* Equal ones, too. */
	marks_fence(marks, 1);
	marks_pass(marks, 1);
	marks_add(marks, 1);
	for (i = 0; i < DROPPED; i++) {
		marks_add(marks, 7);
	}
	for (i = 0; i < DROPPED; i++) {
		assert_true(take(marks, 7));
	}
	assert_true(take(marks, 1));
	assert_false(marks_are_waiting(marks));
	marks_free(marks);
}

/* A copy may be of several messages: of those that are marked the oldest is taken, wherever it is. */
static void test_one_of_several(void **state)
{
	static const uint64_t several[] = {5, 6, 70};
	struct marks *marks = marks_new(64);
	uint64_t i;

	(void)state;
	marks_add(marks, 6);
	marks_add(marks, 5);
	assert_true(marks_take(marks, several, 3));
	assert_true(take(marks, 5));
	assert_false(marks_take(marks, several, 3));
	for (i = 100; i < 120; i++) {
		marks_add(marks, i);
	}
	marks_add(marks, 70);
	marks_add(marks, 6);
	marks_add(marks, 5);
	assert_true(marks_take(marks, several, 3));
	assert_false(take(marks, 70));
	assert_true(marks_take(marks, several, 3));
	assert_false(take(marks, 6));
	assert_true(marks_take(marks, several, 3));
	assert_false(marks_take(marks, several, 3));
	assert_false(marks_take(marks, several, 0));
	marks_free(marks);
}

enum { MANY = 200000 };

static atomic_uint_fast64_t fences; /* the last that was added */

static void *take_many(void *argument)
{
	struct marks *marks = argument;
	uint64_t i;

	for (i = 1; i <= MANY; i++) {
		while (!take(marks, i)) {
			(void)sched_yield();
		}
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	struct marks *marks = marks_new(1U << 18);
	pthread_t thread;
	uint64_t i;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, take_many, marks), 0);
	for (i = 1; i <= MANY; i++) {
		marks_add(marks, i);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(marks_are_waiting(marks));
	marks_free(marks);
}

/* What the broker thread does: marks, and from time to time a fence behind them. */
static void *add_with_fences(void *argument)
{
	struct marks *marks = argument;
	uint64_t i;

	for (i = 1; i <= MANY; i++) {
		marks_add(marks, i);
		if (i % 64 == 0) {
			marks_fence(marks, i);
			atomic_store(&fences, i);
		}
	}
	marks_fence(marks, MANY + 1);
	atomic_store(&fences, MANY + 1);
	return NULL;
}

/* A ring that overflows all the time, and marks whose copies never come: in the end nothing is left of it. */
static void test_two_threads_without_room(void **state)
{
	struct marks *marks = marks_new(16);
	uint64_t fence = 0, passed = 0;
	pthread_t thread;

	(void)state;
	atomic_store(&fences, 0);
	assert_int_equal(pthread_create(&thread, NULL, add_with_fences, marks), 0);
	while (passed <= MANY) {
		fence = atomic_load(&fences);
		(void)take(marks, fence + 1);
		if (fence != passed) {
			marks_pass(marks, fence);
			passed = fence;
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(marks_missing(marks) > 0);
	assert_false(marks_are_waiting(marks));
	assert_false(take(marks, 1));
	marks_add(marks, 1);
	assert_true(take(marks, 1));
	marks_free(marks);
}

static void test_no_memory(void **state)
{
	unsigned long n;

	(void)state;
	for (n = 1; n <= 3; n++) {
		scarce_memory(n, false);
		assert_null(marks_new(8));
		assert_true(scarce_memory_end());
	}
	marks_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_once),
		cmocka_unit_test(test_out_of_order_and_round_the_ring),
		cmocka_unit_test(test_a_fence_clears_what_did_not_come),
		cmocka_unit_test(test_overflow_makes_nothing_a_copy),
		cmocka_unit_test(test_fences_without_end),
		cmocka_unit_test(test_forgetting_up_to_a_place),
		cmocka_unit_test(test_like_a_plain_list),
		cmocka_unit_test(test_many_that_never_come),
		cmocka_unit_test(test_one_of_several),
		cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_two_threads_without_room),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
