/* The stages of stop.c, in a process that gets a signal, and between a broker and a session that only keep
 * record. */
#include "cmocka_all.h"

#include <signal.h>
#include <string.h>

#include "broker/stop.h"
#include "options/options.h"
#include "shared/message.h"
#include "shared/queue.h"
#include "stub_broker.h"
#include "stub_clock.h"
#include "stub_session.h"
#include "stub_stop.h"

static int heard;

static void brokers_handler(int number)
{
	(void)number;
	heard++;
}

static void ignore(void *userdata)
{
	(void)userdata;
}

static struct options options = {.shutdown_timeout_ms = 10000};
static struct stop stop;

static int set_up(void **state)
{
	struct sigaction action = {.sa_handler = brokers_handler};

	(void)state;
	memset(&stub_stop, 0, sizeof(stub_stop));
	stub_stop.wait_ms = -1;
	stub_session_reset();
	heard = 0;
	clock_ms = 1000;
	stop = (struct stop){
		.options = &options, .session = stub_session_get(), .inbound = queue_new(10, 1000, ignore, NULL)};
	assert_int_equal(sigaction(SIGTERM, &action, NULL), 0);
	assert_int_equal(sigaction(SIGINT, &action, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	queue_free(stop.inbound);
	stub_session_reset();
	stub_broker_reset();
	return 0;
}

/* Whether the application was asked to end since the last time. */
static bool was_asked(void)
{
	struct message *message = queue_take(stop.inbound);
	bool found = message && message->kind == MESSAGE_STOP;

	message_free(message);
	return found;
}

/* The broker left its loop without a signal, before the other test brings one: that stays for the rest of the
 * process. */
static void test_the_broker_ends_by_itself(void **state)
{
	(void)state;
	stop_tick(&stop);
	assert_int_equal(stub_stop.insists, 0);
	stub_stop.unsent = 2;
	assert_false(stop_now(&stop));
	assert_true(stub_stop.has_ended);
	assert_true(stub_session.stopped);
	assert_true(was_asked());
	assert_int_equal(stub_stop.wait_ms, 10000);
	assert_int_equal(stub_broker_logged("did not end within shutdown_timeout (10 s)"), 1);
	assert_int_equal(stub_broker_logged("2 messages that consumers published meanwhile went to nobody"), 1);
	stub_broker_reset();
	stop.session = NULL;
	stub_stop.unsent = 0;
	stub_stop.has_stopped = true;
	assert_true(stop_now(&stop));
	assert_int_equal(stub.log_count, 0);
	assert_int_equal(heard, 0);
}

static void test_one_stage_after_the_other(void **state)
{
	(void)state;
	stub_stop.suspends = true;
	stop_tick(&stop);
	assert_int_equal(raise(SIGTERM), 0);
	/* The session ends, */
	stop_tick(&stop);
	assert_true(stub_stop.was_suspended);
	assert_false(was_asked());
	assert_int_equal(stub_stop.insists, 1);
	clock_ms += 499;
	stop_tick(&stop);
	assert_false(was_asked());
	/* or has had its time; then the application, */
	clock_ms += 1;
	stop_tick(&stop);
	assert_true(was_asked());
	clock_ms += 9999;
	stop_tick(&stop);
	assert_false(was_asked());
	assert_int_equal(stop.stage, STOP_ASKED);
	stub_stop.has_stopped = true;
	stop_tick(&stop);
	assert_int_equal(stop.stage, STOP_LINGERING);
	assert_int_equal(stub_stop.insists, 5);
	/* then the broker, which hears of the signal now. */
	clock_ms += 199;
	stop_tick(&stop);
	assert_int_equal(heard, 0);
	clock_ms += 1;
	stop_tick(&stop);
	assert_int_equal(heard, 1);
	assert_int_equal(stub_stop.insists, 6);
	/* It was asked once. */
	assert_true(stop_now(&stop));
	assert_false(was_asked());
	assert_int_equal(stub_stop.wait_ms, 0);
	assert_int_equal(stub.log_count, 0);
}

/* The signal of the test before is still asked for: the application does not end. */
static void test_an_application_that_does_not_end(void **state)
{
	(void)state;
	stop_tick(&stop);
	assert_true(was_asked()); /* there is no session to wait for */
	clock_ms += 10000;
	stop_tick(&stop);
	assert_int_equal(stop.stage, STOP_LINGERING);
	assert_int_equal(stub_broker_logged("did not end within shutdown_timeout"), 1);
	assert_false(stop_now(&stop));
	assert_int_equal(stub_broker_logged("did not end within shutdown_timeout"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_broker_ends_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_stage_after_the_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_application_that_does_not_end, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
