/* A bounded first-in first-out queue of messages between two threads.
 *
 * Any thread pushes, one thread takes. Neither ever waits: there is no lock (see queue.c). The bound counts a
 * message from its push until queue_release(), so what the taker has taken but not yet dealt with still
 * counts. */
#ifndef MQTTASGI_QUEUE_H
#define MQTTASGI_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct message;
struct queue;

/* notify is called on the pushing thread each time the queue stops being empty. It must not push.
 * NULL when memory ran out. */
struct queue *queue_new(size_t max_messages, size_t max_bytes, void (*notify)(void *userdata),
		void *userdata);

/* Other bounds from now on; what waits and is beyond them stays. Any thread. */
void queue_set_limits(struct queue *queue, size_t max_messages, size_t max_bytes);

/* Frees the messages that wait, too. Takes NULL. No other thread may use the queue any more. */
void queue_free(struct queue *queue);

/* True: the queue owns the message, and the taking thread may have freed it already. False: the queue is
 * full, the message is still the caller's, and queue_has_room_again() will tell the taking thread when it is
 * time to try again. */
bool queue_push(struct queue *queue, struct message *message) __attribute__((warn_unused_result));

/* Makes queue_push_dropping() possible, which costs the taking thread a moment for each message. Before
 * another thread uses the queue. */
void queue_allow_dropping(struct queue *queue);

/* Like queue_push(), but rather than refuse it makes room: it frees the oldest messages that nobody has
 * taken, publishes that came the direct lane alone (what the session brings waits there when it finds no
 * room). As much as the bounds may wait to be taken; what the taker has and is not done with, the other half,
 * it is to drop itself (queue_is_over()). Returns false when there is nothing to drop. Adds to *dropped how
 * many were. One pushing thread only. */
bool queue_push_dropping(struct queue *queue, struct message *message, size_t *dropped)
		__attribute__((warn_unused_result));

/* Whether more than so many sixteenths of the bounds are pushed and not yet released. Any thread. */
bool queue_is_over(const struct queue *queue, unsigned int sixteenths);

/* For what must not get lost and is bounded by other means (answers, holds, start, stop): always takes the
 * message, and does not count it. Not to be given to queue_release(). Takes NULL, a message for which there
 * was no memory: returns false, and whoever must not lose it tries again. */
bool queue_tell(struct queue *queue, struct message *message);

/* The oldest message, which is now the caller's, or NULL. Taking thread only. */
struct message *queue_take(struct queue *queue);

/* The caller is done with a message of this size (message_size()). Any thread. */
void queue_release(struct queue *queue, size_t size);

/* Whether queue_take() would return something. Taking thread only. */
bool queue_is_empty(const struct queue *queue);

/* True once after a push was refused, as soon as the queue is half empty. Taking thread only. */
bool queue_has_room_again(struct queue *queue);

/* Messages pushed and not yet released; what another thread does meanwhile may be missing. Any thread. */
size_t queue_count(const struct queue *queue);
size_t queue_bytes(const struct queue *queue);

/* What queue_tell() has pushed and nobody has taken. Any thread. */
size_t queue_controls(const struct queue *queue);

#endif
