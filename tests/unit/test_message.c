#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "shared/client.h"
#include "shared/message.h"

static const struct message connects = {.kind = MESSAGE_CONNECT};

static void test_everything_is_copied(void **state)
{
	char topic[] = "a/b";
	char payload[] = {'x', '\0', 'y'};
	struct recipient recipients[] = {{.consumer = 7, .qos = 1}, {.consumer = UINT64_MAX, .qos = 2}};
	const struct message_content content = {
		.topic = topic, .topic_length = 3, .payload = payload, .payload_length = sizeof(payload)};
	struct message *message = message_publish(&content, recipients, 2);

	(void)state;
	assert_non_null(message);
	memset(topic, '?', sizeof(topic));
	memset(payload, '?', sizeof(payload));
	memset(recipients, 0xFF, sizeof(recipients));
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_string_equal(message->topic, "a/b");
	assert_int_equal(message->topic_length, 3);
	assert_int_equal(message->payload_length, 3);
	assert_memory_equal(message->payload, "x\0y", 3);
	assert_int_equal(message->recipient_count, 2);
	assert_int_equal(message->recipients[0].consumer, 7);
	assert_int_equal(message->recipients[0].qos, 1);
	assert_true(message->recipients[1].consumer == UINT64_MAX);
	assert_int_equal(message->recipients[1].qos, 2);
	message_free(message);
}

static void test_what_is_not_given_is_zero(void **state)
{
	struct message *message = message_publish(&(const struct message_content){0}, NULL, 0);

	(void)state;
	assert_non_null(message);
	assert_string_equal(message->topic, "");
	assert_null(message->payload);
	assert_null(message->next);
	assert_int_equal(message->topic_length, 0);
	assert_int_equal(message->payload_length, 0);
	assert_int_equal(message->recipient_count, 0);
	assert_int_equal(message->as.publish.publisher, 0);
	assert_int_equal(message->as.publish.qos, 0);
	assert_false(message->as.publish.retain);
	assert_false(message->as.publish.is_retained);
	assert_false(message->as.publish.by_session);
	assert_null(message->client);
	assert_null(message->properties);
	assert_int_equal(message->properties_length, 0);
	message_free(message);
	message_free(NULL);
}

/* The topic is a part of what is given: of a longer string, and terminated all the same. */
static void test_topic_ends_where_its_length_says(void **state)
{
	struct message *message = message_settled("a/b/c", 3);

	(void)state;
	assert_non_null(message);
	assert_string_equal(message->topic, "a/b");
	message_free(message);
}

static void test_size_counts_every_part(void **state)
{
	static const struct recipient recipients[3] = {{.consumer = 1}, {.consumer = 2}, {.consumer = 3}};
	const struct message_content content = {
		.topic = "abcd", .topic_length = 4, .payload = "payload", .payload_length = 7};
	struct message *bare = message_publish(&(const struct message_content){0}, NULL, 0);
	struct message *full = message_publish(&content, recipients, 3);

	(void)state;
	assert_non_null(bare);
	assert_non_null(full);
	assert_true(message_size(bare) >= sizeof(struct message));
	assert_int_equal(message_size(full) - message_size(bare), 4 + 7 + sizeof(recipients));
	message_free(full);
	message_free(bare);
}

