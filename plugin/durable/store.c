#include "durable/store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "durable/changes.h"
#include "durable/database.h"
#include "durable/files.h"
#include "durable/journal.h"
#include "durable/moves.h"
#include "durable/row.h"
#include "durable/schema.h"
#include "shared/text.h"

/* What the rows of a message take in the file besides its content, about. */
#define MESSAGE_OVERHEAD 64U
#define RECIPIENT_OVERHEAD 32U

/* Where the newest id is written down, and so how many of them a start may leave out. */
#define IDS_AT_ONCE 65536U

/* Unused pages from which on, if they are also a quarter of the file, some are given back in each tick of a
 * store that nobody puts anything into. */
#define SPARE_PAGES 256

/* ---- done ---- */

enum store_result store_done(struct store *store, uint64_t id, uint32_t consumer)
{
	struct journal_entry *entry;

	changes_end_last(store);
	entry = consumer != 0 ? journal_find(store->journal, id, consumer) : NULL;
	if (!entry) {
		return changes_remove(store, id, consumer);
	}
	journal_done(store->journal, entry, consumer);
	if (entry->left == 0) {
		store->messages--;
		store->bytes -= entry->size;
		journal_restart(store->journal, false);
	}
	return STORE_OK;
}

/* ---- put ---- */

uint64_t store_message_size(const struct store_message *message, size_t recipient_count)
{
	const struct message_content *content = &message->content;

	return MESSAGE_OVERHEAD + (uint64_t)recipient_count * RECIPIENT_OVERHEAD + content->topic_length +
			content->payload_length + content->properties_length + message->publisher_length;
}

/* Within a transaction: writes down which ids have been used, when more are. */
static enum store_result use_ids(struct store *store)
{
	if (store->next_id <= store->last_id) {
		return STORE_OK;
	}
	store->change.last_id = store->next_id + IDS_AT_ONCE - 1;
	return database_run(&store->database, USE, store->change.last_id, 0);
}

/* On a disk that refuses, a try costs a millisecond: no more of them with each message. */
static void note_refusal(struct store *store, enum store_result result)
{
	store->stuck = result == STORE_DISK_FULL || result == STORE_FAILED ? result : STORE_OK;
}

static void move(struct store *store, size_t at_most)
{
	note_refusal(store, moves_portion(store, at_most));
}

/* Whether it is in the journal. If not, the database is to have it. */
static bool put_in_journal(struct store *store, const struct store_message *message, uint64_t id,
		uint64_t size, const struct store_recipient *recipients, size_t recipient_count)
{
	size_t surplus;

	/* Only the database can say that more ids are used. */
	if (id > store->last_id || store->next_id > store->last_id || !journal_takes(message, recipient_count)) {
		return false;
	}
	surplus = store->stuck == STORE_OK ? journal_surplus(store->journal) : 0;
	if (surplus > 0) {
		move(store, surplus);
	}
	if (!journal_put(store->journal, message, id, size, recipients, recipient_count)) {
		if (journal_messages(store->journal) > 0) {
			return false;
		}
		/* On a disk that is full there is the room of what was handled. */
		journal_restart(store->journal, true);
		if (!journal_put(store->journal, message, id, size, recipients, recipient_count)) {
			return false;
		}
	}
	store->messages++;
	store->bytes += size;
	return true;
}

/* ---- put ---- */

static bool is_beyond(const struct store *store, uint64_t size)
{
	return size > store->limit || store->bytes > store->limit - size;
}

/* While checkpoints fail everything stays in the log, which must not grow without end. */
static bool log_is_beyond(const struct store *store)
{
	return store->database.of_checkpoint != STORE_OK &&
			store->database.log_pages / 2 > store->limit / FILES_PAGE;
}

/* Whether there is room for it, if need be after removals. */
static enum store_result find_room(struct store *store, uint64_t size)
{
	enum store_result result = STORE_OK;

	if (log_is_beyond(store)) {
		return store->database.of_checkpoint;
	}
	if (is_beyond(store, size)) {
		result = changes_carry_out_all(store);
	}
	return result == STORE_OK && is_beyond(store, size) ? STORE_FULL : result;
}

static enum store_result put_in_database(struct store *store, const struct store_message *message,
		uint64_t id, uint64_t size, const struct store_recipient *recipients, size_t recipient_count)
{
	enum store_result result = changes_begin_with_removals(store);

	if (result != STORE_OK) {
		return result;
	}
	result = use_ids(store);
	if (result == STORE_OK) {
		result = moves_insert(store, message, id, size, recipients, recipient_count);
	}
	if (result == STORE_OK) {
		result = database_reserve(&store->database);
	}
	store->change.messages++;
	store->change.bytes += (int64_t)size;
	return changes_end(store, result);
}

