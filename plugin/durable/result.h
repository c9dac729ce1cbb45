/* What the functions of the durable inbox return. Any thread. */
#ifndef MQTTASGI_RESULT_H
#define MQTTASGI_RESULT_H

/* After anything but STORE_OK nothing is changed, and the same call may succeed later. */
enum store_result {
	STORE_OK,
	STORE_NOT_FOUND, /* no such message, or no more */
	STORE_FULL,      /* the limit would be passed */
	STORE_DISK_FULL, /* or a quota is, or a limit of the process */
	STORE_READ_ONLY, /* the file or its file system */
	STORE_CORRUPT,   /* what is in the file cannot be */
	STORE_NO_MEMORY,
	STORE_BUSY,   /* another program has the file locked */
	STORE_FAILED, /* the disk or its file system */
};

struct sqlite3;

/* What a code of SQLite's means that it has just returned. */
enum store_result store_result_of(struct sqlite3 *sqlite, int rc);

/* For a log line, in the middle of a sentence: "the disk is full". */
const char *store_result_text(enum store_result result);

#endif
