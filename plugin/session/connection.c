/* DESIGN
 * What comes is collected in one buffer, which grows with the bytes that have come and never by a length that
 * somebody has written into a packet. packets.c checks a packet when it is complete; one that is wrong ends
 * the connection, and so does memory that runs out. Then the broker sends again, after the next CONNECT, what
 * it has not got acknowledged, so nothing above QoS 0 is lost.
 *
 * QoS 2 (MQTT 5, 4.3.3, method B): a message is handed over at its first PUBLISH, and its packet identifier
 * is kept until PUBREL. A PUBLISH with DUP and an identifier that is kept is the same message once more; one
 * without DUP is a new message, whatever is kept (3.3.1.1). The identifiers are kept over a reconnection in
 * which the broker has kept the session. They come from an earlier connection then, and it sends each of them
 * again first, as PUBLISH or PUBREL; those it does not mention it has given up (a message that expires), and
 * they must not stand for a message that gets the number later. So there are two sets, of this connection and
 * of earlier ones, and the second is emptied when a message has come that is newer than this connection
 * (connection_caught_up()). In doubt a message comes twice rather than never. */
#include "session/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "options/options.h"
#include "session/packets.h"
#include "session/transport.h"
#include "shared/clock.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* Seconds without a packet after which the broker may take the connection for dead (MQTT 5, 3.1.2.10); it may
 * want less. */
#define KEEP_ALIVE 60
/* How long a PINGREQ may go unanswered while what comes is read. */
#define PING_ANSWER_MS 60000U
/* A Receive Maximum (MQTT 5, 3.1.2.11.3) that the broker never reaches: it then sends QoS 1 and 2 at once, as
 * it does QoS 0, and one order holds for all three. With its own limit of 20 it would queue them, and drop
 * what is beyond max_queued_messages. */
#define RECEIVE_MAXIMUM 65535
/* How long the broker has to close a connection after DISCONNECT. */
#define CLOSE_MS 1000U
/* Room for each read, and how much is read before others get a turn. */
#define READ_ROOM 16384U
#define READ_MAX 1048576U
/* A buffer is kept for what comes next up to this size. */
#define BUFFER_KEPT 65536U
/* While so much waits to be written nothing is read, so that acknowledgements do not pile up. */
#define WRITE_PAUSE 65536U
/* So much may wait at most: SUBSCRIBE for all filters of a round. */
#define WRITE_MAX 67108864U

enum state { CLOSED, OPENING, GREETING /* for CONNACK */, ACCEPTED };

struct packet_set {
	uint64_t bits[65536 / 64];
};

struct connection {
	bool taken_over; /* see connection_was_taken_over() */
	const struct options *options;
	const struct connection_events *events;
	void *userdata;
	struct transport *transport;
	enum state state;
	uint32_t session_expiry;
	struct packet_set received, received_earlier;

	unsigned char *in;
	size_t in_at, in_length, in_capacity; /* what came and is not dealt with: from in_at to in_length */
	struct text out;
	size_t out_at;
	uint32_t size_max; /* of a packet that the broker takes */
	uint16_t last_packet;

	unsigned int keep_alive; /* seconds; 0: the broker does not mind */
	uint64_t sent_at, pinged_at /* 0: no answer is due */, reads_since /* 0: nothing is read */;
	char reason[512];
};

/* ---- sets ---- */

static bool set_has(const struct packet_set *set, uint16_t packet)
{
	return set->bits[packet / 64] >> (packet % 64) & 1U;
}

static void set_put(struct packet_set *set, uint16_t packet)
{
	set->bits[packet / 64] |= (uint64_t)1 << (packet % 64);
}

static void set_remove(struct packet_set *set, uint16_t packet)
{
	set->bits[packet / 64] &= ~((uint64_t)1 << (packet % 64));
}

static void set_empty(struct packet_set *set)
{
	memset(set, 0, sizeof(*set));
}

/* ---- ends ---- */

