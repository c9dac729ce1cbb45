/* Which of the messages that the broker is about to send to the session went the direct lane: copies that are
 * refused where the broker asks (broker_on_access()). Broker thread only; a part of lanes.c. */
#ifndef MQTTASGI_REFUSED_H
#define MQTTASGI_REFUSED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/lanes_message.h"

struct versions_traits;

/* A content as it was, without properties: itself, or its fingerprint where it is longer than this. To copy
 * and compare a short one takes a fraction of the time of two fingerprints, for every message that consumers
 * hear. */
#define REFUSED_BYTES 1024U
struct refused_content {
	uint64_t fingerprint;
	unsigned char bytes[REFUSED_BYTES];
};

struct refused {
	const struct versions_traits *traits;
	bool with_properties; /* whether those of the application's messages are compared */
	/* The message that the broker is dealing with, if it went direct; else without a topic. */
	struct lanes_message direct;
	struct refused_content direct_content;
	/* The application's that the broker had not sent when it came to its last TICK, and those since. It sends
	 * them in their order. */
	uint64_t *own;
	size_t own_count;
	size_t own_next; /* the next one is expected here */
	size_t own_capacity;
	size_t own_due;  /* how many it sends before its next TICK */
	bool is_sending; /* what it is about to send may be one of them */
};

/* Borrows traits. */
void refused_init(struct refused *refused, const struct versions_traits *traits);
void refused_end(struct refused *refused);

/* Nobody can read the properties of what clients publish. */
void refused_ignore_properties(struct refused *refused);

/* A client's message goes the direct lane. */
void refused_note_direct(struct refused *refused, const struct lanes_message *message);

/* The application publishes this. False: no memory. */
bool refused_note_own(struct refused *refused, const struct lanes_message *message);

/* Something may be sent before what the application has published, and be equal to it: no copies of that are
 * refused. Returns of how many, and their fingerprints, valid until the next is noted. On 2.0 of none: there
 * the broker sends nothing in between. */
size_t refused_give_up_own(struct refused *refused, const uint64_t **ret_fingerprints);

/* See lanes.h. */
bool refused_is_copy(const struct refused *refused, const struct lanes_message *message);
bool refused_has_own(const struct refused *refused);
bool refused_is_own_copy(struct refused *refused, const struct lanes_message *message);
void refused_next_message(struct refused *refused);

/* The broker has come to its TICK; nothing has been published in that yet. */
void refused_tick(struct refused *refused);

#endif
