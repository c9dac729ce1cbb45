#include "shared/message.h"

#include <stdlib.h>
#include <string.h>

#include "shared/client.h"

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

struct message *message_new(enum message_kind kind, const char *topic, size_t topic_length, const void *payload,
		size_t payload_length, const struct recipient *recipients, size_t recipient_count)
{
	const struct message_content content = {topic, topic_length, payload, payload_length, NULL, 0};

	return make(kind, &content, recipients, recipient_count);
}

struct message *message_publish(const struct message_content *content, const struct recipient *recipients,
		size_t recipient_count)
{
	return make(MESSAGE_PUBLISH, content, recipients, recipient_count);
}

struct message *message_control(enum message_kind kind, uint64_t consumer, uint64_t sequence, int code)
{
	struct message *message = message_new(kind, NULL, 0, NULL, 0, NULL, 0);

	if (message) {
		message->consumer = consumer;
		message->sequence = sequence;
		message->code = code;
	}
	return message;
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
