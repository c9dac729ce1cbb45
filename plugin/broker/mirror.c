#include "broker/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "shared/hash.h"
#include "shared/mosquitto_api.h"
#include "shared/table.h"

struct topic {
	struct table_entry entry; /* first */
	char name[];
};

struct retained {
	struct table topics;
};

struct retained *retained_new(void)
{
	return calloc(1, sizeof(struct retained));
}

void retained_forget(
		struct retained *retained, void (*forget)(void *userdata, const char *topic), void *userdata)
{
	struct table topics = retained->topics;
	struct table_entry *entry, *next;
	size_t i;

	retained->topics = (struct table){0};
	for (i = 0; i < topics.bucket_count; i++) {
		for (entry = topics.buckets[i]; entry; entry = next) {
			struct topic *topic = (struct topic *)entry;

			next = entry->next;
			if (forget) {
				forget(userdata, topic->name);
			}
			free(topic);
		}
	}
	free(topics.buckets);
}

void retained_free(struct retained *retained)
{
	if (retained) {
		retained_forget(retained, NULL, NULL);
		free(retained);
	}
}

void retained_note(struct retained *retained, const char *topic, bool is_empty)
{
	uint64_t hash = hash_text(topic);
	size_t size = strlen(topic) + 1;
	struct table_entry *entry;
	struct topic *new;

	for (entry = table_chain(&retained->topics, hash); entry; entry = entry->next) {
		struct topic *found = (struct topic *)entry;

		if (entry->hash == hash && strcmp(found->name, topic) == 0) {
			if (is_empty) {
				table_remove(&retained->topics, entry);
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
	if (table_insert(&retained->topics, &new->entry) != MOSQ_ERR_SUCCESS) {
		free(new);
	}
}
