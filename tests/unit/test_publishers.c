#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "session/publishers.h"
#include "shared/certificate.h"
#include "shared/client.h"

#define LIFETIME 1000U

static struct publishers *publishers;
static uint64_t last_number;
static long blocks;

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	last_number = 0;
	publishers = publishers_new(LIFETIME);
	assert_non_null(publishers);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	publishers_free(publishers);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static struct client *connect_as(const char *id, const char *username)
{
	const struct client_description description = {.number = ++last_number, .id = id, .username = username};
	struct client *client = client_new(&description, NULL);

	assert_non_null(client);
	return client;
}

static void publish(uint64_t fingerprint, const char *id, uint64_t now)
{
	publishers_add(publishers, fingerprint, connect_as(id, NULL), now);
}

/* NULL: nobody is named. */
static void comes_from(uint64_t fingerprint, const char *id, uint64_t now)
{
	struct client *client = publishers_take(publishers, &fingerprint, 1, now);

	assert_int_equal(client == NULL, id == NULL);
	if (client) {
		assert_string_equal(client_description(client)->id, id);
	}
	client_release(client);
}

static uint64_t number_of(uint64_t fingerprint, uint64_t now)
{
	struct client *client = publishers_take(publishers, &fingerprint, 1, now);
	uint64_t number;

	assert_non_null(client);
	number = client_description(client)->number;
	client_release(client);
	return number;
}

static void test_each_is_named_once(void **state)
{
	(void)state;
	comes_from(7, NULL, 0);
	publish(7, "a", 0);
	publish(8, "b", 0);
	comes_from(9, NULL, 1);
	comes_from(8, "b", 1);
	comes_from(7, "a", 1);
	comes_from(7, NULL, 1);
	comes_from(8, NULL, 1);
}

/* The same client, the same content, several times: one for each message. */
static void test_repeated_messages(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < 5; i++) {
		publish(7, "a", i);
	}
	for (i = 0; i < 5; i++) {
		/* On whichever of its connections: on the last. */
		assert_int_equal(number_of(7, 10), 5);
	}
	comes_from(7, NULL, 10);
}

/* It cannot be told which of them has come, nor which is left then: the broker releases them in an order of
 * their own. */
static void test_two_who_published_the_same(void **state)
{
	(void)state;
	publish(7, "a", 0);
	publish(7, "b", 1);
	publish(8, "b", 1);
	comes_from(7, NULL, 2);
	comes_from(8, "b", 2);
	comes_from(7, NULL, 2);
	comes_from(7, NULL, 2);
	/* When all have come, that is over. */
	publish(7, "b", 2);
	comes_from(7, "b", 2);

	publish(7, "a", 3);
	publish(7, "b", 3);
	publish(7, "b", 3);
	comes_from(7, NULL, 4);
	publish(7, "b", 4);
	comes_from(7, NULL, 4);
	comes_from(7, NULL, 4);
	comes_from(7, NULL, 4);
	publish(7, "c", 5);
	comes_from(7, "c", 5);

	/* Or when it has ended. */
	publish(7, "a", 10);
	publish(7, "b", 11);
	comes_from(7, NULL, 12);
	publish(7, "a", 20);
	comes_from(7, "a", 11 + LIFETIME);
}

static void test_the_same_identity_on_another_connection(void **state)
{
	(void)state;
	publishers_add(publishers, 7, connect_as("a", "user"), 0);
	publishers_add(publishers, 7, connect_as("a", "user"), 1);
	assert_int_equal(number_of(7, 2), 2);
	assert_int_equal(number_of(7, 2), 2);
	comes_from(7, NULL, 2);
	/* Another user of the same client id is another. */
	publishers_add(publishers, 7, connect_as("a", "user"), 3);
	publishers_add(publishers, 7, connect_as("a", "other"), 3);
	comes_from(7, NULL, 4);
	comes_from(7, NULL, 4);
	publishers_add(publishers, 7, connect_as("a", "user"), 3);
	publishers_add(publishers, 7, connect_as("a", NULL), 3);
	comes_from(7, NULL, 4);
	comes_from(7, NULL, 4);
}

static void test_entries_end(void **state)
{
	(void)state;
	publish(7, "a", 100);
	publish(8, "b", 101);
	comes_from(8, "b", 101 + LIFETIME - 1);
	publish(8, "b", 101);
	comes_from(7, NULL, 100 + LIFETIME);
	comes_from(8, "b", 100 + LIFETIME);

	/* What has ended makes nothing ambiguous. */
	publish(9, "a", 200);
	publish(9, "b", 201);
	comes_from(9, "b", 200 + LIFETIME);

	/* Nor does it stay when nothing is asked for. */
	publish(7, "a", 3000);
	publish(8, "b", 3000 + LIFETIME);
	comes_from(7, NULL, 3000 + LIFETIME);
	comes_from(8, "b", 3000 + LIFETIME);
}

