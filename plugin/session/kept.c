/* DESIGN
 * Messages with one fingerprint are a group, in the order in which they came. Each filter goes through its group from the
 * first to the last, so a filter needs no more than its place there, however many equal messages there are. */
#include "session/kept.h"

#include <stdlib.h>

#include "shared/message.h"
#include "shared/table.h"

struct item {
	struct message *message;
	uint64_t fingerprint;
	struct item *next;         /* of all */
	struct item *next_in_group;
};

struct cursor {
	uint32_t subscription;
	struct item *next; /* of which it is to bring a copy; NULL: it has brought one of each */
};

struct group {
	struct table_entry entry; /* its hash is the fingerprint */
	struct item *first, *last;
	struct cursor cursors[KEPT_FILTERS_MAX];
	size_t cursor_count;
};

struct kept {
	struct item *first, *last;
	struct table groups;
};

struct kept *kept_new(void)
{
	return calloc(1, sizeof(struct kept));
}

static struct group *find_group(const struct kept *kept, uint64_t fingerprint)
{
	struct table_entry *entry = table_chain(&kept->groups, fingerprint);

	while (entry && entry->hash != fingerprint) {
		entry = entry->next;
	}
	return (struct group *)entry; /* its first member */
}

static struct group *add_group(struct kept *kept, uint64_t fingerprint)
{
	struct group *group = calloc(1, sizeof(*group));

	if (!group) {
		return NULL;
	}
	group->entry.hash = fingerprint;
	if (table_insert(&kept->groups, &group->entry)) {
		free(group);
		return NULL;
	}
	return group;
}

/* The filter's place, at the group's first message where it is new; NULL: there are too many. */
static struct cursor *get_cursor(struct group *group, uint32_t subscription)
{
	struct cursor *cursor = group->cursors, *end = cursor + group->cursor_count;

	while (cursor < end && cursor->subscription != subscription) {
		cursor++;
	}
	if (cursor < end) {
		return cursor;
	}
	if (group->cursor_count == KEPT_FILTERS_MAX) {
		return NULL;
	}
	group->cursor_count++;
	*cursor = (struct cursor){subscription, group->first};
	return cursor;
}

struct message *kept_find(struct kept *kept, uint64_t fingerprint, uint32_t subscription)
{
	struct group *group = find_group(kept, fingerprint);
	struct cursor *cursor = group ? get_cursor(group, subscription) : NULL;
	struct item *item = cursor ? cursor->next : NULL;

	if (!item) {
		return NULL;
	}
	cursor->next = item->next_in_group;
	return item->message;
}

static void append_to_group(struct group *group, struct item *item, const struct cursor *brought_by)
{
	struct cursor *cursor;

	if (group->first) {
		group->last->next_in_group = item;
	} else {
		group->first = item;
	}
	group->last = item;
	for (cursor = group->cursors; cursor < group->cursors + group->cursor_count; cursor++) {
		if (!cursor->next && cursor != brought_by) {
			cursor->next = item;
		}
	}
}

bool kept_add(struct kept *kept, uint64_t fingerprint, uint32_t subscription, struct message *message)
{
	struct item *item = calloc(1, sizeof(*item));
	struct group *group = find_group(kept, fingerprint);

	if (item && !group) {
		group = add_group(kept, fingerprint);
	}
	if (!item || !group) {
		free(item);
		return false;
	}
	item->message = message;
	item->fingerprint = fingerprint;
	append_to_group(group, item, get_cursor(group, subscription));
	if (kept->first) {
		kept->last->next = item;
	} else {
		kept->first = item;
	}
	kept->last = item;
	return true;
}

static void forget_groups(struct kept *kept)
{
	struct table_entry *entry, *next;
	size_t i;

	for (i = 0; i < kept->groups.bucket_count; i++) {
		for (entry = kept->groups.buckets[i]; entry; entry = next) {
			next = entry->next;
			free(entry);
		}
	}
	free(kept->groups.buckets);
	kept->groups = (struct table){0};
}

struct message *kept_take(struct kept *kept, uint64_t *ret_fingerprint)
{
	struct item *item = kept->first;
	struct message *message;

	/* No more copies of them come once the first is taken. */
	forget_groups(kept);
	if (!item) {
		return NULL;
	}
	kept->first = item->next;
	message = item->message;
	*ret_fingerprint = item->fingerprint;
	free(item);
	return message;
}

void kept_free(struct kept *kept)
{
	struct message *message;
	uint64_t fingerprint;

	if (!kept) {
		return;
	}
	while ((message = kept_take(kept, &fingerprint))) {
		message_free(message);
	}
	forget_groups(kept);
	free(kept);
}
