/* Rounds without a session: the test plays the connection and the broker. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "outlet_ends.h"
#include "session/connection.h"
#include "session/fences.h"
#include "session/subscriptions.h"
#include "shared/mosquitto_api.h"

/* ---- the connection's place ---- */

static struct {
	char filter[64]; /* of the last packet */
	uint8_t qos;
	bool is_subscribe, retained, flags;
	int number; /* how many there were */
	bool refuses;
} packet;

static int send(const char *filter)
{
	if (packet.refuses) {
		return -1;
	}
	(void)snprintf(packet.filter, sizeof(packet.filter), "%s", filter);
	return ++packet.number;
}

int connection_subscribe(struct connection *unused, const char *filter, uint8_t qos, uint32_t subscription,
		bool retained, bool flags)
{
	(void)unused;
	(void)subscription;
	packet.is_subscribe = true;
	packet.qos = qos;
	packet.retained = retained;
	packet.flags = flags;
	return send(filter);
}

int connection_unsubscribe(struct connection *unused, const char *filter)
{
	(void)unused;
	packet.is_subscribe = false;
	return send(filter);
}

const char *connection_reason(const struct connection *unused)
{
	(void)unused;
	return "no reason";
}

/* ---- */

static struct subscriptions subscriptions;
static struct fences fences;

static int set_up(void **state)
{
	(void)state;
	memset(&packet, 0, sizeof(packet));
	outlet_ends_open(10);
	fences_init(&fences, &outlet, 1000);
	assert_true(subscriptions_init(&subscriptions, &outlet, &fences, NULL, true));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	subscriptions_free(&subscriptions);
	outlet_ends_close();
	return 0;
}

static void subscribe(uint64_t consumer, const char *filter, uint8_t options, uint64_t sequence)
{
	const struct message_request request = {.consumer = consumer, .options = options, .sequence = sequence};
	struct message *command = message_subscribe(&request, filter, strlen(filter));

	subscriptions_subscribe(&subscriptions, command);
	message_free(command);
}

/* Whether it waits for a fence. */
static bool unsubscribe(uint64_t consumer, const char *filter, uint64_t sequence)
{
	const struct message_request request = {.consumer = consumer, .sequence = sequence};
	struct message *command = message_unsubscribe(&request, filter, strlen(filter));

	if (subscriptions_unsubscribe_later(&subscriptions, command)) {
		return true;
	}
	subscriptions_unsubscribe(&subscriptions, command);
	message_free(command);
	return false;
}

/* The fence that was asked for has come. Returns whether a round has ended. */
static bool pass(void)
{
	uint64_t fence = outlet_ends_listen(), left_out;

	assert_int_not_equal(fence, 0);
	assert_true(fences_come(&fences, fence, clock_ms, &left_out));
	subscriptions_unsubscribe_until(&subscriptions, fence);
	return subscriptions_pass(&subscriptions, fence);
}

static bool hears(uint64_t consumer, const char *filter)
{
	return topics_qos(subscriptions.topics, consumer, filter) >= 0;
}

static void test_a_round(void **state)
{
	(void)state;
	subscribe(1, "a", 1, 5);
	outlet_ends_expect(MESSAGE_ANSWER, 5); /* nobody waits for a connection */
	subscriptions_run(&subscriptions);
	assert_true(subscriptions_have_work(&subscriptions));
	subscribe(2, "a", 0, 6);
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_string_equal(subscriptions_in_round(&subscriptions), "a");
	assert_int_equal(packet.number, 1);
	assert_true(packet.is_subscribe && packet.retained && !packet.flags);
	assert_int_equal(packet.qos, 1);
	outlet_ends_expect(MESSAGE_HOLD_CONSUMER, 1);
	outlet_ends_expect(MESSAGE_HOLD_CONSUMER, 2);
	assert_false(hears(1, "a"));
	subscriptions_acknowledge(&subscriptions, 77, 1); /* of no packet of ours */
	assert_int_equal(outlet_ends_listen(), 0);
	subscriptions_acknowledge(&subscriptions, packet.number, 1);
	assert_true(hears(1, "a") && hears(2, "a"));
	outlet_ends_expect_nothing();
	assert_true(pass());
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 1);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 2);
	outlet_ends_expect(MESSAGE_ANSWER, 6);
	outlet_ends_expect_nothing();
	assert_true(subscriptions_begin_round(&subscriptions));
	assert_false(subscriptions_have_work(&subscriptions));
	assert_int_equal(packet.number, 1);
}

