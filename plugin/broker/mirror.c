#include "broker/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "broker/publish.h"
#include "shared/hash.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/table.h"

struct topic {
	struct table_entry entry; /* first */
	char name[];
};

struct mirror {
	const char *bridge;
	struct table topics;
};

struct mirror *mirror_new(const char *bridge)
{
	struct mirror *mirror = calloc(1, sizeof(*mirror));

	if (mirror) {
		mirror->bridge = bridge;
	}
	return mirror;
}

/* Lets the broker forget what it retains. The bridge waits for at least a second before it tries to connect,
 * so it has no connection yet on which this could leave; with QoS 0, it does not wait for one. */
static bool forget(const char *topic)
{
	const struct message_content nothing = {.topic = topic, .topic_length = strlen(topic)};

	return publish_message(NULL, &nothing, 0, true) == MOSQ_ERR_SUCCESS;
}

/* Empties the table; forgotten is NULL: that is all. */
static void clear(struct mirror *mirror, void (*forgotten)(void *userdata, const char *topic), void *userdata)
{
	struct table topics = mirror->topics;
	struct table_entry *entry, *next;
	size_t i;

	mirror->topics = (struct table){0};
	for (i = 0; i < topics.bucket_count; i++) {
		for (entry = topics.buckets[i]; entry; entry = next) {
			struct topic *topic = (struct topic *)entry;

			next = entry->next;
			if (forgotten && forget(topic->name)) {
				forgotten(userdata, topic->name);
			}
			free(topic);
		}
	}
	free(topics.buckets);
}

void mirror_free(struct mirror *mirror)
{
	if (mirror) {
		clear(mirror, NULL, NULL);
		free(mirror);
	}
}

static void note(struct mirror *mirror, const char *topic, bool is_empty)
{
	uint64_t hash = hash_text(topic);
	size_t size = strlen(topic) + 1;
	struct table_entry *entry;
	struct topic *new;

	for (entry = table_chain(&mirror->topics, hash); entry; entry = entry->next) {
		struct topic *found = (struct topic *)entry;

		if (entry->hash == hash && strcmp(found->name, topic) == 0) {
			if (is_empty) {
				table_remove(&mirror->topics, entry);
				free(found);
			}
			return;
		}
	}
	if (is_empty) {
		return;
	}
	/* Where memory runs out, it is one that is not forgotten. */
	new = malloc(sizeof(*new) + size);
	if (!new) {
		return;
	}
	new->entry.hash = hash;
	memcpy(new->name, topic, size);
	if (table_insert(&mirror->topics, &new->entry) != MOSQ_ERR_SUCCESS) {
		free(new);
	}
}

void mirror_note(struct mirror *mirror, const char *topic, bool retain, bool is_empty)
{
	if (mirror && retain) {
		note(mirror, topic, is_empty);
	}
}

void mirror_client_gone(struct mirror *mirror, const char *client_id,
		void (*forgotten)(void *userdata, const char *topic), void *userdata)
{
	if (mirror && strcmp(client_id, mirror->bridge) == 0) {
		clear(mirror, forgotten, userdata);
	}
}
