/* The client's side of a WebSocket connection (RFC 6455) that carries MQTT (MQTT 5, 6): bytes to bytes,
 * without a socket.
 *
 * websocket_begin() gives the HTTP request; from then on what comes goes through websocket_receive(), and
 * what is to be sent through websocket_send(). What itself has to be sent, the request, frames and the
 * answers to a PING, collects in `out`. Nothing that comes is believed, and nothing is kept of it but the
 * head of the HTTP answer, up to a bound. One thread. */
#ifndef MQTTASGI_WEBSOCKET_H
#define MQTTASGI_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/text.h"

#define WEBSOCKET_HEAD_MAX 8192U
/* Bytes that one call of websocket_send() takes at most. */
#define WEBSOCKET_SEND_MAX 16384U

struct websocket {
	struct text out; /* to be sent: from out_at on */
	size_t out_at;
	bool is_open;      /* the HTTP answer has come */
	char expected[32]; /* Sec-WebSocket-Accept */
	char head[WEBSOCKET_HEAD_MAX + 1];
	size_t head_length;
	unsigned char frame_head[10];
	size_t frame_head_length;
	uint64_t frame_left; /* payload of the frame that has not come */
	uint8_t frame_opcode;
	bool in_frame;
	bool in_message; /* its last frame has not come */
	unsigned char control[125];
	size_t control_length;
	char reason[200]; /* why it has ended, as the end of a sentence */
};

/* Takes a zeroed struct, or one that was ended. False: no memory, or no random numbers; reason says it. */
bool websocket_begin(struct websocket *websocket, const char *host, uint16_t port)
		__attribute__((warn_unused_result));

/* Takes length bytes that came, and leaves in their place what MQTT gets of them. Returns how many these are;
 * -1: it has ended, or what comes is wrong; reason says it. */
long websocket_receive(struct websocket *websocket, unsigned char *bytes, size_t length)
		__attribute__((warn_unused_result));

/* Puts the first of these bytes into a frame in `out`, which has to be empty. Returns how many; -1: no
 * memory. */
long websocket_send(struct websocket *websocket, const void *bytes, size_t length)
		__attribute__((warn_unused_result));

/* Frees what it holds. */
void websocket_end(struct websocket *websocket);

#endif