static void test_publish_has_its_content(void **state)
{
	char properties[] = {1, 1, 3, 0, 1, 't'};
	struct message_content content = {"a/b", 3, "payload", 7, properties, sizeof(properties)};
	struct recipient recipient = {.consumer = 7, .qos = 2, .own_qos = -1, .retain_as_published = true};
	struct message *message = message_publish(&content, &recipient, 1), *bare;

	(void)state;
	assert_non_null(message);
	memset(properties, 0xff, sizeof(properties));
	memset(&recipient, 0xff, sizeof(recipient));
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_string_equal(message->topic, "a/b");
	assert_memory_equal(message->payload, "payload", 7);
	assert_int_equal(message->properties_length, 6);
	assert_memory_equal(message->properties, "\x01\x01\x03\x00\x01t", 6);
	assert_int_equal(message->recipients[0].consumer, 7);
	assert_int_equal(message->recipients[0].qos, 2);
	assert_int_equal(message->recipients[0].own_qos, -1);
	assert_true(message->recipients[0].retain_as_published);
	assert_null(message->client);
	assert_false(message->as.publish.retain);
	assert_false(message->as.publish.is_retained);
	assert_false(message->as.publish.by_session);

	/* Each part counts, and what is not there is NULL. */
	content = (struct message_content){"a/b", 3, NULL, 0, "\x01\x01", 2};
	bare = message_publish(&content, NULL, 0);
	assert_non_null(bare);
	assert_null(bare->payload);
	assert_memory_equal(bare->properties, "\x01\x01", 2);
	assert_int_equal(message_size(message) - message_size(bare), sizeof(recipient) + 7 + 4);
	message_free(bare);
	content = (struct message_content){"a/b", 3, "payload", 7, NULL, 0};
	bare = message_publish(&content, NULL, 0);
	assert_non_null(bare);
	assert_null(bare->properties);
	assert_int_equal(bare->properties_length, 0);
	message_free(bare);
	content = (struct message_content){"a", 1, "b", 1, "c", SIZE_MAX};
	assert_null(message_publish(&content, NULL, 0));
	content = (struct message_content){"a", 1, "b", SIZE_MAX - 1000, "c", 1000};
	assert_null(message_publish(&content, NULL, 0));
	message_free(message);
}

static void test_a_message_gives_its_client_back(void **state)
{
	const struct client_description description = {.id = "a"};
	long blocks = scarce_memory_blocks();
	struct client *client = client_new(&description, NULL);
	struct message *message = message_copy_for(&connects, client, NULL, 0);

	(void)state;
	client_release(client);
	assert_string_equal(client_description(message->client)->id, "a");
	message_free(message);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

/* ---- what a consumer published itself ---- */

static struct message *for_three(int8_t first, int8_t second, int8_t third)
{
	const struct message_content content = {"a", 1, "payload", 7, "\x01\x01", 2};
	const struct recipient recipients[] = {{.consumer = 1, .qos = 2, .own_qos = first},
		{.consumer = 2, .qos = 1, .own_qos = second},
		{.consumer = 3, .qos = 2, .own_qos = third, .retain_as_published = true}};
	struct message *message = message_publish(&content, recipients, 3);

	assert_non_null(message);
	return message;
}

static void assert_recipients(const struct message *message, const char *expected)
{
	char found[64] = "";
	size_t i;

	for (i = 0; i < message->recipient_count; i++) {
		(void)snprintf(found + strlen(found), sizeof(found) - strlen(found), "%d@%d ",
				(int)message->recipients[i].consumer, message->recipients[i].qos);
	}
	assert_string_equal(found, expected);
	/* What follows the recipients in the block stays. */
	assert_string_equal(message->topic, "a");
	assert_memory_equal(message->payload, "payload", 7);
	assert_memory_equal(message->properties, "\x01\x01", 2);
}

static void test_leaving_out_who_published(void **state)
{
	static const struct {
		int8_t own_qos[3];
		uint64_t publisher;
		const char *expected;
	} cases[] = {
		/* No Local in all of its filters: first, in the middle, last. */
		{{-1, 1, 2}, 1, "2@1 3@2 "},
		{{2, -1, 2}, 2, "1@2 3@2 "},
		{{2, 1, -1}, 3, "1@2 2@1 "},
		/* In some. */
		{{0, 1, 2}, 1, "1@0 2@1 3@2 "},
		{{2, 1, 1}, 3, "1@2 2@1 3@1 "},
		{{2, 1, 0}, 3, "1@2 2@1 3@0 "},
		/* In none. */
		{{2, 1, 2}, 3, "1@2 2@1 3@2 "},
		/* That of others does not matter. */
		{{-1, -1, 2}, 3, "1@2 2@1 3@2 "},
		{{-1, -1, -1}, 77, "1@2 2@1 3@2 "},
	};
	struct message *message;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		message = for_three(cases[i].own_qos[0], cases[i].own_qos[1], cases[i].own_qos[2]);
		message_leave_out(message, cases[i].publisher);
		assert_recipients(message, cases[i].expected);
		message_free(message);
	}
	message = for_three(-1, -1, -1);
	message_leave_out(message, 2);
	assert_true(message->recipients[1].retain_as_published); /* with all that is its */
	message_leave_out(message, 1);
	message_leave_out(message, 3);
	assert_recipients(message, "");
	message_leave_out(message, 1);
	assert_recipients(message, "");
	message_free(message);
}

