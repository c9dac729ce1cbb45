/* CPython in the broker's process: starts it, runs the application in it, waits for its end.
 *
 * The interpreter lives on the loop thread, which this module creates and which is Python's main thread from
 * its first to its last instruction. It is never finalised: extension modules crash when that is done twice,
 * and the process is about to end when it is done once. */
#ifndef MQTTASGI_INTERPRETER_H
#define MQTTASGI_INTERPRETER_H

#include <stdbool.h>

#include "python/pymodule.h"

/* Starts the loop thread. Whatever goes wrong on it is written to the log through context->outbound, and
 * MESSAGE_STOPPED is the last thing it sends. Broker thread, once a process: a second interpreter is refused.
 * Returns MOSQ_ERR_SUCCESS, or another MOSQ_ERR_* after a line in the log. */
int interpreter_start(const struct pymodule_context *context) __attribute__((warn_unused_result));

/* Keeps handlers of SIGCHLD, which libuv has for its child processes, from running on this thread. To be
 * called in each TICK, because they come and go. Broker thread. */
void interpreter_guard_child_signals(void);

/* After MESSAGE_STOPPED came: waits for the thread's last instructions, at most so long. False: it still
 * runs, and everything it uses must be left alone. Broker thread. */
bool interpreter_join(unsigned int milliseconds);

#endif
