/* What the broker had kept for the session, until it is known which filters are in force.
 *
 * There is a copy of each message for each filter, and what the filters were is of another time: copies of one message are
 * told by their content (fingerprint.h) and by the filter's identifier, of which each brings a message once, in the same
 * order. How much it is bounds the broker (max_queued_messages). One thread only. */
#ifndef MQTTASGI_KEPT_H
#define MQTTASGI_KEPT_H

#include <stdbool.h>
#include <stdint.h>

struct kept;
struct message;

/* More overlapping filters than that match one topic: further copies count as messages. */
#define KEPT_FILTERS_MAX 16U

/* NULL when memory ran out. */
struct kept *kept_new(void) __attribute__((warn_unused_result));

/* Frees the messages, too. Takes NULL. */
void kept_free(struct kept *kept);

/* The message, whose copy for another filter has come before, that this filter's copy is another of; it stays the
 * kept one's. NULL: it is a new one, to be given to kept_add(). */
struct message *kept_find(struct kept *kept, uint64_t fingerprint, uint32_t subscription);

/* A new one, from the filter with this identifier. False: no memory, and the message is still the caller's. */
bool kept_add(struct kept *kept, uint64_t fingerprint, uint32_t subscription, struct message *message)
		__attribute__((warn_unused_result));

/* The first that came of those that are left, which is now the caller's; NULL: none is. */
struct message *kept_take(struct kept *kept, uint64_t *ret_fingerprint);

#endif
