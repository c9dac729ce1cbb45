/* keeper.c, readers.c and burials.c with real files, before a queue that nobody takes from but this. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "broker/byline.h"
#include "broker/keeper.h"
#include "broker/lanes.h"
#include "broker/lanes_message.h"
#include "broker/versions.h"
#include "options/options.h"
#include "scarce_memory.h"
#include "shared/client.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/stored_ids.h"
#include "stub_clock.h"

static char folder[64], path[96], dead_path[104];
static struct options options;
static struct queue *inbound;
static struct lanes *lanes;
static struct statistics *statistics;
static struct keeper *keeper;

static void ignore(void *userdata)
{
	(void)userdata;
}

static void open_keeper(void)
{
	keeper = keeper_new(&options, inbound, lanes, statistics);
	assert_non_null(keeper);
}

/* As after the death of the process: what is not in the file is lost. */
static void start_again(void)
{
	struct message *message;

	keeper_free(keeper);
	while ((message = queue_take(inbound))) {
		queue_release(inbound, message_size(message));
		message_free(message);
	}
	open_keeper();
}

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/keeper-XXXXXX");
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/inbox", folder);
	(void)snprintf(dead_path, sizeof(dead_path), "%s.dead", path);
	options = (struct options){.durable = path,
		.durable_size = 1U << 20,
		.durable_keep_ms = 604800000,
		.durable_tries = 2,
		.queue_size = 16,
		.queue_bytes = 1U << 20};
	inbound = queue_new(16, 1U << 20, ignore, NULL);
	statistics = statistics_new();
	lanes = lanes_new(NULL, inbound, &versions_2_0, false);
	open_keeper();
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	keeper_free(keeper);
	lanes_free(lanes);
	queue_free(inbound);
	statistics_free(statistics);
	(void)snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

/* ---- what others say ---- */

static void say(struct message *word)
{
	assert_non_null(word);
	keeper_carry_out(keeper, word);
	message_free(word);
}

static void comes(uint64_t handle, const char *name)
{
	say(message_consumer(handle, name, strlen(name)));
}

static void goes(uint64_t handle, bool keeps)
{
	say(message_consumer_gone(handle, keeps));
}

static void has_handled(uint64_t handle, uint64_t stored)
{
	const struct message_handled handled = {.consumer = handle, .stored = stored};

	say(message_done(&handled, 1));
}

static void has_failed(uint64_t handle, uint64_t stored, uint32_t tries, bool is_dead)
{
	const struct message_of_failed failed = {
		.consumer = handle, .stored = stored, .tries = tries, .is_dead = is_dead};

	say(message_failed(&failed, "ValueError", strlen("ValueError")));
}

static struct lanes_message published(const char *payload, uint8_t qos)
{
	return (struct lanes_message){
		.content = {.topic = "t", .topic_length = 1, .payload = payload, .payload_length = strlen(payload)},
		.qos = qos};
}

static const struct recipient first = {.consumer = 1, .qos = 1, .own_qos = 1};

/* Keeps a message for consumer 1 and hands it over as the router does. Returns its id. */
static uint64_t publish(const char *payload)
{
	const struct lanes_message message = published(payload, 1);
	const struct recipient *ready;
	struct message *handed;
	uint64_t stored;
	size_t count = 1, size;
	bool is_done = false;

	assert_true(keeper_keep(keeper, &message, &first, 1, false, &stored));
	ready = keeper_ready(keeper, &first, &count, 1);
	if (count) {
		handed = message_publish(&message.content, ready, count);
		handed->as.publish.stored = stored;
		handed->as.publish.qos = 1;
		size = message_size(handed);
		is_done = queue_push(inbound, handed);
		if (!is_done) {
			message_free(handed);
		}
		keeper_note(keeper, stored, 1, size, ready, count, is_done);
	}
	return stored;
}

/* Takes what comes next, which has this payload. */
static struct message_of_publish take(const char *payload)
{
	struct message *message = queue_take(inbound);
	struct message_of_publish publish;

	assert_non_null(message);
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_int_equal(message->payload_length, strlen(payload));
	assert_memory_equal(message->payload, payload, strlen(payload));
	publish = message->as.publish;
	queue_release(inbound, message_size(message));
	message_free(message);
	return publish;
}

static void expect_nothing(void)
{
	assert_null(queue_take(inbound));
}

/* A tick that also does what is done once a second. */
static void tick(void)
{
	clock_ms += 1000;
	(void)keeper_tick(keeper);
}

