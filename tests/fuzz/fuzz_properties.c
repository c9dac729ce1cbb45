/* Bytes → a list as Mosquitto makes it → bytes again: the same, as far as they are properties and the broker
 * takes them. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* A string ends for Mosquitto at the first NUL. Python lets none through. */
static void add_string(struct text *bytes, const char *value, size_t length)
{
	char head[2];

	length = length ? strnlen(value, length) : 0;
	head[0] = (char)(length >> 8);
	head[1] = (char)(length & 0xff);
	text_add(bytes, head, 2);
	text_add(bytes, length ? value : "", length);
}

/* Mosquitto looks at all strings but the value of a pair. It is given a copy that ends, as the plugin gives
 * it one: of a character that is cut short it reads what is behind the length it was told. */
static int is_refused(const char *value, size_t length)
{
	char *copy = text_copy(length ? value : "", length);
	int refused;

	require(copy != NULL, "no memory");
	refused = mosquitto_validate_utf8(copy, (int)strlen(copy)) != MOSQ_ERR_SUCCESS;
	free(copy);
	return refused;
}

/* What is to come back. Returns whether the broker takes it. */
static int expect(const uint8_t *data, size_t size, struct text *expected)
{
	const unsigned char *at = data, *end = data + size, *before;
	struct property property;
	char identifier;

	while (at < end) {
		before = at;
		if (!properties_take(&at, end, &property)) {
			return 0;
		}
		require(at > before && at <= end, "took what is not there");
		require(!property.value_length ||
						((const unsigned char *)property.value >= before &&
								(const unsigned char *)property.value + property.value_length <= at),
				"a value that is not in the property");
		require(!property.name_length ||
						((const unsigned char *)property.name >= before &&
								(const unsigned char *)property.name + property.name_length <= at),
				"a name that is not in the property");
		identifier = (char)property.identifier;
		switch (property.identifier) {
		case MQTT_PROP_CONTENT_TYPE:
		case MQTT_PROP_RESPONSE_TOPIC:
			if (is_refused(property.value, property.value_length)) {
				return 0;
			}
			text_add(expected, &identifier, 1);
			add_string(expected, property.value, property.value_length);
			break;
		case MQTT_PROP_USER_PROPERTY:
			if (is_refused(property.name, property.name_length)) {
				return 0;
			}
			text_add(expected, &identifier, 1);
			add_string(expected, property.name, property.name_length);
			add_string(expected, property.value, property.value_length);
			break;
		default:
			text_add(expected, (const char *)before, (size_t)(at - before));
			break;
		}
	}
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct properties_reader reader;
	mosquitto_property *list = NULL;
	struct text expected = {0}, read = {0};
	int rc;

	if (!reader.next) {
		require(properties_find_reader(&reader, RTLD_DEFAULT), "no reader");
		require(properties_reader_agrees(&reader), "a reader of another version");
	}
	rc = properties_make(data, size, &list);
	require((rc == MOSQ_ERR_SUCCESS) == expect(data, size, &expected),
			"taken or refused otherwise than expected");
	require(rc == MOSQ_ERR_SUCCESS || (rc == MOSQ_ERR_INVAL && !list), "refused, and something is left");
	if (rc == MOSQ_ERR_SUCCESS) {
		properties_read(&reader, list, &read);
		require(!read.failed && read.length == expected.length &&
						(!read.length || memcmp(read.data, expected.data, read.length) == 0),
				"not what it was");
	}
	mosquitto_property_free_all(&list);
	text_free(&expected);
	text_free(&read);
	return 0;
}
