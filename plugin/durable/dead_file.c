#include "durable/dead_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "durable/files.h"
#include "durable/schema.h"

/* In the file's header: "mqtd", and which tables there are. */
#define APPLICATION_ID 0x6d717464
#define VERSION 1

#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)

/* docs/ and python/ know them, too. */
static const char TABLES[] =
		"CREATE TABLE dead_letter (id INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, "
		"message INTEGER NOT NULL, time INTEGER NOT NULL, died INTEGER NOT NULL, reason TEXT NOT NULL, "
		"tries INTEGER NOT NULL, traceback TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, "
		"qos INTEGER NOT NULL, retain INTEGER NOT NULL, properties BLOB NOT NULL, publisher BLOB NOT NULL, "
		"options INTEGER NOT NULL, identifier INTEGER NOT NULL, replay INTEGER NOT NULL DEFAULT 0, "
		"UNIQUE (consumer, message, time));"
		"CREATE INDEX dead_letter_replay ON dead_letter (replay) WHERE replay = 1;"
		"PRAGMA application_id = " NUMBER_TEXT(APPLICATION_ID) ";";

/* Others write it: what is there is not trusted. Mapped into memory, a file that is cut would end the
 * broker. */
static const char BEFORE_READING[] = "PRAGMA mmap_size = 0;"
									 "PRAGMA cell_size_check = ON;"
									 "PRAGMA trusted_schema = OFF;"
									 "PRAGMA temp_store = MEMORY;";

/* Of an empty file. FULL: whoever removes rows, gives their room back to the file system. */
static const char BEFORE_WRITING[] = "PRAGMA page_size = 4096; PRAGMA auto_vacuum = FULL";

_Static_assert(FILES_PAGE == 4096, "as in BEFORE_WRITING");

static void __attribute__((format(printf, 4, 5))) refuse(const char *path, char *reason, size_t size,
		const char *format, ...)
{
	va_list arguments;
	int length = snprintf(reason, size, "The durable inbox %s cannot be used: ", path);

	if (length > 0 && (size_t)length < size) {
		va_start(arguments, format);
		(void)vsnprintf(reason + length, size - (size_t)length, format, arguments);
		va_end(arguments);
	}
}

/* A quota, or a limit of the process, is a fault to SQLite; and when it tells, the journal, which it was
 * about, may be gone. */
bool dead_file_disk_is_full(sqlite3 *database, int rc)
{
	int error = (rc & 0xff) == SQLITE_IOERR ? sqlite3_system_errno(database) : 0;

	return schema_disk_is_full(database, rc) || error == EDQUOT || error == EFBIG;
}

static void complain(sqlite3 *database, const char *path, int rc, char *reason, size_t size)
{
	if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED) {
		refuse(path, reason, size, "another program keeps it locked. Find that (fuser %s) and end it.", path);
	} else {
		schema_complain(database, path, dead_file_disk_is_full(database, rc) ? SQLITE_FULL : rc, reason,
				size);
	}
}

/* Makes the file, because SQLite would make it for everybody to read; whether one that is there can be used,
 * opening it says. Never opens one that is there: closing it would end the locks that this process has on it.
 */
static bool prepare_file(const char *path, bool *ret_is_empty, char *reason, size_t size)
{
	struct stat status;
	int descriptor = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR);

	if (descriptor >= 0) {
		(void)close(descriptor);
	}
	if ((descriptor < 0 && errno != EEXIST) || stat(path, &status) != 0) {
		schema_complain_errno(path, errno, reason, size);
		return false;
	}
	*ret_is_empty = status.st_size == 0;
	if (!S_ISREG(status.st_mode)) {
		refuse(path, reason, size, "it is a folder or a device. Move that away.");
		return false;
	}
	return true;
}

/* The number that a statement returns. */
static int read_number(sqlite3 *database, const char *sql, sqlite3_int64 *ret_number)
{
	sqlite3_stmt *statement;
	int rc = sqlite3_prepare_v2(database, sql, -1, &statement, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
		if (rc == SQLITE_ROW) {
			*ret_number = sqlite3_column_int64(statement, 0);
			rc = SQLITE_OK;
		}
		(void)sqlite3_finalize(statement);
	}
	return rc;
}

