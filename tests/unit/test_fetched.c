#include "cmocka_all.h"

#include "scarce_memory.h"
#include "session/fetched.h"

static void test_remembers_the_last_round(void **state)
{
	struct fetched fetched = {0};
	uint64_t i;

	(void)state;
	/* Fingerprints that share their lower bits, and 0. */
	for (i = 0; i < 10000; i++) {
		assert_int_equal(fetched_note(&fetched, i << 20, 1), 0);
	}
	assert_int_equal(fetched.count, 10000);
	for (i = 0; i < 10000; i += 2) {
		assert_int_equal(fetched_note(&fetched, i << 20, 2), 1);
	}
	for (i = 0; i < 10000; i++) {
		assert_int_equal(fetched_note(&fetched, i << 20, 3), i % 2 ? 1 : 2);
	}
	assert_int_equal(fetched_note(&fetched, 1, 3), 0);
	fetched_forget(&fetched);
	assert_int_equal(fetched_note(&fetched, 1, 4), 0);
	fetched_forget(&fetched);
}

static void test_what_is_beyond_the_limit_is_not_remembered(void **state)
{
	struct fetched fetched = {0};
	uint64_t i;

	(void)state;
	for (i = 0; i < FETCHED_MAX + 1000; i++) {
		assert_int_equal(fetched_note(&fetched, i * 0x9e3779b97f4a7c15U, 1), 0);
	}
	assert_int_equal(fetched.count, FETCHED_MAX);
	assert_int_equal(fetched_note(&fetched, 0, 2), 1);
	assert_int_equal(fetched_note(&fetched, 0, 3), 2);
	assert_int_equal(fetched_note(&fetched, (FETCHED_MAX + 1) * 0x9e3779b97f4a7c15U, 3), 0);
	fetched_forget(&fetched);
}

static void test_without_memory_nothing_new_is_remembered(void **state)
{
	struct fetched fetched = {0};
	uint64_t i;

	(void)state;
	scarce_memory(1, true);
	assert_int_equal(fetched_note(&fetched, 1, 1), 0);
	assert_int_equal(fetched_note(&fetched, 1, 2), 0);
	(void)scarce_memory_end();
	for (i = 1; i <= 32; i++) {
		assert_int_equal(fetched_note(&fetched, i, 3), 0);
	}
	scarce_memory(1, true);
	assert_int_equal(fetched_note(&fetched, 33, 4), 0);
	assert_int_equal(fetched_note(&fetched, 32, 4), 3);
	(void)scarce_memory_end();
	assert_int_equal(fetched_note(&fetched, 33, 5), 0);
	fetched_forget(&fetched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remembers_the_last_round),
		cmocka_unit_test(test_what_is_beyond_the_limit_is_not_remembered),
		cmocka_unit_test(test_without_memory_nothing_new_is_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
