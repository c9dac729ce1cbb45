#include "cmocka_all.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scarce_memory.h"
#include "shared/message.h"
#include "shared/queue.h"

#define MANY_BYTES ((size_t)1 << 30)

static void count_notice(void *userdata)
{
	++*(unsigned int *)userdata;
}

static struct message *new_message(uint64_t number, size_t payload_length)
{
	static const char payload[4096];
	const struct message_content content = {.payload = payload, .payload_length = payload_length};
	struct message *message;

	assert_true(payload_length <= sizeof(payload));
	message = message_publish(&content, NULL, 0);
	assert_non_null(message);
	message->as.publish.publisher = number;
	return message;
}

static uint64_t number_of(const struct message *message)
{
	return message->as.publish.publisher;
}

static void tell(struct queue *queue, uint64_t number, size_t payload_length)
{
	assert_true(queue_tell(queue, new_message(number, payload_length)));
}

static bool push(struct queue *queue, uint64_t number)
{
	struct message *message = new_message(number, 0);

	if (queue_push(queue, message)) {
		return true;
	}
	message_free(message);
	return false;
}

/* Takes the oldest message, which must have this number, and is done with it. */
static void take(struct queue *queue, uint64_t number)
{
	struct message *message = queue_take(queue);

	assert_non_null(message);
	assert_null(message->next);
	assert_int_equal(number_of(message), number);
	queue_release(queue, message_size(message));
	message_free(message);
}

static void test_order(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(100, MANY_BYTES, count_notice, &notices);
	uint64_t pushed = 0, taken = 0;
	int round, i;

	(void)state;
	assert_non_null(queue);
	assert_true(queue_is_empty(queue));
	assert_null(queue_take(queue));
	/* Pushes between the takes of what was swapped out before. */
	for (round = 1; round < 20; round++) {
		for (i = 0; i < round; i++) {
			assert_true(push(queue, pushed++));
		}
		assert_false(queue_is_empty(queue));
		for (i = 0; i < round / 2 + 1 && taken < pushed; i++) {
			take(queue, taken++);
		}
	}
	while (taken < pushed) {
		assert_false(queue_is_empty(queue));
		take(queue, taken++);
	}
	assert_true(queue_is_empty(queue));
	assert_null(queue_take(queue));
	assert_int_equal(queue_count(queue), 0);
	assert_int_equal(queue_bytes(queue), 0);
	queue_free(queue);
}

static void test_bound_in_messages(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(3, MANY_BYTES, count_notice, &notices);
	struct message *message;

	(void)state;
	assert_true(push(queue, 1) && push(queue, 2) && push(queue, 3));
	assert_false(push(queue, 4));
	assert_int_equal(queue_count(queue), 3);
	/* What is taken counts until it is released. */
	message = queue_take(queue);
	assert_false(push(queue, 4));
	assert_int_equal(queue_count(queue), 3);
	queue_release(queue, message_size(message));
	message_free(message);
	assert_int_equal(queue_count(queue), 2);
	assert_true(push(queue, 4));
	assert_false(push(queue, 5));
	take(queue, 2);
	take(queue, 3);
	take(queue, 4);
	assert_true(queue_is_empty(queue));
	queue_free(queue);
}

static void test_bound_in_bytes(void **state)
{
	struct message *first = new_message(1, 100), *second = new_message(2, 50), *third = new_message(3, 0);
	size_t first_size = message_size(first), second_size = message_size(second);
	unsigned int notices = 0;
	struct queue *queue = queue_new(1000, first_size + second_size, count_notice, &notices);

	(void)state;
	assert_true(queue_push(queue, first));
	assert_int_equal(queue_bytes(queue), first_size);
	assert_true(queue_push(queue, second)); /* fits exactly */
	assert_int_equal(queue_bytes(queue), first_size + second_size);
	assert_false(queue_push(queue, third));
	assert_int_equal(queue_count(queue), 2);
	assert_int_equal(queue_bytes(queue), first_size + second_size);
	take(queue, 1);
	assert_int_equal(queue_bytes(queue), second_size);
	assert_true(queue_push(queue, third));
	take(queue, 2);
	take(queue, 3);
	assert_int_equal(queue_bytes(queue), 0);
	queue_free(queue);
}

