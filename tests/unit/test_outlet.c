#include "cmocka_all.h"

#include <limits.h>
#include <string.h>

#include "outlet_ends.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"

static int set_up(void **state)
{
	(void)state;
	outlet_ends_open(2);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	outlet_ends_close();
	return 0;
}

static void deliver(const char *payload)
{
	const struct message_content content = {
		.topic = "t", .topic_length = 1, .payload = payload, .payload_length = strlen(payload)};
	const struct recipient who = {.consumer = 7};

	outlet_deliver(&outlet, message_publish(&content, &who, 1));
}

static void test_words_for_the_loop_thread(void **state)
{
	struct message *message;

	(void)state;
	outlet_hold(&outlet, 3, true);
	message = outlet_ends_take(MESSAGE_HOLD_CONSUMER);
	assert_int_equal(message->as.hold_consumer.consumer, 3);
	assert_int_equal(message->as.hold_consumer.again, 1);
	message_free(message);
	assert_true(outlet.is_used);
	outlet_release(&outlet, 3);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 3);
	outlet_release_all(&outlet, 42);
	outlet_ends_expect(MESSAGE_RELEASE, 42);
	outlet_answer(&outlet, 0); /* for nobody */
	outlet_answer(&outlet, 5);
	outlet_ends_expect(MESSAGE_ANSWER, 5);
	outlet_ends_expect_nothing();
	outlet_deliver(&outlet, NULL);
	outlet_ends_expect_nothing();
}

static void test_words_for_the_broker_thread(void **state)
{
	(void)state;
	outlet_ask_fence(&outlet, 99);
	outlet_tell_session(&outlet, true);
	outlet_log(&outlet, MOSQ_LOG_INFO, "%d words", 2);
	assert_int_equal(outlet_ends_listen(), 99);
	assert_int_equal(said_up, 1);
	assert_string_equal(said_log, "2 words");
	outlet_tell_session(&outlet, false);
	(void)outlet_ends_listen();
	assert_int_equal(said_up, 0);
	assert_false(outlet.is_used);
}

static void test_what_has_no_room_waits_in_order(void **state)
{
	(void)state;
	assert_false(outlet_try_again(&outlet));
	deliver("1");
	deliver("2");
	assert_false(outlet_is_stalled(&outlet));
	deliver("3");
	outlet_answer(&outlet, 5); /* a word needs no room, and waits all the same */
	deliver("4");
	assert_true(outlet_is_stalled(&outlet));
	assert_false(outlet_try_again(&outlet));
	outlet_ends_expect_publish("1", 7);
	assert_false(outlet_try_again(&outlet));
	outlet_ends_expect_publish("2", 7);
	outlet_ends_expect_publish("3", 7);
	assert_true(outlet_try_again(&outlet));
	assert_false(outlet_is_stalled(&outlet));
	outlet_ends_expect(MESSAGE_ANSWER, 5);
	outlet_ends_expect_publish("4", 7);
	outlet_ends_expect_nothing();
}

static void test_a_queue_that_stays_full(void **state)
{
	(void)state;
	assert_false(outlet_is_stuck(&outlet, 1000));
	deliver("1");
	deliver("2");
	deliver("3");
	assert_false(outlet_is_stuck(&outlet, 2000));
	assert_false(outlet_is_stuck(&outlet, 2000 + OUTLET_STALL_MS - 1));
	assert_true(outlet_is_stuck(&outlet, 2000 + OUTLET_STALL_MS));
	assert_false(outlet_is_stuck(&outlet, 2000 + OUTLET_STALL_MS)); /* once */
	assert_true(outlet_release_at_once(&outlet, 9));
	outlet_release_all_at_once(&outlet);
	outlet_ends_expect_publish("1", 7);
	outlet_ends_expect_publish("2", 7);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 9); /* ahead of the third */
	outlet_ends_expect(MESSAGE_RELEASE, INT_MAX);
	outlet_ends_expect_nothing();
	assert_true(outlet_try_again(&outlet));
	outlet_ends_expect_publish("3", 7);
	assert_false(outlet_is_stuck(&outlet, 9000));
}

static void test_words_wait_for_memory(void **state)
{
	(void)state;
	scarce_memory(1, false);
	outlet_answer(&outlet, 5);
	assert_true(scarce_memory_end());
	outlet_ends_expect(MESSAGE_ANSWER, 5);
	scarce_memory(1, false);
	assert_false(outlet_release_at_once(&outlet, 9)); /* this one is tried again */
	outlet_log(&outlet, MOSQ_LOG_INFO, "a line");
	assert_true(scarce_memory_end());
	outlet_ends_expect_nothing();
	scarce_memory(1, false);
	outlet_log(&outlet, MOSQ_LOG_INFO, "a line is lost");
	assert_true(scarce_memory_end());
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "a line");
}

#define outlet_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		outlet_test(test_words_for_the_loop_thread),
		outlet_test(test_words_for_the_broker_thread),
		outlet_test(test_what_has_no_room_waits_in_order),
		outlet_test(test_a_queue_that_stays_full),
		outlet_test(test_words_wait_for_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
