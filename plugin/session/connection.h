/* An MQTT 5 connection to a listener of this broker, for one who subscribes.
 *
 * Everything but connection_new() belongs to one thread. No call waits, except connection_connect() for the
 * name server, and connection_disconnect().
 *
 * A QoS 2 message is handed over when its PUBLISH comes, so messages of every QoS come in the order in which
 * the broker sends them. Its packet identifier is kept until PUBREL, over a lost connection too, as long as
 * the broker keeps the session (MQTT 5, 4.3.3, method B). */
#ifndef MQTTASGI_CONNECTION_H
#define MQTTASGI_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;
struct options;
struct text;

struct connection_message {
	const char *topic;
	const void *payload;
	size_t payload_length;
	const void *properties; /* see properties.h; NULL when there are none */
	size_t properties_length;
	uint32_t subscription; /* which connection_subscribe() it comes for; 0: none */
	uint8_t qos;
	bool retain;     /* as it was published (MQTT 5, 3.3.1.3) */
	bool is_fetched; /* certain to be one that the broker had retained */
	bool is_again;   /* DUP: the broker may have sent it before */
};

/* Called from connection_handle(). What they are given is valid until they return. */
struct connection_events {
	/* CONNACK; reason is NULL or what it says, as a sentence. */
	void (*connected)(void *userdata, const char *reason, bool session_present);
	/* SUBACK or UNSUBACK; code is the first filter's (MQTT 5, 3.9.3), refused from 128 on. */
	void (*acknowledged)(void *userdata, int packet, int code);
	void (*message)(void *userdata, const struct connection_message *message);
	/* A message that MQTT 5 does not allow was passed over, and acknowledged: a broker that lets one through
	 * would send it again on every connection. wrong is the end of a sentence. */
	void (*passed_over)(void *userdata, const char *wrong);
};

/* Makes a connection for the listener that options name; nothing is sent. Borrows options, events and
 * userdata. NULL: no memory. Any thread. */
struct connection *connection_new(const struct options *options, const struct connection_events *events,
		void *userdata) __attribute__((warn_unused_result));

/* Closes what is open. Takes NULL. */
void connection_free(struct connection *connection);

/* Begins to connect, and to send CONNECT without Clean Start. session_expiry is in seconds, UINT32_MAX:
 * never. False: connection_reason() says why. */
bool connection_connect(struct connection *connection, uint32_t session_expiry)
		__attribute__((warn_unused_result));

/* Sends DISCONNECT and waits, for a second at most, until the broker has closed. What comes meanwhile is not
 * acknowledged. end_session: the broker is to forget the session. */
void connection_disconnect(struct connection *connection, bool end_session);

/* The socket, for poll(); -1: not connected. It may be another one after each call of connection_handle(). */
int connection_socket(const struct connection *connection);

/* Whether the connection waits for the socket to take more. */
bool connection_wants_to_write(const struct connection *connection);

/* Whether packets have come that connection_handle() left for its next call: poll() does not know of them. */
bool connection_has_more(const struct connection *connection);

/* Reads at most limit packets and calls the events for them, writes what waits, keeps the connection alive.
 * limit 0: reads nothing; to be called all the same, or the broker takes the connection for dead. False: the
 * connection has ended; connection_reason() says why. */
bool connection_handle(struct connection *connection, unsigned int limit) __attribute__((warn_unused_result));

/* To be called when a message has come that the broker has sent after it took this connection on: by then it
 * has sent again what it had not got acknowledged on earlier ones, and what it did not mention it has
 * forgotten. */
void connection_caught_up(struct connection *connection);

/* Returns the number of a packet, which acknowledged() will tell, or -1 with connection_reason(). retained:
 * the broker is to send what it has. flags: a live message keeps the RETAIN flag it was published with (MQTT
 * 5, 3.8.3.1); then retained ones come before the acknowledgement, and is_fetched tells them from live ones.
 * subscription is from 1 to CONNECTION_SUBSCRIPTION_MAX. */
#define CONNECTION_SUBSCRIPTION_MAX 134217727U
int connection_subscribe(struct connection *connection, const char *filter, uint8_t qos,
		uint32_t subscription, bool retained, bool flags);
int connection_unsubscribe(struct connection *connection, const char *filter);

/* Whether the broker has ended the last connection because another one took its client id (MQTT 5, 3.14.2.1),
 * and said so; Mosquitto before 2.0.21 may not. */
bool connection_was_taken_over(const struct connection *connection);

/* What went wrong last, as the end of a sentence. */
const char *connection_reason(const struct connection *connection);

#endif