/* Otherwise it could never pass. */
static void test_message_larger_than_the_bound_passes_alone(void **state)
{
	struct message *large = new_message(1, 4000), *second = new_message(2, 4000);
	unsigned int notices = 0;
	struct queue *queue = queue_new(10, 1000, count_notice, &notices);

	(void)state;
	assert_true(queue_push(queue, large));
	assert_false(queue_push(queue, second));
	assert_false(push(queue, 3));
	take(queue, 1);
	assert_true(push(queue, 3));
	assert_false(queue_push(queue, second)); /* not alone */
	take(queue, 3);
	assert_true(queue_push(queue, second));
	take(queue, 2);
	queue_free(queue);
}

static void test_control_messages_are_not_counted(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(1, MANY_BYTES, count_notice, &notices);
	struct message *message;
	size_t bytes;

	(void)state;
	assert_true(push(queue, 1));
	bytes = queue_bytes(queue);
	tell(queue, 2, 10);
	tell(queue, 3, 10);
	assert_int_equal(queue_count(queue), 1);
	assert_int_equal(queue_bytes(queue), bytes);
	assert_false(push(queue, 4));
	take(queue, 1);
	/* Behind the control messages, in order. */
	assert_true(push(queue, 4));
	message = queue_take(queue);
	assert_int_equal(number_of(message), 2);
	message_free(message);
	message = queue_take(queue);
	assert_int_equal(number_of(message), 3);
	message_free(message);
	assert_int_equal(queue_count(queue), 1);
	take(queue, 4);
	assert_int_equal(queue_count(queue), 0);
	/* One for which there was no memory. */
	assert_false(queue_tell(queue, NULL));
	assert_true(queue_is_empty(queue));
	assert_int_equal(queue_controls(queue), 0);
	queue_free(queue);
}

static void test_notified_once_for_each_time_it_stops_being_empty(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(3, MANY_BYTES, count_notice, &notices);
	struct message *message;

	(void)state;
	assert_true(push(queue, 1));
	assert_int_equal(notices, 1);
	assert_true(push(queue, 2));
	tell(queue, 3, 0);
	assert_int_equal(notices, 1);
	assert_true(push(queue, 4));
	assert_false(push(queue, 5)); /* refused: nothing to tell */
	assert_int_equal(notices, 1);
	take(queue, 1);
	take(queue, 2);
	message = queue_take(queue);
	message_free(message);
	take(queue, 4);
	assert_int_equal(notices, 1);
	tell(queue, 6, 0);
	assert_int_equal(notices, 2);
	assert_true(push(queue, 7));
	assert_int_equal(notices, 2);
	queue_free(queue);
	assert_int_equal(notices, 2);
}

static void test_room_again_once_after_a_refusal(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(4, MANY_BYTES, count_notice, &notices);
	uint64_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		assert_true(push(queue, i));
	}
	take(queue, 0);
	assert_false(queue_has_room_again(queue)); /* nobody was refused */
	assert_true(push(queue, 4));
	assert_false(push(queue, 5));
	assert_false(push(queue, 5));
	assert_false(queue_has_room_again(queue));
	take(queue, 1);
	assert_false(queue_has_room_again(queue)); /* not half empty */
	take(queue, 2);
	assert_true(queue_has_room_again(queue));
	assert_false(queue_has_room_again(queue));
	take(queue, 3);
	take(queue, 4);
	assert_false(queue_has_room_again(queue));
	queue_free(queue);
}

