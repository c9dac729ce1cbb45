#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "authors.h"
#include "certificate.h"
#include "client.h"
#include "scarce_memory.h"

#define LIFETIME 1000U

static struct authors *authors;
static uint64_t last_number;
static long blocks;

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	last_number = 0;
	authors = authors_new(LIFETIME);
	assert_non_null(authors);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	authors_free(authors);
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
	authors_add(authors, fingerprint, connect_as(id, NULL), now);
}

/* NULL: nobody is named. */
static void comes_from(uint64_t fingerprint, const char *id, uint64_t now)
{
	struct client *client = authors_take(authors, fingerprint, now);

	assert_int_equal(client == NULL, id == NULL);
	if (client) {
		assert_string_equal(client_description(client)->id, id);
	}
	client_release(client);
}

static uint64_t number_of(uint64_t fingerprint, uint64_t now)
{
	struct client *client = authors_take(authors, fingerprint, now);
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
		/* In the order in which they were published. */
		assert_int_equal(number_of(7, 10), i + 1);
	}
	comes_from(7, NULL, 10);
}

/* It cannot be told which of them has come, nor which is left then: the broker releases them in an order of their
 * own. */
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
	authors_add(authors, 7, connect_as("a", "user"), 0);
	authors_add(authors, 7, connect_as("a", "user"), 1);
	assert_int_equal(number_of(7, 2), 1);
	assert_int_equal(number_of(7, 2), 2);
	/* Another user of the same client id is another. */
	authors_add(authors, 7, connect_as("a", "user"), 3);
	authors_add(authors, 7, connect_as("a", "other"), 3);
	comes_from(7, NULL, 4);
	comes_from(7, NULL, 4);
	authors_add(authors, 7, connect_as("a", "user"), 3);
	authors_add(authors, 7, connect_as("a", NULL), 3);
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

static void test_there_is_a_bound(void **state)
{
	struct client *client = connect_as("a", NULL);
	uint64_t i;

	(void)state;
	for (i = 0; i < AUTHORS_MAX; i++) {
		authors_add(authors, i, client_hold(client), 0);
	}
	publish(AUTHORS_MAX, "late", 0);
	comes_from(AUTHORS_MAX, NULL, 1);
	comes_from(0, "a", 1);
	publish(AUTHORS_MAX, "in time", 1);
	comes_from(AUTHORS_MAX, "in time", 1);
	comes_from(AUTHORS_MAX - 1, "a", 1);
	/* What ended makes room. */
	publish(AUTHORS_MAX, "later", LIFETIME + 1);
	comes_from(AUTHORS_MAX, "later", LIFETIME + 1);
	comes_from(5, NULL, LIFETIME + 1);
	client_release(client);
}

/* Also those in the middle and at both ends of the list by age. */
static void test_taken_in_any_order(void **state)
{
	static const unsigned char orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
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

static void test_no_memory(void **state)
{
	struct client *client = connect_as("a", NULL);
	unsigned long n;
	bool failed = true;

	(void)state;
	scarce_memory(1, false);
	assert_null(authors_new(LIFETIME));
	assert_true(scarce_memory_end());
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		authors_add(authors, 7, client_hold(client), 0);
		failed = scarce_memory_end();
		comes_from(7, failed ? NULL : "a", 1);
		comes_from(7, NULL, 1);
	}
	assert_int_equal(n, 4); /* the entry, the table, none */
	client_release(client);
	authors_free(NULL);
}

#define authors_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
			authors_test(test_each_is_named_once),
			authors_test(test_repeated_messages),
			authors_test(test_two_who_published_the_same),
			authors_test(test_the_same_identity_on_another_connection),
			authors_test(test_entries_end),
			authors_test(test_collisions_in_the_table),
			authors_test(test_there_is_a_bound),
			authors_test(test_taken_in_any_order),
			authors_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
