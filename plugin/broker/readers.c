#include "broker/readers.h"

#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/hash.h"
#include "shared/text.h"

static struct reader_handle *handle_of(const struct readers *readers, uint64_t handle)
{
	struct table_entry *entry = table_chain(&readers->by_handle, handle);

	while (entry && entry->hash != handle) {
		entry = entry->next;
	}
	return (struct reader_handle *)entry; /* its first member */
}

struct reader *readers_of_handle(const struct readers *readers, uint64_t handle)
{
	const struct reader_handle *found = handle_of(readers, handle);

	return found ? found->reader : NULL;
}

static void clear(struct table *table)
{
	struct table_entry *entry;
	size_t i;

	for (i = 0; table->count > 0; i++) {
		while (i < table->bucket_count && (entry = table->buckets[i])) {
			table_remove(table, entry);
			free(entry);
			i = 0; /* the table may have shrunk */
		}
	}
}

/* The one that link, of the list of all, leads to. */
static void forget(struct readers *readers, struct reader **link)
{
	struct reader *reader = *link;

	*link = reader->next;
	table_remove(&readers->by_name, &reader->entry);
	free(reader->name);
	free(reader);
}

void readers_sweep(struct readers *readers)
{
	struct reader **link = &readers->all;

	while (*link) {
		if ((*link)->handles == 0 && !(*link)->keeps && !(*link)->is_listed) {
			forget(readers, link);
		} else {
			link = &(*link)->next;
		}
	}
}

void readers_clear(struct readers *readers)
{
	clear(&readers->by_handle);
	while (readers->all) {
		forget(readers, &readers->all);
	}
	*readers = (struct readers){0};
}

struct reader *readers_of_name(const struct readers *readers, const char *name)
{
	uint64_t hash = hash_text(name);
	struct table_entry *entry = table_chain(&readers->by_name, hash);

	while (entry && (entry->hash != hash || strcmp(((struct reader *)entry)->name, name) != 0)) {
		entry = entry->next;
	}
	return (struct reader *)entry; /* its first member */
}

static struct reader *new_reader(struct readers *readers, const char *name)
{
	struct reader *reader = calloc(1, sizeof(*reader));

	if (!reader) {
		return NULL;
	}
	reader->name = text_copy(name, strlen(name));
	reader->entry.hash = hash_text(name);
	if (!reader->name || table_insert(&readers->by_name, &reader->entry)) {
		free(reader->name);
		free(reader);
		return NULL;
	}
	reader->has_suspect = true;
	reader->next = readers->all;
	readers->all = reader;
	return reader;
}

struct reader *readers_add(struct readers *readers, const char *name, uint64_t handle)
{
	struct reader_handle *added = calloc(1, sizeof(*added));
	struct reader *reader = readers_of_name(readers, name);

	if (!added) {
		return NULL;
	}
	if (!reader) {
		reader = new_reader(readers, name);
	}
	added->entry.hash = handle;
	added->reader = reader;
	if (!reader || table_insert(&readers->by_handle, &added->entry)) {
		free(added);
		return NULL;
	}
	reader->current = added;
	reader->handles++;
	return reader;
}

void readers_remove(struct readers *readers, uint64_t handle, bool keeps)
{
	struct reader_handle *found = handle_of(readers, handle);
	struct reader *reader = found ? found->reader : NULL;

	if (!reader || found->is_gone) {
		return;
	}
	reader->handles--;
	if (reader->current == found) {
		reader->current = NULL;
		reader->is_behind = true;
		reader->gone_at = now_s();
	}
	if (reader->current && found->in_hand > 0) {
		reader->has_lost = true;
		reader->lost = 0;
		readers_fall_behind(readers, reader);
	}
	if (keeps) {
		found->is_gone = true;
		reader->keeps = true;
	} else {
		table_remove(&readers->by_handle, &found->entry);
		free(found);
	}
}

void readers_fall_behind(struct readers *readers, struct reader *reader)
{
	reader->is_behind = true;
	if (!reader->current || reader->is_listed) {
		return;
	}
	reader->is_listed = true;
	reader->next_listed = NULL;
	if (readers->last_listed) {
		readers->last_listed->next_listed = reader;
	} else {
		readers->first_listed = reader;
	}
	readers->last_listed = reader;
}

void readers_advance(struct reader *reader, uint64_t id)
{
	if (reader->has_lost) {
		reader->lost = id;
	} else {
		reader->position = id;
	}
}

bool readers_may_take(const struct reader *reader, const struct readers_share *most)
{
	const struct reader_handle *current = reader->current;

	return current &&
			(current->in_hand == 0 ||
					(reader->careful == 0 && current->in_hand < most->messages &&
							current->bytes_in_hand < most->bytes));
}

void readers_hand_over(struct reader *reader, size_t bytes)
{
	reader->current->in_hand++;
	reader->current->bytes_in_hand += bytes;
}

void readers_done(struct readers *readers, uint64_t handle)
{
	struct reader_handle *found = handle_of(readers, handle);

	if (found && found->in_hand > 0) {
		/* As large as they are on average. */
		found->bytes_in_hand -= found->bytes_in_hand / found->in_hand;
		found->in_hand--;
	}
}

struct reader *readers_take(struct readers *readers)
{
	struct reader *reader = readers->first_listed;

	if (reader) {
		readers->first_listed = reader->next_listed;
		if (!readers->first_listed) {
			readers->last_listed = NULL;
		}
		reader->is_listed = false;
	}
	return reader;
}