static void test_other_limits(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(2, MANY_BYTES, count_notice, &notices);
	uint64_t i;

	(void)state;
	assert_true(push(queue, 0));
	assert_true(push(queue, 1));
	assert_false(push(queue, 2));
	queue_set_limits(queue, 6, MANY_BYTES);
	for (i = 2; i < 6; i++) {
		assert_true(push(queue, i));
	}
	assert_false(push(queue, 6));
	/* What waits stays, and counts. */
	queue_set_limits(queue, 3, MANY_BYTES);
	for (i = 0; i < 3; i++) {
		take(queue, i);
		assert_false(push(queue, 6));
		assert_false(queue_has_room_again(queue));
	}
	take(queue, 3);
	assert_false(queue_has_room_again(queue));
	take(queue, 4);
	assert_true(queue_has_room_again(queue));
	/* The same in bytes: one message of any size passes alone. */
	take(queue, 5);
	queue_set_limits(queue, 3, 1);
	assert_true(push(queue, 6));
	assert_false(push(queue, 7));
	queue_free(queue);
}

static void test_room_again_in_bytes(void **state)
{
	size_t size = 1000;
	unsigned int notices = 0;
	struct message *refused = new_message(9, 1);
	struct queue *queue;
	uint64_t i;

	(void)state;
	size += message_size(refused) - 1;
	queue = queue_new(1000, 4 * size, count_notice, &notices);
	for (i = 0; i < 4; i++) {
		assert_true(queue_push(queue, new_message(i, 1000)));
	}
	assert_false(queue_push(queue, refused));
	take(queue, 0);
	assert_false(queue_has_room_again(queue));
	take(queue, 1);
	assert_true(queue_has_room_again(queue));
	assert_false(queue_has_room_again(queue));
	message_free(refused);
	queue_free(queue);
}

/* A queue for a single message is half empty when it is empty. */
static void test_room_again_in_the_smallest_queue(void **state)
{
	unsigned int notices = 0;
	struct queue *queue = queue_new(1, 1, count_notice, &notices);

	(void)state;
	assert_true(push(queue, 1));
	assert_false(push(queue, 2));
	assert_false(queue_has_room_again(queue));
	take(queue, 1);
	assert_true(queue_has_room_again(queue));
	queue_free(queue);
}

static void test_free_with_messages_waiting(void **state)
{
	long blocks = scarce_memory_blocks();
	unsigned int notices = 0;
	struct queue *queue = queue_new(10, MANY_BYTES, count_notice, &notices);

	(void)state;
	assert_true(push(queue, 1) && push(queue, 2) && push(queue, 3));
	take(queue, 1); /* 2 and 3 are swapped out */
	assert_true(push(queue, 4) && push(queue, 5));
	tell(queue, 6, 100);
	queue_free(queue);
	assert_int_equal(scarce_memory_blocks(), blocks);
	queue_free(NULL);
}

static void test_no_memory(void **state)
{
	long blocks = scarce_memory_blocks();
	unsigned int notices = 0;

	(void)state;
	scarce_memory(1, false);
	assert_null(queue_new(10, 10, count_notice, &notices));
	assert_true(scarce_memory_end());
	assert_int_equal(scarce_memory_blocks(), blocks);
}

/* ---- several threads ---- */

#define RACERS_MAX 2
#define ROUNDS 50000
#define RACE_SECONDS                                                                                         \
	10 /* on a busy machine each meeting costs others' time slices: fewer rounds are enough then */

/* Threads meet here so that what follows happens at the same moment. */
struct meeting {
	atomic_uint arrived;
	unsigned int expected;
};

static void meet(struct meeting *meeting)
{
	unsigned int mine = atomic_fetch_add(&meeting->arrived, 1);
	unsigned int complete = (mine / meeting->expected + 1) * meeting->expected;

	while (atomic_load(&meeting->arrived) < complete) {
		sched_yield();
	}
}

struct race {
	struct queue *queue;
	struct meeting before, after;
	atomic_bool ends;     /* with this round */
	atomic_uint finished; /* pushers, of this round */
	atomic_ulong refused;
	size_t payload_length;
};

/* Differs from round to round, so that now the one comes first and now the other. */
static void pause_a_little(unsigned int steps)
{
	volatile unsigned int i;

	for (i = 0; i < steps; i++) {
	}
}

