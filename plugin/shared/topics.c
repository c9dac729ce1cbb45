#include "shared/topics.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "shared/mosquitto_api.h"
#include "shared/table.h"

/* DESIGN
 *
 * `a/+/#` is the path root → "a" → plus, and its consumers are in `below` of that last node; those of `a/b`
 * are in `here` of the node "b". Matching goes down the trie: at each node everything in `below` matches,
 * then the topic's next level leads to at most two children.
 *
 * A consumer met for the first time in a match gets the match's number as its stamp and a place among the
 * recipients; met again, its QoS may rise and its options add up. Hence no search and no sorting. The
 * recipients have room for all consumers at any time, so a match does not allocate.
 *
 * Which place a subscription has in its list is kept in one table for all of them, keyed by list and
 * consumer: adding and removing stay cheap where 10,000 consumers share a filter.
 *
 * Only filters enter the tables, never a client's topics. The hash is seeded all the same, because
 * applications build filters from what clients send. */

#define RECIPIENTS_MIN 16

struct consumer {
	struct table_entry entry;
	uint64_t id;
	uint64_t stamp; /* number of the last match that found it */
	size_t place;   /* among the recipients of that match */
	size_t subscriptions;
};

struct subscriber {
	struct consumer *consumer;
	uint8_t options;
};

struct subscriber_list {
	struct subscriber *items;
	size_t count;
	size_t capacity;
};

struct subscription {
	struct table_entry entry;
	struct subscriber_list *list;
	struct consumer *consumer;
	size_t place; /* in the list */
};

struct node {
	struct table_entry entry;
	struct node *parent;
	struct node *plus;
	struct table children;
	struct subscriber_list here;  /* of filters that end at this node */
	struct subscriber_list below; /* of filters that go on with `#` */
	size_t length;
	char level[];
};

struct level {
	const char *start;
	size_t length;
	uint64_t hash;
};

struct topics {
	struct node *root;
	struct table consumers;
	struct table subscriptions;
	struct recipient *recipients;
	size_t recipient_count;
	size_t recipient_capacity; /* never less than there are consumers */
	uint64_t match;            /* number of the current match */
	uint64_t seed;
};

/* ---- hashes ---- */

/* The last step of splitmix64: each bit of the result depends on all of x. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The level that begins at start, with its hash: FNV-1a from a random start. */
static struct level level_at(const struct topics *topics, const char *start)
{
	struct level level = {start, 0, topics->seed};
	const char *at;

	for (at = start; *at && *at != '/'; at++) {
		level.hash = (level.hash ^ (unsigned char)*at) * 0x100000001b3u;
	}
	level.length = (size_t)(at - start);
	level.hash = mix(level.hash);
	return level;
}

/* Where the next level begins; NULL after the last. */
static const char *level_after(const struct level *level)
{
	return level->start[level->length] == '/' ? level->start + level->length + 1 : NULL;
}

static bool level_is(const struct level *level, char c)
{
	return level->length == 1 && *level->start == c;
}

/* ---- nodes ---- */

static struct node *node_new(struct node *parent, const struct level *level)
{
	struct node *node = calloc(1, sizeof *node + level->length);

	if (node) {
		node->parent = parent;
		node->length = level->length;
		node->entry.hash = level->hash;
		memcpy(node->level, level->start, level->length);
	}
	return node;
}

static struct node *find_child(const struct node *node, const struct level *level)
{
	struct table_entry *entry;

	for (entry = table_chain(&node->children, level->hash); entry; entry = entry->next) {
		struct node *child = (struct node *)entry; /* its first member */

		if (entry->hash == level->hash && child->length == level->length &&
				memcmp(child->level, level->start, level->length) == 0) {
			return child;
		}
	}
	return NULL;
}

static struct node *add_child(struct node *node, const struct level *level)
{
	struct node *child = node_new(node, level);

	if (!child) {
		return NULL;
	}
	if (level_is(level, '+')) {
		node->plus = child;
	} else if (table_insert(&node->children, &child->entry) != MOSQ_ERR_SUCCESS) {
		free(child);
		return NULL;
	}
	return child;
}

/* Frees node and its ancestors as far as they serve nobody. */
static void prune(struct node *node)
{
	struct node *parent;

	for (; node->parent; node = parent) {
		if (node->here.count > 0 || node->below.count > 0 || node->plus || node->children.count > 0) {
			return;
		}
		parent = node->parent;
		if (parent->plus == node) {
			parent->plus = NULL;
		} else {
			table_remove(&parent->children, &node->entry);
		}
		free(node);
	}
}

