#include "cmocka_all.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "marks.h"
#include "scarce_memory.h"

static void test_taken_once(void **state)
{
	struct marks *marks = marks_new(8);

	(void)state;
	assert_false(marks_are_waiting(marks));
	marks_add(marks, 5);
	marks_add(marks, 5);
	assert_true(marks_are_waiting(marks));
	assert_false(marks_take(marks, 6));
	assert_true(marks_take(marks, 5));
	assert_true(marks_take(marks, 5));
	assert_false(marks_take(marks, 5));
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
		assert_true(marks_take(marks, round + 1));
		assert_true(marks_take(marks, round + 2));
		assert_false(marks_take(marks, round + 1));
		assert_true(marks_are_waiting(marks));
		assert_true(marks_take(marks, round));
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
	assert_false(marks_pass(marks, 99));
	assert_false(marks_pass(marks, 100));
	assert_true(marks_take(marks, 5));
	assert_false(marks_take(marks, 5));
	/* A fence with the number of a fingerprint is no mark. */
	marks_fence(marks, 7);
	assert_false(marks_take(marks, 7));
	assert_false(marks_pass(marks, 7));
	/* One that the others have overtaken. */
	marks_add(marks, 1);
	marks_fence(marks, 101);
	assert_true(marks_take(marks, 1));
	assert_false(marks_pass(marks, 101));
	assert_false(marks_are_waiting(marks));
	marks_free(marks);
}

/* Without room everything counts as a copy until a fence that was sent after that has come. */
static void test_overflow(void **state)
{
	struct marks *marks = marks_new(4);
	uint64_t i;

	(void)state;
	marks_fence(marks, 1);
	for (i = 10; i < 13; i++) {
		marks_add(marks, i);
	}
	assert_false(marks_take(marks, 99));
	marks_add(marks, 13); /* into the place of the fence, which has been passed over */
	marks_add(marks, 14);
	assert_true(marks_take(marks, 99));
	assert_true(marks_take(marks, 14));
	assert_false(marks_pass(marks, 1));
	assert_true(marks_take(marks, 99));
	marks_fence(marks, 2);
	assert_true(marks_are_waiting(marks));
	assert_true(marks_pass(marks, 2));
	assert_false(marks_are_waiting(marks));
	assert_false(marks_take(marks, 10));
	marks_add(marks, 15);
	assert_true(marks_take(marks, 15));

	/* A fence may be what there is no room for. */
	for (i = 20; i < 24; i++) {
		marks_add(marks, i);
	}
	marks_fence(marks, 3);
	assert_true(marks_take(marks, 99));
	assert_true(marks_pass(marks, 3));
	assert_false(marks_take(marks, 20));
	marks_free(marks);
}

static void test_fingerprints(void **state)
{
	static const char zeros[40];
	enum { COUNT = 2000 };
	uint64_t *found = calloc(COUNT, sizeof(*found));
	char payload[16];
	int i, j;

	(void)state;
	assert_true(marks_fingerprint("a", "bc", 2) == marks_fingerprint("a", "bc", 2));
	assert_true(marks_fingerprint("a", "bc", 2) != marks_fingerprint("ab", "c", 1));
	assert_true(marks_fingerprint("a", "bc", 2) != marks_fingerprint("a", "bd", 2));
	assert_true(marks_fingerprint("", NULL, 0) != 0);
	assert_true(marks_fingerprint("a", NULL, 0) == marks_fingerprint("a", "", 0));
	for (i = 0; i < COUNT; i++) {
		(void)snprintf(payload, sizeof(payload), "%d", i);
		/* Numbers, and zeros of each length. */
		found[i] = i < (int)sizeof(zeros) ? marks_fingerprint("zeros", zeros, (size_t)i)
																			: marks_fingerprint("t", payload, strlen(payload));
		for (j = 0; j < i; j++) {
			assert_true(found[i] != found[j]);
		}
	}
	free(found);
}

enum { MANY = 200000 };

static atomic_uint_fast64_t fences; /* the last that was added */

static void *take_many(void *argument)
{
	struct marks *marks = argument;
	uint64_t i;

	for (i = 1; i <= MANY; i++) {
		while (!marks_take(marks, i)) {
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
	uint64_t fence = 0, passed = 0, lost = 0;
	pthread_t thread;

	(void)state;
	atomic_store(&fences, 0);
	assert_int_equal(pthread_create(&thread, NULL, add_with_fences, marks), 0);
	while (passed <= MANY) {
		fence = atomic_load(&fences);
		(void)marks_take(marks, fence + 1);
		if (fence != passed) {
			lost += marks_pass(marks, fence);
			passed = fence;
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(lost > 0);
	assert_false(marks_are_waiting(marks));
	assert_false(marks_take(marks, 1));
	marks_add(marks, 1);
	assert_true(marks_take(marks, 1));
	marks_free(marks);
}

static void test_no_memory(void **state)
{
	(void)state;
	scarce_memory(1, false);
	assert_null(marks_new(8));
	assert_true(scarce_memory_end());
	marks_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_taken_once),
			cmocka_unit_test(test_out_of_order_and_round_the_ring),
			cmocka_unit_test(test_a_fence_clears_what_did_not_come),
			cmocka_unit_test(test_overflow),
			cmocka_unit_test(test_fingerprints),
			cmocka_unit_test(test_two_threads),
			cmocka_unit_test(test_two_threads_without_room),
			cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
