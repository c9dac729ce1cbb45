#include "broker/refused.h"

#include <stdlib.h>

#include "shared/fingerprint.h"

void refused_end(struct refused *refused)
{
	free(refused->own);
}

void refused_note_direct(struct refused *refused, const struct lanes_message *message)
{
	refused->direct = *message;
	refused->direct_content = fingerprint_of(&message->content, false);
}

bool refused_note_own(struct refused *refused, uint64_t value)
{
	if (refused->own_count == refused->own_capacity) {
		size_t capacity = refused->own_capacity ? refused->own_capacity * 2 : 64;
		uint64_t *published = realloc(refused->own, capacity * sizeof(*published));

		if (!published) {
			return false;
		}
		refused->own = published;
		refused->own_capacity = capacity;
	}
	refused->own[refused->own_count++] = value;
	return true;
}

/* The same memory, not only the same content: a QoS 2 message of the same content, which the broker releases
 * next, is another one. But the same content, too: memory is used again. */
bool refused_is_copy(const struct refused *refused, const struct lanes_message *message)
{
	const struct message_content *content = &message->content, *direct = &refused->direct.content;

	return direct->topic && content->topic == direct->topic && content->payload == direct->payload &&
			content->payload_length == direct->payload_length && message->list == refused->direct.list &&
			message->qos == refused->direct.qos && message->retain == refused->direct.retain &&
			fingerprint_of(content, false) == refused->direct_content;
}

bool refused_has_own(const struct refused *refused)
{
	return refused->own_count > 0;
}

bool refused_is_own_copy(struct refused *refused, const struct lanes_message *message, bool with_properties)
{
	uint64_t of_content = fingerprint_of(&message->content, with_properties);
	struct fingerprint_copies copies =
			fingerprint_copies(of_content, message->qos, message->qos, true, message->retain);
	size_t i, j, at;

	for (i = 0; i < refused->own_count; i++) {
		at = (refused->own_next + i) % refused->own_count;
		for (j = 0; j < copies.count; j++) {
			if (refused->own[at] == copies.values[j]) {
				/* Where the next filter's copy of it is, or the next message's just behind it. */
				refused->own_next = at;
				return true;
			}
		}
	}
	return false;
}

void refused_next_message(struct refused *refused)
{
	refused->direct.content.topic = NULL;
}

void refused_tick(struct refused *refused)
{
	/* Mosquitto 2.1 sends what plugins have published just before this. */
	refused->direct.content.topic = NULL;
	refused->own_count = 0;
	refused->own_next = 0;
}
