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

struct mirror {
	struct table topics;
};

struct mirror *mirror_new(void)
{
	return calloc(1, sizeof(struct mirror));
}

void mirror_forget(
		struct mirror *mirror, void (*forget)(void *userdata, const char *topic), void *userdata)
{
	struct table topics = mirror->topics;
	struct table_entry *entry, *next;
	size_t i;

	mirror->topics = (struct table){0};
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

void mirror_free(struct mirror *mirror)
{
	if (mirror) {
		mirror_forget(mirror, NULL, NULL);
		free(mirror);
	}
}

void mirror_note(struct mirror *mirror, const char *topic, bool is_empty)
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
