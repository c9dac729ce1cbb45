#include "durable/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "durable/files.h"
#include "durable/format.h"

/* In the file's header: "mqti", and which tables there are. */
#define APPLICATION_ID 0x6d717469
#define VERSION 1

#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)

/* message: the payload last, so that nobody has to read through it to the rest. recipient: in the order in
 * which one consumer reads its backlog. several: how many recipients are left, of messages that had more than
 * one; few do, and a count in message itself would have a large payload written again for each. used: up to
 * which id messages may have been stored, for they are not to come again when the newest is gone; and the
 * number that the journal beside this file has, too. */
static const char TABLES[] =
		"CREATE TABLE consumer (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, "
		"asked INTEGER NOT NULL);"
		"CREATE TABLE message (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, time INTEGER NOT NULL, "
		"qos INTEGER NOT NULL, retain INTEGER NOT NULL, topic TEXT NOT NULL, properties BLOB, "
		"publisher BLOB, payload BLOB);"
		"CREATE TABLE recipient (consumer INTEGER NOT NULL, message INTEGER NOT NULL, "
		"options INTEGER NOT NULL, identifier INTEGER NOT NULL, tries INTEGER NOT NULL, "
		"PRIMARY KEY (consumer, message)) WITHOUT ROWID;"
		"CREATE TABLE several (message INTEGER PRIMARY KEY, rest INTEGER NOT NULL);"
		"CREATE TABLE used (id INTEGER NOT NULL, journal INTEGER NOT NULL);"
		"INSERT INTO used VALUES (0, random());"
		"PRAGMA application_id = " NUMBER_TEXT(APPLICATION_ID) ";";

/* Pages of a file that somebody has damaged are not trusted; mapped into memory, a file that is cut would end
 * the broker. */
static const char BEFORE_READING[] = "PRAGMA locking_mode = EXCLUSIVE;"
									 "PRAGMA mmap_size = 0;"
									 "PRAGMA cell_size_check = ON;"
									 "PRAGMA trusted_schema = OFF;"
									 "PRAGMA temp_store = MEMORY;";

/* Of an empty file: its first page has both. On one that is there, this writes. */
static const char BEFORE_WRITING[] = "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL";

_Static_assert(FILES_PAGE == 4096, "as in BEFORE_WRITING");

static const struct format FORMAT = {APPLICATION_ID, VERSION, "Name another file", "name another file"};

/* The folder of the file; one whose name is too long for it is none that could be opened. */
static void folder_of(const char *path, char folder[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	(void)snprintf(folder, PATH_MAX, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1,
			slash ? path : ".");
}

void schema_complain_errno(const char *path, int error, char *reason, size_t size)
{
	char folder[PATH_MAX];

	folder_of(path, folder);
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		format_refuse(path, reason, size,
				"there is no folder %s. Make it, for the broker's user to write in, or name another file.",
				folder);
		return;
	case EACCES:
	case EPERM:
		format_refuse(path, reason, size,
				"user %u, as whom the broker runs, may not read and write it and the folder %s. Give it both, "
				"or name a file elsewhere.",
				(unsigned int)geteuid(), folder);
		return;
	case EROFS:
		format_refuse(path, reason, size,
				"its file system is mounted read-only. Mount it for writing, or name a file elsewhere.");
		return;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		format_refuse(path, reason, size,
				"the disk or a quota is full. Make room, or name a file elsewhere.");
		return;
	case EIO:
		format_refuse(path, reason, size,
				"its disk fails (%s). Look after the disk, or name a file elsewhere.", strerror(error));
		return;
	case ENOMEM:
		format_refuse(path, reason, size, "there is no memory.");
		return;
	default:
		format_refuse(path, reason, size, "%s. Look after its disk, or name a file elsewhere.",
				strerror(error));
	}
}

/* sqlite3_system_errno() is what errno is after all that SQLite does about a failure; each file knows its
 * own. */
