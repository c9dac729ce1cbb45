#include "session/websocket.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* RFC 6455, 1.3 */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
/* Where Mosquitto's own client asks; a listener of Mosquitto's answers anywhere. */
#define PATH "/mqtt"

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static long fail(struct websocket *websocket, const char *reason)
{
	(void)snprintf(websocket->reason, sizeof(websocket->reason), "%s", reason);
	return -1;
}

/* ---- the HTTP handshake ---- */

/* What the server makes of key (RFC 6455, 4.2.2). */
static bool expect_accept(struct websocket *websocket, const char *key)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length;
	char both[64 + sizeof(GUID)];

	(void)snprintf(both, sizeof(both), "%s%s", key, GUID);
	if (!EVP_Digest(both, strlen(both), digest, &length, EVP_sha1(), NULL) || length != 20) {
		return false;
	}
	(void)EVP_EncodeBlock((unsigned char *)websocket->expected, digest, (int)length);
	return true;
}

bool websocket_begin(struct websocket *websocket, const char *host, uint16_t port)
{
	unsigned char random[16];
	char key[32];

	websocket_end(websocket);
	if (RAND_bytes(random, sizeof(random)) != 1) {
		(void)fail(websocket, "there are no random numbers for the websockets' handshake");
		return false;
	}
	(void)EVP_EncodeBlock((unsigned char *)key, random, (int)sizeof(random));
	if (!expect_accept(websocket, key)) {
		(void)fail(websocket, "SHA-1 is not there for the websockets' handshake");
		return false;
	}
	text_addf(&websocket->out,
			"GET " PATH " HTTP/1.1\r\nHost: %s%s%s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n",
			strchr(host, ':') ? "[" : "", host, strchr(host, ':') ? "]" : "", port, key);
	if (websocket->out.failed) {
		(void)fail(websocket, "no memory");
		return false;
	}
	return true;
}

/* The value of a line `name: value`, cut to what counts of it; NULL: the head has none of that name. */
static const char *header(const char *head, const char *name, size_t *ret_length)
{
	size_t name_length = strlen(name);
	const char *line, *value, *end;

	for (line = strstr(head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
		if (strncasecmp(line + 2, name, name_length) == 0 && line[2 + name_length] == ':') {
			value = line + 2 + name_length + 1;
			end = strstr(value, "\r\n");
			value += strspn(value, " \t");
			while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
				end--;
			}
			*ret_length = end > value ? (size_t)(end - value) : 0;
			return value;
		}
	}
	return NULL;
}

static bool header_is(const char *head, const char *name, const char *wanted, bool any_case)
{
	size_t length = 0;
	const char *value = header(head, name, &length);

	if (!value || length != strlen(wanted)) {
		return false;
	}
	return any_case ? strncasecmp(value, wanted, length) == 0 : strncmp(value, wanted, length) == 0;
}

static long check_answer(struct websocket *websocket)
{
	char *head = websocket->head, line[64];
	size_t i;

	if (strncmp(head, "HTTP/1.1 101", 12) != 0) {
		(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(head, "\r\n"), head);
		for (i = 0; line[i]; i++) {
			line[i] = line[i] < ' ' || line[i] > '~' ? '?' : line[i];
		}
		(void)snprintf(websocket->reason, sizeof(websocket->reason),
				"it does not speak websockets, it answers '%s'", line);
		return -1;
	}
	if (!header_is(head, "Upgrade", "websocket", true) ||
			!header_is(head, "Sec-WebSocket-Accept", websocket->expected, false)) {
		return fail(websocket, "its answer to the websockets' handshake is wrong");
	}
	if (!header_is(head, "Sec-WebSocket-Protocol", "mqtt", false)) {
		return fail(websocket, "it speaks websockets, but not MQTT over them");
	}
	websocket->is_open = true;
	return 0;
}

/* Takes what belongs to the head. Returns how many bytes that is, -1: it is wrong. */
static long take_head(struct websocket *websocket, const unsigned char *bytes, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		if (websocket->head_length == WEBSOCKET_HEAD_MAX || bytes[i] == '\0') {
			return fail(websocket, "its answer to the websockets' handshake is none");
		}
		websocket->head[websocket->head_length++] = (char)bytes[i];
		websocket->head[websocket->head_length] = '\0';
		if (websocket->head_length == 5 && strncmp(websocket->head, "HTTP/", 5) != 0) {
			return fail(websocket, "it does not speak websockets");
		}
		if (bytes[i] == '\n' && websocket->head_length >= 4 &&
				memcmp(websocket->head + websocket->head_length - 4, "\r\n\r\n", 4) == 0) {
			return check_answer(websocket) ? -1 : (long)i + 1;
		}
	}
	return (long)length;
}

/* ---- frames ---- */