struct path {
	struct node *node;            /* the deepest reached */
	struct subscriber_list *list; /* NULL: the filter has no list in the trie */
};

/* Follows filter down the trie; with create, adds the nodes that are missing as far as memory allows. */
static struct path follow(const struct topics *topics, const char *filter, bool create)
{
	struct path path = {topics->root, NULL};
	struct node *child;
	const char *next;

	for (;; filter = next) {
		struct level level = level_at(topics, filter);

		next = level_after(&level);
		if (!next && level_is(&level, '#')) {
			path.list = &path.node->below;
			return path;
		}
		child = level_is(&level, '+') ? path.node->plus : find_child(path.node, &level);
		if (!child && create) {
			child = add_child(path.node, &level);
		}
		if (!child) {
			return path;
		}
		path.node = child;
		if (!next) {
			path.list = &path.node->here;
			return path;
		}
	}
}

static bool has_too_many_levels(const char *filter)
{
	size_t levels = 1;

	for (; *filter; filter++) {
		levels += *filter == '/';
	}
	return levels > TOPICS_LEVELS_MAX;
}

/* ---- consumers ---- */

static uint64_t hash_id(const struct topics *topics, uint64_t id)
{
	return mix(topics->seed ^ id);
}

static struct consumer *find_consumer(const struct topics *topics, uint64_t id)
{
	uint64_t hash = hash_id(topics, id);
	struct table_entry *entry;

	for (entry = table_chain(&topics->consumers, hash); entry; entry = entry->next) {
		if (((struct consumer *)entry)->id == id) {
			return (struct consumer *)entry;
		}
	}
	return NULL;
}

static int resize_recipients(struct topics *topics, size_t capacity)
{
	struct recipient *recipients = realloc(topics->recipients, capacity * sizeof *recipients);

	if (!recipients) {
		return MOSQ_ERR_NOMEM;
	}
	topics->recipients = recipients;
	topics->recipient_capacity = capacity;
	return MOSQ_ERR_SUCCESS;
}

static struct consumer *add_consumer(struct topics *topics, uint64_t id)
{
	struct consumer *consumer;
	size_t capacity = topics->recipient_capacity;

	if (topics->consumers.count == capacity &&
			resize_recipients(topics, capacity > 0 ? capacity * 2 : RECIPIENTS_MIN) != MOSQ_ERR_SUCCESS) {
		return NULL;
	}
	consumer = calloc(1, sizeof *consumer);
	if (!consumer) {
		return NULL;
	}
	consumer->id = id;
	consumer->entry.hash = hash_id(topics, id);
	if (table_insert(&topics->consumers, &consumer->entry) != MOSQ_ERR_SUCCESS) {
		free(consumer);
		return NULL;
	}
	return consumer;
}

/* Frees a consumer without subscriptions. Takes NULL. */
static void drop_idle_consumer(struct topics *topics, struct consumer *consumer)
{
	size_t capacity = topics->recipient_capacity;

	if (!consumer || consumer->subscriptions > 0) {
		return;
	}
	table_remove(&topics->consumers, &consumer->entry);
	free(consumer);
	if (capacity > RECIPIENTS_MIN && topics->consumers.count <= capacity / 8) {
		(void)resize_recipients(topics, capacity / 2); /* too little memory to need less: keep it */
	}
}

/* ---- subscriptions ---- */

static uint64_t hash_subscription(const struct topics *topics, const struct subscriber_list *list,
		const struct consumer *consumer)
{
	return mix(mix(topics->seed ^ (uintptr_t)list) ^ consumer->id);
}

static struct subscription *find_subscription(const struct topics *topics, const struct subscriber_list *list,
		const struct consumer *consumer)
{
	uint64_t hash = hash_subscription(topics, list, consumer);
	struct table_entry *entry;

	for (entry = table_chain(&topics->subscriptions, hash); entry; entry = entry->next) {
		struct subscription *subscription = (struct subscription *)entry;

		if (subscription->list == list && subscription->consumer == consumer) {
			return subscription;
		}
	}
	return NULL;
}

static int resize_list(struct subscriber_list *list, size_t capacity)
{
	struct subscriber *items = realloc(list->items, capacity * sizeof *items);

	if (!items) {
		return MOSQ_ERR_NOMEM;
	}
	list->items = items;
	list->capacity = capacity;
	return MOSQ_ERR_SUCCESS;
}

