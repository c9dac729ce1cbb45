#include "durable/database.h"

#include <errno.h>

#include "durable/files.h"
#include "durable/schema.h"

/* Pages of the log after which a checkpoint takes all of them into the file, which bounds how long that
 * takes: it writes no page twice, at a few microseconds each. A transaction that is larger is taken as a
 * whole. */
#define CHECKPOINT_PAGES 256U

#define STATEMENT_SQL(name, sql) [name] = (sql),

static const char *const SQL[] = {STATEMENTS(STATEMENT_SQL)};

const char *store_result_text(enum store_result result)
{
	switch (result) {
	case STORE_OK:
		return "nothing is wrong";
	case STORE_NOT_FOUND:
		return "there is no such message";
	case STORE_FULL:
		return "as much is stored as may be";
	case STORE_DISK_FULL:
		return "the disk is full";
	case STORE_READ_ONLY:
		return "the file system is read-only";
	case STORE_CORRUPT:
		return "the file is damaged";
	case STORE_NO_MEMORY:
		return "there is no memory";
	case STORE_BUSY:
		return "another program has it locked";
	case STORE_FAILED:
		break;
	}
	return "the disk fails";
}

enum store_result store_result_of(sqlite3 *sqlite, int rc)
{
	bool has_failed = rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE && files_have_failed();

	if (schema_disk_is_full(sqlite, rc)) {
		return STORE_DISK_FULL;
	}
	if (rc == SQLITE_IOERR_NOMEM) {
		return STORE_NO_MEMORY;
	}
	if ((rc & 0xff) == SQLITE_IOERR && sqlite3_system_errno(sqlite) == EROFS) {
		return STORE_READ_ONLY;
	}
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return STORE_OK;
	case SQLITE_READONLY:
		return STORE_READ_ONLY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_CONSTRAINT: /* two of what there is one of */
		return has_failed ? STORE_FAILED : STORE_CORRUPT;
	case SQLITE_NOMEM:
		return STORE_NO_MEMORY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return STORE_BUSY;
	default:
		return STORE_FAILED;
	}
}

enum store_result database_result(struct database *database, int rc)
{
	return store_result_of(database->sqlite, rc);
}

sqlite3_stmt *database_bind(struct database *database, enum statement which, uint64_t first, uint64_t second)
{
	sqlite3_stmt *statement = database->statements[which];
	int room = sqlite3_bind_parameter_count(statement);

	if (room >= 1) {
		(void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)first);
	}
	if (room >= 2) {
		(void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)second);
	}
	return statement;
}

enum store_result database_finish(struct database *database, sqlite3_stmt *statement)
{
	enum store_result result;
	int rc;

	do {
		rc = sqlite3_step(statement);
	} while (rc == SQLITE_ROW);
	/* Before the reset, which may use the system, and so change what it said last. */
	result = database_result(database, rc);
	(void)sqlite3_reset(statement);
	return result;
}

enum store_result database_run(struct database *database, enum statement which, uint64_t first,
		uint64_t second)
{
	return database_finish(database, database_bind(database, which, first, second));
}

enum store_result database_ask(struct database *database, enum statement which, uint64_t first,
		uint64_t second, int64_t *ret_number)
{
	sqlite3_stmt *statement = database_bind(database, which, first, second);
	int rc = sqlite3_step(statement);
	enum store_result result = rc == SQLITE_DONE ? STORE_NOT_FOUND : database_result(database, rc);

	if (rc == SQLITE_ROW) {
		*ret_number = sqlite3_column_int64(statement, 0);
	}
	(void)sqlite3_reset(statement);
	return result;
}

void database_roll_back(struct database *database)
{
	/* After some failures SQLite has done it. What fails here, is tried again before the next transaction. */
	if (!sqlite3_get_autocommit(database->sqlite)) {
		(void)database_run(database, ROLLBACK, 0, 0);
	}
}

enum store_result database_reserve(struct database *database)
{
	int64_t pages = 0;
	sqlite3_int64 bytes;
	int rc;
	enum store_result result = database_ask(database, PAGES, 0, 0, &pages);

	bytes = pages * (sqlite3_int64)FILES_PAGE;
	if (result != STORE_OK || bytes <= database->reserved) {
		return result;
	}
	rc = sqlite3_file_control(database->sqlite, "main", SQLITE_FCNTL_SIZE_HINT, &bytes);
	if (rc != SQLITE_OK) {
		return database_result(database, rc);
	}
	database->reserved = (bytes + FILES_CHUNK - 1) / FILES_CHUNK * FILES_CHUNK;
	return STORE_OK;
}

static void take_log(struct database *database)
{
	int rc = sqlite3_wal_checkpoint_v2(database->sqlite, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	database->of_checkpoint = database_result(database, rc);
	if (database->of_checkpoint == STORE_OK) {
		database->log_pages = 0;
		database->reserved = 0; /* the file may have become shorter */
		database->checkpoint_at = CHECKPOINT_PAGES;
	} else {
		database->checkpoint_at = database->log_pages + CHECKPOINT_PAGES;
	}
}

enum store_result database_checkpoint(struct database *database, bool at_once)
{
	if (database->log_pages >= (at_once ? 1 : database->checkpoint_at)) {
		take_log(database);
	}
	return database->of_checkpoint;
}

static int note_log(void *userdata, sqlite3 *sqlite, const char *name, int pages)
{
	struct database *database = userdata;

	(void)sqlite;
	(void)name;
	database->log_pages = (unsigned int)pages;
	return SQLITE_OK;
}

int database_init(struct database *database, sqlite3 *sqlite)
{
	int i, rc = SQLITE_OK;

	*database = (struct database){.sqlite = sqlite, .checkpoint_at = CHECKPOINT_PAGES};
	/* In the place of SQLite's own checkpoints, after a thousand pages. */
	(void)sqlite3_wal_hook(sqlite, note_log, database);
	for (i = 0; rc == SQLITE_OK && i < STATEMENTS_END; i++) {
		rc = sqlite3_prepare_v3(sqlite, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &database->statements[i],
				NULL);
	}
	return rc;
}

void database_close(struct database *database)
{
	int i;

	for (i = 0; i < STATEMENTS_END; i++) {
		(void)sqlite3_finalize(database->statements[i]);
	}
	(void)sqlite3_close(database->sqlite);
}
