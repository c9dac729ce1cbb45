#include "cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "database_folder.h"
#include "durable/schema.h"
#include "durable/store.h"
#include "scarce_memory.h"
#include "scarce_sqlite.h"

#define PLENTY (1ULL << 30)

/* ---- what the tests are made of ---- */

static int make_folder(void **state)
{
	(void)state;
	return database_folder_make("inbox", "-wal");
}

static struct store *open_with(uint64_t limit)
{
	struct store *store = store_open(path, STORE_SYNC_PROCESS, limit, reason, sizeof reason);

	if (!store) {
		fail_msg("%s", reason);
	}
	return store;
}

static uint32_t consumer_named(struct store *store, const char *name)
{
	uint32_t number = 0;

	assert_int_equal(store_consumer(store, name, 1000, &number), STORE_OK);
	assert_int_not_equal(number, 0);
	return number;
}

static enum store_result try_put(struct store *store, const char *topic, const char *payload,
		uint32_t consumer, uint64_t *ret_id)
{
	const struct store_message message = {.content = {.topic = topic,
											  .topic_length = strlen(topic),
											  .payload = payload,
											  .payload_length = strlen(payload)},
		.time = 1,
		.qos = 1};
	const struct store_recipient recipient = {.consumer = consumer};

	return store_put(store, &message, &recipient, 1, ret_id);
}

static uint64_t put(struct store *store, const char *payload, uint32_t consumer)
{
	uint64_t id = 0;

	assert_int_equal(try_put(store, "a/b", payload, consumer, &id), STORE_OK);
	return id;
}

static void assert_next(struct store *store, uint32_t consumer, uint64_t *after, const char *payload)
{
	struct store_delivery delivery;

	assert_int_equal(store_next(store, consumer, *after, &delivery), STORE_OK);
	assert_true(delivery.message.id > *after);
	assert_int_equal(delivery.message.content.payload_length, strlen(payload));
	assert_memory_equal(delivery.message.content.payload, payload, strlen(payload));
	*after = delivery.message.id;
}

static void assert_no_more(struct store *store, uint32_t consumer, uint64_t after)
{
	struct store_delivery delivery;

	assert_int_equal(store_next(store, consumer, after, &delivery), STORE_NOT_FOUND);
}

static uint64_t count_of(struct store *store, uint32_t consumer)
{
	struct store_delivery delivery = {0};
	enum store_result result;
	uint64_t count = 0;

	while ((result = store_next(store, consumer, delivery.message.id, &delivery)) == STORE_OK) {
		count++;
	}
	assert_int_equal(result, STORE_NOT_FOUND);
	return count;
}

/* SQLite's own look at the file, which no store has open. */
static void assert_file_is_whole(void)
{
	sqlite3 *database;
	sqlite3_stmt *statement;

	assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(database, "PRAGMA integrity_check", -1, &statement, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	assert_int_equal(
			sqlite3_prepare_v2(database,
					"SELECT (SELECT count(*) FROM message WHERE id NOT IN (SELECT message FROM recipient)) + "
					"(SELECT count(*) FROM recipient WHERE message NOT IN (SELECT id FROM message)) + "
					"(SELECT count(*) FROM several WHERE message NOT IN (SELECT id FROM message)) + "
					"(SELECT count(*) FROM several WHERE rest <> (SELECT count(*) FROM recipient WHERE message = "
					"several.message))",
					-1, &statement, NULL),
			SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	assert_int_equal(sqlite3_column_int(statement, 0), 0);
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
}

/* What waits for its only consumer is so much, now and after a start, and the file is whole. Closes the store
 * and removes its files. */
static void assert_lasting(struct store *store, uint32_t consumer, uint64_t expected)
{
	assert_int_equal(count_of(store, consumer), expected);
	assert_int_equal(store_figures(store).messages, expected);
	store_close(store);
	assert_file_is_whole();
	store = open_with(PLENTY);
	assert_int_equal(store_figures(store).messages, expected);
	store_close(store);
	forget_files();
}

/* ---- the tests ---- */

static void test_what_is_put_comes_back(void **state)
{
	static const char payload[] = {'a', 0, 'b', (char)0xff}, properties[] = {1, 1}, publisher[] = {0, 9};
	struct store_message message = {.content = {.topic = "t\xc3\xa4/1",
										.topic_length = 5,
										.payload = payload,
										.payload_length = sizeof payload,
										.properties = properties,
										.properties_length = sizeof properties},
		.publisher = publisher,
		.publisher_length = sizeof publisher,
		.time = 1700000000123,
		.qos = 2,
		.retain = true};
	const struct store_recipient recipient = {.consumer = 1, .identifier = 268435455, .options = 0x2d};
	struct store *store = open_with(PLENTY);
	struct store_delivery delivery;
	uint64_t id = 0, second = 0;
	struct stat status;

	(void)state;
	assert_int_equal(consumer_named(store, "master"), 1);
	assert_int_equal(store_put(store, &message, &recipient, 1, &id), STORE_OK);
	assert_int_equal(store_next(store, 1, 0, &delivery), STORE_OK);
	assert_int_equal(delivery.message.id, id);
	assert_string_equal(delivery.message.content.topic, message.content.topic);
	assert_int_equal(delivery.message.content.topic_length, 5);
	assert_int_equal(delivery.message.content.payload_length, sizeof payload);
	assert_memory_equal(delivery.message.content.payload, payload, sizeof payload);
	assert_int_equal(delivery.message.content.properties_length, sizeof properties);
	assert_memory_equal(delivery.message.content.properties, properties, sizeof properties);
	assert_int_equal(delivery.message.publisher_length, sizeof publisher);
	assert_memory_equal(delivery.message.publisher, publisher, sizeof publisher);
	assert_true(delivery.message.time == message.time && delivery.message.qos == 2 &&
			delivery.message.retain);
	assert_int_equal(delivery.recipient.consumer, 1);
	assert_int_equal(delivery.recipient.identifier, 268435455);
	assert_int_equal(delivery.recipient.options, 0x2d);
	assert_int_equal(delivery.tries, 0);

	/* Nothing but a topic. */
	message = (struct store_message){.content = {.topic = "t", .topic_length = 1}, .qos = 1};
	assert_int_equal(store_put(store, &message, &recipient, 1, &second), STORE_OK);
	assert_true(second > id);
	assert_int_equal(store_next(store, 1, id, &delivery), STORE_OK);
	assert_int_equal(delivery.message.content.payload_length + delivery.message.content.properties_length +
					delivery.message.publisher_length,
			0);
	assert_null(delivery.message.publisher);
	assert_no_more(store, 1, second);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(stat(beside_path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	store_close(store);
	store_close(NULL);
	assert_file_is_whole();
	forget_files();
}

static void test_the_last_takes_it_away(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "master"), b = consumer_named(store, "worker x app.Consumer"),
				   c = consumer_named(store, "worker y app.Consumer");
	const struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .time = 7, .qos = 1};
	const struct store_recipient recipients[] = {{.consumer = a}, {.consumer = b}, {.consumer = c}};
	uint64_t first = 0, second = 0;

	(void)state;
	assert_int_equal(store_put(store, &message, recipients, 3, &first), STORE_OK);
	assert_int_equal(store_put(store, &message, recipients, 2, &second), STORE_OK);
	assert_int_equal(store_figures(store).messages, 2);
	assert_int_equal(store_figures(store).bytes,
			store_message_size(&message, 3) + store_message_size(&message, 2));
	assert_int_equal(store_figures(store).oldest, 7);
	assert_int_equal(store_done(store, first, b), STORE_OK);
	assert_int_equal(store_done(store, first, b), STORE_OK);
	assert_int_equal(store_done(store, first, 4711), STORE_OK);
	assert_int_equal(store_done(store, 4711, a), STORE_OK);
	/* It is not carried out yet, and yet does not come again. */
	assert_int_equal(count_of(store, b), 1);
	assert_int_equal(store_done(store, first, a), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).messages, 2);
	assert_int_equal(store_done(store, first, c), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).messages, 1);
	assert_int_equal(store_figures(store).bytes, store_message_size(&message, 2));
	assert_int_equal(store_done(store, second, a), STORE_OK);
	assert_int_equal(store_done(store, second, b), STORE_OK);
	/* Closing carries out what waits. */
	store_close(store);
	assert_file_is_whole();
	store = open_with(PLENTY);
	assert_int_equal(store_figures(store).messages, 0);
	assert_int_equal(store_figures(store).bytes, 0);
	assert_int_equal(store_figures(store).oldest, 0);
	store_close(store);
	forget_files();
}

