/* DESIGN
 * Messages with one fingerprint are a group, in the order in which they came. Each filter goes through its
 * group from the first to the last, so a filter needs no more than its place there, however many equal
 * messages there are. */
#include "session/backlog.h"

#include <stdlib.h>

#include "shared/message.h"
#include "shared/table.h"

struct item {
	struct message *message;
	uint64_t fingerprint;
	struct item *next; /* of all */
	struct item *next_in_group;
};

struct cursor {
	uint32_t subscription;
	struct item *next; /* of which it is to bring a copy; NULL: it has brought one of each */
};

struct group {
	struct table_entry entry; /* its hash is the fingerprint */
	struct item *first, *last;
	struct cursor cursors[BACKLOG_FILTERS_MAX];
	size_t cursor_count;
};

struct backlog {
	struct item *first, *last;
	struct table groups;
};

struct backlog *backlog_new(void)
{
	return calloc(1, sizeof(struct backlog));
}

static struct group *find_group(const struct backlog *backlog, uint64_t fingerprint)
{
	struct table_entry *entry = table_chain(&backlog->groups, fingerprint);

	while (entry && entry->hash != fingerprint) {
		entry = entry->next;
	}
	return (struct group *)entry; /* its first member */
}

static struct group *add_group(struct backlog *backlog, uint64_t fingerprint)
{
	struct group *group = calloc(1, sizeof(*group));

	if (!group) {
		return NULL;
	}
	group->entry.hash = fingerprint;
	if (table_insert(&backlog->groups, &group->entry)) {
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
	if (group->cursor_count == BACKLOG_FILTERS_MAX) {
		return NULL;
	}
	group->cursor_count++;
	*cursor = (struct cursor){subscription, group->first};
	return cursor;
}

struct message *backlog_find(struct backlog *backlog, uint64_t fingerprint, uint32_t subscription)
{
	struct group *group = find_group(backlog, fingerprint);
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

bool backlog_add(struct backlog *backlog, uint64_t fingerprint, uint32_t subscription,
		struct message *message)
{
	struct item *item = calloc(1, sizeof(*item));
	struct group *group = find_group(backlog, fingerprint);

	if (item && !group) {
		group = add_group(backlog, fingerprint);
	}
	if (!item || !group) {
		free(item);
		return false;
	}
	item->message = message;
	item->fingerprint = fingerprint;
	append_to_group(group, item, get_cursor(group, subscription));
	if (backlog->first) {
		backlog->last->next = item;
	} else {
		backlog->first = item;
	}
	backlog->last = item;
	return true;
}

static void forget_groups(struct backlog *backlog)
{
	struct table_entry *entry, *next;
	size_t i;

	for (i = 0; i < backlog->groups.bucket_count; i++) {
		for (entry = backlog->groups.buckets[i]; entry; entry = next) {
			next = entry->next;
			free(entry);
		}
	}
	free(backlog->groups.buckets);
	backlog->groups = (struct table){0};
}

struct message *backlog_take(struct backlog *backlog, uint64_t *ret_fingerprint)
{
	struct item *item = backlog->first;
	struct message *message;

	/* No more copies of them come once the first is taken. */
	forget_groups(backlog);
	if (!item) {
		return NULL;
	}
	backlog->first = item->next;
	message = item->message;
	*ret_fingerprint = item->fingerprint;
	free(item);
	return message;
}

void backlog_free(struct backlog *backlog)
{
	struct message *message;
	uint64_t fingerprint;

	if (!backlog) {
		return;
	}
	while ((message = backlog_take(backlog, &fingerprint))) {
		message_free(message);
	}
	forget_groups(backlog);
	free(backlog);
}
