/* Messages for consumers into the inbound queue: what finds no room there, or no memory, is lost, and that is
 * counted and said, unless it is stored. Broker thread only. */
#ifndef MQTTASGI_DELIVER_H
#define MQTTASGI_DELIVER_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/log.h"

struct message;
struct options;
struct queue;
struct statistics;

/* In a format: as much of a topic (which may have 65,535 bytes) as leaves room for the sentence around it. */
#define DELIVER_TOPIC "%.400s"

struct delivery {
	const struct options *options;
	struct queue *inbound;
	struct statistics *statistics;
	size_t queue_size, queue_bytes; /* for the log */
	struct log_complaint full, no_memory;
};

/* Borrows all three. */
void deliver_init(struct delivery *delivery, const struct options *options, struct queue *inbound,
		struct statistics *statistics);

/* The options that can change have. */
void deliver_adopt(struct delivery *delivery, const struct options *options);

/* Owns message from here on; once it is pushed, the loop thread may have freed it. NULL: there was no memory
 * for it. topic: its topic in the caller's memory, for the log; NULL: it has none. Returns whether consumers
 * will get it. */
bool deliver(struct delivery *delivery, struct message *message, const char *topic);

#endif