enum store_result store_put(struct store *store, const struct store_message *message,
		const struct store_recipient *recipients, size_t recipient_count, uint64_t *ret_id)
{
	uint64_t size = store_message_size(message, recipient_count);
	uint64_t id = message->id ? message->id : store->next_id;
	enum store_result result;

	changes_end_last(store);
	store->is_idle = false;
	result = find_room(store, size);
	if (result == STORE_OK && !put_in_journal(store, message, id, size, recipients, recipient_count)) {
		if (store->stuck == STORE_OK) {
			result = put_in_database(store, message, id, size, recipients, recipient_count);
			note_refusal(store, result);
		} else {
			result = store->stuck;
		}
	}
	if (result == STORE_OK) {
		*ret_id = id;
		if (id >= store->next_id) {
			store->next_id = id + 1;
		}
	}
	return result;
}

/* ---- reading ---- */

/* The delivery that cannot be read: only which one it is, if that can be told, so that whoever reads goes on
 * behind it. */
static void name_unreadable(struct store *store, uint32_t consumer, uint64_t after,
		struct store_delivery *ret)
{
	int64_t id = 0;
	enum store_result result = database_ask(&store->database, NEXT_ID, after, consumer, &id);

	*ret = (struct store_delivery){.recipient.consumer = consumer};
	if (result == STORE_OK && (uint64_t)id > after) {
		ret->message.id = (uint64_t)id;
	}
}

static enum store_result read_next(struct store *store, uint32_t consumer, uint64_t after,
		struct store_delivery *ret_delivery)
{
	sqlite3_stmt *statement = database_bind(&store->database, NEXT, after, consumer);
	int rc = sqlite3_step(statement);
	enum store_result result = rc == SQLITE_DONE ? STORE_NOT_FOUND : database_result(&store->database, rc);

	if (rc == SQLITE_ROW) {
		result = row_read(statement, consumer, ret_delivery);
		/* Whoever reads on from there would do so for ever. */
		if (result == STORE_OK && ret_delivery->message.id <= after) {
			result = STORE_CORRUPT;
		}
	}
	if (result != STORE_OK) {
		changes_end_last(store);
	}
	if (result == STORE_CORRUPT || result == STORE_FAILED) {
		name_unreadable(store, consumer, after, ret_delivery);
	}
	return result;
}

static enum store_result next_in_database(struct store *store, uint32_t consumer, uint64_t after,
		struct store_delivery *ret_delivery)
{
	enum store_result result;

	/* It may be among those. If the disk refuses, they are left out one by one. */
	if (after < store->highest_removal) {
		(void)changes_carry_out_all(store);
	}
	for (;;) {
		result = read_next(store, consumer, after, ret_delivery);
		if (result != STORE_OK && result != STORE_CORRUPT && result != STORE_FAILED) {
			return result;
		}
		after = ret_delivery->message.id;
		if (after == 0 || after > store->highest_removal || !changes_waits(store, after, consumer)) {
			return result;
		}
		changes_end_last(store);
	}
}

static enum store_result next_in_journal(struct store *store, uint32_t consumer,
		const struct journal_entry *entry, struct store_delivery *ret)
{
	struct journal_message kept;
	enum store_result result = journal_read(store->journal, entry, &kept);
	size_t i;

	*ret = (struct store_delivery){.recipient.consumer = consumer, .message.id = entry->id};
	if (result == STORE_OK) {
		ret->message = kept.message;
		for (i = 0; i < kept.recipient_count; i++) {
			if (kept.recipients[i].consumer == consumer) {
				ret->recipient = kept.recipients[i];
			}
		}
	}
	return result;
}

enum store_result store_next(struct store *store, uint32_t consumer, uint64_t after,
		struct store_delivery *ret_delivery)
{
	struct journal_entry *entry;
	enum store_result result;

	changes_end_last(store);
	result = next_in_database(store, consumer, after, ret_delivery);
	entry = consumer != 0 ? journal_next(store->journal, consumer, after) : NULL;
	/* What fails now is tried again, and nothing is to be read before it. */
	if (!entry || (result != STORE_NOT_FOUND && result != STORE_OK && result != STORE_CORRUPT) ||
			(result != STORE_NOT_FOUND && ret_delivery->message.id < entry->id)) {
		return result;
	}
	changes_end_last(store);
	return next_in_journal(store, consumer, entry, ret_delivery);
}

