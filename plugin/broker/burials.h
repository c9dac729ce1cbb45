/* What becomes a dead letter: from the inbox's file into that of dead letters, and back where somebody wants
 * it handled again.
 *
 * Other programs may have that file locked. Then the message stays in the inbox, and what is known of its end
 * waits here, up to a bound; what is forgotten comes to its consumer again after the next start. Broker
 * thread only. */
#ifndef MQTTASGI_BURIALS_H
#define MQTTASGI_BURIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct burials;
struct dead_letter;
struct options;
struct statistics;
struct store;
struct store_delivery;

/* Added to the inbox's path. */
#define BURIALS_SUFFIX ".dead"
/* How many may wait for the file. */
#define BURIALS_MAX 1024U

struct burial {
	uint32_t consumer; /* its number in the store */
	const char *name;
	uint64_t stored;
	uint32_t tries;
	const char *reason;    /* DEAD_* */
	const char *traceback; /* NULL: none */
};

/* Opens the file. Borrows all. NULL: reason, of size bytes, has a sentence for the administrator. */
struct burials *burials_new(const struct options *options, struct store *store, struct statistics *statistics,
		char *reason, size_t size) __attribute__((warn_unused_result));

/* Takes NULL. */
void burials_free(struct burials *burials);

void burials_set_limit(struct burials *burials, uint64_t limit);

/* The stored message is a dead letter. Everything is copied. */
void burials_add(struct burials *burials, const struct burial *burial);

/* The same for one that nobody has asked for. Whether it is one now, and may leave the inbox. */
bool burials_add_expired(struct burials *burials, const char *consumer,
		const struct store_delivery *delivery);

/* Once a second: what waits, and what somebody wants to have handled again, which take() puts into the
 * inbox. */
void burials_tick(struct burials *burials, bool (*take)(void *userdata, const struct dead_letter *letter),
		void *userdata);

#endif
