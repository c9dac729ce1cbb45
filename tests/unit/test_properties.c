/* Properties there and back through lists that the client library makes and reads; the broker's are the
 * same. */
#include "cmocka_all.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "scarce_memory.h"
#include "shared/properties.h"

/* As the specification has them: one of each, and a user property twice with another between. */
static const unsigned char written_out[] = {
	MQTT_PROP_PAYLOAD_FORMAT_INDICATOR,
	1,
	MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
	0xfe,
	0xdc,
	0xba,
	0x98,
	MQTT_PROP_CONTENT_TYPE,
	0,
	4,
	't',
	0xc3,
	0xa4,
	'e',
	MQTT_PROP_RESPONSE_TOPIC,
	0,
	3,
	'a',
	'/',
	'b',
	MQTT_PROP_CORRELATION_DATA,
	0,
	3,
	0,
	0xff,
	0,
	MQTT_PROP_USER_PROPERTY,
	0,
	1,
	'n',
	0,
	2,
	'v',
	'1',
	MQTT_PROP_USER_PROPERTY,
	0,
	1,
	'm',
	0,
	0,
	MQTT_PROP_USER_PROPERTY,
	0,
	1,
	'n',
	0,
	2,
	'v',
	'2',
};

/* One for each row of PROPERTIES, whose value is that of its kind, and the same user properties. */
static unsigned char all[1000];
static size_t all_length;

/* Where in `all` properties end, and which ones they are: sample i is from ends[i] to ends[i + 1]. */
static size_t ends[PROPERTIES_END], end_count;
static struct {
	unsigned char identifier;
	bool is_allocated; /* for who reads it */
} samples[PROPERTIES_END];

static void add(const void *bytes, size_t length)
{
	assert_true(all_length + length <= sizeof(all));
	memcpy(all + all_length, bytes, length);
	all_length += length;
}

/* Bytes of a value with its length in front, if that is part of it. */
static void add_sample(unsigned char identifier, bool has_length, const char *value, size_t length)
{
	/* That of a pair is its name's, of one byte. */
	const unsigned char before[] = {
		identifier, 0, (unsigned char)(identifier == MQTT_PROP_USER_PROPERTY ? 1 : length)};

	add(before, has_length ? 3 : 1);
	add(value, length);
	samples[end_count - 1].identifier = identifier;
	samples[end_count - 1].is_allocated = has_length;
	ends[end_count++] = all_length;
}

#define VALUE(bytes) bytes, sizeof(bytes) - 1
#define VALUE_BYTE(name) false, VALUE("\x01")
#define VALUE_FOUR(name) false, VALUE("\xfe\xdc\xba\x98")
#define VALUE_STRING(name) true, VALUE("\xc3\xa4/" name)
#define VALUE_BINARY(name) true, VALUE("\0\xff\0")
#define ADD_SAMPLE(identifier, kind, name, comes) add_sample(MQTT_PROP_##identifier, VALUE_##kind(name));

static void make_samples(void)
{
	all_length = 0;
	end_count = 1; /* ends[0] is 0 */
	/* clang-format off */
	PROPERTIES(ADD_SAMPLE)
	/* clang-format on */
	add_sample(MQTT_PROP_USER_PROPERTY, true, VALUE("n\0\x02v1"));
	add_sample(MQTT_PROP_USER_PROPERTY, true, VALUE("m\0\0"));
	add_sample(MQTT_PROP_USER_PROPERTY, true, VALUE("n\0\x02v2"));
}

/* ---- a reader that can be told to go wrong ---- */

static struct properties_reader library; /* the client library's own */
static struct {
	bool as_2_1;    /* an empty value is NULL */
	bool no_memory; /* strings and data cannot be read */
	int wrong;      /* this property is read wrongly */
	long values;    /* returned and not released */
} reading;

void __real_free(void *block);

static void *hand_out(void *value, bool is_empty)
{
	if (value && is_empty && reading.as_2_1) {
		__real_free(value);
		return NULL;
	}
	reading.values += value != NULL;
	return value;
}

static const mosquitto_property *read_byte(const mosquitto_property *list, int identifier, uint8_t *value,
		bool next)
{
	list = library.read_byte(list, identifier, value, next);
	*value = (uint8_t)(*value ^ (identifier == reading.wrong));
	return list;
}

static const mosquitto_property *read_int32(const mosquitto_property *list, int identifier, uint32_t *value,
		bool next)
{
	list = library.read_int32(list, identifier, value, next);
	*value = identifier == reading.wrong ? __builtin_bswap32(*value) : *value;
	return list;
}

