#include "durable/changes.h"

#include <stdlib.h>
#include <string.h>

/* What store_next() returned is still being read, and would keep the log from being started anew; and a
 * transaction may be left of a failure, after which rolling back has failed, too. */
void changes_end_last(struct store *store)
{
	(void)sqlite3_reset(store->database.statements[NEXT]);
	database_roll_back(&store->database);
}

/* ---- transactions ---- */

enum store_result changes_begin(struct store *store)
{
	changes_end_last(store);
	store->change = (struct change){0};
	return database_run(&store->database, BEGIN, 0, 0);
}

/* The first so many. */
static void forget_removals(struct store *store, size_t count)
{
	store->removal_count -= count;
	memmove(store->removals, store->removals + count, store->removal_count * sizeof(*store->removals));
	if (store->removal_count == 0) {
		store->highest_removal = 0;
	}
}

/* What the transaction has done counts from now on. */
static void settle(struct store *store)
{
	const struct change *change = &store->change;

	store->messages = (uint64_t)((int64_t)store->messages + change->messages);
	store->bytes = (uint64_t)((int64_t)store->bytes + change->bytes);
	if (change->of_oldest) {
		store->oldest_id = 0;
	}
	if (change->last_id != 0) {
		store->last_id = change->last_id;
	}
	if (change->removals > 0) {
		forget_removals(store, change->removals);
		store->portion *= store->portion < REMOVALS_AT_ONCE ? 8 : 1;
	}
}

/* Commits if all went well so far, otherwise rolls back. */
enum store_result changes_end(struct store *store, enum store_result result)
{
	if (result == STORE_OK) {
		result = database_run(&store->database, COMMIT, 0, 0);
	}
	if (result != STORE_OK) {
		database_roll_back(&store->database);
		/* The log begins anew, with the room that it has. */
		if (result == STORE_DISK_FULL) {
			(void)database_checkpoint(&store->database, true);
		}
		return result;
	}
	settle(store);
	/* It is committed, whatever becomes of this. */
	(void)database_checkpoint(&store->database, false);
	return STORE_OK;
}

/* ---- removals ---- */

static enum store_result remove_message(struct store *store, uint64_t id)
{
	int64_t size = 0;
	enum store_result result = database_ask(&store->database, SIZE, id, 0, &size);

	if (result != STORE_OK) {
		/* A recipient of nothing is one less. */
		return result == STORE_NOT_FOUND ? STORE_OK : result;
	}
	result = database_run(&store->database, REMOVE_MESSAGE, id, 0);
	store->change.messages--;
	store->change.bytes -= size;
	store->change.of_oldest |= id == store->oldest_id;
	return result;
}

static enum store_result remove_recipient(struct store *store, const struct removal *removal)
{
	int64_t rest = 0;
	enum store_result result =
			database_run(&store->database, REMOVE_RECIPIENT, removal->id, removal->consumer);

	if (result != STORE_OK || sqlite3_changes(store->database.sqlite) == 0) {
		return result;
	}
	result = database_run(&store->database, COUNT_DOWN, removal->id, 0);
	if (result == STORE_OK && sqlite3_changes(store->database.sqlite) != 0) {
		result = database_ask(&store->database, REST, removal->id, 0, &rest);
		if (result == STORE_OK && rest <= 0) {
			result = database_run(&store->database, REMOVE_SEVERAL, removal->id, 0);
		}
	}
	return result == STORE_OK && rest <= 0 ? remove_message(store, removal->id) : result;
}

/* Within a transaction. */
static enum store_result carry_out(struct store *store)
{
	size_t count = store->removal_count < store->portion ? store->removal_count : store->portion;
	enum store_result result = STORE_OK;

	while (result == STORE_OK && store->change.removals < count) {
		result = remove_recipient(store, &store->removals[store->change.removals]);
		store->change.removals++;
	}
	return result;
}

/* After a transaction whose removals have failed: fewer of them. Returns whether to try again. */
static bool relent(struct store *store)
{
	if (store->change.removals == 0 || store->portion == 1) {
		return false;
	}
	store->portion /= 8;
	return true;
}

/* Where one alone meets damage it is given up: it would keep all others, and what is put, waiting for ever.
 */
static bool relent_for_good(struct store *store)
{
	if (store->change.removals > 0 && store->portion == 1) {
		forget_removals(store, 1);
		store->given_up++;
		return true;
	}
	return relent(store);
}

/* Begins a transaction with the removals that are its part. */
enum store_result changes_begin_with_removals(struct store *store)
{
	enum store_result result;

	do {
		result = changes_begin(store);
		if (result == STORE_OK) {
			result = carry_out(store);
		}
		if (result != STORE_OK) {
			(void)changes_end(store, result);
		}
	} while ((result == STORE_CORRUPT || result == STORE_FAILED) && relent_for_good(store));
	return result;
}

/* In a transaction of their own. Where the disk is full, what the log has room for may be less than a
 * portion. */
enum store_result changes_carry_out_alone(struct store *store)
{
	enum store_result result;

	do {
		result = changes_begin_with_removals(store);
		if (result == STORE_OK) {
			result = changes_end(store, STORE_OK);
		}
	} while (result == STORE_DISK_FULL && relent(store));
	return result;
}

enum store_result changes_carry_out_all(struct store *store)
{
	enum store_result result = STORE_OK;

	while (result == STORE_OK && store->removal_count > 0) {
		result = changes_carry_out_alone(store);
	}
	return result;
}

bool changes_waits(const struct store *store, uint64_t id, uint32_t consumer)
{
	size_t i;

	for (i = 0; i < store->removal_count; i++) {
		if (store->removals[i].id == id && store->removals[i].consumer == consumer) {
			return true;
		}
	}
	return false;
}

static bool make_room_for_removal(struct store *store)
{
	size_t capacity = store->removal_capacity > 0 ? 2 * store->removal_capacity : 64;
	struct removal *removals;

	if (store->removal_count < store->removal_capacity) {
		return true;
	}
	if (capacity > REMOVALS_MAX) {
		return false;
	}
	removals = realloc(store->removals, capacity * sizeof(*removals));
	if (!removals) {
		return false;
	}
	store->removals = removals;
	store->removal_capacity = capacity;
	return true;
}

enum store_result changes_remove(struct store *store, uint64_t id, uint32_t consumer)
{
	/* While the disk refuses, not every time. */
	if (store->removal_count > 0 && store->removal_count % REMOVALS_AT_ONCE == 0) {
		(void)changes_carry_out_all(store);
	}
	if (!make_room_for_removal(store)) {
		enum store_result result = changes_carry_out_all(store);

		if (!make_room_for_removal(store)) {
			return result == STORE_OK ? STORE_NO_MEMORY : result;
		}
	}
	store->removals[store->removal_count++] = (struct removal){.id = id, .consumer = consumer};
	if (id > store->highest_removal) {
		store->highest_removal = id;
	}
	return STORE_OK;
}
