#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/mirror.h"
#include "scarce_memory.h"
#include "stub_broker.h"

static char forgotten[100000];

static void forget(void *userdata, const char *topic)
{
	(void)strcat((char *)userdata, topic);
	(void)strcat((char *)userdata, " ");
}

static const char *forget_all(struct mirror *mirror)
{
	*forgotten = '\0';
	mirror_client_gone(mirror, "somebody", forget, forgotten);
	assert_string_equal(forgotten, "");
	mirror_client_gone(mirror, "the-bridge", forget, forgotten);
	return forgotten;
}

static void test_what_is_kept_is_forgotten_once(void **state)
{
	long blocks = scarce_memory_blocks();
	struct mirror *mirror = mirror_new("the-bridge");

	(void)state;
	assert_string_equal(forget_all(mirror), "");
	mirror_note(mirror, "a", true, false);
	mirror_note(mirror, "a", true, false);
	assert_string_equal(forget_all(mirror), "a ");
	assert_string_equal(forget_all(mirror), "");
	mirror_note(mirror, "a", true, false);
	mirror_note(mirror, "b", true, false);
	mirror_note(mirror, "a", true, true);
	mirror_note(mirror, "c", true, true);
	mirror_note(mirror, "d", false, false);
	assert_string_equal(forget_all(mirror), "b ");
	mirror_note(mirror, "a", true, false);
	mirror_free(mirror);
	mirror_free(NULL);
	mirror_note(NULL, "a", true, false);
	mirror_client_gone(NULL, "the-bridge", forget, forgotten);
	stub_broker_reset();
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_many(void **state)
{
	struct mirror *mirror = mirror_new("the-bridge");
	char topic[16];
	unsigned int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 3000; i++) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			mirror_note(mirror, topic, true, false);
		}
		for (i = 0; i < 3000; i += 2) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			mirror_note(mirror, topic, true, true);
		}
		assert_int_equal(strlen(forget_all(mirror)), 1500 * strlen("t/00000 "));
		assert_non_null(strstr(forgotten, "t/02999 "));
		assert_null(strstr(forgotten, "t/02998 "));
	}
	mirror_free(mirror);
}

/* As with clients that retain messages which expire: the broker forgets those by itself. */
static void test_long_topics_have_a_bound(void **state)
{
	long blocks = scarce_memory_blocks();
	struct mirror *mirror = mirror_new("the-bridge");
	static char topic[65536];
	unsigned int i, past = 10, count = MIRROR_BYTES_MAX / sizeof(topic) + past;

	(void)state;
	memset(topic, 'x', sizeof(topic) - 1);
	for (i = 0; i < count; i++) {
		(void)snprintf(topic, 9, "%08u", i);
		topic[8] = 'x';
		mirror_note(mirror, topic, true, false);
	}
	assert_true(stub_broker_logged("is not forgotten here when the link"));
	/* One that makes room. */
	(void)snprintf(topic, 9, "%08u", 0);
	topic[8] = 'x';
	mirror_note(mirror, topic, true, true);
	mirror_note(mirror, "again", true, false);
	mirror_note(mirror, "again", true, true);
	assert_in_range(scarce_memory_blocks() - blocks, count - 3 * past, count - 1);
	mirror_free(mirror);
	stub_broker_reset();
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_no_memory(void **state)
{
	struct mirror *mirror;
	unsigned long n;

	(void)state;
	scarce_memory(1, false);
	assert_null(mirror_new("the-bridge"));
	assert_true(scarce_memory_end());
	mirror = mirror_new("the-bridge");
	for (n = 1;; n++) {
		scarce_memory(n, false);
		mirror_note(mirror, "a", true, false);
		if (!scarce_memory_end()) {
			break;
		}
		assert_string_equal(forget_all(mirror), "");
	}
	assert_string_equal(forget_all(mirror), "a ");
	mirror_free(mirror);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_kept_is_forgotten_once),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_long_topics_have_a_bound),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
