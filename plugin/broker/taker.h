/* Who has taken the session's place by connecting with its client id, as far as the broker shows it.
 *
 * The end of a connection is an event on all versions, and of one that was taken over they say then that it
 * has a clean session, which ours never has. The next that ends with this client id is that of whoever took
 * it: before, or by, the session's next connection. Broker thread only. */
#ifndef MQTTASGI_TAKER_H
#define MQTTASGI_TAKER_H

#include <stdbool.h>
#include <stdint.h>

struct mosquitto;

/* All zero at first. */
struct taker {
	bool is_expected; /* the session's own connection was taken over */
	char name[400];
	uint64_t said_at; /* 0: never */
};

/* Whether the broker has ended a connection of the session's because another one has taken its place. */
bool taker_took(const struct mosquitto *connection);

/* A connection with the session's client id is gone; was_up: the session's own, as far as is known. Returns
 * who took its place, to be said, once a minute at most; valid until the next call. NULL: nobody, or not
 * known yet. */
const char *taker_connection_gone(struct taker *taker, const struct mosquitto *connection, bool was_up);

/* The session is up. */
void taker_session_up(struct taker *taker);

#endif