enum store_result store_failed(struct store *store, uint64_t id, uint32_t consumer, uint32_t *ret_tries)
{
	int64_t tries = 0;
	struct journal_entry *entry = consumer != 0 ? journal_find(store->journal, id, consumer) : NULL;
	enum store_result result = changes_begin_with_removals(store);

	if (result != STORE_OK) {
		return result;
	}
	/* How often is only in the database. */
	if (entry) {
		result = moves_message(store, entry);
	}
	if (result == STORE_OK) {
		result = database_run(&store->database, FAIL, id, consumer);
	}
	if (result == STORE_OK) {
		result = database_ask(&store->database, TRIES, id, consumer, &tries);
	}
	result = changes_end(store, result);
	if (result == STORE_OK && entry) {
		journal_done(store->journal, entry, 0);
	}
	if (result == STORE_OK) {
		*ret_tries = (uint32_t)tries;
	}
	return result;
}

/* ---- consumers ---- */

enum store_result store_asked(struct store *store, uint32_t consumer, int64_t now)
{
	enum store_result result;

	changes_end_last(store);
	result = database_run(&store->database, ASK, consumer, (uint64_t)now);
	return result == STORE_OK && sqlite3_changes(store->database.sqlite) == 0 ? STORE_NOT_FOUND : result;
}

enum store_result store_consumer(struct store *store, const char *name, int64_t now, uint32_t *ret_number)
{
	sqlite3_stmt *find = store->database.statements[FIND_CONSUMER],
				 *add = store->database.statements[ADD_CONSUMER];
	int64_t number = 0;
	enum store_result result;
	int rc;

	changes_end_last(store);
	if (sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC) != SQLITE_OK ||
			sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC) != SQLITE_OK) {
		return STORE_NO_MEMORY;
	}
	rc = sqlite3_step(find);
	if (rc == SQLITE_ROW) {
		number = sqlite3_column_int64(find, 0);
	}
	(void)sqlite3_reset(find);
	result = database_result(&store->database, rc);
	if (rc == SQLITE_ROW) {
		result = store_asked(store, (uint32_t)number, now);
	} else if (result == STORE_OK) {
		(void)sqlite3_bind_int64(add, 2, now);
		result = database_finish(&store->database, add);
		number = sqlite3_last_insert_rowid(store->database.sqlite);
	}
	(void)sqlite3_clear_bindings(find);
	(void)sqlite3_clear_bindings(add);
	if (result == STORE_OK) {
		*ret_number = (uint32_t)number;
	}
	return result;
}

/* The first consumer that nobody has asked for since; its name is the caller's. */
static enum store_result find_unasked(struct store *store, int64_t before, uint32_t *ret_number,
		char **ret_name)
{
	sqlite3_stmt *statement = database_bind(&store->database, UNASKED, (uint64_t)before, 0);
	int rc = sqlite3_step(statement);
	enum store_result result = rc == SQLITE_DONE ? STORE_NOT_FOUND : database_result(&store->database, rc);
	const char *name;

	if (rc == SQLITE_ROW) {
		*ret_number = (uint32_t)sqlite3_column_int64(statement, 0);
		name = (const char *)sqlite3_column_text(statement, 1);
		*ret_name = name ? text_copy(name, strlen(name)) : NULL;
		result = *ret_name ? STORE_OK : STORE_NO_MEMORY;
	}
	(void)sqlite3_reset(statement);
	return result;
}

/* One that has no messages; what it may have in a damaged file is none. */
static enum store_result forget_consumer(struct store *store, uint32_t consumer)
{
	enum store_result result;

	/* A start must not bring messages of one that is no longer there. */
	if (!journal_write_done(store->journal)) {
		return STORE_FAILED;
	}
	result = changes_begin(store);
	if (result != STORE_OK) {
		return result;
	}
	result = database_run(&store->database, REMOVE_REST, consumer, 0);
	if (result == STORE_OK) {
		result = database_run(&store->database, REMOVE_CONSUMER, consumer, 0);
	}
	/* It would be found for ever. */
	if (result == STORE_OK && sqlite3_changes(store->database.sqlite) == 0) {
		result = STORE_CORRUPT;
	}
	return changes_end(store, result);
}

