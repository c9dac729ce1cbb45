#include "durable/dead.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "durable/dead_file.h"
#include "durable/schema.h"
#include "shared/text.h"

#define WAIT_AT_START_MS 2000

/* What MQTT 5 can carry: 1.5.4, 1.5.5. */
#define TOPIC_MAX 65535U
#define VARIABLE_MAX 268435455

/* Pages of a row besides its content: those that it makes split. */
#define ROW_PAGES 4U

/* BEGIN EXCLUSIVE: where anybody reads it is refused, and not COMMIT, after take() has taken what would then
 * have to come again. */
/* clang-format off */
#define STATEMENTS(STATEMENT) \
	STATEMENT(BEGIN, "BEGIN EXCLUSIVE") \
	STATEMENT(COMMIT, "COMMIT") \
	STATEMENT(ROLLBACK, "ROLLBACK") \
	STATEMENT(REMOVE_SAME, "DELETE FROM dead_letter WHERE consumer = ? AND message = ? AND time = ?") \
	STATEMENT(ADD, "INSERT INTO dead_letter (consumer, message, time, died, reason, tries, traceback, topic, payload, qos, " \
			"retain, properties, publisher, options, identifier) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)") \
	STATEMENT(REMOVE_OLDEST, "DELETE FROM dead_letter WHERE id = (SELECT min(id) FROM dead_letter)") \
	STATEMENT(WANTED, "SELECT id FROM dead_letter WHERE replay = 1 AND id > 0 LIMIT 1") \
	STATEMENT(NEXT_WANTED, "SELECT id, consumer, message, time, died, reason, tries, traceback, topic, payload, qos, " \
			"retain, properties, publisher, options, identifier " \
			"FROM dead_letter WHERE replay = 1 AND id > ? ORDER BY id LIMIT 1") \
	STATEMENT(UNWANT, "UPDATE dead_letter SET replay = 0 WHERE id = ?") \
	STATEMENT(REMOVE, "DELETE FROM dead_letter WHERE id = ?") \
	STATEMENT(COUNT, "SELECT count(*) FROM dead_letter") \
	STATEMENT(PAGES, "PRAGMA page_count") \
	STATEMENT(SPARE, "PRAGMA freelist_count") \
	STATEMENT(PAGE_SIZE, "PRAGMA page_size") \
	STATEMENT(DATA_VERSION, "PRAGMA data_version")
/* clang-format on */

#define STATEMENT_NAME(name, sql) name,
enum statement { STATEMENTS(STATEMENT_NAME) STATEMENTS_END };

#define STATEMENT_SQL(name, sql) [name] = (sql),
static const char *const SQL[] = {STATEMENTS(STATEMENT_SQL)};

struct dead {
	char *path;
	bool for_power_loss;
	uint64_t limit;
	sqlite3 *sqlite;
	sqlite3_stmt *statements[STATEMENTS_END];
	int64_t page_size;
	struct dead_figures figures;
	int64_t data_version; /* of the file when it was counted; it changes when others change the file */
	bool is_counted;      /* in the figures, but for what others have changed */
	int64_t behind;       /* where the next dead_take_replay() begins, an id */
	int64_t owed[DEAD_REPLAY_MAX]; /* ids of what was taken and is yet to be removed */
	size_t owed_count;
};

/* ---- statements ---- */

static enum store_result result_of(struct dead *dead, int rc)
{
	return dead_file_disk_is_full(dead->sqlite, rc) ? STORE_DISK_FULL : store_result_of(dead->sqlite, rc);
}

static enum store_result finish(struct dead *dead, sqlite3_stmt *statement)
{
	enum store_result result;
	int rc;

	do {
		rc = sqlite3_step(statement);
	} while (rc == SQLITE_ROW);
	/* Before the reset, which may use the system, and so change what it said last. */
	result = result_of(dead, rc);
	(void)sqlite3_reset(statement);
	return result;
}

static enum store_result run(struct dead *dead, enum statement which)
{
	return finish(dead, dead->statements[which]);
}

static enum store_result run_for(struct dead *dead, enum statement which, int64_t id)
{
	(void)sqlite3_bind_int64(dead->statements[which], 1, id);
	return run(dead, which);
}

