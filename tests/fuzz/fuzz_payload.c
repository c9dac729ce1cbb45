/* Bytes → messages in both queues: what Python gets out of the inbound one is what went in, and what
 * publish() makes of Python's objects is in the outbound one, or is an exception.
 *
 * The input is a sequence of operations, as run_one() reads them. There is one interpreter for all inputs; it
 * takes its memory from malloc(), so that AddressSanitizer knows its objects, and now and then it gets
 * none. */
#include "python/python_api.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options/options.h"
#include "python/pymodule.h"
#include "scarce_memory.h"
#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/text.h"

#define OPERATIONS_MAX 16
#define OUTBOUND_MESSAGES 4
#define OUTBOUND_BYTES 4096
#define RECIPIENTS_MAX 3
#define ARGUMENTS 6

const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static PyObject *module, *odd_things; /* a list: what is no argument of publish() */
static struct options options;
static struct pymodule_context context = {.options = &options};
static uint64_t clients_made;

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		if (PyErr_Occurred()) {
			PyErr_Print();
		}
		abort();
	}
}

/* ---- memory that runs out ---- */

static PyMemAllocatorEx allocators[2]; /* as they were */
static unsigned int fails_at;          /* this many allocations from now; 0: none */
static int has_failed;

static int must_fail(void)
{
	if (fails_at == 0 || --fails_at > 0) {
		return 0;
	}
	has_failed = 1;
	return 1;
}

static void *scarce_malloc(void *of, size_t size)
{
	const PyMemAllocatorEx *allocator = of;

	return must_fail() ? NULL : allocator->malloc(allocator->ctx, size);
}

static void *scarce_calloc(void *of, size_t count, size_t size)
{
	const PyMemAllocatorEx *allocator = of;

	return must_fail() ? NULL : allocator->calloc(allocator->ctx, count, size);
}

static void *scarce_realloc(void *of, void *block, size_t size)
{
	const PyMemAllocatorEx *allocator = of;

	return must_fail() ? NULL : allocator->realloc(allocator->ctx, block, size);
}

static void plain_free(void *of, void *block)
{
	const PyMemAllocatorEx *allocator = of;

	allocator->free(allocator->ctx, block);
}

static void make_memory_scarce(void)
{
	static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
	size_t i;

	for (i = 0; i < 2; i++) {
		PyMemAllocatorEx scarce = {&allocators[i], scarce_malloc, scarce_calloc, scarce_realloc, plain_free};

		PyMem_GetAllocator(domains[i], &allocators[i]);
		PyMem_SetAllocator(domains[i], &scarce);
	}
}

static void begin_scarcity(uint8_t n)
{
	has_failed = 0;
	fails_at = n;
	scarce_memory(n, false); /* the plugin's own */
}

/* Returns whether there was too little. */
static int end_scarcity(void)
{
	fails_at = 0;
	return scarce_memory_end() || has_failed;
}

/* ---- the input ---- */

struct input {
	const uint8_t *at;
	size_t left;
};

struct bytes {
	const char *at;
	size_t length;
};

static uint8_t take_byte(struct input *input)
{
	if (input->left == 0) {
		return 0;
	}
	input->left--;
	return *input->at++;
}

static uint64_t take_number(struct input *input)
{
	uint64_t number = 0;
	uint8_t size = take_byte(input) % 9;

	while (size-- > 0) {
		number = number << 8 | take_byte(input);
	}
	return number;
}

static struct bytes take_bytes(struct input *input)
{
	size_t length = take_byte(input);
	struct bytes bytes = {(const char *)input->at, length < input->left ? length : input->left};

	input->at += bytes.length;
	input->left -= bytes.length;
	return bytes;
}

/* A C string, NULL where the input says so. The caller frees it. */
static char *take_string(struct input *input)
{
	struct bytes bytes = take_bytes(input);

	return bytes.length == 1 && *bytes.at == '\0' ? NULL : text_copy(bytes.at, bytes.length);
}

/* ---- what Python has ---- */

/* By the table in RFC 3629, section 4. */
static int is_utf8(struct bytes bytes)
{
	const unsigned char *s = (const unsigned char *)bytes.at, *end = s + bytes.length;

	while (s < end) {
		size_t length = *s < 0x80 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4, i;

		if ((*s >= 0x80 && *s < 0xc2) || *s > 0xf4 || (size_t)(end - s) < length) {
			return 0;
		}
		for (i = 1; i < length; i++) {
			if ((s[i] & 0xc0) != 0x80) {
				return 0;
			}
		}
		if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
				(*s == 0xf4 && s[1] > 0x8f)) {
			return 0;
		}
		s += length;
	}
	return 1;
}

static int is_bytes(PyObject *object, struct bytes bytes)
{
	return object && PyBytes_CheckExact(object) && (size_t)PyBytes_GET_SIZE(object) == bytes.length &&
			(bytes.length == 0 || memcmp(PyBytes_AS_STRING(object), bytes.at, bytes.length) == 0);
}

