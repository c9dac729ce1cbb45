#include "session/packets.h"

#include <string.h>

#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/text.h"

#define STRING_MAX 65535U

/* ---- bytes that come ---- */

struct cursor {
	unsigned char *at, *end;
};

static size_t left(const struct cursor *cursor)
{
	return (size_t)(cursor->end - cursor->at);
}

static bool take_number(struct cursor *cursor, unsigned int size, uint32_t *ret_number)
{
	uint32_t number = 0;

	if (left(cursor) < size) {
		return false;
	}
	while (size-- > 0) {
		number = number << 8 | *cursor->at++;
	}
	*ret_number = number;
	return true;
}

/* A Variable Byte Integer (MQTT 5, 1.5.5). Returns how many bytes it has; 0: it goes on behind length; -1: it
 * is none. */
static int read_variable(const unsigned char *bytes, size_t length, uint32_t *ret_number)
{
	uint32_t number = 0;
	int i;

	for (i = 0; i < 4; i++) {
		if ((size_t)i == length) {
			return 0;
		}
		number |= (uint32_t)(bytes[i] & 0x7f) << (7 * i);
		if (!(bytes[i] & 0x80)) {
			*ret_number = number;
			return i + 1;
		}
	}
	return -1;
}

static bool take_variable(struct cursor *cursor, uint32_t *ret_number)
{
	int size = read_variable(cursor->at, left(cursor), ret_number);

	if (size <= 0) {
		return false;
	}
	cursor->at += size;
	return true;
}

static bool take_binary(struct cursor *cursor, unsigned char **ret_value, size_t *ret_length)
{
	uint32_t length;

	if (!take_number(cursor, 2, &length) || left(cursor) < length) {
		return false;
	}
	*ret_value = cursor->at;
	*ret_length = length;
	cursor->at += length;
	return true;
}

