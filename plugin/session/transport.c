#include "session/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "options/options.h"
#include "session/tls.h"
#include "session/websocket.h"
#include "shared/clock.h"

/* How long an address may take where the name has further ones. */
#define ADDRESS_MS 1000U
/* Reads in a row that bring nothing of MQTT's. poll() knows of what is left, or transport_has_more(). */
#define READS_MAX 16U

enum state { CLOSED, CONNECTING, SHAKING_HANDS, UPGRADING, OPEN };

struct transport {
	const struct options *options;
	enum state state;
	int descriptor;
	bool is_tcp;
	struct addrinfo *addresses, *address; /* address: the one that is tried */
	uint64_t address_since;
	SSL_CTX *context;
	SSL *ssl;                                             /* NULL: without TLS */
	bool reading_waits_for_room, writing_waits_for_bytes; /* TLS's own business */
	struct websocket websocket;
	char reason[512];
};

static void fail(struct transport *transport, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void fail(struct transport *transport, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(transport->reason, sizeof(transport->reason), format, arguments);
	va_end(arguments);
	transport_close(transport, 0);
}

static bool has_websockets(const struct transport *transport)
{
	return transport->options->transport == OPTIONS_TRANSPORT_WEBSOCKETS;
}

struct transport *transport_new(const struct options *options)
{
	struct transport *transport = calloc(1, sizeof(*transport));

	if (transport) {
		transport->options = options;
		transport->descriptor = -1;
	}
	return transport;
}

void transport_free(struct transport *transport)
{
	if (transport) {
		transport_close(transport, 0);
		free(transport);
	}
}

/* ---- sockets ---- */

static void close_socket(struct transport *transport)
{
	if (transport->descriptor >= 0) {
		(void)close(transport->descriptor);
		transport->descriptor = -1;
	}
}

/* Opens one and begins to connect it. Returns 0 or an errno. */
static int open_socket(struct transport *transport, int family, const struct sockaddr *address,
		socklen_t length)
{
	static const int on = 1;

	transport->descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (transport->descriptor < 0) {
		return errno;
	}
	transport->is_tcp = family != AF_UNIX;
	if (transport->is_tcp) {
		(void)setsockopt(transport->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	transport->address_since = now_ms();
	if (connect(transport->descriptor, address, length) && errno != EINPROGRESS) {
		return errno;
	}
	return 0;
}

static bool connect_unix(struct transport *transport)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = transport->options->host;
	int error;

	if (strlen(path) >= sizeof(address.sun_path)) {
		fail(transport, "the path is longer than a socket's can be (%zu characters)",
				sizeof(address.sun_path) - 1);
		return false;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	error = open_socket(transport, AF_UNIX, (const struct sockaddr *)&address, sizeof(address));
	if (error) {
		fail(transport, "%s", strerror(error));
	}
	return !error;
}

/* Tries the addresses from this one on, until one does not fail at once; error is that of the one before. */
static bool try_addresses(struct transport *transport, struct addrinfo *address, int error)
{
	for (; address; address = address->ai_next) {
		transport->address = address;
		error = open_socket(transport, address->ai_family, address->ai_addr, address->ai_addrlen);
		if (!error) {
			return true;
		}
		close_socket(transport);
	}
	fail(transport, "%s", strerror(error));
	return false;
}

static bool connect_tcp(struct transport *transport)
{
	const struct options *options = transport->options;
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	char port[8];
	int rc;

	(void)snprintf(port, sizeof(port), "%u", options->port);
	rc = getaddrinfo(options->host, port, &hints, &transport->addresses);
	if (rc) {
		transport->addresses = NULL;
		fail(transport, "the name server does not know that host: %s",
				rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return false;
	}
	return try_addresses(transport, transport->addresses, EADDRNOTAVAIL);
}

bool transport_connect(struct transport *transport)
{
	transport_close(transport, 0);
	transport->reason[0] = '\0';
	if (tls_is_wanted(transport->options)) {
		transport->context = tls_context(transport->options, transport->reason, sizeof(transport->reason));
		if (!transport->context) {
			return false;
		}
	}
	transport->state = CONNECTING;
	return transport->options->port ? connect_tcp(transport) : connect_unix(transport);
}

/* Returns 1 when the socket is connected, 0: not yet, -1: it will not be. */
static int step_connecting(struct transport *transport)
{
	struct pollfd polled = {.fd = transport->descriptor, .events = POLLOUT};
	struct addrinfo *next = transport->address ? transport->address->ai_next : NULL;
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&polled, 1, 0) <= 0) {
		if (!next || now_ms() < transport->address_since + ADDRESS_MS) {
			return 0;
		}
		error = ETIMEDOUT;
	} else if (getsockopt(transport->descriptor, SOL_SOCKET, SO_ERROR, &error, &length)) {
		error = errno;
	}
	if (!error) {
		return 1;
	}
	close_socket(transport);
	return try_addresses(transport, next, error) ? 0 : -1;
}

/* ---- TLS ---- */

/* What became of an SSL_ function that returned rc: its bytes, 0: it waits, -1. */
static long tls_result(struct transport *transport, int rc, bool reads)
{
	char reason[400];
	int code;

	if (rc > 0) {
		return rc;
	}
	code = SSL_get_error(transport->ssl, rc);
	if (code == SSL_ERROR_WANT_READ) {
		transport->writing_waits_for_bytes = !reads;
		return 0;
	}
	if (code == SSL_ERROR_WANT_WRITE) {
		transport->reading_waits_for_room = reads;
		return 0;
	}
	tls_describe(transport->ssl, code, reason, sizeof(reason));
	fail(transport, "%s", reason);
	return -1;
}

static int step_tls(struct transport *transport)
{
	long rc;

	if (!transport->ssl) {
		transport->ssl = tls_connection(transport->context, transport->descriptor, transport->options->host);
		if (!transport->ssl) {
			fail(transport, "no memory for TLS");
			return -1;
		}
	}
	transport->reading_waits_for_room = false;
	errno = 0;
	rc = tls_result(transport, SSL_connect(transport->ssl), true);
	if (rc > 0 && !tls_is_for(transport->ssl, transport->options->host)) {
		fail(transport, "the listener's certificate is for another host");
		return -1;
	}
	return (int)rc;
}

/* ---- bytes ---- */

static long read_raw(struct transport *transport, unsigned char *bytes, size_t size)
{
	ssize_t count;

	if (transport->ssl) {
		transport->reading_waits_for_room = false;
		errno = 0;
		return tls_result(transport,
				SSL_read(transport->ssl, bytes, size < INT32_MAX ? (int)size : INT32_MAX), true);
	}
	do {
		count = recv(transport->descriptor, bytes, size, 0);
	} while (count < 0 && errno == EINTR);
	if (count > 0 || (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))) {
		return count > 0 ? count : 0;
	}
	fail(transport, "%s", count ? strerror(errno) : "the broker closed the connection");
	return -1;
}

static long write_raw(struct transport *transport, const void *bytes, size_t size)
{
	ssize_t count;

	if (transport->ssl) {
		transport->writing_waits_for_bytes = false;
		errno = 0;
		return tls_result(transport,
				SSL_write(transport->ssl, bytes, size < INT32_MAX ? (int)size : INT32_MAX), false);
	}
	do {
		count = send(transport->descriptor, bytes, size, MSG_NOSIGNAL);
	} while (count < 0 && errno == EINTR);
	if (count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
		return count > 0 ? count : 0;
	}
	/* The broker has closed, but what it said last, why it did, may not have been read yet: that shows the
	 * end. */
	if (errno == EPIPE || errno == ECONNRESET) {
		return (long)size;
	}
	fail(transport, "%s", strerror(errno));
	return -1;
}

/* Writes the websocket's frames. Returns 1 when all are gone, 0, -1. */
static int flush_frames(struct transport *transport)
{
	struct websocket *websocket = &transport->websocket;
	long count;

	while (websocket->out_at < websocket->out.length) {
		count = write_raw(transport, websocket->out.data + websocket->out_at,
				websocket->out.length - websocket->out_at);
		if (count <= 0) {
			return (int)count;
		}
		websocket->out_at += (size_t)count;
	}
	/* What else comes in, as answers to PINGs, begins anew. */
	websocket->out.length = 0;
	websocket->out_at = 0;
	return 1;
}

static long read_frames(struct transport *transport, unsigned char *bytes, size_t size)
{
	unsigned int reads = 0;
	long count;

	/* A call may bring nothing but the heads of frames; a listener that sends nothing else must not keep the
	 * thread. */
	do {
		/* Answers to PINGs, for which no other write need come. */
		if (flush_frames(transport) < 0) {
			return -1;
		}
		count = read_raw(transport, bytes, size);
		if (count <= 0) {
			return count;
		}
		count = websocket_receive(&transport->websocket, bytes, (size_t)count);
		if (count < 0) {
			fail(transport, "%s", transport->websocket.reason);
			return -1;
		}
	} while (count == 0 && ++reads < READS_MAX);
	return flush_frames(transport) < 0 ? -1 : count;
}

long transport_read(struct transport *transport, unsigned char *bytes, size_t size)
{
	return has_websockets(transport) ? read_frames(transport, bytes, size) : read_raw(transport, bytes, size);
}

long transport_write(struct transport *transport, const void *bytes, size_t size)
{
	int flushed;
	long count;

	if (!has_websockets(transport)) {
		return write_raw(transport, bytes, size);
	}
	flushed = flush_frames(transport);
	if (flushed <= 0) {
		return flushed;
	}
	count = websocket_send(&transport->websocket, bytes, size);
	if (count < 0) {
		fail(transport, "%s", transport->websocket.reason);
		return -1;
	}
	return flush_frames(transport) < 0 ? -1 : count;
}

/* ---- its life ---- */

static bool begin_upgrade(struct transport *transport)
{
	if (!websocket_begin(&transport->websocket, transport->options->host, transport->options->port)) {
		fail(transport, "%s", transport->websocket.reason);
		return false;
	}
	return true;
}

/* The answer is the first thing that comes, and MQTT says nothing before CONNECT: what follows the answer in
 * the same read would be against the protocol. */
static int step_upgrade(struct transport *transport)
{
	unsigned char bytes[512];
	long count;

	if (flush_frames(transport) < 0) {
		return -1;
	}
	do {
		count = read_raw(transport, bytes, sizeof(bytes));
		if (count <= 0) {
			return (int)count;
		}
		count = websocket_receive(&transport->websocket, bytes, (size_t)count);
		if (count != 0) {
			fail(transport, "%s",
					count < 0 ? transport->websocket.reason
							  : "it speaks websockets, but says something before it is asked");
			return -1;
		}
	} while (!transport->websocket.is_open);
	return 1;
}

int transport_step(struct transport *transport)
{
	int rc = 1;

	while (rc > 0 && transport->state != OPEN) {
		switch (transport->state) {
		case CONNECTING:
			rc = step_connecting(transport);
			if (rc > 0) {
				transport->state = SHAKING_HANDS;
			}
			break;
		case SHAKING_HANDS:
			rc = transport->context ? step_tls(transport) : 1;
			if (rc > 0) {
				transport->state = has_websockets(transport) ? UPGRADING : OPEN;
				rc = !has_websockets(transport) || begin_upgrade(transport) ? 1 : -1;
			}
			break;
		case UPGRADING:
			rc = step_upgrade(transport);
			if (rc > 0) {
				transport->state = OPEN;
			}
			break;
		case OPEN:
		case CLOSED:
			return -1;
		}
	}
	return rc;
}

bool transport_has_more(const struct transport *transport)
{
	return transport->ssl && SSL_pending(transport->ssl) > 0;
}

bool transport_wants_to_write(const struct transport *transport, bool has_bytes)
{
	switch (transport->state) {
	case CLOSED:
		return false;
	case CONNECTING:
		return true;
	case SHAKING_HANDS:
		return transport->reading_waits_for_room;
	case UPGRADING:
	case OPEN:
		break;
	}
	has_bytes = has_bytes || transport->websocket.out_at < transport->websocket.out.length;
	return transport->reading_waits_for_room || (has_bytes && !transport->writing_waits_for_bytes);
}

int transport_socket(const struct transport *transport)
{
	return transport->descriptor;
}

static void read_to_end(int descriptor, unsigned int milliseconds)
{
	struct pollfd polled = {.fd = descriptor, .events = POLLIN};
	uint64_t deadline = now_ms() + milliseconds, now;
	char ignored[4096];

	(void)shutdown(descriptor, SHUT_WR);
	while ((now = now_ms()) < deadline && poll(&polled, 1, (int)(deadline - now)) > 0 &&
			read(descriptor, ignored, sizeof(ignored)) > 0) {
	}
}

void transport_close(struct transport *transport, unsigned int finish_ms)
{
	if (transport->ssl && transport->state == OPEN) {
		tls_end(transport->ssl);
	}
	if (finish_ms && transport->descriptor >= 0 && transport->state == OPEN) {
		read_to_end(transport->descriptor, finish_ms);
	}
	transport->state = CLOSED;
	SSL_free(transport->ssl);
	transport->ssl = NULL;
	SSL_CTX_free(transport->context);
	transport->context = NULL;
	transport->reading_waits_for_room = false;
	transport->writing_waits_for_bytes = false;
	close_socket(transport);
	if (transport->addresses) {
		freeaddrinfo(transport->addresses);
	}
	transport->addresses = transport->address = NULL;
	websocket_end(&transport->websocket);
}

const char *transport_reason(const struct transport *transport)
{
	return transport->reason;
}
