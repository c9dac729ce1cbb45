/* By what the session recognises a message that the broker thread has seen before: all that a copy carries.
 *
 * Topic, payload and MQTT 5 properties reach a subscriber as they were published, except for the Message
 * Expiry Interval, which the broker counts down and keeps from the MESSAGE event, and for what is between it
 * and one client (Topic Alias, Subscription Identifiers); in the order in which they were published, on
 * Mosquitto 2.0 and 2.1. QoS and RETAIN flag are what the subscription makes of those published, so a copy
 * may fit several messages. Any thread. */
#ifndef MQTTASGI_FINGERPRINT_H
#define MQTTASGI_FINGERPRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct message_content;

/* The RETAIN flag of a message as it was published. OWN: by a consumer, with the flag, which the broker takes
 * off where retain_available is false. */
enum fingerprint_retain { FINGERPRINT_LIVE, FINGERPRINT_RETAIN, FINGERPRINT_OWN_RETAIN };

/* Those that a copy may have: see fingerprint_copies(). */
#define FINGERPRINT_COPIES_MAX 9U
struct fingerprint_copies {
	uint64_t values[FINGERPRINT_COPIES_MAX];
	size_t count;
};

/* Of topic, payload and properties; with_properties false: without those. */
uint64_t fingerprint_of(const struct message_content *content, bool with_properties);

/* Of the whole message, made of that; never 0. */
uint64_t fingerprint_published(uint64_t of_content, uint8_t qos, enum fingerprint_retain retain);

/* Of all messages whose copy this may be: published with a QoS from least to most, and with this flag, unless
 * the copy does not show it. */
struct fingerprint_copies fingerprint_copies(uint64_t of_content, uint8_t least_qos, uint8_t most_qos,
		bool shows_retain, bool retain);

#endif
