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
	message = message_new(MESSAGE_LOG, line, strlen(line), NULL, 0, NULL, 0);
	if (message) {
		message->code = level;
		if (!queue_push(outlet->outbound, message)) {
			message_free(message);
		}
	}
}

/* A word that somebody would wait for for ever: this thread can wait for memory instead. NULL: there was none for a while. */
static struct message *patient_control(enum message_kind kind, uint64_t consumer, uint64_t sequence, int code)
{
	static const struct timespec pause = {.tv_nsec = 10000000};
	struct message *message;
	int i;

	for (i = 0; !(message = message_control(kind, consumer, sequence, code)) && i < 500; i++) {
		(void)nanosleep(&pause, NULL);
	}
	return message;
}

static void tell_broker(struct outlet *outlet, enum message_kind kind, int code, uint64_t sequence)
{
	struct message *message = patient_control(kind, 0, sequence, code);

	if (message) {
		queue_push_control(outlet->outbound, message);
	}
}

void outlet_ask_fence(struct outlet *outlet, uint64_t fence)
{
	tell_broker(outlet, MESSAGE_FENCE, 0, fence);
}

void outlet_tell_session(struct outlet *outlet, bool is_up)
{
	tell_broker(outlet, MESSAGE_SESSION, is_up, 0);
}

static bool push_inbound(struct outlet *outlet, struct message *message)
{
	if (message->kind == MESSAGE_PUBLISH) {
		return queue_push(outlet->inbound, message);
	}
	queue_push_control(outlet->inbound, message);
	return true;
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
	struct message *message = message_control(MESSAGE_RELEASE, consumer, 0, 0);

	if (message) {
		queue_push_control(outlet->inbound, message);
	}
	return message != NULL;
}

void outlet_release_all_at_once(struct outlet *outlet)
{
	struct message *message = message_control(MESSAGE_RELEASE, 0, 0, INT_MAX);

	if (message) {
		queue_push_control(outlet->inbound, message);
	}
}

static void tell_loop(struct outlet *outlet, enum message_kind kind, uint64_t consumer, int code, uint64_t sequence)
{
	struct message *message = patient_control(kind, consumer, sequence, code);

	if (!message) {
		outlet_log(outlet, MOSQ_LOG_ERR, "No memory: a consumer may wait for its subscription in vain.");
		return;
	}
	outlet_deliver(outlet, message);
}

void outlet_hold(struct outlet *outlet, uint64_t consumer, bool subscribed_before)
{
	tell_loop(outlet, MESSAGE_HOLD, consumer, subscribed_before, 0);
}

void outlet_release(struct outlet *outlet, uint64_t consumer)
{
	tell_loop(outlet, MESSAGE_RELEASE, consumer, 0, 0);
}

void outlet_release_all(struct outlet *outlet, int hold)
{
	tell_loop(outlet, MESSAGE_RELEASE, 0, hold, 0);
}

void outlet_answer(struct outlet *outlet, uint64_t sequence)
{
	if (sequence) {
		tell_loop(outlet, MESSAGE_ANSWER, 0, MOSQ_ERR_SUCCESS, sequence);
	}
}
