#define _GNU_SOURCE
#include "wire.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_SIZE ((size_t)512 * 1024)
#define OUTPUT_MAX ((size_t)64 * 1024 * 1024)

/* First byte of a packet: type in the upper half. */
#define CONNECT 0x10
#define CONNACK 0x20
#define PUBLISH 0x30
#define RETAIN 0x01
#define PUBACK 0x40
#define SUBSCRIBE 0x82
#define SUBACK 0x90
#define DISCONNECT 0xe0

struct bytes {
	uint8_t *data;
	size_t begin, end, size;
};

struct wire {
	int fd;
	struct bytes input, output;
	uint16_t last_id;
	uint8_t subscribed_qos; /* of the SUBSCRIBE that waits for its answer */
	size_t subscribes_open;
	bool connected;
};

/* Makes room for length more bytes at the end. */
static uint8_t *output_reserve(struct wire *wire, size_t length)
{
	struct bytes *output = &wire->output;

	if (output->begin == output->end) {
		output->begin = output->end = 0;
	}
	if (output->end + length > output->size) {
		output->size = (output->end + length) * 2;
		if (output->size > OUTPUT_MAX) {
			die("The broker does not read: %zu bytes wait to be sent.", output->end - output->begin);
		}
		output->data = grow(output->data, output->size);
	}
	return output->data + output->end;
}

static void put_byte(struct wire *wire, unsigned int value)
{
	*output_reserve(wire, 1) = (uint8_t)value;
	wire->output.end++;
}

static void put_short(struct wire *wire, size_t value)
{
	put_byte(wire, (unsigned int)(value >> 8) & 0xff);
	put_byte(wire, (unsigned int)value & 0xff);
}

static void put_bytes(struct wire *wire, const void *data, size_t length)
{
	memcpy(output_reserve(wire, length), data, length);
	wire->output.end += length;
}

static void put_string(struct wire *wire, const char *text)
{
	size_t length = strlen(text);

	if (length > UINT16_MAX) {
		die("A topic or client id of %zu bytes does not fit into MQTT.", length);
	}
	put_short(wire, length);
	put_bytes(wire, text, length);
}

static void put_header(struct wire *wire, unsigned int first, size_t remaining)
{
	put_byte(wire, first);
	do {
		put_byte(wire, (unsigned int)(remaining & 0x7f) | (remaining > 0x7f ? 0x80 : 0));
		remaining >>= 7;
	} while (remaining > 0);
}

static void put_packet_id(struct wire *wire)
{
	wire->last_id = wire->last_id == UINT16_MAX ? 1 : (uint16_t)(wire->last_id + 1);
	put_short(wire, wire->last_id);
}

void wire_subscribe(struct wire *wire, const char *filter, uint8_t qos)
{
	put_header(wire, SUBSCRIBE, 2 + 2 + strlen(filter) + 1);
	put_packet_id(wire);
	put_string(wire, filter);
	put_byte(wire, qos);
	wire->subscribed_qos = qos;
	wire->subscribes_open++;
}

static void put_publish(struct wire *wire, unsigned int first, const char *topic, const uint8_t *payload,
		size_t length, uint8_t qos)
{
	put_header(wire, first | (unsigned int)qos << 1, 2 + strlen(topic) + (qos > 0 ? 2 : 0) + length);
	put_string(wire, topic);
	if (qos > 0) {
		put_packet_id(wire);
	}
	put_bytes(wire, payload, length);
}

void wire_publish(struct wire *wire, const char *topic, const uint8_t *payload, size_t length, uint8_t qos)
{
	put_publish(wire, PUBLISH, topic, payload, length, qos);
}

void wire_publish_retained(struct wire *wire, const char *topic, const uint8_t *payload, size_t length,
		uint8_t qos)
{
	put_publish(wire, PUBLISH | RETAIN, topic, payload, length, qos);
}

void wire_flush(struct wire *wire)
{
	struct bytes *output = &wire->output;

	while (output->begin < output->end) {
		ssize_t sent = send(wire->fd, output->data + output->begin, output->end - output->begin,
				MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR) {
			continue;
		}
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			return;
		}
		if (sent < 0) {
			die("Sending to the broker failed: %s.", strerror(errno));
		}
		output->begin += (size_t)sent;
	}
}

static void receive_some(struct wire *wire)
{
	struct bytes *input = &wire->input;
	ssize_t received;

	if (input->begin > 0) {
		memmove(input->data, input->data + input->begin, input->end - input->begin);
		input->end -= input->begin;
		input->begin = 0;
	}
	if (input->end == input->size) {
		die("The broker sent a packet of more than %zu bytes.", input->size);
	}
	received = recv(wire->fd, input->data + input->end, input->size - input->end, MSG_DONTWAIT);
	if (received == 0) {
		die("The broker closed the connection.");
	}
	if (received < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		die("Reading from the broker failed: %s.", strerror(errno));
	}
	if (received > 0) {
		input->end += (size_t)received;
	}
}

bool wire_wait(struct wire *const *wires, size_t count, int64_t deadline)
{
	struct pollfd polled[WIRES_MAX];
	int64_t left = deadline - now_ns();
	struct timespec timeout = {0};

	if (left > 0) {
		timeout.tv_sec = left / NS_PER_S;
		timeout.tv_nsec = left % NS_PER_S;
	}
	for (size_t i = 0; i < count; i++) {
		wire_flush(wires[i]);
		polled[i].fd = wires[i]->fd;
		polled[i].events = POLLIN;
		if (wires[i]->output.begin < wires[i]->output.end) {
			polled[i].events |= POLLOUT;
		}
	}
	if (ppoll(polled, (nfds_t)count, &timeout, NULL) <= 0) {
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (polled[i].revents & (POLLIN | POLLHUP | POLLERR)) {
			receive_some(wires[i]);
		}
	}
	return true;
}