static void *race_pusher(void *argument)
{
	struct race *race = argument;
	struct message *message;
	bool ends = false;
	int round;

	for (round = 0; !ends; round++) {
		message = new_message(1, race->payload_length);
		meet(&race->before);
		ends = atomic_load(&race->ends);
		pause_a_little((unsigned int)round / 64 % 64);
		if (!queue_push(race->queue, message)) {
			atomic_fetch_add(&race->refused, 1);
			message_free(message);
		}
		atomic_fetch_add(&race->finished, 1);
		meet(&race->after);
	}
	return NULL;
}

static void ignore_notice(void *userdata)
{
	(void)userdata;
}

/* As broker.c does: asks only when something was taken. */
static bool take_all(struct queue *queue)
{
	struct message *message;
	bool some = false;

	while ((message = queue_take(queue))) {
		queue_release(queue, message_size(message));
		message_free(message);
		some = true;
	}
	return some && queue_has_room_again(queue);
}

/* The queue is full, and emptied while others push. Whoever is refused must be called: the taker will not
 * come again by itself. */
static void check_refusals_are_never_lost(unsigned int pushers, size_t max_bytes, size_t payload_length)
{
	struct race race = {.payload_length = payload_length};
	pthread_t threads[RACERS_MAX];
	time_t end = time(NULL) + RACE_SECONDS;
	unsigned int i;
	int round, lost = 0;

	race.queue = queue_new(1, max_bytes, ignore_notice, NULL);
	race.before.expected = race.after.expected = pushers + 1;
	assert_non_null(race.queue);
	for (i = 0; i < pushers; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, race_pusher, &race), 0);
	}
	for (round = 0; !atomic_load(&race.ends); round++) {
		assert_true(push(race.queue, 0));
		atomic_store(&race.ends, round + 1 >= ROUNDS || time(NULL) >= end);
		atomic_store(&race.finished, 0);
		meet(&race.before);
		pause_a_little((unsigned int)round % 64);
		do {
			(void)take_all(race.queue);
		} while (atomic_load(&race.finished) < pushers);
		(void)take_all(race.queue);
		/* All is quiet and the queue empty: a refusal of which the taker was not told by now is lost. */
		lost += queue_has_room_again(race.queue);
		assert_int_equal(queue_count(race.queue), 0);
		assert_int_equal(queue_bytes(race.queue), 0);
		meet(&race.after);
	}
	for (i = 0; i < pushers; i++) {
		pthread_join(threads[i], NULL);
	}
	print_message("%lu pushes of %d refused\n", atomic_load(&race.refused), (int)pushers * round);
	queue_free(race.queue);
	assert_int_equal(lost, 0);
}

static void test_refusal_of_one_pusher_is_never_lost(void **state)
{
	(void)state;
	check_refusals_are_never_lost(1, MANY_BYTES, 0);
}

static void test_refusal_of_a_large_message_is_never_lost(void **state)
{
	(void)state;
	check_refusals_are_never_lost(1, 1000, 900);
}

static void test_refusal_of_two_pushers_is_never_lost(void **state)
{
	(void)state;
	check_refusals_are_never_lost(2, MANY_BYTES, 0);
}

/* ---- dropping the oldest ---- */

static struct queue *dropping_queue(size_t max_messages, size_t max_bytes)
{
	struct queue *queue = queue_new(max_messages, max_bytes, ignore_notice, NULL);

	assert_non_null(queue);
	queue_allow_dropping(queue);
	return queue;
}

/* Returns how many made room for it. */
static size_t push_dropping(struct queue *queue, uint64_t number, size_t payload_length)
{
	size_t dropped = 0;

	assert_true(queue_push_dropping(queue, new_message(number, payload_length), &dropped));
	return dropped;
}

static void test_the_oldest_make_room(void **state)
{
	struct queue *queue = dropping_queue(3, MANY_BYTES);
	uint64_t i;

	(void)state;
	for (i = 0; i < 10; i++) {
		assert_int_equal(push_dropping(queue, i, 0), i < 3 ? 0 : 1);
		assert_int_equal(queue_count(queue), i < 3 ? i + 1 : 3);
	}
	/* Some that were swapped out, and some that were not. */
	take(queue, 7);
	assert_int_equal(push_dropping(queue, 10, 0), 0);
	assert_int_equal(push_dropping(queue, 11, 0), 1);
	take(queue, 9);
	take(queue, 10);
	take(queue, 11);
	assert_null(queue_take(queue));
	assert_int_equal(queue_count(queue), 0);
	assert_int_equal(queue_bytes(queue), 0);
	queue_free(queue);
}

