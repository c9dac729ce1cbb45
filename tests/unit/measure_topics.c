/* How long topics.c takes with 10,000 consumers: prints one line a case. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "shared/mosquitto_api.h"
#include "shared/topics.h"

#define CONSUMERS 10000

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure_match(struct topics *topics, const char *topic, int rounds)
{
	const struct recipient *recipients;
	size_t count = 0;
	double start = now();
	int i;

	for (i = 0; i < rounds; i++) {
		topics_match(topics, topic, &recipients, &count);
	}
	printf("match %-40s %5zu recipients %10.0f ns\n", topic, count, (now() - start) / rounds);
}

static void change(struct topics *topics, const char *format, int add)
{
	char filter[64];
	double start = now();
	uint64_t i;

	for (i = 0; i < CONSUMERS; i++) {
		snprintf(filter, sizeof filter, format, (int)i);
		if ((add ? topics_add(topics, i, filter, 0) : topics_remove(topics, i, filter)) != MOSQ_ERR_SUCCESS) {
			abort();
		}
	}
	printf("%-6s %-39s %5d consumers  %10.0f ns each\n", add ? "add" : "remove", format, CONSUMERS,
			(now() - start) / CONSUMERS);
}

int main(void)
{
	struct topics *topics = topics_new();

	if (!topics) {
		return 1;
	}
	change(topics, "devices/%d/state", 1);
	change(topics, "everyone/#", 1);
	measure_match(topics, "elsewhere/4711/state", 5000000);
	measure_match(topics, "devices/unknown/state", 5000000);
	measure_match(topics, "devices/4711/temperature", 5000000);
	measure_match(topics, "devices/4711/state", 5000000);
	measure_match(topics, "everyone/hears/this", 2000);
	change(topics, "everyone/#", 0);
	change(topics, "devices/%d/state", 0);
	topics_free(topics);
	return 0;
}
