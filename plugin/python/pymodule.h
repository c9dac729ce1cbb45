/* The built-in module `_mqttasgi`: how Python sees the queues.
 *
 * python/mqttasgi/runtime/bridge.py describes what the module offers, with types. Everything runs on threads
 * that hold the GIL; nothing here waits. */
#ifndef MQTTASGI_PYMODULE_H
#define MQTTASGI_PYMODULE_H

#include <stdbool.h>

struct heartbeat;
struct options;
struct queue;
struct statistics;

/* What the module works on. One interpreter a process, so one of these. */
struct pymodule_context {
	const struct options *options;
	struct queue *inbound;  /* taken from here only */
	struct queue *outbound; /* pushed here only */
	struct statistics *statistics;
	struct heartbeat *heartbeat;
	bool tells_connects; /* whether consumers that watch clients hear of those that connect */
	int inbound_fd;      /* a pipe's end, non-blocking: readable when inbound stopped being empty */
};

/* Makes `import _mqttasgi` possible. Before Python is initialised. Borrows context for good. Returns 0 or
 * -1. */
int pymodule_register(const struct pymodule_context *context) __attribute__((warn_unused_result));

/* Writes the Python exception that is set, if one is, to the broker's log: `what`, then its traceback line by
 * line. The exception is cleared. With the GIL. */
void pymodule_log_exception(const char *what);

/* One line for the broker's log from any thread, with or without the GIL; lost when the outbound queue is
 * full. level is a MOSQ_LOG_*. */
void pymodule_log(int level, const char *line);

#endif
