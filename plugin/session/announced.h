/* Which stored messages the session is to bring: their ids in the durable inbox, by fingerprint.
 *
 * The broker thread stores a client's message before it leaves it to the session, and says so. Of equal ones
 * any will do. The session's thread. */
#ifndef MQTTASGI_ANNOUNCED_H
#define MQTTASGI_ANNOUNCED_H

#include <stddef.h>
#include <stdint.h>

#include "shared/table.h"

/* Beyond these, the oldest and all equal to it are forgotten: they are stored once more when they come, and
 * come once more after the next start. */
#define ANNOUNCED_MAX 65536U

struct announcement;

struct announced {
	struct table table;
	struct announcement *oldest, *newest;
	size_t count; /* of messages */
};

/* Frees what is left; announced may be all zeros, and is again. */
void announced_clear(struct announced *announced);

/* Without memory it is forgotten. */
void announced_add(struct announced *announced, uint64_t fingerprint, uint64_t stored);

/* The id of a message that has come, which has one of these fingerprints; 0: none was announced. */
uint64_t announced_take(struct announced *announced, const uint64_t *fingerprints, size_t count);

#endif
