#include "shared/properties.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define KIND(identifier, kind, name, comes) [MQTT_PROP_##identifier] = PROPERTY_##kind,

static const enum property_kind kinds[PROPERTIES_END] = {
	PROPERTIES(KIND)[MQTT_PROP_USER_PROPERTY] = PROPERTY_PAIR,
};

/* PROPERTY_NONE: it is none that a receiver gets. A topic alias or a subscription identifier is between the
 * broker and one of its clients. */
static enum property_kind kind_of(uint32_t identifier)
{
	return identifier < PROPERTIES_END ? kinds[identifier] : PROPERTY_NONE;
}

/* ---- bytes ---- */

static void add_number(struct text *bytes, uint32_t number, unsigned int size)
{
	char byte;

	while (size-- > 0) {
		byte = (char)(number >> (8 * size) & 0xff);
		text_add(bytes, &byte, 1);
	}
}

/* A string or binary data, with its two byte length (MQTT 5, 1.5.4 and 1.5.6). */
static void add_value(struct text *bytes, const void *value, size_t length)
{
	add_number(bytes, (uint32_t)length, 2);
	text_add(bytes, value ? value : "", length);
}

static bool take_number(const unsigned char **at, const unsigned char *end, unsigned int size,
		uint32_t *ret_number)
{
	uint32_t number = 0;

	if ((size_t)(end - *at) < size) {
		return false;
	}
	while (size-- > 0) {
		number = number << 8 | *(*at)++;
	}
	*ret_number = number;
	return true;
}

static bool take_value(const unsigned char **at, const unsigned char *end, const char **ret_value,
		size_t *ret_length)
{
	uint32_t length;

	if (!take_number(at, end, 2, &length) || (size_t)(end - *at) < length) {
		return false;
	}
	*ret_value = (const char *)*at;
	*ret_length = length;
	*at += length;
	return true;
}

bool properties_take(const unsigned char **at, const unsigned char *end, struct property *ret_property)
{
	struct property property = {0};
	uint32_t identifier;
	bool ok = false;

	if (!take_number(at, end, 1, &identifier)) {
		return false;
	}
	property.identifier = (uint8_t)identifier;
	property.kind = kind_of(identifier);
	switch (property.kind) {
	case PROPERTY_BYTE:
		ok = take_number(at, end, 1, &property.number);
		break;
	case PROPERTY_FOUR:
		ok = take_number(at, end, 4, &property.number);
		break;
	case PROPERTY_STRING:
	case PROPERTY_BINARY:
		ok = take_value(at, end, &property.value, &property.value_length);
		break;
	case PROPERTY_PAIR:
		ok = take_value(at, end, &property.name, &property.name_length) &&
				take_value(at, end, &property.value, &property.value_length);
		break;
	case PROPERTY_NONE:
		break;
	}
	if (ok) {
		*ret_property = property;
	}
	return ok;
}

/* ---- from Mosquitto ---- */

bool properties_find_reader(struct properties_reader *reader, void *library)
{
	*(void **)&reader->next = dlsym(library, "mosquitto_property_next");
	*(void **)&reader->identifier = dlsym(library, "mosquitto_property_identifier");
	*(void **)&reader->read_byte = dlsym(library, "mosquitto_property_read_byte");
	*(void **)&reader->read_int32 = dlsym(library, "mosquitto_property_read_int32");
	*(void **)&reader->read_string = dlsym(library, "mosquitto_property_read_string");
	*(void **)&reader->read_binary = dlsym(library, "mosquitto_property_read_binary");
	*(void **)&reader->read_string_pair = dlsym(library, "mosquitto_property_read_string_pair");
	/* What the broker's own functions allocate counts as its memory; what those of the client library of 2.0
	 * do is plain. */
	*(void **)&reader->release = dlsym(library, "mosquitto_free");
	if (!reader->release) {
		reader->release = free;
	}
	return reader->next && reader->identifier && reader->read_byte && reader->read_int32 &&
			reader->read_string && reader->read_binary && reader->read_string_pair;
}

/* Strings have no NUL in them: Mosquitto refuses those that do. */
static void read_strings(const struct properties_reader *reader, const mosquitto_property *property,
		int identifier, struct text *bytes)
{
	char *name = NULL, *value = NULL;
	const mosquitto_property *found;

	if (identifier == MQTT_PROP_USER_PROPERTY) {
		found = reader->read_string_pair(property, identifier, &name, &value, false);
	} else {
		found = reader->read_string(property, identifier, &value, false);
	}
	if (!found) {
		bytes->failed = true;
		return;
	}
	add_number(bytes, (uint32_t)identifier, 1);
	/* An empty one comes as NULL from Mosquitto 2.1. */
	if (identifier == MQTT_PROP_USER_PROPERTY) {
		add_value(bytes, name, name ? strlen(name) : 0);
	}
	add_value(bytes, value, value ? strlen(value) : 0);
	reader->release(name);
	reader->release(value);
}