static bool fail(struct connection *connection, const char *format, ...)
		__attribute__((format(printf, 2, 3)));

static bool fail(struct connection *connection, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(connection->reason, sizeof(connection->reason), format, arguments);
	va_end(arguments);
	transport_close(connection->transport, 0);
	connection->state = CLOSED;
	return false;
}

/* Tells the broker that what it sent is against the protocol (MQTT 5, 4.13), as far as that goes without
 * waiting. */
static bool refuse(struct connection *connection, const char *wrong)
{
	if (connection->state == ACCEPTED) {
		packets_write_disconnect(&connection->out, 0x81, false);
		if (!connection->out.failed) {
			(void)!transport_write(connection->transport, connection->out.data + connection->out_at,
					connection->out.length - connection->out_at);
		}
		return fail(connection, "it sent what MQTT 5 does not allow: %s", wrong);
	}
	return fail(connection, "it does not answer as MQTT 5 wants: %s", wrong);
}

static bool no_memory(struct connection *connection)
{
	return fail(connection, "no memory for what goes through the connection");
}

/* ---- writing ---- */

static size_t unwritten(const struct connection *connection)
{
	return connection->out.length - connection->out_at;
}

static bool flush(struct connection *connection)
{
	struct text *out = &connection->out;
	long count = 1;

	if (out->failed) {
		return no_memory(connection);
	}
	while (unwritten(connection) > 0 && count > 0) {
		count = transport_write(connection->transport, out->data + connection->out_at, unwritten(connection));
		if (count < 0) {
			return fail(connection, "%s", transport_reason(connection->transport));
		}
		connection->out_at += (size_t)count;
	}
	if (unwritten(connection) == 0) {
		out->length = 0;
		connection->out_at = 0;
		if (out->capacity > BUFFER_KEPT) {
			text_free(out);
		}
	} else if (connection->out_at > BUFFER_KEPT) {
		memmove(out->data, out->data + connection->out_at, unwritten(connection));
		out->length -= connection->out_at;
		connection->out_at = 0;
	}
	return true;
}

static bool greet(struct connection *connection)
{
	const struct options *options = connection->options;
	const struct packets_connect connect = {
		.client_id = options->client_id,
		.username = options->username,
		.password = options->password,
		.keep_alive = KEEP_ALIVE,
		.session_expiry = connection->session_expiry,
		.receive_maximum = RECEIVE_MAXIMUM,
	};

	packets_write_connect(&connection->out, &connect);
	connection->state = GREETING;
	connection->sent_at = now_ms();
	return !connection->out.failed || no_memory(connection);
}

/* ---- what comes ---- */

/* The receiver's part of QoS 1 and 2 for a message that it has taken responsibility for. */
static void acknowledge(struct connection *connection, uint16_t packet, uint8_t qos)
{
	if (qos > 0) {
		packets_write_answer(&connection->out, qos == 1 ? PACKETS_PUBACK : PACKETS_PUBREC, packet, 0);
	}
}

/* Whether a PUBLISH with QoS 2 brings a message that was handed over already; from here on it was. */
static bool receive_once(struct connection *connection, uint16_t packet, bool dup)
{
	bool known = set_has(&connection->received, packet) || set_has(&connection->received_earlier, packet);

	set_remove(&connection->received_earlier, packet);
	set_put(&connection->received, packet);
	return !(known && dup);
}

static const char *on_publish(struct connection *connection, const struct packets_packet *packet)
{
	struct packets_publish publish;
	const char *wrong = packets_read_publish(packet, &publish);
	bool is_new;

	if (wrong && (publish.qos > 2 || (publish.qos > 0) != (publish.packet > 0))) {
		return wrong;
	}
	is_new = publish.qos < 2 || receive_once(connection, publish.packet, publish.dup);
	if (is_new && wrong) {
		connection->events->passed_over(connection->userdata, wrong);
	} else if (is_new) {
		const struct connection_message message = {
			.topic = publish.topic,
			.payload = publish.payload,
			.payload_length = publish.payload_length,
			.properties = publish.properties,
			.properties_length = publish.properties_length,
			.subscription = publish.subscription >> 1,
			.qos = publish.qos,
			.retain = publish.retain,
			.is_fetched = publish.retain && (publish.subscription & 1U),
			.is_again = publish.dup,
		};

		connection->events->message(connection->userdata, &message);
	}
	acknowledge(connection, publish.packet, publish.qos);
	return NULL;
}

