/* What the durable inbox's functions change in its file: transactions, and the removals that wait for the
 * next of them.
 *
 * Broker thread, part of store.c. */
#ifndef MQTTASGI_CHANGES_H
#define MQTTASGI_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "durable/database.h"
#include "durable/result.h"

struct journal;

/* A transaction carries out so many removals, two milliseconds' worth, and then no more wait, unless the disk
 * refuses. Then up to so many are remembered: a megabyte. */
#define REMOVALS_AT_ONCE 512U
#define REMOVALS_MAX 65536U

struct removal {
	uint64_t id;
	uint32_t consumer;
};

/* What a transaction changes of the figures once it is committed. */
struct change {
	int64_t messages, bytes;
	size_t removals;  /* the first so many are carried out */
	uint64_t last_id; /* as in struct store; 0: no change */
	bool of_oldest;
};

struct store {
	struct database database;
	struct journal *journal; /* what has just come; counted here with all others */
	uint64_t limit;
	uint64_t messages, bytes;
	uint64_t next_id, last_id; /* up to last_id they are written down as used */
	uint64_t oldest_id;        /* as figures has it; 0: not known, or none */
	int64_t oldest_time;
	struct change change;
	size_t portion;           /* of removals in one transaction */
	struct removal *removals; /* what waits, in order of done */
	size_t removal_count, removal_capacity;
	uint64_t highest_removal; /* id */
	uint64_t given_up;        /* removals */
	bool is_idle;             /* nothing was put since the last tick */
	enum store_result
			stuck; /* what the disk has refused with, so that it is left alone until the next tick */
};

/* Ends what store_next() has begun. */
void changes_end_last(struct store *store);

/* Begins a transaction; with the removals that are its part. */
enum store_result changes_begin(struct store *store);
enum store_result changes_begin_with_removals(struct store *store);

/* Commits if all went well so far, otherwise rolls back. */
enum store_result changes_end(struct store *store, enum store_result result);

/* Removals, in transactions of their own: one, or as many as it takes. */
enum store_result changes_carry_out_alone(struct store *store);
enum store_result changes_carry_out_all(struct store *store);

/* Remembers a removal. */
enum store_result changes_remove(struct store *store, uint64_t id, uint32_t consumer);

/* Whether one does. */
bool changes_waits(const struct store *store, uint64_t id, uint32_t consumer);

#endif