static void test_reading_goes_on_between_changes(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a"), b = consumer_named(store, "b");
	uint64_t after = 0, id;

	(void)state;
	put(store, "1", a);
	put(store, "other", b);
	put(store, "2", a);
	assert_next(store, a, &after, "1");
	put(store, "3", a);
	assert_int_equal(store_done(store, after, a), STORE_OK);
	assert_next(store, a, &after, "2");
	assert_int_equal(store_tick(store), STORE_OK);
	id = put(store, "4", a);
	assert_int_equal(store_done(store, id, a), STORE_OK);
	assert_next(store, a, &after, "3");
	assert_no_more(store, a, after);
	after = 0;
	assert_next(store, b, &after, "other");
	store_close(store);
	store = open_with(PLENTY);
	assert_int_equal(consumer_named(store, "b"), b);
	assert_int_equal(consumer_named(store, "a"), a);
	after = 0;
	assert_next(store, a, &after, "2");
	assert_next(store, a, &after, "3");
	assert_no_more(store, a, after);
	/* What comes now is newer. */
	put(store, "5", a);
	assert_next(store, a, &after, "5");
	store_close(store);
	forget_files();
}

static void test_the_oldest(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .qos = 1};
	const struct store_recipient recipient = {.consumer = a};
	uint64_t ids[4] = {0};
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		message.time = 10 + i;
		assert_int_equal(store_put(store, &message, &recipient, 1, &ids[i]), STORE_OK);
		assert_int_equal(store_figures(store).oldest, 10);
	}
	assert_int_equal(store_done(store, ids[1], a), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).oldest, 10);
	assert_int_equal(store_done(store, ids[0], a), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).oldest, 12);
	store_close(store);
	forget_files();
}

static void test_many_removals(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	uint64_t ids[2000];
	size_t i;

	(void)state;
	for (i = 0; i < 2000; i++) {
		ids[i] = put(store, "x", a);
	}
	for (i = 0; i < 1999; i++) {
		assert_int_equal(store_done(store, ids[i], a), STORE_OK);
	}
	/* No more than a portion ever waits. */
	assert_in_range(store_figures(store).messages, 1, 513);
	put(store, "x", a);
	assert_int_equal(store_figures(store).messages, 2);
	store_close(store);
	assert_file_is_whole();
	forget_files();
}

static void test_tries(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a"), b = consumer_named(store, "b");
	const struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .qos = 1};
	const struct store_recipient recipients[] = {{.consumer = a}, {.consumer = b}};
	struct store_delivery delivery;
	uint32_t tries = 0;
	uint64_t id = 0;

	(void)state;
	assert_int_equal(store_put(store, &message, recipients, 2, &id), STORE_OK);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_OK);
	assert_int_equal(tries, 1);
	store_close(store);
	store = open_with(PLENTY);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_OK);
	assert_int_equal(tries, 2);
	assert_int_equal(store_next(store, a, 0, &delivery), STORE_OK);
	assert_int_equal(delivery.tries, 2);
	assert_int_equal(store_next(store, b, 0, &delivery), STORE_OK);
	assert_int_equal(delivery.tries, 0);
	assert_int_equal(store_done(store, id, a), STORE_OK);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_NOT_FOUND);
	assert_int_equal(store_failed(store, id + 1, b, &tries), STORE_NOT_FOUND);
	assert_int_equal(store_failed(store, id, b, &tries), STORE_OK);
	assert_int_equal(tries, 1);
	assert_no_more(store, a, 0);
	store_close(store);
	forget_files();
}

static void test_the_limit(void **state)
{
	const struct store_message message = {
		.content = {.topic = "a/b", .topic_length = 3, .payload = "0123456789", .payload_length = 10}};
	const uint64_t each = store_message_size(&message, 1);
	struct store *store = open_with(3 * each);
	const uint32_t a = consumer_named(store, "a");
	uint64_t first, id = 0;

	(void)state;
	first = put(store, "0123456789", a);
	put(store, "0123456789", a);
	put(store, "0123456789", a);
	assert_int_equal(try_put(store, "a/b", "", a, &id), STORE_FULL);
	assert_int_equal(store_figures(store).messages, 3);
	assert_int_equal(store_done(store, first, a), STORE_OK);
	/* The removal that waits makes room. */
	put(store, "0123456789", a);
	assert_int_equal(try_put(store, "a/b", "0", a, &id), STORE_FULL);
	store_set_limit(store, 4 * each);
	put(store, "0123456789", a);
	store_set_limit(store, each);
	assert_int_equal(try_put(store, "a/b", "0", a, &id), STORE_FULL);
	assert_int_equal(store_figures(store).messages, 4);
	store_set_limit(store, 0);
	assert_int_equal(try_put(store, "a/b", "0", a, &id), STORE_FULL);
	store_close(store);
	store = open_with(4 * each);
	assert_int_equal(store_figures(store).bytes, 4 * each);
	assert_int_equal(try_put(store, "a/b", "0", a, &id), STORE_FULL);
	assert_int_equal(count_of(store, a), 4);
	store_close(store);
	forget_files();
}