static const char *on_pubrel(struct connection *connection, const struct packets_packet *packet)
{
	struct packets_answer pubrel;
	const char *wrong = packets_read_answer(packet, &pubrel);
	bool known;

	if (wrong) {
		return wrong;
	}
	known = set_has(&connection->received, pubrel.packet) ||
			set_has(&connection->received_earlier, pubrel.packet);
	set_remove(&connection->received, pubrel.packet);
	set_remove(&connection->received_earlier, pubrel.packet);
	packets_write_answer(&connection->out, PACKETS_PUBCOMP, pubrel.packet,
			known ? 0 : MQTT_RC_PACKET_ID_NOT_FOUND);
	return NULL;
}

static const char *on_acknowledgement(struct connection *connection, const struct packets_packet *packet)
{
	struct packets_answer answer;
	const char *wrong = packets_read_answer(packet, &answer);

	if (!wrong) {
		connection->events->acknowledged(connection->userdata, answer.packet, answer.code);
	}
	return wrong;
}

/* `Not authorized (because ...)`: what a broker adds is its own affair, but it ends up in the log. */
static void describe(char *text, size_t size, const char *meaning, const char *reason, size_t length)
{
	struct text visible = {0};
	char *copy = reason && length ? text_copy(reason, length) : NULL;

	if (copy) {
		text_add_visible(&visible, copy);
	}
	if (copy && !visible.failed) {
		(void)snprintf(text, size, "%s (%s)", meaning, visible.data);
	} else {
		(void)snprintf(text, size, "%s", meaning);
	}
	text_free(&visible);
	free(copy);
}

static bool on_disconnect(struct connection *connection, const struct packets_packet *packet)
{
	struct packets_answer answer;
	const char *wrong = packets_read_answer(packet, &answer);
	char why[400];

	if (wrong) {
		return refuse(connection, wrong);
	}
	connection->taken_over = answer.code == MQTT_RC_SESSION_TAKEN_OVER;
	describe(why, sizeof(why), packets_reason(answer.code, false), answer.reason, answer.reason_length);
	return fail(connection, "the broker ended the connection: %s", why);
}

static void keep_sets(struct connection *connection, bool session_present)
{
	size_t i;

	for (i = 0; i < sizeof(connection->received.bits) / sizeof(connection->received.bits[0]); i++) {
		connection->received_earlier.bits[i] |= connection->received.bits[i];
	}
	set_empty(&connection->received);
	if (!session_present) {
		set_empty(&connection->received_earlier);
	}
}

static bool on_connack(struct connection *connection, const struct packets_packet *packet)
{
	struct packets_connack connack;
	const char *wrong = packet->type == PACKETS_CONNACK ? packets_read_connack(packet, &connack)
														: "what comes first is no CONNACK";
	char why[400], sentence[480];

	if (wrong) {
		return refuse(connection, wrong);
	}
	if (connack.code) {
		describe(why, sizeof(why), packets_reason(connack.code, connack.is_old), connack.reason,
				connack.reason_length);
		(void)snprintf(sentence, sizeof(sentence), "it refused the connection: %s", why);
		(void)fail(connection, "%s", sentence);
		connection->events->connected(connection->userdata, sentence, false);
		return false;
	}
	connection->state = ACCEPTED;
	connection->size_max = connack.size_max;
	connection->keep_alive = connack.has_keep_alive ? connack.keep_alive : KEEP_ALIVE;
	keep_sets(connection, connack.session_present);
	connection->events->connected(connection->userdata, NULL, connack.session_present);
	return true;
}

