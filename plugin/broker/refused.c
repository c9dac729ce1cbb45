/* DESIGN
 * A client's message is known by its place in memory, from its MESSAGE event until the broker turns to
 * another one. What the application publishes the broker copies, and sends from a queue of its own, once a
 * turn of its loop: on 2.1 just before the TICK, so what is published from one TICK on is sent before the
 * next; on 2.0 just after it, before anything else happens, so what is published after that waits for one
 * more. There, nothing that is equal can be taken for it, though 2.0 shows no properties by which to tell
 * them apart: the broker sends that later, and asks about something else first. */
#include "broker/refused.h"

#include <stdlib.h>
#include <string.h>

#include "broker/versions.h"
#include "shared/fingerprint.h"

void refused_init(struct refused *refused, const struct versions_traits *traits)
{
	*refused = (struct refused){.traits = traits,
		.with_properties = traits->asks_with_properties,
		.is_sending = traits->sends_after_poll};
}

void refused_end(struct refused *refused)
{
	free(refused->own);
}

void refused_ignore_properties(struct refused *refused)
{
	refused->with_properties = false;
}

static bool is_short(const struct message_content *content)
{
	return content->topic_length <= REFUSED_BYTES &&
			content->payload_length <= REFUSED_BYTES - content->topic_length;
}

static void note_content(struct refused_content *noted, const struct message_content *content)
{
	if (!is_short(content)) {
		noted->fingerprint = fingerprint_of(content, false);
		return;
	}
	memcpy(noted->bytes, content->topic, content->topic_length);
	if (content->payload_length) {
		memcpy(noted->bytes + content->topic_length, content->payload, content->payload_length);
	}
}

/* Of the same lengths as the one that was noted. */
static bool has_content(const struct refused_content *noted, const struct message_content *content)
{
	if (!is_short(content)) {
		return fingerprint_of(content, false) == noted->fingerprint;
	}
	return memcmp(noted->bytes, content->topic, content->topic_length) == 0 &&
			(!content->payload_length ||
					memcmp(noted->bytes + content->topic_length, content->payload, content->payload_length) ==
							0);
}

void refused_note_direct(struct refused *refused, const struct lanes_message *message)
{
	refused->direct = *message;
	note_content(&refused->direct_content, &message->content);
	if (!refused->traits->asks_with_properties) {
		refused->direct.list = NULL;
	}
}

bool refused_note_own(struct refused *refused, const struct lanes_message *message)
{
	uint64_t of_content = fingerprint_of(&message->content, refused->with_properties);

	if (refused->own_count == refused->own_capacity) {
		size_t capacity = refused->own_capacity ? refused->own_capacity * 2 : 64;
		uint64_t *published = realloc(refused->own, capacity * sizeof(*published));

		if (!published) {
			return false;
		}
		refused->own = published;
		refused->own_capacity = capacity;
	}
	refused->own[refused->own_count++] = fingerprint_published(of_content, message->qos,
			message->retain ? FINGERPRINT_OWN_RETAIN : FINGERPRINT_LIVE);
	return true;
}

size_t refused_give_up_own(struct refused *refused, const uint64_t **ret_fingerprints)
{
	size_t count = refused->own_count;

	*ret_fingerprints = refused->own;
	if (!refused->traits->sends_after_poll) {
		return 0;
	}
	refused->own_count = refused->own_next = 0;
	return count;
}

/* The same memory, not only the same content: a QoS 2 message of the same content, which the broker releases
 * next, is another one. But the same content, too: memory is used again. */
bool refused_is_copy(const struct refused *refused, const struct lanes_message *message)
{
	const struct message_content *content = &message->content, *direct = &refused->direct.content;

	return direct->topic && content->topic == direct->topic && content->payload == direct->payload &&
			content->topic_length == direct->topic_length &&
			content->payload_length == direct->payload_length && message->list == refused->direct.list &&
			message->qos == refused->direct.qos && message->retain == refused->direct.retain &&
			has_content(&refused->direct_content, content);
}

bool refused_has_own(const struct refused *refused)
{
	return refused->is_sending && refused->own_count > 0;
}

bool refused_is_own_copy(struct refused *refused, const struct lanes_message *message)
{
	uint64_t of_content = fingerprint_of(&message->content, refused->with_properties);
	struct fingerprint_copies copies =
			fingerprint_copies(of_content, message->qos, message->qos, true, message->retain);
	size_t i, j, at;

	for (i = 0; refused->is_sending && i < refused->own_count; i++) {
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

/* On 2.0: all that was published until now was sent. */
static void end_sending(struct refused *refused)
{
	if (refused->is_sending) {
		refused->own_due = refused->own_count;
		refused->is_sending = false;
	}
}

void refused_next_message(struct refused *refused)
{
	refused->direct.content.topic = NULL;
	if (!refused->traits->sends_after_poll) {
		end_sending(refused);
	}
}

void refused_tick(struct refused *refused)
{
	refused->direct.content.topic = NULL;
	end_sending(refused);
	refused->own_count -= refused->own_due;
	if (refused->own_count) {
		memmove(refused->own, refused->own + refused->own_due, refused->own_count * sizeof(*refused->own));
	}
	refused->own_next = refused->own_due = 0;
	refused->is_sending = true;
}