static void test_large_ones_make_room_for_large_ones(void **state)
{
	struct message *message = new_message(0, 1000);
	size_t size = message_size(message);
	struct queue *queue = dropping_queue(1000, 3 * size);

	(void)state;
	message_free(message);
	assert_int_equal(push_dropping(queue, 1, 1000), 0);
	assert_int_equal(push_dropping(queue, 2, 1000), 0);
	assert_int_equal(push_dropping(queue, 3, 10), 0);
	assert_int_equal(push_dropping(queue, 4, 1000), 1);
	assert_int_equal(push_dropping(queue, 5, 2000), 2);
	assert_int_equal(push_dropping(queue, 6, 4000), 2); /* alone, larger than the bound */
	take(queue, 6);
	assert_null(queue_take(queue));
	queue_free(queue);
}

/* What the taking thread has is its own to drop, and has as much room again. */
static void test_what_is_taken_has_room_of_its_own(void **state)
{
	struct queue *queue = dropping_queue(2, MANY_BYTES);
	struct message *taken[2];
	size_t dropped = 0;
	struct message *refused = new_message(9, 0);

	(void)state;
	(void)push_dropping(queue, 0, 0);
	(void)push_dropping(queue, 1, 0);
	taken[0] = queue_take(queue);
	taken[1] = queue_take(queue);
	assert_false(queue_is_over(queue, 16));
	assert_true(queue_is_over(queue, 15));
	assert_int_equal(push_dropping(queue, 2, 0), 0);
	assert_true(queue_is_over(queue, 16));
	assert_int_equal(push_dropping(queue, 3, 0), 0);
	assert_int_equal(push_dropping(queue, 4, 0), 1);
	assert_false(push(queue, 5)); /* who does not drop finds it full */
	take(queue, 3);
	take(queue, 4);
	/* Nothing is left that could be dropped. */
	queue_set_limits(queue, 1, MANY_BYTES);
	assert_false(queue_push_dropping(queue, refused, &dropped));
	assert_int_equal(dropped, 0);
	message_free(refused);
	for (dropped = 0; dropped < 2; dropped++) {
		queue_release(queue, message_size(taken[dropped]));
		message_free(taken[dropped]);
	}
	queue_free(queue);
}

static void test_what_is_not_dropped(void **state)
{
	struct queue *queue = dropping_queue(3, MANY_BYTES);
	const struct message connects = {.kind = MESSAGE_CONNECT};
	struct message *session = new_message(1, 0), *client = message_copy(&connects), *refused;
	size_t dropped = 0;

	(void)state;
	session->as.publish.by_session = true;
	tell(queue, 0, 0);
	assert_true(queue_push(queue, session) && queue_push(queue, client));
	assert_int_equal(push_dropping(queue, 3, 0), 0);
	assert_int_equal(push_dropping(queue, 4, 0), 1);
	assert_int_equal(push_dropping(queue, 5, 0), 1); /* the last of the list is dropped */
	tell(queue, 6, 0);
	message_free(queue_take(queue)); /* was not counted */
	take(queue, 1);
	assert_ptr_equal(queue_take(queue), client);
	queue_release(queue, message_size(client));
	message_free(client);
	take(queue, 5);
	message_free(queue_take(queue));
	assert_null(queue_take(queue));
	/* Behind very many of those nothing is looked for. */
	queue_set_limits(queue, 70, MANY_BYTES);
	for (dropped = 0; dropped < 70; dropped++) {
		session = new_message(1, 0);
		session->as.publish.by_session = true;
		assert_true(queue_push(queue, session));
	}
	dropped = 0;
	refused = new_message(9, 0);
	assert_false(queue_push_dropping(queue, refused, &dropped));
	assert_int_equal(dropped, 0);
	message_free(refused);
	queue_free(queue);
}

