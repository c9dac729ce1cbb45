/* Who gets what the session brings: live messages, retained ones, those of groups that share, and what the
 * broker had queued.
 *
 * What waits here: what the broker had queued (backlog.h), which it bounds (max_queued_messages) and the next
 * fence ends; who published what has not come (publishers.h); and what of that is stored (announced.h). The
 * session's thread, but for deliveries_unnamed() and deliveries_passed_over(). */
#ifndef MQTTASGI_DELIVERIES_H
#define MQTTASGI_DELIVERIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/announced.h"

struct backlog;
struct client;
struct connection_message;
struct copies;
struct outlet;
struct publishers;
struct recipient;
struct stored_ids;
struct subscriptions;

/* How long it is known who published what the session is to bring. */
#define DELIVERIES_PUBLISHERS_MS 60000U
/* Between two log lines about what may come without its publisher. */
#define DELIVERIES_UNNAMED_MS 1000U
/* Between two about what cannot be read. */
#define DELIVERIES_PASSED_OVER_MS 60000U

struct deliveries {
	struct outlet *outlet;
	struct copies *copies;
	struct subscriptions *subscriptions;
	struct publishers *publishers;
	struct backlog *backlog;
	struct stored_ids *ids; /* of the durable inbox; NULL: there is none */
	struct announced announced;
	struct recipient *recipients; /* room for those of one retained message */
	size_t recipient_capacity;
	uint64_t unnamed_told, unnamed_told_at; /* deliveries_unnamed() as the log has it */
	_Atomic(uint64_t) passed_over;
	uint64_t passed_over_told_at; /* 0: never */
	bool brought_copies;          /* of what went the direct lane, since that was cleared */
};

/* Borrows all. False: no memory; deliveries_free() all the same. */
bool deliveries_init(struct deliveries *deliveries, struct outlet *outlet, struct copies *copies,
		struct subscriptions *subscriptions) __attribute__((warn_unused_result));
void deliveries_free(struct deliveries *deliveries);

/* Client has published what has this fingerprint, and the session will bring it. The reference is taken over.
 * stored: its id in the durable inbox; 0: it is not there. */
void deliveries_announce(struct deliveries *deliveries, uint64_t fingerprint, struct client *client,
		uint64_t stored);

/* A message has come. collect: what is neither retained nor a group's waits for deliveries_deliver_backlog(),
 * because it is not known yet which filters are in force. */
void deliveries_receive(struct deliveries *deliveries, const struct connection_message *event, bool collect);

/* Hands over what was collected: all of it has come. */
void deliveries_deliver_backlog(struct deliveries *deliveries);

/* Says in the log how many messages may come without their publisher, if there are more. */
void deliveries_tell_unnamed(struct deliveries *deliveries, uint64_t now);

/* How many there were. Any thread. */
uint64_t deliveries_unnamed(const struct deliveries *deliveries);

/* A message has come that nobody can read; wrong says why, as the end of a sentence. */
void deliveries_pass_over(struct deliveries *deliveries, const char *wrong, uint64_t now);

/* How many there were. Any thread. */
uint64_t deliveries_passed_over(const struct deliveries *deliveries);

#endif
