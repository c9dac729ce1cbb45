/* Stands for the functions of broker.c, lanes.c and wakeup.c that stop.c calls. */
#ifndef STUB_STOP_H
#define STUB_STOP_H

#include <stdbool.h>
#include <stdint.h>

extern struct stub_stop {
	bool suspends;    /* what broker_is_suspending() returns from broker_suspend() on */
	bool has_stopped; /* what broker_has_stopped() and broker_wait() return */
	uint64_t unsent;  /* what broker_unsent() returns */
	bool was_suspended, has_ended;
	int wait_ms; /* of the last broker_wait(); -1: none */
	unsigned int insists;
} stub_stop;

#endif