/* A frame of the client's is masked (RFC 6455, 5.3). */
static bool add_frame(struct websocket *websocket, enum opcode opcode, const unsigned char *bytes,
		size_t length)
{
	unsigned char head[8], chunk[512];
	size_t head_length = 2, at, i, size;
	unsigned char *mask;

	head[0] = (unsigned char)(0x80 | opcode);
	if (length < 126) {
		head[1] = (unsigned char)(0x80 | length);
	} else {
		head[1] = 0x80 | 126;
		head[2] = (unsigned char)(length >> 8);
		head[3] = (unsigned char)(length & 0xff);
		head_length = 4;
	}
	mask = head + head_length;
	if (RAND_bytes(mask, 4) != 1) {
		return false;
	}
	text_add(&websocket->out, (const char *)head, head_length + 4);
	for (at = 0; at < length; at += size) {
		size = length - at < sizeof(chunk) ? length - at : sizeof(chunk);
		for (i = 0; i < size; i++) {
			chunk[i] = bytes[at + i] ^ mask[(at + i) % 4];
		}
		text_add(&websocket->out, (const char *)chunk, size);
	}
	return !websocket->out.failed;
}

/* Returns 1 when the head has come, 0: not yet, -1: it is wrong. */
static int take_frame_head(struct websocket *websocket, unsigned char byte)
{
	unsigned char *head = websocket->frame_head;
	size_t need, i;

	head[websocket->frame_head_length++] = byte;
	if (websocket->frame_head_length < 2) {
		return 0;
	}
	need = (head[1] & 0x7f) == 127 ? 10 : (head[1] & 0x7f) == 126 ? 4 : 2;
	if (websocket->frame_head_length < need) {
		return 0;
	}
	websocket->frame_left = need == 2 ? head[1] & 0x7f : 0;
	for (i = 2; i < need; i++) {
		websocket->frame_left = websocket->frame_left << 8 | head[i];
	}
	websocket->frame_opcode = head[0] & 0x0f;
	websocket->frame_head_length = 0;
	websocket->control_length = 0;
	if ((head[0] & 0x70) || (head[1] & 0x80) || websocket->frame_left >> 63) {
		return (int)fail(websocket, "a websocket frame came that no server sends");
	}
	if (websocket->frame_opcode >= CLOSE) {
		if (websocket->frame_opcode > PONG || !(head[0] & 0x80) ||
				websocket->frame_left > sizeof(websocket->control)) {
			return (int)fail(websocket, "a websocket control frame came that is none");
		}
		return 1;
	}
	if (websocket->frame_opcode > BINARY || websocket->frame_opcode == TEXT ||
			websocket->in_message != (websocket->frame_opcode == CONTINUATION)) {
		return (int)fail(websocket, "a websocket frame came that MQTT does not use");
	}
	websocket->in_message = !(head[0] & 0x80);
	return 1;
}

static bool end_control(struct websocket *websocket)
{
	if (websocket->frame_opcode == CLOSE) {
		(void)snprintf(websocket->reason, sizeof(websocket->reason),
				"the broker closed the websocket (code %d)",
				websocket->control_length >= 2 ? websocket->control[0] << 8 | websocket->control[1] : 0);
		return false;
	}
	/* One that nobody has read yet answers for this one, too (RFC 6455, 5.5.3): so they cannot pile up. */
	if (websocket->frame_opcode == PING && websocket->out.length - websocket->out_at < WEBSOCKET_SEND_MAX &&
			!add_frame(websocket, PONG, websocket->control, websocket->control_length)) {
		(void)fail(websocket, "no memory");
		return false;
	}
	return true;
}

/* Takes payload of the frame that is under way, and moves what is MQTT's to kept. Returns how much it
 * took. */
static size_t take_payload(struct websocket *websocket, const unsigned char *bytes, size_t length,
		unsigned char *kept, size_t *kept_length)
{
	size_t size = websocket->frame_left < length ? (size_t)websocket->frame_left : length;

	if (websocket->frame_opcode >= CLOSE) {
		memcpy(websocket->control + websocket->control_length, bytes, size);
		websocket->control_length += size;
	} else {
		memmove(kept + *kept_length, bytes, size);
		*kept_length += size;
	}
	websocket->frame_left -= size;
	return size;
}

long websocket_receive(struct websocket *websocket, unsigned char *bytes, size_t length)
{
	size_t at = 0, kept = 0;
	long taken;
	int rc;

	if (!websocket->is_open) {
		taken = take_head(websocket, bytes, length);
		if (taken < 0) {
			return -1;
		}
		at = (size_t)taken;
	}
	while (at < length) {
		if (!websocket->in_frame) {
			rc = take_frame_head(websocket, bytes[at++]);
			if (rc < 0) {
				return -1;
			}
			websocket->in_frame = rc > 0;
		} else {
			at += take_payload(websocket, bytes + at, length - at, bytes, &kept);
		}
		if (websocket->in_frame && websocket->frame_left == 0) {
			websocket->in_frame = false;
			if (websocket->frame_opcode >= CLOSE && !end_control(websocket)) {
				return -1;
			}
		}
	}
	return (long)kept;
}

long websocket_send(struct websocket *websocket, const void *bytes, size_t length)
{
	size_t size = length < WEBSOCKET_SEND_MAX ? length : WEBSOCKET_SEND_MAX;

	websocket->out.length = 0;
	websocket->out_at = 0;
	if (!add_frame(websocket, BINARY, bytes, size)) {
		return fail(websocket, "no memory");
	}
	return (long)size;
}

void websocket_end(struct websocket *websocket)
{
	text_free(&websocket->out);
	memset(websocket, 0, sizeof(*websocket));
}
