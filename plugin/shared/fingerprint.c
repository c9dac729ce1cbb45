#include "shared/fingerprint.h"

#include "shared/hash.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"

#define RETAINS 3U

/* All but the Message Expiry Interval, each by itself, so that it does not matter where that was. */
static void add_properties(struct hash *hash, const unsigned char *bytes, size_t length)
{
	const unsigned char *at = bytes, *end = bytes + length, *from = bytes;
	struct property property;

	for (; at < end && properties_take(&at, end, &property); from = at) {
		if (property.identifier != MQTT_PROP_MESSAGE_EXPIRY_INTERVAL) {
			hash_add(hash, from, (size_t)(at - from));
		}
	}
	if (from < end) {
		hash_add(hash, from, (size_t)(end - from)); /* what nobody knows is no reason to take two for one */
	}
}

uint64_t fingerprint_of(const struct message_content *content, bool with_properties)
{
	struct hash hash = hash_begin();

	hash_add(&hash, content->topic, content->topic_length);
	hash_add(&hash, content->payload, content->payload_length);
	if (with_properties && content->properties_length) {
		add_properties(&hash, content->properties, content->properties_length);
	}
	return hash_end(&hash);
}

/* Two messages whose contents differ have the same with the chance of two hashes to be the same. */
uint64_t fingerprint_published(uint64_t of_content, uint8_t qos, enum fingerprint_retain retain)
{
	uint64_t value = of_content + (uint64_t)(qos * RETAINS + (unsigned int)retain) * 0x9e3779b97f4a7c15U;

	return value ? value : 1;
}

static void add_copies(struct fingerprint_copies *copies, uint64_t of_content, uint8_t least_qos,
		uint8_t most_qos, enum fingerprint_retain retain)
{
	uint8_t qos;

	for (qos = least_qos; qos <= most_qos && copies->count < FINGERPRINT_COPIES_MAX; qos++) {
		copies->values[copies->count++] = fingerprint_published(of_content, qos, retain);
	}
}

struct fingerprint_copies fingerprint_copies(uint64_t of_content, uint8_t least_qos, uint8_t most_qos,
		bool shows_retain, bool retain)
{
	struct fingerprint_copies copies = {.count = 0};

	/* The most frequent first. */
	if (!shows_retain || !retain) {
		add_copies(&copies, of_content, least_qos, most_qos, FINGERPRINT_LIVE);
	}
	if (!shows_retain || retain) {
		add_copies(&copies, of_content, least_qos, most_qos, FINGERPRINT_RETAIN);
	}
	add_copies(&copies, of_content, least_qos, most_qos, FINGERPRINT_OWN_RETAIN);
	return copies;
}
