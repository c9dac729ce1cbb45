#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "durable/journal.h"

#define HEADER 32U

static char folder[64], inbox[96], path[104];
static struct journal_found found;

static int make_folder(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof folder, "/tmp/test_journal.XXXXXX");
	if (!mkdtemp(folder)) {
		return -1;
	}
	(void)snprintf(inbox, sizeof inbox, "%s/inbox", folder);
	(void)snprintf(path, sizeof path, "%s-newest", inbox);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(folder);
}

static struct journal *must_open(bool for_power_loss)
{
	struct journal *journal = NULL;

	assert_int_equal(journal_open(inbox, 1, for_power_loss, &journal, &found), 0);
	return journal;
}

static bool put(struct journal *journal, uint64_t id, const char *payload, size_t recipient_count)
{
	const struct store_message message = {.content = {.topic = "a/b",
											  .topic_length = 3,
											  .payload = payload,
											  .payload_length = strlen(payload),
											  .properties = "pp",
											  .properties_length = 2},
		.publisher = "who",
		.publisher_length = 3,
		.time = 5,
		.qos = 1,
		.retain = true};
	const struct store_recipient recipients[JOURNAL_RECIPIENTS + 1] = {
		{.consumer = 1, .identifier = 9, .options = 3}, {.consumer = 2}, {.consumer = 3}};

	assert_true(journal_takes(&message, recipient_count));
	return journal_put(journal, &message, id, 100, recipients, recipient_count);
}

static void must_put(struct journal *journal, uint64_t id, const char *payload, size_t recipient_count)
{
	assert_true(put(journal, id, payload, recipient_count));
}

static void assert_message(struct journal *journal, uint64_t id, const char *payload)
{
	struct journal_entry *entry = journal_find(journal, id, 0);
	struct journal_message kept;

	assert_non_null(entry);
	assert_int_equal(journal_read(journal, entry, &kept), STORE_OK);
	assert_int_equal(kept.message.id, id);
	assert_string_equal(kept.message.content.topic, "a/b");
	assert_int_equal(kept.message.content.payload_length, strlen(payload));
	assert_memory_equal(kept.message.content.payload, payload, strlen(payload));
	assert_memory_equal(kept.message.content.properties, "pp", 2);
	assert_memory_equal(kept.message.publisher, "who", 3);
	assert_true(kept.message.time == 5 && kept.message.qos == 1 && kept.message.retain);
	assert_true(kept.recipients[0].consumer == 1 && kept.recipients[0].identifier == 9 &&
			kept.recipients[0].options == 3);
	assert_int_equal(entry->size, 100);
}

/* The file as it is now, as a process that was killed would leave it. */
static unsigned char *snapshot(size_t *ret_size)
{
	struct stat status;
	unsigned char *bytes;
	int file = open(path, O_RDONLY);

	assert_int_equal(fstat(file, &status), 0);
	bytes = malloc((size_t)status.st_size + 1);
	assert_non_null(bytes);
	assert_int_equal(read(file, bytes, (size_t)status.st_size), status.st_size);
	(void)close(file);
	*ret_size = (size_t)status.st_size;
	return bytes;
}

static void restore(const unsigned char *bytes, size_t size)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(file, bytes, size), size);
	(void)close(file);
}

static void done(struct journal *journal, uint64_t id, uint32_t consumer)
{
	struct journal_entry *entry = journal_find(journal, id, consumer);

	assert_non_null(entry);
	journal_done(journal, entry, consumer);
}

static void done_all(struct journal *journal)
{
	while (journal_first(journal)) {
		journal_done(journal, journal_first(journal), 0);
	}
}

/* ---- the tests ---- */

static void test_what_is_put_comes_back(void **state)
{
	struct journal *journal = must_open(true);
	struct stat status;
	unsigned char *bytes;
	size_t size;

	(void)state;
	assert_null(journal_first(journal));
	must_put(journal, 10, "first", 1);
	must_put(journal, 12, "", 3);
	must_put(journal, 11, "third", 2);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_message(journal, 10, "first");
	assert_message(journal, 12, "");
	assert_int_equal(journal_next(journal, 0, 0)->id, 10);
	assert_int_equal(journal_next(journal, 2, 0)->id, 11);
	assert_int_equal(journal_next(journal, 2, 11)->id, 12);
	assert_null(journal_next(journal, 2, 12));
	assert_null(journal_find(journal, 10, 2));
	done(journal, 12, 2);
	done(journal, 10, 1);
	assert_null(journal_find(journal, 12, 2));
	assert_int_equal(journal_first(journal)->id, 12);
	assert_int_equal(journal_after(journal, journal_first(journal))->id, 11);
	assert_int_equal(journal_messages(journal), 2);
	assert_true(journal_write_done(journal));
	bytes = snapshot(&size);
	journal_close(journal);
	restore(bytes, size);
	free(bytes);
	journal = must_open(false);
	assert_int_equal(found.newest, 12);
	assert_int_equal(found.damaged_at, 0);
	assert_int_equal(journal_messages(journal), 2);
	assert_null(journal_find(journal, 12, 2));
	assert_non_null(journal_find(journal, 12, 3));
	assert_message(journal, 11, "third");
	must_put(journal, 13, "more", 1);
	assert_message(journal, 13, "more");
	done_all(journal);
	journal_close(journal);
	journal_close(NULL);
	assert_int_equal(stat(path, &status), -1);
}