/* Who connects chooses how long its name is. */
static void test_size_counts_the_client(void **state)
{
	char id[60001];
	const struct client_description description = {.id = id};
	struct message *message = message_copy_for(&connects, NULL, NULL, 0);
	size_t bare = message_size(message);

	(void)state;
	memset(id, 'x', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	message->client = client_new(&description, NULL);
	assert_non_null(message->client);
	assert_true(message_size(message) > bare + sizeof(id));
	message_free(message);
}

static struct message *of_lengths(size_t topic, size_t payload, size_t recipient_count)
{
	static const struct recipient recipient = {.consumer = 1};
	const struct message_content content = {
		.topic = "a", .topic_length = topic, .payload = "b", .payload_length = payload};

	return message_publish(&content, &recipient, recipient_count);
}

/* Lengths whose sum is more than there are bytes are refused before anything is read. */
static void test_impossible_lengths(void **state)
{
	unsigned long allocations = scarce_memory_allocations();

	(void)state;
	assert_null(of_lengths(1, SIZE_MAX, 0));
	assert_null(of_lengths(SIZE_MAX, 1, 0));
	assert_null(of_lengths(1, 1, SIZE_MAX));
	assert_null(of_lengths(1, 1, SIZE_MAX / sizeof(struct recipient)));
	assert_null(of_lengths(0, SIZE_MAX - sizeof(struct message), 0));
	assert_int_equal(scarce_memory_allocations(), allocations);
}

static void test_no_memory(void **state)
{
	long blocks = scarce_memory_blocks();

	(void)state;
	scarce_memory(1, false);
	assert_null(of_lengths(1, 1, 0));
	assert_true(scarce_memory_end());
	assert_int_equal(scarce_memory_blocks(), blocks);
}

/* ---- kinds ---- */

static void assert_bare(const struct message *message, enum message_kind kind)
{
	assert_non_null(message);
	assert_int_equal(message->kind, kind);
	assert_string_equal(message->topic, "");
	assert_null(message->payload);
	assert_null(message->client);
	assert_int_equal(message->recipient_count, 0);
}

#define ASSERT_SAYS(made, kind, what)                                                                        \
	do {                                                                                                     \
		struct message *message = (made);                                                                    \
                                                                                                             \
		assert_bare(message, kind);                                                                          \
		assert_true(what);                                                                                   \
		message_free(message);                                                                               \
	} while (0)

static void test_each_control_says_what_it_is(void **state)
{
	(void)state;
	ASSERT_SAYS(message_answer(7, 1), MESSAGE_ANSWER,
			message->as.answer.sequence == 7 && message->as.answer.rc == 1);
	ASSERT_SAYS(message_hold(3), MESSAGE_HOLD, message->as.hold.number == 3);
	ASSERT_SAYS(message_release(3), MESSAGE_RELEASE, message->as.hold.number == 3);
	ASSERT_SAYS(message_hold_consumer(9, true), MESSAGE_HOLD_CONSUMER,
			message->as.hold_consumer.consumer == 9 && message->as.hold_consumer.again);
	ASSERT_SAYS(message_release_consumer(9), MESSAGE_RELEASE_CONSUMER,
			message->as.hold_consumer.consumer == 9);
	ASSERT_SAYS(message_options(&(struct message_of_options){.verbosity = 2, .log_lines = 7}),
			MESSAGE_OPTIONS, message->as.options.verbosity == 2 && message->as.options.log_lines == 7);
	ASSERT_SAYS(message_watch(9, 7), MESSAGE_WATCH,
			message->as.request.consumer == 9 && message->as.request.sequence == 7);
	ASSERT_SAYS(message_unwatch(9, 7), MESSAGE_UNWATCH,
			message->as.request.consumer == 9 && message->as.request.sequence == 7);
	ASSERT_SAYS(message_suspend(true), MESSAGE_SUSPEND, message->as.suspend.application_ends);
	ASSERT_SAYS(message_suspend(false), MESSAGE_SUSPEND, !message->as.suspend.application_ends);
	ASSERT_SAYS(message_copy(&(struct message){.kind = MESSAGE_SESSION, .as.session.is_up = true}),
			MESSAGE_SESSION, message->as.session.is_up);
	ASSERT_SAYS(message_copy(&(struct message){.kind = MESSAGE_SESSION, .as.session.is_up = false}),
			MESSAGE_SESSION, !message->as.session.is_up);
	ASSERT_SAYS(message_copy(&(struct message){.kind = MESSAGE_FENCE, .as.fence.number = UINT64_MAX}),
			MESSAGE_FENCE, message->as.fence.number == UINT64_MAX);
	ASSERT_SAYS(message_connection_gone(true), MESSAGE_CONNECTION_GONE, message->as.gone.was_taken);
	ASSERT_SAYS(message_connection_gone(false), MESSAGE_CONNECTION_GONE, !message->as.gone.was_taken);
	ASSERT_SAYS(message_writable(), MESSAGE_WRITABLE, true);
	ASSERT_SAYS(message_stop(), MESSAGE_STOP, true);
	ASSERT_SAYS(message_started(), MESSAGE_STARTED, true);
	ASSERT_SAYS(message_stopped(), MESSAGE_STOPPED, true);
	ASSERT_SAYS(message_listening(), MESSAGE_LISTENING, true);
	ASSERT_SAYS(message_end(), MESSAGE_END, true);
}

static void assert_request(const struct message *message, enum message_kind kind,
		const struct message_request *expected)
{
	const struct message_request *found = &message->as.request;

	assert_int_equal(message->kind, kind);
	assert_int_equal(found->consumer, expected->consumer);
	assert_int_equal(found->sequence, expected->sequence);
	assert_int_equal(found->fence, expected->fence);
	assert_int_equal(found->identifier, expected->identifier);
	assert_int_equal(found->options, expected->options);
	assert_int_equal(found->is_held, expected->is_held);
}

static void test_those_with_text_say_it(void **state)
{
	const struct message_request request = {.consumer = 9, .sequence = 7, .identifier = 12, .options = 0x2d};
	struct message *messages[] = {message_subscribe(&request, "a/b/c", 3),
		message_unsubscribe(&request, "a/b/c", 3), message_log(4, "a/b/c", 3), message_settled("a/b/c", 3),
		message_kick("a/b/c", 3, 7)};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		assert_non_null(messages[i]);
		assert_string_equal(messages[i]->topic, "a/b");
		assert_int_equal(messages[i]->topic_length, 3);
	}
	assert_request(messages[0], MESSAGE_SUBSCRIBE, &request);
	assert_request(messages[1], MESSAGE_UNSUBSCRIBE, &request);
	assert_int_equal(messages[2]->kind, MESSAGE_LOG);
	assert_int_equal(messages[2]->as.log.level, 4);
	assert_int_equal(messages[3]->kind, MESSAGE_SETTLED);
	assert_request(messages[4], MESSAGE_KICK, &(struct message_request){.sequence = 7});
	for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		message_free(messages[i]);
	}
}

