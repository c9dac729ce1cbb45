#include "shared/message.h"

#include <stdlib.h>
#include <string.h>

#include "shared/client.h"

#define ROW(kind, type, is_droppable, shows) [MESSAGE_##kind] = {type, is_droppable, shows},

static const struct message_event events[] = {MESSAGE_EVENTS(ROW)};

static struct message *make(enum message_kind kind, const struct message_content *content,
		const struct recipient *recipients, size_t recipient_count)
{
	struct message *message;
	struct recipient *own_recipients;
	char *at;
	size_t size = sizeof(*message), recipients_size;

	/* The parts come from MQTT packets and Python strings, so only their sum could overflow. */
	if (__builtin_mul_overflow(recipient_count, sizeof(*recipients), &recipients_size) ||
			__builtin_add_overflow(size, recipients_size, &size) ||
			__builtin_add_overflow(size, content->topic_length, &size) ||
			__builtin_add_overflow(size, content->payload_length, &size) ||
			__builtin_add_overflow(size, content->properties_length, &size) ||
			__builtin_add_overflow(size, (size_t)1, &size)) {
		return NULL;
	}
	message = malloc(size);
	if (!message) {
		return NULL;
	}
	memset(message, 0, sizeof(*message));
	message->kind = kind;
	message->topic_length = content->topic_length;
	message->payload_length = content->payload_length;
	message->properties_length = content->properties_length;
	message->recipient_count = recipient_count;

	own_recipients = (struct recipient *)(message + 1);
	if (recipient_count) {
		memcpy(own_recipients, recipients, recipients_size);
	}
	message->recipients = own_recipients;

	at = (char *)(own_recipients + recipient_count);
	if (content->topic_length) {
		memcpy(at, content->topic, content->topic_length);
	}
	at[content->topic_length] = '\0';
	message->topic = at;
	at += content->topic_length + 1;

	if (content->payload_length) {
		memcpy(at, content->payload, content->payload_length);
		message->payload = at;
		at += content->payload_length;
	}
	if (content->properties_length) {
		memcpy(at, content->properties, content->properties_length);
		message->properties = at;
	}
	return message;
}

struct message *message_publish(const struct message_content *content, const struct recipient *recipients,
		size_t recipient_count)
{
	return make(MESSAGE_PUBLISH, content, recipients, recipient_count);
}

/* ---- one function for each kind ---- */

static struct message *make_text(enum message_kind kind, const char *text, size_t length)
{
	const struct message_content content = {.topic = text, .topic_length = length};

	return make(kind, &content, NULL, 0);
}

static struct message *make_control(enum message_kind kind, union message_as as)
{
	struct message *message = make_text(kind, NULL, 0);

	if (message) {
		message->as = as;
	}
	return message;
}

static struct message *make_plain(enum message_kind kind)
{
	return make_text(kind, NULL, 0);
}

static struct message *make_request(enum message_kind kind, const struct message_request *request,
		const char *filter, size_t length)
{
	struct message *message = make_text(kind, filter, length);

	if (message) {
		message->as.request = *request;
	}
	return message;
}

struct message *message_answer(uint64_t sequence, int rc)
{
	return make_control(MESSAGE_ANSWER, (union message_as){.answer = {.sequence = sequence, .rc = rc}});
}

struct message *message_writable(void)
{
	return make_plain(MESSAGE_WRITABLE);
}

struct message *message_hold(int number)
{
	return make_control(MESSAGE_HOLD, (union message_as){.hold = {.number = number}});
}

struct message *message_release(int number)
{
	return make_control(MESSAGE_RELEASE, (union message_as){.hold = {.number = number}});
}

struct message *message_hold_consumer(uint64_t consumer, bool again)
{
	return make_control(MESSAGE_HOLD_CONSUMER,
			(union message_as){.hold_consumer = {.consumer = consumer, .again = again}});
}

struct message *message_release_consumer(uint64_t consumer)
{
	return make_control(MESSAGE_RELEASE_CONSUMER,
			(union message_as){.hold_consumer = {.consumer = consumer}});
}

struct message *message_options(const struct message_of_options *options)
{
	return make_control(MESSAGE_OPTIONS, (union message_as){.options = *options});
}

struct message *message_stop(void)
{
	return make_plain(MESSAGE_STOP);
}

struct message *message_subscribe(const struct message_request *request, const char *filter, size_t length)
{
	return make_request(MESSAGE_SUBSCRIBE, request, filter, length);
}

struct message *message_unsubscribe(const struct message_request *request, const char *filter, size_t length)
{
	return make_request(MESSAGE_UNSUBSCRIBE, request, filter, length);
}

struct message *message_consumer(uint64_t handle, const char *name, size_t length)
{
	struct message *message = make_text(MESSAGE_CONSUMER, name, length);

	if (message) {
		message->as.consumer.handle = handle;
	}
	return message;
}

struct message *message_consumer_gone(uint64_t handle, bool keeps)
{
	return make_control(MESSAGE_CONSUMER_GONE,
			(union message_as){.consumer = {.handle = handle, .keeps = keeps}});
}

struct message *message_done(const struct message_handled *handled, size_t count)
{
	const struct message_content content = {.payload = handled, .payload_length = count * sizeof(*handled)};

