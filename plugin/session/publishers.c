/* DESIGN
 * One entry for all equal messages that wait, with their number and who published the last of them. Where
 * that was another before, it stays unknown whose message comes for as long as one of the other's may wait.
 *
 * Entries are in the order in which they end, in a list of all and in one of each connection; a call removes
 * a few that have ended, so none of them takes long. */
#include "session/publishers.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "shared/client.h"
#include "shared/table.h"

/* Entries that have ended and are removed by one call. */
#define STEP 8U

struct place {
	struct publisher *older, *newer;
};

struct list {
	struct publisher *oldest, *newest;
};

enum which { OF_ALL, OF_OWNER };

/* A connection that has published something that waits. */
struct owner {
	struct table_entry entry;
	uint64_t number;
	struct list list;
	size_t count;
	size_t client_size;
};

struct publisher {
	struct table_entry entry; /* its hash is the fingerprint */
	struct place places[2];   /* enum which */
	struct owner *owner;      /* the connection of the last */
	struct client *client;
	uint64_t count; /* of messages that wait */
	uint64_t ends_at;
	uint64_t doubt_ends_at; /* until then one of another client may wait, too */
};

struct publishers {
	struct table table, owners;
	struct list list;
	size_t client_bytes; /* of all owners */
	uint64_t lifetime;
	_Atomic uint64_t forgotten;
};

struct publishers *publishers_new(uint64_t lifetime)
{
	struct publishers *publishers = calloc(1, sizeof(*publishers));

	if (publishers) {
		publishers->lifetime = lifetime;
		atomic_init(&publishers->forgotten, 0);
	}
	return publishers;
}

uint64_t publishers_forgotten(const struct publishers *publishers)
{
	return atomic_load_explicit(&publishers->forgotten, memory_order_relaxed);
}

/* ---- lists ---- */

static void append(struct list *list, struct publisher *publisher, enum which which)
{
	publisher->places[which] = (struct place){.older = list->newest};
	if (list->newest) {
		list->newest->places[which].newer = publisher;
	} else {
		list->oldest = publisher;
	}
	list->newest = publisher;
}

static void take_out(struct list *list, struct publisher *publisher, enum which which)
{
	struct place *place = &publisher->places[which];

	if (place->older) {
		place->older->places[which].newer = place->newer;
	} else {
		list->oldest = place->newer;
	}
	if (place->newer) {
		place->newer->places[which].older = place->older;
	} else {
		list->newest = place->older;
	}
}

/* ---- owners ---- */

static struct owner *find_owner(const struct publishers *publishers, uint64_t number)
{
	struct table_entry *entry;

	for (entry = table_chain(&publishers->owners, number); entry; entry = entry->next) {
		if (entry->hash == number) {
			break;
		}
	}
	return (struct owner *)entry; /* its first member */
}

/* The connection, which need not own anything yet. NULL when memory ran out. */
static struct owner *get_owner(struct publishers *publishers, const struct client *client)
{
	uint64_t number = client_description(client)->number;
	struct owner *owner = find_owner(publishers, number);

	if (owner) {
		return owner;
	}
	owner = calloc(1, sizeof(*owner));
	if (owner) {
		owner->number = number;
		owner->entry.hash = number; /* they count up: no two are the same in their low bits for long */
		if (table_insert(&publishers->owners, &owner->entry)) {
			free(owner);
			return NULL;
		}
		owner->client_size = client_size(client);
		publishers->client_bytes += owner->client_size;
	}
	return owner;
}

/* Takes NULL. */
static void drop_idle_owner(struct publishers *publishers, struct owner *owner)
{
	if (owner && owner->count == 0) {
		table_remove(&publishers->owners, &owner->entry);
		publishers->client_bytes -= owner->client_size;
		free(owner);
	}
}

static void own(struct owner *owner, struct publisher *publisher)
{
	publisher->owner = owner;
	append(&owner->list, publisher, OF_OWNER);
	owner->count++;
}

static struct owner *disown(struct publisher *publisher)
{
	struct owner *owner = publisher->owner;

	take_out(&owner->list, publisher, OF_OWNER);
	owner->count--;
	return owner;
}

/* ---- entries ---- */

static void remove_publisher(struct publishers *publishers, struct publisher *publisher)
{
	drop_idle_owner(publishers, disown(publisher));
	take_out(&publishers->list, publisher, OF_ALL);
	table_remove(&publishers->table, &publisher->entry);
	client_release(publisher->client);
	free(publisher);
}

static void forget(struct publishers *publishers, struct publisher *publisher)
{
	(void)atomic_fetch_add_explicit(&publishers->forgotten, 1, memory_order_relaxed);
	remove_publisher(publishers, publisher);
}

/* One at least stays: a client's description alone is no larger than its CONNECT and its certificate. */
static void forget_beyond_bytes(struct publishers *publishers)
{
	while (publishers->client_bytes > PUBLISHERS_BYTES_MAX &&
			publishers->list.oldest != publishers->list.newest) {
		forget(publishers, publishers->list.oldest);
	}
}

