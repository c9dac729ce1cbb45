/* DESIGN
 * One entry for all equal messages that wait, with their number and who published the last of them. Where that was
 * another before, it stays unknown whose message comes for as long as one of the other's may wait.
 *
 * Entries are in the order in which they end, in a list of all and in one of each connection; a call removes a few
 * that have ended, so none of them takes long. */
#include "session/publishers.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "shared/client.h"
#include "shared/table.h"

/* Entries that have ended and are removed by one call. */
#define STEP 8U

struct place {
	struct author *older, *newer;
};

struct list {
	struct author *oldest, *newest;
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

struct author {
	struct table_entry entry; /* its hash is the fingerprint */
	struct place places[2];   /* enum which */
	struct owner *owner;      /* the connection of the last */
	struct client *client;
	uint64_t count;           /* of messages that wait */
	uint64_t ends_at;
	uint64_t doubt_ends_at;   /* until then one of another client may wait, too */
};

struct authors {
	struct table table, owners;
	struct list list;
	size_t client_bytes;      /* of all owners */
	uint64_t lifetime;
	_Atomic uint64_t forgotten;
};

struct authors *authors_new(uint64_t lifetime)
{
	struct authors *authors = calloc(1, sizeof(*authors));

	if (authors) {
		authors->lifetime = lifetime;
		atomic_init(&authors->forgotten, 0);
	}
	return authors;
}

uint64_t authors_forgotten(const struct authors *authors)
{
	return atomic_load_explicit(&authors->forgotten, memory_order_relaxed);
}

/* ---- lists ---- */

static void append(struct list *list, struct author *author, enum which which)
{
	author->places[which] = (struct place){.older = list->newest};
	if (list->newest) {
		list->newest->places[which].newer = author;
	} else {
		list->oldest = author;
	}
	list->newest = author;
}

static void take_out(struct list *list, struct author *author, enum which which)
{
	struct place *place = &author->places[which];

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

static struct owner *find_owner(const struct authors *authors, uint64_t number)
{
	struct table_entry *entry;

	for (entry = table_chain(&authors->owners, number); entry; entry = entry->next) {
		if (entry->hash == number) {
			break;
		}
	}
	return (struct owner *)entry; /* its first member */
}

/* The connection, which need not own anything yet. NULL when memory ran out. */
static struct owner *get_owner(struct authors *authors, const struct client *client)
{
	uint64_t number = client_description(client)->number;
	struct owner *owner = find_owner(authors, number);

	if (owner) {
		return owner;
	}
	owner = calloc(1, sizeof(*owner));
	if (owner) {
		owner->number = number;
		owner->entry.hash = number; /* they count up: no two are the same in their low bits for long */
		if (table_insert(&authors->owners, &owner->entry)) {
			free(owner);
			return NULL;
		}
		owner->client_size = client_size(client);
		authors->client_bytes += owner->client_size;
	}
	return owner;
}

/* Takes NULL. */
static void drop_idle_owner(struct authors *authors, struct owner *owner)
{
	if (owner && owner->count == 0) {
		table_remove(&authors->owners, &owner->entry);
		authors->client_bytes -= owner->client_size;
		free(owner);
	}
}

static void own(struct owner *owner, struct author *author)
{
	author->owner = owner;
	append(&owner->list, author, OF_OWNER);
	owner->count++;
}

static struct owner *disown(struct author *author)
{
	struct owner *owner = author->owner;

	take_out(&owner->list, author, OF_OWNER);
	owner->count--;
	return owner;
}

/* ---- entries ---- */

static void remove_author(struct authors *authors, struct author *author)
{
	drop_idle_owner(authors, disown(author));
	take_out(&authors->list, author, OF_ALL);
	table_remove(&authors->table, &author->entry);
	client_release(author->client);
	free(author);
}

static void forget(struct authors *authors, struct author *author)
{
	(void)atomic_fetch_add_explicit(&authors->forgotten, 1, memory_order_relaxed);
	remove_author(authors, author);
}

/* One at least stays: a client's description alone is no larger than its CONNECT and its certificate. */
static void forget_beyond_bytes(struct authors *authors)
{
	while (authors->client_bytes > AUTHORS_BYTES_MAX && authors->list.oldest != authors->list.newest) {
		forget(authors, authors->list.oldest);
	}
}

static void remove_ended(struct authors *authors, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < STEP && authors->list.oldest && authors->list.oldest->ends_at <= now; i++) {
		remove_author(authors, authors->list.oldest);
	}
}

/* NULL: none that has not ended. */
static struct author *find(struct authors *authors, uint64_t fingerprint, uint64_t now)
{
	struct table_entry *entry = table_chain(&authors->table, fingerprint);

