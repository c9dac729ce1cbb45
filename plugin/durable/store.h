/* The durable inbox: messages in a file, until every consumer they are for has handled them.
 *
 * One thread opens the store and calls everything here: the broker thread. What a function was asked to write
 * is committed when it returns STORE_OK, except for removals, which wait for the next transaction: one that
 * a crash takes away only lets its message come again. No call holds the thread for longer than SQLite needs
 * for it; what could be much is done in portions (store_done(), store_tick(), store_expire()).
 *
 * A message is in the file once, with a row for each consumer that has not handled it; what has just come is
 * in a second one beside it (journal.h), and gets there only if it stays. The file is SQLite's,
 * in WAL mode, and locked for this process alone while it is open: a program that opens and closes it by
 * other means in this process ends the lock (POSIX). Times are milliseconds since 1970; the caller's clock
 * says them. */
#ifndef MQTTASGI_STORE_H
#define MQTTASGI_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "durable/result.h"
#include "durable/stored.h"

struct store;

/* What is to be survived: with STORE_SYNC_PROCESS the death of the process (kill -9), with STORE_SYNC_FULL
 * that of the machine. The first never waits for the disk, and the file may be corrupt after a power loss;
 * the second waits for it with each transaction. */
enum store_sync { STORE_SYNC_PROCESS, STORE_SYNC_FULL };

struct store_figures {
	uint64_t messages;
	uint64_t bytes;    /* that count towards the limit; see store_message_size() */
	int64_t oldest;    /* the time of the oldest; 0: there is none */
	uint64_t given_up; /* since the start: what damage keeps from being removed, or from being read when it
						  expires */
};

/* Opens the file at path, which is absolute, or makes it, for this user alone; its folder has to be there.
 * limit in bytes. NULL: reason, of size bytes, has a sentence for the administrator. Reads each message's row
 * once, to count them (a tenth of a second for a million); what that and the pages on the way show to be
 * corrupt is refused. */
struct store *store_open(const char *path, enum store_sync sync, uint64_t limit, char *reason, size_t size)
		__attribute__((warn_unused_result));

/* Carries out what waits. Takes NULL. */
void store_close(struct store *store);

/* Another limit from now on; what is stored beyond it stays. */
void store_set_limit(struct store *store, uint64_t limit);

/* The number of the consumer of this name, which stays the same as long as store_expire() leaves the name.
 * Somebody asks for it now. STORE_OK, or as of a disk. */
enum store_result store_consumer(struct store *store, const char *name, int64_t now, uint32_t *ret_number)
		__attribute__((warn_unused_result));

/* Somebody asks for its messages now: to be said of each consumer that runs before store_expire().
 * STORE_NOT_FOUND: there is none of this number. */
enum store_result store_asked(struct store *store, uint32_t consumer, int64_t now)
		__attribute__((warn_unused_result));

/* Stores a message for one consumer or more, no one twice; its id, if it is not 0, is one that no stored
 * message has. STORE_OK: it is committed, and *ret_id is its id. STORE_FULL: the limit would be passed, even
 * after all removals that wait. */
enum store_result store_put(struct store *store, const struct store_message *message,
		const struct store_recipient *recipients, size_t recipient_count, uint64_t *ret_id)
		__attribute__((warn_unused_result));

/* The consumer has handled the message; the last of them takes the message away. Remembered for the next
 * transaction; one done twice, or of no message, is nothing. A removal that the file is too damaged for, or
 * the disk, is given up, and the others go on: the message comes again when somebody reads it, in this run
 * too; see given_up. Anything but STORE_OK: memory or the disk had no room for that for so long that it is
 * forgotten, and the message comes again after the next start. */
enum store_result store_done(struct store *store, uint64_t id, uint32_t consumer)
		__attribute__((warn_unused_result));

/* The consumer has failed to handle the message. STORE_OK: *ret_tries is how often by now. STORE_NOT_FOUND:
 * it is not stored for it. */
enum store_result store_failed(struct store *store, uint64_t id, uint32_t consumer, uint32_t *ret_tries)
		__attribute__((warn_unused_result));

/* The oldest message for the consumer above after, an id; 0: of all. It is what ret_delivery points to until
 * the next call of a function of the store. STORE_NOT_FOUND: there is none. STORE_CORRUPT, or STORE_FAILED,
 * which may pass: it cannot be read; if the id in ret_delivery is not 0 it is that one's, and what is behind
 * it may be whole. Anything may happen between two calls. */
enum store_result store_next(struct store *store, uint32_t consumer, uint64_t after,
		struct store_delivery *ret_delivery) __attribute__((warn_unused_result));

/* To be called now and then, whether or not anything happens: carries out removals, takes what has been
 * written from the log into the file, and gives unused room of the file back while nobody puts anything. */
enum store_result store_tick(struct store *store) __attribute__((warn_unused_result));

/* Gives take() the messages of consumers that nobody has asked for since before, in order of consumer and id,
 * and removes each it returns true for; after false it stops. A consumer that has none is forgotten. At most
 * so many messages, counting those that cannot be read, which go without it; *ret_taken is how many: fewer
 * means there are no more. take() must not call the store. Those it took may be given once more after a
 * crash, or after anything but STORE_OK; after STORE_CORRUPT with each call. */
enum store_result store_expire(struct store *store, int64_t before, size_t at_most,
		bool (*take)(void *userdata, const char *consumer, const struct store_delivery *delivery),
		void *userdata, size_t *ret_taken) __attribute__((warn_unused_result));

/* The highest id that was stored; 0: none was, in this file or since it was opened. */
uint64_t store_newest(const struct store *store);

/* Where reading the oldest fails, its time is the one it last was. */
struct store_figures store_figures(struct store *store);

/* What a message counts towards the limit: topic, payload, properties, who published it, and what rows cost.
 */
uint64_t store_message_size(const struct store_message *message, size_t recipient_count);

#endif
