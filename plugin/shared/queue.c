/* DESIGN
 * Pushing puts a message in front of a singly linked list with one compare-and-exchange; taking swaps the
 * whole list out with one exchange, turns it round, and hands out its messages one by one from then on. A
 * message is never taken out of the shared list alone, so the ABA problem of lock-free stacks cannot occur. A
 * thread that loses the processor between two instructions here holds nobody up.
 *
 * The counters are separate from the list: with one pushing thread the bound is exact, with several it may be
 * exceeded by one message a thread.
 *
 * Where the oldest messages may be dropped, the list of those that were swapped out belongs to two threads,
 * and is guarded by a flag. The taking thread waits for it; the pushing thread, which waits for nobody, drops
 * nothing while it is not to be had. Messages that are pushed meanwhile stay in the shared list, behind
 * these, so that the order remains. */
#include "shared/queue.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "shared/message.h"

struct queue {
	_Atomic(struct message *) newest; /* pushed and not yet swapped out */
	atomic_size_t messages;
	atomic_size_t bytes;
	atomic_size_t controls; /* pushed and not yet taken */
	atomic_bool refused;    /* a push was; cleared by queue_has_room_again() */
	atomic_size_t max_messages;
	atomic_size_t max_bytes;
	void (*notify)(void *userdata);
	void *userdata;
	struct message *oldest; /* swapped out, in order; the taking thread's, or who has the flag's */
	struct message *last;   /* of those, if there is one */

	bool may_drop;
	atomic_flag is_held;            /* somebody uses the two above */
	atomic_size_t waiting_messages; /* counted and not taken; only where the oldest may be dropped */
	atomic_size_t waiting_bytes;
};

/* How often the pushing thread looks whether the flag is free. */
#define TRIES 100
/* How many messages it passes over that must not be dropped. */
#define PASSED_OVER_MAX 64

struct queue *queue_new(size_t max_messages, size_t max_bytes, void (*notify)(void *userdata), void *userdata)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue) {
		return NULL;
	}
	atomic_init(&queue->newest, NULL);
	atomic_init(&queue->messages, 0);
	atomic_init(&queue->bytes, 0);
	atomic_init(&queue->controls, 0);
	atomic_init(&queue->refused, false);
	atomic_init(&queue->waiting_messages, 0);
	atomic_init(&queue->waiting_bytes, 0);
	atomic_flag_clear(&queue->is_held);
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

static void push(struct queue *queue, struct message *message)
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

bool queue_tell(struct queue *queue, struct message *message)
{
	if (!message) {
		return false;
	}
	message->is_control = true;
	atomic_fetch_add(&queue->controls, 1);
	push(queue, message);
	return true;
}

/* Looked at before the message counts: what counted for a moment and was refused would make the queue look
 * full to the taking thread, which would not call, and to other pushing threads. */
static bool is_full(const struct queue *queue, size_t size)
{
	size_t messages = queue_count(queue);

	/* A message larger than the bound passes when it is alone: otherwise it could never pass. */
	return messages > 0 &&
			(messages >= atomic_load(&queue->max_messages) ||
					queue_bytes(queue) + size > atomic_load(&queue->max_bytes));
}

static void push_counted(struct queue *queue, struct message *message, size_t size)
{
	atomic_fetch_add(&queue->messages, 1);
	atomic_fetch_add(&queue->bytes, size);
	if (queue->may_drop) {
		message->is_counted = true;
		atomic_fetch_add(&queue->waiting_messages, 1);
		atomic_fetch_add(&queue->waiting_bytes, size);
	}
	push(queue, message);
}

bool queue_push(struct queue *queue, struct message *message)
{
	size_t size = message_size(message);

	if (is_full(queue, size)) {
		/* Said first, then tried again: a taker that emptied the queue in between did not see the word and
		 * will not call. */
		atomic_store(&queue->refused, true);
		if (is_full(queue, size)) {
			return false;
		}
	}
	push_counted(queue, message, size);
	return true;
}