	while (entry && entry->hash != fingerprint) {
		entry = entry->next;
	}
	if (entry && ((struct author *)entry)->ends_at <= now) { /* its first member */
		remove_author(authors, (struct author *)entry);
		entry = NULL;
	}
	return (struct author *)entry;
}

void authors_free(struct authors *authors)
{
	if (!authors) {
		return;
	}
	while (authors->list.oldest) {
		remove_author(authors, authors->list.oldest);
	}
	free(authors);
}

/* ---- adding ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* One more of equal messages. The references to client and owner are the entry's. */
static void add_another(
		struct authors *authors, struct author *author, struct client *client, struct owner *owner, uint64_t now)
{
	struct owner *before = disown(author);

	if (!client_is_same(author->client, client)) {
		author->doubt_ends_at = later(author->doubt_ends_at, author->ends_at);
	}
	client_release(author->client);
	author->client = client;
	author->count++;
	author->ends_at = now + authors->lifetime;
	own(owner, author);
	if (before != owner) {
		drop_idle_owner(authors, before);
	}
	take_out(&authors->list, author, OF_ALL);
	append(&authors->list, author, OF_ALL);
}

static bool add_first(
		struct authors *authors, uint64_t fingerprint, struct client *client, struct owner *owner, uint64_t now)
{
	struct author *author = calloc(1, sizeof(*author));

	if (!author) {
		return false;
	}
	author->entry.hash = fingerprint;
	if (table_insert(&authors->table, &author->entry)) {
		free(author);
		return false;
	}
	author->client = client;
	author->count = 1;
	author->ends_at = now + authors->lifetime;
	own(owner, author);
	append(&authors->list, author, OF_ALL);
	return true;
}

void authors_add(struct authors *authors, uint64_t fingerprint, struct client *client, uint64_t now)
{
	struct author *author;
	struct owner *owner;

	remove_ended(authors, now);
	author = find(authors, fingerprint, now);
	owner = get_owner(authors, client);
	if (author && owner) {
		add_another(authors, author, client, owner, now);
		forget_beyond_bytes(authors);
		return;
	}
	if (author) {
		/* Not known any more whose it is. */
		author->count++;
		author->doubt_ends_at = author->ends_at = now + authors->lifetime;
		take_out(&authors->list, author, OF_ALL);
		append(&authors->list, author, OF_ALL);
	} else if (owner && add_first(authors, fingerprint, client, owner, now)) {
		if (owner->count > AUTHORS_PER_CLIENT) {
			forget(authors, owner->list.oldest);
		} else if (authors->table.count > AUTHORS_MAX) {
			forget(authors, authors->list.oldest);
		}
		forget_beyond_bytes(authors);
		return;
	}
	drop_idle_owner(authors, owner);
	client_release(client);
}

/* ---- taking ---- */

static void count_down(struct authors *authors, struct author *author)
{
	if (--author->count == 0) {
		remove_author(authors, author);
	}
}

struct client *authors_take(struct authors *authors, const uint64_t *fingerprints, size_t count, uint64_t now)
{
	struct author *found, *oldest = NULL;
	struct client *client = NULL;
	uint64_t doubt_ends_at = 0;
	bool is_one = true;
	size_t i;

	remove_ended(authors, now);
	for (i = 0; i < count; i++) {
		found = find(authors, fingerprints[i], now);
		if (!found) {
			continue;
		}
		is_one = is_one && now >= found->doubt_ends_at && (!oldest || client_is_same(found->client, oldest->client));
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
			found = find(authors, fingerprints[i], now);
			if (found && found != oldest) {
				found->doubt_ends_at = doubt_ends_at;
				oldest->doubt_ends_at = doubt_ends_at;
			}
		}
	}
	count_down(authors, oldest);
	return client;
}
