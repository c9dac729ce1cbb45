/* Lets consumers disconnect while the broker still serves.
 *
 * At SIGTERM and SIGINT Mosquitto leaves its loop, and from then on sends nobody anything. So this module
 * takes the two signals from it: what comes first is kept until stop_pass_on() gives it back, and what comes
 * after that is given back at once, with the first. Between the two the broker's loop runs on, and consumers'
 * last words reach everybody.
 *
 * Signals are the process's, so there is one of these. Broker thread only. */
#ifndef MQTTASGI_STOP_H
#define MQTTASGI_STOP_H

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct lanes;
struct options;
struct queue;
struct session;
struct wakeup;

/* NOT_ASKED until a signal comes, SUSPENDING until the session has ended where it is to be kept, ASKED until
 * the application has ended or its time is over, LINGERING for a moment after that. */
enum stop_stage { STOP_NOT_ASKED, STOP_SUSPENDING, STOP_ASKED, STOP_LINGERING };

/* Whoever makes one sets what is borrowed; the rest is zero at first. */
struct stop {
	const struct options *options;
	struct broker *broker;
	struct lanes *lanes;
	struct session *session; /* NULL: none */
	struct queue *inbound;
	struct wakeup *wakeup;
	enum stop_stage stage;
	uint64_t until_ns; /* when the stage ends, or ends at the latest */
};

/* In each TICK: the broker's loop goes on until the application has ended, and gets its signal then. */
void stop_tick(struct stop *stop);

/* The broker has left its loop: ends the session's thread, and the application, where it was not asked to
 * before. Returns whether that has ended. */
bool stop_now(struct stop *stop);

/* Takes the signals, if they are not taken. Not before the first TICK: Mosquitto sets its own handlers after
 * it has loaded its plugins. One that it ignores, or that is blocked, stays so. */
void stop_take_signals(void);

/* Whether a signal is kept. */
bool stop_is_asked_for(void);

/* Gives the signals back to the broker, with the one that is kept: it ends. Does nothing where they were not
 * taken. */
void stop_pass_on(void);

#endif