/* Puts what was pushed behind what was swapped out before. */
static void swap_out(struct queue *queue)
{
	struct message *message = atomic_exchange(&queue->newest, NULL), *last = message, *first = NULL, *next;

	for (; message; message = next) {
		next = message->next;
		message->next = first;
		first = message;
	}
	if (first && queue->oldest) {
		queue->last->next = first;
	} else if (first) {
		queue->oldest = first;
	}
	if (first) {
		queue->last = last;
	}
}

static void stop_waiting(struct queue *queue, struct message *message)
{
	if (message->is_counted) {
		message->is_counted = false;
		atomic_fetch_sub(&queue->waiting_messages, 1);
		atomic_fetch_sub(&queue->waiting_bytes, message_size(message));
	}
}

static struct message *take(struct queue *queue)
{
	struct message *message;

	/* Looked at before it is swapped: it is mostly empty, and a look costs next to nothing. */
	if (!queue->oldest && atomic_load(&queue->newest)) {
		swap_out(queue);
	}
	message = queue->oldest;
	if (message) {
		queue->oldest = message->next;
		message->next = NULL;
		if (message->is_control) {
			message->is_control = false;
			atomic_fetch_sub(&queue->controls, 1);
		}
	}
	return message;
}

struct message *queue_take(struct queue *queue)
{
	struct message *message;

	if (!queue->may_drop) {
		return take(queue);
	}
	while (atomic_flag_test_and_set(&queue->is_held)) {
		(void)sched_yield();
	}
	message = take(queue);
	if (message) {
		stop_waiting(queue, message);
	}
	atomic_flag_clear(&queue->is_held);
	return message;
}

/* ---- dropping the oldest ---- */

void queue_allow_dropping(struct queue *queue)
{
	queue->may_drop = true;
}

/* Whether so much more may wait to be taken, while the taking thread has no more than as much again. */
static bool has_room(const struct queue *queue, size_t size)
{
	size_t messages = atomic_load(&queue->max_messages), bytes = atomic_load(&queue->max_bytes);
	size_t waiting = atomic_load(&queue->waiting_messages);

	if (waiting > 0 && (waiting >= messages || atomic_load(&queue->waiting_bytes) + size > bytes)) {
		return false;
	}
	return queue_count(queue) == 0 ||
			(queue_count(queue) < 2 * messages && queue_bytes(queue) + size <= 2 * bytes);
}

/* The oldest message that may be dropped, out of the list; NULL: there is none. */
static struct message *drop_one(struct queue *queue)
{
	struct message *before = NULL, *message = queue->oldest;
	unsigned int passed_over;

	for (passed_over = 0; message && passed_over < PASSED_OVER_MAX; passed_over++) {
		if (message->is_counted && message_is_droppable(message)) {
			break;
		}
		before = message;
		message = message->next;
	}
	if (!message || passed_over == PASSED_OVER_MAX) {
		return NULL;
	}
	if (before) {
		before->next = message->next;
	} else {
		queue->oldest = message->next;
	}
	if (queue->last == message) {
		queue->last = before;
	}
	return message;
}

static void make_room(struct queue *queue, size_t size, size_t *dropped)
{
	struct message *message;
	unsigned int tries;

	for (tries = 0; atomic_flag_test_and_set(&queue->is_held); tries++) {
		if (tries == TRIES) {
			return;
		}
	}
	swap_out(queue);
	while (!has_room(queue, size) && (message = drop_one(queue))) {
		stop_waiting(queue, message);
		queue_release(queue, message_size(message));
		message_free(message);
		++*dropped;
	}
	atomic_flag_clear(&queue->is_held);
}

bool queue_push_dropping(struct queue *queue, struct message *message, size_t *dropped)
{
	size_t size = message_size(message);

	if (!has_room(queue, size)) {
		make_room(queue, size, dropped);
		if (!has_room(queue, size)) {
			return false;
		}
	}
	push_counted(queue, message, size);
	return true;
}

bool queue_is_over(const struct queue *queue, unsigned int sixteenths)
{
	return queue_count(queue) > atomic_load(&queue->max_messages) * sixteenths / 16 ||
			queue_bytes(queue) > atomic_load(&queue->max_bytes) / 16 * sixteenths;
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

size_t queue_controls(const struct queue *queue)
{
	return atomic_load(&queue->controls);
}