static char taken[1000];
static int to_take;

static bool take(void *userdata, const char *consumer, const struct store_delivery *delivery)
{
	assert_ptr_equal(userdata, taken);
	if (to_take-- == 0) {
		return false;
	}
	(void)sprintf(taken + strlen(taken), "%s:%.*s(%u) ", consumer,
			(int)delivery->message.content.payload_length, (const char *)delivery->message.content.payload,
			delivery->tries);
	return true;
}

static const char *expire(struct store *store, int64_t before, size_t at_most, int take_at_most,
		size_t expected)
{
	size_t count = 99;

	*taken = '\0';
	to_take = take_at_most;
	assert_int_equal(store_expire(store, before, at_most, take, taken, &count), STORE_OK);
	assert_int_equal(count, expected);
	return taken;
}

static void test_what_nobody_asks_for_expires(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a"), b = consumer_named(store, "b"),
				   c = consumer_named(store, "c");
	uint32_t tries, again;
	uint64_t id;

	(void)state;
	put(store, "1", a);
	id = put(store, "2", a);
	put(store, "3", c);
	put(store, "4", b);
	put(store, "5", a);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_OK);
	assert_int_equal(store_asked(store, b, 2000), STORE_OK);
	assert_int_equal(store_asked(store, 4711, 2000), STORE_NOT_FOUND);
	assert_string_equal(expire(store, 1000, 10, 10, 0), "");
	assert_string_equal(expire(store, 2000, 10, 0, 0), "");
	assert_string_equal(expire(store, 2000, 2, 10, 2), "a:1(0) a:2(1) ");
	assert_string_equal(expire(store, 2000, 10, 1, 1), "a:5(0) ");
	assert_string_equal(expire(store, 2000, 10, 10, 1), "c:3(0) ");
	assert_string_equal(expire(store, 2000, 10, 10, 0), "");
	assert_int_equal(store_figures(store).messages, 1);
	assert_int_equal(store_asked(store, a, 2000), STORE_NOT_FOUND);
	assert_int_equal(store_asked(store, b, 2000), STORE_OK);
	/* No other gets a number that somebody may still use. */
	assert_int_equal(store_consumer(store, "a", 3000, &again), STORE_OK);
	assert_true(again > c);
	store_close(store);
	assert_file_is_whole();
	forget_files();
}

/* ---- crashes ---- */

/* Puts and removes until it is killed, and tells each when it is acknowledged: its number, or less than zero
 * for one that is to be removed. Numbers rise by one. */
static void work_until_killed(int out)
{
	struct store *store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
	char payload[2000];
	uint32_t consumer;
	uint64_t id;
	int i;

	if (!store || store_consumer(store, "a", 1000, &consumer) != STORE_OK) {
		_exit(1);
	}
	for (i = 1;; i++) {
		int gone = -i;

		(void)snprintf(payload, sizeof payload, "%d %*s", i, i * 37 % 1900, "");
		if (try_put(store, "a/b", payload, consumer, &id) != STORE_OK ||
				write(out, &i, sizeof i) != sizeof i) {
			_exit(1);
		}
		if (i % 3 == 0 &&
				(write(out, &gone, sizeof gone) != sizeof gone ||
						store_done(store, id, consumer) != STORE_OK)) {
			_exit(1);
		}
		if (i % 7 == 0 && store_tick(store) != STORE_OK) {
			_exit(1);
		}
	}
}

/* Kills it after so many bytes of what it tells, and then reads the rest. Returns the last number; is_gone
 * has room for those below size. */
