/* Messages as rows of the database: put there at once, or moved out of the journal in portions.
 *
 * Broker thread, part of store.c. */
#ifndef MQTTASGI_MOVES_H
#define MQTTASGI_MOVES_H

#include <stddef.h>
#include <stdint.h>

#include "durable/result.h"
#include "durable/stored.h"

struct journal_entry;
struct store;

/* Within a transaction: adds a message that counts size bytes, and those who are to handle it. */
enum store_result moves_insert(struct store *store, const struct store_message *message, uint64_t id,
		uint64_t size, const struct store_recipient *recipients, size_t recipient_count)
		__attribute__((warn_unused_result));

/* Within a transaction: adds what the journal has. It is there already if a process died, or the disk failed,
 * before the journal said so. */
enum store_result moves_message(struct store *store, const struct journal_entry *entry)
		__attribute__((warn_unused_result));

/* Moves up to at_most of the oldest messages in a transaction of its own. One that cannot be read any more is
 * given up. */
enum store_result moves_portion(struct store *store, size_t at_most);

/* Moves all, until the disk refuses. */
enum store_result moves_all(struct store *store);

#endif
