/* Who gets what comes, without a connection: the filters are as if the broker had acknowledged them. */
#include "cmocka_all.h"

#include <string.h>

#include "outlet_ends.h"
#include "scarce_memory.h"
#include "session/announced.h"
#include "session/connection.h"
#include "session/copies.h"
#include "session/deliveries.h"
#include "session/fences.h"
#include "session/subscriptions.h"
#include "shared/client.h"
#include "shared/fingerprint.h"
#include "shared/marks.h"
#include "shared/queue.h"
#include "shared/stored_ids.h"

int connection_subscribe(struct connection *unused, const char *filter, uint8_t qos, uint32_t subscription,
		bool retained, bool flags)
{
	(void)unused;
	(void)filter;
	(void)qos;
	(void)subscription;
	(void)retained;
	(void)flags;
	return 1;
}

int connection_unsubscribe(struct connection *unused, const char *filter)
{
	(void)unused;
	(void)filter;
	return 1;
}

const char *connection_reason(const struct connection *unused)
{
	(void)unused;
	return "";
}

static struct fences fences;
static struct copies copies;
static struct subscriptions subscriptions;
static struct deliveries deliveries;

static int set_up(void **state)
{
	(void)state;
	outlet_ends_open(100);
	fences_init(&fences, &outlet, 0);
	assert_true(copies_init(&copies, &outlet));
	assert_true(subscriptions_init(&subscriptions, &outlet, &fences, NULL, true));
	assert_true(deliveries_init(&deliveries, &outlet, &copies, &subscriptions));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	deliveries_free(&deliveries);
	subscriptions_free(&subscriptions);
	copies_free(&copies);
	outlet_ends_close();
	return 0;
}

/* The broker has acknowledged it at QoS 2. */
static struct filter *subscribe(uint64_t consumer, const char *name)
{
	struct filter *filter = filters_find(&subscriptions.filters, name);

	if (!filter) {
		filter = filters_add(&subscriptions.filters, name);
	}
	filter->subscription.asked_qos = filter->subscription.granted_qos = 2;
	assert_true(filters_enter_force(&subscriptions.filters, filter));
	assert_int_equal(topics_add(subscriptions.topics, consumer, name, 2), 0);
	return filter;
}

static struct connection_message message_of(const struct filter *filter, const char *payload, uint8_t qos)
{
	return (struct connection_message){.topic = "a",
		.payload = payload,
		.payload_length = strlen(payload),
		.subscription = filter ? filter->id : 0,
		.qos = qos};
}

static void comes(const struct filter *filter, const char *payload, bool collect)
{
	const struct connection_message event = message_of(filter, payload, 2);

	deliveries_receive(&deliveries, &event, collect);
}

static uint64_t published(const char *payload)
{
	const struct message_content content = {"a", 1, payload, strlen(payload), NULL, 0};

	return fingerprint_published(fingerprint_of(&content, true), 2, FINGERPRINT_LIVE);
}

static void test_live_messages(void **state)
{
	struct filter *first = subscribe(1, "a"), *second = subscribe(1, "+");

	(void)state;
	comes(first, "1", false);
	outlet_ends_expect_publish("1", 1);
	assert_false(deliveries.brought_copies);
	comes(second, "1", false); /* the copy for the other filter */
	outlet_ends_expect_nothing();
	assert_true(deliveries.brought_copies);
	marks_add(copies_marks(&copies, false), published("2"));
	comes(first, "2", false); /* which went the direct lane */
	comes(NULL, "3", false);  /* for no filter of ours */
	outlet_ends_expect_nothing();
}

static void test_retained_messages_go_to_who_fetches(void **state)
{
	struct filter *filter = subscribe(1, "a");
	const struct waiter fetches = {.who = {.consumer = 2}, .fetches = true},
						does_not = {.who = {.consumer = 3}},
						gone = {.who = {.consumer = 4}, .fetches = true, .gone = true};
	struct connection_message event = message_of(filter, "1", 1);
	struct message *message;

	(void)state;
	event.retain = true;
	deliveries_receive(&deliveries, &event, false);
	outlet_ends_expect_nothing();
	assert_true(waiters_add(&filter->fetching, &does_not));
	assert_true(waiters_add(&filter->fetching, &fetches));
	assert_true(waiters_add(&filter->fetching, &gone));
	subscriptions.round.number = 1;
	deliveries_receive(&deliveries, &event, false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_true(message->as.publish.is_retained && message->as.publish.retain &&
			message->as.publish.by_session);
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, 2);
	message_free(message);
	/* Asked for again after a loss: it has that. */
	filter->fetching.items[1].since = 1;
	subscriptions.round.number = 2;
	deliveries_receive(&deliveries, &event, true);
	outlet_ends_expect_nothing();
	event.subscription = 0;
	deliveries_receive(&deliveries, &event, false);
	outlet_ends_expect_nothing();
}

static void test_a_group_shares(void **state)
{
	struct filter *filter = subscribe(1, "$share/g/a");

	(void)state;
	(void)subscribe(2, "$share/g/a");
	comes(filter, "1", false);
	comes(filter, "2", true);
	comes(filter, "3", false);
	outlet_ends_expect_publish("1", 1);
	outlet_ends_expect_publish("2", 2);
	outlet_ends_expect_publish("3", 1);
	outlet_ends_expect_nothing();
}

