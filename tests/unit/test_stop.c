#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "broker/stop.h"

static int heard, heard_number;

static void brokers_handler(int number)
{
	heard++;
	heard_number = number;
}

static int set_up(void **state)
{
	struct sigaction action = {.sa_handler = brokers_handler};

	(void)state;
	stop_pass_on();
	assert_int_equal(sigaction(SIGTERM, &action, NULL), 0);
	assert_int_equal(sigaction(SIGINT, &action, NULL), 0);
	heard = heard_number = 0;
	return 0;
}

/* What the module keeps, it keeps for the rest of the process: each test is one of its own. */
static void test_a_signal_is_kept_and_passed_on(void **state)
{
	(void)state;
	assert_false(stop_is_asked_for());
	stop_pass_on(); /* nothing was taken */
	assert_int_equal(heard, 0);

	stop_take_signals();
	stop_take_signals();
	assert_false(stop_is_asked_for());
	assert_int_equal(raise(SIGTERM), 0);
	assert_true(stop_is_asked_for());
	assert_int_equal(heard, 0);

	stop_pass_on();
	assert_int_equal(heard, 1);
	assert_int_equal(heard_number, SIGTERM);
	stop_pass_on();
	assert_int_equal(heard, 1);

	/* The next is the broker's. */
	stop_take_signals();
	assert_int_equal(raise(SIGINT), 0);
	assert_int_equal(heard, 2);
	assert_int_equal(heard_number, SIGINT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_signal_is_kept_and_passed_on, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
