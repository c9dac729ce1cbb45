#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "shared/client.h"
#include "shared/message.h"

static void test_everything_is_copied(void **state)
{
	char topic[] = "a/b";
	char payload[] = {'x', '\0', 'y'};
	struct recipient recipients[] = {{.consumer = 7, .qos = 1}, {.consumer = UINT64_MAX, .qos = 2}};
	struct message *message = message_new(MESSAGE_PUBLISH, topic, 3, payload, sizeof(payload), recipients, 2);

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
	struct message *message = message_new(MESSAGE_ANSWER, NULL, 0, NULL, 0, NULL, 0);

	(void)state;
	assert_non_null(message);
	assert_string_equal(message->topic, "");
	assert_null(message->payload);
	assert_null(message->next);
	assert_int_equal(message->topic_length, 0);
	assert_int_equal(message->payload_length, 0);
	assert_int_equal(message->recipient_count, 0);
	assert_int_equal(message->code, 0);
	assert_int_equal(message->consumer, 0);
	assert_int_equal(message->sequence, 0);
	assert_int_equal(message->qos, 0);
	assert_false(message->retain);
	assert_null(message->client);
	assert_null(message->properties);
	assert_int_equal(message->properties_length, 0);
	assert_int_equal(message->options, 0);
	assert_int_equal(message->fate, MESSAGE_FATE_UNKNOWN);
	message_free(message);
	message_free(NULL);
}

/* The topic is a part of what is given: of a longer string, and terminated all the same. */
static void test_topic_ends_where_its_length_says(void **state)
{
	struct message *message = message_new(MESSAGE_SUBSCRIBE, "a/b/c", 3, NULL, 0, NULL, 0);

	(void)state;
	assert_non_null(message);
	assert_string_equal(message->topic, "a/b");
	message_free(message);
}

static void test_size_counts_every_part(void **state)
{
	static const struct recipient recipients[3] = {{.consumer = 1}, {.consumer = 2}, {.consumer = 3}};
	struct message *bare = message_new(MESSAGE_PUBLISH, NULL, 0, NULL, 0, NULL, 0);
	struct message *full = message_new(MESSAGE_PUBLISH, "abcd", 4, "payload", 7, recipients, 3);

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
	assert_false(message->retain);
	assert_false(message->is_kept);
	assert_false(message->by_session);

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
	struct message *message = message_control(MESSAGE_CONNECT, 0, 0, 0);

	(void)state;
	message->client = client_hold(client);
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

/* Lengths whose sum is more than there are bytes are refused before anything is read. */
/* Who connects chooses how long its name is. */
static void test_size_counts_the_client(void **state)
{
	char id[60001];
	const struct client_description description = {.id = id};
	struct message *message = message_control(MESSAGE_CONNECT, 0, 0, 0);
	size_t bare = message_size(message);

	(void)state;
	memset(id, 'x', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	message->client = client_new(&description, NULL);
	assert_non_null(message->client);
	assert_true(message_size(message) > bare + sizeof(id));
	message_free(message);
}

static void test_impossible_lengths(void **state)
{
	static const struct recipient recipient = {.consumer = 1};
	unsigned long allocations = scarce_memory_allocations();

	(void)state;
	assert_null(message_new(MESSAGE_PUBLISH, "a", 1, "b", SIZE_MAX, NULL, 0));
	assert_null(message_new(MESSAGE_PUBLISH, "a", SIZE_MAX, "b", 1, NULL, 0));
	assert_null(message_new(MESSAGE_PUBLISH, "a", 1, "b", 1, &recipient, SIZE_MAX));
	assert_null(message_new(MESSAGE_PUBLISH, "a", 1, "b", 1, &recipient, SIZE_MAX / sizeof(recipient)));
	assert_null(message_new(MESSAGE_PUBLISH, "a", 0, "b", SIZE_MAX - sizeof(struct message), NULL, 0));
	assert_int_equal(scarce_memory_allocations(), allocations);
}

static void test_no_memory(void **state)
{
	long blocks = scarce_memory_blocks();

	(void)state;
	scarce_memory(1, false);
	assert_null(message_new(MESSAGE_PUBLISH, "a", 1, "b", 1, NULL, 0));
	assert_true(scarce_memory_end());
	assert_int_equal(scarce_memory_blocks(), blocks);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