static uint64_t stored_now(void)
{
	tick();
	return statistics_get(statistics, STATISTICS_DURABLE_MESSAGES);
}

/* ---- tests ---- */

static void test_none(void **state)
{
	const struct lanes_message message = published("1", 1);
	size_t count = 1;
	uint64_t stored = 7;

	(void)state;
	assert_true(keeper_keep(NULL, &message, &first, 1, false, &stored));
	assert_int_equal(stored, 0);
	assert_ptr_equal(keeper_ready(NULL, &first, &count, 1), &first);
	assert_int_equal(count, 1);
	keeper_note(NULL, 1, 1, 10, &first, 1, true);
	assert_null(keeper_ids(NULL));
	assert_false(keeper_tick(NULL));
	keeper_adopt(NULL, &options);
	keeper_free(NULL);
}

static void test_what_is_stored(void **state)
{
	const struct recipient lower = {.consumer = 1, .qos = 0}, unknown = {.consumer = 9, .qos = 1};
	struct lanes_message message = published("0", 0);
	uint64_t stored;

	(void)state;
	comes(1, "master");
	assert_true(keeper_keep(keeper, &message, &first, 1, false, &stored));
	assert_int_equal(stored, 0);
	message.qos = 1;
	assert_true(keeper_keep(keeper, &message, &lower, 1, false, &stored));
	assert_int_equal(stored, 0);
	assert_true(keeper_keep(keeper, &message, &unknown, 1, false, &stored));
	assert_int_equal(stored, 0);
	assert_true(keeper_keep(keeper, &message, &first, 1, true, &stored));
	assert_true(stored_ids_is_of_session(stored));
	assert_int_equal(stored_now(), 1);
	has_handled(1, stored);
	assert_int_equal(stored_now(), 0);
}

static void test_again_after_a_start(void **state)
{
	struct message_of_publish publish_;
	uint64_t handled;

	(void)state;
	comes(1, "master");
	handled = publish("1");
	(void)publish("2");
	(void)publish("3");
	assert_false(take("1").is_redelivered);
	(void)take("2");
	(void)take("3");
	has_handled(1, handled);
	start_again();
	comes(1, "worker 1 w");
	expect_nothing();
	comes(2, "master");
	publish_ = take("2");
	assert_true(publish_.is_redelivered);
	assert_int_equal(publish_.tries, 0);
	assert_int_equal(publish_.qos, 1);
	has_handled(2, publish_.stored);
	publish_ = take("3");
	has_handled(2, publish_.stored);
	expect_nothing();
	assert_int_equal(stored_now(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_REDELIVERED), 2);
}

/* Takes and handles the next, and lets more come. */
static void handle(const char *payload, bool is_redelivered)
{
	const struct message_of_publish publish_ = take(payload);

	assert_int_equal(publish_.is_redelivered, is_redelivered);
	has_handled(1, publish_.stored);
	(void)keeper_tick(keeper);
}

/* More than a consumer may have in hand: the file has the rest, and the order. */
static void test_behind(void **state)
{
	char payload[8];
	int i;

	(void)state;
	comes(1, "master");
	for (i = 0; i < 40; i++) {
		(void)snprintf(payload, sizeof(payload), "%d", i);
		(void)publish(payload);
	}
	assert_int_equal(queue_count(inbound), 4);
	for (i = 0; i < 40; i++) {
		(void)publish("new"); /* comes behind them */
		(void)snprintf(payload, sizeof(payload), "%d", i);
		handle(payload, false);
	}
	for (i = 0; i < 40; i++) {
		handle("new", false);
	}
	expect_nothing();
	(void)publish("last");
	handle("last", false);
	assert_int_equal(stored_now(), 0);
}

/* One that does not get on leaves the others room. */
static void test_another_is_blocked(void **state)
{
	const struct recipient second = {.consumer = 2, .qos = 1};
	int i;

	(void)state;
	comes(1, "master");
	comes(2, "worker 1 w");
	for (i = 0; i < 40; i++) {
		(void)publish("1");
	}
	for (i = 0; i < 40; i++) {
		const struct lanes_message message = published("2", 1);
		size_t count = 1;
		uint64_t stored;

		assert_true(keeper_keep(keeper, &message, &second, 1, false, &stored));
		(void)keeper_ready(keeper, &second, &count, 1);
		assert_int_equal(count, 1);
		keeper_note(keeper, stored, 1, 100, &second, 1, true);
		has_handled(2, stored);
	}
	assert_int_equal(queue_count(inbound), 4);
}

