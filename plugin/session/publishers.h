/* Who published what the session will bring.
 *
 * The broker tells who publishes when the message comes, and the session brings it later without that. In
 * between, who it was is kept here under the message's fingerprint (fingerprint.h). Where several clients
 * have published the same, nobody can tell which of these messages has come, and nobody is named. One thread
 * only, but for publishers_forgotten(): the session's. */
#ifndef MQTTASGI_PUBLISHERS_H
#define MQTTASGI_PUBLISHERS_H

#include <stddef.h>
#include <stdint.h>

struct publishers;
struct client;

/* lifetime: of an entry, in milliseconds. NULL when memory ran out. */
struct publishers *publishers_new(uint64_t lifetime) __attribute__((warn_unused_result));

/* Takes NULL. */
void publishers_free(struct publishers *publishers);

/* Client has published this at now, in milliseconds. The reference is the table's from here on. With
 * PUBLISHERS_PER_CLIENT different messages that wait, the oldest of this connection is forgotten, with
 * PUBLISHERS_MAX the oldest of all, and so where what describes the clients takes more than
 * PUBLISHERS_BYTES_MAX; without memory, this one. */
#define PUBLISHERS_PER_CLIENT 4096U
#define PUBLISHERS_MAX 65536U
#define PUBLISHERS_BYTES_MAX 33554432U
void publishers_add(struct publishers *publishers, uint64_t fingerprint, struct client *client, uint64_t now);

/* Who published the message that has come, which has one of these fingerprints; the reference is the
 * caller's. NULL: that is not known. */
struct client *publishers_take(struct publishers *publishers, const uint64_t *fingerprints, size_t count,
		uint64_t now) __attribute__((warn_unused_result));

/* How many entries had to make room for others. Any thread. */
uint64_t publishers_forgotten(const struct publishers *publishers);

#endif
