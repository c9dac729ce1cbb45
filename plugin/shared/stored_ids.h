/* Ids of messages in the durable inbox, which the broker thread and the session's both give.
 *
 * They rise. What the session brings has odd ones: while the process lives, nobody but the session brings it,
 * so what is read from the file passes by these. Any thread. */
#ifndef MQTTASGI_STORED_IDS_H
#define MQTTASGI_STORED_IDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stored_ids {
	_Atomic uint64_t next; /* even */
};

/* All from now on are above newest. Before another thread takes one. */
static inline void stored_ids_init(struct stored_ids *ids, uint64_t newest)
{
	atomic_init(&ids->next, (newest / 2 + 1) * 2);
}

/* An id above all that were taken before. */
static inline uint64_t stored_ids_take(struct stored_ids *ids, bool by_session)
{
	return atomic_fetch_add_explicit(&ids->next, 2, memory_order_relaxed) + by_session;
}

/* One that is above all that were taken before, and below all that will be. */
static inline uint64_t stored_ids_now(const struct stored_ids *ids)
{
	return atomic_load_explicit(&ids->next, memory_order_relaxed) - 1;
}

static inline bool stored_ids_is_of_session(uint64_t id)
{
	return id & 1;
}

#endif