static int kill_after(int bytes, bool *is_gone, int size)
{
	int pipes[2], status, number, last = 0, got = 0;
	pid_t child;

	assert_int_equal(pipe(pipes), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)close(pipes[0]);
		work_until_killed(pipes[1]);
	}
	(void)close(pipes[1]);
	while (read(pipes[0], &number, sizeof number) == sizeof number) {
		got += (int)sizeof number;
		if (got >= bytes) {
			(void)kill(child, SIGKILL);
		}
		assert_true(abs(number) < size);
		if (number > 0) {
			last = number;
		} else {
			is_gone[-number] = true;
		}
	}
	(void)close(pipes[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	return last;
}

static void test_a_killed_process_loses_nothing(void **state)
{
	enum { SIZE = 200000 };
	bool *is_gone = calloc(SIZE, sizeof(*is_gone));
	int round;

	(void)state;
	assert_non_null(is_gone);
	for (round = 0; round < 20; round++) {
		struct store_delivery delivery = {0};
		struct store *store;
		int last, expected = 1;
		uint64_t count = 0;

		memset(is_gone, 0, SIZE);
		last = kill_after(1 + round * round * 97, is_gone, SIZE);
		store = open_with(PLENTY);
		while (store_next(store, consumer_named(store, "a"), delivery.message.id, &delivery) == STORE_OK) {
			int number = atoi(delivery.message.content.payload);

			/* What is missing was to go. One more may be there than it could tell. */
			for (; expected < number; expected++) {
				assert_true(is_gone[expected]);
			}
			assert_int_equal(number, expected++);
			assert_true(number <= last + 1);
			count++;
		}
		for (; expected <= last; expected++) {
			assert_true(is_gone[expected]);
		}
		assert_int_equal(store_figures(store).messages, count);
		store_close(store);
		assert_file_is_whole();
		forget_files();
	}
	free(is_gone);
}

/* For so many consumers that it goes into the database at once, beside the first not of any name. */
static enum store_result put_in_database(struct store *store, const char *payload, uint32_t consumer)
{
	const struct store_message message = {
		.content = {.topic = "a/b", .topic_length = 3, .payload = payload, .payload_length = strlen(payload)},
		.time = 1,
		.qos = 1};
	struct store_recipient recipients[9];
	uint64_t id;
	uint32_t i;

	for (i = 0; i < 9; i++) {
		recipients[i] = (struct store_recipient){.consumer = consumer + i};
	}
	return store_put(store, &message, recipients, 9, &id);
}

/* Leaves the files of a process that put so many into the database and died. */
static void put_and_die(int count, const char *payload)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		/* valgrind is not to miss it. */
		static struct store *store;
		uint32_t consumer;

		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		if (!store || store_consumer(store, "a", 1000, &consumer) != STORE_OK) {
			_exit(1);
		}
		while (count-- > 0) {
			if (put_in_database(store, payload, consumer) != STORE_OK) {
				_exit(1);
			}
		}
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_a_torn_log_keeps_what_is_whole(void **state)
{
	size_t size, log_size, cut;
	char *file, *log;
	uint64_t last = 40;

	(void)state;
	put_and_die(40, "some words");
	(void)unlink(newest_path);
	file = read_file(path, &size);
	log = read_file(beside_path, &log_size);
	assert_true(log_size > 40 * 4096);
	for (cut = log_size; cut > 3000; cut -= cut > 16000 ? 1500 : 999) {
		struct store *store;
		uint64_t count;

		write_file(path, file, size);
		write_file(beside_path, log, cut);
		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		if (!store) {
			fail_msg("%zu: %s", cut, reason);
		}
		count = store_figures(store).messages;
		assert_true(count <= last);
		last = count;
		assert_int_equal(count_of(store, consumer_named(store, "a")), count);
		put(store, "more", 1);
		assert_int_equal(store_figures(store).messages, count + 1);
		store_close(store);
		assert_file_is_whole();
	}
	assert_int_equal(last, 0);
	free(file);
	free(log);
	forget_files();
}

/* ---- what has just come ---- */

static bool count_only(void *userdata, const char *consumer, const struct store_delivery *delivery)
{
	(void)userdata;
	(void)consumer;
	return delivery->message.id != 0;
}

/* A process that puts so many, handles every third, and is killed. */
static void put_and_be_killed(int count)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct store *store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		char payload[100];
		uint32_t consumer;
		uint64_t id;
		int i;

		if (!store || store_consumer(store, "a", 1000, &consumer) != STORE_OK) {
			_exit(1);
		}
		for (i = 1; i <= count; i++) {
			(void)snprintf(payload, sizeof payload, "number %d %*s", i, i % 50, "");
			if (try_put(store, "a/b", payload, consumer, &id) != STORE_OK ||
					(i % 3 == 0 && store_done(store, id, consumer) != STORE_OK)) {
				_exit(1);
			}
		}
		(void)raise(SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
}

/* Two of three, each once, the last perhaps although it was handled. */
static void assert_two_of_three(int count)
{
	struct store *store = open_with(PLENTY);
	struct store_delivery delivery = {0};
	int i = 0, number;

	while (store_next(store, 1, delivery.message.id, &delivery) == STORE_OK) {
		number = atoi((const char *)delivery.message.content.payload + sizeof "number");
		i += (i + 1) % 3 == 0 && number != i + 1 ? 2 : 1;
		assert_int_equal(number, i);
	}
	assert_in_range(i, count - 1, count);
	assert_int_equal(store_figures(store).messages, count_of(store, 1));
	store_close(store);
	assert_file_is_whole();
	assert_int_equal(size_of(newest_path), -1);
}

static void test_it_may_be_killed_while_it_recovers(void **state)
{
	enum { COUNT = 3000 };
	int round, status, unfinished = 0;

	(void)state;
	for (round = 0; round < 12; round++) {
		int again;

		put_and_be_killed(COUNT);
		assert_true(size_of(newest_path) > 0);
		for (again = 0; again < 5; again++) {
			pid_t child = fork();

			assert_true(child >= 0);
			if (child == 0) {
				_exit(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason) ? 0 : 1);
			}
			(void)usleep((useconds_t)(500 + 700 * round + 500 * again));
			(void)kill(child, SIGKILL);
			assert_int_equal(waitpid(child, &status, 0), child);
			assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
			unfinished += WIFSIGNALED(status);
		}
		assert_two_of_three(COUNT);
		forget_files();
	}
	assert_true(unfinished > 0);
}

static void test_both_are_one(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a"), b = consumer_named(store, "b");
	struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .time = 5, .qos = 1};
	const struct store_recipient both[] = {{.consumer = a, .options = 1}, {.consumer = b, .options = 2}};
	char *large = calloc(1, 100001);
	struct store_delivery delivery;
	uint64_t after = 0, last = 0;
	uint32_t tries;
	int i;

	(void)state;
	assert_non_null(large);
	memset(large, 'y', 100000);
	for (i = 0; i < 10; i++) {
		last = put(store, i % 2 ? large : "small", a);
	}
	for (i = 0; i < 10; i++) {
		assert_next(store, a, &after, i % 2 ? large : "small");
	}
	assert_no_more(store, a, after);
	/* What failed keeps its place, and the others theirs. */
	assert_int_equal(store_put(store, &message, both, 2, &last), STORE_OK);
	put(store, "behind", a);
	assert_int_equal(store_failed(store, last, b, &tries), STORE_OK);
	assert_int_equal(tries, 1);
	assert_int_equal(store_next(store, b, 0, &delivery), STORE_OK);
	assert_int_equal(delivery.message.id, last);
	assert_int_equal(delivery.tries, 1);
	assert_int_equal(delivery.recipient.options, 2);
	assert_next(store, a, &after, "");
	assert_next(store, a, &after, "behind");
	assert_int_equal(store_done(store, last, a), STORE_OK);
	assert_int_equal(store_done(store, last, b), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).messages, 11);
	for (i = 0; i < 12; i++) {
		assert_int_equal(store_tick(store), STORE_OK);
	}
	assert_int_equal(store_figures(store).messages, 11);
	assert_int_equal(count_of(store, a), 11);
	/* With an id that is below what there is. */
	message.id = last + 1000;
	message.time = 9;
	assert_int_equal(store_put(store, &message, both + 1, 1, &last), STORE_OK);
	message.id = last - 10;
	message.time = 8;
	assert_int_equal(store_put(store, &message, both + 1, 1, &last), STORE_OK);
	after = 0;
	assert_next(store, b, &after, "");
	assert_int_equal(after, last);
	assert_next(store, b, &after, "");
	assert_int_equal(after, last + 10);
	store_close(store);
	assert_int_equal(size_of(newest_path), -1);
	assert_file_is_whole();
	free(large);
	forget_files();
}

static void test_damage_to_what_came_last(void **state)
{
	unsigned char *bytes;
	struct store *store;
	size_t size;

	(void)state;
	put_and_be_killed(30);
	bytes = (unsigned char *)read_file(newest_path, &size);
	((char *)memmem(bytes, size, "number 4 ", 9))[0] = '?';
	write_file(newest_path, bytes, size);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "damaged at byte"));
	assert_non_null(strstr(reason, "What is whole of it is in the inbox now. Move it away"));
	/* Nor at the next try. */
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "damaged at byte"));
	assert_int_equal(unlink(newest_path), 0);
	store = open_with(PLENTY);
	/* What was done just before is said in the same place, and the last is not said at all. */
	assert_int_equal(store_figures(store).messages, 30 - 1 - 10 + 1 + 1);
	assert_int_equal(count_of(store, 1), store_figures(store).messages);
	store_close(store);
	memset(bytes, 'x', 30);
	write_file(newest_path, bytes, size);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "which is damaged, or another inbox's or program's."));
	(void)unlink(path);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "empty or missing"));
	free(bytes);
	forget_files();
}