/* Returns whether the connection goes on. */
static bool deal(struct connection *connection, const struct packets_packet *packet)
{
	const char *wrong = NULL;

	if (connection->state == GREETING) {
		return on_connack(connection, packet);
	}
	switch (packet->type) {
	case PACKETS_PUBLISH:
		wrong = on_publish(connection, packet);
		break;
	case PACKETS_PUBREL:
		wrong = on_pubrel(connection, packet);
		break;
	case PACKETS_SUBACK:
	case PACKETS_UNSUBACK:
		wrong = on_acknowledgement(connection, packet);
		break;
	case PACKETS_PINGRESP:
		wrong = packet->flags || packet->length ? "a PINGRESP that is none" : NULL;
		break;
	case PACKETS_DISCONNECT:
		return on_disconnect(connection, packet);
	default:
		wrong = "a packet that nobody asked for";
		break;
	}
	return !wrong || refuse(connection, wrong);
}

/* ---- reading ---- */

/* Makes room for READ_ROOM more bytes, at the beginning as far as there is some. */
static bool make_room(struct connection *connection)
{
	size_t capacity = connection->in_capacity ? connection->in_capacity : 2 * READ_ROOM;
	unsigned char *in;

	if (connection->in_at > 0) {
		memmove(connection->in, connection->in + connection->in_at,
				connection->in_length - connection->in_at);
		connection->in_length -= connection->in_at;
		connection->in_at = 0;
	}
	while (capacity - connection->in_length < READ_ROOM) {
		capacity *= 2;
	}
	if (capacity == connection->in_capacity) {
		return true;
	}
	in = realloc(connection->in, capacity);
	if (!in) {
		return fail(connection, "no memory for a packet of which %zu bytes have come", connection->in_length);
	}
	connection->in = in;
	connection->in_capacity = capacity;
	return true;
}

static void forget_input(struct connection *connection)
{
	connection->in_at = connection->in_length = 0;
	if (connection->in_capacity > BUFFER_KEPT) {
		free(connection->in);
		connection->in = NULL;
		connection->in_capacity = 0;
	}
}

/* As packets_find(), in what is there. */
static long find_packet(const struct connection *connection, struct packets_packet *ret_packet)
{
	if (connection->in_at == connection->in_length) {
		return 0;
	}
	return packets_find(connection->in + connection->in_at, connection->in_length - connection->in_at,
			ret_packet);
}

/* Deals with what is there. Returns how many of limit packets may still come, -1: the connection has
 * ended. */
static long deal_with_input(struct connection *connection, unsigned int limit)
{
	struct packets_packet packet;
	long size = 0;

	while (limit > 0 && unwritten(connection) < WRITE_PAUSE &&
			(size = find_packet(connection, &packet)) > 0) {
		connection->in_at += (size_t)size;
		limit--;
		if (!deal(connection, &packet)) {
			return -1;
		}
	}
	if (size < 0) {
		(void)refuse(connection, "a packet whose length is none");
		return -1;
	}
	if (connection->in_at == connection->in_length) {
		forget_input(connection);
	}
	return (long)limit;
}

static bool read_packets(struct connection *connection, unsigned int limit)
{
	size_t taken = 0;
	long rest, count;

	while ((rest = deal_with_input(connection, limit)) > 0 && unwritten(connection) < WRITE_PAUSE &&
			taken < READ_MAX) {
		limit = (unsigned int)rest;
		if (!make_room(connection)) {
			return false;
		}
		count = transport_read(connection->transport, connection->in + connection->in_length,
				connection->in_capacity - connection->in_length);
		if (count < 0) {
			return fail(connection, "%s", transport_reason(connection->transport));
		}
		if (count == 0) {
			if (connection->in_at == connection->in_length) {
				forget_input(connection);
			}
			return true;
		}
		connection->in_length += (size_t)count;
		taken += (size_t)count;
		connection->pinged_at = 0;
	}
	return rest >= 0;
}

/* ---- keep alive ---- */