static const mosquitto_property *read_string(const mosquitto_property *list, int identifier, char **value,
		bool next)
{
	if (reading.no_memory) {
		return NULL;
	}
	list = library.read_string(list, identifier, value, next);
	if (list && identifier == reading.wrong) {
		(*value)[0]++;
	}
	*value = hand_out(*value, *value && !**value);
	return list;
}

static const mosquitto_property *read_binary(const mosquitto_property *list, int identifier, void **value,
		uint16_t *length, bool next)
{
	if (reading.no_memory) {
		return NULL;
	}
	list = library.read_binary(list, identifier, value, length, next);
	*length = (uint16_t)(*length - (identifier == reading.wrong));
	*value = hand_out(*value, *length == 0);
	return list;
}

static const mosquitto_property *read_string_pair(const mosquitto_property *list, int identifier, char **name,
		char **value, bool next)
{
	char *other;

	if (reading.no_memory) {
		return NULL;
	}
	list = library.read_string_pair(list, identifier, name, value, next);
	if (identifier == reading.wrong) {
		other = *name;
		*name = *value;
		*value = other;
	}
	*name = hand_out(*name, *name && !**name);
	*value = hand_out(*value, *value && !**value);
	return list;
}

static void release(void *value)
{
	reading.values -= value != NULL;
	__real_free(value); /* the library's, which scarce_memory.c has not counted */
}

static struct properties_reader reader;

static int set_up(void **state)
{
	(void)state;
	memset(&reading, 0, sizeof(reading));
	assert_true(properties_find_reader(&library, RTLD_DEFAULT));
	reader = library;
	reader.read_byte = read_byte;
	reader.read_int32 = read_int32;
	reader.read_string = read_string;
	reader.read_binary = read_binary;
	reader.read_string_pair = read_string_pair;
	reader.release = release;
	make_samples();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(reading.values, 0);
	return 0;
}

/* ---- there and back ---- */

/* The bytes at the end of a block of their own, so that a look behind them is found. */
static unsigned char *copy_of(const void *bytes, size_t length)
{
	unsigned char *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	if (length) {
		memcpy(copy, bytes, length);
	}
	return copy;
}

static int make(const void *bytes, size_t length, mosquitto_property **ret_list)
{
	unsigned char *copy = copy_of(bytes, length);
	int rc = properties_make(copy, length, ret_list);

	free(copy);
	return rc;
}

static void read_back(const mosquitto_property *list, const void *bytes, size_t length)
{
	struct text read = {0};

	properties_read(&reader, list, &read);
	assert_false(read.failed);
	assert_int_equal(read.length, length);
	if (length) {
		assert_memory_equal(read.data, bytes, length);
	}
	text_free(&read);
}

