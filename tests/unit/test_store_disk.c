/* The durable inbox on a disk that fails: tests/support/failing_disk.c is linked in. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "database_folder.h"
#include "durable/store.h"

#define PLENTY (1ULL << 30)
#define ROUNDS 60

static char control[100];

static int make_folder(void **state)
{
	(void)state;
	if (database_folder_make("inbox", "-wal")) {
		return -1;
	}
	(void)snprintf(control, sizeof control, "%s/control", folder);
	return setenv("FAILING_DISK", control, 1) + setenv("FAILING_DISK_FILES", "/inbox", 1);
}

static void heal(void)
{
	(void)unlink(control);
}

static int remove_folder(void **state)
{
	heal();
	return database_folder_remove(state);
}

static void fail_from(const char *call, int first, const char *error)
{
	FILE *out = fopen(control, "w");

	assert_non_null(out);
	assert_true(fprintf(out, "%s %d %s\n", call, first, error) > 0);
	assert_int_equal(fclose(out), 0);
}

static struct store *must_open(enum store_sync sync)
{
	struct store *store = store_open(path, sync, PLENTY, reason, sizeof reason);

	if (!store) {
		fail_msg("%s", reason);
	}
	return store;
}

/* What is to be there: of each message that was put, by its payload, whether it was acknowledged and not yet
 * handled. */
static bool expected[4 * ROUNDS + 1];
static int refusals;

static void put(struct store *store, uint32_t consumer, int number, uint64_t *ret_id)
{
	/* Some pages, so that the file grows. */
	static char payload[9000];
	const struct store_message message = {
		.content = {.topic = "t", .topic_length = 1, .payload = payload, .payload_length = sizeof payload},
		.qos = 1};
	const struct store_recipient recipient = {.consumer = consumer};
	enum store_result result;

	(void)snprintf(payload, sizeof payload, "%d", number);
	result = store_put(store, &message, &recipient, 1, ret_id);
	assert_true(result == STORE_OK || result == STORE_FAILED || result == STORE_DISK_FULL ||
			result == STORE_READ_ONLY);
	expected[number] = result == STORE_OK;
	refusals += result != STORE_OK;
	if (result != STORE_OK) {
		*ret_id = 0;
	}
}

/* Whether it is all that. was_closed: what was handled may have been forgotten to be. */
static void check(struct store *store, uint32_t consumer, bool was_closed)
{
	const bool may_come_again = was_closed || store_figures(store).given_up > 0;
	struct store_delivery delivery = {0};
	enum store_result result;
	int i, last = -1, number;

	while ((result = store_next(store, consumer, delivery.message.id, &delivery)) == STORE_OK) {
		number = atoi(delivery.message.content.payload);
		assert_true(number > last);
		for (i = last + 1; i < number; i++) {
			assert_false(expected[i]);
		}
		assert_true(expected[number] || may_come_again);
		last = number;
	}
	assert_int_equal(result, STORE_NOT_FOUND);
	for (i = last + 1; i <= 4 * ROUNDS; i++) {
		assert_false(expected[i]);
	}
}

static void work(struct store *store, uint32_t consumer, int first)
{
	uint64_t ids[ROUNDS];
	struct store_delivery delivery;
	uint32_t tries;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		put(store, consumer, first + i, &ids[i]);
		if (i % 3 == 0 && ids[i] != 0 && store_done(store, ids[i], consumer) == STORE_OK) {
			expected[first + i] = false;
		}
		if (i % 10 == 0) {
			(void)!store_tick(store);
			(void)!store_failed(store, ids[i], consumer, &tries);
			(void)!store_asked(store, consumer, i);
			(void)!store_next(store, consumer, 0, &delivery);
			(void)store_figures(store);
		}
	}
}

static void fail_in_the_middle(const char *call, int first, const char *error, enum store_sync sync)
{
	struct store *store = must_open(sync);
	uint32_t a = 0;

	memset(expected, 0, sizeof expected);
	assert_int_equal(store_consumer(store, "a", 1, &a), STORE_OK);
	work(store, a, 0);
	/* What it reads it reads from the disk. */
	store_close(store);
	store = must_open(sync);
	fail_from(call, first, error);
	work(store, a, ROUNDS);
	heal();
	check(store, a, false);
	work(store, a, 2 * ROUNDS);
	check(store, a, false);
	fail_from(call, 1, error);
	work(store, a, 3 * ROUNDS);
	store_close(store);
	heal();
	store = must_open(sync);
	check(store, a, true);
	store_close(store);
	forget_files();
}

