/* What went the direct lane and will come again through the session.
 *
 * The broker sends the session a copy of each message that its subscriptions match, of those too that consumers got
 * through the direct lane. The broker thread marks these by a fingerprint of topic and payload; the session's thread
 * takes the mark when the copy comes, and so knows it for a copy. A copy that never comes (the broker dropped it)
 * would leave a mark behind that swallows a later message with the same content, so from time to time a fence is sent
 * through both: what was marked before the fence and has not come when the fence comes will not come.
 *
 * One thread adds, one thread takes; no lock. */
#ifndef MQTTASGI_MARKS_H
#define MQTTASGI_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct marks;

/* capacity is a power of two. NULL when memory ran out. */
struct marks *marks_new(size_t capacity);

/* Takes NULL. */
void marks_free(struct marks *marks);

/* Of a message; never 0. Keyed anew in each process, so that no client can make up two messages with one fingerprint.
 * Any thread. */
uint64_t marks_fingerprint(const char *topic, const void *payload, size_t payload_length);

/* Adding thread. When there is no room, marks are lost until a fence has passed; see marks_take(). */
void marks_add(struct marks *marks, uint64_t fingerprint);

/* Adding thread: everything added before belongs before this fence. Numbers rise. */
void marks_fence(struct marks *marks, uint64_t fence);

/* Taking thread: whether there is such a mark; if so it is used up. While marks are lost the answer is true for
 * everything: a message that is lost is better than hundreds that come twice. */
bool marks_take(struct marks *marks, uint64_t fingerprint);

/* Taking thread: the fence has come. Returns whether marks had been lost until now. */
bool marks_pass(struct marks *marks, uint64_t fence);

/* Whether marks wait for their copies. Taking thread. */
bool marks_are_waiting(const struct marks *marks);

#endif
