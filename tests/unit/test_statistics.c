#include "cmocka_all.h"

#include <pthread.h>
#include <string.h>

#include "scarce_memory.h"
#include "shared/statistics.h"

static struct statistics *statistics;

static int set_up(void **state)
{
	(void)state;
	statistics = statistics_new();
	return statistics ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	statistics_free(statistics);
	return 0;
}

static void test_each_has_a_name_of_its_own(void **state)
{
	unsigned int which;

	(void)state;
	for (which = 0; which < STATISTICS_COUNT; which++) {
		assert_non_null(statistics_name(which));
		assert_int_equal(statistics_find(statistics_name(which)), which);
	}
	assert_int_equal(statistics_find("messages"), STATISTICS_COUNT);
	assert_int_equal(statistics_find(""), STATISTICS_COUNT);
}

static void test_adding_setting_raising(void **state)
{
	(void)state;
	statistics_add(statistics, STATISTICS_SENT, 2);
	statistics_add(statistics, STATISTICS_SENT, 3);
	assert_int_equal(statistics_get(statistics, STATISTICS_SENT), 5);
	statistics_set(statistics, STATISTICS_RUNNING, 7);
	statistics_set(statistics, STATISTICS_RUNNING, 4);
	assert_int_equal(statistics_get(statistics, STATISTICS_RUNNING), 4);
	statistics_raise(statistics, STATISTICS_LONGEST_BLOCK, 10);
	statistics_raise(statistics, STATISTICS_LONGEST_BLOCK, 9);
	assert_int_equal(statistics_get(statistics, STATISTICS_LONGEST_BLOCK), 10);
	statistics_raise(statistics, STATISTICS_LONGEST_BLOCK, 11);
	assert_int_equal(statistics_get(statistics, STATISTICS_LONGEST_BLOCK), 11);
	assert_int_equal(statistics_get(statistics, STATISTICS_RECEIVED), 0);
}

static void test_text(void **state)
{
	char text[STATISTICS_TEXT_MAX];

	(void)state;
	assert_int_equal(statistics_text(STATISTICS_MEMORY, UINT64_MAX, text), 20);
	assert_string_equal(text, "18446744073709551615");
	assert_int_equal(statistics_text(STATISTICS_SESSION, STATISTICS_SESSION_OFF, text), 3);
	assert_string_equal(text, "off");
	(void)statistics_text(STATISTICS_SESSION, STATISTICS_SESSION_DOWN, text);
	assert_string_equal(text, "down");
	(void)statistics_text(STATISTICS_SESSION, STATISTICS_SESSION_UP, text);
	assert_string_equal(text, "up");
	(void)statistics_text(STATISTICS_SESSION, 3, text);
	assert_string_equal(text, "3");
}

static void check_near(enum statistic which, double expected)
{
	double value = (double)statistics_get(statistics, which);

	if (value < expected * 0.875 - 1 || value > expected * 1.125 + 1) {
		fail_msg("%s is %g, not about %g", statistics_name(which), value, expected);
	}
}

static void test_percentiles(void **state)
{
	uint64_t us;

	(void)state;
	for (us = 1; us <= 1000; us++) {
		statistics_handled(statistics, us * 1000);
	}
	assert_int_equal(statistics_get(statistics, STATISTICS_HANDLING_P50), 0);
	statistics_end_interval(statistics);
	check_near(STATISTICS_HANDLING_P50, 500);
	check_near(STATISTICS_HANDLING_P99, 990);
	/* Nothing came: what was stays. */
	statistics_end_interval(statistics);
	check_near(STATISTICS_HANDLING_P50, 500);
	/* Something did: that is all that counts. */
	statistics_handled(statistics, 30000);
	statistics_end_interval(statistics);
	check_near(STATISTICS_HANDLING_P50, 30);
	check_near(STATISTICS_HANDLING_P99, 30);
}

static void test_every_time_has_a_bucket(void **state)
{
	uint64_t ns;

	(void)state;
	for (ns = 1; ns; ns <<= 1) {
		statistics_handled(statistics, ns - 1);
		statistics_handled(statistics, ns);
		statistics_end_interval(statistics);
		check_near(STATISTICS_HANDLING_P99, (double)ns / 1000);
	}
	statistics_handled(statistics, UINT64_MAX);
	statistics_end_interval(statistics);
	check_near(STATISTICS_HANDLING_P99, (double)UINT64_MAX / 1000);
}

#define ROUNDS 100000U

static void *count(void *argument)
{
	uint64_t i;

	for (i = 0; i < ROUNDS; i++) {
		statistics_add(statistics, STATISTICS_RECEIVED, 1);
		statistics_raise(statistics, STATISTICS_LONGEST_BLOCK, i);
		statistics_handled(statistics, 1000);
		statistics_end_interval(statistics);
	}
	return argument;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	}
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	assert_int_equal(statistics_get(statistics, STATISTICS_RECEIVED), 4 * ROUNDS);
	assert_int_equal(statistics_get(statistics, STATISTICS_LONGEST_BLOCK), ROUNDS - 1);
}

static void test_without_memory(void **state)
{
	(void)state;
	scarce_memory(1, false);
	assert_null(statistics_new());
	assert_true(scarce_memory_end());
	statistics_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_has_a_name_of_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_adding_setting_raising, set_up, tear_down),
		cmocka_unit_test(test_text),
		cmocka_unit_test_setup_teardown(test_percentiles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_every_time_has_a_bucket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
