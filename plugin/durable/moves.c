#include "durable/moves.h"

#include "durable/changes.h"
#include "durable/database.h"
#include "durable/journal.h"

/* Bytes of the journal that one transaction moves, and the last of its messages. */
#define MOVED_AT_ONCE (256U << 10)

/* ---- rows ---- */

static enum store_result add_message(struct store *store, const struct store_message *message, uint64_t id,
		uint64_t size)
{
	const struct message_content *content = &message->content;
	sqlite3_stmt *statement = database_bind(&store->database, ADD_MESSAGE, id, size);
	enum store_result result;

	/* Nothing is copied. No memory shows as a column that must not be NULL, so ask. */
	if (sqlite3_bind_int64(statement, 3, message->time) != SQLITE_OK ||
			sqlite3_bind_int(statement, 4, message->qos) != SQLITE_OK ||
			sqlite3_bind_int(statement, 5, message->retain) != SQLITE_OK ||
			sqlite3_bind_text64(statement, 6, content->topic, content->topic_length, SQLITE_STATIC,
					SQLITE_UTF8) != SQLITE_OK ||
			sqlite3_bind_blob64(statement, 7, content->properties, content->properties_length,
					SQLITE_STATIC) != SQLITE_OK ||
			sqlite3_bind_blob64(statement, 8, message->publisher, message->publisher_length, SQLITE_STATIC) !=
					SQLITE_OK ||
			sqlite3_bind_blob64(statement, 9, content->payload, content->payload_length, SQLITE_STATIC) !=
					SQLITE_OK) {
		result = STORE_NO_MEMORY;
	} else {
		result = database_finish(&store->database, statement);
	}
	/* What it points to is the caller's. */
	(void)sqlite3_clear_bindings(statement);
	return result;
}

static enum store_result add_recipients(struct store *store, uint64_t id,
		const struct store_recipient *recipients, size_t count)
{
	enum store_result result = STORE_OK;
	size_t i;

	for (i = 0; result == STORE_OK && i < count; i++) {
		sqlite3_stmt *statement = database_bind(&store->database, ADD_RECIPIENT, id, recipients[i].consumer);

		(void)sqlite3_bind_int(statement, 3, recipients[i].options);
		(void)sqlite3_bind_int64(statement, 4, recipients[i].identifier);
		result = database_finish(&store->database, statement);
	}
	if (result == STORE_OK && count > 1) {
		result = database_run(&store->database, ADD_SEVERAL, id, count);
	}
	return result;
}

enum store_result moves_insert(struct store *store, const struct store_message *message, uint64_t id,
		uint64_t size, const struct store_recipient *recipients, size_t recipient_count)
{
	enum store_result result = add_message(store, message, id, size);

	return result == STORE_OK ? add_recipients(store, id, recipients, recipient_count) : result;
}

/* ---- from the journal into the database ---- */

enum store_result moves_message(struct store *store, const struct journal_entry *entry)
{
	struct journal_message kept;
	int64_t size;
	size_t i, count = 0;
	enum store_result result = journal_read(store->journal, entry, &kept);

	if (result == STORE_OK) {
		result = database_ask(&store->database, SIZE, entry->id, 0, &size);
	}
	if (result == STORE_OK) {
		store->change.messages--;
		store->change.bytes -= (int64_t)entry->size;
	}
	if (result != STORE_NOT_FOUND) {
		return result;
	}
	for (i = 0; i < kept.recipient_count; i++) {
		if (journal_awaits(entry, kept.recipients[i].consumer)) {
			kept.recipients[count++] = kept.recipients[i];
		}
	}
	store->change.of_oldest = true;
	return moves_insert(store, &kept.message, entry->id, entry->size, kept.recipients, count);
}

/* The oldest, at most so many, and no more than the log has room for on a disk that is full. Sets *ret_moved.
 */
static enum store_result move_in_transaction(struct store *store, size_t at_most, size_t *ret_moved)
{
	struct journal_entry *entry = journal_first(store->journal);
	enum store_result result = changes_begin(store), read = STORE_OK;
	size_t moved = 0, bytes = 0;

	*ret_moved = 0;
	if (result != STORE_OK) {
		return result;
	}
	while (read == STORE_OK && entry && moved < at_most && bytes < MOVED_AT_ONCE) {
		read = moves_message(store, entry);
		moved += read == STORE_OK;
		bytes += entry->length;
		entry = journal_after(store->journal, entry);
	}
	/* What is before one that cannot be read goes. */
	result = read == STORE_OK || (read == STORE_CORRUPT && moved > 0) ? database_reserve(&store->database)
																	  : read;
	result = changes_end(store, result);
	*ret_moved = result == STORE_OK ? moved : 0;
	return result == STORE_OK && moved == 0 ? read : result;
}

enum store_result moves_portion(struct store *store, size_t at_most)
{
	struct journal_entry *entry = journal_first(store->journal);
	struct journal_message kept;
	enum store_result result = STORE_OK;
	size_t moved = 0;

	if (entry && at_most > 0) {
		result = move_in_transaction(store, at_most, &moved);
	}
	if (result == STORE_CORRUPT && journal_read(store->journal, entry, &kept) == STORE_CORRUPT) {
		store->messages--;
		store->bytes -= entry->size;
		store->given_up++;
		moved = 1;
	}
	while (moved-- > 0) {
		journal_done(store->journal, journal_first(store->journal), 0);
	}
	journal_restart(store->journal, false);
	return result;
}

enum store_result moves_all(struct store *store)
{
	enum store_result result = STORE_OK;

	while (journal_messages(store->journal) > 0 && (result == STORE_OK || result == STORE_CORRUPT)) {
		size_t before = journal_messages(store->journal);

		result = moves_portion(store, JOURNAL_PORTION);
		if (journal_messages(store->journal) == before) {
			return result;
		}
	}
	return result;
}