/* The same text, or one with U+FFFD in it where the bytes are none. */
static int is_text(PyObject *object, struct bytes bytes)
{
	const char *text;
	Py_ssize_t length;

	if (!object || !PyUnicode_CheckExact(object)) {
		return 0;
	}
	text = PyUnicode_AsUTF8AndSize(object, &length);
	if (!is_utf8(bytes)) {
		return text && memmem(text, (size_t)length, "\xef\xbf\xbd", 3) != NULL;
	}
	return text && (size_t)length == bytes.length &&
			(length == 0 || memcmp(text, bytes.at, bytes.length) == 0);
}

/* None for NULL. */
static int is_string(PyObject *object, const char *string)
{
	return string ? is_text(object, (struct bytes){string, strlen(string)}) : object == Py_None;
}

static int is_number(PyObject *object, long long number)
{
	return object && PyLong_CheckExact(object) && PyLong_AsLongLong(object) == number;
}

static int is_handle(PyObject *object, uint64_t number)
{
	return object && PyLong_CheckExact(object) && PyLong_AsUnsignedLongLong(object) == number;
}

/* A reference more than its holders have would keep it for ever. */
static int has_one_holder(PyObject *object)
{
	return Py_REFCNT(object) == 1;
}

static PyObject *value_of(PyObject *dict, const char *name)
{
	return PyDict_GetItemString(dict, name); /* borrowed */
}

static int is_pair(PyObject *object, struct bytes first, struct bytes second)
{
	return object && PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 2 &&
			is_text(PyTuple_GET_ITEM(object, 0), first) && is_text(PyTuple_GET_ITEM(object, 1), second);
}

/* ---- clients ---- */

/* A certificate as certificate_read() makes them: one block. */
static struct certificate *make_certificate(struct input *input)
{
	size_t room = input->left + 2 * (CERTIFICATE_NAMES_MAX + 8), count = take_byte(input) % 4, i;
	struct certificate *certificate =
			calloc(1, sizeof(*certificate) + 4 * sizeof(struct certificate_name) + room);
	struct certificate_name *names = (struct certificate_name *)(certificate + 1);
	char *at = (char *)(names + 4);
	const char *strings[5 + 2 * 4];

	require(certificate != NULL, "no memory");
	for (i = 0; i < 5 + 2 * count; i++) {
		struct bytes bytes = take_bytes(input);

		strings[i] = at;
		(void)snprintf(at, bytes.length + 1, "%.*s", (int)bytes.length, bytes.at);
		at += strlen(at) + 1;
	}
	certificate->subject = strings[0];
	certificate->issuer = strings[1];
	certificate->common_name = *strings[2] ? strings[2] : NULL;
	certificate->serial_number = strings[3];
	certificate->fingerprint = strings[4];
	certificate->not_before = -(int64_t)(take_number(input) >> 24);
	certificate->not_after = INT64_MAX - (int64_t)(take_number(input) >> 1); /* may be over */
	certificate->name_count = count;
	certificate->names = names;
	for (i = 0; i < count; i++) {
		names[i] = (struct certificate_name){strings[5 + 2 * i], strings[6 + 2 * i]};
	}
	return certificate;
}

static struct client *make_client(struct input *input)
{
	static const uint8_t versions[] = {3, 4, 5};
	uint8_t how = take_byte(input);
	char *id = take_string(input), *username = take_string(input), *address = take_string(input);
	struct client_description description = {.number = ++clients_made,
		.id = id ? id : "",
		.username = username,
		.address = address,
		.protocol_version = versions[how % 3],
		.websockets = how & 4};
	struct client *client = client_new(&description, how & 8 ? make_certificate(input) : NULL);

	require(client != NULL, "no memory");
	free(id);
	free(username);
	free(address);
	return client;
}

static void check_certificate(PyObject *dict, const struct certificate *certificate)
{
	PyObject *names;
	size_t i;

	if (!certificate) {
		require(dict == Py_None, "a certificate that is none");
		return;
	}
	require(PyDict_CheckExact(dict) && PyDict_Size(dict) == 8 && has_one_holder(dict),
			"not a certificate's dict");
	require(is_string(value_of(dict, "subject"), certificate->subject) &&
					is_string(value_of(dict, "issuer"), certificate->issuer) &&
					is_string(value_of(dict, "common_name"), certificate->common_name) &&
					is_string(value_of(dict, "serial_number"), certificate->serial_number) &&
					is_string(value_of(dict, "fingerprint_sha256"), certificate->fingerprint) &&
					is_number(value_of(dict, "not_before"), certificate->not_before) &&
					is_number(value_of(dict, "not_after"), certificate->not_after),
			"another certificate");
	names = value_of(dict, "subject_alternative_names");
	require(PyTuple_CheckExact(names) && (size_t)PyTuple_GET_SIZE(names) == certificate->name_count,
			"other names");
	for (i = 0; i < certificate->name_count; i++) {
		const struct certificate_name *name = &certificate->names[i];

		require(is_pair(PyTuple_GET_ITEM(names, (Py_ssize_t)i),
						(struct bytes){name->type, strlen(name->type)},
						(struct bytes){name->value, strlen(name->value)}),
				"another name");
	}
}

