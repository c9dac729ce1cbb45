#include "durable/files.h"

#include <stddef.h>

#include <sqlite3.h>

/* Where SQLite's lock is, in bytes: a gigabyte. */
#define UNWRITTEN_PAGE (1 << 30)

/* What SQLite does with files: the first as it is, the others for all stores of this process. */
static const struct sqlite3_io_methods *whole_methods;
static struct sqlite3_io_methods opening_methods, our_methods, log_methods;

static bool has_failed;

static int read_and_note(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset)
{
	int rc = whole_methods->xRead(file, bytes, size, offset);

	has_failed |= rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ;
	return rc;
}

/* A checkpoint goes through the pages in their order: where it would leave a hole behind the end of the file,
 * pages are missing that no log has. */
static int append(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset)
{
	sqlite3_int64 now;
	int rc = whole_methods->xFileSize(file, &now);

	if (rc != SQLITE_OK) {
		return rc;
	}
	/* The page that SQLite never writes. */
	if (now == UNWRITTEN_PAGE) {
		now += FILES_PAGE;
	}
	return offset > now ? SQLITE_CORRUPT : whole_methods->xWrite(file, bytes, size, offset);
}

/* Each checkpoint cuts the file to the size that it has, nearly always; a file system with a journal (ext4)
 * lets that wait for all that it has to write, a tenth of a second now and then. */
static int cut(sqlite3_file *file, sqlite3_int64 size)
{
	sqlite3_int64 chunks = (size + FILES_CHUNK - 1) / FILES_CHUNK, now;

	if (whole_methods->xFileSize(file, &now) == SQLITE_OK && now == chunks * FILES_CHUNK) {
		return SQLITE_OK;
	}
	return whole_methods->xTruncate(file, size);
}

static sqlite3_file *file_of(sqlite3 *database, int which)
{
	sqlite3_file *file = NULL;

	return sqlite3_file_control(database, "main", which, &file) == SQLITE_OK && file && file->pMethods ? file
																									   : NULL;
}

static void make_methods(const struct sqlite3_io_methods *methods)
{
	whole_methods = methods;
	opening_methods = *methods;
	opening_methods.xRead = read_and_note;
	opening_methods.xWrite = append;
	our_methods = *methods;
	our_methods.xRead = read_and_note;
	our_methods.xTruncate = cut;
}

/* Methods that are not those we know stay. */
static void use_methods(sqlite3 *database, const struct sqlite3_io_methods *methods)
{
	sqlite3_file *file = file_of(database, SQLITE_FCNTL_FILE_POINTER);

	if (file && !whole_methods) {
		make_methods(file->pMethods);
	}
	if (file && file->pMethods->xLock == whole_methods->xLock) {
		file->pMethods = methods;
	}
}

/* It has other methods than the file, because nobody locks it. */
static void watch_log(sqlite3 *database)
{
	sqlite3_file *log = file_of(database, SQLITE_FCNTL_JOURNAL_POINTER);

	if (log && whole_methods && log->pMethods->xRead == whole_methods->xRead) {
		log_methods = *log->pMethods;
		log_methods.xRead = read_and_note;
		log->pMethods = &log_methods;
	}
}

void files_guard(sqlite3 *database)
{
	use_methods(database, &opening_methods);
}

void files_settle(sqlite3 *database)
{
	use_methods(database, &our_methods);
	watch_log(database);
}

bool files_have_failed(void)
{
	bool failed = has_failed;

	has_failed = false;
	return failed;
}
