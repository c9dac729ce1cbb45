/* What the broker had queued for the session while that was away, until it is known which filters are in
 * force.
 *
 * There is a copy of each message for each filter, and what the filters were is of another time: copies of
 * one message are told by their content (fingerprint.h) and by the filter's identifier, of which each brings
 * a message once, in the same order. How much it is bounds the broker (max_queued_messages). One thread
 * only. */
#ifndef MQTTASGI_BACKLOG_H
#define MQTTASGI_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

struct backlog;
struct message;

/* More overlapping filters than that match one topic: further copies count as messages. */
#define BACKLOG_FILTERS_MAX 16U

/* NULL when memory ran out. */
struct backlog *backlog_new(void) __attribute__((warn_unused_result));

/* Frees the messages, too. Takes NULL. */
void backlog_free(struct backlog *backlog);

/* The message, whose copy for another filter has come before, that this filter's copy is another of; it stays
 * the backlog's. NULL: it is a new one, to be given to backlog_add(). */
struct message *backlog_find(struct backlog *backlog, uint64_t fingerprint, uint32_t subscription);

/* A new one, from the filter with this identifier. False: no memory, and the message is still the
 * caller's. */
bool backlog_add(struct backlog *backlog, uint64_t fingerprint, uint32_t subscription,
		struct message *message) __attribute__((warn_unused_result));

/* The first that came of those that are left, which is now the caller's; NULL: none is. */
struct message *backlog_take(struct backlog *backlog, uint64_t *ret_fingerprint);

#endif
