/* surroundings.c with a configuration that the test writes. */
#include "cmocka_all.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/surroundings.h"
#include "broker/versions.h"
#include "options/mosquitto_conf.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"

/* Name and value of each setting that the file has. */
static const char *file[8][2];

static struct {
	char text[2048];
	int level; /* of the last line */
	int lines;
} written;

int mosquitto_conf_find(struct mosquitto_conf_place *ret_place)
{
	*ret_place = (struct mosquitto_conf_place){0};
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_conf_forget(struct mosquitto_conf_place *place)
{
	(void)place;
}

bool mosquitto_conf_settings(const struct mosquitto_conf_place *place,
		struct mosquitto_conf_setting *settings, size_t count)
{
	size_t i, j;

	(void)place;
	for (i = 0; i < count; i++) {
		for (j = 0; file[j][0]; j++) {
			if (strcmp(settings[i].name, file[j][0]) == 0) {
				settings[i].value = malloc(strlen(file[j][1]) + 1);
				strcpy(settings[i].value, file[j][1]);
			}
		}
	}
	return true;
}

bool mosquitto_conf_each_line(const struct mosquitto_conf_place *place, mosquitto_conf_visit *visit,
		void *userdata)
{
	size_t i;

	(void)place;
	for (i = 0; file[i][0]; i++) {
		visit(userdata, 0, file[i][0], file[i][1]);
	}
	return true;
}

/* Our own entry, which is no other plugin's. */
int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	(void)supported_versions;
	return supported_version_count;
}

void log_line(int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(written.text, sizeof(written.text), format, arguments);
	va_end(arguments);
	written.level = level;
	written.lines++;
}

static int look(const char *name, const char *value, struct surroundings surroundings)
{
	memset(&written, 0, sizeof(written));
	memset(file, 0, sizeof(file));
	file[0][0] = name;
	file[0][1] = value;
	if (!surroundings.traits) {
		surroundings.traits = &versions_2_0;
	}
	return surroundings_look(&surroundings);
}

static void test_nothing_to_say(void **state)
{
	(void)state;
	assert_int_equal(look(NULL, NULL, (struct surroundings){.version = "2.0.11"}), MOSQ_ERR_SUCCESS);
	assert_int_equal(look("retain_available", "true", (struct surroundings){.version = ""}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(look("message_size_limit", "0", (struct surroundings){.version = ""}), MOSQ_ERR_SUCCESS);
	assert_int_equal(look("upgrade_outgoing_qos", "false", (struct surroundings){.version = ""}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(look("per_listener_settings", "false", (struct surroundings){.version = "2.0.11"}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(written.lines, 0);
}

static void test_no_ticks(void **state)
{
	static const char *const values[] = {"true", "1", "true # one"};
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		assert_int_equal(look("per_listener_settings", values[i], (struct surroundings){.version = "2.0.14"}),
				MOSQ_ERR_NOT_SUPPORTED);
		assert_int_equal(written.lines, 1);
		assert_int_equal(written.level, MOSQ_LOG_ERR);
		assert_non_null(strstr(written.text, "per_listener_settings true: Mosquitto 2.0.14"));
		assert_non_null(strstr(written.text, "2.0.15 or later"));
	}
	assert_int_equal(look("per_listener_settings", "true", (struct surroundings){.version = "2.0.15"}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(written.lines, 0);
	assert_int_equal(look("per_listener_settings", "true",
							 (struct surroundings){.version = "", .traits = &versions_2_1}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(written.lines, 0);
	assert_int_equal(look("per_listener_settings", "true", (struct surroundings){.version = ""}),
			MOSQ_ERR_SUCCESS);
	assert_int_equal(written.lines, 1);
	assert_int_equal(written.level, MOSQ_LOG_WARNING);
}

static void test_settings_that_do_not_bind_consumers(void **state)
{
	static const struct {
		const char *name, *value, *sentence;
	} cases[] = {
		{"retain_available", "false", "retain_available false: what consumers publish with retain=True"},
		{"message_size_limit", "100", "message_size_limit 100 binds clients, not consumers"},
		{"max_packet_size", "2000 bytes", "max_packet_size 2000 binds clients, not consumers"},
		{"upgrade_outgoing_qos", "true", "upgrade_outgoing_qos is for clients"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(look(cases[i].name, cases[i].value, (struct surroundings){.version = "2.0.11"}),
				MOSQ_ERR_SUCCESS);
		assert_int_equal(written.lines, 1);
		assert_int_equal(written.level, MOSQ_LOG_NOTICE);
		assert_non_null(strstr(written.text, cases[i].sentence));
	}
}

static void test_a_plugin_that_decides_about_logins_first(void **state)
{
	(void)state;
	(void)look(NULL, NULL,
			(struct surroundings){.version = "2.0.11", .connect_events = true, .has_predecessor = true});
	assert_int_equal(written.level, MOSQ_LOG_WARNING);
	assert_non_null(strstr(written.text, "Put this plugin's lines before"));
	(void)look(NULL, NULL, (struct surroundings){.version = "2.0.11", .connect_events = true});
	assert_int_equal(written.lines, 0);
	(void)look(NULL, NULL, (struct surroundings){.version = "2.0.11", .has_predecessor = true});
	assert_int_equal(written.lines, 0);
	(void)look(NULL, NULL,
			(struct surroundings){.version = "2.1.2",
				.traits = &versions_2_1,
				.connect_events = true,
				.has_predecessor = true});
	assert_int_equal(written.lines, 0);
}

static bool has_predecessor;

static bool lets_refuse(const struct versions_traits *traits, const char *value, bool *ret_alone)
{
	memset(&written, 0, sizeof(written));
	memset(file, 0, sizeof(file));
	file[0][0] = file[1][0] = "plugin";
	file[0][1] = "ours.so";
	file[1][1] = value;
	if (!value) {
		file[1][0] = NULL;
	}
	return surroundings_let_refuse(traits, has_predecessor, ret_alone);
}

/* On 2.0 it has to be known who else has a say. */
static void test_whether_copies_may_be_refused(void **state)
{
	bool alone;

	(void)state;
	assert_true(lets_refuse(&versions_2_0, NULL, &alone));
	assert_true(alone);
	assert_true(lets_refuse(&versions_2_0, "/usr/lib/mosquitto_dynamic_security.so", &alone));
	assert_false(alone);
	assert_int_equal(written.lines, 0);
	assert_false(lets_refuse(&versions_2_0, "theirs.so", &alone));
	assert_false(alone);
	assert_non_null(strstr(written.text, "gets a copy"));
	assert_int_equal(written.level, MOSQ_LOG_INFO);
	assert_true(lets_refuse(&versions_2_1, "theirs.so", &alone));
	assert_false(alone);
	has_predecessor = true;
	assert_false(lets_refuse(&versions_2_1, NULL, &alone));
	assert_non_null(strstr(written.text, "loaded before this one"));
	has_predecessor = false;
	/* As tests ask for it. */
	assert_int_equal(setenv("MQTTASGI_MARK_COPIES", "", 1), 0);
	assert_false(lets_refuse(&versions_2_0, NULL, &alone));
	assert_false(lets_refuse(&versions_2_1, NULL, &alone));
	assert_non_null(strstr(written.text, "MQTTASGI_MARK_COPIES is set"));
	assert_int_equal(unsetenv("MQTTASGI_MARK_COPIES"), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_to_say),
		cmocka_unit_test(test_whether_copies_may_be_refused),
		cmocka_unit_test(test_no_ticks),
		cmocka_unit_test(test_settings_that_do_not_bind_consumers),
		cmocka_unit_test(test_a_plugin_that_decides_about_logins_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
