/* What went the direct lane and will come again through the session (docs/architecture.md, "The order of
 * messages").
 *
 * The broker sends the session a copy of each message that its subscriptions match, of those too that
 * consumers got through the direct lane. The broker thread marks these by their fingerprints; the session's
 * thread takes the mark when the copy comes, and so knows it for a copy. A copy that never comes (the broker
 * dropped it) would leave a mark behind that swallows a later message with the same content, so from time to
 * time a fence is sent through both: what was marked before the fence and has not come when the fence comes
 * will not come.
 *
 * There is room for so many marks. What finds none is not marked, so its copy comes as a message of its own,
 * a second time: that is better than to take a message for a copy that is none. It is counted, and ends as
 * soon as copies or fences have made room.
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

/* Adding thread. The fingerprint is that of a message as it was published (fingerprint.h). */
void marks_add(struct marks *marks, uint64_t fingerprint);

/* Adding thread: everything added before belongs before this fence. Numbers rise. */
void marks_fence(struct marks *marks, uint64_t fence);

/* How many marks were not added, for want of room. Any thread. */
uint64_t marks_missing(const struct marks *marks);

/* Taking thread: whether there is a mark with one of these fingerprints; if so the oldest of them is used
 * up. */
bool marks_take(struct marks *marks, const uint64_t *fingerprints, size_t count);

/* Taking thread: the fence has come, and so those before it are over, too. */
void marks_pass(struct marks *marks, uint64_t fence);

/* Taking thread: the place behind all marks that were added until now; what was marked before that place is
 * over. */
size_t marks_place(const struct marks *marks);
void marks_forget(struct marks *marks, size_t place);

/* Whether marks wait for their copies. Taking thread. */
bool marks_are_waiting(const struct marks *marks);

#endif
