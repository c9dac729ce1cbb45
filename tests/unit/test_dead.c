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
#include "durable/dead.h"
#include "scarce_memory.h"
#include "scarce_sqlite.h"

#define PLENTY (1ULL << 30)

/* ---- what the tests are made of ---- */

static int make_folder(void **state)
{
	(void)state;
	return database_folder_make("inbox.dead", "-journal");
}

static struct dead *open_with(uint64_t limit)
{
	struct dead *dead = dead_open(path, limit, false, reason, sizeof reason);

	if (!dead) {
		fail_msg("%s", reason);
	}
	return dead;
}

static struct dead_letter letter_of(uint64_t id, const char *payload)
{
	return (struct dead_letter){.consumer = "master",
		.message = {.id = id,
			.content = {.topic = "a/b",
				.topic_length = 3,
				.payload = payload,
				.payload_length = strlen(payload)},
			.time = 7,
			.qos = 1},
		.reason = DEAD_EXPIRED,
		.traceback = "",
		.died = 8};
}

static enum store_result try_add(struct dead *dead, uint64_t id, const char *payload)
{
	const struct dead_letter letter = letter_of(id, payload);
	size_t dropped;

	return dead_add(dead, &letter, &dropped);
}

static void add(struct dead *dead, uint64_t id, const char *payload)
{
	assert_int_equal(try_add(dead, id, payload), STORE_OK);
}

