#include "cmocka_all.h"

#include <string.h>

#include "options/options.h"
#include "outlet_ends.h"
#include "session/retry.h"

static struct options options;
static struct retry retry;

static int set_up(void **state)
{
	(void)state;
	outlet_ends_open(10);
	options = (struct options){.host = (char *)(uintptr_t)"localhost",
		.port = 1883,
		.client_id = (char *)(uintptr_t)"me",
		.retries = 3,
		.advice = NULL};
	retry_init(&retry, &options, &outlet);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	outlet_ends_close();
	return 0;
}

static void test_gives_up(void **state)
{
	(void)state;
	assert_true(retry_failed(&retry, false, "no reason"));
	assert_int_equal(retry.at, clock_ms + 1000);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "No session with the listener at localhost:1883: no reason."));
	assert_int_equal(said_up, 0);
	assert_true(retry_failed(&retry, false, "no reason"));
	assert_int_equal(retry.at, clock_ms + 2000);
	assert_false(retry_failed(&retry, false, "no reason"));
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log,
			"Gave up on the session with the listener at localhost:1883 after 3 tries"));
}

static void test_pauses_have_a_bound(void **state)
{
	unsigned int i;

	(void)state;
	options.retries = 0;
	options.host = (char *)(uintptr_t)"/run/mosquitto.sock";
	options.port = 0;
	for (i = 0; i < 50; i++) {
		assert_true(retry_failed(&retry, false, "no reason"));
	}
	assert_int_equal(retry.at, clock_ms + RETRY_MAX_MS);
	(void)outlet_ends_listen();
	retry_succeeded(&retry, false);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "The session with the listener at /run/mosquitto.sock is there."));
	assert_true(retry_failed(&retry, false, "no reason"));
	assert_int_equal(retry.at, clock_ms + 1000);
}

static void test_a_loss_is_told_when_it_connects_again(void **state)
{
	(void)state;
	retry_begins(&retry);
	retry_succeeded(&retry, false);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "Session with the listener at localhost:1883.");
	assert_true(retry_failed(&retry, true, "gone"));
	assert_int_equal(retry.at, clock_ms + RETRY_MS);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, ""); /* a broker that stops closes its connections */
	retry_begins(&retry);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "is lost: gone"));
	retry_succeeded(&retry, true);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "is back."));
	retry_begins(&retry);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "");
}

static void test_made_anew(void **state)
{
	(void)state;
	retry.at = clock_ms;
	retry_at_once(&retry);
	assert_int_equal(retry.at, 0);
	retry_begins(&retry);
	retry_succeeded(&retry, true);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "is back."));
}

/* Whoever knows the client id can do this as often as he likes. */
static void test_taken_over(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 100; i++) {
		retry_taken_over(&retry, UINT64_MAX, clock_ms);
		assert_true(retry.at > clock_ms && retry.at <= clock_ms + RETRY_TAKEN_MAX_MS);
	}
	assert_int_equal(retry.at, clock_ms + RETRY_TAKEN_MAX_MS);
	assert_int_equal(retry.failures, 0);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "another client has connected with its client id, 'me'"));
	/* The pause is short again after a while in which it was up. */
	retry_taken_over(&retry, clock_ms - RETRY_TAKEN_QUIET_MS + 1, clock_ms);
	assert_int_equal(retry.at, clock_ms + RETRY_TAKEN_MAX_MS);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "");
	retry_taken_over(&retry, clock_ms, clock_ms + RETRY_TAKEN_QUIET_MS);
	assert_int_equal(retry.at, clock_ms + RETRY_TAKEN_QUIET_MS + RETRY_MS);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "another client"));
}

#define retry_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		retry_test(test_gives_up),
		retry_test(test_pauses_have_a_bound),
		retry_test(test_a_loss_is_told_when_it_connects_again),
		retry_test(test_made_anew),
		retry_test(test_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
