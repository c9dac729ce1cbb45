#include "authors.h"

#include <stdbool.h>
#include <stdlib.h>

#include "client.h"
#include "table.h"

struct author {
	struct table_entry entry; /* its hash is the fingerprint */
	struct author *older, *newer;
	struct client *client; /* NULL: nobody is to be named */
	uint64_t ends_at;
};

struct authors {
	struct table table;
	struct author *oldest, *newest;
	uint64_t lifetime;
};

struct authors *authors_new(uint64_t lifetime)
{
	struct authors *authors = calloc(1, sizeof(*authors));

	if (authors) {
		authors->lifetime = lifetime;
	}
	return authors;
}

/* Takes the entry out and returns its client, whose reference is now the caller's. */
static struct client *remove_author(struct authors *authors, struct author *author)
{
	struct client *client = author->client;

	if (author->older) {
		author->older->newer = author->newer;
	} else {
		authors->oldest = author->newer;
	}
	if (author->newer) {
		author->newer->older = author->older;
	} else {
		authors->newest = author->older;
	}
	table_remove(&authors->table, &author->entry);
	free(author);
	return client;
}

static void forget_old(struct authors *authors, uint64_t now)
{
	while (authors->oldest && authors->oldest->ends_at <= now) {
		client_release(remove_author(authors, authors->oldest));
	}
}

void authors_free(struct authors *authors)
{
	if (!authors) {
		return;
	}
	forget_old(authors, UINT64_MAX);
	free(authors->table.buckets);
	free(authors);
}

void authors_add(struct authors *authors, uint64_t fingerprint, struct client *client, uint64_t now)
{
	struct author *author;

	forget_old(authors, now);
	author = authors->table.count < AUTHORS_MAX ? calloc(1, sizeof(*author)) : NULL;
	if (!author) {
		client_release(client);
		return;
	}
	author->entry.hash = fingerprint;
	author->client = client;
	author->ends_at = now + authors->lifetime;
	if (table_insert(&authors->table, &author->entry)) {
		client_release(client);
		free(author);
		return;
	}
	author->older = authors->newest;
	if (authors->newest) {
		authors->newest->newer = author;
	} else {
		authors->oldest = author;
	}
	authors->newest = author;
}

/* Several have published this. Which of the messages comes last is no better known than which came first. */
static void forget_names(struct authors *authors, uint64_t fingerprint)
{
	struct table_entry *entry;
	struct author *author;

	for (entry = table_chain(&authors->table, fingerprint); entry; entry = entry->next) {
		if (entry->hash == fingerprint) {
			author = (struct author *)entry; /* its first member */
			client_release(author->client);
			author->client = NULL;
		}
	}
}

struct client *authors_take(struct authors *authors, uint64_t fingerprint, uint64_t now)
{
	struct author *oldest = NULL, *author;
	struct table_entry *entry;
	bool is_known = true;

	forget_old(authors, now);
	for (entry = table_chain(&authors->table, fingerprint); entry; entry = entry->next) {
		if (entry->hash != fingerprint) {
			continue;
		}
		author = (struct author *)entry; /* its first member */
		is_known = is_known && author->client && (!oldest || client_is_same(author->client, oldest->client));
		if (!oldest || author->ends_at <= oldest->ends_at) {
			oldest = author;
		}
	}
	if (!is_known) {
		forget_names(authors, fingerprint);
	}
	return oldest ? remove_author(authors, oldest) : NULL;
}