/* What is the session's to bring is not read, but after the next start. */
static void test_of_the_session(void **state)
{
	const struct lanes_message message = published("2", 2);
	struct message *word;
	uint64_t stored;

	(void)state;
	comes(1, "master");
	assert_true(keeper_keep(keeper, &message, &first, 1, true, &stored));
	word = message_publish(&message.content, &first, 1);
	word->as.publish.qos = 1;
	word->as.publish.is_retained = true;
	word->as.publish.stored = stored_ids_take(keeper_ids(keeper), true);
	keeper_store(keeper, word);
	message_free(word);
	(void)keeper_tick(keeper);
	expect_nothing();
	start_again();
	comes(1, "master");
	assert_int_equal(take("2").qos, 2);
	assert_true(take("2").is_retained);
	expect_nothing();
}

/* What is read of one client is made once. */
static void test_who_published(void **state)
{
	struct client *one = client_new(&(struct client_description){.id = "one", .number = 1}, NULL),
				  *two = client_new(&(struct client_description){.id = "two", .number = 2}, NULL), *read,
				  *again;
	struct byline byline = {0};
	char bytes[200];
	const void *form;
	size_t length;

	(void)state;
	byline_of(&byline, one, &form, &length);
	assert_in_range(length, 1, sizeof(bytes));
	memcpy(bytes, form, length);
	read = byline_read(&byline, bytes, length);
	again = byline_read(&byline, bytes, length);
	assert_ptr_equal(read, again);
	assert_string_equal(client_description(read)->id, "one");
	client_release(again);
	assert_null(byline_read(&byline, bytes, length - 1));
	assert_null(byline_read(&byline, NULL, 0));
	byline_of(&byline, two, &form, &length);
	again = byline_read(&byline, form, length);
	assert_string_equal(client_description(again)->id, "two");
	client_release(again);
	client_release(read);
	byline_of(&byline, NULL, &form, &length);
	assert_null(form);
	byline_clear(&byline);
	client_release(one);
	client_release(two);
}

static void test_a_predecessor(void **state)
{
	(void)state;
	comes(1, "master");
	(void)publish("1");
	(void)take("1");
	goes(1, false);
	comes(2, "master");
	assert_true(take("1").is_redelivered);
	/* One that is given up keeps what comes for whoever is next. */
	goes(2, true);
	{
		const struct lanes_message message = published("2", 1);
		const struct recipient gone = {.consumer = 2, .qos = 1};
		size_t count = 1;
		uint64_t stored;

		assert_true(keeper_keep(keeper, &message, &gone, 1, false, &stored));
		assert_int_not_equal(stored, 0);
		(void)keeper_ready(keeper, &gone, &count, 1);
		assert_int_equal(count, 0);
	}
	expect_nothing();
	start_again();
	comes(1, "master");
	(void)take("1");
	(void)take("2");
}

static void test_tries(void **state)
{
	struct message_of_publish publish_;
	uint64_t stored;

	(void)state;
	comes(1, "master");
	stored = publish("1");
	(void)publish("2");
	(void)take("1");
	has_failed(1, stored, 1, false);
	start_again();
	comes(1, "master");
	publish_ = take("1");
	assert_int_equal(publish_.tries, 1);
	/* The process may have died of it, so the next waits. Its failure is the try that was counted when it was
	 * handed over. */
	expect_nothing();
	has_failed(1, publish_.stored, 2, true);
	assert_int_equal(stored_now(), 1);
	(void)take("2");
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_DEAD), 1);
	/* The process dies of that one, twice; the one behind it comes. */
	start_again();
	comes(1, "master");
	assert_int_equal(take("2").tries, 1);
	(void)publish("3");
	start_again();
	comes(1, "master");
	assert_true(take("3").is_redelivered);
	expect_nothing();
	tick();
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_DEAD), 2);
}