/* The number that a statement returns; STORE_NOT_FOUND: it returns nothing. */
static enum store_result ask(struct dead *dead, enum statement which, int64_t *ret_number)
{
	sqlite3_stmt *statement = dead->statements[which];
	int rc = sqlite3_step(statement);
	enum store_result result = rc == SQLITE_DONE ? STORE_NOT_FOUND : result_of(dead, rc);

	if (rc == SQLITE_ROW) {
		*ret_number = sqlite3_column_int64(statement, 0);
	}
	(void)sqlite3_reset(statement);
	return result;
}

/* ---- the file ---- */

static void close_file(struct dead *dead)
{
	int i;

	for (i = 0; i < STATEMENTS_END; i++) {
		(void)sqlite3_finalize(dead->statements[i]);
		dead->statements[i] = NULL;
	}
	(void)sqlite3_close(dead->sqlite);
	dead->sqlite = NULL;
}

/* Returns what SQLite does. */
static int prepare(struct dead *dead)
{
	int i, rc = SQLITE_OK;

	for (i = 0; rc == SQLITE_OK && i < STATEMENTS_END; i++) {
		rc = sqlite3_prepare_v3(dead->sqlite, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &dead->statements[i],
				NULL);
	}
	if (rc == SQLITE_OK && ask(dead, PAGE_SIZE, &dead->page_size) != STORE_OK) {
		rc = sqlite3_extended_errcode(dead->sqlite);
	}
	return rc;
}

static bool open_file(struct dead *dead, int wait_ms, char *reason, size_t size)
{
	int rc;

	dead->sqlite = dead_file_open(dead->path, dead->for_power_loss, wait_ms, reason, size);
	if (!dead->sqlite) {
		return false;
	}
	dead->is_counted = false;
	dead->behind = 0;
	dead->owed_count = 0;
	rc = prepare(dead);
	if (rc != SQLITE_OK) {
		schema_complain(dead->sqlite, dead->path, rc, reason, size);
		close_file(dead);
	}
	return rc == SQLITE_OK;
}

/* Before anything else: there is a file, at its place, and no transaction, as one may be left of a failure
 * after which rolling back has failed, too. */
static enum store_result look(struct dead *dead)
{
	char reason[256];

	if (dead->sqlite && dead_file_is_gone(dead->sqlite)) {
		close_file(dead);
	}
	if (!dead->sqlite) {
		return open_file(dead, 0, reason, sizeof reason) ? STORE_OK : STORE_FAILED;
	}
	return sqlite3_get_autocommit(dead->sqlite) ? STORE_OK : run(dead, ROLLBACK);
}

static enum store_result begin(struct dead *dead)
{
	enum store_result result = look(dead);

	return result == STORE_OK ? run(dead, BEGIN) : result;
}

/* Commits if all went well so far, otherwise rolls back. */
static enum store_result end(struct dead *dead, enum store_result result)
{
	if (result == STORE_OK) {
		result = run(dead, COMMIT);
	}
	if (result != STORE_OK && !sqlite3_get_autocommit(dead->sqlite)) {
		(void)run(dead, ROLLBACK);
	}
	return result;
}

/* ---- adding ---- */

/* Pages of the file that have something in them. */
static enum store_result used_pages(struct dead *dead, int64_t *ret_pages)
{
	int64_t pages = 0, spare = 0;
	enum store_result result = ask(dead, PAGES, &pages);

	if (result == STORE_OK) {
		result = ask(dead, SPARE, &spare);
	}
	if (result == STORE_OK) {
		*ret_pages = pages - spare;
	}
	return result;
}

static uint64_t pages_of(const struct dead *dead, const struct dead_letter *letter)
{
	const struct store_message *message = &letter->message;
	uint64_t size = strlen(letter->consumer) + strlen(letter->traceback) + message->content.topic_length +
			message->content.payload_length + message->content.properties_length + message->publisher_length;

	return size / (uint64_t)dead->page_size + ROW_PAGES;
}

/* Before the row: it takes the pages that these leave. */
static enum store_result make_room(struct dead *dead, const struct dead_letter *letter, size_t *dropped)
{
	int64_t most = (int64_t)(dead->limit / (uint64_t)dead->page_size),
			needed = (int64_t)pages_of(dead, letter), used = 0;
	enum store_result result;

