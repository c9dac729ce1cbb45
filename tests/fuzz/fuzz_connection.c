/* Whatever a broker sends, in whatever pieces: nothing is read that is not there, and the answers are those
 * of a naive receiver, which has an array for QoS 2 and reads the same bytes a second time.
 *
 * Input: a byte for the kind, a byte for the size of the pieces, then what comes. Kind, its lowest bit: 0:
 * MQTT (bit 1: a CONNACK comes first); 1: websockets, whose frames are to come out the same however they are
 * cut. Between two bytes 0xf0 0x00 in MQTT the connection is lost and made again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options/options.h"
#include "session/connection.h"
#include "session/packets.h"
#include "session/transport.h"
#include "session/websocket.h"
#include "shared/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* ---- the transport ---- */

struct transport {
	const uint8_t *bytes;
	size_t length, piece;
	bool is_open;
	struct text written;
};

static struct transport wire;

struct transport *transport_new(const struct options *options)
{
	(void)options;
	return &wire;
}

void transport_free(struct transport *transport)
{
	(void)transport;
}

bool transport_connect(struct transport *transport)
{
	transport->is_open = true;
	return true;
}

int transport_step(struct transport *transport)
{
	(void)transport;
	return 1;
}

long transport_read(struct transport *transport, unsigned char *bytes, size_t size)
{
	size_t count = transport->length < transport->piece ? transport->length : transport->piece;

	require(transport->is_open, "read after the end");
	if (count > size) {
		count = size;
	}
	if (count) {
		memcpy(bytes, transport->bytes, count);
	}
	transport->bytes += count;
	transport->length -= count;
	return (long)count;
}

long transport_write(struct transport *transport, const void *bytes, size_t size)
{
	require(transport->is_open, "written after the end");
	text_add(&transport->written, bytes, size);
	return (long)size;
}

bool transport_has_more(const struct transport *transport)
{
	(void)transport;
	return false;
}

bool transport_wants_to_write(const struct transport *transport, bool has_bytes)
{
	(void)transport;
	return has_bytes;
}

int transport_socket(const struct transport *transport)
{
	return transport->is_open ? 0x7ffffff0 : -1; /* nobody's */
}

void transport_close(struct transport *transport, unsigned int finish_ms)
{
	(void)finish_ms;
	transport->is_open = false;
}

const char *transport_reason(const struct transport *transport)
{
	(void)transport;
	return "the end";
}

/* ---- what it hands over, and what a naive receiver does ---- */

static struct text handed_over, expected, answers;
static bool accepted;
static bool known[65536];

static void add(struct text *text, uint16_t number, uint8_t qos, size_t payload_length)
{
	text_addf(text, "%u %u %zu\n", number, qos, payload_length);
}

static void on_connected(void *userdata, const char *reason, bool session_present)
{
	(void)userdata;
	accepted = !reason;
	if (accepted && !session_present) {
		memset(known, 0, sizeof(known));
	}
}

static void on_acknowledged(void *userdata, int packet, int code)
{
	(void)userdata;
	require(packet > 0 && packet < 65536 && code >= 0 && code < 256, "an acknowledgement of nothing");
	add(&handed_over, (uint16_t)packet, 9, (size_t)code);
}

static void on_message(void *userdata, const struct connection_message *message)
{
	size_t i;
	volatile uint8_t sum = 0;

	(void)userdata;
	require(accepted, "a message before CONNACK");
	require(message->qos < 3 && strlen(message->topic) > 0 && !strpbrk(message->topic, "+#"),
			"a topic that is none");
	for (i = 0; i < message->payload_length; i++) {
		sum = (uint8_t)(sum + ((const uint8_t *)message->payload)[i]);
	}
	for (i = 0; i < message->properties_length; i++) {
		sum = (uint8_t)(sum + ((const uint8_t *)message->properties)[i]);
	}
	require(!message->properties_length == !message->properties, "properties that are none");
	add(&handed_over, (uint16_t)strlen(message->topic), message->qos, message->payload_length);
}

static void on_passed_over(void *userdata, const char *wrong)
{
	(void)userdata;
	require(accepted && strlen(wrong) > 0, "passed over for nothing");
}

/* The length of the packet at bytes, 0: it is not whole. */
static size_t whole(const uint8_t *bytes, size_t size, size_t *ret_head)
{
	size_t length = 0, i;

	for (i = 1; i < size && i < 5; i++) {
		length |= (size_t)(bytes[i] & 0x7f) << (7 * (i - 1));
		if (bytes[i] < 0x80) {
			*ret_head = i + 1;
			return size - i - 1 >= length ? i + 1 + length : 0;
		}
	}
	return 0;
}