/* Whether the file is ours, or empty. It may be neither, and then is left as it is. */
static bool recognise(sqlite3 *database, const char *path, bool *ret_is_empty, char *reason, size_t size)
{
	sqlite3_int64 application = 0, version = 0, entries = 0;
	int rc = read_number(database, "PRAGMA application_id", &application);

	if (rc == SQLITE_OK) {
		rc = read_number(database, "PRAGMA user_version", &version);
	}
	if (rc == SQLITE_OK) {
		rc = read_number(database, "SELECT count(*) FROM sqlite_master", &entries);
	}
	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
		return false;
	}
	*ret_is_empty = application == 0 && version == 0 && entries == 0;
	if (!*ret_is_empty && application != APPLICATION_ID) {
		refuse(path, reason, size,
				"it is a database of another program. Move it away, or name another file.");
		return false;
	}
	if (version > VERSION) {
		refuse(path, reason, size,
				"it is of a newer mqttasgi (format %lld; this one knows %d). Install that one again, or move the "
				"file away.",
				(long long)version, VERSION);
		return false;
	}
	return true;
}

/* Whether all pages are there: SQLite takes a last one that is cut for one that ends in zeros. While nobody
 * else may change the file, and before the first write, which makes it as long as it is to be. */
static bool is_whole(sqlite3 *database, const char *path, char *reason, size_t size)
{
	sqlite3_int64 pages = 0, page_size = 0;
	struct stat status = {0};
	int rc = read_number(database, "PRAGMA page_count", &pages);

	if (rc == SQLITE_OK) {
		rc = read_number(database, "PRAGMA page_size", &page_size);
	}
	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
		return false;
	}
	if (stat(path, &status) != 0 || status.st_size / page_size < pages) {
		refuse(path, reason, size,
				"it is damaged: %lld of %lld bytes are there. Move it away to start with an empty one; "
				"'sqlite3 FILE .recover' gets back what is whole.",
				(long long)status.st_size, (long long)(pages * page_size));
		return false;
	}
	return true;
}

static int set_modes(sqlite3 *database, bool for_power_loss)
{
	/* Somebody may have made it a WAL. */
	int rc = sqlite3_exec(database, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, for_power_loss ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF",
				NULL, NULL, NULL);
	}
	return rc;
}

/* The tables, and a first write, which shows that there can be more. */
static bool take(sqlite3 *database, const char *path, bool is_empty, char *reason, size_t size)
{
	int rc = sqlite3_exec(database, "BEGIN EXCLUSIVE", NULL, NULL, NULL);

	if (rc == SQLITE_OK && !is_empty && !is_whole(database, path, reason, size)) {
		return false;
	}
	if (rc == SQLITE_OK && is_empty) {
		rc = sqlite3_exec(database, TABLES, NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, "PRAGMA user_version = " NUMBER_TEXT(VERSION) "; COMMIT", NULL, NULL,
				NULL);
	}
	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
	}
	return rc == SQLITE_OK;
}

static int prepare_connection(sqlite3 *database, bool is_empty)
{
	int rc;

	(void)sqlite3_extended_result_codes(database, 1);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	rc = sqlite3_exec(database, BEFORE_READING, NULL, NULL, NULL);
	if (rc == SQLITE_OK && is_empty) {
		rc = sqlite3_exec(database, BEFORE_WRITING, NULL, NULL, NULL);
	}
	return rc;
}

sqlite3 *dead_file_open(const char *path, bool for_power_loss, int wait_ms, char *reason, size_t size)
{
	sqlite3 *database = NULL;
	bool is_empty;
	int rc;

	if (!prepare_file(path, &is_empty, reason, size)) {
		return NULL;
	}
	rc = sqlite3_open_v2(path, &database,
			SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (!database) {
		refuse(path, reason, size, "there is no memory.");
		return NULL;
	}
	(void)sqlite3_busy_timeout(database, wait_ms);
	if (rc == SQLITE_OK) {
		rc = prepare_connection(database, is_empty);
	}
	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
		goto failed;
	}
	if (!recognise(database, path, &is_empty, reason, size)) {
		goto failed;
	}
	rc = set_modes(database, for_power_loss);
	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
		goto failed;
	}
	if (!take(database, path, is_empty, reason, size)) {
		goto failed;
	}
	(void)sqlite3_busy_timeout(database, 0);
	return database;
failed:
	(void)sqlite3_close(database);
	return NULL;
}

bool dead_file_is_gone(sqlite3 *database)
{
	int is_gone = 0;

	(void)sqlite3_file_control(database, "main", SQLITE_FCNTL_HAS_MOVED, &is_gone);
	return is_gone != 0;
}
