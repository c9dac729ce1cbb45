#include "broker/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "broker/deliver.h"
#include "broker/publish.h"
#include "shared/hash.h"
#include "shared/log.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/table.h"

struct topic {
	struct table_entry entry; /* first */
	size_t size;
	char name[];
};

struct mirror {
	const char *bridge;
	struct table topics;
	size_t bytes; /* of all in it */
	struct log_complaint full;
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
	mirror->bytes = 0;
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

static struct topic *find(const struct mirror *mirror, const char *topic, uint64_t hash)
{
	struct table_entry *entry = table_chain(&mirror->topics, hash);

	while (entry && (entry->hash != hash || strcmp(((struct topic *)entry)->name, topic) != 0)) {
		entry = entry->next;
	}
	return (struct topic *)entry; /* its first member */
}

static void drop(struct mirror *mirror, struct topic *topic)
{
	table_remove(&mirror->topics, &topic->entry);
	mirror->bytes -= topic->size;
	free(topic);
}

static void complain(struct mirror *mirror, const char *topic)
{
	uint64_t times;

	if (log_may_complain(&mirror->full, 1, &times)) {
		log_line(MOSQ_LOG_WARNING,
				"What is retained on %llu topics, the last '" DELIVER_TOPIC
				"', is not forgotten here when the link to the mirrored broker is lost, and may then go to that broker "
				"again: there are more than %u MB of topics.",
				(unsigned long long)times, topic, MIRROR_BYTES_MAX / 1048576U);
	}
}

/* Where memory runs out, it is one that is not forgotten. */
static void add(struct mirror *mirror, const char *topic, uint64_t hash)
{
	size_t length = strlen(topic) + 1, size = sizeof(struct topic) + length;
	struct topic *new;

	if (mirror->bytes + size > MIRROR_BYTES_MAX) {
		complain(mirror, topic);
		return;
	}
	new = malloc(size);
	if (!new) {
		return;
	}
	new->entry.hash = hash;
	new->size = size;
	memcpy(new->name, topic, length);
	if (table_insert(&mirror->topics, &new->entry) != MOSQ_ERR_SUCCESS) {
		free(new);
		return;
	}
	mirror->bytes += size;
}

static void note(struct mirror *mirror, const char *topic, bool is_empty)
{
	uint64_t hash = hash_text(topic);
	struct topic *known = find(mirror, topic, hash);

	if (known && is_empty) {
		drop(mirror, known);
	} else if (!known && !is_empty) {
		add(mirror, topic, hash);
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