/* Fingerprints that differ only where the table does not look share a chain. */
static void test_collisions_in_the_table(void **state)
{
	static const char *const ids[] = {"a", "b", "c", "d"};
	uint64_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		publish(5 | i << 40, ids[i], i);
	}
	comes_from(5 | (uint64_t)4 << 40, NULL, 5);
	comes_from(5 | (uint64_t)2 << 40, "c", 5);
	comes_from(5, "a", 5);
	comes_from(5 | (uint64_t)3 << 40, "d", 5);
	comes_from(5 | (uint64_t)1 << 40, "b", 5);
	/* What nobody is named for is not what is beside it. */
	publish(5 | (uint64_t)1 << 40, "c", 6);
	publish(5, "a", 6);
	publish(5, "b", 6);
	publish(5 | (uint64_t)2 << 40, "d", 6);
	comes_from(5, NULL, 7);
	comes_from(5 | (uint64_t)1 << 40, "c", 7);
	comes_from(5 | (uint64_t)2 << 40, "d", 7);
	comes_from(5, NULL, 7);
}

/* Whoever fills the table only makes its own oldest go. */
static void test_a_connection_has_a_bound(void **state)
{
	struct client *client = connect_as("greedy", NULL);
	uint64_t i;

	(void)state;
	publish(1, "modest", 0);
	for (i = 0; i < PUBLISHERS_PER_CLIENT + 10; i++) {
		publishers_add(publishers, 100 + i, client_hold(client), 1);
	}
	assert_int_equal(publishers_forgotten(publishers), 10);
	comes_from(100, NULL, 2);
	comes_from(109, NULL, 2);
	comes_from(110, "greedy", 2);
	comes_from(100 + PUBLISHERS_PER_CLIENT + 9, "greedy", 2);
	comes_from(1, "modest", 2);
	/* Equal ones need one place. */
	for (i = 0; i < 2 * PUBLISHERS_PER_CLIENT; i++) {
		publishers_add(publishers, 5, client_hold(client), 3);
	}
	assert_int_equal(publishers_forgotten(publishers), 10);
	for (i = 0; i < 2 * PUBLISHERS_PER_CLIENT; i++) {
		comes_from(5, "greedy", 4);
	}
	comes_from(5, NULL, 4);
	client_release(client);
}

/* Many of them together make the oldest of all go, which has waited for longer than 65,536 others. */
static void test_the_table_has_a_bound(void **state)
{
	uint64_t i, j;

	(void)state;
	publish(1, "oldest", 0);
	for (i = 0; i < PUBLISHERS_MAX / PUBLISHERS_PER_CLIENT; i++) {
		struct client *client = connect_as("a", NULL);

		for (j = 0; j < PUBLISHERS_PER_CLIENT; j++) {
			publishers_add(publishers, 100 + i * PUBLISHERS_PER_CLIENT + j, client_hold(client), 1);
		}
		client_release(client);
	}
	assert_int_equal(publishers_forgotten(publishers), 1);
	comes_from(1, NULL, 2);
	publish(1, "modest", 2);
	comes_from(100, NULL, 2);
	comes_from(101, "a", 2);
	comes_from(1, "modest", 2);
	/* What ended makes room. */
	for (i = 0; i < 100; i++) {
		publish(i + 1, "later", 2 * LIFETIME);
	}
	assert_int_equal(publishers_forgotten(publishers), 2);
	comes_from(200, NULL, 2 * LIFETIME);
	comes_from(50, "later", 2 * LIFETIME);
}

/* Equal messages that nobody releases, beside one that waits for another's: with a list of them, minutes. */
static void test_many_equal_messages(void **state)
{
	enum { MANY = 1000000 };
	struct client *client = connect_as("attacker", NULL);
	uint64_t i;

	(void)state;
	for (i = 0; i < MANY; i++) {
		publishers_add(publishers, 7, client_hold(client), 0);
	}
	publish(8, "victim", 1);
	for (i = 0; i < 1000; i++) {
		publish(7, "victim", 1);
		comes_from(7, NULL, 1);
	}
	comes_from(8, "victim", 1);
	/* Doubt ends with the last of the attacker's, also while the victim goes on. */
	publish(7, "victim", LIFETIME - 1);
	comes_from(7, NULL, LIFETIME - 1);
	comes_from(7, "victim", LIFETIME);
	client_release(client);
}

