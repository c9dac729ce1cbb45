/* The topic filters that the session subscribes to, each with what the broker knows of it and who waits for
 * it.
 *
 * A filter is here from the first consumer that subscribes to it until the broker has acknowledged that the
 * session unsubscribed; how many there are the consumers decide. The session's thread. */
#ifndef MQTTASGI_FILTERS_H
#define MQTTASGI_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/fetched.h"
#include "shared/table.h"
#include "shared/topics.h"

/* ---- who waits ---- */

/* A consumer that waits for the retained messages of a filter, and for its subscription to be in force. */
struct waiter {
	struct recipient who;
	uint8_t options;   /* MQTT 5, 3.8.3.1 */
	uint64_t sequence; /* 0: nobody waits for an answer */
	bool fetches;      /* the broker is to send it what it has retained */
	bool again;        /* it had subscribed to the filter before */
	uint32_t since;    /* the first round in which that was asked for; 0: none yet */
	bool holds;        /* it has been told to hold */
	bool gone;         /* and has unsubscribed since; only while its round goes on */
};

struct waiters {
	struct waiter *items;
	size_t count;
	size_t capacity;
};

/* False: no memory. */
bool waiters_add(struct waiters *waiters, const struct waiter *waiter) __attribute__((warn_unused_result));

/* The last of this consumer that is not gone; NULL: there is none. */
struct waiter *waiters_find(struct waiters *waiters, uint64_t consumer);

/* ---- filters ---- */

/* The session's subscription, as far as the broker has told. */
struct filter_subscription {
	bool may_exist;      /* the broker may have it */
	uint8_t asked_qos;   /* at this QoS, */
	uint8_t granted_qos; /* or at this one, the broker has said, */
	bool asked_retain;   /* and with Retain As Published */
	bool shows_retain;   /* the broker has acknowledged that: a live message may have the RETAIN flag */
	uint64_t since;      /* when it came into force, as a number that rises; 0: it is not */
};

/* What becomes of the filter in the round that it is in. */
struct filter_turn {
	int packet;        /* its SUBSCRIBE or UNSUBSCRIBE */
	unsigned int sent; /* so often */
	bool leaves;       /* it is an UNSUBSCRIBE */
	bool is_answered;  /* it has been acknowledged */
	bool has_failed;   /* it has not gone out, or its answer could not be used: it is tried again later */
};

struct filter {
	struct table_entry by_name;
	struct table_entry by_id;
	struct filter *next; /* among those that are due, or in the round */
	uint32_t id;         /* its Subscription Identifier (MQTT 5, 3.8.2.1.2) */
	bool is_due;
	bool in_round;
	bool is_shared; /* $share/group/filter */
	bool is_told;   /* the log says that it has failed */
	struct filter_subscription subscription;
	struct filter_turn turn;
	struct fetched fetched; /* what the broker had retained, unless all of it has come */
	size_t consumers[3];    /* at each QoS; */
	size_t guests;          /* so many of them are guests (message.h) */
	size_t shared;          /* how many messages consumers that share have got; they take turns */
	struct waiters waiting;
	struct waiters fetching; /* those of the round */
	char name[];
};

struct filters {
	struct table by_name, by_id;
	struct topics *in_force; /* of the filters that the broker has acknowledged the identifiers, at their
								asked_qos */
	uint64_t in_force_count; /* how often one came into force */
};

/* False: no memory; filters_free() all the same. */
bool filters_init(struct filters *filters) __attribute__((warn_unused_result));
void filters_free(struct filters *filters);

/* NULL: there is none. */
struct filter *filters_find(const struct filters *filters, const char *name);
struct filter *filters_of_id(const struct filters *filters, uint32_t id);

/* One that is not there yet. NULL: no memory. */
struct filter *filters_add(struct filters *filters, const char *name);

/* Frees it, and who waits with it. */
void filters_remove(struct filters *filters, struct filter *filter);

/* visit must not add or remove one. */
void filters_for_each(struct filters *filters, void (*visit)(void *userdata, struct filter *filter),
		void *userdata);

/* Whether a consumer has subscribed to it. */
bool filter_is_served(const struct filter *filter);

/* Whether one has that is to find it again after a restart. */
bool filter_is_to_be_kept(const struct filter *filter);

/* From here on the broker sends copies for it: acknowledgements and messages come in one order. False: no
 * memory. */
bool filters_enter_force(struct filters *filters, struct filter *filter) __attribute__((warn_unused_result));
void filters_leave_force(struct filters *filters, struct filter *filter);

/* Of the copies that the broker sends of one message, one for each filter, the one to go by: that with the
 * highest QoS, which tells the publisher's as far as any consumer asked for it; of several, that for the
 * filter that has been in force for the longest time. Whether it is that for the filter with this
 * identifier. */
bool filters_decide(struct filters *filters, const char *topic, uint32_t id);

#endif
