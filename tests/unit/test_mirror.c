#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/mirror.h"
#include "scarce_memory.h"

static char forgotten[100000];

static void forget(void *userdata, const char *topic)
{
	(void)strcat((char *)userdata, topic);
	(void)strcat((char *)userdata, " ");
}

static const char *forget_all(struct mirror *mirror)
{
	*forgotten = '\0';
	mirror_forget(mirror, forget, forgotten);
	return forgotten;
}

static void test_what_is_kept_is_forgotten_once(void **state)
{
	long blocks = scarce_memory_blocks();
	struct mirror *mirror = mirror_new();

	(void)state;
	assert_string_equal(forget_all(mirror), "");
	mirror_note(mirror, "a", false);
	mirror_note(mirror, "a", false);
	assert_string_equal(forget_all(mirror), "a ");
	assert_string_equal(forget_all(mirror), "");
	mirror_note(mirror, "a", false);
	mirror_note(mirror, "b", false);
	mirror_note(mirror, "a", true);
	mirror_note(mirror, "c", true);
	assert_string_equal(forget_all(mirror), "b ");
	mirror_note(mirror, "a", false);
	mirror_free(mirror);
	mirror_free(NULL);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_many(void **state)
{
	struct mirror *mirror = mirror_new();
	char topic[16];
	unsigned int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 3000; i++) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			mirror_note(mirror, topic, false);
		}
		for (i = 0; i < 3000; i += 2) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			mirror_note(mirror, topic, true);
		}
		assert_int_equal(strlen(forget_all(mirror)), 1500 * strlen("t/00000 "));
		assert_non_null(strstr(forgotten, "t/02999 "));
		assert_null(strstr(forgotten, "t/02998 "));
	}
	mirror_free(mirror);
}

static void test_no_memory(void **state)
{
	struct mirror *mirror;
	unsigned long n;

	(void)state;
	scarce_memory(1, false);
	assert_null(mirror_new());
	assert_true(scarce_memory_end());
	mirror = mirror_new();
	for (n = 1;; n++) {
		scarce_memory(n, false);
		mirror_note(mirror, "a", false);
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
			cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