/* A copy that may be of several messages is named where all of them are one client's. */
static void test_several_that_it_may_be(void **state)
{
	static const uint64_t several[] = {7, 8, 9};
	struct client *client;
	size_t i;

	(void)state;
	assert_null(publishers_take(publishers, several, 3, 0));
	publish(8, "a", 0);
	publish(7, "a", 1);
	for (i = 0; i < 2; i++) {
		client = publishers_take(publishers, several, 3, 2);
		assert_non_null(client);
		assert_string_equal(client_description(client)->id, "a");
		client_release(client);
	}
	assert_null(publishers_take(publishers, several, 3, 2));
	/* And where not, neither this one nor what is left. */
	publish(8, "a", 3);
	publish(7, "b", 3);
	assert_null(publishers_take(publishers, several, 3, 4));
	assert_null(publishers_take(publishers, several, 3, 4));
	publish(8, "a", 5);
	comes_from(8, "a", 5);
	publish(7, "b", 5);
	comes_from(7, "b", 5);
	/* Until it ends. */
	publish(8, "a", 10);
	publish(8, "a", 10);
	publish(9, "b", 10);
	assert_null(publishers_take(publishers, several, 3, 11));
	publish(9, "b", 12);
	comes_from(9, NULL, 13);
	publish(9, "b", 14);
	comes_from(9, "b", 10 + LIFETIME);
}

/* Also those in the middle and at both ends of the list by age. */
static void test_taken_in_any_order(void **state)
{
	static const unsigned char orders[6][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const char *const ids[] = {"a", "b", "c"};
	size_t order, i;

	(void)state;
	for (order = 0; order < 6; order++) {
		for (i = 0; i < 3; i++) {
			publish(i, ids[i], order * 10);
		}
		for (i = 0; i < 3; i++) {
			comes_from(orders[order][i], ids[orders[order][i]], order * 10 + 1);
		}
	}
	publish(1, "last", 1000);
	comes_from(1, "last", 1001);
}

/* Who connects may choose a long name, with one message each. */
static void test_long_names_have_a_bound(void **state)
{
	enum { LENGTH = 65000 };
	char *id = malloc(LENGTH + 1);
	uint64_t most = PUBLISHERS_BYTES_MAX / LENGTH, i;
	struct client *client;

	(void)state;
	memset(id, 'x', LENGTH);
	id[LENGTH] = '\0';
	publish(1000000, "short", 0);
	for (i = 0; i < 2 * most; i++) {
		publish(i, id, 0);
		/* One connection's messages share what describes it. */
		client = connect_as("another", NULL);
		publishers_add(publishers, 2000000 + i, client_hold(client), 0);
		publishers_add(publishers, 3000000 + i, client, 0);
	}
	assert_true(publishers_forgotten(publishers) >= most);
	assert_true(scarce_memory_blocks() < blocks + (long)(12 * most));
	comes_from(1000000, NULL, 1);
	comes_from(0, NULL, 1);
	comes_from(2 * most - 1, id, 1);
	comes_from(3000000 + 2 * most - 1, "another", 1);
	free(id);
}

static void test_messages_share_a_long_name(void **state)
{
	char id[60001];
	struct client *client;
	uint64_t i;

	(void)state;
	memset(id, 'x', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	client = connect_as(id, NULL);
	for (i = 0; i < PUBLISHERS_PER_CLIENT; i++) {
		publishers_add(publishers, i, client_hold(client), 0);
	}
	client_release(client);
	assert_int_equal(publishers_forgotten(publishers), 0);
	comes_from(0, id, 1);
}

static void test_no_memory(void **state)
{
	struct client *client = connect_as("a", NULL);
	unsigned long n;
	bool failed = true;

	(void)state;
	scarce_memory(1, false);
	assert_null(publishers_new(LIFETIME));
	assert_true(scarce_memory_end());
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		publishers_add(publishers, 7, client_hold(client), 0);
		failed = scarce_memory_end();
		comes_from(7, failed ? NULL : "a", 1);
		comes_from(7, NULL, 1);
	}
	assert_int_equal(n, 6); /* the connection, its table, the entry, its table, none */
	/* One more of equal messages whose connection there is no memory for: whose comes is not known. */
	publish(7, "a", 2);
	scarce_memory(1, false);
	publishers_add(publishers, 7, client_hold(client), 2);
	assert_true(scarce_memory_end());
	comes_from(7, NULL, 3);
	comes_from(7, NULL, 3);
	publish(7, "a", 4);
	comes_from(7, "a", 4);
	client_release(client);
	publishers_free(NULL);
}

#define publishers_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		publishers_test(test_each_is_named_once),
		publishers_test(test_repeated_messages),
		publishers_test(test_two_who_published_the_same),
		publishers_test(test_the_same_identity_on_another_connection),
		publishers_test(test_entries_end),
		publishers_test(test_collisions_in_the_table),
		publishers_test(test_a_connection_has_a_bound),
		publishers_test(test_the_table_has_a_bound),
		publishers_test(test_long_names_have_a_bound),
		publishers_test(test_messages_share_a_long_name),
		publishers_test(test_many_equal_messages),
		publishers_test(test_several_that_it_may_be),
		publishers_test(test_taken_in_any_order),
		publishers_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