static void check_client(PyObject *dict, const struct client *client)
{
	const struct client_description *description;

	if (!client) {
		require(dict == Py_None, "a client that nobody knows");
		return;
	}
	description = client_description(client);
	require(PyDict_CheckExact(dict) && PyDict_Size(dict) == 6 && has_one_holder(dict), "not a client's dict");
	require(is_string(value_of(dict, "id"), description->id) &&
					is_string(value_of(dict, "username"), description->username) &&
					is_string(value_of(dict, "address"), description->address) &&
					is_string(value_of(dict, "protocol"), description->websockets ? "websockets" : "mqtt") &&
					is_number(value_of(dict, "protocol_version"), description->protocol_version),
			"another client");
	check_certificate(value_of(dict, "certificate"), description->certificate);
	/* The next consumer must not see what this one does to it. */
	require(PyDict_SetItemString(dict, "id", Py_None) == 0, "no memory");
	if (description->certificate) {
		PyDict_Clear(value_of(dict, "certificate"));
	}
}

/* ---- from the broker to Python ---- */

/* What a dict of properties is to have; found independently of properties.c. */
struct found {
	long long numbers[256];   /* -1: none */
	struct bytes values[256]; /* at NULL: none */
	struct bytes pairs[256][2];
	size_t pair_count;
};

static int cut(struct bytes *rest, size_t length, struct bytes *ret_part)
{
	if (rest->length < length) {
		return 0;
	}
	*ret_part = (struct bytes){rest->at, length};
	rest->at += length;
	rest->length -= length;
	return 1;
}

static int cut_value(struct bytes *rest, struct bytes *ret_value)
{
	struct bytes length;

	return cut(rest, 2, &length) &&
			cut(rest, (size_t)((unsigned char)length.at[0] << 8 | (unsigned char)length.at[1]), ret_value);
}

/* Up to what is no property of a PUBLISH for its receiver. */
static void find_properties(struct bytes rest, struct found *found)
{
	struct bytes part, *pair;
	size_t i;

	memset(found, 0, sizeof(*found));
	memset(found->numbers, 0xff, sizeof(found->numbers));
	while (cut(&rest, 1, &part)) {
		uint8_t identifier = (uint8_t)*part.at;
		size_t width = identifier == MQTT_PROP_PAYLOAD_FORMAT_INDICATOR ? 1 : 4;

		switch (identifier) {
		case MQTT_PROP_PAYLOAD_FORMAT_INDICATOR:
		case MQTT_PROP_MESSAGE_EXPIRY_INTERVAL:
			if (!cut(&rest, width, &part)) {
				return;
			}
			for (found->numbers[identifier] = 0, i = 0; i < width; i++) {
				found->numbers[identifier] = found->numbers[identifier] * 256 + (unsigned char)part.at[i];
			}
			break;
		case MQTT_PROP_CONTENT_TYPE:
		case MQTT_PROP_RESPONSE_TOPIC:
		case MQTT_PROP_CORRELATION_DATA:
			if (!cut_value(&rest, &part)) {
				return;
			}
			found->values[identifier] = part;
			break;
		case MQTT_PROP_USER_PROPERTY:
			pair = found->pairs[found->pair_count];
			if (!cut_value(&rest, &pair[0]) || !cut_value(&rest, &pair[1])) {
				return;
			}
			found->pair_count++;
			break;
		default:
			return;
		}
	}
}

static void check_properties(PyObject *dict, struct bytes bytes)
{
	static struct found found;
	static const struct {
		uint8_t identifier;
		const char *name;
	} numbers[] = {{MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, "payload_format_indicator"},
		{MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, "message_expiry_interval"}},
	  values[] = {{MQTT_PROP_CONTENT_TYPE, "content_type"}, {MQTT_PROP_RESPONSE_TOPIC, "response_topic"},
		  {MQTT_PROP_CORRELATION_DATA, "correlation_data"}};
	PyObject *value;
	Py_ssize_t count = 0;
	size_t i;

	find_properties(bytes, &found);
	require(PyDict_CheckExact(dict) && has_one_holder(dict), "not a dict of properties");
	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		value = value_of(dict, numbers[i].name);
		count += value != NULL;
		require(found.numbers[numbers[i].identifier] < 0
						? !value
						: is_number(value, found.numbers[numbers[i].identifier]),
				"another number");
	}
	for (i = 0; i < sizeof(values) / sizeof(*values); i++) {
		struct bytes expected = found.values[values[i].identifier];

		value = value_of(dict, values[i].name);
		count += value != NULL;
		require(!expected.at                                                 ? !value
						: values[i].identifier == MQTT_PROP_CORRELATION_DATA ? is_bytes(value, expected)
																			 : is_text(value, expected),
				"another value");
	}
	value = value_of(dict, "user_property");
	count += value != NULL;
	require(!value == (found.pair_count == 0) && PyDict_Size(dict) == count, "other properties");
	require(!value ||
					(PyList_CheckExact(value) && has_one_holder(value) &&
							(size_t)PyList_GET_SIZE(value) == found.pair_count),
			"not the user properties");
	for (i = 0; i < found.pair_count; i++) {
		PyObject *pair = PyList_GET_ITEM(value, (Py_ssize_t)i);

		require(is_pair(pair, found.pairs[i][0], found.pairs[i][1]) && has_one_holder(pair), "another pair");
	}
}