static void test_what_the_broker_had_queued(void **state)
{
	struct filter *first = subscribe(1, "a"), *second = subscribe(1, "+");

	(void)state;
	marks_add(copies_marks(&copies, false), published("direct"));
	comes(first, "1", true);
	comes(first, "direct", true);
	comes(second, "1", true); /* the other copy */
	comes(first, "1", true);  /* another message */
	outlet_ends_expect_nothing();
	deliveries_deliver_backlog(&deliveries);
	outlet_ends_expect_publish("1", 1);
	outlet_ends_expect_publish("1", 1);
	outlet_ends_expect_nothing();
	deliveries_deliver_backlog(&deliveries);
	outlet_ends_expect_nothing();
}

static void announce(const char *id, const char *payload)
{
	const struct client_description description = {.id = id};

	deliveries_announce(&deliveries, published(payload), client_new(&description, NULL), 0);
}

static void test_who_published_it(void **state)
{
	struct filter *filter = subscribe(1, "a");
	struct message *message;
	unsigned int i;

	(void)state;
	announce("x", "1");
	comes(filter, "1", false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_string_equal(client_description(message->client)->id, "x");
	message_free(message);
	comes(filter, "1", false); /* a will of the same content */
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_null(message->client);
	message_free(message);
	announce("x", "2");
	clock_ms += DELIVERIES_PUBLISHERS_MS;
	comes(filter, "2", false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_null(message->client);
	message_free(message);
	/* Too many for one connection. */
	{
		const struct client_description description = {.id = "x"};
		struct client *client = client_new(&description, NULL);

		for (i = 0; i < 4100; i++) {
			deliveries_announce(&deliveries, i, client_hold(client), 0);
		}
		client_release(client);
	}
	assert_int_equal(deliveries_unnamed(&deliveries), 4);
	deliveries_tell_unnamed(&deliveries, clock_ms);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "4 messages of clients"));
	deliveries_tell_unnamed(&deliveries, clock_ms + DELIVERIES_UNNAMED_MS);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "");
}

/* With a durable inbox: what was stored when it was announced has its id, the rest gets one and is stored. */
static void test_what_is_stored(void **state)
{
	struct filter *filter = subscribe(1, "a");
	const struct client_description description = {.id = "x"};
	struct connection_message again = message_of(filter, "3", 1);
	struct stored_ids ids;
	struct message *message, *word;

	(void)state;
	stored_ids_init(&ids, 100);
	deliveries.ids = &ids;
	deliveries_announce(&deliveries, published("1"), client_new(&description, NULL), 7);
	comes(filter, "1", false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_int_equal(message->as.publish.stored, 7);
	assert_false(message_is_droppable(message));
	message_free(message);
	assert_null(queue_take(outlet.outbound));
	comes(filter, "1", false); /* another of the same content */
	message = outlet_ends_take(MESSAGE_PUBLISH);
	word = queue_take(outlet.outbound);
	assert_int_equal(word->kind, MESSAGE_STORE);
	assert_true(stored_ids_is_of_session(message->as.publish.stored));
	assert_int_equal(word->as.publish.stored, message->as.publish.stored);
	assert_int_equal(word->recipient_count, 1);
	assert_memory_equal(word->payload, "1", 1);
	message_free(message);
	message_free(word);
	again.is_again = true;
	deliveries_receive(&deliveries, &again, false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_true(message->as.publish.is_redelivered);
	message_free(message);
	message_free(queue_take(outlet.outbound));
	again = message_of(filter, "4", 0);
	deliveries_receive(&deliveries, &again, false);
	message = outlet_ends_take(MESSAGE_PUBLISH);
	assert_int_equal(message->as.publish.stored, 0);
	message_free(message);
	assert_null(queue_take(outlet.outbound));
}

/* Equal ones are as good as each other; the oldest are forgotten. */
static void test_many_are_announced(void **state)
{
	struct announced announced = {0};
	const uint64_t both[] = {1, 2};
	uint64_t i;

	(void)state;
	announced_add(&announced, 2, 20);
	announced_add(&announced, 1, 10);
	announced_add(&announced, 1, 11);
	assert_int_equal(announced_take(&announced, both, 2), 11);
	assert_int_equal(announced_take(&announced, both, 2), 10);
	assert_int_equal(announced_take(&announced, both, 2), 20);
	assert_int_equal(announced_take(&announced, both, 2), 0);
	for (i = 1; i <= ANNOUNCED_MAX + 1; i++) {
		announced_add(&announced, i, i);
	}
	assert_int_equal(announced_take(&announced, both, 1), 0);
	assert_int_equal(announced_take(&announced, both + 1, 1), 2);
	announced_clear(&announced);
	for (i = 1; i < 5; i++) {
		scarce_memory(i, false);
		announced_add(&announced, 1, 5);
		(void)scarce_memory_end();
		(void)announced_take(&announced, both, 2);
	}
	announced_clear(&announced);
	assert_int_equal(announced.count, 0);
}

#define deliveries_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		deliveries_test(test_live_messages),
		deliveries_test(test_retained_messages_go_to_who_fetches),
		deliveries_test(test_a_group_shares),
		deliveries_test(test_what_the_broker_had_queued),
		deliveries_test(test_what_is_stored),
		deliveries_test(test_many_are_announced),
		deliveries_test(test_who_published_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
