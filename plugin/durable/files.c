#include "durable/files.h"

#include <sqlite3.h>

#include "durable/schema.h"

/* Where SQLite's lock is, in bytes: a gigabyte. */
#define UNWRITTEN_PAGE (1 << 30)

/* What SQLite does with files: the first as it is, the others for all stores of this process. */
static const struct sqlite3_io_methods *whole_methods;
static struct sqlite3_io_methods opening_methods, our_methods;

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
		now += SCHEMA_PAGE;
	}
	return offset > now ? SQLITE_CORRUPT : whole_methods->xWrite(file, bytes, size, offset);
}

/* Each checkpoint cuts the file to the size that it has, nearly always; a file system with a journal (ext4)
 * lets that wait for all that it has to write, a tenth of a second now and then. */
static int cut(sqlite3_file *file, sqlite3_int64 size)
{
	sqlite3_int64 chunks = (size + SCHEMA_FILE_CHUNK - 1) / SCHEMA_FILE_CHUNK, now;

	if (whole_methods->xFileSize(file, &now) == SQLITE_OK && now == chunks * SCHEMA_FILE_CHUNK) {
		return SQLITE_OK;
	}
	return whole_methods->xTruncate(file, size);
}

/* As long as methods are not ours, SQLite's are used. */
static void use_methods(sqlite3 *database, const struct sqlite3_io_methods *methods)
{
	sqlite3_file *file = NULL;

	if (sqlite3_file_control(database, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file ||
			!file->pMethods) {
		return;
	}
	if (!whole_methods) {
		whole_methods = file->pMethods;
		opening_methods = *whole_methods;
		opening_methods.xWrite = append;
		our_methods = *whole_methods;
		our_methods.xTruncate = cut;
	}
	if (file->pMethods == whole_methods || file->pMethods == &opening_methods) {
		file->pMethods = methods;
	}
}

void files_guard(sqlite3 *database)
{
	use_methods(database, &opening_methods);
}

void files_settle(sqlite3 *database)
{
	use_methods(database, &our_methods);
}
