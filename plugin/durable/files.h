/* What SQLite does with the files of the durable inbox, and what it does otherwise for us.
 *
 * Broker thread, part of schema.c. Nothing here fails: files of a kind that is not known are left to SQLite.
 */
#ifndef MQTTASGI_FILES_H
#define MQTTASGI_FILES_H

struct sqlite3;

/* While the file is opened: what the log has goes into it only without leaving a hole. */
void files_guard(struct sqlite3 *database);

/* From then on: it is cut only where it gets shorter. */
void files_settle(struct sqlite3 *database);

#endif
