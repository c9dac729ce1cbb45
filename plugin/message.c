#include "message.h"

#include <stdlib.h>
#include <string.h>

struct message *message_new(enum message_kind kind, const char *topic, size_t topic_length, const void *payload,
		size_t payload_length, const struct recipient *recipients, size_t recipient_count)
{
	struct message *message;
	struct recipient *own_recipients;
	char *own_topic;
	size_t size = sizeof(*message), recipients_size;

	/* The parts come from MQTT packets and Python strings, so only their sum could overflow. */
	if (__builtin_mul_overflow(recipient_count, sizeof(*recipients), &recipients_size) ||
			__builtin_add_overflow(size, recipients_size, &size) ||
			__builtin_add_overflow(size, topic_length, &size) ||
			__builtin_add_overflow(size, payload_length, &size) ||
			__builtin_add_overflow(size, (size_t)1, &size)) {
		return NULL;
	}
	message = malloc(size);
	if (!message) {
		return NULL;
	}
	memset(message, 0, sizeof(*message));
	message->kind = kind;
	message->topic_length = topic_length;
	message->payload_length = payload_length;
	message->recipient_count = recipient_count;

	own_recipients = (struct recipient *)(message + 1);
	if (recipient_count) {
		memcpy(own_recipients, recipients, recipients_size);
	}
	message->recipients = own_recipients;

	own_topic = (char *)(own_recipients + recipient_count);
	if (topic_length) {
		memcpy(own_topic, topic, topic_length);
	}
	own_topic[topic_length] = '\0';
	message->topic = own_topic;

	if (payload_length) {
		memcpy(own_topic + topic_length + 1, payload, payload_length);
		message->payload = own_topic + topic_length + 1;
	}
	return message;
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

void message_free(struct message *message)
{
	free(message);
}

size_t message_size(const struct message *message)
{
	return sizeof(*message) + message->recipient_count * sizeof(struct recipient) + message->topic_length +
			message->payload_length + 1;
}