static void there_and_back(const void *bytes, size_t length)
{
	mosquitto_property *list = NULL;
	long blocks = scarce_memory_blocks();

	assert_int_equal(make(bytes, length, &list), MOSQ_ERR_SUCCESS);
	assert_int_equal(list == NULL, length == 0);
	read_back(list, bytes, length);
	mosquitto_property_free_all(&list);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void refused(const void *bytes, size_t length)
{
	mosquitto_property *list = (mosquitto_property *)&library; /* stays as it is */
	long blocks = scarce_memory_blocks();

	assert_int_equal(make(bytes, length, &list), MOSQ_ERR_INVAL);
	assert_ptr_equal(list, &library);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_every_property(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < end_count; i++) {
		there_and_back(all, ends[i]);
		if (i > 0) {
			there_and_back(all + ends[i - 1], ends[i] - ends[i - 1]);
		}
	}
	there_and_back(written_out, sizeof(written_out));
	there_and_back(NULL, 0);
	there_and_back("\x01\x00", 2);
	there_and_back("\x02\x00\x00\x00\x00", 5);
}

/* What the library says is in the list, not only what this module makes of it again. */
static void test_the_list_has_the_values(void **state)
{
	mosquitto_property *list = NULL;
	const mosquitto_property *at;
	uint32_t interval = 0;
	uint16_t length = 0;
	uint8_t indicator = 0;
	char *text = NULL, *name = NULL;
	void *data = NULL;

	(void)state;
	assert_int_equal(make(all, all_length, &list), MOSQ_ERR_SUCCESS);
	assert_non_null(library.read_byte(list, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, &indicator, false));
	assert_int_equal(indicator, 1);
	assert_non_null(library.read_int32(list, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &interval, false));
	assert_true(interval == 0xfedcba98);
	assert_non_null(library.read_string(list, MQTT_PROP_CONTENT_TYPE, &text, false));
	assert_string_equal(text, "\xc3\xa4/content_type");
	__real_free(text);
	assert_non_null(library.read_string(list, MQTT_PROP_RESPONSE_TOPIC, &text, false));
	assert_string_equal(text, "\xc3\xa4/response_topic");
	__real_free(text);
	assert_non_null(library.read_binary(list, MQTT_PROP_CORRELATION_DATA, &data, &length, false));
	assert_int_equal(length, 3);
	assert_memory_equal(data, "\0\xff\0", 3);
	__real_free(data);
	at = library.read_string_pair(list, MQTT_PROP_USER_PROPERTY, &name, &text, false);
	assert_non_null(at);
	assert_string_equal(name, "n");
	assert_string_equal(text, "v1");
	__real_free(name);
	__real_free(text);
	assert_non_null(library.read_string_pair(at, MQTT_PROP_USER_PROPERTY, &name, &text, true));
	assert_string_equal(name, "m");
	assert_string_equal(text ? text : "", ""); /* Mosquitto 2.1 has NULL for it */
	__real_free(name);
	__real_free(text);
	mosquitto_property_free_all(&list);
}

static void test_repeated_user_properties_keep_their_order(void **state)
{
	unsigned char bytes[100 * 8];
	size_t i;

	(void)state;
	for (i = 0; i < 100; i++) {
		const unsigned char one[] = {MQTT_PROP_USER_PROPERTY, 0, 1, (unsigned char)('a' + i % 3), 0, 2,
			(unsigned char)('0' + i / 10), (unsigned char)('0' + i % 10)};

		memcpy(bytes + i * sizeof(one), one, sizeof(one));
	}
	there_and_back(bytes, sizeof(bytes));
}

static void test_empty_values(void **state)
{
	static const unsigned char empty[] = {
		MQTT_PROP_CONTENT_TYPE,
		0,
		0,
		MQTT_PROP_RESPONSE_TOPIC,
		0,
		0,
		MQTT_PROP_CORRELATION_DATA,
		0,
		0,
		MQTT_PROP_USER_PROPERTY,
		0,
		0,
		0,
		0,
		MQTT_PROP_USER_PROPERTY,
		0,
		0,
		0,
		1,
		'v',
		MQTT_PROP_USER_PROPERTY,
		0,
		1,
		'n',
		0,
		0,
	};

	(void)state;
	there_and_back(empty, sizeof(empty));
	reading.as_2_1 = true;
	there_and_back(empty, sizeof(empty));
	there_and_back(all, all_length);
}

static void test_the_longest_values(void **state)
{
	enum { longest = 65535 };
	unsigned char *bytes = malloc(1 + 2 * (2 + longest));
	size_t i;

	(void)state;
	assert_non_null(bytes);
	bytes[1] = bytes[2] = 0xff;
	memset(bytes + 3, 'x', longest);
	for (i = 0; samples[i].identifier != MQTT_PROP_USER_PROPERTY; i++) {
		if (!samples[i].is_allocated) {
			continue;
		}
		bytes[0] = samples[i].identifier;
		there_and_back(bytes, 3 + longest);
		refused(bytes, 3 + longest - 1);
	}
	bytes[0] = MQTT_PROP_USER_PROPERTY;
	memcpy(bytes + 3 + longest, bytes + 1, 2 + longest);
	there_and_back(bytes, 1 + 2 * (2 + longest));
	refused(bytes, 2 * (2 + longest));
	free(bytes);
}

/* ---- what is none ---- */

static void test_cut_off_anywhere(void **state)
{
	mosquitto_property *list = NULL;
	size_t length, i;

	(void)state;
	for (length = 0; length <= all_length; length++) {
		for (i = 0; i < end_count && ends[i] != length; i++) {
		}
		if (i < end_count) {
			assert_int_equal(make(all, length, &list), MOSQ_ERR_SUCCESS);
			mosquitto_property_free_all(&list);
		} else {
			refused(all, length);
		}
	}
}

static void test_taking(void **state)
{
	unsigned char *copy = copy_of(all, all_length);
	const unsigned char *at = copy, *end = copy + all_length, *before;
	struct property property = {0};
	size_t i, length;

	(void)state;
	for (i = 0; i + 1 < end_count; i++) {
		before = at;
		assert_true(properties_take(&at, end, &property));
		assert_int_equal(property.identifier, samples[i].identifier);
		assert_ptr_equal(at, copy + ends[i + 1]);
		/* Not one byte less. */
		for (length = 0; length < ends[i + 1] - ends[i]; length++) {
			struct property untouched = {.identifier = 77};
			const unsigned char *start = before;

			assert_false(properties_take(&start, before + length, &untouched));
			assert_int_equal(untouched.identifier, 77);
		}
	}
	assert_false(properties_take(&at, end, &property));
	assert_int_equal(property.name_length, 1);
	assert_memory_equal(property.name, "n", 1);
	assert_int_equal(property.value_length, 2);
	assert_memory_equal(property.value, "v2", 2);
	at = copy + ends[1];
	assert_true(properties_take(&at, end, &property));
	assert_true(property.number == 0xfedcba98);
	assert_null(property.value);
	assert_null(property.name);
	free(copy);
}

#define KNOWN(identifier, kind, name, comes) [MQTT_PROP_##identifier] = true,

static void test_unknown_identifiers(void **state)
{
	static const bool is_known[256] = {PROPERTIES(KNOWN)[MQTT_PROP_USER_PROPERTY] = true};
	unsigned char bytes[20] = {0};
	const unsigned char *at;
	struct property property;
	unsigned int identifier;

	(void)state;
	for (identifier = 0; identifier < 256; identifier++) {
		bytes[0] = (unsigned char)identifier;
		at = bytes;
		assert_int_equal(properties_take(&at, bytes + sizeof(bytes), &property), is_known[identifier]);
	}
	/* Behind one that is known, nothing of it remains. */
	refused("\x01\x01\x23\x00\x01", 5);
	refused("\x03\x00\x01t\x0b\x01", 6);
}

static void test_values_that_the_broker_refuses(void **state)
{
	(void)state;
	refused("\x01\x01\x03\x00\x02\xc3\x28", 7); /* not UTF-8 */
	refused("\x08\x00\x01\x01", 4);             /* a control character */
	/* A pair's name; Mosquitto does not look at its value, so Python has to. */
	refused("\x01\x01\x26\x00\x01\xff\x00\x01v", 9);
	refused("\x26\x00\x01n\x00\x01v\x03\x00\x03\xed\xa0\x80", 13); /* a surrogate, behind one that is well */
	there_and_back("\x09\x00\x03\xed\xa0\x80", 6);                 /* which data may be */
}

static void test_what_is_not_for_consumers_is_skipped(void **state)
{
	mosquitto_property *list = NULL;

	(void)state;
	assert_int_equal(mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 7),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(mosquitto_property_add_byte(&list, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(mosquitto_property_add_int16(&list, MQTT_PROP_TOPIC_ALIAS, 9), MOSQ_ERR_SUCCESS);
	assert_int_equal(mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "t"), MOSQ_ERR_SUCCESS);
	assert_int_equal(mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 8),
			MOSQ_ERR_SUCCESS);
	read_back(list, "\x01\x01\x03\x00\x01t", 6);
	mosquitto_property_free_all(&list);
}

/* Properties are added to what a buffer has. */
static void test_reading_appends(void **state)
{
	struct text bytes = {0};
	mosquitto_property *list = NULL;

	(void)state;
	assert_int_equal(make("\x01\x00", 2, &list), MOSQ_ERR_SUCCESS);
	properties_read(&reader, list, &bytes);
	properties_read(&reader, list, &bytes);
	assert_int_equal(bytes.length, 4);
	assert_memory_equal(bytes.data, "\x01\x00\x01\x00", 4);
	text_free(&bytes);
	mosquitto_property_free_all(&list);
}

/* ---- the reader ---- */

static void test_a_reader_that_agrees(void **state)
{
	(void)state;
	assert_true(properties_reader_agrees(&reader));
	reading.as_2_1 = true;
	assert_true(properties_reader_agrees(&reader));
}

static void test_a_reader_that_reads_wrongly(void **state)
{
	static const int identifiers[] = {MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
		MQTT_PROP_CONTENT_TYPE, MQTT_PROP_CORRELATION_DATA, MQTT_PROP_USER_PROPERTY};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(identifiers) / sizeof(identifiers[0]); i++) {
		reading.wrong = identifiers[i];
		assert_false(properties_reader_agrees(&reader));
	}
	reading.wrong = 0;
	reading.no_memory = true;
	assert_false(properties_reader_agrees(&reader));
}

