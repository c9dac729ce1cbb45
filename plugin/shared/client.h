/* Who published a message, or who came and went: what the broker knows of a connection, read once.
 *
 * Immutable and counted: whoever holds a reference may read it, on any thread, and the last one frees it. */
#ifndef MQTTASGI_CLIENT_H
#define MQTTASGI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct certificate;
struct client;

/* Strings are UTF-8 and NULL where the broker says nothing. */
struct client_description {
	uint64_t number; /* of the connection, as described; never used twice */
	const char *id;  /* never NULL */
	const char *username;
	const char *address;
	int protocol_version; /* 3, 4 or 5 (MQTT 5, 3.1.2.2) */
	bool websockets;
	const struct certificate *certificate; /* NULL: none that is valid now */
};

/* Copies the strings, owns the certificate from here on, also when it fails, and says whether it is valid
 * now. One reference is the caller's. NULL when memory ran out. Any thread. */
struct client *client_new(const struct client_description *description, struct certificate *certificate)
		__attribute__((warn_unused_result));

/* The same of one that was described in an earlier life of the process (client_form.h), and whose certificate
 * was valid then: it is not asked whether it still is. */
struct client *client_of_file(const struct client_description *description, struct certificate *certificate)
		__attribute__((warn_unused_result));

/* Another reference, for the caller. */
struct client *client_hold(struct client *client);

/* Gives a reference back. Takes NULL. */
void client_release(struct client *client);

const struct client_description *client_description(const struct client *client);

/* Bytes that it takes: who connects chooses how long an id and a username are, and what its certificate
 * says. */
size_t client_size(const struct client *client);

/* Whether the validity of its certificate is what it was when it was described. */
bool client_is_current(const struct client *client);

/* Whether both are the same identity: id, username and certificate. */
bool client_is_same(const struct client *client, const struct client *other);

#endif
