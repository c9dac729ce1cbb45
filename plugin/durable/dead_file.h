/* The file of dead letters: made, or recognised, or refused with a sentence.
 *
 * Its tables are not the plugin's alone: the command `mqttasgi` and applications read and write them while
 * the broker runs, each with its own SQLite. So it has a rollback journal, which needs no memory that
 * processes share, and nobody has it locked for longer than a transaction. Broker thread. */
#ifndef MQTTASGI_DEAD_FILE_H
#define MQTTASGI_DEAD_FILE_H

#include <stdbool.h>
#include <stddef.h>

struct sqlite3;

/* Opens the file, or makes it. for_power_loss: each transaction waits for the disk. It waits up to wait_ms
 * for another program that has it locked; the connection it returns never does. NULL: reason, of size bytes,
 * has a sentence for the administrator; a file that is not ours is as it was. */
struct sqlite3 *dead_file_open(const char *path, bool for_power_loss, int wait_ms, char *reason, size_t size)
		__attribute__((warn_unused_result));

/* Whether somebody has moved the file away, or removed it, since it was opened. */
bool dead_file_is_gone(struct sqlite3 *database);

/* Whether the disk has no room, rather than a fault, after SQLite has returned this. */
bool dead_file_disk_is_full(struct sqlite3 *database, int rc);

#endif
