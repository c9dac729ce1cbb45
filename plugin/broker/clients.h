/* Who is connected to the broker, and which consumers want to be told.
 *
 * Connections are known by the address of Mosquitto's struct, from CONNECT (or, on 2.0, the question whether
 * a client may log in), or the first message, until they are gone. Broker thread only. */
#ifndef MQTTASGI_CLIENTS_H
#define MQTTASGI_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/message.h"

struct client;
struct clients;
struct mosquitto;

/* tells_connects: whether there will be calls of clients_logs_in() or clients_connected(). session_id: the
 * client id of our own session, which is nobody; NULL: there is none; borrowed. NULL when memory ran out. */
struct clients *clients_new(bool tells_connects, const char *session_id) __attribute__((warn_unused_result));

/* Takes NULL. */
void clients_free(struct clients *clients);

/* Who publishes on this connection; with a reference for the caller. NULL when memory ran out. */
struct client *clients_publisher(struct clients *clients, const struct mosquitto *connection)
		__attribute__((warn_unused_result));

/* The client asks to be let in; whether it was shows by clients_settle(). */
void clients_logs_in(struct clients *clients, const struct mosquitto *connection);

/* The broker has dealt with everything that came: who asked to be let in and is still there has been. */
void clients_settle(struct clients *clients);

/* The client has been let in. */
void clients_connected(struct clients *clients, const struct mosquitto *connection);

/* The connection is gone. reason: MQTT 5, 3.14.2.1; -1: the broker does not say. */
void clients_disconnected(struct clients *clients, const struct mosquitto *connection, int reason,
		enum message_fate fate);

/* Whether the client is known to have asked for a clean session when it connected. What Mosquitto 2.0 says of
 * that at its end is no longer so where another connection takes it over. */
bool clients_began_clean(const struct clients *clients, const struct mosquitto *connection);

/* Whether a client of this id is known to be connected. It looks at every connection. */
bool clients_has(const struct clients *clients, const char *client_id);

/* A consumer wants to be told, first of all who is connected now. MOSQ_ERR_NOMEM: it will not be. */
int clients_watch(struct clients *clients, uint64_t consumer) __attribute__((warn_unused_result));
void clients_unwatch(struct clients *clients, uint64_t consumer);

/* Tells those who watch what has become of a client of which they know that it is there: an event of this
 * kind, with this topic and this part of the union; copied. */
void clients_tell(struct clients *clients, const struct mosquitto *connection, const struct message *what);

/* The next event for those who watch, which is now the caller's; NULL: there is none. To be called until then
 * after each of the functions above. */
struct message *clients_take(struct clients *clients);

#endif
