/* How much the broker thread does for the application from one tick to the next, and whether it waits a
 * moment for an answer.
 *
 * Broker thread only; nothing here fails. */
#ifndef MQTTASGI_PACE_H
#define MQTTASGI_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue;
struct wakeup;

/* The most that one tick does. */
#define PACE_PORTION_MAX 256U

/* Whether it pays to wait for an answer instead of going to sleep. */
struct pace_spin {
	uint64_t budget_ns;    /* 0: never */
	int credit;            /* rises with each answer within the budget, falls with each that was not */
	uint64_t asked_at_ns;  /* when the only outstanding message was handed over; 0: none is */
	uint64_t rested_at_ns; /* when the last tick ended */
};

/* How much is carried out from one tick to the next. What that costs other clients comes after the tick, when
 * the broker sends what was published: so a round of its loop that took too long halves the portion, and one
 * that had less doubles it; after a rest it begins small, because what the next flood costs is not known.
 * Each message that comes in adds one, for its answer. */
struct pace_portion {
	size_t size;
	size_t left;          /* until the next tick has ended */
	uint64_t ended_at_ns; /* the last tick, if the broker does not sleep until the next; 0: it may */
};

struct pace {
	struct pace_spin spin;
	struct pace_portion portion;
};

/* Without a spin. */
void pace_init(struct pace *pace);

/* For how long at most to wait for an answer; 0: not at all. */
void pace_set_spin(struct pace *pace, unsigned int microseconds);

/* How many commands and publishes may be carried out before the next tick has ended; so many were; and one
 * more may be, for the answer to a message that has come. */
size_t pace_left(const struct pace *pace);
void pace_spend(struct pace *pace, size_t done);
void pace_allow_answer(struct pace *pace);

/* A message was put into the inbound queue. */
void pace_note_question(struct pace *pace, const struct queue *inbound);

/* Waits for the answer to it, if that pays. */
void pace_wait_for_answer(struct pace *pace, const struct queue *outbound, struct wakeup *wakeup);

/* Around what a tick does. is_awake: the broker comes round again at once. */
void pace_begin_tick(struct pace *pace);
void pace_end_tick(struct pace *pace, bool is_awake);

#endif
