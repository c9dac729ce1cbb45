/* MQTT 5 properties of a PUBLISH, as they travel between the threads: identifier and value, one after the
 * other, as on the wire (MQTT 5, 2.2.2.2), without the length in front. None are no bytes.
 *
 * Here Mosquitto's lists are read and made; python/mqttasgi/_properties.py and pymessage.c do the same for
 * Python. Functions without a word about threads are for any. */
#ifndef MQTTASGI_PROPERTIES_H
#define MQTTASGI_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* What a PUBLISH brings its receiver (MQTT 5, 3.3.2.3), one row for each property: its identifier
 * (MQTT_PROP_*), how its value is written (PROPERTY_*, MQTT 5, 1.5), its name in Python, and whether the
 * broker may send it to the plugin's session: a Topic Alias it may not, because the session's CONNECT allows
 * none (3.1.2.11.5). User properties, of which there may be several, are apart.
 *
 * The order is that of the identifiers, as in python/mqttasgi/_properties.py, which has the same with the
 * checks of what applications send; a test compares them. A kind of value that no row has so far also needs
 * its cases in properties.c, with its function in struct properties_reader, in packets.c, which has the kinds
 * of all packets, and in pymessage.c. */
/* clang-format off */
#define PROPERTIES(PROPERTY) \
	PROPERTY(PAYLOAD_FORMAT_INDICATOR, BYTE, "payload_format_indicator", true) \
	PROPERTY(MESSAGE_EXPIRY_INTERVAL, FOUR, "message_expiry_interval", true) \
	PROPERTY(CONTENT_TYPE, STRING, "content_type", true) \
	PROPERTY(RESPONSE_TOPIC, STRING, "response_topic", true) \
	PROPERTY(CORRELATION_DATA, BINARY, "correlation_data", true)
/* clang-format on */

enum property_kind {
	PROPERTY_NONE,
	PROPERTY_BYTE,
	PROPERTY_FOUR,
	PROPERTY_STRING,
	PROPERTY_BINARY,
	PROPERTY_PAIR
};

/* Identifiers are below. */
#define PROPERTIES_END 64

/* A buffer for the properties of one message is kept for the next up to so many bytes. */
#define PROPERTIES_ROOM 65536U

/* The functions that read a list. Mosquitto 2.0 offers a plugin those that make one, and not these, which the
 * client library has. */
struct properties_reader {
	const mosquitto_property *(*next)(const mosquitto_property *);
	int (*identifier)(const mosquitto_property *);
	const mosquitto_property *(*read_byte)(const mosquitto_property *, int, uint8_t *, bool);
	const mosquitto_property *(*read_int32)(const mosquitto_property *, int, uint32_t *, bool);
	const mosquitto_property *(*read_string)(const mosquitto_property *, int, char **, bool);
	const mosquitto_property *(*read_binary)(const mosquitto_property *, int, void **, uint16_t *, bool);
	const mosquitto_property *(*read_string_pair)(const mosquitto_property *, int, char **, char **, bool);
	void (*release)(void *); /* what they return */
};

/* One property. What it points to is part of the bytes it was found in. */
struct property {
	uint8_t identifier;      /* below PROPERTIES_END */
	enum property_kind kind; /* which is not PROPERTY_NONE */
	uint32_t number;         /* of a byte or a four byte integer */
	const char *value;       /* of a string, a pair or binary data; not terminated */
	size_t value_length;
	const char *name; /* of a pair */
	size_t name_length;
};

/* Looks the functions up in what dlopen() has returned, or RTLD_DEFAULT. Returns whether they are there. */
bool properties_find_reader(struct properties_reader *reader, void *library)
		__attribute__((warn_unused_result));

/* Whether the reader understands the lists that the broker makes: one from another version might not. Broker
 * thread. */
bool properties_reader_agrees(const struct properties_reader *reader);

/* Adds what list has of a PUBLISH's properties for its receiver. Memory that runs out shows in bytes. On the
 * thread that owns the list. */
void properties_read(const struct properties_reader *reader, const mosquitto_property *list,
		struct text *bytes);

/* Makes a list for mosquitto_broker_publish(). MOSQ_ERR_SUCCESS: *ret_list is the caller's (NULL for no
 * bytes); MOSQ_ERR_NOMEM; MOSQ_ERR_INVAL: the broker refuses a value. Broker thread. */
int properties_make(const void *bytes, size_t length, mosquitto_property **ret_list)
		__attribute__((warn_unused_result));

/* Takes the first property off *at, which ends at end. False: there is none, or what is there is none. */
bool properties_take(const unsigned char **at, const unsigned char *end, struct property *ret_property);

#endif
