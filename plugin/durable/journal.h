/* Messages that have just come, in a file of their own beside the inbox (FILE-newest): most are handled
 * within milliseconds, and never get into the database.
 *
 * Broker thread, part of store.c; nobody else has the file while the inbox is locked. Each put appends one
 * record; each record also says what was done since the one before. In memory is which messages are still to
 * be handled by whom, without what they say. When none is left, the file starts anew; it gets shorter only by
 * being removed, at the end.
 *
 * What is lost: a death of the process takes away what was done since the last record, so that it comes
 * again. A record that is damaged loses its message, and what it says was done comes again; if others are
 * behind it journal_open() tells, and the administrator is told by the refusal to start. The last record may
 * be one that was being written, which nobody has acknowledged: where it is not whole it is taken for none.
 * The file is of this machine's byte order. */
#ifndef MQTTASGI_JOURNAL_H
#define MQTTASGI_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "durable/result.h"
#include "durable/stored.h"

/* Bytes of the file; what a record may have; consumers of one message; messages in it at once, beyond which
 * somebody is to move some (a portion is two milliseconds' worth). */
#define JOURNAL_SIZE (16U << 20)
#define JOURNAL_RECORD_MAX (64U << 10)
#define JOURNAL_RECIPIENTS 8U
#define JOURNAL_MESSAGES 2048U
#define JOURNAL_PORTION 256U

struct journal;

/* A message that is to be handled. Valid until the next put. */
struct journal_entry {
	uint64_t id;
	int64_t time;
	uint64_t size; /* as counted towards the limit */
	uint64_t at;   /* where its record is, */
	uint32_t length;
	uint32_t tick;                          /* when it came */
	uint32_t left;                          /* consumers that have not handled it; 0: it is gone */
	uint32_t consumers[JOURNAL_RECIPIENTS]; /* 0: has handled it */
};

/* What a record says; points to what the next call reads or writes. */
struct journal_message {
	struct store_message message;
	struct store_recipient recipients[JOURNAL_RECIPIENTS];
	size_t recipient_count;
};

/* What journal_open() has found. */
struct journal_found {
	uint64_t newest;     /* the highest id in it */
	uint64_t damaged_at; /* bytes; 0: it is whole */
};

/* Opens or makes the one beside path, the inbox that has this number. Its messages are those that were to be
 * handled. Returns 0 or an errno; EBADMSG: it is no journal, that of another inbox, or its first bytes are
 * damaged. */
int journal_open(const char *path, uint64_t inbox, bool for_power_loss, struct journal **ret_journal,
		struct journal_found *ret_found) __attribute__((warn_unused_result));

/* Takes NULL. The file goes, too, if nothing is to be handled any more and it was not found damaged. */
void journal_close(struct journal *journal);

/* Whether it takes a message like that at all. */
bool journal_takes(const struct store_message *message, size_t recipient_count);

/* Whether it is written. If not, there is no room, or the disk fails: nothing is changed. */
bool journal_put(struct journal *journal, const struct store_message *message, uint64_t id, uint64_t size,
		const struct store_recipient *recipients, size_t recipient_count) __attribute__((warn_unused_result));

/* NULL: there is none of this id that the consumer has not handled. */
struct journal_entry *journal_find(struct journal *journal, uint64_t id, uint32_t consumer);

/* The one with the lowest id above after that the consumer has not handled; consumer 0: anybody. */
struct journal_entry *journal_next(struct journal *journal, uint32_t consumer, uint64_t after);

/* The one that was put first, and the one behind another. NULL: there is none. */
struct journal_entry *journal_first(struct journal *journal);
struct journal_entry *journal_after(struct journal *journal, struct journal_entry *entry);

/* How many there are. */
size_t journal_messages(const struct journal *journal);

/* Whether the consumer has not handled it. */
bool journal_awaits(const struct journal_entry *entry, uint32_t consumer);

/* One consumer has handled it, or (0) all have, or it is elsewhere. */
void journal_done(struct journal *journal, struct journal_entry *entry, uint32_t consumer);

/* What it says. STORE_CORRUPT: that is no longer what was written. STORE_FAILED: the disk fails. */
enum store_result journal_read(struct journal *journal, const struct journal_entry *entry,
		struct journal_message *ret_message) __attribute__((warn_unused_result));

/* How many are to be moved now, so that there is room for more. */
size_t journal_surplus(const struct journal *journal);

/* Writes down what was done, so that it does not come again. Whether it is. */
bool journal_write_done(struct journal *journal);

/* How many have been here for so long that they are to be moved, at most a portion. Writes down what was
 * done. To be called ten times a second. */
size_t journal_tick(struct journal *journal);

/* Starts anew if nothing is to be handled, and the file is worth it or that is to be. */
void journal_restart(struct journal *journal, bool at_once);

#endif