/* Bytes of the character at s: 0 where there is none that MQTT 5 allows (1.5.4). */
static size_t character_length(const unsigned char *s, size_t available)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4, i;

	if (s[0] == 0 || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4 || length > available) {
		return 0;
	}
	for (i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	/* Longer than need be, half of a pair of UTF-16, beyond the last one. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
			(s[0] == 0xf4 && s[1] > 0x8f)) {
		return 0;
	}
	return length;
}

static bool is_string(const unsigned char *bytes, size_t length)
{
	size_t at, character;

	for (at = 0; at < length; at += character) {
		character = character_length(bytes + at, length - at);
		if (!character) {
			return false;
		}
	}
	return true;
}

static bool take_string(struct cursor *cursor, unsigned char **ret_value, size_t *ret_length)
{
	return take_binary(cursor, ret_value, ret_length) && is_string(*ret_value, *ret_length);
}

/* ---- properties (MQTT 5, 2.2.2.2) ---- */

enum kind { NONE, BYTE, TWO, FOUR, VARIABLE, STRING, BINARY, PAIR };

#define IN(type) (1U << PACKETS_##type)
#define IN_ANSWERS (IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) | IN(UNSUBACK))

#define OF_PUBLISH(identifier, kind, name, comes)                                                            \
	[MQTT_PROP_##identifier] = {kind, (comes) ? IN(PUBLISH) : 0},

static const struct {
	enum kind kind;
	unsigned int packets; /* that a broker sends with it */
} property_kinds[] = {
	PROPERTIES(OF_PUBLISH)[MQTT_PROP_SUBSCRIPTION_IDENTIFIER] = {VARIABLE, IN(PUBLISH)},
	[MQTT_PROP_SESSION_EXPIRY_INTERVAL] = {FOUR, IN(CONNACK) | IN(DISCONNECT)},
	[MQTT_PROP_ASSIGNED_CLIENT_IDENTIFIER] = {STRING, IN(CONNACK)},
	[MQTT_PROP_SERVER_KEEP_ALIVE] = {TWO, IN(CONNACK)},
	[MQTT_PROP_AUTHENTICATION_METHOD] = {STRING, IN(CONNACK)},
	[MQTT_PROP_AUTHENTICATION_DATA] = {BINARY, IN(CONNACK)},
	[MQTT_PROP_RESPONSE_INFORMATION] = {STRING, IN(CONNACK)},
	[MQTT_PROP_SERVER_REFERENCE] = {STRING, IN(CONNACK) | IN(DISCONNECT)},
	[MQTT_PROP_REASON_STRING] = {STRING, IN(CONNACK) | IN_ANSWERS | IN(DISCONNECT)},
	[MQTT_PROP_RECEIVE_MAXIMUM] = {TWO, IN(CONNACK)},
	[MQTT_PROP_TOPIC_ALIAS_MAXIMUM] = {TWO, IN(CONNACK)},
	/* A Topic Alias is not allowed, because CONNECT asks for none. */
	[MQTT_PROP_MAXIMUM_QOS] = {BYTE, IN(CONNACK)},
	[MQTT_PROP_RETAIN_AVAILABLE] = {BYTE, IN(CONNACK)},
	[MQTT_PROP_USER_PROPERTY] = {PAIR, IN(CONNACK) | IN(PUBLISH) | IN_ANSWERS | IN(DISCONNECT)},
	[MQTT_PROP_MAXIMUM_PACKET_SIZE] = {FOUR, IN(CONNACK)},
	[MQTT_PROP_WILDCARD_SUB_AVAILABLE] = {BYTE, IN(CONNACK)},
	[MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE] = {BYTE, IN(CONNACK)},
	[MQTT_PROP_SHARED_SUB_AVAILABLE] = {BYTE, IN(CONNACK)},
};
#define PROPERTY_KINDS (sizeof(property_kinds) / sizeof(property_kinds[0]))

struct found {
	uint32_t identifier;
	uint32_t number;
	unsigned char *value;
	size_t value_length;
};

static bool take_value(struct cursor *cursor, enum kind kind, struct found *ret_found)
{
	unsigned char *name;
	size_t name_length;

	switch (kind) {
	case BYTE:
		return take_number(cursor, 1, &ret_found->number);
	case TWO:
		return take_number(cursor, 2, &ret_found->number);
	case FOUR:
		return take_number(cursor, 4, &ret_found->number);
	case VARIABLE:
		return take_variable(cursor, &ret_found->number);
	case STRING:
		return take_string(cursor, &ret_found->value, &ret_found->value_length);
	case BINARY:
		return take_binary(cursor, &ret_found->value, &ret_found->value_length);
	case PAIR:
		return take_string(cursor, &name, &name_length) &&
				take_string(cursor, &ret_found->value, &ret_found->value_length);
	case NONE:
		break;
	}
	return false;
}

/* Takes one property; seen has a bit for each that a packet of this type may have once. */
static bool take_property(struct cursor *cursor, uint8_t type, uint64_t *seen, struct found *ret_found)
{
	uint32_t identifier;

	*ret_found = (struct found){0};
	if (!take_variable(cursor, &identifier) || identifier >= PROPERTY_KINDS ||
			!(property_kinds[identifier].packets & (1U << type)) || (*seen >> identifier & 1U)) {
		return false;
	}
	if (identifier != MQTT_PROP_USER_PROPERTY && identifier != MQTT_PROP_SUBSCRIPTION_IDENTIFIER) {
		*seen |= (uint64_t)1 << identifier;
	}
	ret_found->identifier = identifier;
	return take_value(cursor, property_kinds[identifier].kind, ret_found);
}

/* Takes the length of the properties, and what they are in. */
static bool take_properties(struct cursor *cursor, struct cursor *ret_properties)
{
	uint32_t length;

	if (!take_variable(cursor, &length) || left(cursor) < length) {
		return false;
	}
	ret_properties->at = cursor->at;
	ret_properties->end = cursor->at + length;
	cursor->at += length;
	return true;
}

/* ---- packets that come ---- */

long packets_find(unsigned char *bytes, size_t length, struct packets_packet *ret_packet)
{
	uint32_t body;
	int size;

	if (length < 2) {
		return 0;
	}
	size = read_variable(bytes + 1, length - 1, &body);
	if (size <= 0) {
		return size;
	}
	if (length - 1 - (size_t)size < body) {
		return 0;
	}
	ret_packet->type = bytes[0] >> 4;
	ret_packet->flags = bytes[0] & 0x0f;
	ret_packet->body = bytes + 1 + size;
	ret_packet->length = body;
	return 1 + size + (long)body;
}

static const char *read_connack_properties(struct cursor *cursor, struct packets_connack *connack)
{
	struct cursor properties;
	struct found found;
	uint64_t seen = 0;

	if (!take_properties(cursor, &properties)) {
		return "properties that do not end in a CONNACK";
	}
	while (left(&properties) > 0) {
		if (!take_property(&properties, PACKETS_CONNACK, &seen, &found)) {
			return "a property that is none in a CONNACK";
		}
		if (found.identifier == MQTT_PROP_SERVER_KEEP_ALIVE) {
			connack->has_keep_alive = true;
			connack->keep_alive = (uint16_t)found.number;
		} else if (found.identifier == MQTT_PROP_MAXIMUM_PACKET_SIZE) {
			connack->size_max = found.number;
		} else if (found.identifier == MQTT_PROP_REASON_STRING) {
			connack->reason = (const char *)found.value;
			connack->reason_length = found.value_length;
		}
	}
	return NULL;
}

const char *packets_read_connack(const struct packets_packet *packet, struct packets_connack *ret_connack)
{
	struct cursor cursor = {packet->body, packet->body + packet->length};
	struct packets_connack connack = {.size_max = PACKETS_SIZE_MAX};
	const char *wrong = NULL;
	uint32_t flags, code;

	if (packet->flags || !take_number(&cursor, 1, &flags) || !take_number(&cursor, 1, &code) || flags > 1) {
		return "a CONNACK that is none";
	}
	connack.session_present = flags & 1;
	connack.code = (uint8_t)code;
	/* A broker that does not know MQTT 5 says so in MQTT 3 (MQTT 5, 4.13.2 has no word on that). */
	connack.is_old = left(&cursor) == 0 && code > 0 && code < 0x80;
	if (!connack.is_old) {
		wrong = read_connack_properties(&cursor, &connack);
		if (!wrong && (left(&cursor) > 0 || (code && code < 0x80) || (code && connack.session_present))) {
			wrong = "a CONNACK that is none";
		}
	}
	if (!wrong) {
		*ret_connack = connack;
	}
	return wrong;
}

/* What consumers get of the properties is moved together, over the subscription identifiers. */
static bool read_publish_properties(struct cursor *cursor, struct packets_publish *publish)
{
	struct cursor properties;
	unsigned char *kept, *before;
	struct found found;
	uint64_t seen = 0;

	if (!take_properties(cursor, &properties)) {
		return false;
	}
	kept = properties.at;
	publish->properties = kept;
	while (left(&properties) > 0) {
		before = properties.at;
		if (!take_property(&properties, PACKETS_PUBLISH, &seen, &found)) {
			return false;
		}
		if (found.identifier == MQTT_PROP_SUBSCRIPTION_IDENTIFIER) {
			if (found.number == 0) {
				return false;
			}
			publish->subscription = publish->subscription ? publish->subscription : found.number;
			continue;
		}
		if (kept != before) {
			memmove(kept, before, (size_t)(properties.at - before));
		}
		kept += properties.at - before;
	}
	publish->properties_length = (size_t)(kept - (const unsigned char *)publish->properties);
	if (!publish->properties_length) {
		publish->properties = NULL;
	}
	return true;
}

const char *packets_read_publish(const struct packets_packet *packet, struct packets_publish *ret_publish)
{
	struct cursor cursor = {packet->body, packet->body + packet->length};
	struct packets_publish publish = {
		.qos = packet->flags >> 1 & 3, .dup = packet->flags >> 3, .retain = packet->flags & 1};
	unsigned char *topic;
	size_t topic_length;
	uint32_t number = 0;

	*ret_publish = publish;
	if (publish.qos == 3) {
		return "a PUBLISH with QoS 3";
	}
	if (!take_binary(&cursor, &topic, &topic_length) ||
			(publish.qos && (!take_number(&cursor, 2, &number) || !number))) {
		return "a PUBLISH without its topic or packet identifier";
	}
	ret_publish->packet = publish.packet = (uint16_t)number;
	if (topic_length == 0 || !is_string(topic, topic_length) || memchr(topic, '+', topic_length) ||
			memchr(topic, '#', topic_length)) {
		return "a PUBLISH whose topic is none";
	}
	if (!read_publish_properties(&cursor, &publish)) {
		return "a PUBLISH with a property that is none";
	}
	publish.payload = cursor.at;
	publish.payload_length = left(&cursor);
	/* The terminator takes a byte of the length in front. */
	memmove(topic - 1, topic, topic_length);
	topic[topic_length - 1] = '\0';
	publish.topic = (const char *)topic - 1;
	*ret_publish = publish;
	return NULL;
}

static const char *read_answer_properties(struct cursor *cursor, uint8_t type, struct packets_answer *answer)
{
	struct cursor properties;
	struct found found;
	uint64_t seen = 0;

	if (!take_properties(cursor, &properties)) {
		return "properties that do not end";
	}
	while (left(&properties) > 0) {
		if (!take_property(&properties, type, &seen, &found)) {
			return "a property that is none";
		}
		if (found.identifier == MQTT_PROP_REASON_STRING) {
			answer->reason = (const char *)found.value;
			answer->reason_length = found.value_length;
		}
	}
	return NULL;
}

const char *packets_read_answer(const struct packets_packet *packet, struct packets_answer *ret_answer)
{
	struct cursor cursor = {packet->body, packet->body + packet->length};
	bool lists = packet->type == PACKETS_SUBACK || packet->type == PACKETS_UNSUBACK;
	struct packets_answer answer = {0};
	const char *wrong = NULL;
	uint32_t number = 0;

	if (packet->flags != (packet->type == PACKETS_PUBREL ? 2 : 0)) {
		return "a packet with flags that it cannot have";
	}
	if (packet->type != PACKETS_DISCONNECT && (!take_number(&cursor, 2, &number) || !number)) {
		return "an answer without its packet identifier";
	}
	answer.packet = (uint16_t)number;
	/* Elsewhere than in these two, code and properties may be left out (MQTT 5, 3.6.2.1, 3.14.2.1). */
	if (!lists && left(&cursor) > 0) {
		(void)take_number(&cursor, 1, &number);
		answer.code = (uint8_t)number;
	}
	if (lists || left(&cursor) > 0) {
		wrong = read_answer_properties(&cursor, packet->type, &answer);
	}
	if (!wrong && lists) {
		if (!take_number(&cursor, 1, &number)) {
			return "an answer without a reason code";
		}
		answer.code = (uint8_t)number;
	} else if (!wrong && left(&cursor) > 0) {
		wrong = "a packet that is longer than what is in it";
	}
	if (!wrong) {
		*ret_answer = answer;
	}
	return wrong;
}

/* ---- reason codes ---- */

static const struct {
	uint8_t code;
	const char *text;
} reasons[] = {
	{0x00, "Success"},
	{0x04, "Disconnect with Will Message"},
	{0x80, "Unspecified error"},
	{0x81, "Malformed Packet"},
	{0x82, "Protocol Error"},
	{0x83, "Implementation specific error"},
	{0x84, "Unsupported Protocol Version"},
	{0x85, "Client Identifier not valid"},
	{0x86, "Bad User Name or Password"},
	{0x87, "Not authorized"},
	{0x88, "Server unavailable"},
	{0x89, "Server busy"},
	{0x8a, "Banned"},
	{0x8b, "Server shutting down"},
	{0x8c, "Bad authentication method"},
	{0x8d, "Keep Alive timeout"},
	{0x8e, "Session taken over"},
	{0x8f, "Topic Filter invalid"},
	{0x90, "Topic Name invalid"},
	{0x91, "Packet Identifier in use"},
	{0x92, "Packet Identifier not found"},
	{0x93, "Receive Maximum exceeded"},
	{0x94, "Topic Alias invalid"},
	{0x95, "Packet too large"},
	{0x96, "Message rate too high"},
	{0x97, "Quota exceeded"},
	{0x98, "Administrative action"},
	{0x99, "Payload format invalid"},
	{0x9a, "Retain not supported"},
	{0x9b, "QoS not supported"},
	{0x9c, "Use another server"},
	{0x9d, "Server moved"},
	{0x9e, "Shared Subscriptions not supported"},
	{0x9f, "Connection rate exceeded"},
	{0xa0, "Maximum connect time"},
	{0xa1, "Subscription Identifiers not supported"},
	{0xa2, "Wildcard Subscriptions not supported"},
};

/* MQTT 3.1.1, 3.2.2.3 */
static const char *const old_reasons[] = {"Connection accepted",
	"unacceptable protocol version, it does not speak MQTT 5", "identifier rejected", "server unavailable",
	"bad user name or password", "not authorized"};

const char *packets_reason(uint8_t code, bool is_old)
{
	size_t i;

	if (is_old) {
		return code < sizeof(old_reasons) / sizeof(old_reasons[0]) ? old_reasons[code] : "unknown reason";
	}
	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].code == code) {
			return reasons[i].text;
		}
	}
	return "unknown reason";
}

