/* What the load generator can do. Each mode connects, measures within its bounds, prints one JSON object on
 * stdout and returns; it dies when the broker, or whoever should answer, does not. */
#ifndef BENCH_MODES_H
#define BENCH_MODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The command line. Times in nanoseconds; a count of 0 is "no bound but the time". */
struct plan {
	const char *host;
	uint16_t port;
	uint8_t qos;
	const char *topic;  /* published to, or below it; of sink and first: subscribed to */
	const char *answer; /* where the answers come */
	const char *start;  /* sink: published to, again and again, until the first message comes; may be NULL.
						 * retained: of the commands */
	const char *done;   /* sink: a message here is the end; may be NULL. retained: of the round */
	uint64_t count;     /* retained: of the messages that the broker keeps */
	int64_t duration;
	int64_t warm_up; /* measured but not counted */
	int64_t startup; /* how long to wait for the first answer */
	int64_t timeout; /* how long to wait for any other */
	int64_t pause;   /* roundtrip: the longest */
	int64_t limit;   /* sink */
	uint64_t seed;
	uint64_t window;
	uint64_t rate;   /* messages a second; flood: 0 is as fast as it goes, retained: 0 is no live traffic */
	uint64_t rounds; /* retained */
	size_t size;     /* of a payload */
	size_t subscribers;
	size_t publishers;
	size_t topics;
	bool verbose;
};

#define PAYLOAD_MIN 32
#define PAYLOAD_MAX 65536

void mode_roundtrip(const struct plan *plan);
void mode_throughput(const struct plan *plan);
void mode_sink(const struct plan *plan);
void mode_flood(const struct plan *plan);
void mode_first(const struct plan *plan);
void mode_soak(const struct plan *plan);
void mode_retained(const struct plan *plan);

#endif
