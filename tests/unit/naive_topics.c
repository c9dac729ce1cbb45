#include "naive_topics.h"

#include <string.h>

static bool levels_match(const char *filter, const char *topic)
{
	size_t filter_length = strcspn(filter, "/"), topic_length = strcspn(topic, "/");
	bool plus = filter_length == 1 && *filter == '+';

	if (strcmp(filter, "#") == 0) {
		return true;
	}
	if (!plus && (filter_length != topic_length || memcmp(filter, topic, topic_length) != 0)) {
		return false;
	}
	filter += filter_length;
	topic += topic_length;
	if (!*topic) {
		return !*filter || strcmp(filter, "/#") == 0; /* `#` includes its parent */
	}
	return *filter && levels_match(filter + 1, topic + 1);
}

bool naive_matches(const char *filter, const char *topic)
{
	size_t length = strcspn(filter, "/");

	if (*topic == '$' && length == 1 && (*filter == '+' || strcmp(filter, "#") == 0)) {
		return false;
	}
	return levels_match(filter, topic);
}

static struct naive_subscription *find(struct naive *naive, uint64_t consumer, const char *filter)
{
	size_t i;

	for (i = 0; i < naive->count; i++) {
		if (naive->items[i].consumer == consumer && strcmp(naive->items[i].filter, filter) == 0) {
			return &naive->items[i];
		}
	}
	return NULL;
}

bool naive_add(struct naive *naive, uint64_t consumer, const char *filter, uint8_t qos)
{
	struct naive_subscription *item = find(naive, consumer, filter);

	if (!item) {
		if (naive->count == NAIVE_MAX || strlen(filter) >= sizeof item->filter) {
			return false;
		}
		item = &naive->items[naive->count++];
		item->consumer = consumer;
		strcpy(item->filter, filter);
	}
	item->qos = qos;
	return true;
}

bool naive_remove(struct naive *naive, uint64_t consumer, const char *filter)
{
	struct naive_subscription *item = find(naive, consumer, filter);

	if (!item) {
		return false;
	}
	*item = naive->items[--naive->count];
	return true;
}

/* The QoS consumer hears topic at; -1 where it does not. */
static int qos_of(const struct naive *naive, uint64_t consumer, const char *topic)
{
	int qos = -1;
	size_t i;

	for (i = 0; i < naive->count; i++) {
		const struct naive_subscription *item = &naive->items[i];

		if (item->consumer == consumer && item->qos > qos && naive_matches(item->filter, topic)) {
			qos = item->qos;
		}
	}
	return qos;
}

bool naive_agrees(const struct naive *naive, struct topics *topics, const char *topic)
{
	const struct recipient *recipients;
	size_t count, i, j, expected = 0;

	topics_match(topics, topic, &recipients, &count);
	for (i = 0; i < count; i++) {
		if (qos_of(naive, recipients[i].consumer, topic) != recipients[i].qos) {
			return false;
		}
	}
	for (i = 0; i < naive->count; i++) {
		for (j = 0; j < i && naive->items[j].consumer != naive->items[i].consumer; j++) {
		}
		expected += j == i && qos_of(naive, naive->items[i].consumer, topic) >= 0;
	}
	/* The count alone would miss a consumer found twice and another not at all. */
	for (i = 0; i < count; i++) {
		for (j = 0; j < i; j++) {
			if (recipients[i].consumer == recipients[j].consumer) {
				return false;
			}
		}
	}
	return expected == count && topics_count(topics) == naive->count;
}