/* One that belongs to another inbox, or to one of the same name that is gone, is not taken for this one's. */
static void test_the_journal_of_another(void **state)
{
	struct store *store;
	unsigned char *bytes;
	size_t size;

	(void)state;
	put_and_be_killed(30);
	bytes = (unsigned char *)read_file(newest_path, &size);
	forget_files();
	put_and_be_killed(20);
	write_file(newest_path, bytes, size);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "another inbox's"));
	assert_int_equal(unlink(path), 0);
	(void)unlink(beside_path);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "empty or missing"));
	assert_int_equal(unlink(newest_path), 0);
	(void)unlink(path);
	store = open_with(PLENTY);
	assert_int_equal(store_figures(store).messages, 0);
	store_close(store);
	free(bytes);
	forget_files();
}

/* A consumer that is forgotten is not brought back by what it had. */
static void test_a_start_brings_nothing_of_the_forgotten(void **state)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	unsigned char *bytes, *file, *log;
	size_t count, size, file_size, log_size;

	(void)state;
	put(store, "x", a);
	assert_int_equal(store_expire(store, 2000, 100, count_only, NULL, &count), STORE_OK);
	assert_int_equal(count, 1);
	bytes = (unsigned char *)read_file(newest_path, &size);
	file = (unsigned char *)read_file(path, &file_size);
	log = (unsigned char *)read_file(beside_path, &log_size);
	store_close(store);
	write_file(path, file, file_size);
	write_file(beside_path, log, log_size);
	write_file(newest_path, bytes, size);
	store = open_with(PLENTY);
	assert_int_equal(store_figures(store).messages, 0);
	store_close(store);
	free(bytes);
	free(file);
	free(log);
	forget_files();
}

static void any(enum store_result result)
{
	assert_true(result <= STORE_FAILED);
}

/* Whatever is in the file, it is a refusal or a result. */
static void use_damaged(void)
{
	struct store *store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
	struct store_delivery delivery = {0};
	uint32_t consumer, tries;
	size_t count;
	uint64_t id;
	int i;

	if (!store) {
		assert_non_null(strstr(reason, path));
		return;
	}
	if (store_consumer(store, "a", 1, &consumer) == STORE_OK) {
		any(try_put(store, "a/b", "new", consumer, &id));
		for (i = 0; i < 3000 && store_next(store, consumer, delivery.message.id, &delivery) == STORE_OK;
				i++) {
			assert_int_equal(strlen(delivery.message.content.topic), delivery.message.content.topic_length);
			id = delivery.message.id;
			any(store_failed(store, id, consumer, &tries));
			any(store_done(store, id, consumer));
		}
	}
	any(store_tick(store));
	(void)store_figures(store);
	to_take = 0;
	any(store_expire(store, 10, 10, take, taken, &count));
	store_close(store);
}

static void test_damage(void **state)
{
	unsigned int seed = 1;
	size_t size, i;
	char *file;
	int round;

	(void)state;
	put_and_die(300, "0123456789012345678901234567890123456789");
	store_close(open_with(PLENTY));
	file = read_file(path, &size);
	for (round = 0; round < 300; round++) {
		char *damaged = malloc(size);

		assert_non_null(damaged);
		memcpy(damaged, file, size);
		for (i = 0; i < 1 + (size_t)round % 40; i++) {
			damaged[(size_t)rand_r(&seed) % (round % 3 == 0 ? 4096 : size)] = (char)rand_r(&seed);
		}
		write_file(path, damaged, size);
		(void)unlink(beside_path);
		use_damaged();
		free(damaged);
	}
	/* What is behind its pages is kept for more. */
	size = 4096 * ((size_t)(unsigned char)file[30] << 8 | (unsigned char)file[31]);
	for (i = 1; i < size; i += 1777) {
		struct store *store;

		write_file(path, file, i);
		(void)unlink(beside_path);
		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		if (store || !strstr(reason, "damaged")) {
			fail_msg("%zu of %zu bytes: %s", i, size, store ? "opened" : reason);
		}
	}
	free(file);
	forget_files();
}

/* A file that was cut while its log was there opens only if the log has what is missing. */
static void test_a_cut_file_with_a_log(void **state)
{
	enum { COUNT = 700 };
	size_t size, log_size, cut;
	char *file, *log;
	int opened = 0, refused = 0;

	(void)state;
	put_and_die(COUNT, "0123456789012345678901234567890123456789");
	(void)unlink(newest_path);
	file = read_file(path, &size);
	log = read_file(beside_path, &log_size);
	for (cut = 0; cut < size; cut += cut < 8192 ? 1024 : 4096) {
		struct store *store;

		write_file(path, file, cut);
		write_file(beside_path, log, log_size);
		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		if (store) {
			opened++;
			assert_int_equal(count_of(store, consumer_named(store, "a")), COUNT);
			store_close(store);
			assert_file_is_whole();
			continue;
		}
		refused++;
		assert_non_null(strstr(reason, "damaged"));
		/* It is no other at the next try. */
		assert_int_equal(size_of(beside_path), log_size);
		assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
		assert_non_null(strstr(reason, "damaged"));
	}
	assert_true(opened > 0 && refused > 10);
	(void)unlink(path);
	write_file(beside_path, log, log_size);
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "empty or missing"));
	assert_int_equal(size_of(path), -1);
	free(file);
	free(log);
	forget_files();
}

static void change_file(const char *sql)
{
	sqlite3 *database;

	assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
}

/* The rest of the payload that has the words is nowhere. */
static void damage_page_with(const char *words)
{
	size_t size;
	char *file = read_file(path, &size), *found = memmem(file, size, words, strlen(words));

	assert_non_null(found);
	memset(file + (found - file) / 4096 * 4096, 77, 4);
	write_file(path, file, size);
	free(file);
}

/* Opens one with ten messages of some pages each, of which one is damaged where only reading it shows that.
 */
static struct store *open_with_damage(uint64_t ids[10], const char *damaged)
{
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	char payload[20001];
	int i;

	for (i = 0; i < 10; i++) {
		(void)snprintf(payload, sizeof payload, "%10000snumber %d %9990s", "", i, "");
		ids[i] = put(store, payload, a);
	}
	store_close(store);
	damage_page_with(damaged);
	return open_with(PLENTY);
}

/* Of the table that says which message is for whom: nothing of it is a page of any kind. */
static void damage_first_recipients(void)
{
	unsigned char *file, *root, *cell;
	sqlite3 *database;
	sqlite3_stmt *statement;
	size_t size;

	assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(database,
							 "SELECT rootpage FROM sqlite_master WHERE name = 'recipient'", -1, &statement,
							 NULL),
			SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	file = (unsigned char *)read_file(path, &size);
	root = file + (sqlite3_column_int(statement, 0) - 1) * 4096;
	assert_int_equal(root[0], 2);
	cell = root + (root[12] << 8 | root[13]);
	memset(file + ((cell[2] << 8 | cell[3]) - 1) * 4096, 77, 4096);
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
	write_file(path, file, size);
	free(file);
}