/* The broker counts any packet as a sign of life, and allows one and a half times the interval. */
static bool keep_alive(struct connection *connection, bool reads)
{
	uint64_t now = now_ms(), interval = (connection->keep_alive ? connection->keep_alive : KEEP_ALIVE) * 500U,
			 since;

	if (connection->state != ACCEPTED) {
		return true;
	}
	if (!reads) {
		connection->reads_since = 0;
	} else if (!connection->reads_since) {
		connection->reads_since = now;
	}
	/* An answer that nobody has read is not one that has not come. */
	since = connection->pinged_at > connection->reads_since ? connection->pinged_at : connection->reads_since;
	if (connection->pinged_at && reads && now >= since + PING_ANSWER_MS) {
		return fail(connection, "it does not answer any more");
	}
	if (now >= connection->sent_at + interval) {
		packets_write_ping(&connection->out);
		connection->sent_at = now;
		if (!connection->pinged_at) {
			connection->pinged_at = now;
		}
	}
	return true;
}

/* ---- its life ---- */

struct connection *connection_new(const struct options *options, const struct connection_events *events,
		void *userdata)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		return NULL;
	}
	connection->options = options;
	connection->events = events;
	connection->userdata = userdata;
	connection->transport = transport_new(options);
	if (!connection->transport) {
		free(connection);
		return NULL;
	}
	return connection;
}

void connection_free(struct connection *connection)
{
	if (connection) {
		transport_free(connection->transport);
		text_free(&connection->out);
		free(connection->in);
		free(connection);
	}
}

/* Goes on with what has to happen before CONNECT. */
static bool open_up(struct connection *connection)
{
	int rc;

	if (connection->state != OPENING) {
		return true;
	}
	rc = transport_step(connection->transport);
	if (rc < 0) {
		return fail(connection, "%s", transport_reason(connection->transport));
	}
	return rc == 0 || (greet(connection) && flush(connection));
}

bool connection_connect(struct connection *connection, uint32_t session_expiry)
{
	connection->taken_over = false;
	connection->reason[0] = '\0';
	connection->session_expiry = session_expiry;
	connection->size_max = PACKETS_SIZE_MAX;
	connection->keep_alive = KEEP_ALIVE;
	connection->pinged_at = 0;
	connection->reads_since = 0;
	text_free(&connection->out);
	connection->out_at = 0;
	forget_input(connection);
	if (!transport_connect(connection->transport)) {
		return fail(connection, "%s", transport_reason(connection->transport));
	}
	connection->state = OPENING;
	return open_up(connection);
}

void connection_disconnect(struct connection *connection, bool end_session)
{
	bool says_so = connection->state == ACCEPTED;

	if (says_so) {
		packets_write_disconnect(&connection->out, 0, end_session);
		says_so = flush(connection) && unwritten(connection) == 0;
	}
	transport_close(connection->transport, says_so ? CLOSE_MS : 0);
	connection->state = CLOSED;
}

int connection_socket(const struct connection *connection)
{
	return transport_socket(connection->transport);
}

bool connection_wants_to_write(const struct connection *connection)
{
	return transport_wants_to_write(connection->transport, unwritten(connection) > 0);
}

bool connection_has_more(const struct connection *connection)
{
	struct packets_packet packet;

	if (connection->state < GREETING || unwritten(connection) >= WRITE_PAUSE) {
		return false;
	}
	return transport_has_more(connection->transport) || find_packet(connection, &packet) != 0;
}

/* The broker, unless set_tcp_nodelay is given, holds a packet back until the one before is acknowledged,
 * which without this takes 40 ms. The kernel forgets it after a while. A unix socket knows neither. */
