/* Bytes to and from a listener: over TCP or a unix socket, with or without TLS, and with or without
 * websockets.
 *
 * Nothing waits, except transport_new() and transport_connect() for the name server. One thread. */
#ifndef MQTTASGI_TRANSPORT_H
#define MQTTASGI_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options;
struct transport;

/* Prepares connections to the listener that options name, and borrows them. NULL: no memory. */
struct transport *transport_new(const struct options *options) __attribute__((warn_unused_result));

/* Closes what is open. Takes NULL. */
void transport_free(struct transport *transport);

/* Begins a connection, in place of what is there. False: transport_reason() says why. */
bool transport_connect(struct transport *transport) __attribute__((warn_unused_result));

/* Goes on with it. Returns 1 when bytes can go, 0 while it waits, -1 when it has failed. */
int transport_step(struct transport *transport) __attribute__((warn_unused_result));

/* Read and write what there is, and room for. Return how many bytes, 0: none now, -1: the connection has
 * ended. */
long transport_read(struct transport *transport, unsigned char *bytes, size_t size)
		__attribute__((warn_unused_result));
long transport_write(struct transport *transport, const void *bytes, size_t size)
		__attribute__((warn_unused_result));

/* Whether bytes are there that poll() does not know of. */
bool transport_has_more(const struct transport *transport);

/* Whether it waits for the socket to take something; the other way round, has_bytes: something waits for
 * it. */
bool transport_wants_to_write(const struct transport *transport, bool has_bytes);

/* The socket, for poll(); -1: not connected. */
int transport_socket(const struct transport *transport);

/* Ends it. finish_ms: says first that nothing more will be written, and waits so long at most until the
 * broker has closed; what it sends meanwhile is thrown away. A socket that is closed while the other side
 * still sends takes back what was written. */
void transport_close(struct transport *transport, unsigned int finish_ms);

/* Why it failed or ended, as the end of a sentence. */
const char *transport_reason(const struct transport *transport);

#endif
