/* An MQTT 5 connection to a listener, by libmosquitto.
 *
 * The library is opened when the first client is made, not linked: it exports functions of the same names as the
 * broker, whose own must not be called from another thread, so the two are kept apart (RTLD_DEEPBIND). Everything but
 * mqtt_client_new() belongs to one thread. No call waits, except mqtt_client_connect() for the name server and the
 * TCP handshake, and mqtt_client_disconnect(). */
#ifndef MQTTASGI_MQTT_CLIENT_H
#define MQTTASGI_MQTT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

struct mqtt_client;
struct options;

struct mqtt_client_message {
	const char *topic;
	const void *payload;
	size_t payload_length;
	const void *properties; /* see properties.h; NULL when there are none */
	size_t properties_length;
	bool is_incomplete;     /* memory ran out for its properties */
	uint32_t subscription; /* which mqtt_client_subscribe() it comes for; 0: none */
	uint8_t qos;
	bool retain;           /* as it was published (MQTT 5, 3.3.1.3) */
	bool is_fetched;       /* certain to be one that the broker had retained */
};

/* Called from mqtt_client_handle(). What they are given is valid until they return. */
struct mqtt_client_events {
	/* CONNACK; reason is 0 or what it says, as a sentence. */
	void (*connected)(void *userdata, const char *reason, bool session_present);
	/* SUBACK or UNSUBACK; code is the first filter's (MQTT 5, 3.9.3), refused from 128 on. */
	void (*acknowledged)(void *userdata, int packet, int code);
	void (*message)(void *userdata, const struct mqtt_client_message *message);
};

/* Opens the library, where it is not open yet, for other functions of it. NULL: it is not installed, or too old, with a
 * sentence in error. Broker thread. */
void *mqtt_client_library(struct text *error) __attribute__((warn_unused_result));

/* Makes a client for the listener that options name; nothing is sent. Borrows options, events and userdata.
 * MOSQ_ERR_SUCCESS; MOSQ_ERR_NOT_FOUND: the library is not installed; MOSQ_ERR_INVAL: it cannot do what options ask for;
 * MOSQ_ERR_NOMEM. All but the first with a sentence in error. Any thread. */
int mqtt_client_new(const struct options *options, const struct mqtt_client_events *events, void *userdata,
		struct mqtt_client **ret_client, struct text *error) __attribute__((warn_unused_result));

/* Closes what is open. */
void mqtt_client_free(struct mqtt_client *client);

/* Opens the connection and sends CONNECT, without Clean Start. session_expiry is in seconds, UINT32_MAX: never. False:
 * mqtt_client_reason() says why. */
bool mqtt_client_connect(struct mqtt_client *client, uint32_t session_expiry) __attribute__((warn_unused_result));

/* Sends DISCONNECT and waits, for a second at most, until the broker has closed. What comes meanwhile is not
 * acknowledged. end_session: the broker is to forget the session. */
void mqtt_client_disconnect(struct mqtt_client *client, bool end_session);

/* The socket, for poll(); -1: not connected. */
int mqtt_client_socket(const struct mqtt_client *client);

/* Whether the client waits for the socket to take more. */
bool mqtt_client_wants_to_write(const struct mqtt_client *client);

/* Reads at most limit packets and calls the events for them, writes what waits, keeps the connection alive. False: the
 * connection has ended; mqtt_client_reason() says why. */
bool mqtt_client_handle(struct mqtt_client *client, unsigned int limit) __attribute__((warn_unused_result));

/* Returns the number of a packet, which acknowledged() will tell, or -1. kept: the broker is to send what it has retained.
 * flags: a live message keeps the RETAIN flag it was published with (MQTT 5, 3.8.3.1); then retained ones come before the
 * acknowledgement, and is_fetched tells them from live ones. subscription is from 1 to MQTT_CLIENT_SUBSCRIPTION_MAX. */
#define MQTT_CLIENT_SUBSCRIPTION_MAX 134217727U
int mqtt_client_subscribe(struct mqtt_client *client, const char *filter, uint8_t qos, uint32_t subscription,
		bool kept, bool flags);
int mqtt_client_unsubscribe(struct mqtt_client *client, const char *filter);

/* What went wrong last, as the end of a sentence. */
const char *mqtt_client_reason(const struct mqtt_client *client);

#endif