	while (*dropped < DEAD_DROPPED_MAX) {
		result = used_pages(dead, &used);
		if (result == STORE_OK && used + needed <= most) {
			break;
		}
		if (result == STORE_OK) {
			result = run(dead, REMOVE_OLDEST);
		}
		if (result != STORE_OK) {
			return result;
		}
		if (sqlite3_changes(dead->sqlite) == 0) {
			break;
		}
		++*dropped;
	}
	return STORE_OK;
}

static int bind_text(sqlite3_stmt *statement, int place, const char *text, size_t length)
{
	return sqlite3_bind_text64(statement, place, text, length, SQLITE_STATIC, SQLITE_UTF8);
}

/* NULL is no BLOB. */
static int bind_blob(sqlite3_stmt *statement, int place, const void *bytes, size_t length)
{
	return sqlite3_bind_blob64(statement, place, length > 0 ? bytes : "", length, SQLITE_STATIC);
}

static bool bind_key(sqlite3_stmt *statement, const struct dead_letter *letter)
{
	return bind_text(statement, 1, letter->consumer, strlen(letter->consumer)) == SQLITE_OK &&
			sqlite3_bind_int64(statement, 2, (sqlite3_int64)letter->message.id) == SQLITE_OK &&
			sqlite3_bind_int64(statement, 3, letter->message.time) == SQLITE_OK;
}

static bool bind_rest(sqlite3_stmt *statement, const struct dead_letter *letter)
{
	const struct store_message *message = &letter->message;
	const struct message_content *content = &message->content;

	return sqlite3_bind_int64(statement, 4, letter->died) == SQLITE_OK &&
			bind_text(statement, 5, letter->reason, strlen(letter->reason)) == SQLITE_OK &&
			sqlite3_bind_int64(statement, 6, letter->tries) == SQLITE_OK &&
			bind_text(statement, 7, letter->traceback, strlen(letter->traceback)) == SQLITE_OK &&
			bind_text(statement, 8, content->topic, content->topic_length) == SQLITE_OK &&
			bind_blob(statement, 9, content->payload, content->payload_length) == SQLITE_OK &&
			sqlite3_bind_int(statement, 10, message->qos) == SQLITE_OK &&
			sqlite3_bind_int(statement, 11, message->retain) == SQLITE_OK &&
			bind_blob(statement, 12, content->properties, content->properties_length) == SQLITE_OK &&
			bind_blob(statement, 13, message->publisher, message->publisher_length) == SQLITE_OK &&
			sqlite3_bind_int(statement, 14, letter->options) == SQLITE_OK &&
			sqlite3_bind_int64(statement, 15, letter->identifier) == SQLITE_OK;
}

/* Nothing is copied: what they point to is the caller's. */
static enum store_result add_row(struct dead *dead, const struct dead_letter *letter)
{
	sqlite3_stmt *add = dead->statements[ADD];
	enum store_result result = STORE_NO_MEMORY;

	if (bind_key(add, letter) && bind_rest(add, letter)) {
		result = finish(dead, add);
	}
	(void)sqlite3_clear_bindings(add);
	return result;
}

static enum store_result remove_same(struct dead *dead, const struct dead_letter *letter, size_t *ret_count)
{
	sqlite3_stmt *remove = dead->statements[REMOVE_SAME];
	enum store_result result = STORE_NO_MEMORY;

	if (bind_key(remove, letter)) {
		result = finish(dead, remove);
	}
	(void)sqlite3_clear_bindings(remove);
	if (result == STORE_OK) {
		*ret_count = (size_t)sqlite3_changes(dead->sqlite);
	}
	return result;
}

enum store_result dead_add(struct dead *dead, const struct dead_letter *letter, size_t *ret_dropped)
{
	size_t same = 0, dropped = 0;
	enum store_result result = begin(dead);

	if (result != STORE_OK) {
		return result;
	}
	result = remove_same(dead, letter, &same);
	if (result == STORE_OK) {
		result = make_room(dead, letter, &dropped);
	}
	if (result == STORE_OK) {
		result = add_row(dead, letter);
	}
	result = end(dead, result);
	if (result == STORE_OK) {
		dead->figures.messages += 1 - same - dropped;
		*ret_dropped = dropped;
	}
	return result;
}

/* ---- replay ---- */

