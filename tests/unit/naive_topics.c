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

bool naive_add(struct naive *naive, uint64_t consumer, const char *filter, uint8_t options)
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
	item->options = options;
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

/* What consumer gets of a message on topic, by all its filters. False: nothing. */
static bool gets(const struct naive *naive, uint64_t consumer, const char *topic,
		struct recipient *ret_recipient)
{
	struct recipient gets = {.consumer = consumer, .own_qos = -1};
	bool found = false;
	size_t i;

	for (i = 0; i < naive->count; i++) {
		const struct naive_subscription *item = &naive->items[i];
		int qos = item->options % 4;               /* bits 0 and 1 */
		bool no_local = item->options / 4 % 2;     /* bit 2 */
		bool as_published = item->options / 8 % 2; /* bit 3 */

		if (item->consumer != consumer || !naive_matches(item->filter, topic)) {
			continue;
		}
		found = true;
		gets.qos = (uint8_t)(qos > gets.qos ? qos : gets.qos);
		if (!no_local && qos > gets.own_qos) {
			gets.own_qos = (int8_t)qos;
		}
		gets.retain_as_published = gets.retain_as_published || as_published;
	}
	*ret_recipient = gets;
	return found;
}

bool naive_agrees(const struct naive *naive, struct topics *topics, const char *topic)
{
	const struct recipient *recipients;
	struct recipient own;
	size_t count, i, j, expected = 0;

	topics_match(topics, topic, &recipients, &count);
	for (i = 0; i < count; i++) {
		if (!gets(naive, recipients[i].consumer, topic, &own) || own.qos != recipients[i].qos ||
				own.own_qos != recipients[i].own_qos ||
				own.retain_as_published != recipients[i].retain_as_published) {
			return false;
		}
	}
	for (i = 0; i < naive->count; i++) {
		for (j = 0; j < i && naive->items[j].consumer != naive->items[i].consumer; j++) {
		}
		expected += j == i && gets(naive, naive->items[i].consumer, topic, &own);
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
