/* The obvious way to do what topics.c does: a list of subscriptions, each compared with the topic. */
#ifndef NAIVE_TOPICS_H
#define NAIVE_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/topics.h"

#define NAIVE_MAX 256

struct naive_subscription {
	uint64_t consumer;
	char filter[64];
	uint8_t options;
};

struct naive {
	struct naive_subscription items[NAIVE_MAX];
	size_t count;
};

/* MQTT 5 section 4.7, word by word. */
bool naive_matches(const char *filter, const char *topic);

/* False when there is no more room. */
bool naive_add(struct naive *naive, uint64_t consumer, const char *filter, uint8_t options);
bool naive_remove(struct naive *naive, uint64_t consumer, const char *filter);

/* Whether topics finds for topic just what the list finds, and what each consumer asked for in its
 * options. */
bool naive_agrees(const struct naive *naive, struct topics *topics, const char *topic);

#endif