/* In a statement's row, behind the id. */
static const char *text_at(sqlite3_stmt *row, int column, size_t *ret_length)
{
	const char *text = (const char *)sqlite3_column_text(row, column);

	*ret_length = (size_t)sqlite3_column_bytes(row, column);
	return text;
}

static const void *blob_at(sqlite3_stmt *row, int column, size_t *ret_length)
{
	const void *bytes = sqlite3_column_blob(row, column);

	*ret_length = (size_t)sqlite3_column_bytes(row, column);
	return bytes;
}

static bool is_between(int64_t value, int64_t least, int64_t most)
{
	return value >= least && value <= most;
}

/* Whether numbers are those of a message. */
static bool has_numbers(sqlite3_stmt *row)
{
	return is_between(sqlite3_column_int64(row, 6), 0, UINT32_MAX) &&
			is_between(sqlite3_column_int64(row, 10), 0, 2) &&
			is_between(sqlite3_column_int64(row, 14), 0, UINT8_MAX) &&
			is_between(sqlite3_column_int64(row, 15), 0, VARIABLE_MAX);
}

static bool is_topic(const char *topic, size_t length)
{
	return topic && is_between((int64_t)length, 1, TOPIC_MAX) && text_is_utf8(topic, length) &&
			!strpbrk(topic, "+#");
}

/* Whether it is a message. Its texts are NUL-terminated by SQLite. */
static bool read_letter(sqlite3_stmt *row, struct dead_letter *ret)
{
	struct store_message *message = &ret->message;
	struct message_content *content = &message->content;
	size_t length, rest;

	*ret = (struct dead_letter){.died = sqlite3_column_int64(row, 4)};
	message->id = (uint64_t)sqlite3_column_int64(row, 2);
	message->time = sqlite3_column_int64(row, 3);
	message->qos = (uint8_t)sqlite3_column_int64(row, 10);
	message->retain = sqlite3_column_int64(row, 11) != 0;
	ret->tries = (uint32_t)sqlite3_column_int64(row, 6);
	ret->options = (uint8_t)sqlite3_column_int64(row, 14);
	ret->identifier = (uint32_t)sqlite3_column_int64(row, 15);
	ret->consumer = text_at(row, 1, &length);
	ret->reason = text_at(row, 5, &rest);
	ret->traceback = text_at(row, 7, &rest);
	content->topic = text_at(row, 8, &content->topic_length);
	content->payload = blob_at(row, 9, &content->payload_length);
	content->properties = blob_at(row, 12, &content->properties_length);
	message->publisher = blob_at(row, 13, &message->publisher_length);
	return has_numbers(row) && ret->consumer && length > 0 && text_is_utf8(ret->consumer, length) &&
			ret->reason && ret->traceback && is_topic(content->topic, content->topic_length) &&
			content->properties_length <= VARIABLE_MAX;
}

/* What one call has got to. */
struct replay {
	bool (*take)(void *userdata, const struct dead_letter *letter);
	void *userdata;
	size_t at_most, taken, refused;
	bool is_over;
};

static enum store_result give_row(struct dead *dead, sqlite3_stmt *row, struct replay *replay)
{
	struct dead_letter letter;
	bool is_letter = read_letter(row, &letter);

	dead->behind = sqlite3_column_int64(row, 0);
	/* What SQLite has no memory to show, is not to blame. */
	if (sqlite3_errcode(dead->sqlite) == SQLITE_NOMEM) {
		(void)sqlite3_reset(row);
		return STORE_NO_MEMORY;
	}
	if (is_letter && replay->take(replay->userdata, &letter)) {
		dead->owed[dead->owed_count++] = dead->behind;
		replay->taken++;
	} else {
		replay->is_over = is_letter;
	}
	(void)sqlite3_reset(row);
	if (is_letter) {
		return STORE_OK;
	}
	replay->refused++;
	return run_for(dead, UNWANT, dead->behind);
}

static enum store_result give(struct dead *dead, struct replay *replay)
{
	sqlite3_stmt *next = dead->statements[NEXT_WANTED];
	enum store_result result = STORE_OK;
	bool is_first = true;
	int rc;

