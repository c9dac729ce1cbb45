#include "session/announced.h"

#include <stdbool.h>
#include <stdlib.h>

/* All equal messages that wait. */
struct announcement {
	struct table_entry entry; /* its hash is the fingerprint */
	struct announcement *older, *newer;
	uint64_t *stored;
	size_t count, capacity;
};

static void forget(struct announced *announced, struct announcement *announcement)
{
	if (announcement->older) {
		announcement->older->newer = announcement->newer;
	} else {
		announced->oldest = announcement->newer;
	}
	if (announcement->newer) {
		announcement->newer->older = announcement->older;
	} else {
		announced->newest = announcement->older;
	}
	table_remove(&announced->table, &announcement->entry);
	announced->count -= announcement->count;
	free(announcement->stored);
	free(announcement);
}

void announced_clear(struct announced *announced)
{
	while (announced->oldest) {
		forget(announced, announced->oldest);
	}
}

static struct announcement *find(const struct announced *announced, uint64_t fingerprint)
{
	struct table_entry *entry = table_chain(&announced->table, fingerprint);

	while (entry && entry->hash != fingerprint) {
		entry = entry->next;
	}
	return (struct announcement *)entry; /* its first member */
}

/* NULL: no memory. */
static struct announcement *add_first(struct announced *announced, uint64_t fingerprint)
{
	struct announcement *announcement = calloc(1, sizeof(*announcement));

	if (!announcement) {
		return NULL;
	}
	announcement->entry.hash = fingerprint;
	if (table_insert(&announced->table, &announcement->entry)) {
		free(announcement);
		return NULL;
	}
	announcement->older = announced->newest;
	if (announced->newest) {
		announced->newest->newer = announcement;
	} else {
		announced->oldest = announcement;
	}
	announced->newest = announcement;
	return announcement;
}

static bool make_room(struct announcement *announcement)
{
	size_t capacity = announcement->capacity ? 2 * announcement->capacity : 1;
	uint64_t *stored;

	if (announcement->count < announcement->capacity) {
		return true;
	}
	stored = realloc(announcement->stored, capacity * sizeof(*stored));
	if (stored) {
		announcement->stored = stored;
		announcement->capacity = capacity;
	}
	return stored != NULL;
}

void announced_add(struct announced *announced, uint64_t fingerprint, uint64_t stored)
{
	struct announcement *announcement = find(announced, fingerprint);

	if (!announcement) {
		announcement = add_first(announced, fingerprint);
	}
	if (!announcement) {
		return;
	}
	if (make_room(announcement)) {
		announcement->stored[announcement->count++] = stored;
		announced->count++;
	} else if (announcement->count == 0) {
		forget(announced, announcement);
	}
	if (announced->count > ANNOUNCED_MAX) {
		forget(announced, announced->oldest);
	}
}

uint64_t announced_take(struct announced *announced, const uint64_t *fingerprints, size_t count)
{
	struct announcement *announcement;
	uint64_t stored;
	size_t i;

	for (i = 0; i < count; i++) {
		announcement = find(announced, fingerprints[i]);
		if (announcement) {
			stored = announcement->stored[--announcement->count];
			announced->count--;
			if (announcement->count == 0) {
				forget(announced, announcement);
			}
			return stored;
		}
	}
	return 0;
}