static void check_publish(PyObject *mqtt, const struct message *message, unsigned int subscribed)
{
	unsigned int qos = subscribed & 3;
	const struct message_of_publish *publish = &message->as.publish;
	int retain = publish->is_retained || (publish->retain && subscribed & 8);
	int redelivered = publish->is_redelivered || subscribed & 16;

	require(PyDict_Size(mqtt) == 7, "another event");
	require(value_of(mqtt, "redelivered") == (redelivered ? Py_True : Py_False), "redelivered");
	require(is_text(value_of(mqtt, "topic"), (struct bytes){message->topic, message->topic_length}),
			"another topic");
	require(is_bytes(value_of(mqtt, "payload"), (struct bytes){message->payload, message->payload_length}),
			"another payload");
	require(is_number(value_of(mqtt, "qos"), qos < publish->qos ? qos : publish->qos), "another QoS");
	require(value_of(mqtt, "retain") == (retain ? Py_True : Py_False), "retain");
	check_properties(value_of(mqtt, "properties"),
			(struct bytes){message->properties, message->properties_length});
	check_client(value_of(mqtt, "client"), message->client);
}

static void check_reason(PyObject *reason, const struct message *message)
{
	const struct message_of_disconnect *gone = &message->as.disconnect;
	PyObject *ends = value_of(reason, "session_ends");

	require(PyDict_CheckExact(reason) && PyDict_Size(reason) == 2 && has_one_holder(reason), "not a reason");
	require(gone->reason < 0 ? value_of(reason, "code") == Py_None
							 : is_number(value_of(reason, "code"), gone->reason),
			"another reason");
	require(gone->fate == MESSAGE_FATE_UNKNOWN
					? ends == Py_None
					: ends == (gone->fate == MESSAGE_FATE_ENDS ? Py_True : Py_False),
			"another fate");
}

static void check_event(PyObject *event, const struct message *message, unsigned int subscribed)
{
	PyObject *mqtt = PyDict_CheckExact(event) ? value_of(event, "mqtt") : NULL;
	PyObject *type = mqtt ? value_of(event, "type") : NULL;

	require(type && PyDict_Size(event) == 2 && PyDict_CheckExact(mqtt), "not an event");
	require(has_one_holder(event) && has_one_holder(mqtt), "an event that somebody else holds");
	switch (message->kind) {
	case MESSAGE_PUBLISH:
		require(is_string(type, "mqtt.msg"), "another type");
		check_publish(mqtt, message, subscribed);
		break;
	case MESSAGE_CONNECT:
		require(is_string(type, "mqtt.client.connect") && PyDict_Size(mqtt) == 1, "another type");
		check_client(value_of(mqtt, "client"), message->client);
		break;
	case MESSAGE_DISCONNECT:
		require(is_string(type, "mqtt.client.disconnect") && PyDict_Size(mqtt) == 2, "another type");
		check_client(value_of(mqtt, "client"), message->client);
		check_reason(value_of(mqtt, "reason"), message);
		break;
	default:
		require(is_string(type, message_event(message->kind)->type), "another type");
		break;
	}
}

/* An event, of which Python may want more than there is memory for. */
static void ask_for_event(PyObject *object, const struct message *message, uint64_t subscribed,
		uint8_t scarcity)
{
	PyObject *argument = PyLong_FromUnsignedLongLong(subscribed),
			 *method = PyObject_GetAttrString(object, "event"), *event;
	int scarce;

	require(argument && method, "no memory");
	begin_scarcity(scarcity);
	event = PyObject_CallOneArg(method, argument);
	scarce = end_scarcity();
	if (event) {
		check_event(event, message, (unsigned int)(subscribed & 0xff));
	} else {
		require(scarce && PyErr_ExceptionMatches(PyExc_MemoryError), "no event");
		PyErr_Clear();
	}
	Py_XDECREF(event);
	Py_DECREF(argument);
	Py_DECREF(method);
}

/* An attribute, compared and let go. */
static int has(PyObject *object, const char *name, PyObject *expected)
{
	PyObject *value = PyObject_GetAttrString(object, name);
	int is_same = value && expected && PyObject_RichCompareBool(value, expected, Py_EQ) == 1;

	Py_XDECREF(value);
	Py_XDECREF(expected);
	return is_same;
}

static void check_attributes(PyObject *object, const struct message *message)
{
	PyObject *topic = PyObject_GetAttrString(object, "topic"),
			 *payload = PyObject_GetAttrString(object, "payload");
	struct message_of_publish publish = {0};

	require(is_text(topic, (struct bytes){message->topic, message->topic_length}), "another .topic");
	require(is_bytes(payload, (struct bytes){message->payload, message->payload_length}), "another .payload");
	Py_DECREF(topic);
	Py_DECREF(payload);
	publish = message->kind == MESSAGE_PUBLISH ? message->as.publish : publish;
	require(has(object, "qos", PyLong_FromLong(publish.qos)), "another .qos");
	require(has(object, "retain", PyBool_FromLong(publish.is_retained)), "another .retain");
	require(has(object, "session", PyBool_FromLong(publish.by_session)), "another .session");
	require(has(object, "is_droppable",
					PyBool_FromLong(message_event(message->kind)->is_droppable && !publish.by_session &&
							!publish.stored)),
			"another .is_droppable");
	require(has(object, "stored", PyLong_FromUnsignedLongLong(publish.stored)), "another .stored");
	require(has(object, "tries", PyLong_FromUnsignedLong(publish.tries)), "another .tries");
}

