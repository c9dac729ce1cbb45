#include "durable/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <sqlite3.h>

void format_refuse(const char *path, char *reason, size_t size, const char *format, ...)
{
	va_list arguments;
	int length = snprintf(reason, size, "The durable inbox %s cannot be used: ", path);

	if (length > 0 && (size_t)length < size) {
		va_start(arguments, format);
		(void)vsnprintf(reason + length, size - (size_t)length, format, arguments);
		va_end(arguments);
	}
}

bool format_is_ours(const struct format *format, const char *path, int64_t application, int64_t version,
		char *reason, size_t size)
{
	if (application != format->application) {
		format_refuse(path, reason, size, "it is a database of another program. %s.", format->cure_of_other);
		return false;
	}
	if (version > format->version) {
		format_refuse(path, reason, size,
				"it is of a newer mqttasgi (format %lld; this one knows %lld). Install that one again, or %s.",
				(long long)version, (long long)format->version, format->cure_of_newer);
		return false;
	}
	return true;
}

/* The number that a statement returns. */
static int read_number(sqlite3 *database, const char *sql, int64_t *ret_number)
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

int format_recognise(const struct format *format, sqlite3 *database, const char *path, bool *ret_is_empty,
		bool *ret_is_ours, char *reason, size_t size)
{
	int64_t application = 0, version = 0, entries = 0;
	int rc = read_number(database, "PRAGMA application_id", &application);

	if (rc == SQLITE_OK) {
		rc = read_number(database, "PRAGMA user_version", &version);
	}
	if (rc == SQLITE_OK) {
		rc = read_number(database, "SELECT count(*) FROM sqlite_master", &entries);
	}
	*ret_is_empty = application == 0 && version == 0 && entries == 0;
	*ret_is_ours = rc == SQLITE_OK &&
			(*ret_is_empty || format_is_ours(format, path, application, version, reason, size));
	return rc;
}

int format_measure(sqlite3 *database, const char *path, bool *ret_is_whole, char *reason, size_t size)
{
	int64_t pages = 0, page_size = 0;
	struct stat status = {0};
	int rc = read_number(database, "PRAGMA page_count", &pages);

	*ret_is_whole = false;
	if (rc == SQLITE_OK) {
		rc = read_number(database, "PRAGMA page_size", &page_size);
	}
	if (rc != SQLITE_OK) {
		return rc;
	}
	*ret_is_whole = stat(path, &status) == 0 && status.st_size / page_size >= pages;
	if (!*ret_is_whole) {
		format_refuse(path, reason, size,
				"it is damaged: %lld of %lld bytes are there. Move it away to start with an empty one; "
				"'sqlite3 FILE .recover' gets back what is whole.",
				(long long)status.st_size, (long long)(pages * page_size));
	}
	return rc;
}

void format_distrust(sqlite3 *database)
{
	(void)sqlite3_extended_result_codes(database, 1);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	(void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
}
