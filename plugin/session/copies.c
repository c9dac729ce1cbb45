#include "session/copies.h"

#include <string.h>

#include "session/connection.h"
#include "session/outlet.h"
#include "shared/clock.h"
#include "shared/fingerprint.h"
#include "shared/marks.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"

bool copies_init(struct copies *copies, struct outlet *outlet)
{
	*copies = (struct copies){.outlet = outlet, .late_until = UINT64_MAX};
	atomic_init(&copies->are_expected, true);
	copies->marks = marks_new(COPIES_MAX);
	copies->late_marks = marks_new(COPIES_MAX);
	return copies->marks && copies->late_marks;
}

void copies_free(struct copies *copies)
{
	marks_free(copies->marks);
	marks_free(copies->late_marks);
}

struct marks *copies_marks(struct copies *copies, bool late)
{
	if (!atomic_load_explicit(&copies->are_expected, memory_order_relaxed)) {
		return NULL;
	}
	return late ? copies->late_marks : copies->marks;
}

void copies_give_up(struct copies *copies)
{
	atomic_store(&copies->are_expected, false);
}

/* How many messages went the direct lane without a mark. */
static uint64_t missing(const struct copies *copies)
{
	return marks_missing(copies->marks) + marks_missing(copies->late_marks);
}

void copies_connected(struct copies *copies, bool session_present)
{
	copies->is_fresh = !session_present;
	if (!session_present) {
		copies->missing_told = missing(copies); /* of these there are no copies */
	}
}

void copies_caught_up(struct copies *copies, uint64_t now)
{
	copies->late_place = marks_place(copies->late_marks);
	copies->late_until = now + COPIES_LATE_MS;
}

void copies_lose(struct copies *copies)
{
	copies->late_until = UINT64_MAX;
}

/* A copy that never comes, because the publisher is gone or the broker has dropped it, must not leave a mark
 * behind that swallows a later message: so they end after a time in which copies come. */
void copies_end_late(struct copies *copies, uint64_t now)
{
	if (now >= copies->late_until) {
		marks_forget(copies->late_marks, copies->late_place);
		copies_caught_up(copies, now);
	}
}

static void tell_missing(struct copies *copies, uint64_t now)
{
	uint64_t count = missing(copies);

	if (count == copies->missing_told || now < copies->missing_told_at + COPIES_MISSING_MS) {
		return;
	}
	outlet_log(copies->outlet, MOSQ_LOG_WARNING,
			"%llu messages may come to consumers twice: the session has not brought more than %u copies of what they have "
			"already, and cannot tell those of any more. That ends when it has caught up.",
			(unsigned long long)(count - copies->missing_told), COPIES_MAX);
	copies->missing_told = count;
	copies->missing_told_at = now;
}

void copies_pass(struct copies *copies, uint64_t fence, bool is_in_force, uint64_t now)
{
	tell_missing(copies, now);
	marks_pass(copies->marks, fence);
	/* A session that was not there has no copies of what was released before it subscribed. */
	if (copies->is_fresh && is_in_force) {
		copies->is_fresh = false;
		marks_pass(copies->late_marks, fence);
	}
}

bool copies_want_fence(const struct copies *copies)
{
	return marks_are_waiting(copies->marks) || missing(copies) != copies->missing_told;
}

bool copies_want_fence_now(struct copies *copies, uint64_t now)
{
	if (now < copies->fence_at || !copies_want_fence(copies)) {
		return false;
	}
	copies->fence_at = now + COPIES_FENCE_MS;
	return true;
}

bool copies_are_under_way(const struct copies *copies)
{
	return marks_are_waiting(copies->marks);
}

/* ---- what comes ---- */

uint64_t copies_fingerprint(const struct copies *copies, const struct connection_message *event)
{
	const struct message_content content = {event->topic, strlen(event->topic), event->payload,
		event->payload_length, event->properties, event->properties_length};

	return fingerprint_of(&content, !copies->ignore_properties);
}

bool copies_take(struct copies *copies, const struct fingerprint_copies *published)
{
	return marks_take(copies->marks, published->values, published->count) ||
			marks_take(copies->late_marks, published->values, published->count);
}

/* With upgrade_outgoing_qos a copy may have been published with a lower QoS than it has. The plugin is not
 * told, but without it copies with a lower QoS than that of the subscription come, so then it is not set. */
static bool may_be_upgraded(const struct copies *copies)
{
	return !copies->lowered_at || now_ms() >= copies->lowered_at + COPIES_LOWERED_MS;
}

bool copies_recognise(struct copies *copies, const struct connection_message *event, uint8_t granted_qos,
		bool shows_retain, struct fingerprint_copies *ret_published)
{
	bool is_lowered = event->qos < granted_qos, may_be_lower = false;
	struct fingerprint_copies lower;
	uint64_t hash;

	if (is_lowered) {
		copies->lowered_at = now_ms();
	} else {
		may_be_lower = event->qos > 0 && may_be_upgraded(copies);
	}
	if (marks_are_waiting(copies->late_marks)) {
		copies_end_late(copies, now_ms());
	}
	hash = copies_fingerprint(copies, event);
	*ret_published =
			fingerprint_copies(hash, event->qos, is_lowered ? event->qos : 2, shows_retain, event->retain);
	if (copies_take(copies, ret_published)) {
		return true;
	}
	if (may_be_lower) {
		lower = fingerprint_copies(hash, 0, (uint8_t)(event->qos - 1), shows_retain, event->retain);
		if (copies_take(copies, &lower)) {
			return true;
		}
		*ret_published = fingerprint_copies(hash, 0, 2, shows_retain, event->retain);
	}
	return false;
}