	return make(MESSAGE_DONE, &content, NULL, 0);
}

struct message *message_failed(const struct message_of_failed *failed, const char *traceback, size_t length)
{
	struct message *message = make_text(MESSAGE_FAILED, traceback, length);

	if (message) {
		message->as.failed = *failed;
	}
	return message;
}

struct message *message_watch(uint64_t consumer, uint64_t sequence)
{
	return make_control(MESSAGE_WATCH,
			(union message_as){.request = {.consumer = consumer, .sequence = sequence}});
}

struct message *message_unwatch(uint64_t consumer, uint64_t sequence)
{
	return make_control(MESSAGE_UNWATCH,
			(union message_as){.request = {.consumer = consumer, .sequence = sequence}});
}

struct message *message_kick(const char *client_id, size_t length, uint64_t sequence)
{
	return make_request(MESSAGE_KICK, &(struct message_request){.sequence = sequence}, client_id, length);
}

struct message *message_settled(const char *summary, size_t length)
{
	return make_text(MESSAGE_SETTLED, summary, length);
}

struct message *message_suspend(bool application_ends)
{
	return make_control(MESSAGE_SUSPEND,
			(union message_as){.suspend = {.application_ends = application_ends}});
}

struct message *message_started(void)
{
	return make_plain(MESSAGE_STARTED);
}

struct message *message_stopped(void)
{
	return make_plain(MESSAGE_STOPPED);
}

struct message *message_log(int level, const char *line, size_t length)
{
	struct message *message = make_text(MESSAGE_LOG, line, length);

	if (message) {
		message->as.log.level = level;
	}
	return message;
}

struct message *message_listening(void)
{
	return make_plain(MESSAGE_LISTENING);
}

struct message *message_publisher(struct client *client, uint64_t fingerprint, uint64_t stored)
{
	const struct message draft = {
		.kind = MESSAGE_PUBLISHER, .as.publisher = {.fingerprint = fingerprint, .stored = stored}};

	return message_copy_for(&draft, client, NULL, 0);
}

struct message *message_connection_gone(bool was_taken)
{
	return make_control(MESSAGE_CONNECTION_GONE, (union message_as){.gone = {.was_taken = was_taken}});
}

struct message *message_end(void)
{
	return make_plain(MESSAGE_END);
}

struct message *message_store(const struct message *publish)
{
	const struct message_content content = message_content(publish);
	struct message *copy = make(MESSAGE_STORE, &content, publish->recipients, publish->recipient_count);

	if (copy) {
		copy->as = publish->as;
		copy->client = publish->client ? client_hold(publish->client) : NULL;
	}
	return copy;
}

struct message *message_copy(const struct message *message)
{
	return message_copy_for(message, NULL, NULL, 0);
}

struct message *message_copy_for(const struct message *message, struct client *client,
		const struct recipient *recipients, size_t recipient_count)
{
	const struct message_content content = {.topic = message->topic, .topic_length = message->topic_length};
	struct message *copy = make(message->kind, &content, recipients, recipient_count);

	if (copy) {
		copy->as = message->as;
		copy->client = client ? client_hold(client) : NULL;
	}
	return copy;
}

/* ---- whatever its kind ---- */

const struct message_event *message_event(enum message_kind kind)
{
	return kind < MESSAGE_EVENTS_END ? &events[kind] : NULL;
}

struct message_content message_content(const struct message *message)
{
	return (struct message_content){.topic = message->topic,
		.topic_length = message->topic_length,
		.payload = message->payload,
		.payload_length = message->payload_length,
		.properties = message->properties,
		.properties_length = message->properties_length};
}

bool message_is_droppable(const struct message *message)
{
	const struct message_event *event = message_event(message->kind);

	return event && event->is_droppable &&
			!(message->kind == MESSAGE_PUBLISH &&
					(message->as.publish.by_session || message->as.publish.stored));
}

void message_leave_out(struct message *message, uint64_t publisher)
{
	struct recipient *recipients = (struct recipient *)(message + 1);
	size_t i;

	for (i = 0; i < message->recipient_count && recipients[i].consumer != publisher; i++) {
	}
	if (i == message->recipient_count) {
		return;
	}
	if (recipients[i].own_qos >= 0) {
		recipients[i].qos = (uint8_t)recipients[i].own_qos;
	} else {
		message->recipient_count--;
		memmove(&recipients[i], &recipients[i + 1], (message->recipient_count - i) * sizeof(*recipients));
	}
}

void message_keep_recipients(struct message *message, const struct recipient *recipients, size_t count)
{
	memmove((struct recipient *)(message + 1), recipients, count * sizeof(*recipients));
	message->recipient_count = count;
}

void message_free(struct message *message)
{
	if (message) {
		client_release(message->client);
		free(message);
	}
}

size_t message_size(const struct message *message)
{
	/* It may be the last to hold its client: so each of a client's messages counts what that takes. */
	return sizeof(*message) + message->recipient_count * sizeof(struct recipient) + message->topic_length +
			message->payload_length + message->properties_length + 1 +
			(message->client ? client_size(message->client) : 0);
}