static void read_binary(const struct properties_reader *reader, const mosquitto_property *property,
		int identifier, struct text *bytes)
{
	uint16_t length = 0;
	void *value = NULL;

	if (!reader->read_binary(property, identifier, &value, &length, false)) {
		bytes->failed = true;
		return;
	}
	add_number(bytes, (uint32_t)identifier, 1);
	add_value(bytes, value, length);
	reader->release(value);
}

void properties_read(const struct properties_reader *reader, const mosquitto_property *list,
		struct text *bytes)
{
	uint32_t number;
	uint8_t byte;
	int identifier;

	/* Each is read as the first of its kind in the rest of the list. */
	for (; list; list = reader->next(list)) {
		identifier = reader->identifier(list);
		switch (kind_of((uint32_t)identifier)) {
		case PROPERTY_BYTE:
			if (reader->read_byte(list, identifier, &byte, false)) {
				add_number(bytes, (uint32_t)identifier, 1);
				add_number(bytes, byte, 1);
			}
			break;
		case PROPERTY_FOUR:
			if (reader->read_int32(list, identifier, &number, false)) {
				add_number(bytes, (uint32_t)identifier, 1);
				add_number(bytes, number, 4);
			}
			break;
		case PROPERTY_STRING:
		case PROPERTY_PAIR:
			read_strings(reader, list, identifier, bytes);
			break;
		case PROPERTY_BINARY:
			read_binary(reader, list, identifier, bytes);
			break;
		case PROPERTY_NONE:
			break;
		}
	}
}

/* ---- to Mosquitto ---- */

static int make_strings(const struct property *property, mosquitto_property **list)
{
	char *value = text_copy(property->value, property->value_length);
	char *name = property->name ? text_copy(property->name, property->name_length) : NULL;
	int rc = MOSQ_ERR_NOMEM;

	if (value && (name || !property->name)) {
		rc = property->name ? mosquitto_property_add_string_pair(list, property->identifier, name, value)
							: mosquitto_property_add_string(list, property->identifier, value);
	}
	free(name);
	free(value);
	return rc;
}

static int make_one(const struct property *property, mosquitto_property **list)
{
	switch (property->kind) {
	case PROPERTY_BYTE:
		return mosquitto_property_add_byte(list, property->identifier, (uint8_t)property->number);
	case PROPERTY_FOUR:
		return mosquitto_property_add_int32(list, property->identifier, property->number);
	case PROPERTY_BINARY:
		return mosquitto_property_add_binary(list, property->identifier, property->value,
				(uint16_t)property->value_length);
	default:
		return make_strings(property, list);
	}
}

int properties_make(const void *bytes, size_t length, mosquitto_property **ret_list)
{
	const unsigned char *at = length ? bytes : NULL, *end = length ? at + length : NULL;
	mosquitto_property *list = NULL;
	struct property property;
	int rc = MOSQ_ERR_SUCCESS;

	while (rc == MOSQ_ERR_SUCCESS && at < end) {
		rc = properties_take(&at, end, &property) ? make_one(&property, &list) : MOSQ_ERR_INVAL;
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		mosquitto_property_free_all(&list);
		return rc == MOSQ_ERR_NOMEM ? rc : MOSQ_ERR_INVAL;
	}
	*ret_list = list;
	return MOSQ_ERR_SUCCESS;
}

bool properties_reader_agrees(const struct properties_reader *reader)
{
	static const unsigned char bytes[] = {
		MQTT_PROP_PAYLOAD_FORMAT_INDICATOR,
		1,
		MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
		1,
		2,
		3,
		4,
		MQTT_PROP_CONTENT_TYPE,
		0,
		1,
		't',
		MQTT_PROP_CORRELATION_DATA,
		0,
		2,
		0,
		'c',
		MQTT_PROP_USER_PROPERTY,
		0,
		1,
		'n',
		0,
		2,
		'v',
		'v',
	};
	mosquitto_property *list;
	struct text read = {0};
	bool agrees;

	if (properties_make(bytes, sizeof(bytes), &list) != MOSQ_ERR_SUCCESS) {
		return false;
	}
	properties_read(reader, list, &read);
	agrees = read.length == sizeof(bytes) && memcmp(read.data, bytes, sizeof(bytes)) == 0;
	mosquitto_property_free_all(&list);
	text_free(&read);
	return agrees;
}