static void test_those_about_a_client_hold_it(void **state)
{
	const struct client_description description = {.id = "a"};
	const struct message gone = {.kind = MESSAGE_DISCONNECT, .as.disconnect = {0x8e, MESSAGE_FATE_KEPT}};
	const struct recipient recipient = {.consumer = 7};
	long blocks = scarce_memory_blocks();
	struct client *client = client_new(&description, NULL);
	struct message *came = message_copy_for(&connects, client, &recipient, 1), *went, *publisher;

	(void)state;
	went = message_copy_for(&gone, client, &recipient, 1);
	publisher = message_publisher(client, UINT64_MAX, 0);
	client_release(client);
	assert_int_equal(came->kind, MESSAGE_CONNECT);
	assert_int_equal(came->recipients[0].consumer, 7);
	assert_string_equal(client_description(came->client)->id, "a");
	message_free(came);
	assert_int_equal(went->kind, MESSAGE_DISCONNECT);
	assert_int_equal(went->recipients[0].consumer, 7);
	assert_int_equal(went->as.disconnect.reason, 0x8e);
	assert_int_equal(went->as.disconnect.fate, MESSAGE_FATE_KEPT);
	assert_string_equal(client_description(went->client)->id, "a");
	message_free(went);
	assert_int_equal(publisher->kind, MESSAGE_PUBLISHER);
	assert_true(publisher->as.publisher.fingerprint == UINT64_MAX);
	assert_string_equal(client_description(publisher->client)->id, "a");
	message_free(publisher);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_a_copy_says_the_same(void **state)
{
	const struct message_request request = {.consumer = 9, .sequence = 7, .options = 1};
	const struct message draft = {.kind = MESSAGE_ANSWER, .as.answer = {.sequence = 7, .rc = 1}};
	struct message *first = message_subscribe(&request, "a/b", 3), *copy = message_copy(first);

	(void)state;
	message_free(first);
	assert_string_equal(copy->topic, "a/b");
	assert_request(copy, MESSAGE_SUBSCRIBE, &request);
	message_free(copy);
	ASSERT_SAYS(message_copy(&draft), MESSAGE_ANSWER,
			message->as.answer.sequence == 7 && message->as.answer.rc == 1);
}

static void test_events_and_controls_are_told_apart(void **state)
{
	int kind;

	(void)state;
	assert_string_equal(message_event(MESSAGE_PUBLISH)->type, "mqtt.msg");
	assert_string_equal(message_event(MESSAGE_CONNECT)->type, "mqtt.client.connect");
	assert_string_equal(message_event(MESSAGE_DISCONNECT)->type, "mqtt.client.disconnect");
	for (kind = MESSAGE_PUBLISH; kind < MESSAGE_EVENTS_END; kind++) {
		assert_non_null(message_event((enum message_kind)kind)->type);
	}
	for (kind = MESSAGE_EVENTS_END; kind <= MESSAGE_END; kind++) {
		assert_null(message_event((enum message_kind)kind));
	}
}

static void test_what_may_be_dropped(void **state)
{
	struct message message = {.kind = MESSAGE_PUBLISH};
	int kind;

	(void)state;
	assert_true(message_is_droppable(&message));
	message.as.publish.by_session = true;
	assert_false(message_is_droppable(&message));
	assert_false(message_is_droppable(&(struct message){.kind = MESSAGE_CONNECT}));
	assert_false(message_is_droppable(&(struct message){.kind = MESSAGE_DISCONNECT}));
	for (kind = MESSAGE_PUBLISH; kind < MESSAGE_EVENTS_END; kind++) {
		assert_int_equal(message_is_droppable(&(struct message){.kind = (enum message_kind)kind}),
				message_event((enum message_kind)kind)->is_droppable);
	}
	for (; kind <= MESSAGE_END; kind++) {
		assert_false(message_is_droppable(&(struct message){.kind = (enum message_kind)kind}));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_copied),
		cmocka_unit_test(test_what_is_not_given_is_zero),
		cmocka_unit_test(test_topic_ends_where_its_length_says),
		cmocka_unit_test(test_size_counts_every_part),
		cmocka_unit_test(test_publish_has_its_content),
		cmocka_unit_test(test_a_message_gives_its_client_back),
		cmocka_unit_test(test_size_counts_the_client),
		cmocka_unit_test(test_leaving_out_who_published),
		cmocka_unit_test(test_impossible_lengths),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_each_control_says_what_it_is),
		cmocka_unit_test(test_those_with_text_say_it),
		cmocka_unit_test(test_those_about_a_client_hold_it),
		cmocka_unit_test(test_a_copy_says_the_same),
		cmocka_unit_test(test_events_and_controls_are_told_apart),
		cmocka_unit_test(test_what_may_be_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