static void acknowledge_quickly(struct connection *connection)
{
	static const int on = 1;

	(void)setsockopt(connection_socket(connection), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

bool connection_handle(struct connection *connection, unsigned int limit)
{
	if (connection->state == CLOSED || !open_up(connection)) {
		return false;
	}
	if (connection->state == OPENING) {
		return true;
	}
	if (limit > 0) {
		acknowledge_quickly(connection);
		if (!read_packets(connection, limit)) {
			return false;
		}
	}
	return keep_alive(connection, limit > 0) && flush(connection);
}

void connection_caught_up(struct connection *connection)
{
	set_empty(&connection->received_earlier);
}

/* ---- subscriptions ---- */

static int next_packet(struct connection *connection)
{
	connection->last_packet = (uint16_t)(connection->last_packet % UINT16_MAX + 1);
	return connection->last_packet;
}

/* Whether a SUBSCRIBE or UNSUBSCRIBE for filter can go. */
static bool may_send(struct connection *connection, const char *filter)
{
	enum { BESIDE_THE_FILTER = 24 };
	size_t size = strlen(filter) + BESIDE_THE_FILTER;

	if (connection->state != ACCEPTED) {
		(void)snprintf(connection->reason, sizeof(connection->reason), "there is no connection");
	} else if (size - BESIDE_THE_FILTER > UINT16_MAX || size > connection->size_max) {
		(void)snprintf(connection->reason, sizeof(connection->reason),
				"the broker takes packets of at most %u bytes", connection->size_max);
	} else if (unwritten(connection) + size > WRITE_MAX) {
		(void)snprintf(connection->reason, sizeof(connection->reason),
				"more than %u bytes wait to be written", WRITE_MAX);
	} else {
		return true;
	}
	return false;
}

/* Returns packet, if it could be written. Else a piece of it may be there, so the connection ends with the
 * next connection_handle(). */
static int sent(struct connection *connection, int packet)
{
	if (connection->out.failed) {
		(void)snprintf(connection->reason, sizeof(connection->reason),
				"no memory for what goes through the connection");
		return -1;
	}
	connection->sent_at = now_ms();
	return packet;
}

static int send_subscribe(struct connection *connection, const char *filter, uint32_t identifier,
		unsigned int subscription_options)
{
	int packet;

	if (!may_send(connection, filter)) {
		return -1;
	}
	packet = next_packet(connection);
	packets_write_subscribe(&connection->out, (uint16_t)packet, filter, identifier,
			(uint8_t)subscription_options);
	return sent(connection, packet);
}

/* With Retain As Published, a live message may have the RETAIN flag, too. So what the broker has retained is
 * asked for with an identifier of its own, an odd one (MQTT 5, 3.8.2.1.2), which each message keeps whenever
 * it comes; a second SUBSCRIBE sets the even one, for what is live. Between the two, a live message with the
 * flag counts as retained, which is why it is not done where nobody wants the flag. To turn the option off
 * meanwhile is no way: Mosquitto 2.0 does not change it in a subscription that it has, neither off nor on. */
int connection_subscribe(struct connection *connection, const char *filter, uint8_t qos,
		uint32_t subscription, bool retained, bool flags)
{
	unsigned int always = qos | (flags ? MQTT_SUB_OPT_RETAIN_AS_PUBLISHED : 0);
	unsigned int handling = retained ? MQTT_SUB_OPT_SEND_RETAIN_ALWAYS : MQTT_SUB_OPT_SEND_RETAIN_NEVER;
	uint32_t identifier = subscription << 1;

	if (retained && flags) {
		if (send_subscribe(connection, filter, identifier | 1U, always | handling) < 0) {
			return -1;
		}
		handling = MQTT_SUB_OPT_SEND_RETAIN_NEVER;
	}
	return send_subscribe(connection, filter, identifier, always | handling);
}

int connection_unsubscribe(struct connection *connection, const char *filter)
{
	int packet;

	if (!may_send(connection, filter)) {
		return -1;
	}
	packet = next_packet(connection);
	packets_write_unsubscribe(&connection->out, (uint16_t)packet, filter);
	return sent(connection, packet);
}

bool connection_was_taken_over(const struct connection *connection)
{
	return connection->taken_over;
}

const char *connection_reason(const struct connection *connection)
{
	return connection->reason;
}
