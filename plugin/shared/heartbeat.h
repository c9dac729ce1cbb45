/* Whether Python runs at all: its watchdog thread beats, the broker thread looks in each TICK.
 *
 * A C extension that keeps Python's global lock keeps the watchdog from running, too. Nobody but the broker
 * thread can say so then. What it counts is its own time: while the whole process is stopped (SIGSTOP), the
 * broker thread does not look either, and silence does not grow. */
#ifndef MQTTASGI_HEARTBEAT_H
#define MQTTASGI_HEARTBEAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zero at first: no beat is awaited. */
struct heartbeat {
	_Atomic uint64_t beats;     /* since the first; 0: none is awaited */
	_Atomic uint64_t silent_ns; /* for how long the broker thread has seen no beat */
	/* The broker thread's alone. */
	uint64_t seen, looked_at_ns;
	bool is_told;
};

/* Python runs, and will beat again. Returns for how many nanoseconds the broker thread had seen no beat
 * before this one. Any thread, as the next. */
uint64_t heartbeat_beat(struct heartbeat *heartbeat);

/* Python beats no more, and nobody is to wonder. */
void heartbeat_end(struct heartbeat *heartbeat);

/* Returns for how many nanoseconds no beat has come, once for each time that this is limit_ns or more;
 * otherwise 0. Broker thread. */
uint64_t heartbeat_look(struct heartbeat *heartbeat, uint64_t limit_ns);

#endif
