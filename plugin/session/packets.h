/* MQTT 5 packets as bytes: those that a broker sends are read, those that a client sends are written.
 *
 * Nothing that comes is believed: each length is checked against what is there, strings are UTF-8 without
 * NUL, properties are those that their packet may have. What is read points into the packet's own bytes,
 * which are changed on the way (a topic gets its terminator), so a packet is read once. Nothing is allocated
 * but what is written. Any thread. */
#ifndef MQTTASGI_PACKETS_H
#define MQTTASGI_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text;

enum packets_type {
	PACKETS_CONNECT = 1,
	PACKETS_CONNACK,
	PACKETS_PUBLISH,
	PACKETS_PUBACK,
	PACKETS_PUBREC,
	PACKETS_PUBREL,
	PACKETS_PUBCOMP,
	PACKETS_SUBSCRIBE,
	PACKETS_SUBACK,
	PACKETS_UNSUBSCRIBE,
	PACKETS_UNSUBACK,
	PACKETS_PINGREQ,
	PACKETS_PINGRESP,
	PACKETS_DISCONNECT,
	PACKETS_AUTH,
};

/* The largest that there can be, with its header (MQTT 5, 2.1.4). */
#define PACKETS_SIZE_MAX (268435455U + 5U)

struct packets_packet {
	uint8_t type;
	uint8_t flags;
	unsigned char *body;
	size_t length; /* of the body */
};

struct packets_connack {
	bool session_present;
	bool is_old; /* a refusal by a broker that does not know MQTT 5 */
	uint8_t code;
	bool has_keep_alive;
	uint16_t keep_alive; /* seconds */
	uint32_t size_max;   /* of a packet that the broker takes */
	const char *reason;  /* not terminated; NULL: none */
	size_t reason_length;
};

struct packets_publish {
	const char *topic; /* terminated */
	const void *payload;
	size_t payload_length;
	const void *properties; /* see properties.h; NULL: none */
	size_t properties_length;
	uint32_t subscription; /* the first subscription identifier; 0: none */
	uint16_t packet;       /* 0 with QoS 0 */
	uint8_t qos;
	bool dup;
	bool retain;
};

/* PUBREL, SUBACK, UNSUBACK, DISCONNECT. */
struct packets_answer {
	uint16_t packet;    /* 0 in DISCONNECT */
	uint8_t code;       /* the first one */
	const char *reason; /* not terminated; NULL: none */
	size_t reason_length;
};

/* Finds the packet that bytes begin with. Returns its size, 0 where it is not complete, -1 where its length
 * is none. */
long packets_find(unsigned char *bytes, size_t length, struct packets_packet *ret_packet)
		__attribute__((warn_unused_result));

/* Returns NULL, or what is wrong with the packet, as the end of a sentence. */
const char *packets_read_connack(const struct packets_packet *packet, struct packets_connack *ret_connack)
		__attribute__((warn_unused_result));
/* Where something is wrong, QoS, DUP and packet identifier are there all the same, as far as they can be
 * read: with them it can be acknowledged. */
const char *packets_read_publish(const struct packets_packet *packet, struct packets_publish *ret_publish)
		__attribute__((warn_unused_result));
const char *packets_read_answer(const struct packets_packet *packet, struct packets_answer *ret_answer)
		__attribute__((warn_unused_result));

/* What a reason code means (MQTT 5, 2.4), or one of MQTT 3's in a CONNACK. */
const char *packets_reason(uint8_t code, bool is_old);

struct packets_connect {
	const char *client_id;
	const char *username; /* NULL: none */
	const char *password;
	uint16_t keep_alive;
	uint32_t session_expiry;
	uint16_t receive_maximum;
};

/* They add a packet to bytes, where memory that runs out shows. Without Clean Start. */
void packets_write_connect(struct text *bytes, const struct packets_connect *connect);
/* PUBACK, PUBREC, PUBCOMP. */
void packets_write_answer(struct text *bytes, enum packets_type type, uint16_t packet, uint8_t code);
/* options is the byte of Subscription Options (MQTT 5, 3.8.3.1). */
void packets_write_subscribe(struct text *bytes, uint16_t packet, const char *filter, uint32_t identifier,
		uint8_t options);
void packets_write_unsubscribe(struct text *bytes, uint16_t packet, const char *filter);
void packets_write_ping(struct text *bytes);
void packets_write_disconnect(struct text *bytes, uint8_t code, bool end_session);

#endif
