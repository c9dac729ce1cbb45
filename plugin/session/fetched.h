/* Which retained messages have come for a filter, while it is not certain that all have: where the connection
 * is lost before that, they are asked for again, and no consumer is to get one twice.
 *
 * A message is known by its fingerprint (marks.h), with the number of the last round in which it came: who
 * waits since a later one has not had it. One thread. */
#ifndef MQTTASGI_FETCHED_H
#define MQTTASGI_FETCHED_H

#include <stddef.h>
#include <stdint.h>

/* So many are remembered; of more, some may come twice after a loss. */
#define FETCHED_MAX ((size_t)1 << 19)

/* All zero at first. */
struct fetched {
	uint64_t *fingerprints;
	uint32_t *rounds; /* of each; 0: a free place */
	size_t count, capacity;
};

/* It has come in this round, from 1. Returns the last round in which it came before, 0 for none; without
 * memory, or beyond the limit, it is not remembered. */
uint32_t fetched_note(struct fetched *fetched, uint64_t fingerprint, uint32_t round);

void fetched_forget(struct fetched *fetched);

#endif