static void remove_ended(struct publishers *publishers, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < STEP && publishers->list.oldest && publishers->list.oldest->ends_at <= now; i++) {
		remove_publisher(publishers, publishers->list.oldest);
	}
}

/* NULL: none that has not ended. */
static struct publisher *find(struct publishers *publishers, uint64_t fingerprint, uint64_t now)
{
	struct table_entry *entry = table_chain(&publishers->table, fingerprint);

	while (entry && entry->hash != fingerprint) {
		entry = entry->next;
	}
	if (entry && ((struct publisher *)entry)->ends_at <= now) { /* its first member */
		remove_publisher(publishers, (struct publisher *)entry);
		entry = NULL;
	}
	return (struct publisher *)entry;
}

void publishers_free(struct publishers *publishers)
{
	if (!publishers) {
		return;
	}
	while (publishers->list.oldest) {
		remove_publisher(publishers, publishers->list.oldest);
	}
	free(publishers);
}

/* ---- adding ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* One more of equal messages. The references to client and owner are the entry's. */
static void add_another(struct publishers *publishers, struct publisher *publisher, struct client *client,
		struct owner *owner, uint64_t now)
{
	struct owner *before = disown(publisher);

	if (!client_is_same(publisher->client, client)) {
		publisher->doubt_ends_at = later(publisher->doubt_ends_at, publisher->ends_at);
	}
	client_release(publisher->client);
	publisher->client = client;
	publisher->count++;
	publisher->ends_at = now + publishers->lifetime;
	own(owner, publisher);
	if (before != owner) {
		drop_idle_owner(publishers, before);
	}
	take_out(&publishers->list, publisher, OF_ALL);
	append(&publishers->list, publisher, OF_ALL);
}

static bool add_first(struct publishers *publishers, uint64_t fingerprint, struct client *client,
		struct owner *owner, uint64_t now)
{
	struct publisher *publisher = calloc(1, sizeof(*publisher));

	if (!publisher) {
		return false;
	}
	publisher->entry.hash = fingerprint;
	if (table_insert(&publishers->table, &publisher->entry)) {
		free(publisher);
		return false;
	}
	publisher->client = client;
	publisher->count = 1;
	publisher->ends_at = now + publishers->lifetime;
	own(owner, publisher);
	append(&publishers->list, publisher, OF_ALL);
	return true;
}

void publishers_add(struct publishers *publishers, uint64_t fingerprint, struct client *client, uint64_t now)
{
	struct publisher *publisher;
	struct owner *owner;

	remove_ended(publishers, now);
	publisher = find(publishers, fingerprint, now);
	owner = get_owner(publishers, client);
	if (publisher && owner) {
		add_another(publishers, publisher, client, owner, now);
		forget_beyond_bytes(publishers);
		return;
	}
	if (publisher) {
		/* Not known any more whose it is. */
		publisher->count++;
		publisher->doubt_ends_at = publisher->ends_at = now + publishers->lifetime;
		take_out(&publishers->list, publisher, OF_ALL);
		append(&publishers->list, publisher, OF_ALL);
	} else if (owner && add_first(publishers, fingerprint, client, owner, now)) {
		if (owner->count > PUBLISHERS_PER_CLIENT) {
			forget(publishers, owner->list.oldest);
		} else if (publishers->table.count > PUBLISHERS_MAX) {
			forget(publishers, publishers->list.oldest);
		}
		forget_beyond_bytes(publishers);
		return;
	}
	drop_idle_owner(publishers, owner);
	client_release(client);
}

/* ---- taking ---- */

static void count_down(struct publishers *publishers, struct publisher *publisher)
{
	if (--publisher->count == 0) {
		remove_publisher(publishers, publisher);
	}
}

struct client *publishers_take(struct publishers *publishers, const uint64_t *fingerprints, size_t count,
		uint64_t now)
{
	struct publisher *found, *oldest = NULL;
	struct client *client = NULL;
	uint64_t doubt_ends_at = 0;
	bool is_one = true;
	size_t i;

	remove_ended(publishers, now);
	for (i = 0; i < count; i++) {
		found = find(publishers, fingerprints[i], now);
		if (!found) {
			continue;
		}
		is_one = is_one && now >= found->doubt_ends_at &&
				(!oldest || client_is_same(found->client, oldest->client));
		doubt_ends_at = later(doubt_ends_at, found->ends_at);
		if (!oldest || found->ends_at < oldest->ends_at) {
			oldest = found;
		}
	}
	if (!oldest) {
		return NULL;
	}
	if (is_one) {
		client = client_hold(oldest->client);
	} else {
		/* Which of them has come is no better known than which are left. */
		for (i = 0; i < count; i++) {
			found = find(publishers, fingerprints[i], now);
			if (found && found != oldest) {
				found->doubt_ends_at = doubt_ends_at;
				oldest->doubt_ends_at = doubt_ends_at;
			}
		}
	}
	count_down(publishers, oldest);
	return client;
}