/* ---- packets that go ---- */

static void add_number(struct text *bytes, uint32_t number, unsigned int size)
{
	char byte;

	while (size-- > 0) {
		byte = (char)(number >> (8 * size) & 0xff);
		text_add(bytes, &byte, 1);
	}
}

static size_t variable_size(uint32_t number)
{
	return number < 1U << 7 ? 1 : number < 1U << 14 ? 2 : number < 1U << 21 ? 3 : 4;
}

static void add_variable(struct text *bytes, uint32_t number)
{
	for (; number > 0x7f; number >>= 7) {
		add_number(bytes, (number & 0x7f) | 0x80, 1);
	}
	add_number(bytes, number, 1);
}

/* What is longer than a string can be is not sent at all: half a password would be another one. */
static void add_string(struct text *bytes, const char *value)
{
	size_t length = strlen(value);

	if (length > STRING_MAX) {
		bytes->failed = true;
		return;
	}
	add_number(bytes, (uint32_t)length, 2);
	text_add(bytes, value, length);
}

static void begin(struct text *bytes, enum packets_type type, uint8_t flags, size_t length)
{
	add_number(bytes, (uint32_t)type << 4 | flags, 1);
	add_variable(bytes, (uint32_t)length);
}

void packets_write_connect(struct text *bytes, const struct packets_connect *connect)
{
	enum { PROPERTIES = 5 + 3, FIXED = 6 + 1 + 1 + 2 + 1 + PROPERTIES };
	size_t length = FIXED + 2 + strlen(connect->client_id);
	uint8_t flags = 0;

	if (connect->username) {
		flags |= 0x80;
		length += 2 + strlen(connect->username);
	}
	if (connect->password) {
		flags |= 0x40;
		length += 2 + strlen(connect->password);
	}
	begin(bytes, PACKETS_CONNECT, 0, length);
	add_string(bytes, "MQTT");
	add_number(bytes, 5, 1);
	add_number(bytes, flags, 1);
	add_number(bytes, connect->keep_alive, 2);
	add_variable(bytes, PROPERTIES);
	add_number(bytes, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 1);
	add_number(bytes, connect->session_expiry, 4);
	add_number(bytes, MQTT_PROP_RECEIVE_MAXIMUM, 1);
	add_number(bytes, connect->receive_maximum, 2);
	add_string(bytes, connect->client_id);
	if (connect->username) {
		add_string(bytes, connect->username);
	}
	if (connect->password) {
		add_string(bytes, connect->password);
	}
}