static void answer(uint8_t type, uint16_t packet, uint8_t code)
{
	const char bytes[] = {(char)type, code ? 3 : 2, (char)(packet >> 8), (char)(packet & 0xff), (char)code};

	text_add(&answers, bytes, code ? 5 : 4);
}

/* Whether the reader calls it wrong; one that has a packet identifier is received all the same. */
static bool is_passed_over(const uint8_t *bytes, size_t size)
{
	struct packets_packet packet;
	struct packets_publish publish;
	uint8_t *copy = malloc(size);
	const char *wrong;

	require(copy != NULL, "no memory");
	memcpy(copy, bytes, size);
	require(packets_find(copy, size, &packet) == (long)size, "no packet");
	wrong = packets_read_publish(&packet, &publish);
	free(copy);
	if (wrong && publish.packet) {
		known[publish.packet] |= publish.qos == 2;
		answer(publish.qos == 1 ? 0x40 : 0x50, publish.packet, 0);
	}
	return wrong != NULL;
}

/* What it does with a well-formed packet; of another one the connection takes no notice but that it ends. */
static void receive_naively(const uint8_t *packet, size_t size, size_t head)
{
	uint8_t qos = packet[0] >> 1 & 3;
	uint16_t number, topic;
	size_t at = head, properties = 0, shift = 0;

	if (size - head < 2) {
		return;
	}
	topic = number = (uint16_t)(packet[head] << 8 | packet[head + 1]);
	switch (packet[0] >> 4) {
	case PACKETS_PUBLISH:
		if (is_passed_over(packet, size)) {
			break;
		}
		at += 2U + topic;
		if (qos) {
			if (at + 2 > size) {
				return;
			}
			number = (uint16_t)(packet[at] << 8 | packet[at + 1]);
			at += 2;
		}
		do {
			if (at >= size || shift > 21) {
				return;
			}
			properties |= (size_t)(packet[at] & 0x7f) << shift;
			shift += 7;
		} while (packet[at++] >= 0x80);
		if (at + properties > size) {
			return;
		}
		if (qos != 2 || !(packet[0] & 8) || !known[number]) {
			add(&expected, topic, qos, size - at - properties);
		}
		if (qos == 2) {
			known[number] = true;
		}
		if (qos) {
			answer(qos == 1 ? 0x40 : 0x50, number, 0);
		}
		break;
	case PACKETS_PUBREL:
		answer(0x70, number, known[number] ? 0 : 0x92);
		known[number] = false;
		break;
	case PACKETS_SUBACK:
	case PACKETS_UNSUBACK:
		at += 2;
		do {
			if (at >= size || shift > 21) {
				return;
			}
			properties |= (size_t)(packet[at] & 0x7f) << shift;
			shift += 7;
		} while (packet[at++] >= 0x80);
		if (at + properties < size) {
			add(&expected, number, 9, packet[at + properties]);
		}
		break;
	default:
		break;
	}
}

static bool begins_with(const struct text *whole_text, const struct text *part)
{
	return part->length <= whole_text->length &&
			(!part->length || memcmp(whole_text->data, part->data, part->length) == 0);
}

/* ---- one connection of several ---- */

static void compare(const uint8_t *data, size_t size, bool alive)
{
	size_t at = 0, head = 0, length;
	bool first = true;

	while ((length = whole(data + at, size - at, &head)) > 0) {
		if (!first) {
			receive_naively(data + at, length, head);
		}
		first = false;
		at += length;
	}
	/* CONNECT went before the answers, DISCONNECT may come behind them. */
	require(wire.written.length > 2 && (uint8_t)wire.written.data[0] == 0x10, "no CONNECT");
	length = 2U + (uint8_t)wire.written.data[1];
	wire.written.length -= length;
	memmove(wire.written.data, wire.written.data + length, wire.written.length);
	if (alive) {
		require(handed_over.length == expected.length && begins_with(&expected, &handed_over),
				"not what was to be handed over");
		require(wire.written.length == answers.length && begins_with(&answers, &wire.written),
				"not the answers that were due");
		return;
	}
	require(begins_with(&expected, &handed_over), "handed over what was not to be");
	/* What was not written yet got lost. */
	if (wire.written.length >= 3 && (uint8_t)wire.written.data[wire.written.length - 3] == 0xe0) {
		wire.written.length -= 3;
	}
	require(begins_with(&answers, &wire.written), "an answer that was not due");
}

