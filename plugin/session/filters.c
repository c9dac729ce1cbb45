#include "session/filters.h"

#include <stdlib.h>
#include <string.h>

#include "session/connection.h"
#include "shared/hash.h"

/* ---- who waits ---- */

bool waiters_add(struct waiters *waiters, const struct waiter *waiter)
{
	if (waiters->count == waiters->capacity) {
		size_t capacity = waiters->capacity ? waiters->capacity * 2 : 1;
		struct waiter *items = realloc(waiters->items, capacity * sizeof(*items));

		if (!items) {
			return false;
		}
		waiters->items = items;
		waiters->capacity = capacity;
	}
	waiters->items[waiters->count++] = *waiter;
	return true;
}

struct waiter *waiters_find(struct waiters *waiters, uint64_t consumer)
{
	size_t i;

	for (i = waiters->count; i > 0; i--) {
		if (waiters->items[i - 1].who.consumer == consumer && !waiters->items[i - 1].gone) {
			return &waiters->items[i - 1];
		}
	}
	return NULL;
}

/* ---- filters ---- */

/* FNV-1a (Fowler, Noll and Vo): the same in each process, for identifiers. */
static uint64_t stable_hash(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325U;

	for (; *name; name++) {
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3U;
	}
	return hash ^ (hash >> 32);
}

struct filter *filters_of_id(const struct filters *filters, uint32_t id)
{
	struct table_entry *entry;

	uint64_t hash = hash_number(id);

	for (entry = table_chain(&filters->by_id, hash); entry; entry = entry->next) {
		if (entry->hash == hash) {
			return (struct filter *)((char *)entry - offsetof(struct filter, by_id));
		}
	}
	return NULL;
}

struct filter *filters_find(const struct filters *filters, const char *name)
{
	uint64_t hash = hash_text(name);
	struct table_entry *entry;

	for (entry = table_chain(&filters->by_name, hash); entry; entry = entry->next) {
		struct filter *filter = (struct filter *)entry; /* its first member */

		if (entry->hash == hash && strcmp(filter->name, name) == 0) {
			return filter;
		}
	}
	return NULL;
}

static void free_filter(struct filter *filter)
{
	free(filter->waiting.items);
	free(filter->fetching.items);
	fetched_forget(&filter->fetched);
	free(filter);
}

struct filter *filters_add(struct filters *filters, const char *name)
{
	size_t length = strlen(name);
	struct filter *filter = calloc(1, sizeof(*filter) + length + 1);
	uint64_t hash = hash_text(name);
	uint32_t step = 0, id = (uint32_t)(stable_hash(name) % CONNECTION_SUBSCRIPTION_MAX) + 1;

	if (!filter) {
		return NULL;
	}
	memcpy(filter->name, name, length + 1);
	filter->is_shared = topics_is_shared(name);
	/* Made from the name: messages that the broker kept queued over a restart have the identifier of then.
	 * Names made up to have one in common must not make the search for another long, so where that is nobody
	 * can foresee. */
	while (filters_of_id(filters, id)) {
		id = (uint32_t)((id + (hash >> 32) + step++) % CONNECTION_SUBSCRIPTION_MAX) + 1;
	}
	filter->id = id;
	filter->by_name.hash = hash;
	filter->by_id.hash = hash_number(id);
	if (table_insert(&filters->by_name, &filter->by_name)) {
		free(filter);
		return NULL;
	}
	if (table_insert(&filters->by_id, &filter->by_id)) {
		table_remove(&filters->by_name, &filter->by_name);
		free(filter);
		return NULL;
	}
	return filter;
}

void filters_remove(struct filters *filters, struct filter *filter)
{
	filters_leave_force(filters, filter);
	table_remove(&filters->by_name, &filter->by_name);
	table_remove(&filters->by_id, &filter->by_id);
	free_filter(filter);
}

void filters_for_each(struct filters *filters, void (*visit)(void *userdata, struct filter *filter),
		void *userdata)
{
	struct table_entry *entry, *next;
	size_t i;

	for (i = 0; i < filters->by_name.bucket_count; i++) {
		for (entry = filters->by_name.buckets[i]; entry; entry = next) {
			next = entry->next;
			visit(userdata, (struct filter *)entry);
		}
	}
}

static size_t count_consumers(const struct filter *filter)
{
	return filter->consumers[0] + filter->consumers[1] + filter->consumers[2];
}

bool filter_is_served(const struct filter *filter)
{
	return count_consumers(filter) > 0;
}

bool filter_is_to_be_kept(const struct filter *filter)
{
	return count_consumers(filter) > filter->guests;
}

bool filters_init(struct filters *filters)
{
	*filters = (struct filters){.in_force = topics_new()};
	return filters->in_force != NULL;
}

static void free_each(void *userdata, struct filter *filter)
{
	(void)userdata;
	free_filter(filter);
}

void filters_free(struct filters *filters)
{
	filters_for_each(filters, free_each, NULL);
	free(filters->by_name.buckets);
	free(filters->by_id.buckets);
	topics_free(filters->in_force);
}

/* ---- what is in force ---- */

bool filters_enter_force(struct filters *filters, struct filter *filter)
{
	if (filter->is_shared) {
		return true;
	}
	if (topics_add(filters->in_force, filter->id, filter->name, filter->subscription.asked_qos)) {
		return false;
	}
	if (!filter->subscription.since) {
		filter->subscription.since = ++filters->in_force_count;
	}
	return true;
}

void filters_leave_force(struct filters *filters, struct filter *filter)
{
	if (filter->subscription.since) {
		(void)topics_remove(filters->in_force, filter->id, filter->name);
		filter->subscription.since = 0;
	}
}

bool filters_decide(struct filters *filters, const char *topic, uint32_t id)
{
	const struct recipient *matches;
	const struct filter *best = NULL, *filter;
	uint8_t best_qos = 0;
	size_t count, i;

	topics_match(filters->in_force, topic, &matches, &count);
	if (count == 1) {
		return matches[0].consumer == id;
	}
	for (i = 0; i < count; i++) {
		filter = filters_of_id(filters, (uint32_t)matches[i].consumer);
		if (filter &&
				(!best || matches[i].qos > best_qos ||
						(matches[i].qos == best_qos &&
								filter->subscription.since < best->subscription.since))) {
			best = filter;
			best_qos = matches[i].qos;
		}
	}
	return best && best->id == id;
}
