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

static const char *forget_all(struct retained *retained)
{
	*forgotten = '\0';
	retained_forget(retained, forget, forgotten);
	return forgotten;
}

static void test_what_is_kept_is_forgotten_once(void **state)
{
	long blocks = scarce_memory_blocks();
	struct retained *retained = retained_new();

	(void)state;
	assert_string_equal(forget_all(retained), "");
	retained_note(retained, "a", false);
	retained_note(retained, "a", false);
	assert_string_equal(forget_all(retained), "a ");
	assert_string_equal(forget_all(retained), "");
	retained_note(retained, "a", false);
	retained_note(retained, "b", false);
	retained_note(retained, "a", true);
	retained_note(retained, "c", true);
	assert_string_equal(forget_all(retained), "b ");
	retained_note(retained, "a", false);
	retained_free(retained);
	retained_free(NULL);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_many(void **state)
{
	struct retained *retained = retained_new();
	char topic[16];
	unsigned int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 3000; i++) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			retained_note(retained, topic, false);
		}
		for (i = 0; i < 3000; i += 2) {
			(void)snprintf(topic, sizeof(topic), "t/%05u", i);
			retained_note(retained, topic, true);
		}
		assert_int_equal(strlen(forget_all(retained)), 1500 * strlen("t/00000 "));
		assert_non_null(strstr(forgotten, "t/02999 "));
		assert_null(strstr(forgotten, "t/02998 "));
	}
	retained_free(retained);
}

static void test_no_memory(void **state)
{
	struct retained *retained;
	unsigned long n;

	(void)state;
	scarce_memory(1, false);
	assert_null(retained_new());
	assert_true(scarce_memory_end());
	retained = retained_new();
	for (n = 1;; n++) {
		scarce_memory(n, false);
		retained_note(retained, "a", false);
		if (!scarce_memory_end()) {
			break;
		}
		assert_string_equal(forget_all(retained), "");
	}
	assert_string_equal(forget_all(retained), "a ");
	retained_free(retained);
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
