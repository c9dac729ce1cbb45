/* The file of the durable inbox: made, or recognised, or refused with a sentence.
 *
 * Broker thread. */
#ifndef MQTTASGI_SCHEMA_H
#define MQTTASGI_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

struct sqlite3;

/* Opens the file, or makes it, and locks it until sqlite3_close(). for_power_loss: each transaction waits for
 * the disk. NULL: reason, of size bytes, has a sentence for the administrator; a file that is not ours is as
 * it was. */
struct sqlite3 *schema_open(const char *path, bool for_power_loss, char *reason, size_t size)
		__attribute__((warn_unused_result));

/* Whether a start would open the file, or make it, as far as can be told without either: another process may
 * have it open meanwhile. No store of this process may have. */
bool schema_check(const char *path, char *reason, size_t size);

/* The sentence about what SQLite has just returned for the file. */
void schema_complain(struct sqlite3 *database, const char *path, int rc, char *reason, size_t size);

/* The one about what the system has said of it. */
void schema_complain_errno(const char *path, int error, char *reason, size_t size);

/* Whether the disk has no room, rather than a fault: SQLite knows only one kind of it. */
bool schema_disk_is_full(struct sqlite3 *database, int rc);

#endif
