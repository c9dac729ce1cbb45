/* What the session subscribes to for the consumers, and which of them hear what.
 *
 * Filters are brought up to date in rounds. A round sends SUBSCRIBE or UNSUBSCRIBE for every filter that is
 * due, waits for the acknowledgements, then for a fence, behind the retained messages: then all of these have
 * come, and who waited goes on. What becomes due meanwhile waits for the next round, so a thousand consumers
 * that subscribe at once take two or three. What has failed is tried again later. The session's thread. */
#ifndef MQTTASGI_SUBSCRIPTIONS_H
#define MQTTASGI_SUBSCRIPTIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/filters.h"
#include "session/message_list.h"

struct connection;
struct fences;
struct outlet;

/* How often the same SUBSCRIBE is sent in vain before its filter has to wait for a later round. */
#define SUBSCRIPTIONS_SEND_MAX 3U
/* When acknowledgements that have not come are looked for, and filters that have failed are tried again; the
 * latter with pauses that double up to SUBSCRIPTIONS_AGAIN_MAX_MS. */
#define SUBSCRIPTIONS_AGAIN_MS 1000U
#define SUBSCRIPTIONS_AGAIN_MAX_MS 30000U

struct subscriptions_round {
	struct filter *first;          /* NULL: between two rounds */
	struct filter *unacknowledged; /* those before it are */
	uint32_t number;               /* the first is 1 */
	size_t acknowledgements;       /* that it waits for */
	uint64_t acknowledge_at;       /* when they are due */
	uint64_t probe; /* what is not acknowledged when this fence has come is lost; 0: not asked for */
	uint64_t fence; /* ends it; 0: not asked for yet */
};

struct subscriptions {
	struct outlet *outlet;
	struct fences *fences;
	struct connection *connection;
	struct filters filters;
	struct topics *topics;    /* what consumers subscribed to and the broker has acknowledged since */
	bool has_one_qos;         /* all filters have it, see wanted_qos() */
	bool is_running;          /* the connection is up: rounds can begin */
	uint8_t qos;              /* the highest that a consumer asked for */
	bool retain_as_published; /* a consumer asked for that: all filters have it, for one copy counts */
	struct filter *due;
	struct subscriptions_round round;
	uint64_t again_at; /* when filters that have failed have their turn; 0: there are none */
	unsigned int again_pause;
	/* UNSUBSCRIBE commands, in order, each with the number of the fence that it waits for. */
	struct message_list leaving;
	atomic_ullong refused_count; /* how often one was refused, or failed; any thread's */
};

/* Borrows all. has_one_qos: no need for a QoS of its own for each filter. False: no memory;
 * subscriptions_free() all the same. */
bool subscriptions_init(struct subscriptions *subscriptions, struct outlet *outlet, struct fences *fences,
		struct connection *connection, bool has_one_qos) __attribute__((warn_unused_result));
void subscriptions_free(struct subscriptions *subscriptions);

/* ---- what consumers want ---- */

/* MESSAGE_SUBSCRIBE and MESSAGE_UNSUBSCRIBE, which stay the caller's. */
void subscriptions_subscribe(struct subscriptions *subscriptions, const struct message *command);
void subscriptions_unsubscribe(struct subscriptions *subscriptions, const struct message *command);

/* Whether MESSAGE_UNSUBSCRIBE has to wait for the fence that is asked for next: live messages of QoS 2 that
 * the broker sent before may not have been read. True: the command is kept here until then. */
bool subscriptions_unsubscribe_later(struct subscriptions *subscriptions, struct message *command)
		__attribute__((warn_unused_result));

/* Carries out what waits for fences up to this number. */
void subscriptions_unsubscribe_until(struct subscriptions *subscriptions, uint64_t fence);

/* ---- the connection ---- */

/* The broker has none of the session's subscriptions. */
void subscriptions_forget(struct subscriptions *subscriptions);

/* Consumers hear what comes from now on, though it is not known yet which filters are in force: the broker
 * has the session of an earlier process, with what it had queued for that. */
void subscriptions_assume(struct subscriptions *subscriptions);

/* Rounds begin from here on. */
void subscriptions_run(struct subscriptions *subscriptions);

/* The connection is about to end, and the broker to keep the session: it ends the subscriptions that are
 * nobody's after a restart. */
void subscriptions_keep(struct subscriptions *subscriptions);

/* The connection is gone, and nobody shall wait for the next. */
void subscriptions_lose(struct subscriptions *subscriptions);

/* SUBACK or UNSUBACK. */
void subscriptions_acknowledge(struct subscriptions *subscriptions, int packet, int code);

/* Whether this fence is behind what the last round, or this one, brought. */
static inline bool subscriptions_are_behind(const struct subscriptions *subscriptions, uint64_t fence)
{
	return subscriptions->round.fence && fence >= subscriptions->round.fence;
}

/* A fence has come, and what waited for it to unsubscribe has done so. True: a round has ended with it. */
bool subscriptions_pass(struct subscriptions *subscriptions, uint64_t fence);

/* ---- the clock, while they run ---- */

/* Begins a round if none goes on and something is due. True: no round goes on. */
bool subscriptions_begin_round(struct subscriptions *subscriptions);

/* Whether acknowledgements are late; if so, asks for the fence that is behind them. */
bool subscriptions_probe(struct subscriptions *subscriptions, uint64_t now);

/* Has those that failed have their turn again, if it is time for that. */
void subscriptions_try_again(struct subscriptions *subscriptions, uint64_t now);

/* Whether one of these two has something to wait for. */
static inline bool subscriptions_watch_clock(const struct subscriptions *subscriptions)
{
	return subscriptions->again_at || subscriptions->round.acknowledgements;
}

/* A filter of the round that goes on; NULL: none does. */
static inline const char *subscriptions_in_round(const struct subscriptions *subscriptions)
{
	return subscriptions->round.first ? subscriptions->round.first->name : NULL;
}

/* Whether a round goes on, or one is to begin. */
static inline bool subscriptions_have_work(const struct subscriptions *subscriptions)
{
	return subscriptions->round.first || subscriptions->due;
}

/* Lets consumers that hold go on, ahead of what waits in the outlet. */
void subscriptions_release_stuck(struct subscriptions *subscriptions);

#endif