static void replay_all(void)
{
	sqlite3 *database;

	assert_int_equal(sqlite3_open(dead_path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_exec(database, "UPDATE dead_letter SET replay = 1", NULL, NULL, NULL),
			SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
}

static void test_replay(void **state)
{
	struct message_of_publish publish_;
	uint64_t stored;

	(void)state;
	comes(1, "master");
	stored = publish("1");
	(void)take("1");
	has_failed(1, stored, 2, true);
	replay_all();
	tick();
	(void)keeper_tick(keeper);
	publish_ = take("1");
	assert_true(publish_.is_redelivered);
	assert_int_equal(publish_.tries, 0);
	has_handled(1, publish_.stored);
	assert_int_equal(stored_now(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_DEAD), 0);
}

/* Another program has the dead letters locked. */
static void test_locked(void **state)
{
	sqlite3 *database;
	uint64_t stored;

	(void)state;
	comes(1, "master");
	stored = publish("1");
	(void)take("1");
	assert_int_equal(sqlite3_open(dead_path, &database), SQLITE_OK);
	assert_int_equal(sqlite3_exec(database, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	has_failed(1, stored, 2, true);
	assert_int_equal(stored_now(), 1);
	assert_int_equal(sqlite3_exec(database, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(database), SQLITE_OK);
	tick();
	assert_int_equal(stored_now(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_DEAD), 1);
}

/* Names that never come again take no memory for good. */
static void test_many_names(void **state)
{
	char name[32];
	long blocks;
	uint64_t i;

	(void)state;
	comes(1, "master");
	tick();
	blocks = scarce_memory_blocks();
	for (i = 2; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "worker %d w", (int)i);
		comes(i, name);
		goes(i, false);
	}
	assert_in_range(scarce_memory_blocks(), blocks + 1000, blocks + 10000);
	clock_ms += 61000;
	(void)keeper_tick(keeper);
	clock_ms += 1000;
	(void)keeper_tick(keeper);
	assert_in_range(scarce_memory_blocks(), blocks - 10, blocks + 10);
	(void)publish("1");
	(void)take("1");
}

/* Who is there is not missed, however short the time. */
static void test_a_short_time(void **state)
{
	const struct lanes_message message = published("2", 1);
	const struct recipient second = {.consumer = 2, .qos = 1};
	uint64_t stored;

	(void)state;
	options.durable_keep_ms = 1000;
	comes(1, "master");
	comes(2, "worker 1 w");
	(void)publish("1");
	assert_true(keeper_keep(keeper, &message, &second, 1, false, &stored));
	goes(2, true);
	clock_ms += 61500;
	(void)keeper_tick(keeper);
	assert_int_equal(stored_now(), 1);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_DEAD), 1);
	/* What still comes for it is stored. */
	assert_true(keeper_keep(keeper, &message, &second, 1, false, &stored));
	assert_int_equal(stored_now(), 2);
}

static void test_full(void **state)
{
	static char large[40000];
	const struct recipient several[] = {{.consumer = 1, .qos = 1}, {.consumer = 2, .qos = 1}};
	struct lanes_message message;
	uint64_t stored = 0, last = 0;
	struct message *own;
	int i;

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	comes(1, "master");
	comes(2, "worker 1 w");
	message = published(large, 1);
	for (i = 0; keeper_keep(keeper, &message, several, 2, false, &stored); i++) {
		last = stored;
	}
	assert_in_range(i, 20, 26);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_REFUSED), 1);
	/* What consumers publish goes on without being stored. */
	own = message_publish(&message.content, several, 2);
	own->as.publish.qos = 1;
	assert_int_equal(keeper_keep_own(keeper, own, several, 2), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_DURABLE_UNSTORED), 1);
	message_free(own);
	has_handled(1, last);
	assert_false(keeper_keep(keeper, &message, several, 2, false, &stored));
	has_handled(2, last);
	assert_true(keeper_keep(keeper, &message, several, 2, false, &stored));
	options.durable_size *= 2;
	keeper_adopt(keeper, &options);
	assert_true(keeper_keep(keeper, &message, several, 2, false, &stored));
}

static void test_refused_files(void **state)
{
	(void)state;
	assert_null(keeper_new(&options, inbound, lanes, statistics)); /* this process has it open */
	options.durable = "/nowhere/inbox";
	assert_null(keeper_new(&options, inbound, lanes, statistics));
	options.durable = path;
}

static void test_no_memory(void **state)
{
	const struct lanes_message message = published("1", 1);
	unsigned long n;
	uint64_t stored;

	(void)state;
	for (n = 1; n < 40; n++) {
		scarce_memory(n, false);
		keeper_carry_out(keeper,
				&(struct message){
					.kind = MESSAGE_CONSUMER, .topic = "master", .topic_length = 6, .as.consumer.handle = 1});
		(void)keeper_keep(keeper, &message, &first, 1, false, &stored);
		(void)keeper_tick(keeper);
		if (!scarce_memory_end()) {
			break;
		}
		goes(1, false);
	}
	assert_in_range(n, 2, 39);
	start_again();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_stored, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_again_after_a_start, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_behind, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_another_is_blocked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_of_the_session, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_published, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_predecessor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tries, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_replay, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_locked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_short_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