/* Four records; *ret_used: so many bytes. */
static unsigned char *make_four(size_t *ret_size, uint64_t at[5])
{
	struct journal *journal = must_open(false);
	unsigned char *bytes;
	uint64_t id;

	for (id = 1; id <= 4; id++) {
		must_put(journal, id, "0123456789", 2);
		at[id - 1] = journal_find(journal, id, 0)->at;
		at[id] = at[id - 1] + journal_find(journal, id, 0)->length;
	}
	bytes = snapshot(ret_size);
	done_all(journal);
	journal_close(journal);
	return bytes;
}

static void test_a_cut_file(void **state)
{
	uint64_t at[5];
	size_t size, cut, whole, i;
	unsigned char *bytes = make_four(&size, at);

	(void)state;
	for (cut = 0; cut <= at[4] + 8; cut++) {
		struct journal *journal = NULL;
		int error;

		restore(bytes, cut);
		error = journal_open(inbox, 1, false, &journal, &found);
		if (cut > 0 && cut < HEADER) {
			assert_int_equal(error, EBADMSG);
			continue;
		}
		assert_int_equal(error, 0);
		assert_int_equal(found.damaged_at, 0);
		for (whole = 0; whole < 4 && at[whole + 1] <= cut; whole++) {
		}
		assert_int_equal(journal_messages(journal), whole);
		for (i = 1; i <= whole; i++) {
			assert_message(journal, i, "0123456789");
		}
		/* Its place is used again. */
		must_put(journal, 9, "", 1);
		assert_message(journal, 9, "");
		done_all(journal);
		journal_close(journal);
	}
	free(bytes);
	(void)unlink(path);
}

static void test_a_flipped_bit(void **state)
{
	uint64_t at[5];
	size_t size, i;
	unsigned char *bytes = make_four(&size, at);

	(void)state;
	for (i = 0; i < at[4]; i++) {
		struct journal *journal = NULL;
		size_t which = 0;
		int error;

		bytes[i] ^= (unsigned char)(1U << i % 8);
		restore(bytes, at[4]);
		bytes[i] ^= (unsigned char)(1U << i % 8);
		error = journal_open(inbox, 1, false, &journal, &found);
		if (i < HEADER) {
			assert_int_equal(error, EBADMSG);
			continue;
		}
		assert_int_equal(error, 0);
		while (at[which + 1] <= i) {
			which++;
		}
		/* The last may be one that was being written. */
		assert_int_equal(found.damaged_at, which == 3 ? 0 : at[which]);
		assert_int_equal(journal_messages(journal), 3);
		assert_null(journal_find(journal, which + 1, 0));
		done_all(journal);
		journal_close(journal);
		/* What is damaged stays for whoever looks at it. */
		assert_int_equal(access(path, F_OK), which == 3 ? -1 : 0);
		(void)unlink(path);
	}
	free(bytes);
}

static void test_what_was_before_is_no_record(void **state)
{
	static char payload[20001];
	struct journal *journal = must_open(false);
	unsigned char *bytes;
	uint64_t id;
	size_t size;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	for (id = 1; id <= 100; id++) {
		must_put(journal, id, payload, 1);
	}
	done_all(journal);
	journal_restart(journal, false);
	must_put(journal, 101, payload, 1);
	must_put(journal, 102, "short", 1);
	assert_true(journal_find(journal, 102, 0)->at < 30000);
	bytes = snapshot(&size);
	done_all(journal);
	journal_close(journal);
	restore(bytes, size);
	journal = must_open(false);
	assert_int_equal(journal_messages(journal), 2);
	assert_int_equal(found.damaged_at, 0);
	assert_message(journal, 101, payload);
	assert_message(journal, 102, "short");
	done_all(journal);
	journal_close(journal);
	/* Nothing but room, as a machine may leave it that failed at once. */
	memset(bytes, 0, size);
	restore(bytes, size);
	journal = must_open(false);
	assert_null(journal_first(journal));
	must_put(journal, 1, "x", 1);
	done_all(journal);
	journal_close(journal);
	free(bytes);
}

