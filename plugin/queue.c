/* DESIGN
 * Pushing puts a message in front of a singly linked list with one compare-and-exchange; taking swaps the whole
 * list out with one exchange, turns it round, and hands out its messages one by one from then on. A message is
 * never taken out of the shared list alone, so the ABA problem of lock-free stacks cannot occur. A thread that
 * loses the processor between two instructions here holds nobody up.
 *
 * The counters are separate from the list: with one pushing thread the bound is exact, with several it may be
 * exceeded by one message a thread. */
#include "queue.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "message.h"

struct queue {
	_Atomic(struct message *) newest; /* pushed and not yet swapped out */
	atomic_size_t messages;
	atomic_size_t bytes;
	atomic_bool refused;              /* a push was; cleared by queue_has_room_again() */
	atomic_size_t max_messages;
	atomic_size_t max_bytes;
	void (*notify)(void *userdata);
	void *userdata;
	struct message *oldest;           /* swapped out, in order; the taking thread's */
};

struct queue *queue_new(size_t max_messages, size_t max_bytes, void (*notify)(void *userdata), void *userdata)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue) {
		return NULL;
	}
	atomic_init(&queue->newest, NULL);
	atomic_init(&queue->messages, 0);
	atomic_init(&queue->bytes, 0);
	atomic_init(&queue->refused, false);
	queue_set_limits(queue, max_messages, max_bytes);
	queue->notify = notify;
	queue->userdata = userdata;
	return queue;
}

void queue_set_limits(struct queue *queue, size_t max_messages, size_t max_bytes)
{
	/* Between the two somebody may see a bound of each kind, which does no harm. */
	atomic_store(&queue->max_messages, max_messages);
	atomic_store(&queue->max_bytes, max_bytes);
}

void queue_free(struct queue *queue)
{
	struct message *message;

	if (!queue) {
		return;
	}
	while ((message = queue_take(queue))) {
		message_free(message);
	}
	free(queue);
}

void queue_push_control(struct queue *queue, struct message *message)
{
	struct message *newest = atomic_load(&queue->newest);

	do {
		message->next = newest;
	} while (!atomic_compare_exchange_weak(&queue->newest, &newest, message));

	/* Only the push onto an empty list notifies: whoever takes it takes all that came on top of it. */
	if (!newest) {
		queue->notify(queue->userdata);
	}
}

/* Counts the message if there is room. Looks before it counts: what counted for a moment and was refused would make
 * the queue look full to the taking thread, which would not call, and to other pushing threads. */
static bool reserve(struct queue *queue, size_t size)
{
	size_t messages = atomic_load(&queue->messages);
	size_t bytes = atomic_load(&queue->bytes);

	/* A message larger than the bound passes when it is alone: otherwise it could never pass. */
	if (messages > 0 && (messages >= atomic_load(&queue->max_messages) || bytes + size > atomic_load(&queue->max_bytes))) {
		return false;
	}
	atomic_fetch_add(&queue->messages, 1);
	atomic_fetch_add(&queue->bytes, size);
	return true;
}

bool queue_push(struct queue *queue, struct message *message)
{
	size_t size = message_size(message);

	if (!reserve(queue, size)) {
		/* Said first, then tried again: a taker that emptied the queue in between did not see the word and will
		 * not call. */
		atomic_store(&queue->refused, true);
		if (!reserve(queue, size)) {
			return false;
		}
	}
	queue_push_control(queue, message);
	return true;
}

struct message *queue_take(struct queue *queue)
{
	struct message *message, *next;

	/* Looked at before it is swapped: it is mostly empty, and a look costs next to nothing. */
	if (!queue->oldest && atomic_load(&queue->newest)) {
		message = atomic_exchange(&queue->newest, NULL);
		while (message) {
			next = message->next;
			message->next = queue->oldest;
			queue->oldest = message;
			message = next;
		}
	}
	message = queue->oldest;
	if (message) {
		queue->oldest = message->next;
		message->next = NULL;
	}
	return message;
}

void queue_release(struct queue *queue, size_t size)
{
	atomic_fetch_sub(&queue->bytes, size);
	atomic_fetch_sub(&queue->messages, 1);
}

bool queue_is_empty(const struct queue *queue)
{
	return !queue->oldest && !atomic_load(&queue->newest);
}

bool queue_has_room_again(struct queue *queue)
{
	if (!atomic_load(&queue->refused) || queue_count(queue) > atomic_load(&queue->max_messages) / 2 ||
			queue_bytes(queue) > atomic_load(&queue->max_bytes) / 2) {
		return false;
	}
	return atomic_exchange(&queue->refused, false);
}

size_t queue_count(const struct queue *queue)
{
	return atomic_load(&queue->messages);
}

size_t queue_bytes(const struct queue *queue)
{
	return atomic_load(&queue->bytes);
}
