#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "broker/stop.h"

static int heard, heard_number;

static void brokers_handler(int number)
{
	heard++;
	heard_number = number;
}

/* Whoever sends a second signal does not want to wait; one that the broker ignores stays ignored. */
static void test_a_second_signal(void **state)
{
	struct sigaction action = {.sa_handler = brokers_handler}, ignore = {.sa_handler = SIG_IGN}, found;

	(void)state;
	assert_int_equal(sigaction(SIGTERM, &action, NULL), 0);
	assert_int_equal(sigaction(SIGINT, &ignore, NULL), 0);
	stop_take_signals();
	assert_int_equal(raise(SIGINT), 0);
	assert_false(stop_is_asked_for());
	assert_int_equal(raise(SIGTERM), 0);
	assert_int_equal(heard, 0);
	assert_int_equal(raise(SIGTERM), 0);
	assert_int_equal(heard, 1);
	assert_int_equal(heard_number, SIGTERM);
	assert_true(stop_is_asked_for());
	assert_int_equal(sigaction(SIGINT, NULL, &found), 0);
	assert_true(found.sa_handler == SIG_IGN);
	stop_pass_on();
	assert_int_equal(heard, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_second_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