#define DROPPING_MESSAGES 300000U

struct dropping {
	struct queue *queue;
	atomic_bool ends;
	size_t pushed, dropped, refused, controls;
};

static void *dropping_pusher(void *argument)
{
	struct dropping *dropping = argument;
	struct message *message;
	uint64_t i;

	for (i = 0; i < DROPPING_MESSAGES; i++) {
		message = new_message(i, 0);
		pause_a_little((unsigned int)i % 256);
		if (queue_push_dropping(dropping->queue, message, &dropping->dropped)) {
			dropping->pushed++;
		} else {
			message_free(message);
			dropping->refused++;
		}
	}
	atomic_store(&dropping->ends, true);
	return NULL;
}

static void *control_pusher(void *argument)
{
	struct dropping *dropping = argument;

	while (!atomic_load(&dropping->ends)) {
		assert_true(queue_tell(dropping->queue, message_answer(dropping->controls++, 0)));
		sched_yield();
	}
	return NULL;
}

/* One thread pushes and drops, one pushes what must not get lost, this one takes: in order, each once. */
static void test_dropping_under_the_takers_hands(void **state)
{
	long blocks = scarce_memory_blocks();
	struct dropping dropping = {.queue = dropping_queue(50, MANY_BYTES)};
	pthread_t threads[2];
	struct message *message;
	size_t taken = 0, controls = 0;
	uint64_t next = 0;
	bool ends;

	(void)state;
	assert_int_equal(pthread_create(&threads[0], NULL, dropping_pusher, &dropping), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, control_pusher, &dropping), 0);
	do {
		ends = atomic_load(&dropping.ends);
		while ((message = queue_take(dropping.queue))) {
			if (message->kind == MESSAGE_ANSWER) {
				assert_int_equal(message->as.answer.sequence, controls++);
			} else {
				assert_true(number_of(message) >= next);
				next = number_of(message) + 1;
				taken++;
				pause_a_little(100);
				queue_release(dropping.queue, message_size(message));
			}
			message_free(message);
		}
	} while (!ends);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	while ((message = queue_take(dropping.queue))) {
		assert_int_equal(message->kind, MESSAGE_ANSWER);
		assert_int_equal(message->as.answer.sequence, controls++);
		message_free(message);
	}
	print_message("%zu of %u taken, %zu dropped, %zu refused\n", taken, DROPPING_MESSAGES, dropping.dropped,
			dropping.refused);
	assert_int_equal(controls, dropping.controls);
	assert_int_equal(taken + dropping.dropped, dropping.pushed);
	assert_int_equal(dropping.pushed + dropping.refused, DROPPING_MESSAGES);
	assert_int_equal(queue_count(dropping.queue), 0);
	assert_int_equal(queue_bytes(dropping.queue), 0);
	queue_free(dropping.queue);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

#define PUSHERS 4
#define MESSAGES 1000000
#define BOUND 1000

/* Nobody looks at a clock here: a notice or a word about room that is lost leaves the test hanging. */
struct traffic {
	struct queue *queue;
	sem_t notices;
	pthread_mutex_t mutex;
	pthread_cond_t has_room;
	unsigned long rooms; /* guarded by mutex */
	atomic_uint pushers; /* numbers given out */
};

static void post_notice(void *userdata)
{
	struct traffic *traffic = userdata;

	sem_post(&traffic->notices);
}

static unsigned long count_rooms(struct traffic *traffic)
{
	unsigned long rooms;

	pthread_mutex_lock(&traffic->mutex);
	rooms = traffic->rooms;
	pthread_mutex_unlock(&traffic->mutex);
	return rooms;
}