/* Messages that reach Python: who takes them, and with what subscription. Returns the one batch that take()
 * has given, NULL where nothing was to come. */
static PyObject *take(size_t count, int with_control)
{
	PyObject *batches = PyObject_CallMethod(module, "take", "n", (Py_ssize_t)100), *batch = NULL;

	require(batches && PyList_CheckExact(batches) && PyList_GET_SIZE(batches) == (count || with_control),
			"another batch");
	if (PyList_GET_SIZE(batches)) {
		batch = PyList_GET_ITEM(batches, 0);
		Py_INCREF(batch);
		require(PyTuple_CheckExact(batch) && PyTuple_GET_SIZE(batch) == 2, "not a batch");
		require(PyList_CheckExact(PyTuple_GET_ITEM(batch, 0)) &&
						(size_t)PyList_GET_SIZE(PyTuple_GET_ITEM(batch, 0)) == count,
				"others than were pushed");
		require((PyTuple_GET_ITEM(batch, 1) != Py_None) == with_control, "a control more or less");
	}
	Py_DECREF(batches);
	return batch;
}

#define KIND_OF_EVENT(kind, type, is_droppable, shows) MESSAGE_##kind,

static void receive(struct input *input)
{
	static const enum message_kind kinds[] = {MESSAGE_PUBLISH, MESSAGE_EVENTS(KIND_OF_EVENT)};
	struct recipient recipients[RECIPIENTS_MAX];
	uint8_t how = take_byte(input), scarcity = take_byte(input);
	size_t count = how % (RECIPIENTS_MAX + 1), i;
	enum message_kind kind = kinds[(how >> 2) % (sizeof(kinds) / sizeof(kinds[0]))];
	struct bytes topic = {"", 0}, payload = topic, properties = topic;
	struct message_content content;
	struct message_of_publish publish;
	struct message_of_disconnect gone = {0};
	struct message *message;
	PyObject *batch, *list;

	for (i = 0; i < count; i++) {
		recipients[i] = (struct recipient){.consumer = take_number(input),
			.subscription = (uint32_t)take_number(input),
			.qos = take_byte(input) % 3,
			.retain_as_published = how & 32};
	}
	if (kind == MESSAGE_PUBLISH) {
		topic = take_bytes(input);
		payload = take_bytes(input);
		properties = take_bytes(input);
	}
	content = (struct message_content){
		topic.at, topic.length, payload.at, payload.length, properties.at, properties.length};
	message = kind == MESSAGE_PUBLISH
			? message_publish(&content, recipients, count)
			: message_copy_for(&(const struct message){.kind = kind}, NULL, recipients, count);
	require(message != NULL, "no memory");
	message->client = how & 64 ? make_client(input) : NULL;
	publish = (struct message_of_publish){.qos = take_byte(input) % 3,
		.retain = how & 16,
		.is_retained = how & 128,
		.by_session = scarcity & 128,
		.is_redelivered = scarcity & 64,
		.stored = scarcity & 32 ? (uint64_t)how << 56 | 1 : 0,
		.tries = scarcity & 32 ? UINT32_MAX - how : 0};
	gone.fate = (enum message_fate)(take_byte(input) % 3);
	gone.reason = (int)take_number(input);
	if (kind == MESSAGE_PUBLISH) {
		message->as.publish = publish;
	} else if (kind == MESSAGE_DISCONNECT) {
		message->as.disconnect = gone;
	}

	require(queue_push(context.inbound, message), "a queue that is full");
	batch = take(count, 0);
	list = batch ? PyTuple_GET_ITEM(batch, 0) : NULL;
	require(queue_count(context.inbound) == (count > 0),
			"what nobody holds counts, or what somebody holds does not");
	for (i = 0; i < count; i++) {
		PyObject *delivery = PyList_GET_ITEM(list, (Py_ssize_t)i), *object = PyTuple_GET_ITEM(delivery, 1);
		uint64_t subscribed = (uint64_t)recipients[i].subscription << 8 | recipients[i].qos |
				(recipients[i].retain_as_published ? 8U : 0U);

		require(is_handle(PyTuple_GET_ITEM(delivery, 0), recipients[i].consumer), "another consumer");
		require(is_handle(PyTuple_GET_ITEM(delivery, 2), subscribed), "other options");
		require(object == PyTuple_GET_ITEM(PyList_GET_ITEM(list, 0), 1), "a message of its own");
		ask_for_event(object, message, subscribed, scarcity & 31);
		ask_for_event(object, message, subscribed, 0);
		ask_for_event(object, message, subscribed | 16, 0);
		check_attributes(object, message);
	}
	Py_XDECREF(batch);
	require(queue_count(context.inbound) == 0 && queue_bytes(context.inbound) == 0, "it counts for ever");
}

/* A control, as Python writes it. */
struct control {
	struct message *message;
	const char *name;
	size_t parts;
	PyObject *expected[2];
};

static struct control make_control(struct input *input)
{
	uint8_t which = take_byte(input) % 8;
	uint64_t whose = take_number(input);
	int code = (int)take_number(input);