/* Takes up to at_most messages of one consumer. STORE_NOT_FOUND: it has no more, and is forgotten. */
static enum store_result expire_consumer(struct store *store, uint32_t consumer, const char *name,
		size_t at_most,
		bool (*take)(void *userdata, const char *consumer, const struct store_delivery *delivery),
		void *userdata, size_t *taken, bool *ret_stop)
{
	struct store_delivery delivery = {0};
	enum store_result result = STORE_OK, removed;
	uint64_t unreadable = 0, given_up = store->given_up;

	while (result == STORE_OK && !*ret_stop && *taken < at_most) {
		result = store_next(store, consumer, delivery.message.id, &delivery);
		if (result == STORE_CORRUPT && delivery.message.id != 0) {
			/* Nobody can read it, and the others are not to wait for that. */
			unreadable++;
			result = STORE_OK;
		} else if (result == STORE_OK) {
			*ret_stop = !take(userdata, name, &delivery);
		}
		if (result == STORE_OK && !*ret_stop) {
			result = store_done(store, delivery.message.id, consumer);
			*taken += result == STORE_OK;
		}
	}
	removed = changes_carry_out_all(store);
	if (removed == STORE_OK && store->given_up != given_up) {
		removed = STORE_CORRUPT;
	}
	store->given_up += unreadable;
	if (removed == STORE_OK && result == STORE_NOT_FOUND) {
		removed = forget_consumer(store, consumer);
	}
	return removed == STORE_OK ? result : removed;
}

enum store_result store_expire(struct store *store, int64_t before, size_t at_most,
		bool (*take)(void *userdata, const char *consumer, const struct store_delivery *delivery),
		void *userdata, size_t *ret_taken)
{
	enum store_result result;
	bool stop = false;
	uint32_t consumer = 0;
	char *name = NULL;

	changes_end_last(store);
	*ret_taken = 0;
	do {
		result = find_unasked(store, before, &consumer, &name);
		if (result != STORE_OK) {
			return result == STORE_NOT_FOUND ? STORE_OK : result;
		}
		result = expire_consumer(store, consumer, name, at_most, take, userdata, ret_taken, &stop);
		free(name);
	} while (result == STORE_NOT_FOUND && !stop);
	return result;
}

/* ---- the store ---- */

/* Gives pages back to the file system, some at a time. */
static enum store_result shrink(struct store *store)
{
	int64_t spare = 0, pages = 0;
	enum store_result result = database_ask(&store->database, SPARE, 0, 0, &spare);

	if (result == STORE_OK && spare > SPARE_PAGES) {
		result = database_ask(&store->database, PAGES, 0, 0, &pages);
		if (result == STORE_OK && spare > pages / 4) {
			result = database_run(&store->database, SHRINK, 0, 0);
		}
	}
	return result;
}

enum store_result store_tick(struct store *store)
{
	enum store_result result = STORE_OK;
	bool was_idle = store->is_idle;
	size_t due;

	changes_end_last(store);
	due = journal_tick(store->journal);
	move(store, due == 0 && store->stuck != STORE_OK ? 1 : due);
	store->is_idle = store->removal_count == 0;
	if (store->removal_count > 0) {
		result = changes_carry_out_alone(store);
	} else if (was_idle) {
		result = shrink(store);
	}
	if (result != STORE_OK) {
		return result;
	}
	/* The file gets shorter only by this. */
	result = database_checkpoint(&store->database, was_idle || store->database.of_checkpoint != STORE_OK);
	return result == STORE_OK ? store->stuck : result;
}

static void find_oldest(struct store *store)
{
	sqlite3_stmt *statement = store->database.statements[OLDEST];

	if (sqlite3_step(statement) == SQLITE_ROW) {
		store->oldest_id = (uint64_t)sqlite3_column_int64(statement, 0);
		store->oldest_time = sqlite3_column_int64(statement, 1);
	}
	(void)sqlite3_reset(statement);
}

uint64_t store_newest(const struct store *store)
{
	return store->next_id - 1;
}

struct store_figures store_figures(struct store *store)
{
	const struct journal_entry *entry;
	bool has_others = store->messages > journal_messages(store->journal);

	changes_end_last(store);
	if (has_others && store->oldest_id == 0) {
		find_oldest(store);
	}
	entry = journal_next(store->journal, 0, 0);
	return (struct store_figures){.messages = store->messages,
		.bytes = store->bytes,
		.given_up = store->given_up,
		.oldest = entry && (!has_others || entry->id < store->oldest_id) ? entry->time
				: has_others                                             ? store->oldest_time
																		 : 0};
}

void store_set_limit(struct store *store, uint64_t limit)
{
	store->limit = limit;
}

/* Counts what is there. */
static enum store_result count(struct store *store)
{
	struct database *database = &store->database;
	int64_t messages = 0, bytes = 0, newest = 0, used = 0;
	enum store_result result = database_ask(database, COUNT, 0, 0, &messages);