static void test_damage_under_removals(void **state)
{
	enum { COUNT = 2000, DAMAGED = 100 };
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	struct store_delivery delivery = {0};
	uint64_t first = 0, id;
	uint32_t tries;
	int i;

	(void)state;
	for (i = 0; i < COUNT; i++) {
		id = put(store, "x", a);
		first = first ? first : id;
	}
	store_close(store);
	damage_first_recipients();
	store = open_with(PLENTY);
	for (i = 0; i < DAMAGED; i++) {
		assert_int_equal(store_done(store, first + (uint64_t)i, a), STORE_OK);
	}
	assert_int_equal(store_done(store, id, a), STORE_OK);
	id = put(store, "new", a);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_OK);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).given_up, DAMAGED);
	assert_int_equal(store_figures(store).messages, COUNT);
	assert_int_equal(store_done(store, first, a), STORE_OK);
	assert_int_equal(store_failed(store, id, a, &tries), STORE_OK);
	assert_int_equal(tries, 2);
	assert_int_equal(store_figures(store).given_up, DAMAGED + 1);
	/* Nobody knows which message it would be. */
	assert_int_equal(store_next(store, a, 0, &delivery), STORE_CORRUPT);
	assert_int_equal(delivery.message.id, 0);
	store_close(store);
	forget_files();
}

static void test_damage_is_read_over(void **state)
{
	uint64_t ids[10];
	struct store *store = open_with_damage(ids, "number 4 ");
	const uint32_t a = consumer_named(store, "a");
	struct store_delivery delivery = {0};
	enum store_result result;
	int read = 0, unreadable = 0;
	size_t count;

	(void)state;
	while ((result = store_next(store, a, delivery.message.id, &delivery)) != STORE_NOT_FOUND) {
		assert_int_equal(delivery.message.id, ids[read + unreadable]);
		if (result == STORE_OK) {
			read++;
		} else {
			assert_int_equal(result, STORE_CORRUPT);
			assert_int_equal(delivery.message.id, ids[4]);
			unreadable++;
		}
	}
	assert_int_equal(read, 9);
	assert_int_equal(unreadable, 1);
	assert_int_equal(store_expire(store, 2000, 100, count_only, NULL, &count), STORE_OK);
	assert_int_equal(count, 10);
	assert_int_equal(store_figures(store).messages, 0);
	assert_int_equal(store_figures(store).given_up, 1);
	store_close(store);
	forget_files();
}

static void test_what_no_message_can_be(void **state)
{
	static const char *const changes[] = {"qos = 0", "qos = 3", "qos = 'x'", "topic = ''", "topic = 'a/#'",
		"topic = x'610062'", "topic = printf('%65536s', 'x')", "qos = 4294967297"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct store *store = open_with(PLENTY);
		const uint32_t a = consumer_named(store, "a");
		struct store_delivery delivery;
		uint64_t after, id = put(store, "1", a);
		char sql[200];
		size_t count;

		put(store, "2", a);
		store_close(store);
		(void)snprintf(sql, sizeof sql, "UPDATE message SET %s WHERE id = %llu", changes[i],
				(unsigned long long)id);
		change_file(sql);
		store = open_with(PLENTY);
		assert_int_equal(store_next(store, a, 0, &delivery), STORE_CORRUPT);
		after = delivery.message.id;
		assert_int_equal(after, id);
		assert_next(store, a, &after, "2");
		/* Nobody is given it, and it is gone with the others. */
		*taken = '\0';
		to_take = 10;
		assert_int_equal(store_expire(store, 2000, 100, take, taken, &count), STORE_OK);
		assert_string_equal(taken, "a:2(0) ");
		assert_int_equal(count, 2);
		assert_int_equal(store_figures(store).messages, 0);
		assert_int_equal(store_figures(store).given_up, 1);
		store_close(store);
		assert_file_is_whole();
		forget_files();
	}
}

static void test_ids_rise_from_start_to_start(void **state)
{
	struct store *store;
	uint64_t last = 0, id;
	int i, j;

	(void)state;
	for (i = 0; i < 5; i++) {
		store = open_with(PLENTY);
		for (j = 0; j < 10; j++) {
			const uint32_t a = consumer_named(store, "a");

			id = put(store, "x", a);
			assert_true(id > last);
			last = id;
			assert_int_equal(store_done(store, id, a), STORE_OK);
		}
		store_close(store);
	}
	/* More than are written down at once. */
	store = open_with(PLENTY);
	for (j = 0; j < 70000; j++) {
		id = put(store, "x", 1);
		assert_int_equal(store_done(store, id, 1), STORE_OK);
	}
	assert_true(id > last + 69999);
	store_close(store);
	store = open_with(PLENTY);
	assert_int_equal(store_figures(store).messages, 0);
	assert_true(put(store, "x", 1) > id);
	store_close(store);
	forget_files();
	store = open_with(PLENTY);
	store_close(store);
	change_file("UPDATE used SET id = 9223372036854775807");
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "damaged (database disk image is malformed)"));
	change_file("DELETE FROM used");
	assert_null(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_non_null(strstr(reason, "damaged (database disk image is malformed)"));
	forget_files();
}

/* ---- what it does not open ---- */

static void assert_refused(const char *file, const char *words)
{
	*reason = '\0';
	assert_null(store_open(file, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason));
	assert_reason(file, words);
}

static void test_refusals(void **state)
{
	char missing[120], *before, *after;
	size_t size, size_after;
	char small[8];

	(void)state;
	(void)snprintf(missing, sizeof missing, "%s/missing/inbox", folder);
	assert_refused(missing, "there is no folder");
	assert_refused(folder, "Name a file");
	(void)snprintf(missing, sizeof missing, "/proc/inbox");
	assert_refused(missing, "proc");
	assert_null(store_open("/proc/inbox", STORE_SYNC_PROCESS, PLENTY, small, sizeof small));
	assert_string_equal(small, "The dur");

	write_file(path,
			"This is no database, and yet long enough to be one: 0123456789012345678901234567890123456789",
			90);
	assert_refused(path, "no SQLite file");
	forget_files();

	change_file("CREATE TABLE other (a); INSERT INTO other VALUES (1)");
	before = read_file(path, &size);
	assert_refused(path, "another program");
	after = read_file(path, &size_after);
	assert_int_equal(size, size_after);
	assert_memory_equal(before, after, size);
	free(before);
	free(after);
	forget_files();

	store_close(open_with(PLENTY));
	change_file("PRAGMA user_version = 2");
	assert_refused(path, "newer mqttasgi (format 2;");
	change_file("PRAGMA user_version = 1; DROP TABLE several");
	assert_refused(path, "damaged (no such table: several)");
	forget_files();

	/* An empty file is one to begin with. */
	write_file(path, "", 0);
	store_close(open_with(PLENTY));
	forget_files();
}

