#include "session/outlet.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shared/mosquitto_api.h"
#include "shared/queue.h"

void outlet_init(struct outlet *outlet, struct queue *inbound, struct queue *outbound)
{
	*outlet = (struct outlet){.inbound = inbound, .outbound = outbound};
}

void outlet_clear(struct outlet *outlet)
{
	message_list_clear(&outlet->stalled);
}

void outlet_log(struct outlet *outlet, int level, const char *format, ...)
{
	struct message *message;
	char line[1200];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	message = message_log(level, line, strlen(line));
	if (message && !queue_push(outlet->outbound, message)) {
		message_free(message);
	}
}

/* Of a word that somebody would wait for for ever: this thread can wait for memory instead. NULL: there was
 * none for a while. */
static struct message *patient_copy(const struct message *word)
{
	static const struct timespec pause = {.tv_nsec = 10000000};
	struct message *message;
	int i;

	for (i = 0; !(message = message_copy(word)) && i < 500; i++) {
		(void)nanosleep(&pause, NULL);
	}
	return message;
}

void outlet_ask_fence(struct outlet *outlet, uint64_t fence)
{
	const struct message word = {.kind = MESSAGE_FENCE, .as.fence.number = fence};

	(void)queue_tell(outlet->outbound, patient_copy(&word));
}

void outlet_tell_session(struct outlet *outlet, bool is_up)
{
	const struct message word = {.kind = MESSAGE_SESSION, .as.session.is_up = is_up};

	(void)queue_tell(outlet->outbound, patient_copy(&word));
}

static bool push_inbound(struct outlet *outlet, struct message *message)
{
	if (message->kind == MESSAGE_PUBLISH) {
		return queue_push(outlet->inbound, message);
	}
	return queue_tell(outlet->inbound, message);
}

void outlet_deliver(struct outlet *outlet, struct message *message)
{
	if (!message) {
		return;
	}
	outlet->is_used = true;
	if (outlet->stalled.first || !push_inbound(outlet, message)) {
		message_list_append(&outlet->stalled, message);
	}
}

void outlet_store(struct outlet *outlet, struct message *message)
{
	struct message *word = message_store(message);

	if (!queue_tell(outlet->outbound, word)) {
		message->as.publish.stored = 0;
		outlet_log(outlet, MOSQ_LOG_WARNING,
				"No memory: a message on topic '%.400s' is handed over without being stored in the durable inbox.",
				message->topic);
	}
	outlet_deliver(outlet, message);
}

bool outlet_try_again(struct outlet *outlet)
{
	struct message *message, *next;

	if (!outlet->stalled.first) {
		return false;
	}
	while ((message = outlet->stalled.first)) {
		next = message->next;
		if (!push_inbound(outlet, message)) {
			message->next = next;
			return false;
		}
		outlet->stalled.first = next;
	}
	outlet->stalled_at = 0;
	return true;
}

bool outlet_is_stuck(struct outlet *outlet, uint64_t now)
{
	if (!outlet->stalled.first) {
		return false;
	}
	if (!outlet->stalled_at) {
		outlet->stalled_at = now;
	}
	if (now < outlet->stalled_at + OUTLET_STALL_MS) {
		return false;
	}
	outlet->stalled_at = now;
	return true;
}

bool outlet_release_at_once(struct outlet *outlet, uint64_t consumer)
{
	return queue_tell(outlet->inbound, message_release_consumer(consumer));
}

void outlet_release_all_at_once(struct outlet *outlet)
{
	(void)queue_tell(outlet->inbound, message_release(INT_MAX));
}

static void tell_loop(struct outlet *outlet, const struct message *word)
{
	struct message *message = patient_copy(word);

	if (!message) {
		outlet_log(outlet, MOSQ_LOG_ERR, "No memory: a consumer may wait for its subscription in vain.");
		return;
	}
	outlet_deliver(outlet, message);
}

void outlet_hold(struct outlet *outlet, uint64_t consumer, bool subscribed_before)
{
	const struct message word = {.kind = MESSAGE_HOLD_CONSUMER,
		.as.hold_consumer = {.consumer = consumer, .again = subscribed_before}};

	tell_loop(outlet, &word);
}

void outlet_release(struct outlet *outlet, uint64_t consumer)
{
	const struct message word = {.kind = MESSAGE_RELEASE_CONSUMER, .as.hold_consumer.consumer = consumer};

	tell_loop(outlet, &word);
}

void outlet_release_all(struct outlet *outlet, int hold)
{
	const struct message word = {.kind = MESSAGE_RELEASE, .as.hold.number = hold};

	tell_loop(outlet, &word);
}

void outlet_answer(struct outlet *outlet, uint64_t sequence)
{
	const struct message word = {
		.kind = MESSAGE_ANSWER, .as.answer = {.sequence = sequence, .rc = MOSQ_ERR_SUCCESS}};

	if (sequence) {
		tell_loop(outlet, &word);
	}
}
