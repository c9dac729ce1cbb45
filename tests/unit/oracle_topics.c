/* Compares topics.c with libmosquitto on generated topics and filters, and with a list on generated
 * histories.
 *
 *     oracle_topics [seed [pairs]]
 *
 * libmosquitto 2.0.11 refuses (MOSQ_ERR_INVAL) an empty topic, an empty filter, and wildcards where they may
 * not stand; none of these is generated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "naive_topics.h"
#include "shared/mosquitto_api.h"

#define FILTERS 256
#define TEXT 64

static uint64_t state;

/* splitmix64 */
static unsigned int below(unsigned int n)
{
	uint64_t x = state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (unsigned int)((x ^ (x >> 31)) >> 32) % n;
}

/* Few different words, so that topics and filters often agree. */
static void generate(char *out, bool filter)
{
	static const char *const words[] = {"a", "b", "", "ab", "$", "$SYS", "\xc3\xa4", "a"};
	unsigned int levels = 1 + below(5), i;

	do {
		*out = '\0';
		for (i = 0; i < levels; i++) {
			if (i > 0) {
				strcat(out, "/");
			}
			if (filter && i == levels - 1 && below(3) == 0) {
				strcat(out, "#");
			} else if (filter && below(3) == 0) {
				strcat(out, "+");
			} else {
				/* the $ words belong at the beginning, but must not hurt elsewhere */
				strcat(out, words[below(i == 0 ? 8 : 5)]);
			}
		}
	} while (!*out);
}

/* One filter a consumer, then many topics: each answer is FILTERS pairs. */
static unsigned long compare_with_library(unsigned long pairs)
{
	char filters[FILTERS][TEXT], topic[TEXT];
	bool found[FILTERS], expected;
	const struct recipient *recipients;
	unsigned long done = 0, matches = 0, i, round;
	size_t count, j;

	while (done < pairs) {
		struct topics *topics = topics_new();

		for (i = 0; i < FILTERS; i++) {
			generate(filters[i], true);
			if (!topics || topics_add(topics, i, filters[i], 0) != MOSQ_ERR_SUCCESS) {
				abort();
			}
		}
		for (round = 0; round < 64; round++, done += FILTERS) {
			generate(topic, false);
			memset(found, 0, sizeof found);
			topics_match(topics, topic, &recipients, &count);
			for (j = 0; j < count; j++) {
				found[recipients[j].consumer] = true;
			}
			for (i = 0; i < FILTERS; i++) {
				if (mosquitto_topic_matches_sub(filters[i], topic, &expected) != MOSQ_ERR_SUCCESS ||
						expected != found[i]) {
					printf("filter \"%s\", topic \"%s\": topics.c says %d, libmosquitto %d\n", filters[i],
							topic, found[i], expected);
					exit(1);
				}
				matches += found[i];
			}
		}
		topics_free(topics);
	}
	printf("%lu pairs, %lu of them match\n", done, matches);
	return done;
}

static void compare_with_list(unsigned int steps)
{
	static struct naive naive;
	struct topics *topics = topics_new();
	char text[TEXT];
	unsigned int i;

	for (i = 0; i < steps; i++) {
		uint64_t consumer = below(8);
		/* QoS, No Local, Retain As Published; how retained messages are handled is not asked here. */
		uint8_t options = (uint8_t)(below(3) | below(4) << 2 | below(3) << 4);
		bool known = true;

		/* Growing and shrinking in turn, so that the list is seen full and empty. */
		generate(text, true);
		if (below(100) < ((i / 500) % 2 ? 20u : 60u)) {
			if (naive.count < NAIVE_MAX) {
				naive_add(&naive, consumer, text, options);
				known = topics_add(topics, consumer, text, options) == MOSQ_ERR_SUCCESS;
			}
		} else if (naive.count > 0) {
			if (below(4) > 0) {
				const struct naive_subscription *one = &naive.items[below((unsigned int)naive.count)];

				consumer = one->consumer;
				strcpy(text, one->filter);
			}
			known = naive_remove(&naive, consumer, text) ==
					(topics_remove(topics, consumer, text) == MOSQ_ERR_SUCCESS);
		}
		generate(text, false);
		if (!known || !naive_agrees(&naive, topics, text)) {
			printf("step %u: disagreement on topic \"%s\"\n", i, text);
			exit(1);
		}
	}
	topics_free(topics);
	printf("%u steps of a history\n", steps);
}

int main(int argc, char **argv)
{
	unsigned long pairs = argc > 2 ? strtoul(argv[2], NULL, 10) : 10000000;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)state);
	fflush(stdout);
	compare_with_library(pairs);
	compare_with_list(20000);
	return 0;
}