static void last_errors(sqlite3 *database, int *ret_file, int *ret_log)
{
	sqlite3_file *log = NULL;

	*ret_file = *ret_log = 0;
	(void)sqlite3_file_control(database, "main", SQLITE_FCNTL_LAST_ERRNO, ret_file);
	if (sqlite3_file_control(database, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK && log &&
			log->pMethods) {
		(void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, ret_log);
	}
}

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

bool schema_disk_is_full(sqlite3 *database, int rc)
{
	int error, log_error;

	if (rc != SQLITE_IOERR_WRITE) {
		return (rc & 0xff) == SQLITE_FULL;
	}
	/* A quota, or a limit of the process, is a fault to SQLite. */
	last_errors(database, &error, &log_error);
	return is_full(error) || is_full(log_error);
}

/* What SQLite cannot read it may call damaged. */
static bool has_failed(sqlite3 *database)
{
	int error, log_error;

	last_errors(database, &error, &log_error);
	return files_have_failed() || error == EIO || log_error == EIO;
}

void schema_complain(sqlite3 *database, const char *path, int rc, char *reason, size_t size)
{
	if (schema_disk_is_full(database, rc)) {
		schema_complain_errno(path, ENOSPC, reason, size);
		return;
	}
	if (rc == SQLITE_CORRUPT && has_failed(database)) {
		rc = SQLITE_IOERR_READ;
	}
	switch (rc & 0xff) {
	case SQLITE_NOTADB:
		format_refuse(path, reason, size,
				"it is no SQLite file, or its first page is damaged. Name another file, or move this one away.");
		return;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		format_refuse(path, reason, size,
				"another process has it open. Each broker needs a file of its own: name another one, or end that "
				"process (fuser %s).",
				path);
		return;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		schema_complain_errno(path, EACCES, reason, size);
		return;
	case SQLITE_CANTOPEN:
		schema_complain_errno(path, sqlite3_system_errno(database), reason, size);
		return;
	case SQLITE_NOMEM:
		format_refuse(path, reason, size, "there is no memory.");
		return;
	case SQLITE_IOERR:
		format_refuse(path, reason, size,
				"its disk fails (%s; %s). Look after the disk, or name a file elsewhere.", sqlite3_errstr(rc),
				strerror(sqlite3_system_errno(database)));
		return;
	default:
		format_refuse(path, reason, size,
				"it is damaged (%s). Move it away to start with an empty one; 'sqlite3 FILE .recover' gets back "
				"what is whole.",
				(sqlite3_errcode(database) & 0xff) == (rc & 0xff) ? sqlite3_errmsg(database)
																  : sqlite3_errstr(rc));
	}
}

static off_t size_of(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 ? status.st_size : 0;
}

/* SQLite takes a file of no byte, or of one, for a new one, and throws away the log beside it. Ours is no
 * longer empty when its log is made. */
static bool is_lost(const char *path, char *reason, size_t size)
{
	char log[PATH_MAX + 4], newest[PATH_MAX + 7];
	off_t length = size_of(path);

	(void)snprintf(log, sizeof log, "%s-wal", path);
	(void)snprintf(newest, sizeof newest, "%s-newest", path);
	if (length > 1 || (length == 0 && size_of(log) == 0 && size_of(newest) == 0)) {
		return false;
	}
	format_refuse(path, reason, size,
			"it is damaged: %s. Bring it back, or move away what is left of it (%s*) to start with an empty one.",
			length == 0 ? "it is empty or missing, and what belongs to it is there"
						: "one byte of it is there",
			path);
	return true;
}

static bool is_usable(const char *path, char *reason, size_t size)
{
	char folder[PATH_MAX];
	struct stat status;

	folder_of(path, folder);
	/* The log is made beside it. */
	if (stat(path, &status) != 0 || faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) != 0 ||
			faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) != 0) {
		schema_complain_errno(path, errno, reason, size);
		return false;
	}
	if (!S_ISREG(status.st_mode)) {
		format_refuse(path, reason, size, "it is a folder or a device. Name a file.");
		return false;
	}
	return true;
}

/* Makes the file, because SQLite would make it for everybody to read; or looks whether it is one to open.
 * Never opens one that is there: closing it would end the lock that this process may have on it. */
static bool prepare_file(const char *path, char *reason, size_t size)
{
	int descriptor;

	if (is_lost(path, reason, size)) {
		return false;
	}
	descriptor = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (descriptor >= 0) {
		(void)close(descriptor);
	} else if (errno != EEXIST) {
		schema_complain_errno(path, errno, reason, size);
		return false;
	}
	return is_usable(path, reason, size);
}

/* Whether the file is ours, or empty. It may be neither, and then is left as it is. */
static bool recognise(sqlite3 *database, const char *path, bool *ret_is_empty, char *reason, size_t size)
{
	bool is_ours;
	int rc = format_recognise(&FORMAT, database, path, ret_is_empty, &is_ours, reason, size);

	if (rc != SQLITE_OK) {
		schema_complain(database, path, rc, reason, size);
	}
	return is_ours;
}

/* ---- without opening it ---- */

/* Where a file of SQLite's has its numbers, the most significant byte first (www.sqlite.org/fileformat.html,
 * 1.3). */
#define HEADER_SIZE 100
#define HEADER_VERSION 60
#define HEADER_APPLICATION 68

static uint32_t number_at(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool check_header(const char *path, const unsigned char header[HEADER_SIZE], size_t length,
		char *reason, size_t size)
{
	static const char magic[16] = "SQLite format 3";

	if (length < HEADER_SIZE || memcmp(header, magic, sizeof(magic)) != 0) {
		schema_complain(NULL, path, SQLITE_NOTADB, reason, size);
		return false;
	}
	return format_is_ours(&FORMAT, path, number_at(header + HEADER_APPLICATION),
			number_at(header + HEADER_VERSION), reason, size);
}

static bool could_be_made(const char *path, char *reason, size_t size)
{
	char folder[PATH_MAX];

	folder_of(path, folder);
	if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0) {
		return true;
	}
	schema_complain_errno(path, errno, reason, size);
	return false;
}