/* Another program. */
static sqlite3 *other_open(void)
{
	sqlite3 *other;

	assert_int_equal(sqlite3_open_v2(path, &other, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	return other;
}

static void other_does(sqlite3 *other, const char *sql)
{
	char *error = NULL;

	if (sqlite3_exec(other, sql, NULL, NULL, &error) != SQLITE_OK) {
		fail_msg("%s: %s", sql, error);
	}
}

static void change_file(const char *sql)
{
	sqlite3 *other = other_open();

	other_does(other, sql);
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* The text that a statement returns; it is there until the next. */
static const char *other_asks(const char *sql)
{
	static char answer[256];
	sqlite3 *other = other_open();
	sqlite3_stmt *statement;

	assert_int_equal(sqlite3_prepare_v2(other, sql, -1, &statement, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	(void)snprintf(answer, sizeof answer, "%s", (const char *)sqlite3_column_text(statement, 0));
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
	return answer;
}

static void assert_file_is_whole(void)
{
	assert_string_equal(other_asks("PRAGMA integrity_check"), "ok");
}

/* What dead_take_replay() gives, one payload after the other. */
struct taker {
	char taken[400];
	char refused;                      /* a payload that begins with this is not taken */
	void (*then)(struct taker *taker); /* of each that is */
	struct dead_letter last;
};

static bool take(void *userdata, const struct dead_letter *letter)
{
	struct taker *taker = userdata;
	const struct message_content *content = &letter->message.content;
	size_t length = strlen(taker->taken);

	assert_non_null(letter->consumer);
	assert_int_equal(strlen(content->topic), content->topic_length);
	taker->last = *letter;
	if (content->payload_length > 0 && *(const char *)content->payload == taker->refused) {
		return false;
	}
	if (content->payload_length < sizeof taker->taken - length - 1) {
		(void)snprintf(taker->taken + length, sizeof taker->taken - length, "%.*s ",
				(int)content->payload_length, content->payload_length ? (const char *)content->payload : "");
	}
	if (taker->then) {
		taker->then(taker);
	}
	return true;
}

static void assert_replay(struct dead *dead, struct taker *taker, size_t at_most, const char *expected)
{
	size_t count = 99, expected_count = 0, i;

	*taker->taken = '\0';
	assert_int_equal(dead_take_replay(dead, take, taker, at_most, &count), STORE_OK);
	assert_string_equal(taker->taken, expected);
	for (i = 0; expected[i]; i++) {
		expected_count += expected[i] == ' ';
	}
	assert_int_equal(count, expected_count);
}

/* ---- adding ---- */

static void test_what_is_added_is_in_the_file(void **state)
{
	static const char payload[] = {'a', 0, 'b', (char)0xff}, properties[] = {1, 1}, publisher[] = {0, 9};
	struct dead_letter letter = {.consumer = "worker 'app' x.Y",
		.message = {.id = 12,
			.content = {.topic = "t\xc3\xa4/1",
				.topic_length = 5,
				.payload = payload,
				.payload_length = sizeof payload,
				.properties = properties,
				.properties_length = sizeof properties},
			.publisher = publisher,
			.publisher_length = sizeof publisher,
			.time = 1700000000123,
			.qos = 2,
			.retain = true},
		.identifier = 268435455,
		.options = 0x2d,
		.tries = 5,
		.reason = DEAD_FAILED,
		.traceback = "Traceback \"\xe2\x82\xac\"\n",
		.died = 1700000000999};
	struct dead *dead = open_with(PLENTY);
	struct dead_figures figures = dead_figures(dead);
	struct taker taker = {0};
	size_t dropped = 99, count;
	struct stat status;

	(void)state;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(figures.messages, 0);
	assert_int_equal(figures.bytes, status.st_size);
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	assert_int_equal(dropped, 0);
	assert_string_equal(
			other_asks(
					"SELECT json_array(id, consumer, message, time, died, reason, tries, traceback, topic, "
					"hex(payload), qos, retain, hex(properties), hex(publisher), options, identifier, replay) "
					"FROM dead_letter"),
			"[1,\"worker 'app' x.Y\",12,1700000000123,1700000000999,\"failed\",5,\"Traceback "
			"\\\"\xe2\x82\xac\\\"\\n\",\"t\xc3\xa4/1\",\"610062FF\",2,1,\"0101\",\"0009\",45,268435455,0]");

	/* It comes back as it was. */
	change_file("UPDATE dead_letter SET replay = 1");
	assert_int_equal(dead_take_replay(dead, take, &taker, 10, &count), STORE_OK);
	assert_int_equal(count, 1);
	assert_int_equal(taker.last.message.id, 12);
	assert_int_equal(taker.last.message.content.payload_length, sizeof payload);
	assert_int_equal(taker.last.message.content.properties_length, sizeof properties);
	assert_int_equal(taker.last.message.publisher_length, sizeof publisher);
	assert_true(taker.last.message.time == letter.message.time && taker.last.died == letter.died);
	assert_int_equal(taker.last.message.qos, 2);
	assert_true(taker.last.message.retain);
	assert_int_equal(taker.last.identifier, letter.identifier);
	assert_int_equal(taker.last.options, letter.options);
	assert_int_equal(taker.last.tries, 5);

	/* Nothing but a topic. */
	letter = letter_of(1, "");
	letter.message.content.payload = NULL;
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	assert_string_equal(other_asks("SELECT typeof(payload) || typeof(properties) || typeof(publisher) || "
								   "length(payload) || typeof(traceback) FROM dead_letter"),
			"blobblobblob0text");
	dead_close(dead);
	dead_close(NULL);
	assert_file_is_whole();
	forget_files();
}

static void test_the_same_takes_the_place(void **state)
{
	struct dead *dead = open_with(PLENTY);
	struct dead_letter letter = letter_of(1, "other");
	size_t dropped;

	(void)state;
	add(dead, 1, "first");
	add(dead, 2, "second");
	add(dead, 1, "again");
	assert_int_equal(dead_figures(dead).messages, 2);
	assert_string_equal(
			other_asks("SELECT group_concat(payload) FROM (SELECT * FROM dead_letter ORDER BY id)"),
			"second,again");
	letter.message.time = 8;
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	letter.consumer = "worker";
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	assert_int_equal(dropped, 0);
	assert_int_equal(dead_figures(dead).messages, 4);
	dead_close(dead);
	dead = open_with(PLENTY);
	assert_int_equal(dead_figures(dead).messages, 4);
	dead_close(dead);
	forget_files();
}

static void test_beyond_the_limit_the_oldest_go(void **state)
{
	static char payload[3001];
	struct dead *dead = open_with(300000);
	struct dead_letter letter = letter_of(0, payload);
	size_t dropped, all = 0;
	uint64_t i;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	letter.message.content.payload_length = sizeof payload - 1;
	for (i = 1; i <= 1000; i++) {
		letter.message.id = i;
		assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
		all += dropped;
		assert_int_equal(dead_figures(dead).messages, i - all);
		assert_true(dead_figures(dead).bytes <= 300000);
		assert_int_equal(size_of(path), dead_figures(dead).bytes);
	}
	assert_in_range(1000 - all, 50, 100);
	assert_int_equal(strtoull(other_asks("SELECT min(message) FROM dead_letter"), NULL, 10), all + 1);
	assert_int_equal(strtoull(other_asks("SELECT max(message) FROM dead_letter"), NULL, 10), 1000);

	/* A lower limit: with the next. */
	dead_set_limit(dead, 100000);
	add(dead, 1001, "small");
	assert_true(dead_figures(dead).bytes <= 100000);
	assert_int_equal(size_of(path), dead_figures(dead).bytes);

	/* One that is larger than the limit is alone. */
	dead_set_limit(dead, 1);
	letter.message.id = 1002;
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	assert_true(dropped > 0);
	assert_int_equal(dead_figures(dead).messages, 1);

	/* What is much goes in portions. */
	dead_set_limit(dead, PLENTY);
	for (i = 0; i < 2 * DEAD_DROPPED_MAX; i++) {
		add(dead, 2000 + i, "");
	}
	dead_set_limit(dead, 1);
	letter.message.id = 5000;
	assert_int_equal(dead_add(dead, &letter, &dropped), STORE_OK);
	assert_int_equal(dropped, DEAD_DROPPED_MAX);
	assert_int_equal(dead_figures(dead).messages, DEAD_DROPPED_MAX + 2);
	dead_close(dead);
	assert_file_is_whole();
	forget_files();
}

static void test_large(void **state)
{
	const size_t size = 20U << 20;
	char *payload = malloc(size + 1);
	struct dead *dead = dead_open(path, PLENTY, true, reason, sizeof reason);
	struct taker taker = {0};
	size_t count;

	(void)state;
	assert_true(payload && dead);
	memset(payload, 'y', size);
	payload[size] = '\0';
	add(dead, 1, payload);
	add(dead, 2, "small");
	assert_true(dead_figures(dead).bytes > size);
	change_file("UPDATE dead_letter SET replay = 1");
	assert_int_equal(dead_take_replay(dead, take, &taker, 10, &count), STORE_OK);
	assert_int_equal(count, 2);
	assert_true(dead_figures(dead).bytes < 100000);
	dead_close(dead);
	free(payload);
	forget_files();
}

/* ---- replay ---- */

static void test_replay(void **state)
{
	struct dead *dead = open_with(PLENTY);
	struct taker taker = {0};
	char payload[2] = "a";
	uint64_t i;

	(void)state;
	for (i = 0; i < 10; i++, payload[0]++) {
		add(dead, i + 1, payload);
	}
	assert_replay(dead, &taker, 10, "");
	change_file("UPDATE dead_letter SET replay = 1 WHERE message IN (2, 4, 5, 9)");
	assert_replay(dead, &taker, 10, "b d e i ");
	assert_int_equal(dead_figures(dead).messages, 6);
	assert_replay(dead, &taker, 10, "");
	assert_string_equal(other_asks("SELECT group_concat(payload, '') FROM dead_letter"), "acfghj");

	/* So many; from where it was; one that is not taken keeps nobody behind it from being so. */
	change_file("UPDATE dead_letter SET replay = 1");
	assert_replay(dead, &taker, 0, "");
	assert_replay(dead, &taker, 2, "a c ");
	taker.refused = 'g';
	assert_replay(dead, &taker, 10, "f ");
	assert_replay(dead, &taker, 10, "h j ");
	assert_replay(dead, &taker, 10, "");
	assert_int_equal(dead_figures(dead).messages, 1);
	taker.refused = 0;
	assert_replay(dead, &taker, 10, "g ");
	assert_int_equal(dead_figures(dead).messages, 0);

	/* What was wanted while nobody was there. */
	add(dead, 1, "k");
	dead_close(dead);
	change_file("UPDATE dead_letter SET replay = 1");
	dead = open_with(PLENTY);
	assert_replay(dead, &taker, 10, "k ");
	/* At most so many at once. */
	for (i = 0; i < DEAD_REPLAY_MAX + 3; i++) {
		add(dead, i + 1, "l");
	}
	change_file("UPDATE dead_letter SET replay = 1");
	*taker.taken = '\0';
	for (i = 0; i < 2; i++) {
		size_t count;

		assert_int_equal(dead_take_replay(dead, take, &taker, 1000, &count), STORE_OK);
		assert_int_equal(count, i ? 3 : DEAD_REPLAY_MAX);
	}
	dead_close(dead);
	assert_file_is_whole();
	forget_files();
}

static void test_what_is_no_message_is_refused(void **state)
{
	static const char *const changes[] = {"qos = 3", "qos = -1", "topic = ''", "topic = 'a/#'",
		"topic = '+/b'", "topic = CAST(x'6100ff' AS TEXT)", "topic = CAST(x'61c0af' AS TEXT)",
		"topic = 'a' || char(0) || 'b'", "topic = printf('%.*c', 65536, 'x')", "options = 256",
		"options = -1", "identifier = 268435456", "identifier = -1", "tries = -1", "tries = 4294967296",
		"consumer = ''", "consumer = CAST(x'ed a080' AS TEXT)", "consumer = 'a' || char(0)"};
	struct dead *dead = open_with(PLENTY);
	struct taker taker = {0};
	size_t i, refused = 0;
	char sql[200];

	(void)state;
	for (i = 0; i < sizeof changes / sizeof *changes; i++) {
		add(dead, 1, "bad");
		add(dead, 2, "good");
		(void)snprintf(sql, sizeof sql, "UPDATE dead_letter SET %s WHERE message = 1", changes[i]);
		if (strstr(sql, "ed a080")) {
			(void)snprintf(sql, sizeof sql,
					"UPDATE dead_letter SET consumer = CAST(x'eda080' AS TEXT) WHERE message = 1");
		}
		change_file(sql);
		change_file("UPDATE dead_letter SET replay = 1");
		assert_replay(dead, &taker, 10, "good ");
		assert_int_equal(dead_figures(dead).refused, ++refused);
		assert_int_equal(dead_figures(dead).messages, 1);
		assert_replay(dead, &taker, 10, "");
		assert_string_equal(other_asks("SELECT replay FROM dead_letter"), "0");
		change_file("DELETE FROM dead_letter");
	}
	/* Others' types are taken for what they stand for. */
	add(dead, 1, "x");
	change_file("UPDATE dead_letter SET payload = 'text', qos = '2', replay = 1");
	assert_replay(dead, &taker, 10, "text ");
	assert_int_equal(taker.last.message.qos, 2);
	dead_close(dead);
	forget_files();
}

/* ---- others ---- */

static void test_others_lock_it(void **state)
{
	struct dead *dead = open_with(PLENTY);
	sqlite3 *other = other_open();
	struct taker taker = {0};
	sqlite3_stmt *reading;
	size_t count;

	(void)state;
	add(dead, 1, "a");
	other_does(other, "BEGIN EXCLUSIVE");
	assert_int_equal(try_add(dead, 2, "b"), STORE_BUSY);
	assert_int_equal(dead_take_replay(dead, take, &taker, 1, &count), STORE_BUSY);
	assert_int_equal(count, 0);
	assert_int_equal(dead_figures(dead).messages, 1);
	other_does(other, "UPDATE dead_letter SET replay = 1; COMMIT");
	add(dead, 2, "b");

	/* One that reads, too: what take() takes could not be removed. */
	assert_int_equal(sqlite3_prepare_v2(other, "SELECT id FROM dead_letter", -1, &reading, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(reading), SQLITE_ROW);
	assert_int_equal(try_add(dead, 3, "c"), STORE_BUSY);
	assert_int_equal(dead_take_replay(dead, take, &taker, 1, &count), STORE_BUSY);
	assert_int_equal(count, 0);
	assert_string_equal(taker.taken, "");
	assert_int_equal(dead_figures(dead).messages, 2);
	/* Nor is it in the way. */
	assert_int_equal(sqlite3_step(reading), SQLITE_ROW);
	assert_int_equal(sqlite3_finalize(reading), SQLITE_OK);
	other_does(other, "UPDATE dead_letter SET tries = 3");
	other_does(other, "BEGIN IMMEDIATE");
	assert_int_equal(try_add(dead, 3, "c"), STORE_BUSY);
	other_does(other, "COMMIT");
	add(dead, 3, "c");
	assert_replay(dead, &taker, 10, "a ");
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
	dead_close(dead);
	assert_file_is_whole();
	forget_files();
}

static void test_it_starts_beside_others(void **state)
{
	struct dead *dead;
	int status, words[2];
	char word;
	pid_t child;

	(void)state;
	dead_close(open_with(PLENTY));
	assert_int_equal(pipe(words), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		sqlite3 *other = other_open();

		other_does(other, "BEGIN EXCLUSIVE");
		assert_int_equal(write(words[1], "", 1), 1);
		(void)usleep(200000);
		other_does(other, "COMMIT");
		_exit(0);
	}
	assert_int_equal(read(words[0], &word, 1), 1);
	dead = open_with(PLENTY);
	add(dead, 1, "a");
	dead_close(dead);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	(void)close(words[0]);
	(void)close(words[1]);
	forget_files();
}

static void test_figures_follow_others(void **state)
{
	struct dead *dead = open_with(PLENTY);
	uint64_t i, bytes;

	(void)state;
	for (i = 1; i <= 1000; i++) {
		add(dead, i, "0123456789012345678901234567890123456789");
	}
	bytes = dead_figures(dead).bytes;
	change_file("DELETE FROM dead_letter WHERE message > 10");
	add(dead, 2000, "a");
	assert_int_equal(dead_figures(dead).messages, 11);
	assert_true(dead_figures(dead).bytes < bytes / 2);
	assert_int_equal(dead_figures(dead).bytes, size_of(path));
	change_file("DELETE FROM dead_letter");
	assert_int_equal(dead_figures(dead).messages, 0);
	dead_close(dead);
	forget_files();
}

static void test_a_file_that_is_gone_is_made_anew(void **state)
{
	struct dead *dead = open_with(PLENTY);
	char aside[120];

	(void)state;
	(void)snprintf(aside, sizeof aside, "%s.1", path);
	add(dead, 1, "a");
	add(dead, 2, "b");
	assert_int_equal(rename(path, aside), 0);
	add(dead, 3, "c");
	assert_int_equal(dead_figures(dead).messages, 1);
	assert_string_equal(other_asks("SELECT payload FROM dead_letter"), "c");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(dead_figures(dead).messages, 0);
	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(dead_figures(dead).messages, 2);
	/* What is no such file is left alone. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try_add(dead, 4, "d"), STORE_FAILED);
	assert_int_equal(rmdir(path), 0);
	add(dead, 4, "d");
	dead_close(dead);
	forget_files();
}

/* ---- crashes ---- */

static void test_a_killed_process_loses_nothing(void **state)
{
	int round, status, words[2];

	(void)state;
	for (round = 0; round < 20; round++) {
		uint64_t acknowledged = 0, there;
		struct dead *dead;
		pid_t child;

		assert_int_equal(pipe(words), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			uint64_t id;

			(void)close(words[0]);
			dead = open_with(PLENTY);
			for (id = 1;; id++) {
				add(dead, id, "payload");
				if (write(words[1], &id, sizeof id) != sizeof id) {
					_exit(1);
				}
			}
		}
		(void)close(words[1]);
		while (acknowledged < 20 + (uint64_t)round * 3) {
			assert_int_equal(read(words[0], &acknowledged, sizeof acknowledged), sizeof acknowledged);
		}
		(void)usleep((useconds_t)(rand() % 2000));
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		while (read(words[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {
		}
		(void)close(words[0]);
		dead = open_with(PLENTY);
		there = dead_figures(dead).messages;
		assert_in_range(there, acknowledged, acknowledged + 1);
		dead_close(dead);
		assert_file_is_whole();
		forget_files();
	}
}

static void die(struct taker *taker)
{
	if (strlen(taker->taken) == 4) {
		_exit(7);
	}
}

static void test_what_was_taken_before_a_crash_comes_again(void **state)
{
	struct taker taker = {.then = die};
	struct dead *dead;
	size_t count;
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		dead = open_with(PLENTY);
		add(dead, 1, "a");
		add(dead, 2, "b");
		add(dead, 3, "c");
		change_file("UPDATE dead_letter SET replay = 1");
		_exit(dead_take_replay(dead, take, &taker, 10, &count) == STORE_OK ? 1 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 7);
	dead = open_with(PLENTY);
	taker.then = NULL;
	assert_replay(dead, &taker, 10, "a b c ");
	dead_close(dead);
	forget_files();
}

/* ---- a disk that is full ---- */

static void test_no_room(void **state)
{
	static char payload[9001];
	struct dead *dead;
	uint64_t id, expected = 0;
	off_t room;
	int failures = 0;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	for (room = 0; room < 40000; room += 1500) {
		limit_files(room);
		dead = dead_open(path, PLENTY, false, reason, sizeof reason);
		limit_files(-1);
		if (!dead) {
			failures++;
			assert_non_null(strstr(reason, "a quota is full"));
		}
		dead_close(dead);
		forget_files();
	}
	assert_true(failures > 3);
	dead = open_with(PLENTY);
	for (id = 1, room = 0; id < 200; id++, room += 1111) {
		enum store_result result;

		limit_files(room);
		result = try_add(dead, id, payload);
		limit_files(-1);
		if (result == STORE_OK) {
			expected++;
		} else {
			assert_int_equal(result, STORE_DISK_FULL);
			add(dead, id, "small");
			expected++;
		}
		assert_int_equal(dead_figures(dead).messages, expected);
	}
	dead_close(dead);
	assert_file_is_whole();
	forget_files();
}

static void fill_disk(struct taker *taker)
{
	(void)taker;
	limit_files(0);
}

static void test_what_cannot_be_removed_is_taken_once(void **state)
{
	struct dead *dead = open_with(PLENTY);
	struct taker taker = {.then = fill_disk};
	size_t count;

	(void)state;
	add(dead, 1, "a");
	add(dead, 2, "b");
	change_file("UPDATE dead_letter SET replay = 1");
	assert_int_equal(dead_take_replay(dead, take, &taker, 10, &count), STORE_DISK_FULL);
	assert_int_equal(count, 2);
	assert_string_equal(taker.taken, "a b ");
	assert_int_equal(dead_take_replay(dead, take, &taker, 10, &count), STORE_DISK_FULL);
	assert_int_equal(count, 0);
	limit_files(-1);
	assert_string_equal(taker.taken, "a b ");
	assert_int_equal(dead_figures(dead).messages, 2);
	add(dead, 3, "c");
	change_file("UPDATE dead_letter SET replay = 1");
	taker.then = NULL;
	assert_replay(dead, &taker, 10, "c ");
	assert_int_equal(dead_figures(dead).messages, 0);
	assert_string_equal(other_asks("SELECT count(*) FROM dead_letter"), "0");
	dead_close(dead);
	forget_files();
}

/* ---- what it does not open ---- */

static void assert_refused(const char *file, const char *words)
{
	*reason = '\0';
	assert_null(dead_open(file, PLENTY, false, reason, sizeof reason));
	assert_reason(file, words);
}

static void test_refusals(void **state)
{
	char missing[120], *before, *after, small[8];
	size_t size, size_after;
	sqlite3 *other;

	(void)state;
	(void)snprintf(missing, sizeof missing, "%s/missing/inbox.dead", folder);
	assert_refused(missing, "there is no folder");
	assert_null(dead_open(missing, PLENTY, false, small, sizeof small));
	assert_string_equal(small, "The dur");
	assert_refused(folder, "it is a folder or a device");

	write_file(path,
			"This is no database, and yet long enough to be one: 0123456789012345678901234567890123456789",
			90);
	assert_refused(path, "no SQLite file");
	forget_files();

	other = NULL;
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	other_does(other,
			"PRAGMA auto_vacuum = INCREMENTAL; CREATE TABLE other (a); INSERT INTO other VALUES (1)");
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
	before = read_file(path, &size);
	assert_refused(path, "another program. Move it away");
	after = read_file(path, &size_after);
	assert_int_equal(size, size_after);
	assert_memory_equal(before, after, size);
	free(before);
	free(after);
	forget_files();

	dead_close(open_with(PLENTY));
	change_file("PRAGMA user_version = 2");
	assert_refused(path, "newer mqttasgi (format 2;");
	change_file("PRAGMA user_version = 1; DROP TABLE dead_letter");
	assert_refused(path, "damaged (no such table: dead_letter)");
	forget_files();

	dead_close(open_with(PLENTY));
	other = other_open();
	other_does(other, "BEGIN EXCLUSIVE");
	assert_refused(path, "another program keeps it locked");
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
	/* One that somebody has given a log is taken back. */
	change_file("PRAGMA journal_mode = WAL");
	dead_close(open_with(PLENTY));
	assert_string_equal(other_asks("PRAGMA journal_mode"), "delete");
	forget_files();

	/* An empty file is one to begin with. */
	write_file(path, "", 0);
	dead_close(open_with(PLENTY));
	assert_string_equal(other_asks("PRAGMA auto_vacuum"), "1");
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
		dead_close(open_with(PLENTY));
		assert_int_equal(seteuid(65534), 0);
		assert_refused(path, "may not read and write");
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(chmod(path, 0666), 0);
		assert_int_equal(seteuid(65534), 0);
		assert_refused(path, "may not read and write"); /* the folder */
		assert_int_equal(seteuid(0), 0);
		forget_files();
	} else {
		assert_int_equal(chmod(folder, 0500), 0);
		assert_refused(path, "may not read and write");
		assert_int_equal(chmod(folder, 0700), 0);
	}
}

/* ---- damage ---- */

static void any(enum store_result result)
{
	assert_true(result <= STORE_FAILED);
}

/* Whatever is in the file, it is a refusal or a result. */
static void use_damaged(void)
{
	struct dead *dead = dead_open(path, 100000, false, reason, sizeof reason);
	struct taker taker = {0};
	size_t count;
	uint64_t i;

	if (!dead) {
		assert_non_null(strstr(reason, path));
		return;
	}
	for (i = 0; i < 5; i++) {
		any(dead_take_replay(dead, take, &taker, 30, &count));
		any(try_add(dead, 1000 + i, "new"));
		(void)dead_figures(dead);
	}
	dead_close(dead);
}

static void test_damage(void **state)
{
	unsigned int seed = 1;
	struct dead *dead = open_with(PLENTY);
	size_t size, i;
	char *file;
	int round;

	(void)state;
	for (i = 0; i < 300; i++) {
		add(dead, i, "0123456789012345678901234567890123456789");
	}
	dead_close(dead);
	change_file("UPDATE dead_letter SET replay = id % 2");
	file = read_file(path, &size);
	for (round = 0; round < 400; round++) {
		char *damaged = malloc(size);

		assert_non_null(damaged);
		memcpy(damaged, file, size);
		for (i = 0; i < 1 + (size_t)round % 40; i++) {
			damaged[(size_t)rand_r(&seed) % (round % 3 == 0 ? 4096 : size)] = (char)rand_r(&seed);
		}
		forget_files();
		write_file(path, damaged, size);
		use_damaged();
		free(damaged);
	}
	/* One byte is an empty file to SQLite. */
	for (i = 2; i < size; i += 1777) {
		forget_files();
		write_file(path, file, i);
		dead = dead_open(path, PLENTY, false, reason, sizeof reason);
		if (dead || !strstr(reason, "damaged")) {
			fail_msg("%zu of %zu bytes: %s", i, size, dead ? "opened" : reason);
		}
	}
	/* It is cut while it is open. */
	forget_files();
	write_file(path, file, size);
	dead = open_with(PLENTY);
	assert_int_equal(truncate(path, 5000), 0);
	any(try_add(dead, 1000, "new"));
	(void)dead_figures(dead);
	assert_int_equal(truncate(path, 0), 0);
	any(try_add(dead, 1000, "new"));
	(void)dead_figures(dead);
	dead_close(dead);
	free(file);
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

static void use_scarce(unsigned long n)
{
	static char payload[6001];
	struct dead *dead = open_with(PLENTY);
	struct taker taker = {0};
	uint64_t expected = 2;
	size_t count, taken;

	memset(payload, 'x', sizeof payload - 1);
	add(dead, 1, payload);
	add(dead, 2, "b");
	change_file("UPDATE dead_letter SET replay = 1 WHERE message = 1");
	scarce_memory(n, false);
	expected += is_ok(try_add(dead, 3, payload));
	(void)is_ok(dead_take_replay(dead, take, &taker, 1, &taken));
	(void)dead_figures(dead);
	(void)scarce_memory_end();
	assert_true(is_ok(dead_take_replay(dead, take, &taker, 1, &count)));
	assert_int_equal(taken + count, 1);
	assert_int_equal(dead_figures(dead).messages, expected - 1);
	dead_close(dead);
	assert_file_is_whole();
	dead = open_with(PLENTY);
	assert_int_equal(dead_figures(dead).messages, expected - 1);
	dead_close(dead);
	forget_files();
}

static void test_no_memory(void **state)
{
	unsigned long n;
	struct dead *dead;
	bool failed = true;
	long blocks;

	(void)state;
	dead_close(open_with(PLENTY));
	blocks = scarce_memory_blocks();
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		dead = dead_open(path, PLENTY, false, reason, sizeof reason);
		failed = scarce_memory_end();
		assert_true(dead || strstr(reason, "no memory"));
		dead_close(dead);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_true(n > 50);
	forget_files();
	for (n = 1; n < 200; n++) {
		use_scarce(n);
	}
	assert_int_equal(scarce_memory_blocks(), blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_added_is_in_the_file),
		cmocka_unit_test(test_the_same_takes_the_place),
		cmocka_unit_test(test_beyond_the_limit_the_oldest_go),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_what_is_no_message_is_refused),
		cmocka_unit_test(test_others_lock_it),
		cmocka_unit_test(test_it_starts_beside_others),
		cmocka_unit_test(test_figures_follow_others),
		cmocka_unit_test(test_a_file_that_is_gone_is_made_anew),
		cmocka_unit_test(test_a_killed_process_loses_nothing),
		cmocka_unit_test(test_what_was_taken_before_a_crash_comes_again),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_what_cannot_be_removed_is_taken_once),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_no_memory),
	};

	(void)signal(SIGXFSZ, SIG_IGN);
	if (!scarce_sqlite()) {
		return 1;
	}
	return cmocka_run_group_tests(tests, make_folder, database_folder_remove);
}