static void *traffic_pusher(void *argument)
{
	struct traffic *traffic = argument;
	uint64_t consumer = atomic_fetch_add(&traffic->pushers, 1), i;
	const struct message_content content = {(const char *)&i, sizeof(i), &i, sizeof(i), NULL, 0};
	struct message *message;
	unsigned long rooms;

	for (i = 0; i < MESSAGES / PUSHERS; i++) {
		message = message_publish(&content, NULL, 0);
		message->as.publish.publisher = consumer;
		if (i % 1000 == 0) {
			message->kind = MESSAGE_LOG;
			assert_true(queue_tell(traffic->queue, message));
			continue;
		}
		while (rooms = count_rooms(traffic), !queue_push(traffic->queue, message)) {
			pthread_mutex_lock(&traffic->mutex);
			while (traffic->rooms == rooms) {
				pthread_cond_wait(&traffic->has_room, &traffic->mutex);
			}
			pthread_mutex_unlock(&traffic->mutex);
		}
	}
	return NULL;
}

static void test_many_messages_of_several_threads(void **state)
{
	struct traffic traffic = {.mutex = PTHREAD_MUTEX_INITIALIZER, .has_room = PTHREAD_COND_INITIALIZER};
	long blocks = scarce_memory_blocks();
	uint64_t next[PUSHERS] = {0}, pusher;
	pthread_t threads[PUSHERS];
	struct message *message;
	int i, taken = 0, disorder = 0;
	bool over_bound = false;

	(void)state;
	assert_int_equal(sem_init(&traffic.notices, 0, 0), 0);
	traffic.queue = queue_new(BOUND, MANY_BYTES, post_notice, &traffic);
	for (i = 0; i < PUSHERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, traffic_pusher, &traffic), 0);
	}
	while (taken < MESSAGES) {
		message = queue_take(traffic.queue);
		if (!message) {
			while (sem_wait(&traffic.notices)) {
			}
			continue;
		}
		taken++;
		/* With several threads the bound may be exceeded by one message of each. */
		over_bound |= queue_count(traffic.queue) > BOUND + PUSHERS;
		pusher = message->as.publish.publisher;
		disorder += pusher >= PUSHERS || memcmp(message->topic, &next[pusher], sizeof(next[pusher])) != 0 ||
				memcmp(message->payload, &next[pusher], sizeof(next[pusher])) != 0;
		next[pusher]++;
		if (message->kind == MESSAGE_PUBLISH) {
			queue_release(traffic.queue, message_size(message));
		}
		message_free(message);
		if (queue_has_room_again(traffic.queue)) {
			pthread_mutex_lock(&traffic.mutex);
			traffic.rooms++;
			pthread_cond_broadcast(&traffic.has_room);
			pthread_mutex_unlock(&traffic.mutex);
		}
	}
	for (i = 0; i < PUSHERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(next[i], MESSAGES / PUSHERS);
	}
	print_message("full %lu times\n", traffic.rooms);
	assert_int_equal(disorder, 0);
	assert_false(over_bound);
	assert_null(queue_take(traffic.queue));
	assert_int_equal(queue_count(traffic.queue), 0);
	assert_int_equal(queue_bytes(traffic.queue), 0);
	queue_free(traffic.queue);
	sem_destroy(&traffic.notices);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bound_in_messages),
		cmocka_unit_test(test_bound_in_bytes),
		cmocka_unit_test(test_message_larger_than_the_bound_passes_alone),
		cmocka_unit_test(test_control_messages_are_not_counted),
		cmocka_unit_test(test_notified_once_for_each_time_it_stops_being_empty),
		cmocka_unit_test(test_room_again_once_after_a_refusal),
		cmocka_unit_test(test_other_limits),
		cmocka_unit_test(test_room_again_in_bytes),
		cmocka_unit_test(test_room_again_in_the_smallest_queue),
		cmocka_unit_test(test_free_with_messages_waiting),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_refusal_of_one_pusher_is_never_lost),
		cmocka_unit_test(test_refusal_of_a_large_message_is_never_lost),
		cmocka_unit_test(test_refusal_of_two_pushers_is_never_lost),
		cmocka_unit_test(test_the_oldest_make_room),
		cmocka_unit_test(test_large_ones_make_room_for_large_ones),
		cmocka_unit_test(test_what_is_taken_has_room_of_its_own),
		cmocka_unit_test(test_what_is_not_dropped),
		cmocka_unit_test(test_dropping_under_the_takers_hands),
		cmocka_unit_test(test_many_messages_of_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
