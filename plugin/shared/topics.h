/* Which consumers hear a topic.
 *
 * A trie of topic filters, one node a level, with the consumers that subscribed to each. MQTT 5 section 4.7
 * decides what matches: `+` is one level, `#` the rest and its parent, and a wildcard in the first level does
 * not match topics that begin with `$`. A trie belongs to one thread (one is the broker thread's, one the
 * session's), so there is no lock. */
#ifndef MQTTASGI_TOPICS_H
#define MQTTASGI_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topics;

/* Where Subscription Options (MQTT 5, 3.8.3.1; MQTT_SUB_OPT_*) have the QoS, and how retained messages are
 * handled. */
#define TOPICS_QOS 0x03
#define TOPICS_RETAIN_HANDLING 0x30

/* One consumer that a message is for. Where several of its filters match, it gets what all of them together
 * give it. */
struct recipient {
	uint64_t consumer;
	uint32_t subscription; /* for a retained message alone: the identifier of the one it comes for; 0: none */
	uint8_t qos;           /* the highest */
	int8_t own_qos; /* the same for what it published itself: without filters that have No Local; -1: not at
					   all */
	bool retain_as_published; /* one of the filters says so */
};

/* NULL when memory ran out. */
struct topics *topics_new(void);

/* Takes NULL. */
void topics_free(struct topics *topics);

/* Subscribes consumer to filter, or changes the options of the subscription it has; their Retain Handling is
 * not looked at. filter is copied; it is the caller's business that it is a valid filter. MOSQ_ERR_INVAL: it
 * has more than TOPICS_LEVELS_MAX levels. MOSQ_ERR_NOMEM. Both leave the trie as it was. */
int topics_add(struct topics *topics, uint64_t consumer, const char *filter, uint8_t options)
		__attribute__((warn_unused_result));

/* MOSQ_ERR_NOT_FOUND when there was no such subscription. Nodes that serve nobody are freed. */
int topics_remove(struct topics *topics, uint64_t consumer, const char *filter);

/* Finds every consumer with a matching filter, each once. *ret_recipients belongs to the trie and is valid
 * until the next call that takes it. Never allocates (topics_add() made the room), so it cannot fail. */
void topics_match(struct topics *topics, const char *topic, const struct recipient **ret_recipients,
		size_t *ret_count);

/* Whether somebody would hear the topic if it began with a slash, by a filter that does. Costs next to
 * nothing where no filter does. The recipients of the last match are lost. */
bool topics_would_hear_with_slash(struct topics *topics, const char *topic);

/* Finds the consumers that subscribed to exactly this filter, like topics_match(). */
void topics_subscribers(struct topics *topics, const char *filter, const struct recipient **ret_recipients,
		size_t *ret_count);

/* The QoS at which consumer subscribed to this filter; -1: it has not. */
int topics_qos(const struct topics *topics, uint64_t consumer, const char *filter);

/* Whether a filter is $share/group/filter (MQTT 5, 4.8.2), which is no filter of topics. Any thread. */
bool topics_is_shared(const char *filter);

/* Whether who subscribes to filter with these options is sent what the broker has retained (MQTT 5, 3.8.3.1
 * and 4.8.2). is_new: it had not subscribed to it. Any thread. */
bool topics_brings_retained(const char *filter, uint8_t options, bool is_new);

/* How many subscriptions there are. */
size_t topics_count(const struct topics *topics);

/* Mosquitto refuses topics and filters with more than 200 separators (TOPIC_HIERARCHY_LIMIT). */
#define TOPICS_LEVELS_MAX 201

#endif