static void settle(void)
{
	subscriptions_run(&subscriptions);
	while (!subscriptions_begin_round(&subscriptions)) {
		subscriptions_acknowledge(&subscriptions, packet.number, 2);
		assert_true(pass());
	}
}

static void test_unsubscribing_waits_for_qos_2(void **state)
{
	(void)state;
	subscribe(1, "a", 2 | MQTT_SUB_OPT_SEND_RETAIN_NEVER, 0);
	subscribe(2, "a", 1 | MQTT_SUB_OPT_SEND_RETAIN_NEVER, 0);
	settle();
	assert_false(packet.retained);
	assert_false(unsubscribe(2, "a", 7));
	outlet_ends_expect(MESSAGE_ANSWER, 7);
	assert_false(hears(2, "a"));
	assert_true(unsubscribe(1, "a", 8));
	assert_true(hears(1, "a"));
	outlet_ends_expect_nothing();
	(void)fences_request(&fences);
	assert_false(pass());
	assert_false(hears(1, "a"));
	outlet_ends_expect(MESSAGE_ANSWER, 8);
	settle();
	assert_false(packet.is_subscribe);
	assert_null(filters_find(&subscriptions.filters, "a"));
}

static void test_all_filters_get_what_one_wants(void **state)
{
	(void)state;
	subscribe(1, "a", 0, 0);
	settle();
	assert_int_equal(packet.number, 1);
	subscribe(2, "b", 2 | MQTT_SUB_OPT_RETAIN_AS_PUBLISHED, 0);
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_int_equal(packet.number, 3);
	assert_int_equal(packet.qos, 2);
	assert_true(packet.flags);
}

static void test_what_is_not_acknowledged_is_sent_again(void **state)
{
	unsigned int i;

	(void)state;
	subscriptions_run(&subscriptions);
	subscribe(1, "a", 0, 5);
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_false(subscriptions_probe(&subscriptions, clock_ms));
	for (i = 1; i <= SUBSCRIPTIONS_SEND_MAX; i++) {
		assert_int_equal(packet.number, i);
		clock_ms += SUBSCRIPTIONS_AGAIN_MS;
		assert_true(subscriptions_watch_clock(&subscriptions));
		assert_true(subscriptions_probe(&subscriptions, clock_ms));
		assert_false(subscriptions_probe(&subscriptions, clock_ms));
		assert_false(pass());
	}
	assert_int_equal(packet.number, SUBSCRIPTIONS_SEND_MAX);
	assert_true(pass());
	assert_int_equal(atomic_load(&subscriptions.refused_count), 1);
	outlet_ends_expect(MESSAGE_HOLD_CONSUMER, 1);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 1);
	outlet_ends_expect(MESSAGE_ANSWER, 5); /* it does not wait longer */
	assert_true(subscriptions_begin_round(&subscriptions));
	subscriptions_try_again(&subscriptions, clock_ms + SUBSCRIPTIONS_AGAIN_MS - 1);
	assert_true(subscriptions_begin_round(&subscriptions));
	subscriptions_try_again(&subscriptions, clock_ms + SUBSCRIPTIONS_AGAIN_MS);
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_int_equal(packet.number, SUBSCRIPTIONS_SEND_MAX + 1);
}

static void test_a_packet_that_does_not_go_out(void **state)
{
	(void)state;
	subscriptions_run(&subscriptions);
	subscribe(1, "a", 0, 0);
	packet.refuses = true;
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_true(pass());
	assert_non_null(strstr(said_log, "The session's subscription to 'a' is not in force: no reason."));
	packet.refuses = false;
	subscriptions_try_again(&subscriptions, clock_ms + SUBSCRIPTIONS_AGAIN_MS);
	assert_false(subscriptions_begin_round(&subscriptions));
	subscriptions_acknowledge(&subscriptions, packet.number, 0);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "The session's subscription to 'a' is in force now."));
}

static void test_a_refusal_is_told(void **state)
{
	(void)state;
	subscriptions_run(&subscriptions);
	subscribe(1, "a", 0, 0);
	assert_false(subscriptions_begin_round(&subscriptions));
	subscriptions_acknowledge(&subscriptions, packet.number, 135);
	assert_true(pass());
	assert_non_null(strstr(said_log, "refuses the session's subscription to 'a' (reason code 135)"));
	assert_false(hears(1, "a"));
}

