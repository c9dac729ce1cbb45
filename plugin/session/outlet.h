/* Where the session's thread hands over what it has for the other two: messages and words to the loop thread,
 * words and log lines to the broker thread.
 *
 * The inbound queue is bounded. What finds no room waits here, in order, with whatever comes after it. While
 * anything waits the session reads nothing, so what waits is no more than one call of connection_handle()
 * brings, and is handed over before the next. Nothing of it is lost but with the session. The session's
 * thread. */
#ifndef MQTTASGI_OUTLET_H
#define MQTTASGI_OUTLET_H

#include <stdbool.h>
#include <stdint.h>

#include "session/message_list.h"

struct queue;

/* How long the inbound queue may have no room before consumers need not keep anything back any more. */
#define OUTLET_STALL_MS 200U

struct outlet {
	struct queue *inbound, *outbound;
	struct message_list stalled;
	uint64_t stalled_at; /* 0: the inbound queue has room */
	bool is_used;        /* something has gone in here since that was cleared */
};

/* Borrows the queues. */
void outlet_init(struct outlet *outlet, struct queue *inbound, struct queue *outbound);

/* Frees what waits. */
void outlet_clear(struct outlet *outlet);

/* ---- to the loop thread, each behind what waits ---- */

/* Takes NULL. The message is the outlet's from here on. */
void outlet_deliver(struct outlet *outlet, struct message *message);

/* The same for a MESSAGE_PUBLISH that the broker thread is to store under the id that it has; it learns that
 * before the loop thread can have handled the message. */
void outlet_store(struct outlet *outlet, struct message *message);

/* The consumer keeps back what comes the direct lane; subscribed_before: it had subscribed to the filter
 * already. */
void outlet_hold(struct outlet *outlet, uint64_t consumer, bool subscribed_before);
void outlet_release(struct outlet *outlet, uint64_t consumer);
/* All consumers go on, as far as this hold or an earlier one had them wait. */
void outlet_release_all(struct outlet *outlet, int hold);

/* The SUBSCRIBE or UNSUBSCRIBE has been carried out. 0: nobody waits for an answer. */
void outlet_answer(struct outlet *outlet, uint64_t sequence);

/* ---- while the inbound queue has no room ---- */

static inline bool outlet_is_stalled(const struct outlet *outlet)
{
	return outlet->stalled.first != NULL;
}

/* Hands over what waits, as far as there is room. True: all that waited, if anything did. */
bool outlet_try_again(struct outlet *outlet);

/* What consumers keep back counts towards the bound of their queue. Where that is why there is no room, what
 * would end it is among what waits for room; so they go on without, in an order that may not be the broker's.
 * True, once each OUTLET_STALL_MS: it is time for that. */
bool outlet_is_stuck(struct outlet *outlet, uint64_t now);

/* Ahead of what waits. False: no memory, and nothing was said. */
bool outlet_release_at_once(struct outlet *outlet, uint64_t consumer);
void outlet_release_all_at_once(struct outlet *outlet);

/* ---- to the broker thread ---- */

/* level: MOSQ_LOG_*. */
void outlet_log(struct outlet *outlet, int level, const char *format, ...)
		__attribute__((format(printf, 3, 4)));

/* It is to send this fence, and to mark its place. */
void outlet_ask_fence(struct outlet *outlet, uint64_t fence);

/* Whether the session is up. */
void outlet_tell_session(struct outlet *outlet, bool is_up);

#endif