enum { WRITE = 1, SYNC = 2 };
static const char *const CALLS[] = {"read", "write", "sync", "truncate", "allocate"};

static void test_what_is_acknowledged_is_there(void **state)
{
	size_t call;
	int first;

	(void)state;
	for (call = 0; call < sizeof CALLS / sizeof *CALLS; call++) {
		refusals = 0;
		for (first = 1; first < 300; first = 4 * first + 2) {
			fail_in_the_middle(CALLS[call], first, "EIO",
					first % 2 == 0 ? STORE_SYNC_FULL : STORE_SYNC_PROCESS);
		}
		/* Putting does not read, rarely cuts the file, and on this system does not ask for room. */
		assert_true(refusals > 20 || (call != WRITE && call != SYNC));
	}
	fail_in_the_middle("write", 50, "ENOSPC", STORE_SYNC_FULL);
	fail_in_the_middle("write", 50, "EROFS", STORE_SYNC_PROCESS);
}

/* Where the page is that says for whom the first messages are; it has room for some hundred. */
static int offset_of_first_recipients(void)
{
	unsigned char page[4096];
	sqlite3 *database;
	sqlite3_stmt *statement;
	FILE *file = fopen(path, "r");
	int root, cell;

	assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(database,
							 "SELECT rootpage FROM sqlite_master WHERE name = 'recipient'", -1, &statement,
							 NULL),
			SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	root = sqlite3_column_int(statement, 0);
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
	assert_true(file && fseek(file, (root - 1) * 4096L, SEEK_SET) == 0);
	assert_int_equal(fread(page, 1, sizeof page, file), sizeof page);
	assert_int_equal(fclose(file), 0);
	/* An inner page; the page that its first cell points to. */
	assert_int_equal(page[0], 2);
	cell = page[12] << 8 | page[13];
	return ((page[cell + 2] << 8 | page[cell + 3]) - 1) * 4096;
}

/* What is under it cannot be removed, and that is no reason to refuse what comes. */
static void test_a_bad_sector(void **state)
{
	enum { COUNT = 1000 };
	static const struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .qos = 1};
	struct store_recipient recipient = {0};
	struct store *store = must_open(STORE_SYNC_PROCESS);
	struct store_delivery delivery;
	char call[40];
	uint64_t first = 0, id = 0;
	int i;

	(void)state;
	assert_int_equal(store_consumer(store, "a", 1, &recipient.consumer), STORE_OK);
	for (i = 0; i < COUNT; i++) {
		assert_int_equal(store_put(store, &message, &recipient, 1, &id), STORE_OK);
		first = first ? first : id;
	}
	store_close(store);
	(void)snprintf(call, sizeof call, "EIO %d", offset_of_first_recipients());
	store = must_open(STORE_SYNC_PROCESS);
	fail_from("read", 1, call);
	assert_int_equal(store_next(store, recipient.consumer, 0, &delivery), STORE_FAILED);
	assert_int_equal(store_done(store, first, recipient.consumer), STORE_OK);
	assert_int_equal(store_done(store, id, recipient.consumer), STORE_OK);
	assert_int_equal(store_put(store, &message, &recipient, 1, &id), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).given_up, 1);
	assert_int_equal(store_figures(store).messages, COUNT);
	heal();
	assert_int_equal(store_next(store, recipient.consumer, 0, &delivery), STORE_OK);
	assert_int_equal(delivery.message.id, first);
	store_close(store);
	forget_files();
}

static void test_refusals(void **state)
{
	size_t call;
	int first, refused = 0;

	(void)state;
	for (call = 0; call < sizeof CALLS / sizeof *CALLS; call++) {
		for (first = 1; first < 100; first += 1 + first / 4) {
			struct store *store;

			fail_from(CALLS[call], first, "EIO");
			store = store_open(path, STORE_SYNC_FULL, PLENTY, reason, sizeof reason);
			if (!store) {
				refused++;
				assert_non_null(strstr(reason, path));
				if (!strstr(reason, "its disk fails")) {
					fail_msg("%s %d: %s", CALLS[call], first, reason);
				}
			}
			store_close(store);
			heal();
			/* What is left of that is no obstacle. */
			store_close(must_open(STORE_SYNC_FULL));
			if (first % 2 == 0) {
				forget_files();
			}
		}
	}
	assert_true(refused > 20);
	forget_files();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_acknowledged_is_there),
		cmocka_unit_test(test_a_bad_sector),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