bool schema_check(const char *path, char *reason, size_t size)
{
	unsigned char header[HEADER_SIZE];
	char log[PATH_MAX];
	ssize_t length;
	int descriptor;

	if (is_lost(path, reason, size)) {
		return false;
	}
	if (access(path, F_OK) != 0 && errno == ENOENT) {
		return could_be_made(path, reason, size);
	}
	/* Before it is opened: that would wait for whoever writes to a pipe. */
	if (!is_usable(path, reason, size)) {
		return false;
	}
	descriptor = open(path, O_RDONLY | O_CLOEXEC);
	length = descriptor < 0 ? -1 : read(descriptor, header, sizeof(header));
	if (length < 0) {
		schema_complain_errno(path, errno, reason, size);
	}
	if (descriptor >= 0) {
		(void)close(descriptor);
	}
	/* A process that was killed may have left the first page in its log. */
	(void)snprintf(log, sizeof(log), "%s-wal", path);
	return length >= 0 &&
			(length == 0 || size_of(log) > 0 || check_header(path, header, (size_t)length, reason, size));
}

/* ---- opening it ---- */

static int set_modes(sqlite3 *database, bool is_empty, bool for_power_loss)
{
	int rc = is_empty ? sqlite3_exec(database, BEFORE_WRITING, NULL, NULL, NULL) : SQLITE_OK;

	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, for_power_loss ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF",
				NULL, NULL, NULL);
	}
	return rc;
}

/* The tables, and a first write, which shows that there can be more. */
static int take(sqlite3 *database, bool is_empty)
{
	int rc = sqlite3_exec(database, "BEGIN EXCLUSIVE", NULL, NULL, NULL);

	if (rc == SQLITE_OK && is_empty) {
		rc = sqlite3_exec(database, TABLES, NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, "PRAGMA user_version = " NUMBER_TEXT(VERSION) "; COMMIT", NULL, NULL,
				NULL);
	}
	return rc;
}

/* What a process that was killed has left in the log goes into the file before, for it may be what is
 * missing. */
static bool is_whole(sqlite3 *database, const char *path, char *reason, size_t size)
{
	bool is_whole = false;
	int rc;

	files_guard(database);
	rc = sqlite3_wal_checkpoint_v2(database, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if (rc == SQLITE_OK) {
		rc = format_measure(database, path, &is_whole, reason, size);
	}
	if (rc != SQLITE_OK) {
		schema_complain(database, path, rc, reason, size);
	}
	return is_whole;
}

/* See FILES_CHUNK. */
static int reserve(sqlite3 *database)
{
	int file_chunk = FILES_CHUNK, log_chunk = FILES_LOG_CHUNK;
	sqlite3_int64 log_size = FILES_LOG_CHUNK;
	sqlite3_file *log = NULL;
	int rc = sqlite3_file_control(database, "main", SQLITE_FCNTL_CHUNK_SIZE, &file_chunk);

	if (rc == SQLITE_OK) {
		rc = sqlite3_file_control(database, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
	}
	if (rc == SQLITE_OK && log && log->pMethods) {
		(void)log->pMethods->xFileControl(log, SQLITE_FCNTL_CHUNK_SIZE, &log_chunk);
		rc = log->pMethods->xFileControl(log, SQLITE_FCNTL_SIZE_HINT, &log_size);
	}
	return rc;
}

sqlite3 *schema_open(const char *path, bool for_power_loss, char *reason, size_t size)
{
	sqlite3 *database = NULL;
	bool is_empty;
	int rc;

	if (!prepare_file(path, reason, size)) {
		return NULL;
	}
	rc = sqlite3_open_v2(path, &database,
			SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (!database) {
		format_refuse(path, reason, size, "there is no memory.");
		return NULL;
	}
	format_distrust(database);
	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(database, BEFORE_READING, NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		schema_complain(database, path, rc, reason, size);
		goto failed;
	}
	if (!recognise(database, path, &is_empty, reason, size)) {
		goto failed;
	}
	rc = set_modes(database, is_empty, for_power_loss);
	if (rc == SQLITE_OK && !is_whole(database, path, reason, size)) {
		goto failed;
	}
	if (rc == SQLITE_OK) {
		rc = take(database, is_empty);
	}
	if (rc == SQLITE_OK) {
		rc = reserve(database);
	}
	if (rc == SQLITE_OK) {
		files_settle(database);
		return database;
	}
	schema_complain(database, path, rc, reason, size);
failed:
	/* The log of what is refused stays. */
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	(void)sqlite3_close(database);
	return NULL;
}