	while (result == STORE_OK && !replay->is_over && replay->taken + replay->refused < replay->at_most) {
		(void)sqlite3_bind_int64(next, 1, dead->behind);
		rc = sqlite3_step(next);
		if (rc == SQLITE_ROW) {
			result = give_row(dead, next, replay);
			is_first = false;
			continue;
		}
		result = result_of(dead, rc);
		(void)sqlite3_reset(next);
		/* At the end; those that were left may be before. */
		replay->is_over = !is_first || dead->behind == 0;
		dead->behind = 0;
	}
	return result;
}

static enum store_result remove_owed(struct dead *dead)
{
	enum store_result result = STORE_OK;
	size_t i;

	for (i = 0; result == STORE_OK && i < dead->owed_count; i++) {
		result = run_for(dead, REMOVE, dead->owed[i]);
	}
	return result;
}

/* What a call before this has not removed goes first: where that is refused again, nothing more is taken. */
static enum store_result settle_owed(struct dead *dead)
{
	enum store_result result = begin(dead);
	size_t count = dead->owed_count;

	if (result != STORE_OK) {
		return result;
	}
	result = end(dead, remove_owed(dead));
	if (result == STORE_OK) {
		dead->owed_count = 0;
		dead->figures.messages -= count;
	}
	return result;
}

static enum store_result give_wanted(struct dead *dead, struct replay *replay)
{
	enum store_result result = begin(dead), removed;

	if (result != STORE_OK) {
		return result;
	}
	result = give(dead, replay);
	/* What was taken is removed, whatever went wrong after that. */
	removed = end(dead, remove_owed(dead));
	if (removed == STORE_OK) {
		dead->figures.messages -= dead->owed_count;
		dead->figures.refused += replay->refused;
		dead->owed_count = 0;
	}
	return result == STORE_OK ? removed : result;
}

enum store_result dead_take_replay(struct dead *dead,
		bool (*take)(void *userdata, const struct dead_letter *letter), void *userdata, size_t at_most,
		size_t *ret_taken)
{
	struct replay replay = {
		.take = take, .userdata = userdata, .at_most = at_most < DEAD_REPLAY_MAX ? at_most : DEAD_REPLAY_MAX};
	int64_t wanted = 0;
	enum store_result result;

	*ret_taken = 0;
	result = look(dead);
	if (result == STORE_OK && dead->owed_count > 0) {
		result = settle_owed(dead);
	}
	if (result == STORE_OK) {
		result = ask(dead, WANTED, &wanted);
	}
	if (result != STORE_OK) {
		return result == STORE_NOT_FOUND ? STORE_OK : result;
	}
	result = give_wanted(dead, &replay);
	*ret_taken = replay.taken;
	return result;
}

/* ---- figures ---- */

static void count(struct dead *dead)
{
	int64_t version = 0, messages = 0;

	if (ask(dead, DATA_VERSION, &version) != STORE_OK ||
			(dead->is_counted && version == dead->data_version)) {
		return;
	}
	if (ask(dead, COUNT, &messages) == STORE_OK) {
		dead->figures.messages = (uint64_t)messages;
		dead->data_version = version;
		dead->is_counted = true;
	}
}

struct dead_figures dead_figures(struct dead *dead)
{
	int64_t pages = 0;

	if (look(dead) == STORE_OK) {
		count(dead);
		if (ask(dead, PAGES, &pages) == STORE_OK) {
			dead->figures.bytes = (uint64_t)pages * (uint64_t)dead->page_size;
		}
	}
	return dead->figures;
}

/* ---- the whole ---- */

struct dead *dead_open(const char *path, uint64_t limit, bool for_power_loss, char *reason, size_t size)
{
	struct dead *dead = calloc(1, sizeof(*dead));

	if (dead) {
		dead->path = text_copy(path, strlen(path));
	}
	if (!dead || !dead->path) {
		free(dead);
		(void)snprintf(reason, size, "There is no memory for dead letters.");
		return NULL;
	}
	dead->limit = limit;
	dead->for_power_loss = for_power_loss;
	if (!open_file(dead, WAIT_AT_START_MS, reason, size)) {
		dead_close(dead);
		return NULL;
	}
	(void)dead_figures(dead);
	return dead;
}

void dead_close(struct dead *dead)
{
	if (dead) {
		close_file(dead);
		free(dead->path);
		free(dead);
	}
}

void dead_set_limit(struct dead *dead, uint64_t limit)
{
	dead->limit = limit;
}
