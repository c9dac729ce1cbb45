/* An MQTT 3.1.1 connection to a broker on this machine, as thin as a load generator wants it.
 *
 * A wire is a socket that is never blocked on, with a buffer each way. Publishing only fills the output
 * buffer; wire_wait() sends what is due, sleeps until something arrives and reads it; wire_take() hands out
 * what was read, one message at a time. PUBACKs are answered and counted, SUBACKs checked, inside. Every
 * failure (refused, closed, malformed) ends the program with a sentence. One thread only. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire;

/* Both point into the wire's input buffer and are valid until the next wire_wait() on it. */
struct wire_message {
	const uint8_t *topic;
	size_t topic_length;
	const uint8_t *payload;
	size_t length;
};

/* Connects and waits at most timeout_ns for the CONNACK. host is `localhost` or an address in 127.0.0.0/8;
 * anything else is refused. */
struct wire *wire_open(const char *host, uint16_t port, const char *client_id, int64_t timeout_ns);

/* Takes NULL. Says DISCONNECT, so that the broker does not log a lost client. */
void wire_close(struct wire *wire);

/* Asks for filter at qos. The answer is checked when wire_take() meets it. */
void wire_subscribe(struct wire *wire, const char *filter, uint8_t qos);

/* Waits until every wire_subscribe() so far was granted. Messages that arrive before are dropped. */
void wire_await_subscribed(struct wire *wire, int64_t timeout_ns);

void wire_publish(struct wire *wire, const char *topic, const uint8_t *payload, size_t length, uint8_t qos);

/* The broker is to keep it. */
void wire_publish_retained(struct wire *wire, const char *topic, const uint8_t *payload, size_t length,
		uint8_t qos);

/* Sends what the socket takes of the output now. */
void wire_flush(struct wire *wire);

#define WIRES_MAX 256

/* Sends what is due on all wires and waits until one of them has read something or deadline (now_ns())
 * passes. False when the deadline passed. */
bool wire_wait(struct wire *const *wires, size_t count, int64_t deadline);

/* The next message that has been read completely, false when there is none. */
bool wire_take(struct wire *wire, struct wire_message *ret_message);

bool wire_message_is(const struct wire_message *message, const char *topic);

#endif
