#include "cmocka_all.h"

#include <string.h>

#include "outlet_ends.h"
#include "session/fences.h"

#define LAST 1000U

static struct fences fences;

static int set_up(void **state)
{
	(void)state;
	outlet_ends_open(10);
	fences_init(&fences, &outlet, LAST);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	outlet_ends_close();
	return 0;
}

static uint64_t come(uint64_t number)
{
	uint64_t left_out = UINT64_MAX;

	assert_true(fences_come(&fences, number, clock_ms, &left_out));
	return left_out;
}

static void test_one_that_comes(void **state)
{
	uint64_t left_out;

	(void)state;
	assert_false(fences_are_under_way(&fences));
	assert_int_equal(fences_request(&fences), LAST + 1);
	assert_int_equal(outlet_ends_listen(), LAST + 1);
	assert_true(fences_are_under_way(&fences));
	assert_false(fences_come(&fences, LAST, clock_ms, &left_out));     /* of an earlier connection */
	assert_false(fences_come(&fences, LAST + 2, clock_ms, &left_out)); /* of an earlier process */
	assert_int_equal(come(LAST + 1), 0);
	assert_false(fences_are_under_way(&fences));
	assert_false(fences_come(&fences, LAST + 1, clock_ms, &left_out));
}

static void test_one_does_as_well_as_those_before(void **state)
{
	(void)state;
	(void)fences_request(&fences);
	(void)fences_request(&fences);
	(void)fences_request(&fences);
	assert_int_equal(come(LAST + 2), 1);
	assert_true(fences_are_under_way(&fences));
	fences_lose(&fences);
	assert_false(fences_are_under_way(&fences));
	assert_int_equal(fences_request(&fences), LAST + 4);
	assert_int_equal(come(LAST + 4), 0);
}

static void test_one_is_asked_for_again(void **state)
{
	unsigned int pause, i;

	(void)state;
	assert_false(fences_ask_again(&fences, clock_ms + FENCES_ASK_MS));
	(void)fences_request(&fences);
	(void)outlet_ends_listen();
	for (i = 0, pause = FENCES_ASK_MS; i < 10; i++) {
		assert_false(fences_ask_again(&fences, clock_ms + pause - 1));
		clock_ms += pause;
		assert_true(fences_ask_again(&fences, clock_ms));
		assert_int_equal(outlet_ends_listen(), LAST + 2 + i);
		pause = pause * 2 < FENCES_ASK_MAX_MS ? pause * 2 : FENCES_ASK_MAX_MS;
	}
	/* Not while nothing was read; the pause is short again once one has come. */
	clock_ms += pause;
	fences_read_again(&fences, clock_ms);
	assert_false(fences_ask_again(&fences, clock_ms));
	(void)come(LAST + 3);
	assert_true(fences_ask_again(&fences, clock_ms + FENCES_ASK_MS));
}

static void test_whether_the_broker_lives(void **state)
{
	(void)state;
	assert_false(fences_are_overdue(&fences, clock_ms + FENCES_ANSWER_MS));
	(void)fences_request(&fences);
	assert_false(fences_are_overdue(&fences, clock_ms + FENCES_ANSWER_MS - 1));
	assert_true(fences_are_overdue(&fences, clock_ms + FENCES_ANSWER_MS));
	fences_hear(&fences, clock_ms + 1);
	assert_false(fences_are_overdue(&fences, clock_ms + FENCES_ANSWER_MS));
	/* Bytes prove nothing for ever. */
	fences_set_limit(&fences, clock_ms + 10);
	fences_hear(&fences, clock_ms + 5);
	assert_true(fences_are_overdue(&fences, clock_ms + 10));
	fences_lose(&fences);
	(void)fences_request(&fences);
	assert_false(fences_are_overdue(&fences, clock_ms + 10));
}

static void test_what_was_left_out_is_told(void **state)
{
	(void)state;
	assert_true(fences_tell_left_out(&fences, 2, "a/#", clock_ms));
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "The broker has left out some"));
	assert_non_null(strstr(said_log, "(to 'a/#', or others)"));
	assert_false(fences_tell_left_out(&fences, 1, NULL, clock_ms + FENCES_LEFT_OUT_MS - 1));
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "");
	assert_true(fences_tell_left_out(&fences, 1, NULL, clock_ms + FENCES_LEFT_OUT_MS));
	(void)outlet_ends_listen();
	assert_null(strstr(said_log, "(to"));
	assert_int_equal(atomic_load(&fences.left_out_count), 4);
}

static void test_numbers(void **state)
{
	(void)state;
	assert_int_equal(fences_read("1234567890123", 13), 1234567890123U);
	assert_int_equal(fences_read("9223372036854775850", 19), ((uint64_t)1 << 63) | 42);
	assert_int_equal(fences_read("", 0), 0);
	assert_int_equal(fences_read(NULL, 0), 0);
	assert_int_equal(fences_read("x", 1), 0);
	assert_int_equal(fences_read("123456789012345678901234567890", 30), 0);
}

#define fences_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		fences_test(test_one_that_comes),
		fences_test(test_one_does_as_well_as_those_before),
		fences_test(test_one_is_asked_for_again),
		fences_test(test_whether_the_broker_lives),
		fences_test(test_what_was_left_out_is_told),
		fences_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