static const mosquitto_property *no_next(const mosquitto_property *property)
{
	(void)property;
	return NULL;
}

static int topic_alias(const mosquitto_property *property)
{
	(void)property;
	return MQTT_PROP_TOPIC_ALIAS;
}

static void test_a_reader_that_finds_less(void **state)
{
	(void)state;
	reader.next = no_next;
	assert_false(properties_reader_agrees(&reader));
	reader.next = library.next;
	reader.identifier = topic_alias;
	assert_false(properties_reader_agrees(&reader));
}

static void test_finding_a_reader(void **state)
{
	struct properties_reader found;
	void *handle = dlopen("libmosquitto.so.1", RTLD_NOW), *other = dlopen("libc.so.6", RTLD_NOW);

	(void)state;
	assert_non_null(handle);
	assert_non_null(other);
	assert_true(properties_find_reader(&found, handle));
	assert_true(found.release != NULL);
	assert_true(properties_reader_agrees(&reader));
	assert_false(properties_find_reader(&found, other));
	dlclose(handle);
	dlclose(other);
}

/* ---- memory ---- */

#define ONE_IF_STRING(identifier, kind, name, comes) +(PROPERTY_##kind == PROPERTY_STRING)

static void test_no_memory_to_make(void **state)
{
	static const unsigned long strings = 0 PROPERTIES(ONE_IF_STRING);
	mosquitto_property *list;
	long blocks = scarce_memory_blocks();
	unsigned long n;
	bool failed = true;
	int rc;

	(void)state;
	for (n = 1; failed; n++) {
		list = NULL;
		scarce_memory(n, false);
		rc = properties_make(all, all_length, &list);
		failed = scarce_memory_end();
		assert_int_equal(rc, failed ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS);
		assert_int_equal(list == NULL, failed);
		mosquitto_property_free_all(&list);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_int_equal(n, strings + 3 * 2 + 2); /* and three pairs; none failed at the last */
}

static void test_no_memory_to_read(void **state)
{
	mosquitto_property *list = NULL;
	struct text bytes = {0};
	long blocks = scarce_memory_blocks();
	unsigned long n;
	bool failed = true;

	(void)state;
	assert_int_equal(properties_make(all, all_length, &list), MOSQ_ERR_SUCCESS);
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		properties_read(&reader, list, &bytes);
		failed = scarce_memory_end();
		assert_int_equal(bytes.failed, failed);
		assert_int_equal(reading.values, 0);
		text_free(&bytes);
		bytes.failed = false;
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_true(n > 2);
	mosquitto_property_free_all(&list);
}

/* What one of the reader's functions does not return for want of memory is not left out in silence. */
static void test_no_memory_for_a_value(void **state)
{
	mosquitto_property *list;
	struct text bytes;
	size_t i;

	(void)state;
	reading.no_memory = true;
	for (i = 0; i + 1 < end_count; i++) {
		if (!samples[i].is_allocated) {
			continue;
		}
		list = NULL;
		bytes = (struct text){0};
		assert_int_equal(make(all + ends[i], ends[i + 1] - ends[i], &list), MOSQ_ERR_SUCCESS);
		properties_read(&reader, list, &bytes);
		assert_true(bytes.failed);
		text_free(&bytes);
		mosquitto_property_free_all(&list);
	}
}

static void test_no_memory_to_try_a_reader(void **state)
{
	long blocks = scarce_memory_blocks();
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		bool agrees;

		scarce_memory(n, false);
		agrees = properties_reader_agrees(&reader);
		failed = scarce_memory_end();
		assert_int_equal(agrees, !failed);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_true(n > 3);
}

#define properties_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		properties_test(test_every_property),
		properties_test(test_the_list_has_the_values),
		properties_test(test_repeated_user_properties_keep_their_order),
		properties_test(test_empty_values),
		properties_test(test_the_longest_values),
		properties_test(test_cut_off_anywhere),
		properties_test(test_taking),
		properties_test(test_unknown_identifiers),
		properties_test(test_values_that_the_broker_refuses),
		properties_test(test_what_is_not_for_consumers_is_skipped),
		properties_test(test_reading_appends),
		properties_test(test_a_reader_that_agrees),
		properties_test(test_a_reader_that_reads_wrongly),
		properties_test(test_a_reader_that_finds_less),
		properties_test(test_finding_a_reader),
		properties_test(test_no_memory_to_make),
		properties_test(test_no_memory_to_read),
		properties_test(test_no_memory_for_a_value),
		properties_test(test_no_memory_to_try_a_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
