#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/fingerprint.h"
#include "shared/hash.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"

static uint64_t of(const char *topic, const void *payload, size_t payload_length)
{
	const struct message_content content = {
		.topic = topic, .topic_length = strlen(topic), .payload = payload, .payload_length = payload_length};

	return fingerprint_of(&content, true);
}

static uint64_t with(const char *properties, size_t length)
{
	const struct message_content content = {
		.topic = "t", .topic_length = 1, .properties = properties, .properties_length = length};

	return fingerprint_of(&content, true);
}

static void test_topic_and_payload(void **state)
{
	static const char zeros[40];
	enum { COUNT = 2000 };
	uint64_t *found = calloc(COUNT, sizeof(*found));
	char payload[16];
	int i, j;

	(void)state;
	assert_true(of("a", "bc", 2) == of("a", "bc", 2));
	assert_true(of("a", "bc", 2) != of("ab", "c", 1));
	assert_true(of("a", "bc", 2) != of("a", "bd", 2));
	assert_true(of("a", NULL, 0) == of("a", "", 0));
	for (i = 0; i < COUNT; i++) {
		(void)snprintf(payload, sizeof(payload), "%d", i);
		/* Numbers, and zeros of each length. */
		found[i] = i < (int)sizeof(zeros) ? of("zeros", zeros, (size_t)i) : of("t", payload, strlen(payload));
		for (j = 0; j < i; j++) {
			assert_true(found[i] != found[j]);
		}
	}
	free(found);
}

#define USER(name, value) "\x26\0\1" name "\0\1" value
#define EXPIRY(seconds) "\x02\0\0\0" seconds
#define WITH(bytes) with(bytes, sizeof(bytes) - 1)

static void test_properties(void **state)
{
	(void)state;
	assert_true(WITH("") == of("t", NULL, 0));
	assert_true(WITH(USER("a", "b")) != WITH(""));
	assert_true(WITH(USER("a", "b")) != WITH(USER("a", "c")));
	assert_true(WITH(USER("a", "b")) != WITH(USER("b", "a")));
	assert_true(WITH(USER("a", "b") USER("c", "d")) != WITH(USER("c", "d") USER("a", "b")));
	assert_true(WITH(USER("a", "b")) != WITH(USER("a", "b") USER("a", "b")));
	assert_true(WITH("\x09\0\1x") != WITH("\x03\0\1x"));
	assert_true(WITH("\x01\0") != WITH("\x01\1"));
	assert_true(WITH("\x01\0") != WITH(""));
	assert_true(WITH("\x0b\1") != WITH(""));
	assert_true(WITH("\x0b\1" USER("a", "b")) != WITH("\x0b\1" USER("a", "c")));
	/* Which the broker counts down. */
	assert_true(WITH(EXPIRY("\5")) == WITH(""));
	assert_true(WITH(USER("a", "b") EXPIRY("\5") USER("c", "d")) ==
			WITH(USER("a", "b") USER("c", "d") EXPIRY("\4")));
	assert_true(WITH(EXPIRY("\5") USER("a", "b") USER("c", "d")) == WITH(USER("a", "b") USER("c", "d")));
}

static void test_without_properties(void **state)
{
	const struct message_content content = {.topic = "t",
		.topic_length = 1,
		.properties = USER("a", "b"),
		.properties_length = sizeof(USER("a", "b")) - 1};

	(void)state;
	assert_true(fingerprint_of(&content, false) == of("t", NULL, 0));
	assert_true(fingerprint_of(&content, true) != of("t", NULL, 0));
}

static bool fits(const struct fingerprint_copies *copies, uint8_t qos, enum fingerprint_retain retain)
{
	size_t i;

	for (i = 0; i < copies->count; i++) {
		if (copies->values[i] == fingerprint_published(7, qos, retain)) {
			return true;
		}
	}
	return false;
}

/* What the subscription makes of QoS and RETAIN flag. */
static void test_what_a_copy_may_be(void **state)
{
	static const struct {
		uint8_t least, most;
		bool shows, retain;
	} cases[] = {{0, 2, false, false}, {0, 0, true, false}, {1, 2, true, true}, {2, 2, false, false},
		{1, 1, true, true}, {0, 1, true, false}};
	uint8_t qos;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fingerprint_copies copies =
				fingerprint_copies(7, cases[i].least, cases[i].most, cases[i].shows, cases[i].retain);

		for (qos = 0; qos < 3; qos++) {
			bool suits = qos >= cases[i].least && qos <= cases[i].most;

			assert_int_equal(fits(&copies, qos, FINGERPRINT_LIVE), suits && !cases[i].retain);
			assert_int_equal(fits(&copies, qos, FINGERPRINT_RETAIN),
					suits && (!cases[i].shows || cases[i].retain));
			/* The broker may have taken the flag off. */
			assert_int_equal(fits(&copies, qos, FINGERPRINT_OWN_RETAIN), suits);
		}
	}
	assert_true(fingerprint_published(0, 0, FINGERPRINT_LIVE) != 0);
}

static void test_hashes(void **state)
{
	struct hash a = hash_begin(), b = hash_begin();

	(void)state;
	assert_true(hash_text("a") == hash_text("a"));
	assert_true(hash_text("a") != hash_text("b"));
	assert_true(hash_text("") != hash_text("a"));
	assert_true(hash_number(1) == hash_number(1));
	assert_true(hash_number(1) != hash_number(2));
	hash_add(&a, "ab", 2);
	hash_add(&a, "c", 1);
	hash_add(&b, "a", 1);
	hash_add(&b, "bc", 2);
	assert_true(hash_end(&a) != hash_end(&b));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topic_and_payload),
		cmocka_unit_test(test_properties),
		cmocka_unit_test(test_without_properties),
		cmocka_unit_test(test_what_a_copy_may_be),
		cmocka_unit_test(test_hashes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
