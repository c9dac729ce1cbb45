/* What SQLite does with the files of the durable inbox, and what it does otherwise for us.
 *
 * Broker thread, part of schema.c. Nothing here fails: files of a kind that is not known are left to SQLite.
 */
#ifndef MQTTASGI_FILES_H
#define MQTTASGI_FILES_H

#include <stdbool.h>

struct sqlite3;

/* Bytes. */
#define FILES_PAGE 4096U

/* The file grows and shrinks by so much, and the log is made with as many pages as a checkpoint waits for: so
 * a disk that is full has room for what makes room, which is written to the log, too. Bytes. */
#define FILES_CHUNK (64 * (int)FILES_PAGE)
#define FILES_LOG_CHUNK (256 * (int)FILES_PAGE)

/* While the file is looked at: what the log has goes into it only without leaving a hole. */
void files_guard(struct sqlite3 *database);

/* From then on: it is cut only where it gets shorter. */
void files_settle(struct sqlite3 *database);

/* Whether reading has failed since this was last asked: what SQLite cannot read, it may call damaged. */
bool files_have_failed(void);

#endif