/* What a start would refuse, without opening or making anything. */
static void assert_check_refuses(const char *file, const char *words)
{
	assert_refused(file, words);
	*reason = '\0';
	assert_false(schema_check(file, reason, sizeof reason));
	assert_reason(file, words);
}

static void test_check(void **state)
{
	struct store *store;
	char missing[120];

	(void)state;
	assert_true(schema_check(path, reason, sizeof reason));
	assert_int_equal(size_of(path), -1);
	(void)snprintf(missing, sizeof missing, "%s/missing/inbox", folder);
	assert_check_refuses(missing, "there is no folder");
	assert_check_refuses(folder, "Name a file");

	/* Nobody writes to it, or ever will. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_check_refuses(path, "Name a file");
	forget_files();
	write_file(path, "", 0);
	assert_true(schema_check(path, reason, sizeof reason));
	write_file(beside_path, "x", 1);
	assert_check_refuses(path, "what belongs to it is there");
	forget_files();
	write_file(path, "S", 1);
	assert_check_refuses(path, "one byte of it is there");
	write_file(path, "SQLite format 3", 16);
	assert_check_refuses(path, "no SQLite file");
	forget_files();
	change_file("CREATE TABLE other (a)");
	assert_check_refuses(path, "another program");
	forget_files();

	store = open_with(PLENTY);
	assert_true(schema_check(path, reason, sizeof reason));
	store_close(store);
	assert_true(schema_check(path, reason, sizeof reason));
	change_file("PRAGMA user_version = 2");
	assert_check_refuses(path, "newer mqttasgi (format 2;");
	forget_files();
}

static void test_one_broker_at_a_time(void **state)
{
	struct store *store = open_with(PLENTY);
	int status;
	pid_t child;

	(void)state;
	assert_refused(path, "another process has it open");
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		*reason = '\0';
		_exit(store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason) ||
				!strstr(reason, "another process"));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	put(store, "still works", consumer_named(store, "a"));
	store_close(store);
	forget_files();
}

static void test_rights(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		/* root may everything */
		assert_int_equal(chmod(folder, 0755), 0);
		assert_int_equal(seteuid(65534), 0);
		assert_refused(path, "user 65534, as whom the broker runs, may not");
		assert_int_equal(seteuid(0), 0);
		store_close(open_with(PLENTY));
		assert_int_equal(seteuid(65534), 0);
		assert_refused(path, "may not read and write");
		assert_int_equal(seteuid(0), 0);
		forget_files();
	} else {
		assert_int_equal(chmod(folder, 0500), 0);
		assert_refused(path, "may not read and write");
		assert_int_equal(chmod(folder, 0700), 0);
	}
}

/* ---- a disk that is full ---- */

static void test_no_room_at_start(void **state)
{
	off_t size;

	(void)state;
	for (size = 0; size < 2000000; size += size < 60000 ? 2500 : 70000) {
		struct store *store;

		limit_files(size);
		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		limit_files(-1);
		if (store) {
			store_close(store);
			break;
		}
		assert_non_null(strstr(reason, "a quota is full"));
		/* What is left of that is no obstacle. */
		if (size % 5000 == 0) {
			store_close(open_with(PLENTY));
			forget_files();
		}
	}
	assert_in_range(size, 10000, 1999999);
	forget_files();
}

static void test_no_room_later(void **state)
{
	static char payload[9001];
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	uint64_t expected = 0, id, first = 0;
	uint32_t tries;
	off_t room;
	int failures = 0;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	for (room = 0; room < 2000000; room += 1111) {
		enum store_result result;

		limit_files(room);
		result = try_put(store, "a/b", payload, a, &id);
		if (result == STORE_OK) {
			expected++;
			first = first ? first : id;
		} else {
			assert_int_equal(result, STORE_DISK_FULL);
			failures++;
			assert_true(store_tick(store) == STORE_OK || store_tick(store) == STORE_DISK_FULL);
		}
		limit_files(-1);
		assert_int_equal(store_figures(store).messages, expected);
		assert_int_equal(store_tick(store), STORE_OK);
		if (room % 4 == 0) {
			put(store, "0", a);
			expected++;
		}
	}
	assert_true(failures > 5);
	/* Nor is there room to remove: it is done once there is. */
	assert_int_equal(store_done(store, first, a), STORE_OK);
	limit_files(0);
	assert_int_equal(store_tick(store), STORE_DISK_FULL);
	assert_int_equal(store_failed(store, first + 1, a, &tries), STORE_DISK_FULL);
	assert_int_equal(store_asked(store, a, 5), STORE_DISK_FULL);
	limit_files(-1);
	assert_lasting(store, a, expected - 1);
}

static void test_a_full_disk_is_worked_off(void **state)
{
	static char payload[3001];
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	struct store_delivery delivery = {0};
	enum store_result result;
	uint64_t id, count = 0, done = 0;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	limit_files(1500000);
	while ((result = try_put(store, "a/b", payload, a, &id)) == STORE_OK) {
		count++;
	}
	assert_int_equal(result, STORE_DISK_FULL);
	assert_true(count > 500);
	/* All that came last, and some of what is in the database: only then is there room again. */
	while (done < 400 && store_next(store, a, delivery.message.id, &delivery) == STORE_OK) {
		assert_int_equal(store_done(store, delivery.message.id, a), STORE_OK);
		done++;
	}
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).messages, count - done);
	put(store, payload, a);
	/* Where nothing can be written any more, what is done does not come again for all that. */
	assert_int_equal(store_next(store, a, delivery.message.id, &delivery), STORE_OK);
	assert_int_equal(store_done(store, delivery.message.id, a), STORE_OK);
	limit_files(0);
	assert_int_equal(store_next(store, a, delivery.message.id - 1, &delivery), STORE_OK);
	assert_int_equal(count_of(store, a), count - done);
	limit_files(-1);
	store_close(store);
	assert_file_is_whole();
	forget_files();
}

/* ---- size ---- */

static void test_log_and_file_stay_small(void **state)
{
	static char payload[1001];
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	struct store_delivery delivery = {0};
	off_t full;
	int i;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	for (i = 0; i < 10000; i++) {
		put(store, payload, a);
	}
	assert_true(size_of(beside_path) < 700 * 4120);
	full = size_of(path);
	/* The last of them are elsewhere. */
	assert_true(full > 8000000);
	while (store_next(store, a, delivery.message.id, &delivery) == STORE_OK) {
		assert_int_equal(store_done(store, delivery.message.id, a), STORE_OK);
	}
	for (i = 0; i < 200; i++) {
		assert_int_equal(store_tick(store), STORE_OK);
	}
	assert_true(size_of(path) < full / 4);
	/* What it has is used again. */
	full = size_of(path);
	for (i = 0; i < 20000; i++) {
		assert_int_equal(store_done(store, put(store, payload, a), a), STORE_OK);
	}
	assert_true(size_of(path) <= full + 100 * 4096);
	assert_true(size_of(beside_path) < 700 * 4120);
	store_close(store);
	assert_int_equal(size_of(beside_path), -1);
	assert_file_is_whole();
	forget_files();
}