static void test_it_stays_small(void **state)
{
	static char payload[60001];
	struct journal *journal = must_open(false);
	struct stat status;
	uint64_t id = 1, moved = 0;
	size_t surplus;

	(void)state;
	memset(payload, 'x', sizeof payload - 1);
	while (put(journal, id, payload, 1)) {
		id++;
	}
	assert_true(id > 250);
	assert_int_equal(journal_surplus(journal), id - 1);
	assert_message(journal, 1, payload);
	done_all(journal);
	journal_restart(journal, false);
	/* With one that nobody handles, and others that somebody moves. */
	for (; id < 20000; id++) {
		surplus = journal_surplus(journal);
		moved += surplus;
		while (surplus-- > 0) {
			journal_done(journal, journal_first(journal), 0);
		}
		journal_restart(journal, false);
		must_put(journal, id, id % 3 ? "x" : payload, 1);
		if (id % 1000 != 0) {
			done(journal, id, 1);
		}
		assert_true(journal_messages(journal) <= JOURNAL_MESSAGES);
	}
	assert_in_range(moved, 1, 20);
	for (; id < 30000; id++) {
		surplus = journal_surplus(journal);
		assert_true(surplus <= JOURNAL_PORTION || surplus == journal_messages(journal));
		while (surplus-- > 0) {
			journal_done(journal, journal_first(journal), 0);
		}
		journal_restart(journal, false);
		must_put(journal, id, "x", 1);
		assert_true(journal_messages(journal) <= JOURNAL_MESSAGES + 1);
	}
	assert_int_equal(stat(path, &status), 0);
	assert_true(status.st_size <= (off_t)JOURNAL_SIZE);
	/* What is old goes. */
	for (id = 0; id < 9; id++) {
		assert_int_equal(journal_tick(journal), 0);
	}
	assert_int_equal(journal_tick(journal), JOURNAL_PORTION);
	done_all(journal);
	journal_close(journal);
}

static void limit_files(off_t size)
{
	struct rlimit limit;

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size < 0 ? limit.rlim_max : (rlim_t)size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_no_room(void **state)
{
	struct journal *journal = must_open(false);
	unsigned char *bytes;
	uint64_t id, last = 0;
	size_t size;

	(void)state;
	for (id = 1; id < 1000; id++) {
		/* In the middle of a record. */
		limit_files((off_t)id * 97);
		if (put(journal, id, "some words", 1)) {
			last = id;
			assert_message(journal, id, "some words");
		} else {
			assert_null(journal_find(journal, id, 0));
		}
		limit_files(-1);
	}
	assert_true(last > 0);
	must_put(journal, 1000, "last", 1);
	size = journal_messages(journal);
	bytes = snapshot(&id);
	done_all(journal);
	journal_close(journal);
	restore(bytes, id);
	free(bytes);
	journal = must_open(false);
	assert_int_equal(found.damaged_at, 0);
	assert_int_equal(journal_messages(journal), size);
	assert_message(journal, 1000, "last");
	done_all(journal);
	journal_close(journal);
}

static void test_what_changed_below(void **state)
{
	struct journal *journal = must_open(false);
	struct journal_message kept;
	struct journal_entry *entry;
	int file = open(path, O_WRONLY);

	(void)state;
	must_put(journal, 1, "one", 1);
	must_put(journal, 2, "two", 1);
	entry = journal_find(journal, 1, 0);
	assert_int_equal(pwrite(file, "?", 1, (off_t)(entry->at + entry->length - 10)), 1);
	assert_int_equal(journal_read(journal, entry, &kept), STORE_CORRUPT);
	assert_message(journal, 2, "two");
	assert_int_equal(ftruncate(file, 30), 0);
	assert_int_equal(journal_read(journal, journal_find(journal, 2, 0), &kept), STORE_CORRUPT);
	(void)close(file);
	done_all(journal);
	journal_close(journal);
}

static void test_what_it_does_not_take(void **state)
{
	struct store_message message = {
		.content = {.topic = "t", .topic_length = 1, .payload_length = 100}, .qos = 1};
	struct journal *journal = NULL;

	(void)state;
	assert_true(journal_takes(&message, 1));
	assert_false(journal_takes(&message, 0));
	assert_true(journal_takes(&message, JOURNAL_RECIPIENTS));
	assert_false(journal_takes(&message, JOURNAL_RECIPIENTS + 1));
	message.content.payload_length = JOURNAL_RECORD_MAX;
	assert_false(journal_takes(&message, 1));
	message.content.payload_length = SIZE_MAX;
	assert_false(journal_takes(&message, 1));
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_not_equal(journal_open(inbox, 1, false, &journal, &found), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(journal_open(inbox, 1, false, &journal, &found), ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(journal_open(inbox, 1, false, &journal, &found), EBADMSG);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_put_comes_back),
		cmocka_unit_test(test_a_cut_file),
		cmocka_unit_test(test_a_flipped_bit),
		cmocka_unit_test(test_what_was_before_is_no_record),
		cmocka_unit_test(test_it_stays_small),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_what_changed_below),
		cmocka_unit_test(test_what_it_does_not_take),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