static void test_a_connection_that_is_lost(void **state)
{
	struct message *first, *second;

	(void)state;
	subscribe(1, "a", 2 | MQTT_SUB_OPT_SEND_RETAIN_NEVER, 0);
	settle();
	subscribe(2, "b", 0, 5);
	assert_false(subscriptions_begin_round(&subscriptions));
	subscribe(3, "c", 0, 6);
	assert_true(unsubscribe(1, "a", 7));
	outlet_ends_expect(MESSAGE_HOLD_CONSUMER, 2);
	subscriptions_lose(&subscriptions);
	fences_lose(&fences);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 2);
	outlet_ends_expect(MESSAGE_ANSWER, 5);
	outlet_ends_expect(MESSAGE_ANSWER, 7);
	outlet_ends_expect(MESSAGE_ANSWER, 6);
	assert_null(subscriptions_in_round(&subscriptions));
	/* The next one is asked for what had not come; the broker may have the rest. */
	subscriptions_forget(&subscriptions);
	packet.number = 0;
	subscriptions_run(&subscriptions);
	assert_false(subscriptions_begin_round(&subscriptions));
	assert_int_equal(packet.number, 2);
	assert_null(filters_find(&subscriptions.filters, "a"));
	first = outlet_ends_take(MESSAGE_HOLD_CONSUMER); /* in the table's order */
	second = outlet_ends_take(MESSAGE_HOLD_CONSUMER);
	assert_int_equal(first->as.hold_consumer.consumer + second->as.hold_consumer.consumer, 2 + 3);
	message_free(first);
	message_free(second);
}

/* What the broker had queued is for those that subscribe, before the broker has said so. */
static void test_subscriptions_of_an_earlier_process(void **state)
{
	(void)state;
	subscribe(1, "a", 1, 0);
	assert_false(hears(1, "a"));
	subscriptions_assume(&subscriptions);
	assert_true(hears(1, "a"));
}

/* At the end: whoever is there after a restart has not asked for these. */
static void test_filters_of_guests_are_not_kept(void **state)
{
	const uint64_t guest = MESSAGE_GUEST | 2, other = MESSAGE_GUEST | 3;

	(void)state;
	subscribe(guest, "guest", 1, 0);
	subscriptions_keep(&subscriptions); /* without a connection */
	assert_int_equal(packet.number, 0);
	settle();
	subscribe(guest, "guest", 2, 0); /* with another QoS: still one */
	settle();
	subscribe(other, "guest", 1, 0);
	settle();
	subscribe(1, "consumer", 1, 0);
	settle();
	subscribe(1, "both", 1, 0);
	settle();
	subscribe(guest, "both", 2, 0);
	settle();
	packet.number = 0;
	subscriptions_keep(&subscriptions);
	assert_int_equal(packet.number, 1);
	assert_false(packet.is_subscribe);
	assert_string_equal(packet.filter, "guest");
	assert_false(unsubscribe(other, "guest", 0));
	subscriptions_keep(&subscriptions);
	assert_int_equal(packet.number, 2);
	assert_false(unsubscribe(1, "both", 0));
	subscriptions_keep(&subscriptions);
	assert_int_equal(packet.number, 4);
}

static void test_consumers_are_released_when_nothing_goes_on(void **state)
{
	(void)state;
	subscriptions_run(&subscriptions);
	subscribe(1, "a", 0, 5);
	assert_false(subscriptions_begin_round(&subscriptions));
	outlet_ends_expect(MESSAGE_HOLD_CONSUMER, 1);
	subscriptions_release_stuck(&subscriptions);
	outlet_ends_expect(MESSAGE_RELEASE_CONSUMER, 1);
	message_free(outlet_ends_take(MESSAGE_RELEASE));
	subscriptions_acknowledge(&subscriptions, packet.number, 0);
	assert_true(pass());
	outlet_ends_expect(MESSAGE_ANSWER, 5); /* not released again */
	outlet_ends_expect_nothing();
}

#define subscriptions_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		subscriptions_test(test_a_round),
		subscriptions_test(test_unsubscribing_waits_for_qos_2),
		subscriptions_test(test_all_filters_get_what_one_wants),
		subscriptions_test(test_what_is_not_acknowledged_is_sent_again),
		subscriptions_test(test_a_packet_that_does_not_go_out),
		subscriptions_test(test_a_refusal_is_told),
		subscriptions_test(test_a_connection_that_is_lost),
		subscriptions_test(test_subscriptions_of_an_earlier_process),
		subscriptions_test(test_filters_of_guests_are_not_kept),
		subscriptions_test(test_consumers_are_released_when_nothing_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