	if (result == STORE_OK) {
		result = database_ask(database, BYTES, 0, 0, &bytes);
	}
	if (result == STORE_OK) {
		result = database_ask(database, NEWEST, 0, 0, &newest);
	}
	if (result == STORE_OK) {
		result = database_ask(database, USED, 0, 0, &used);
	}
	if (result != STORE_OK) {
		return result;
	}
	newest = used > newest ? used : newest;
	if (messages < 0 || bytes < 0 || newest < 0 || newest > INT64_MAX / 2) {
		return STORE_NOT_FOUND;
	}
	store->messages = (uint64_t)messages;
	store->bytes = (uint64_t)bytes;
	store->next_id = (uint64_t)newest + 1;
	return STORE_OK;
}

/* Returns what SQLite does, and the number of its journal. */
static int prepare(struct store *store, sqlite3 *sqlite, int64_t *ret_journal)
{
	int rc = database_init(&store->database, sqlite);
	enum store_result result;

	if (rc != SQLITE_OK) {
		return rc;
	}
	result = count(store);
	if (result == STORE_OK) {
		result = database_ask(&store->database, JOURNAL, 0, 0, ret_journal);
	}
	if (result == STORE_OK) {
		result = use_ids(store);
		store->last_id = store->change.last_id;
	}
	if (result == STORE_NOT_FOUND) {
		return SQLITE_CORRUPT;
	}
	return result == STORE_OK ? SQLITE_OK : sqlite3_extended_errcode(sqlite);
}

/* What a process that was killed has left there goes into the database; what the disk refuses stays until it
 * does not. False: it is damaged. What is whole has gone, for nothing else would bring it. */
static bool recover(struct store *store, const char *path, int64_t number, bool for_power_loss, char *reason,
		size_t size)
{
	struct journal_found found;
	struct journal_entry *entry;
	char name[PATH_MAX];
	int error = journal_open(path, (uint64_t)number, for_power_loss, &store->journal, &found);

	(void)snprintf(name, sizeof(name), "%s-newest", path);
	if (error == EBADMSG) {
		(void)snprintf(reason, size,
				"The durable inbox %s cannot be used: what came last is in %s, which is damaged, or another "
				"inbox's or program's. Bring back the one that belongs to it, or move that away to start "
				"without it.",
				path, name);
	} else if (error != 0) {
		schema_complain_errno(name, error, reason, size);
	}
	if (error != 0) {
		return false;
	}
	for (entry = journal_first(store->journal); entry; entry = journal_after(store->journal, entry)) {
		store->messages++;
		store->bytes += entry->size;
	}
	if (found.newest >= store->next_id) {
		store->next_id = found.newest + 1;
	}
	if (moves_all(store) == STORE_OK && found.damaged_at == 0) {
		journal_restart(store->journal, true);
	}
	if (found.damaged_at != 0) {
		(void)snprintf(reason, size,
				"The durable inbox %s cannot be used: what came last is in %s, which is damaged at byte %llu. "
				"%s Move it away to start without the rest.",
				path, name, (unsigned long long)found.damaged_at,
				journal_messages(store->journal) == 0 ? "What is whole of it is in the inbox now."
													  : "What is whole of it is still there.");
	}
	return found.damaged_at == 0;
}

struct store *store_open(const char *path, enum store_sync sync, uint64_t limit, char *reason, size_t size)
{
	struct store *store = calloc(1, sizeof(*store));
	sqlite3 *sqlite;
	int64_t number = 0;
	int rc;

	if (!store) {
		(void)snprintf(reason, size, "There is no memory for the durable inbox.");
		return NULL;
	}
	store->limit = limit;
	store->portion = REMOVALS_AT_ONCE;
	sqlite = schema_open(path, sync == STORE_SYNC_FULL, reason, size);
	if (!sqlite) {
		free(store);
		return NULL;
	}
	rc = prepare(store, sqlite, &number);
	if (rc != SQLITE_OK) {
		schema_complain(sqlite, path, rc, reason, size);
	}
	if (rc != SQLITE_OK || !recover(store, path, number, sync == STORE_SYNC_FULL, reason, size)) {
		store_close(store);
		return NULL;
	}
	return store;
}

void store_close(struct store *store)
{
	if (store) {
		changes_end_last(store);
		(void)changes_carry_out_all(store);
		if (store->journal) {
			(void)moves_all(store);
			journal_close(store->journal);
		}
		database_close(&store->database);
		free(store->removals);
		free(store);
	}
}