	switch (which) {
	case 0:
		return (struct control){message_answer(whose, code), "answer", 2,
			{PyLong_FromUnsignedLongLong(whose), PyLong_FromLong(code)}};
	case 1:
		return (struct control){message_writable(), "writable", 0, {NULL, NULL}};
	case 2:
		return (struct control){message_hold(code), "hold", 1, {PyLong_FromLong(code), NULL}};
	case 3:
		return (struct control){message_release(code), "release", 1, {PyLong_FromLong(code), NULL}};
	case 4:
		return (struct control){message_hold_consumer(whose, code & 1), "hold_consumer", 2,
			{PyLong_FromUnsignedLongLong(whose), PyBool_FromLong(code & 1)}};
	case 5:
		return (struct control){message_release_consumer(whose), "release_consumer", 1,
			{PyLong_FromUnsignedLongLong(whose), NULL}};
	case 6:
		return (struct control){message_options(&(struct message_of_options){
									.verbosity = code, .log_lines = (unsigned int)whose}),
			"options", 2, {PyLong_FromLong(code), PyLong_FromUnsignedLong((unsigned int)whose)}};
	default:
		return (struct control){message_stop(), "stop", 0, {NULL, NULL}};
	}
}

static void receive_control(struct input *input)
{
	struct control control = make_control(input);
	PyObject *batch, *found;
	size_t i;

	require(queue_tell(context.inbound, control.message), "no memory");
	batch = take(0, 1);
	found = PyTuple_GET_ITEM(batch, 1);
	require(PyTuple_CheckExact(found) && (size_t)PyTuple_GET_SIZE(found) == 1 + control.parts &&
					is_string(PyTuple_GET_ITEM(found, 0), control.name),
			"another word");
	for (i = 0; i < control.parts; i++) {
		require(Py_TYPE(PyTuple_GET_ITEM(found, (Py_ssize_t)i + 1)) == Py_TYPE(control.expected[i]) &&
						PyObject_RichCompareBool(PyTuple_GET_ITEM(found, (Py_ssize_t)i + 1),
								control.expected[i], Py_EQ) == 1,
				"for somebody else");
		Py_DECREF(control.expected[i]);
	}
	Py_DECREF(batch);
}

/* ---- from Python to the broker ---- */

/* What is to be in the outbound queue. */
struct published {
	PyObject *topic, *payload, *properties; /* str, bytes, bytes */
	uint64_t consumer;
	uint8_t qos;
	int retain;
};

static struct published published[OUTBOUND_MESSAGES];
static size_t published_count;

/* A new reference; what cannot be made of it is an exception that nobody needs. */
static PyObject *or_none(PyObject *object)
{
	PyErr_Clear();
	return object ? object : Py_NewRef(Py_None);
}

static PyObject *make_object(struct input *input)
{
	uint8_t kind = take_byte(input) % 8;
	struct bytes bytes;

	if (kind == 0) {
		return or_none(PyLong_FromUnsignedLongLong(take_number(input)));
	}
	if (kind == 1) {
		return or_none(PyLong_FromLongLong(-(long long)(take_number(input) >> 1)));
	}
	if (kind == 2) {
		return or_none(PySequence_GetItem(odd_things, take_byte(input) % PyList_GET_SIZE(odd_things)));
	}
	bytes = take_bytes(input);
	switch (kind) {
	case 3: /* with lone surrogates, which are no UTF-8 */
		return or_none(PyUnicode_DecodeUTF8(bytes.at, (Py_ssize_t)bytes.length, "surrogateescape"));
	case 4:
		return or_none(PyUnicode_DecodeLatin1(bytes.at, (Py_ssize_t)bytes.length, NULL));
	case 5:
		return or_none(PyByteArray_FromStringAndSize(bytes.at, (Py_ssize_t)bytes.length));
	default:
		return or_none(PyBytes_FromStringAndSize(bytes.at, (Py_ssize_t)bytes.length));
	}
}

/* Each argument as it should be, unless the input wants something else in its place. */
static void make_arguments(struct input *input, PyObject **arguments)
{
	uint8_t odd = take_byte(input);
	size_t i;

	for (i = 0; i < ARGUMENTS; i++) {
		struct bytes bytes;

		if (odd & 1U << i) {
			arguments[i] = make_object(input);
		} else if (i == 0) {
			arguments[i] = or_none(PyLong_FromUnsignedLongLong(take_number(input)));
		} else if (i == 3) {
			arguments[i] = or_none(PyLong_FromLong(take_byte(input) % 3));
		} else if (i == 4) {
			arguments[i] = PyBool_FromLong(take_byte(input) & 1);
		} else {
			bytes = take_bytes(input);
			arguments[i] =
					or_none(i == 1 ? PyUnicode_DecodeUTF8(bytes.at, (Py_ssize_t)bytes.length, "replace")
								   : PyBytes_FromStringAndSize(bytes.at, (Py_ssize_t)bytes.length));
		}
	}
}

