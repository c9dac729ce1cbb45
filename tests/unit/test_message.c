#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "scarce_memory.h"

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

/* Lengths whose sum is more than there are bytes are refused before anything is read. */
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
			cmocka_unit_test(test_impossible_lengths),
			cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
