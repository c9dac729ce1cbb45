/* Dead letters: messages that no consumer could handle, in a file of their own beside the inbox's.
 *
 * Broker thread. The command and applications read and write the file, too, while the broker runs; nothing
 * here waits for them: STORE_BUSY, and the caller tries again at a later tick. A program that only reads
 * has it locked, too, until it has read its last row. What a function was asked to write is committed when it
 * returns STORE_OK.
 *
 * A program that opens and closes the file in this process, other than with the SQLite that the plugin has,
 * ends the lock of a transaction (POSIX). A file that is moved away, or removed, is made anew by the next
 * call. */
#ifndef MQTTASGI_DEAD_H
#define MQTTASGI_DEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "durable/result.h"
#include "durable/store.h"

struct dead;

/* Why a message became one. */
#define DEAD_FAILED "failed"
#define DEAD_EXPIRED "expired"           /* nobody asked for it */
#define DEAD_BROKER_ENDED "broker ended" /* each time while it was handled */

/* Texts are UTF-8. */
struct dead_letter {
	const char *consumer;         /* its name */
	struct store_message message; /* id: in the inbox */
	uint32_t identifier;          /* of the subscription, as in struct store_recipient */
	uint8_t options;
	uint32_t tries;
	const char *reason;
	const char *traceback; /* empty: there is none */
	int64_t died;          /* when it became one */
};

struct dead_figures {
	uint64_t messages;
	uint64_t bytes;   /* of the file; what the limit bounds */
	uint64_t refused; /* since the broker began; see dead_take_replay() */
};

/* Opens the file at path, which is absolute, or makes it, for this user alone; its folder has to be there. It
 * waits up to two seconds for another program that has it locked. limit in bytes. for_power_loss: a
 * transaction waits for the disk. NULL: reason, of size bytes, has a sentence for the administrator. */
struct dead *dead_open(const char *path, uint64_t limit, bool for_power_loss, char *reason, size_t size)
		__attribute__((warn_unused_result));

/* Takes NULL. */
void dead_close(struct dead *dead);

/* Another limit from the next dead_add() on. */
void dead_set_limit(struct dead *dead, uint64_t limit);

/* Adds one; one of the same consumer, message and time takes the other's place. As long as the file would be
 * beyond the limit, the oldest go in the same transaction, up to so many with one call; one that is larger
 * than the limit is alone. STORE_OK: *ret_dropped is how many went.
 *
 * It takes a third of a millisecond, for its journal is a file that is made and removed; with for_power_loss
 * as long as the disk needs for that, some 20 ms: so few at a time. */
#define DEAD_DROPPED_MAX 512U
enum store_result dead_add(struct dead *dead, const struct dead_letter *letter, size_t *ret_dropped)
		__attribute__((warn_unused_result));

/* Gives take() those that somebody wants to be handled again, in the order in which they died, and removes
 * each it returns true for; after false it stops, and the next call begins behind that one. What it is given
 * is there until it returns; it may call the store, but nothing here. At most so many, and no more than
 * DEAD_REPLAY_MAX; *ret_taken is how many it took, whatever is returned: what could not be removed then, is
 * not given again in this life of the process, only after it.
 *
 * A row that is no message (others write them) is not given: it stays, nobody wants it any more, and it
 * counts as refused. Where nobody wants anything a call takes some ten microseconds. */
#define DEAD_REPLAY_MAX 64U
enum store_result dead_take_replay(struct dead *dead,
		bool (*take)(void *userdata, const struct dead_letter *letter), void *userdata, size_t at_most,
		size_t *ret_taken) __attribute__((warn_unused_result));

/* What others have changed counts, too: after that the rows are counted (by an index; some 10 ms for
 * 200,000). While the file is locked, or cannot be read, what it was before. */
struct dead_figures dead_figures(struct dead *dead);

#endif
