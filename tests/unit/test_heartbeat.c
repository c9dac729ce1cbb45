#include "cmocka_all.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "shared/heartbeat.h"

#define MS 1000000U
#define LIMIT (3000U * (uint64_t)MS)

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

static _Atomic uint64_t now;
static struct heartbeat heart;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	(void)clock;
	ret_time->tv_sec = (time_t)(now / 1000000000U);
	ret_time->tv_nsec = (long)(now % 1000000000U);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	memset(&heart, 0, sizeof(heart));
	now = 5000U * (uint64_t)MS;
	return 0;
}

/* Looks every 100 ms, as the broker does at rest. Returns what the looks said, added up. */
static uint64_t look_for(unsigned int milliseconds)
{
	uint64_t said = 0;

	for (; milliseconds >= 100; milliseconds -= 100) {
		now += 100U * MS;
		said += heartbeat_look(&heart, LIMIT);
	}
	return said;
}

static void test_nothing_is_awaited_at_first(void **state)
{
	(void)state;
	assert_int_equal(look_for(100000), 0);
}

static void test_beats_keep_it_quiet(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 100; i++) {
		assert_true(heartbeat_beat(&heart) <= 2800U * MS);
		assert_int_equal(look_for(2900), 0);
	}
}

static void test_silence_is_told_once_each_time(void **state)
{
	(void)state;
	assert_int_equal(heartbeat_beat(&heart), 0);
	assert_int_equal(look_for(3000), 0);
	assert_int_equal(look_for(100), LIMIT);
	assert_int_equal(look_for(6900), 0);
	assert_int_equal(heartbeat_beat(&heart), 9900U * (uint64_t)MS);
	assert_int_equal(look_for(3000), 0);
	assert_int_equal(look_for(10000), LIMIT);
}

static void test_the_end_of_the_beats_is_no_silence(void **state)
{
	(void)state;
	(void)heartbeat_beat(&heart);
	assert_int_equal(look_for(1000), 0);
	heartbeat_end(&heart);
	assert_int_equal(look_for(100000), 0);
	(void)heartbeat_beat(&heart);
	assert_int_equal(look_for(3000), 0);
	assert_int_equal(look_for(100), LIMIT);
}

/* The process was stopped for an hour: the first look after it may come before the first beat. */
static void test_a_stopped_process_is_not_silent(void **state)
{
	(void)state;
	(void)heartbeat_beat(&heart);
	assert_int_equal(look_for(400), 0);
	now += 3600000U * (uint64_t)MS;
	assert_int_equal(heartbeat_look(&heart, LIMIT), 0);
	assert_true(heartbeat_beat(&heart) < 1000U * MS);
	assert_int_equal(look_for(3000), 0);
}

static void *beat(void *argument)
{
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		(void)heartbeat_beat(&heart);
	}
	heartbeat_end(&heart);
	return argument;
}

static void test_threads(void **state)
{
	pthread_t thread;
	unsigned int i;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, beat, NULL), 0);
	for (i = 0; i < 100000; i++) {
		(void)heartbeat_look(&heart, LIMIT);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(look_for(10000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nothing_is_awaited_at_first, set_up),
		cmocka_unit_test_setup(test_beats_keep_it_quiet, set_up),
		cmocka_unit_test_setup(test_silence_is_told_once_each_time, set_up),
		cmocka_unit_test_setup(test_the_end_of_the_beats_is_no_silence, set_up),
		cmocka_unit_test_setup(test_a_stopped_process_is_not_silent, set_up),
		cmocka_unit_test_setup(test_threads, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
