/* MQTT 5 properties of a PUBLISH, as they travel between the threads: identifier and value, one after the other, as on
 * the wire (MQTT 5, 2.2.2.2), without the length in front. None are no bytes.
 *
 * Here Mosquitto's lists are read and made; python/mqttasgi/_properties.py and pymessage.c do the same for Python.
 * Functions without a word about threads are for any. */
#ifndef MQTTASGI_PROPERTIES_H
#define MQTTASGI_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* A buffer for the properties of one message is kept for the next up to so many bytes. */
#define PROPERTIES_ROOM 65536U

/* The functions that read a list. Mosquitto 2.0 offers a plugin those that make one, and not these, which the client
 * library has. */
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
	uint8_t identifier;
	uint32_t number;         /* of a byte or a four byte integer */
	const char *value;       /* of a string, a pair or binary data; not terminated */
	size_t value_length;
	const char *name;        /* of a pair */
	size_t name_length;
};

/* Looks the functions up in what dlopen() has returned, or RTLD_DEFAULT. Returns whether they are there. */
bool properties_find_reader(struct properties_reader *reader, void *library) __attribute__((warn_unused_result));

/* Whether the reader understands the lists that the broker makes: one from another version might not. Broker thread. */
bool properties_reader_agrees(const struct properties_reader *reader);

/* Adds what list has of a PUBLISH's properties for its receiver. Memory that runs out shows in bytes. On the thread that
 * owns the list. */
void properties_read(const struct properties_reader *reader, const mosquitto_property *list, struct text *bytes);

/* Makes a list for mosquitto_broker_publish(). MOSQ_ERR_SUCCESS: *ret_list is the caller's (NULL for no bytes);
 * MOSQ_ERR_NOMEM; MOSQ_ERR_INVAL: the broker refuses a value. Broker thread. */
int properties_make(const void *bytes, size_t length, mosquitto_property **ret_list) __attribute__((warn_unused_result));

/* Takes the first property off *at, which ends at end. False: there is none, or what is there is none. */
bool properties_take(const unsigned char **at, const unsigned char *end, struct property *ret_property);

#endif
