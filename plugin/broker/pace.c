#include "broker/pace.h"

#include <sched.h>

#include "broker/wakeup.h"
#include "shared/clock.h"
#include "shared/queue.h"

/* See struct pace_portion. */
#define PORTION_MIN 4U
#define PORTION_FIRST 16U
#define PORTION_MAX PACE_PORTION_MAX
#define ROUND_NS 100000U
#define SPIN_CREDIT_MAX 8

void pace_init(struct pace *pace)
{
	*pace = (struct pace){.portion = {.size = PORTION_FIRST, .left = PORTION_FIRST}};
}

void pace_set_spin(struct pace *pace, unsigned int microseconds)
{
	pace->spin.budget_ns = (uint64_t)microseconds * 1000U;
	pace->spin.credit = SPIN_CREDIT_MAX;
}

size_t pace_left(const struct pace *pace)
{
	return pace->portion.left;
}

void pace_spend(struct pace *pace, size_t done)
{
	pace->portion.left -= done;
}

void pace_allow_answer(struct pace *pace)
{
	pace->portion.left++;
}

/* Remembers when the only message under way was handed over, for pace_wait_for_answer(). One that comes on
 * the heels of the last tick is no such message: the broker had no time to sleep, so more wait in its sockets
 * (it reads one packet a poll), and the time is better spent on them. */
void pace_note_question(struct pace *pace, const struct queue *inbound)
{
	struct pace_spin *spin = &pace->spin;
	uint64_t now;

	if (!spin->budget_ns) {
		return;
	}
	now = now_ns();
	spin->asked_at_ns =
			queue_count(inbound) == 1 && now - spin->rested_at_ns >= spin->budget_ns / 2 ? now : 0;
}

/* When the answer came that has been found, which may have been before that: it takes time to wake up. */
static uint64_t answered_at(const struct pace_spin *spin, const struct wakeup *wakeup)
{
	uint64_t requested_at = wakeup_requested_at(wakeup);

	return requested_at > spin->asked_at_ns ? requested_at : now_ns();
}

/* Waits a moment for the answer to the only message under way, if answers have lately come in such a moment:
 * a sleep and a wake-up cost more than that. With several messages under way the time is better spent on
 * them. Learns in both states: from answers that it waited for and from those that woke it. */
void pace_wait_for_answer(struct pace *pace, const struct queue *outbound, struct wakeup *wakeup)
{
	struct pace_spin *spin = &pace->spin;
	uint64_t deadline;

	if (!spin->asked_at_ns) {
		return;
	}
	deadline = spin->asked_at_ns + spin->budget_ns;
	if (spin->credit > 0) {
		wakeup_attend(wakeup);
		while (queue_is_empty(outbound) && now_ns() < deadline) {
			/* The loop thread may have been woken on this very processor, where it could not run beside a
			 * busy wait. */
			(void)sched_yield();
		}
		/* Other messages that came with it have waited long enough. */
		spin->rested_at_ns = now_ns();
	} else if (queue_is_empty(outbound)) {
		return; /* the poll wakes up for it; asked_at_ns stays for that tick */
	}
	if (!queue_is_empty(outbound) && answered_at(spin, wakeup) < deadline) {
		spin->credit += spin->credit < SPIN_CREDIT_MAX;
	} else if (spin->credit > 0) {
		spin->credit -= 2;
	}
	spin->asked_at_ns = 0;
}

void pace_begin_tick(struct pace *pace)
{
	struct pace_portion *portion = &pace->portion;
	uint64_t round;

	if (!portion->ended_at_ns) {
		return;
	}
	round = now_ns() - portion->ended_at_ns;
	if (round > ROUND_NS) {
		portion->size = portion->size / 2 > PORTION_MIN ? portion->size / 2 : PORTION_MIN;
	} else if (round < ROUND_NS / 2) {
		portion->size = portion->size * 2 < PORTION_MAX ? portion->size * 2 : PORTION_MAX;
	}
}

void pace_end_tick(struct pace *pace, bool is_awake)
{
	struct pace_portion *portion = &pace->portion;

	if (!is_awake && portion->size > PORTION_FIRST) {
		portion->size = PORTION_FIRST;
	}
	portion->left = portion->size;
	portion->ended_at_ns = is_awake ? now_ns() : 0;
	if (pace->spin.budget_ns) {
		pace->spin.rested_at_ns = now_ns();
	}
}
