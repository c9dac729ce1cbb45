/* What the inbox's file and that of dead letters have in common: whether a file of SQLite's is ours and all
 * there, and the sentence where it is not. reason, of size bytes, is for the administrator.
 *
 * Broker thread. */
#ifndef MQTTASGI_FORMAT_H
#define MQTTASGI_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sqlite3;

/* What the file's header has, and the end of the sentences about one that has something else. */
struct format {
	int64_t application;
	int64_t version;
	const char *cure_of_other; /* "Name another file" */
	const char *cure_of_newer; /* "name another file" */
};

/* Writes "The durable inbox PATH cannot be used: " and what follows. */
void format_refuse(const char *path, char *reason, size_t size, const char *format, ...)
		__attribute__((format(printf, 4, 5)));

/* Whether these numbers of a header are ours. */
bool format_is_ours(const struct format *format, const char *path, int64_t application, int64_t version,
		char *reason, size_t size);

/* Whether the file is ours, or empty; it may be neither. Returns what SQLite does: SQLITE_OK, or nothing is
 * known. */
int format_recognise(const struct format *format, struct sqlite3 *database, const char *path,
		bool *ret_is_empty, bool *ret_is_ours, char *reason, size_t size);

/* Whether all pages are there: SQLite takes a last one that is cut for one that ends in zeros. Before the
 * first write, which makes the file as long as it is to be. Returns as format_recognise(). */
int format_measure(struct sqlite3 *database, const char *path, bool *ret_is_whole, char *reason, size_t size);

/* Whoever has written the file, nothing in it is carried out. */
void format_distrust(struct sqlite3 *database);

#endif