/* Python's own word on whether these are what publish() takes, and as what. */
static int expect(PyObject *const *arguments, struct published *ret_expected)
{
	struct published expected = {0};
	PyObject *encoded = PyUnicode_Check(arguments[1]) ? PyUnicode_AsUTF8String(arguments[1]) : NULL;
	PyObject *view = PyMemoryView_FromObject(arguments[2]);
	PyObject *contiguous = view ? PyObject_GetAttrString(view, "c_contiguous") : NULL;
	long qos = PyNumber_Check(arguments[3]) ? PyLong_AsLong(arguments[3]) : -1;
	int ok = PyLong_Check(arguments[0]) && encoded && contiguous == Py_True && PyBytes_Check(arguments[5]);

	ok = ok && !PyErr_Occurred();
	PyErr_Clear();
	if (ok) {
		expected.consumer = PyLong_AsUnsignedLongLong(arguments[0]);
		ok = !PyErr_Occurred();
		(void)PyLong_AsLong(arguments[3]);
		ok = ok && !PyErr_Occurred();
		PyErr_Clear();
		expected.retain = PyObject_IsTrue(arguments[4]);
		ok = ok && expected.retain >= 0;
		PyErr_Clear();
	}
	if (ok) {
		expected.qos = (uint8_t)qos;
		expected.topic = Py_NewRef(encoded);
		expected.payload = PyBytes_FromObject(view);
		expected.properties = Py_NewRef(arguments[5]);
		require(expected.payload != NULL, "a payload that is none");
		*ret_expected = expected;
	}
	Py_XDECREF(contiguous);
	Py_XDECREF(view);
	Py_XDECREF(encoded);
	return ok;
}

static void forget(struct published *expected)
{
	Py_DECREF(expected->topic);
	Py_DECREF(expected->payload);
	Py_DECREF(expected->properties);
}

static size_t size_of(const struct published *expected)
{
	return sizeof(struct message) + 1 + (size_t)PyBytes_GET_SIZE(expected->topic) +
			(size_t)PyBytes_GET_SIZE(expected->payload) + (size_t)PyBytes_GET_SIZE(expected->properties);
}

static int has_room(const struct published *expected)
{
	size_t bytes = size_of(expected), i;

	for (i = 0; i < published_count; i++) {
		bytes += size_of(&published[i]);
	}
	return published_count == 0 || (published_count < OUTBOUND_MESSAGES && bytes <= OUTBOUND_BYTES);
}

static void check_published(const struct message *message, const struct published *expected)
{
	require(message->kind == MESSAGE_PUBLISH && message->as.publish.publisher == expected->consumer &&
					message->as.publish.qos == expected->qos &&
					message->as.publish.retain == expected->retain && message->recipient_count == 0 &&
					!message->client,
			"another message");
	require(is_bytes(expected->topic, (struct bytes){message->topic, message->topic_length}) &&
					message->topic[message->topic_length] == '\0',
			"another topic");
	require(is_bytes(expected->payload, (struct bytes){message->payload, message->payload_length}),
			"another payload");
	require(is_bytes(expected->properties, (struct bytes){message->properties, message->properties_length}),
			"other properties");
}

/* The broker takes everything. */
static void drain(void)
{
	struct message *message;
	size_t i;

	for (i = 0; i < published_count; i++) {
		message = queue_take(context.outbound);
		require(message != NULL, "what was published is gone");
		check_published(message, &published[i]);
		queue_release(context.outbound, message_size(message));
		message_free(message);
		forget(&published[i]);
	}
	published_count = 0;
	require(queue_is_empty(context.outbound) && queue_count(context.outbound) == 0 &&
					queue_bytes(context.outbound) == 0,
			"more than was published");
}

static void publish(struct input *input)
{
	PyObject *arguments[ARGUMENTS + 1], *function = PyObject_GetAttrString(module, "publish"), *result;
	uint8_t how = take_byte(input);
	size_t count = how & 0x60 ? ARGUMENTS : take_byte(input) % (ARGUMENTS + 1), i;
	struct published expected;
	int is_good, scarce;

	require(function != NULL, "no memory");
	make_arguments(input, arguments);
	is_good = expect(arguments, &expected);
	begin_scarcity(how & 0x60 ? how & 0x1f : 0);
	result = PyObject_Vectorcall(function, arguments, count, NULL);
	scarce = end_scarcity();
	if (result) {
		require(is_good && count == ARGUMENTS, "it takes what is nothing for it");
		require(result == (has_room(&expected) ? Py_True : Py_False), "a full queue, or not");
		if (PyByteArray_Check(arguments[2]) && PyByteArray_GET_SIZE(arguments[2]) > 0) {
			PyByteArray_AS_STRING(arguments[2])[0]++; /* it has a copy, and holds the object no more */
			require(PyByteArray_Resize(arguments[2], 0) == 0, "a payload that is still held");
		}
	} else {
		require(!is_good || count != ARGUMENTS || scarce, "it refuses what is good");
		require(PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
						PyErr_ExceptionMatches(PyExc_OverflowError) ||
						PyErr_ExceptionMatches(PyExc_BufferError) ||
						PyErr_ExceptionMatches(PyExc_ZeroDivisionError) ||
						(scarce && PyErr_ExceptionMatches(PyExc_MemoryError)),
				"an exception of another kind");
		PyErr_Clear();
	}
	if (is_good && result == Py_True) {
		published[published_count++] = expected;
	} else if (is_good) {
		forget(&expected);
	}
	require(queue_count(context.outbound) == published_count, "a message more or less");
	for (i = 0; i < ARGUMENTS; i++) {
		Py_DECREF(arguments[i]);
	}
	Py_XDECREF(result);
	Py_DECREF(function);
	if (how & 128) {
		drain();
	}
}