static void forget(void)
{
	text_free(&handed_over);
	text_free(&expected);
	text_free(&answers);
	text_free(&wire.written);
}

/* Returns whether the connection is still there at the end. */
static bool connect_and_receive(struct connection *connection, const uint8_t *data, size_t size, size_t piece)
{
	bool alive = true;
	unsigned int idle = 0;

	accepted = false;
	wire.bytes = data;
	wire.length = size;
	wire.piece = piece;
	require(connection_connect(connection, 1), "cannot connect");
	while (alive && idle < 2) {
		idle = wire.length || connection_has_more(connection) ? 0 : idle + 1;
		alive = connection_handle(connection, 1 + (unsigned int)piece % 5);
	}
	compare(data, size, alive);
	connection_disconnect(connection, false);
	forget();
	return alive;
}

static void fuzz_mqtt(bool with_connack, const uint8_t *data, size_t size, size_t piece)
{
	static const struct options options = {
		.host = (char *)(uintptr_t)"/", .client_id = (char *)(uintptr_t)"me"};
	static const struct connection_events events = {
		on_connected, on_acknowledged, on_message, on_passed_over};
	static const uint8_t connack[] = {0x20, 3, 1, 0, 0};
	struct connection *connection = connection_new(&options, &events, NULL);
	uint8_t *copy = malloc(size + sizeof(connack));
	const uint8_t *end;
	size_t length;

	require(connection && copy, "no memory");
	memset(known, 0, sizeof(known));
	for (;;) {
		end = size ? memmem(data, size, "\xf0\0", 2) : NULL;
		length = end ? (size_t)(end - data) : size;
		memcpy(copy, connack, sizeof(connack));
		if (length) {
			memcpy(copy + (with_connack ? sizeof(connack) : 0), data, length);
		}
		/* After an end in the middle the naive receiver knows more than was handed over. */
		if (!connect_and_receive(connection, copy, length + (with_connack ? sizeof(connack) : 0), piece) ||
				!end) {
			break;
		}
		data += length + 2;
		size -= length + 2;
	}
	connection_free(connection);
	free(copy);
	forget();
}

/* ---- websockets ---- */

/* Everything that comes out, however it was cut. False: it ended. */
static bool receive_frames(const uint8_t *data, size_t size, size_t piece, struct text *ret_bytes,
		struct text *ret_out)
{
	static struct websocket websocket;
	unsigned char bytes[256];
	size_t count;
	long taken = 0;

	memset(&websocket, 0, sizeof(websocket));
	/* The first part is the HTTP answer's, as long as it is one. */
	websocket.is_open = !(size && data[0] == 'H');
	while (size && taken >= 0) {
		count = size < piece ? size : piece;
		memcpy(bytes, data, count);
		taken = websocket_receive(&websocket, bytes, count);
		require(taken <= (long)count, "more came out than went in");
		if (taken > 0) {
			text_add(ret_bytes, (const char *)bytes, (size_t)taken);
		}
		data += count;
		size -= count;
	}
	require(taken >= 0 || websocket.reason[0], "an end without a reason");
	text_addf(ret_out, "%zu", websocket.out.length);
	websocket_end(&websocket);
	return taken >= 0;
}

static void fuzz_websocket(const uint8_t *data, size_t size, size_t piece)
{
	struct text one = {0}, other = {0}, one_out = {0}, other_out = {0};
	bool ok = receive_frames(data, size, 1, &one, &one_out);

	require(ok == receive_frames(data, size, piece, &other, &other_out), "cut otherwise it ends otherwise");
	/* Where it ends, the rest of a piece is not handed over. */
	require(ok ? one.length == other.length : one.length >= other.length,
			"cut otherwise, more or less comes out");
	require(begins_with(&one, &other), "cut otherwise, something else comes out");
	require(!ok || strcmp(one_out.data, other_out.data) == 0, "cut otherwise, it is answered otherwise");
	text_free(&one);
	text_free(&other);
	text_free(&one_out);
	text_free(&other_out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece;

	if (size < 2) {
		return 0;
	}
	piece = 1U + data[1];
	if (data[0] & 1) {
		fuzz_websocket(data + 2, size - 2, piece);
	} else {
		fuzz_mqtt(data[0] & 2, data + 2, size - 2, piece);
	}
	return 0;
}