/* One whole packet at the start of the input: its first byte, and its body in *ret_body. 0 when it is
 * incomplete. */
static uint8_t take_packet(struct wire *wire, const uint8_t **ret_body, size_t *ret_length)
{
	struct bytes *input = &wire->input;
	const uint8_t *packet = input->data + input->begin;
	size_t available = input->end - input->begin;
	size_t length = 0, header = 1;

	do {
		if (header >= available) {
			return 0;
		}
		if (header > 4) {
			die("The broker sent a packet without an end.");
		}
		length |= (size_t)(packet[header] & 0x7f) << (7 * (header - 1));
	} while (packet[header++] & 0x80);
	if (available - header < length) {
		return 0;
	}
	*ret_body = packet + header;
	*ret_length = length;
	input->begin += header + length;
	return packet[0];
}

static void parse_publish(struct wire *wire, uint8_t first, const uint8_t *body, size_t length,
		struct wire_message *ret_message)
{
	unsigned int qos = (first >> 1) & 3u;
	size_t topic_length = length < 2 ? 0 : (size_t)(body[0] << 8 | body[1]);
	size_t before_payload = 2 + topic_length + (qos > 0 ? 2 : 0);

	if (qos > 1 || before_payload > length) {
		die("The broker sent a PUBLISH that nobody asked for (QoS %u, %zu bytes).", qos, length);
	}
	if (qos == 1) {
		put_header(wire, PUBACK, 2);
		put_bytes(wire, body + 2 + topic_length, 2);
	}
	ret_message->topic = body + 2;
	ret_message->topic_length = topic_length;
	ret_message->payload = body + before_payload;
	ret_message->length = length - before_payload;
}

bool wire_take(struct wire *wire, struct wire_message *ret_message)
{
	const uint8_t *body;
	size_t length;
	uint8_t first;

	while ((first = take_packet(wire, &body, &length)) != 0) {
		switch (first & 0xf0) {
		case PUBLISH:
			parse_publish(wire, first, body, length, ret_message);
			return true;
		case PUBACK:
			break;
		case CONNACK:
			if (length != 2 || body[1] != 0) {
				die("The broker refused the connection, return code %d.", length == 2 ? body[1] : -1);
			}
			wire->connected = true;
			break;
		case SUBACK:
			if (length != 3 || body[2] != wire->subscribed_qos || wire->subscribes_open == 0) {
				die("The broker did not grant a subscription at QoS %u.", wire->subscribed_qos);
			}
			wire->subscribes_open--;
			break;
		default:
			die("The broker sent a packet that nobody asked for (first byte 0x%02x).", first);
		}
	}
	return false;
}

/* Takes and drops what arrives until nothing that was asked for is unanswered. */
static void await_answers(struct wire *wire, const char *request, int64_t timeout_ns)
{
	struct wire_message message;
	int64_t deadline = now_ns() + timeout_ns;

	for (;;) {
		while (wire_take(wire, &message)) {
		}
		if (wire->connected && wire->subscribes_open == 0) {
			return;
		}
		if (!wire_wait(&wire, 1, deadline) && now_ns() >= deadline) {
			die("The broker did not answer a %s within %lld ms.", request,
					(long long)(timeout_ns / NS_PER_MS));
		}
	}
}

void wire_await_subscribed(struct wire *wire, int64_t timeout_ns)
{
	await_answers(wire, "SUBSCRIBE", timeout_ns);
}

bool wire_message_is(const struct wire_message *message, const char *topic)
{
	return message->topic_length == strlen(topic) &&
			memcmp(message->topic, topic, message->topic_length) == 0;
}

static void dial(struct wire *wire, const char *host, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;

	if (strcmp(host, "localhost") == 0) {
		host = "127.0.0.1";
	}
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || ntohl(address.sin_addr.s_addr) >> 24 != 127) {
		die("Refusing the host '%s': the load is for this machine only (localhost or 127.x.x.x).", host);
	}
	wire->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (wire->fd < 0 || setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
		die("No socket: %s.", strerror(errno));
	}
	/* On loopback this succeeds or fails at once; a full backlog is bounded by the send timeout. */
	struct timeval patience = {.tv_sec = 5};
	if (setsockopt(wire->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
			connect(wire->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		die("Cannot connect to %s:%u: %s.", host, port, strerror(errno));
	}
}

struct wire *wire_open(const char *host, uint16_t port, const char *client_id, int64_t timeout_ns)
{
	struct wire *wire = grow(NULL, sizeof(*wire));

	*wire = (struct wire){.input = {.data = grow(NULL, INPUT_SIZE), .size = INPUT_SIZE}};
	dial(wire, host, port);
	put_header(wire, CONNECT, 10 + 2 + strlen(client_id));
	put_string(wire, "MQTT");
	put_byte(wire, 4);    /* protocol level: 3.1.1 */
	put_byte(wire, 0x02); /* clean session */
	put_short(wire, 0);   /* no keep-alive: a measurement is bounded by its own clock */
	put_string(wire, client_id);
	await_answers(wire, "CONNECT", timeout_ns);
	return wire;
}

void wire_close(struct wire *wire)
{
	if (wire == NULL) {
		return;
	}
	put_header(wire, DISCONNECT, 0);
	wire_flush(wire);
	close(wire->fd);
	free(wire->input.data);
	free(wire->output.data);
	free(wire);
}
