/* Bytes → subscriptions that come and go, and topics; topics.c must agree with a list.
 *
 * Each line of the input is `+cofilter` (consumer c subscribes to filter with options o), `-cofilter` (it
 * leaves) or `=topic`. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naive_topics.h"
#include "shared/mosquitto_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* A `#` that is not the last level is no filter; the callers of topics.c refuse it. */
static int is_filter(const char *text)
{
	const char *at = text;

	for (; at && *at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
		if (strncmp(at, "#/", 2) == 0) {
			return 0;
		}
	}
	return 1;
}

static void run_line(struct topics *topics, struct naive *naive, const char *line)
{
	uint64_t consumer;
	uint8_t options;

	if (*line == '=') {
		require(naive_agrees(naive, topics, line + 1), "the list finds something else");
		return;
	}
	if ((*line != '+' && *line != '-') || !line[1] || !line[2] || strlen(line) > 60 || !is_filter(line + 3)) {
		return;
	}
	consumer = (unsigned char)line[1];
	options = (uint8_t)((unsigned char)line[2] & 0x3f);
	if ((options & TOPICS_QOS) == 3) {
		options--; /* which is no QoS */
	}
	if (*line == '-') {
		require(naive_remove(naive, consumer, line + 3) ==
						(topics_remove(topics, consumer, line + 3) == MOSQ_ERR_SUCCESS),
				"one knows the subscription, the other does not");
	} else if (naive_add(naive, consumer, line + 3, options)) {
		require(topics_add(topics, consumer, line + 3, options) == MOSQ_ERR_SUCCESS, "not added");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct naive naive;
	struct topics *topics = topics_new();
	char *copy = strndup((const char *)data, size);
	char *line, *rest = copy;

	require(topics && copy, "no memory");
	naive.count = 0;
	while ((line = strsep(&rest, "\n"))) {
		run_line(topics, &naive, line);
	}
	topics_free(topics);
	free(copy);
	return 0;
}
