#include "durable/dead_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "durable/files.h"
#include "durable/format.h"
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

static const struct format FORMAT = {
	APPLICATION_ID, VERSION, "Move it away, or name another file", "move the file away"};

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
		format_refuse(path, reason, size, "another program keeps it locked. Find that (fuser %s) and end it.",
				path);
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
		format_refuse(path, reason, size, "it is a folder or a device. Move that away.");
		return false;
	}
	return true;
}

/* Whether the file is ours, or empty. It may be neither, and then is left as it is. */
static bool recognise(sqlite3 *database, const char *path, bool *ret_is_empty, char *reason, size_t size)
{
	bool is_ours;
	int rc = format_recognise(&FORMAT, database, path, ret_is_empty, &is_ours, reason, size);

	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
	}
	return is_ours;
}

/* While nobody else may change the file. */
static bool is_whole(sqlite3 *database, const char *path, char *reason, size_t size)
{
	bool is_whole;
	int rc = format_measure(database, path, &is_whole, reason, size);

	if (rc != SQLITE_OK) {
		complain(database, path, rc, reason, size);
	}
	return is_whole;
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

	format_distrust(database);
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
		format_refuse(path, reason, size, "there is no memory.");
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
