#include "session/fences.h"

#include <stdlib.h>
#include <string.h>

#include "session/outlet.h"
#include "shared/clock.h"
#include "shared/mosquitto_api.h"

void fences_init(struct fences *fences, struct outlet *outlet, uint64_t last)
{
	*fences = (struct fences){.outlet = outlet, .asked = last, .passed = last};
	atomic_init(&fences->left_out_count, 0);
}

void fences_hear(struct fences *fences, uint64_t now)
{
	fences->deadline = now + FENCES_ANSWER_MS;
	if (fences->deadline_max && fences->deadline > fences->deadline_max) {
		fences->deadline = fences->deadline_max;
	}
}

void fences_set_limit(struct fences *fences, uint64_t at)
{
	fences->deadline_max = at;
}

uint64_t fences_read(const void *payload, size_t length)
{
	char digits[24] = "";

	if (length > 0 && length < sizeof(digits)) {
		memcpy(digits, payload, length);
	}
	return strtoull(digits, NULL, 10);
}

uint64_t fences_request(struct fences *fences)
{
	uint64_t now = now_ms();

	if (!fences_are_under_way(fences)) {
		fences_hear(fences, now);
		fences->ask_pause = FENCES_ASK_MS;
		fences->ask_at = now + FENCES_ASK_MS;
	}
	fences->asked++;
	outlet_ask_fence(fences->outlet, fences->asked);
	return fences->asked;
}

bool fences_ask_again(struct fences *fences, uint64_t now)
{
	if (!fences_are_under_way(fences) || now < fences->ask_at) {
		return false;
	}
	/* The next of them does as well as those that have not come. */
	fences->asked++;
	outlet_ask_fence(fences->outlet, fences->asked);
	fences->ask_pause = fences->ask_pause < FENCES_ASK_MAX_MS / 2 ? fences->ask_pause * 2 : FENCES_ASK_MAX_MS;
	fences->ask_at = now + fences->ask_pause;
	return true;
}

bool fences_come(struct fences *fences, uint64_t number, uint64_t now, uint64_t *ret_left_out)
{
	if (number > fences->asked || number <= fences->passed) {
		return false;
	}
	*ret_left_out = number - fences->passed - 1;
	fences->passed = number;
	fences->ask_pause = FENCES_ASK_MS;
	fences->ask_at = now + FENCES_ASK_MS;
	fences_hear(fences, now);
	return true;
}

void fences_lose(struct fences *fences)
{
	fences->passed = fences->asked;
	fences->deadline_max = 0;
}

void fences_read_again(struct fences *fences, uint64_t now)
{
	fences_hear(fences, now);
	fences->ask_at = now + fences->ask_pause;
}

bool fences_are_overdue(const struct fences *fences, uint64_t now)
{
	return fences_are_under_way(fences) && now >= fences->deadline;
}

bool fences_tell_left_out(struct fences *fences, uint64_t count, const char *filter, uint64_t now)
{
	atomic_fetch_add(&fences->left_out_count, count);
	if (fences->left_out_told_at && now < fences->left_out_told_at + FENCES_LEFT_OUT_MS) {
		return false;
	}
	fences->left_out_told_at = now;
	outlet_log(fences->outlet, MOSQ_LOG_WARNING,
			"The broker has left out some of what it had for the session, because more than max_queued_messages waited for it at "
			"once: retained messages may be missing for consumers that have subscribed just now%s%.200s%s. Raise "
			"max_queued_messages in mosquitto.conf above the number of retained messages that a filter matches. The session connects "
			"anew, for what was left out with QoS 1 and 2.",
			filter ? " (to '" : "", filter ? filter : "", filter ? "', or others)" : "");
	return true;
}
