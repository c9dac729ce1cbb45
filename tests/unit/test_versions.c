#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/versions.h"

static char program[] = "/tmp/version-XXXXXX";
static char version[VERSIONS_MAX];

/* A program that does this when it is asked. */
static bool ask(const char *script)
{
	FILE *file = fopen(program, "w");

	assert_non_null(file);
	(void)fprintf(file, "#!/bin/sh\n%s\n", script);
	assert_int_equal(fclose(file), 0);
	return versions_ask(program, version);
}

static int set_up(void **state)
{
	int fd = mkstemp(program);

	(void)state;
	if (fd < 0) {
		return -1;
	}
	return close(fd) || chmod(program, 0700);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(program);
}

static void test_it_is_asked_as_a_user_would(void **state)
{
	(void)state;
	assert_true(ask(
			"[ \"$*\" = -h ] && echo 'mosquitto version 2.0.11' && echo && echo 'mosquitto is an MQTT broker'"));
	assert_string_equal(version, "2.0.11");
	assert_true(ask("echo complaint >&2; echo 'mosquitto version 2.1.2-rc1 (built then)'; exit 3"));
	assert_string_equal(version, "2.1.2-rc1");
	/* Without an end, and in pieces. */
	assert_true(ask("printf 'mosquitto ver'; sleep 0; printf 'sion 2.0.21\\n'; yes"));
	assert_string_equal(version, "2.0.21");
}

static void test_what_does_not_say(void **state)
{
	static const char *const scripts[] = {"", "echo mosquitto", "echo 'mosquitto version '",
		"echo 'mosquitto version unknown'", "exit 1",
		"echo 'mosquitto version 2222222222222222222222222222222222222222'", "kill -9 $$",
		"exec >&-; exec sleep 3600"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		assert_false(ask(scripts[i]));
		assert_string_equal(version, "");
	}
	assert_false(ask("exec sleep 3600")); /* after two seconds */
	assert_false(versions_ask("/nowhere/mosquitto", version));
	assert_string_equal(version, "");
}

static void test_what_came_before(void **state)
{
	(void)state;
	assert_true(versions_is_before("2.0.14", 2, 0, 15));
	assert_true(versions_is_before("2.0.9", 2, 0, 15));
	assert_true(versions_is_before("1.6.16", 2, 0, 15));
	assert_false(versions_is_before("2.0.15", 2, 0, 15));
	assert_false(versions_is_before("2.0.21", 2, 0, 15));
	assert_false(versions_is_before("2.1.2", 2, 0, 15));
	assert_false(versions_is_before("2.1.0-rc1", 2, 0, 15));
	assert_false(versions_is_before("", 2, 0, 15));
	assert_false(versions_is_before("unknown", 2, 0, 15));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_asked_as_a_user_would),
		cmocka_unit_test(test_what_does_not_say),
		cmocka_unit_test(test_what_came_before),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
