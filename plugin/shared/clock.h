/* The time: since some moment of the past, which nobody can set, but for one. Any thread. */
#ifndef MQTTASGI_CLOCK_H
#define MQTTASGI_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static inline uint64_t now_ms(void)
{
	return now_ns() / 1000000U;
}

/* Right to a few milliseconds, and the cheapest: for what happens with every packet. */
static inline time_t now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

/* Milliseconds since 1970, by the clock that people set: for what is told to them, or outlives the process.
 */
static inline int64_t time_of_day_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
