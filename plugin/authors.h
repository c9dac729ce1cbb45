/* Who published what the session will bring.
 *
 * The broker tells who publishes when the message comes, and the session brings it later without that. In between, who
 * it was is kept here under the message's fingerprint (marks.h). Where several clients have published the same, nobody
 * can tell which of these messages has come, and nobody is named. One thread only: the session's. */
#ifndef MQTTASGI_AUTHORS_H
#define MQTTASGI_AUTHORS_H

#include <stdint.h>

struct authors;
struct client;

/* lifetime: of an entry, in milliseconds. NULL when memory ran out. */
struct authors *authors_new(uint64_t lifetime) __attribute__((warn_unused_result));

/* Takes NULL. */
void authors_free(struct authors *authors);

/* Client has published this at now, in milliseconds. The reference is the table's from here on. Without memory, or with
 * AUTHORS_MAX that wait, it is forgotten. */
#define AUTHORS_MAX 65536U
void authors_add(struct authors *authors, uint64_t fingerprint, struct client *client, uint64_t now);

/* Who published the message that has come; the reference is the caller's. NULL: that is not known. */
struct client *authors_take(struct authors *authors, uint64_t fingerprint, uint64_t now)
		__attribute__((warn_unused_result));

#endif