/* Puts consumer at the end of list. */
static int subscribe(struct topics *topics, struct subscriber_list *list, struct consumer *consumer,
		uint8_t options)
{
	struct subscription *subscription = calloc(1, sizeof *subscription);

	if (!subscription) {
		goto fail;
	}
	*subscription = (struct subscription){.list = list, .consumer = consumer, .place = list->count};
	subscription->entry.hash = hash_subscription(topics, list, consumer);
	if (list->count == list->capacity &&
			resize_list(list, list->capacity > 0 ? list->capacity * 2 : 1) != MOSQ_ERR_SUCCESS) {
		goto fail;
	}
	if (table_insert(&topics->subscriptions, &subscription->entry) != MOSQ_ERR_SUCCESS) {
		goto fail;
	}
	list->items[list->count++] = (struct subscriber){consumer, options};
	consumer->subscriptions++;
	return MOSQ_ERR_SUCCESS;
fail:
	free(subscription);
	if (list->count == 0) {
		free(list->items);
		*list = (struct subscriber_list){0};
	}
	return MOSQ_ERR_NOMEM;
}

/* Takes the subscription out of its list, whose last subscriber moves to the free place. */
static void unsubscribe(struct topics *topics, struct subscription *subscription)
{
	struct subscriber_list *list = subscription->list;
	struct subscriber *last = &list->items[list->count - 1];

	find_subscription(topics, list, last->consumer)->place = subscription->place;
	list->items[subscription->place] = *last;
	list->count--;
	subscription->consumer->subscriptions--;
	table_remove(&topics->subscriptions, &subscription->entry);
	free(subscription);
	if (list->count == 0) {
		free(list->items);
		*list = (struct subscriber_list){0};
	} else if (list->count <= list->capacity / 4) {
		(void)resize_list(list, list->capacity / 2); /* too little memory to need less: keep it */
	}
}

int topics_add(struct topics *topics, uint64_t consumer_id, const char *filter, uint8_t options)
{
	struct consumer *consumer;
	struct subscription *subscription = NULL;
	struct path path;
	int rc = MOSQ_ERR_NOMEM;

	if (has_too_many_levels(filter)) {
		return MOSQ_ERR_INVAL;
	}
	path = follow(topics, filter, true);
	consumer = find_consumer(topics, consumer_id);
	if (!consumer) {
		consumer = add_consumer(topics, consumer_id);
	}
	if (!path.list || !consumer) {
		goto out;
	}
	subscription = find_subscription(topics, path.list, consumer);
	if (subscription) {
		path.list->items[subscription->place].options = options;
		rc = MOSQ_ERR_SUCCESS;
	} else {
		rc = subscribe(topics, path.list, consumer, options);
	}
out:
	if (rc != MOSQ_ERR_SUCCESS) {
		drop_idle_consumer(topics, consumer);
		prune(path.node);
	}
	return rc;
}

int topics_remove(struct topics *topics, uint64_t consumer_id, const char *filter)
{
	struct path path = follow(topics, filter, false);
	struct consumer *consumer = find_consumer(topics, consumer_id);
	struct subscription *subscription;

	if (!path.list || !consumer) {
		return MOSQ_ERR_NOT_FOUND;
	}
	subscription = find_subscription(topics, path.list, consumer);
	if (!subscription) {
		return MOSQ_ERR_NOT_FOUND;
	}
	unsubscribe(topics, subscription);
	drop_idle_consumer(topics, consumer);
	prune(path.node);
	return MOSQ_ERR_SUCCESS;
}

/* ---- matching ---- */

static void collect(struct topics *topics, const struct subscriber_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++) {
		struct consumer *consumer = list->items[i].consumer;
		uint8_t options = list->items[i].options, qos = options & TOPICS_QOS;
		int8_t own_qos = options & MQTT_SUB_OPT_NO_LOCAL ? -1 : (int8_t)qos;
		bool retain_as_published = options & MQTT_SUB_OPT_RETAIN_AS_PUBLISHED;
		struct recipient *recipient;

		if (consumer->stamp != topics->match) {
			consumer->stamp = topics->match;
			consumer->place = topics->recipient_count++;
			topics->recipients[consumer->place] =
					(struct recipient){consumer->id, 0, qos, own_qos, retain_as_published};
			continue;
		}
		recipient = &topics->recipients[consumer->place];
		if (recipient->qos < qos) {
			recipient->qos = qos;
		}
		if (recipient->own_qos < own_qos) {
			recipient->own_qos = own_qos;
		}
		recipient->retain_as_published |= retain_as_published;
	}
}

/* rest is what the topic has after node's level, NULL at its end. Goes at most TOPICS_LEVELS_MAX calls deep,
 * as the trie is no deeper, whatever the topic. */
