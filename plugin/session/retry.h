/* When the next connection is tried, and what the log says of the tries before.
 *
 * A connection that was up and is lost is made again soon. A try that fails makes the pauses longer, and ends
 * after as many as the option retries says. The session's thread. */
#ifndef MQTTASGI_RETRY_H
#define MQTTASGI_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options;
struct outlet;

/* First try after a connection was lost, and the longest pause between two. */
#define RETRY_MS 100U
#define RETRY_MAX_MS 30000U
/* The same after another client has taken the session's place. The pause is short again once it has had it
 * for so long, and so often, at most, the log says so. */
#define RETRY_TAKEN_MAX_MS 5000U
#define RETRY_TAKEN_QUIET_MS 60000U

struct retry {
	const struct options *options;
	struct outlet *outlet;
	uint64_t at;            /* not before that */
	unsigned int failures;  /* in a row */
	unsigned int taken;     /* how often another client has taken the session's place, in a row */
	uint64_t taken_said_at; /* 0: the log does not know of it */
	bool is_told;           /* the log says that there is no session */
	char lost[512]; /* why the last one was lost, as long as it is not in the log; empty: it was not */
};

/* Borrows both. */
void retry_init(struct retry *retry, const struct options *options, struct outlet *outlet);

/* A connection was lost that was up, or could not be made: reason is the end of a sentence. False: that was
 * the last try. */
bool retry_failed(struct retry *retry, bool was_up, const char *reason);

/* Another client has connected with the session's client id, to which MQTT gives it. That is not a try that
 * failed: whoever does it often would end the session for good. up_since: of the connection that is lost;
 * UINT64_MAX: it was not up. */
void retry_taken_over(struct retry *retry, uint64_t up_since, uint64_t now);

/* The connection is given up to be made anew, at once. */
void retry_at_once(struct retry *retry);

/* A connection is about to be made. */
void retry_begins(struct retry *retry);

/* It is up; is_back: not for the first time. */
void retry_succeeded(struct retry *retry, bool is_back);

#endif
