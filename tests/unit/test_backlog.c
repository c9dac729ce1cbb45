#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "session/backlog.h"
#include "shared/message.h"

static struct backlog *backlog;
static long blocks;

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	backlog = backlog_new();
	assert_non_null(backlog);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	backlog_free(backlog);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static struct message *make(const char *payload)
{
	const struct message_content content = {
		.topic = "t", .topic_length = 1, .payload = payload, .payload_length = strlen(payload)};
	struct message *message = message_publish(&content, NULL, 0);

	assert_non_null(message);
	return message;
}

/* A copy comes: which message it is of, by the payload that it has if it is a new one. */
static const char *comes(uint64_t fingerprint, uint32_t filter, const char *payload)
{
	struct message *message = backlog_find(backlog, fingerprint, filter);

	if (!message) {
		message = make(payload);
		assert_true(backlog_add(backlog, fingerprint, filter, message));
	}
	return message->payload;
}

static void is_next(uint64_t fingerprint, const char *payload)
{
	uint64_t found = 0;
	struct message *message = backlog_take(backlog, &found);

	assert_non_null(message);
	assert_int_equal(found, fingerprint);
	assert_memory_equal(message->payload, payload, strlen(payload));
	message_free(message);
}

static void is_empty(void)
{
	uint64_t found;

	assert_null(backlog_take(backlog, &found));
}

static void test_in_the_order_in_which_they_came(void **state)
{
	(void)state;
	is_empty();
	comes(7, 1, "a");
	comes(8, 1, "b");
	comes(7, 1, "c");
	comes(8, 2, "another copy of b");
	is_next(7, "a");
	is_next(8, "b");
	is_next(7, "c");
	is_empty();
	comes(7, 1, "d");
	is_next(7, "d");
	is_empty();
}

/* A filter brings each message once, so its second copy is of the second message. */
static void test_copies_of_equal_messages(void **state)
{
	(void)state;
	assert_memory_equal(comes(7, 1, "a"), "a", 1);
	assert_memory_equal(comes(7, 1, "b"), "b", 1);
	assert_memory_equal(comes(7, 2, "-"), "a", 1);
	assert_memory_equal(comes(7, 2, "-"), "b", 1);
	assert_memory_equal(comes(7, 2, "c"), "c", 1);
	assert_memory_equal(comes(7, 3, "-"), "a", 1);
	assert_memory_equal(comes(7, 1, "-"), "c", 1);
	assert_memory_equal(comes(7, 1, "d"), "d", 1);
	assert_memory_equal(comes(7, 3, "-"), "b", 1);
	assert_memory_equal(comes(7, 3, "-"), "c", 1);
	assert_memory_equal(comes(7, 3, "-"), "d", 1);
	is_next(7, "a");
	is_next(7, "b");
	is_next(7, "c");
	is_next(7, "d");
	is_empty();
}

static void test_more_filters_than_anybody_has(void **state)
{
	char payload[8];
	uint32_t filter;

	(void)state;
	comes(7, 0, "a");
	for (filter = 1; filter < BACKLOG_FILTERS_MAX; filter++) {
		assert_memory_equal(comes(7, filter, "-"), "a", 1);
	}
	for (; filter < 2 * BACKLOG_FILTERS_MAX; filter++) {
		(void)snprintf(payload, sizeof(payload), "%u", (unsigned int)filter);
		assert_memory_equal(comes(7, filter, payload), payload, strlen(payload));
	}
	is_next(7, "a");
	is_next(7, "16");
}

/* Without a place for each filter: minutes. */
static void test_many_equal_messages(void **state)
{
	enum { MANY = 200000 };
	size_t i;

	(void)state;
	for (i = 0; i < MANY; i++) {
		comes(7, 1, "on");
	}
	for (i = 0; i < MANY; i++) {
		assert_non_null(backlog_find(backlog, 7, 2));
	}
	for (i = 0; i < MANY; i++) {
		is_next(7, "on");
	}
	is_empty();
}

/* What is left is freed with the rest. */
static void test_freed(void **state)
{
	(void)state;
	comes(7, 1, "a");
	comes(8, 2, "b");
	backlog_free(NULL);
}

static void test_no_memory(void **state)
{
	struct message *message = make("a");
	unsigned long n;
	bool failed = true;

	(void)state;
	scarce_memory(1, false);
	assert_null(backlog_new());
	assert_true(scarce_memory_end());
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		failed = !backlog_add(backlog, 7, 1, message);
		(void)scarce_memory_end();
		if (failed) {
			is_empty();
		}
	}
	assert_int_equal(n, 5); /* the message, the group, its table, none */
	is_next(7, "a");
	is_empty();
}

#define backlog_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		backlog_test(test_in_the_order_in_which_they_came),
		backlog_test(test_copies_of_equal_messages),
		backlog_test(test_more_filters_than_anybody_has),
		backlog_test(test_many_equal_messages),
		backlog_test(test_freed),
		backlog_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