/* Where the disk has no room for more of the journal, what it has serves again when everything in it is
 * handled. */
static void test_a_journal_that_cannot_grow(void **state)
{
	static char payload[1001];
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	off_t log;
	int i;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	log = size_of(beside_path);
	limit_files(size_of(newest_path));
	for (i = 0; i < 5000; i++) {
		assert_int_equal(store_done(store, put(store, payload, a), a), STORE_OK);
	}
	limit_files(-1);
	assert_int_equal(size_of(beside_path), log);
	store_close(store);
	forget_files();
}

/* A disk that is full is asked once a tick, not with each message: that would take the broker's time. */
static void test_a_full_disk_is_asked_now_and_then(void **state)
{
	static char payload[1001];
	struct store *store = open_with(PLENTY);
	const uint32_t a = consumer_named(store, "a");
	uint64_t id;
	int i;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	limit_files(size_of(newest_path));
	for (i = 0; i < 5000 && try_put(store, "a/b", payload, a, &id) == STORE_OK; i++) {
	}
	assert_int_equal(try_put(store, "a/b", payload, a, &id), STORE_DISK_FULL);
	limit_files(-1);
	assert_int_equal(try_put(store, "a/b", payload, a, &id), STORE_DISK_FULL);
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(try_put(store, "a/b", payload, a, &id), STORE_OK);
	assert_int_equal(store_figures(store).messages, (uint64_t)i + 1);
	store_close(store);
	assert_file_is_whole();
	forget_files();
}

static void test_large(void **state)
{
	const size_t size = 20U << 20;
	char *payload = malloc(size + 1);
	struct store *store = store_open(path, STORE_SYNC_FULL, PLENTY, reason, sizeof reason);
	uint32_t a;
	uint64_t after = 0;

	(void)state;
	assert_true(payload && store);
	memset(payload, 'y', size);
	payload[size] = '\0';
	a = consumer_named(store, "a");
	put(store, payload, a);
	put(store, "small", a);
	assert_next(store, a, &after, payload);
	assert_int_equal(store_done(store, after, a), STORE_OK);
	assert_next(store, a, &after, "small");
	assert_int_equal(store_tick(store), STORE_OK);
	assert_int_equal(store_figures(store).messages, 1);
	store_close(store);
	free(payload);
	forget_files();
}

/* ---- no memory ---- */

static bool is_ok(enum store_result result)
{
	if (result != STORE_OK && result != STORE_NO_MEMORY) {
		fail_msg("%s", store_result_text(result));
	}
	return result == STORE_OK;
}

/* One of each, of which any may fail; what it acknowledged is there afterwards. */
static void use_scarce(unsigned long n)
{
	static char payload[6001];
	struct store *store = open_with(PLENTY);
	uint32_t a, number, tries;
	struct store_delivery delivery;
	uint64_t kept = 0, gone = 0, expected;
	enum store_result result;
	size_t count;

	memset(payload, 'x', sizeof payload - 1);
	a = consumer_named(store, "a");
	put(store, "old", a);
	scarce_memory(n, false);
	(void)is_ok(store_consumer(store, "b", 1, &number));
	expected = 1 + is_ok(try_put(store, "a/b", payload, a, &kept));
	if (is_ok(try_put(store, "a/b", payload, a, &gone))) {
		expected += !is_ok(store_done(store, gone, a));
	}
	(void)is_ok(store_tick(store));
	result = store_next(store, a, 1, &delivery);
	if (result != STORE_NOT_FOUND) {
		(void)is_ok(result);
	}
	(void)is_ok(store_failed(store, 1, a, &tries));
	to_take = 0;
	(void)is_ok(store_expire(store, 1001, 1, take, taken, &count));
	(void)scarce_memory_end();
	assert_lasting(store, a, expected);
}

static void test_no_memory(void **state)
{
	unsigned long n;
	struct store *store;
	bool failed = true;
	long blocks;

	(void)state;
	store_close(open_with(PLENTY));
	blocks = scarce_memory_blocks();
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		store = store_open(path, STORE_SYNC_PROCESS, PLENTY, reason, sizeof reason);
		failed = scarce_memory_end();
		assert_true(store || strstr(reason, "no memory"));
		store_close(store);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_true(n > 100);
	forget_files();
	for (n = 1; n < 400; n++) {
		use_scarce(n);
	}
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_words(void **state)
{
	int result;

	(void)state;
	for (result = STORE_OK; result <= STORE_FAILED; result++) {
		assert_true(strlen(store_result_text((enum store_result)result)) > 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_put_comes_back),
		cmocka_unit_test(test_the_last_takes_it_away),
		cmocka_unit_test(test_reading_goes_on_between_changes),
		cmocka_unit_test(test_the_oldest),
		cmocka_unit_test(test_many_removals),
		cmocka_unit_test(test_tries),
		cmocka_unit_test(test_the_limit),
		cmocka_unit_test(test_what_nobody_asks_for_expires),
		cmocka_unit_test(test_a_killed_process_loses_nothing),
		cmocka_unit_test(test_a_torn_log_keeps_what_is_whole),
		cmocka_unit_test(test_it_may_be_killed_while_it_recovers),
		cmocka_unit_test(test_both_are_one),
		cmocka_unit_test(test_damage_to_what_came_last),
		cmocka_unit_test(test_the_journal_of_another),
		cmocka_unit_test(test_a_start_brings_nothing_of_the_forgotten),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_a_cut_file_with_a_log),
		cmocka_unit_test(test_damage_under_removals),
		cmocka_unit_test(test_damage_is_read_over),
		cmocka_unit_test(test_what_no_message_can_be),
		cmocka_unit_test(test_ids_rise_from_start_to_start),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_one_broker_at_a_time),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_no_room_at_start),
		cmocka_unit_test(test_no_room_later),
		cmocka_unit_test(test_a_full_disk_is_worked_off),
		cmocka_unit_test(test_log_and_file_stay_small),
		cmocka_unit_test(test_a_journal_that_cannot_grow),
		cmocka_unit_test(test_a_full_disk_is_asked_now_and_then),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_words),
	};

	(void)signal(SIGXFSZ, SIG_IGN);
	if (!scarce_sqlite()) {
		return 1;
	}
	return cmocka_run_group_tests(tests, make_folder, database_folder_remove);
}