/* subscribe(), unsubscribe() and log(), which have a text and numbers. */
static void say(struct input *input)
{
	uint8_t which = take_byte(input) % 3;
	uint64_t consumer = take_number(input), number = take_number(input);
	uint64_t subscribed = which == 0 ? take_number(input) & 0xfffffff3fU : 0;
	PyObject *text = make_object(input), *result;
	struct message *message;
	Py_ssize_t length = 0;
	const char *expected = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;

	PyErr_Clear();
	drain();
	result = which == 0 ? PyObject_CallMethod(module, "subscribe", "KOKK", consumer, text, subscribed, number)
			: which == 1 ? PyObject_CallMethod(module, "unsubscribe", "KOK", consumer, text, number)
						 : PyObject_CallMethod(module, "log", "iO", (int)number, text);
	message = queue_take(context.outbound);
	require(!result == !message, "a word that was not said, or said in vain");
	if (message) {
		/* What is like bytes is a text for PyArg_ParseTuple(), too. */
		require(!expected ||
						(message->topic_length == (size_t)length &&
								memcmp(message->topic, expected, (size_t)length) == 0),
				"another text");
		require(which == 2 ? message->kind == MESSAGE_LOG && message->as.log.level == (int)number
						   : message->kind == (which == 0 ? MESSAGE_SUBSCRIBE : MESSAGE_UNSUBSCRIBE) &&
								message->as.request.consumer == consumer &&
								message->as.request.sequence == number &&
								message->as.request.options == (uint8_t)subscribed &&
								message->as.request.identifier == (uint32_t)(subscribed >> 8),
				"another word");
		if (which == 2) {
			queue_release(context.outbound, message_size(message));
		}
	} else {
		require(!expected && PyErr_Occurred(), "a text that is none");
		PyErr_Clear();
	}
	message_free(message);
	Py_XDECREF(result);
	Py_DECREF(text);
}

/* ---- the target ---- */

static void run_one(struct input *input)
{
	switch (take_byte(input) % 5) {
	case 0:
	case 1:
		receive(input);
		break;
	case 2:
		receive_control(input);
		break;
	case 3:
		publish(input);
		break;
	default:
		say(input);
		break;
	}
}

static void ignore(void *userdata)
{
	(void)userdata;
}

static void start_python(void)
{
	PyPreConfig preconfig;
	PyConfig config;

	require(pymodule_register(&context) == 0, "no memory");
	PyPreConfig_InitIsolatedConfig(&preconfig);
	preconfig.utf8_mode = 1;
	preconfig.allocator = PYMEM_ALLOCATOR_MALLOC;
	require(!PyStatus_Exception(Py_PreInitialize(&preconfig)), "no Python");
	PyConfig_InitIsolatedConfig(&config);
	require(!PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name,
					MQTTASGI_PYTHON_EXECUTABLE)) &&
					!PyStatus_Exception(Py_InitializeFromConfig(&config)),
			"Python does not start");
	PyConfig_Clear(&config);
}

static const char odd_code[] =
		"import array\n"
		"class Odd:\n"
		"    def __bool__(self): return 1 / 0\n"
		"    def __index__(self): return 1 / 0\n"
		"class Text(str): pass\n"
		"class Number(int): pass\n"
		"class Index:\n"
		"    def __index__(self): return 2\n"
		"released = memoryview(b'x')\n"
		"released.release()\n"
		"things = [None, Odd(), Text('text'), Number(1), Index(), 1 << 64, -1 << 64, 1.5, b'', '', array.array('d', [1.0]),\n"
		"    memoryview(b'abcd')[::2], memoryview(b'abcd')[1:3], memoryview(b''), '\\0', '\\U0001f600', '\\ud800', (), object,\n"
		"    256, -1]\n";

/* An interpreter keeps what it has made. What is the plugin's is counted here: its blocks, and the holders of
 * what it has made for Python. */
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	PyObject *globals, *done;
	int ends[2];

	(void)argc;
	(void)argv;
	require(pipe(ends) == 0, "no pipe");
	/* take() reads what says that there is something: nothing, here. */
	(void)close(ends[1]);
	context.inbound_fd = ends[0];
	context.inbound = queue_new(100, 1 << 20, ignore, NULL);
	context.outbound = queue_new(OUTBOUND_MESSAGES, OUTBOUND_BYTES, ignore, NULL);
	context.statistics = statistics_new();
	require(context.inbound && context.outbound && context.statistics, "no memory");
	start_python();
	module = PyImport_ImportModule("_mqttasgi");
	globals = PyDict_New();
	done = module && globals ? PyRun_String(odd_code, Py_file_input, globals, globals) : NULL;
	odd_things = done ? PyDict_GetItemString(globals, "things") : NULL;
	require(odd_things != NULL, "not prepared");
	Py_DECREF(done);
	make_memory_scarce();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	long blocks = scarce_memory_blocks();
	int i;

	for (i = 0; i < OPERATIONS_MAX && input.left > 0; i++) {
		run_one(&input);
		require(!PyErr_Occurred(), "an exception that nobody raised");
	}
	drain();
	require(scarce_memory_blocks() == blocks, "a block that nobody has");
	return 0;
}