static void match_from(struct topics *topics, const struct node *node, const char *rest)
{
	/* MQTT 5, 4.7.2: the server must not match topics that begin with $ with a wildcard in the first
	 * level. */
	bool wildcards = node->parent || !rest || *rest != '$';
	struct level level;
	const struct node *child;

	if (wildcards) {
		collect(topics, &node->below);
	}
	if (!rest) {
		collect(topics, &node->here);
		return;
	}
	if (!node->plus && node->children.count == 0) {
		return;
	}
	level = level_at(topics, rest);
	rest = level_after(&level);
	child = find_child(node, &level);
	if (child) {
		match_from(topics, child, rest);
	}
	if (node->plus && wildcards) {
		match_from(topics, node->plus, rest);
	}
}

void topics_match(struct topics *topics, const char *topic, const struct recipient **ret_recipients,
		size_t *ret_count)
{
	topics->match++;
	topics->recipient_count = 0;
	match_from(topics, topics->root, topic);
	*ret_recipients = topics->recipients;
	*ret_count = topics->recipient_count;
}

bool topics_would_hear_with_slash(struct topics *topics, const char *topic)
{
	const struct level empty = level_at(topics, "");
	const struct node *node = find_child(topics->root, &empty);

	topics->match++;
	topics->recipient_count = 0;
	if (node) {
		match_from(topics, node, topic);
	}
	return topics->recipient_count > 0;
}

void topics_subscribers(struct topics *topics, const char *filter, const struct recipient **ret_recipients,
		size_t *ret_count)
{
	struct path path = follow(topics, filter, false);

	topics->match++;
	topics->recipient_count = 0;
	if (path.list) {
		collect(topics, path.list);
	}
	*ret_recipients = topics->recipients;
	*ret_count = topics->recipient_count;
}

int topics_qos(const struct topics *topics, uint64_t consumer_id, const char *filter)
{
	struct path path = follow(topics, filter, false);
	struct consumer *consumer = find_consumer(topics, consumer_id);
	struct subscription *subscription =
			path.list && consumer ? find_subscription(topics, path.list, consumer) : NULL;

	return subscription ? path.list->items[subscription->place].options & TOPICS_QOS : -1;
}

bool topics_is_shared(const char *filter)
{
	return strncmp(filter, "$share/", strlen("$share/")) == 0;
}

bool topics_brings_retained(const char *filter, uint8_t options, bool is_new)
{
	int handling = options & TOPICS_RETAIN_HANDLING;

	return !topics_is_shared(filter) &&
			(handling == MQTT_SUB_OPT_SEND_RETAIN_ALWAYS ||
					(handling == MQTT_SUB_OPT_SEND_RETAIN_NEW && is_new));
}

/* ---- the whole ---- */

static uint64_t random_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
		/* Early at boot: hard to guess is good enough for a table that only filters enter. */
		seed = mix((uint64_t)time(NULL) ^ (uintptr_t)&seed);
	}
	return seed;
}

struct topics *topics_new(void)
{
	struct topics *topics = calloc(1, sizeof *topics);
	struct level none = {"", 0, 0};

	if (!topics) {
		return NULL;
	}
	topics->root = node_new(NULL, &none);
	if (!topics->root) {
		free(topics);
		return NULL;
	}
	topics->seed = random_seed();
	return topics;
}

/* Frees a table whose entries are blocks of their own with nothing below them. */
static void free_flat_table(struct table *table)
{
	struct table_entry *entry, *next;
	size_t i;

	for (i = 0; i < table->bucket_count; i++) {
		for (entry = table->buckets[i]; entry; entry = next) {
			next = entry->next;
			free(entry); /* the first member of its block */
		}
	}
	free(table->buckets);
}

static void free_node(struct node *node)
{
	struct table_entry *entry, *next;
	size_t i;

	if (!node) {
		return;
	}
	for (i = 0; i < node->children.bucket_count; i++) {
		for (entry = node->children.buckets[i]; entry; entry = next) {
			next = entry->next;
			free_node((struct node *)entry);
		}
	}
	free_node(node->plus);
	free(node->children.buckets);
	free(node->here.items);
	free(node->below.items);
	free(node);
}

void topics_free(struct topics *topics)
{
	if (!topics) {
		return;
	}
	free_flat_table(&topics->subscriptions);
	free_flat_table(&topics->consumers);
	free_node(topics->root);
	free(topics->recipients);
	free(topics);
}

size_t topics_count(const struct topics *topics)
{
	return topics->subscriptions.count;
}