void packets_write_answer(struct text *bytes, enum packets_type type, uint16_t packet, uint8_t code)
{
	begin(bytes, type, 0, code ? 3 : 2);
	add_number(bytes, packet, 2);
	if (code) {
		add_number(bytes, code, 1);
	}
}

void packets_write_subscribe(struct text *bytes, uint16_t packet, const char *filter, uint32_t identifier,
		uint8_t options)
{
	size_t properties = 1 + variable_size(identifier);

	begin(bytes, PACKETS_SUBSCRIBE, 2, 2 + 1 + properties + 2 + strlen(filter) + 1);
	add_number(bytes, packet, 2);
	add_variable(bytes, (uint32_t)properties);
	add_number(bytes, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 1);
	add_variable(bytes, identifier);
	add_string(bytes, filter);
	add_number(bytes, options, 1);
}

void packets_write_unsubscribe(struct text *bytes, uint16_t packet, const char *filter)
{
	begin(bytes, PACKETS_UNSUBSCRIBE, 2, 2 + 1 + 2 + strlen(filter));
	add_number(bytes, packet, 2);
	add_variable(bytes, 0);
	add_string(bytes, filter);
}

void packets_write_ping(struct text *bytes)
{
	begin(bytes, PACKETS_PINGREQ, 0, 0);
}

void packets_write_disconnect(struct text *bytes, uint8_t code, bool end_session)
{
	if (!end_session) {
		begin(bytes, PACKETS_DISCONNECT, 0, code ? 1 : 0);
		if (code) {
			add_number(bytes, code, 1);
		}
		return;
	}
	begin(bytes, PACKETS_DISCONNECT, 0, 1 + 1 + 5);
	add_number(bytes, code, 1);
	add_variable(bytes, 5);
	add_number(bytes, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 1);
	add_number(bytes, 0, 4);
}
