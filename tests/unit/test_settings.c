#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf_folder.h"
#include "options/mosquitto_conf.h"
#include "options/options.h"
#include "options/settings.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

static struct settings settings;
static struct options *options;

static int set_up(void **state)
{
	(void)state;
	return conf_folder_make();
}

static void forget(void)
{
	settings_free(&settings);
	options_free(options);
	options = NULL;
}

static int tear_down(void **state)
{
	(void)state;
	forget();
	return conf_folder_remove();
}

static char *copy(const char *string)
{
	return string ? text_copy(string, strlen(string)) : NULL;
}

/* The session's, with a client id that was made unless one is given. */
static void use(const char *host, uint16_t port, const char *username, const char *client_id)
{
	options_free(options);
	options = calloc(1, sizeof *options);
	options->host = copy(host);
	options->port = port;
	options->username = copy(username);
	options->client_id = copy(client_id ? client_id : "mqttasgi-here-1-abcd");
	options->client_id_is_made = !client_id;
}

static const struct settings_listener *read_conf(const char *content)
{
	write_file("main.conf", content);
	settings_free(&settings);
	settings_read(&place, &settings);
	return settings_listener(&settings, options);
}

static void test_defaults(void **state)
{
	(void)state;
	use("localhost", 1883, NULL, NULL);
	assert_non_null(read_conf(""));
	assert_true(settings.is_known);
	assert_int_equal(settings.max_queued_messages, 1000);
	assert_int_equal(settings.max_queued_bytes, 0);
	assert_int_equal(settings.max_inflight_messages, 20);
	assert_int_equal(settings.max_inflight_bytes, 0);
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options_session_id(options), options->client_id);
	assert_null(options->advice);
}

static void test_without_a_file_nothing_is_known(void **state)
{
	(void)state;
	use("localhost", 1883, NULL, NULL);
	settings_read(&place, &settings);
	assert_false(settings.is_known);
	assert_null(settings_listener(&settings, options));
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	settings_free(&settings);
	settings_read(&(struct mosquitto_conf_place){0}, &settings);
	assert_false(settings.is_known);
}

static void test_who_has_a_say_in_access(void **state)
{
	static const struct {
		const char *content;
		enum settings_company company;
	} cases[] = {
		{"plugin /usr/lib/ours.so\nplugin_opt_application x\nacl_file /etc/acl\n", SETTINGS_ALONE},
		{"per_listener_settings false\nauth_plugin ours.so\n", SETTINGS_ALONE},
		{"per_listener_settings true\nplugin /usr/lib/ours.so\n", SETTINGS_NOT_KNOWN},
		{"plugin /usr/lib/ours.so\nplugin /usr/lib/theirs.so\n", SETTINGS_NOT_KNOWN},
		{"auth_plugin /usr/lib/theirs.so\nplugin /usr/lib/ours.so\n", SETTINGS_NOT_KNOWN},
		{"plugin /usr/lib/ours.so\nplugin /usr/lib/mosquitto_dynamic_security.so\n",
			SETTINGS_DYNAMIC_SECURITY},
		{"plugin ours.so\nplugin mosquitto_dynamic_security.so\nacl_file x\n", SETTINGS_DYNAMIC_SECURITY},
		{"plugin ours.so\nplugin mosquitto_dynamic_security.so\nplugin theirs.so\n", SETTINGS_NOT_KNOWN},
		{"plugin ours.so\nplugin /usr/lib/not_mosquitto_dynamic_security.so\n", SETTINGS_NOT_KNOWN},
		{"plugin ours.so\ninclude_dir /there is none\n", SETTINGS_NOT_KNOWN},
	};
	size_t i;

	(void)state;
	use("localhost", 1883, NULL, NULL);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)read_conf(cases[i].content);
		assert_int_equal(settings_company(&settings), cases[i].company);
	}
}

static void test_limits(void **state)
{
	(void)state;
	use("localhost", 1883, NULL, NULL);
	(void)read_conf(
			"listener 1884\nmax_queued_messages 0\nmax_queued_bytes 5\nmax_inflight_messages 7\nmax_inflight_bytes 8\n");
	assert_int_equal(settings.max_queued_messages, 0);
	assert_int_equal(settings.max_queued_bytes, 5);
	assert_int_equal(settings.max_inflight_messages, 7);
	assert_int_equal(settings.max_inflight_bytes, 8);
}

static const char *judged(const char *conf)
{
	static char said[512];
	struct text text = {0};

	use("localhost", 1883, NULL, NULL);
	(void)read_conf(conf);
	settings_judge_limits(&settings, &text);
	(void)snprintf(said, sizeof said, "%s", text.data ? text.data : "");
	text_free(&text);
	return said;
}

static void test_limits_that_are_too_low_are_named(void **state)
{
	(void)state;
	assert_non_null(strstr(judged(""), "max_queued_messages is 1000, Mosquitto's default: "));
	assert_non_null(strstr(judged("max_queued_messages 500\n"), "max_queued_messages is 500: "));
	assert_string_equal(judged("max_queued_messages 0\n"), "");
	assert_string_equal(judged("max_queued_messages 100000\n"), "");
	assert_string_equal(judged("max_queued_messages 100000\nmax_inflight_messages 1\n"), "");
	assert_non_null(strstr(judged("max_queued_messages 100000\nmax_queued_bytes 1000000\n"),
			"max_queued_bytes is 1000000: "));
	assert_string_equal(judged("max_queued_messages 100000\nmax_queued_bytes 100000000\n"), "");
	assert_non_null(strstr(judged("max_queued_messages 0\nmax_inflight_bytes 100000000\n"),
			"max_inflight_bytes is 100000000: "));
	assert_string_equal(judged("max_queued_messages 100000\nmax_inflight_bytes 1000\n"), "");
	settings_free(&settings);
	settings_read(&(struct mosquitto_conf_place){0}, &settings);
	{
		struct text text = {0};

		settings_judge_limits(&settings, &text);
		assert_int_equal(text.length, 0);
	}
}

static void test_the_listener_that_is_meant(void **state)
{
	static const char conf[] =
			"max_connections 1\nlistener 1884 192.0.2.1\nmax_connections 2\nlistener 1884 127.0.0.1 # here\n"
			"max_connections 3\nlistener 1885\nmax_connections 4\nlistener 0 /run/a socket\nmax_connections 5\n"
			"listener 0 /run/other\nmax_connections 6\nlistener 1886 192.0.2.1\nmax_connections 7\n";
	static const struct {
		const char *host;
		uint16_t port;
		long max_connections; /* 0: none */
	} cases[] = {
		{"localhost", 1883, 1},
		{"192.0.2.1", 1884, 2},
		{"localhost", 1884, 3},
		{"127.0.0.1", 1884, 3},
		{"anywhere", 1885, 4},
		{"/run/a socket", 0, 5},
		{"/run/other", 0, 6},
		{"localhost", 1886, 0},
		{"localhost", 1887, 0},
		{"/run/third", 0, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct settings_listener *listener;

		use(cases[i].host, cases[i].port, NULL, NULL);
		listener = read_conf(conf);
		assert_int_equal(listener ? listener->max_connections : 0, cases[i].max_connections);
	}
}

static void test_included_files_have_listeners_of_their_own(void **state)
{
	char conf[256];

	(void)state;
	write_file("a.conf", "max_connections 5\nlistener 1885\nmax_connections 6\n");
	write_file("b.conf", "mount_point b/\n");
	(void)snprintf(conf, sizeof conf, "listener 1884\ninclude_dir %s\nmount_point main/\n", folder);
	write_file("main.cfg", conf);
	place.file = (char *)(uintptr_t)"main.cfg";
	use("localhost", 1884, NULL, NULL);
	settings_read(&place, &settings);
	assert_string_equal(settings_listener(&settings, options)->mount_point, "main/");
	assert_int_equal(settings_listener(&settings, options)->max_connections, -1);
	use("localhost", 1885, NULL, NULL);
	assert_int_equal(settings_listener(&settings, options)->max_connections, 6);
	use("localhost", 1883, NULL, NULL);
	assert_int_equal(settings_listener(&settings, options)->max_connections, 5);
	assert_string_equal(settings_listener(&settings, options)->mount_point, "b/");
}

static void test_a_user_name_as_client_id(void **state)
{
	(void)state;
	use("localhost", 1883, "hub", "mine");
	(void)read_conf("listener 1883\nuse_username_as_clientid true\nlistener 1884\n");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options_session_id(options), "hub");
	assert_string_equal(options->client_id, "mine");
	assert_null(options->advice);
	/* Another listener's. */
	use("localhost", 1884, "hub", "mine");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options_session_id(options), "mine");
	/* Nobody to be. */
	use("localhost", 1883, NULL, NULL);
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_non_null(strstr(options->advice, "use_username_as_clientid true"));
	assert_non_null(strstr(options->advice, "plugin_opt_username"));
	(void)read_conf("use_username_as_clientid false\n");
	use("localhost", 1883, NULL, NULL);
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_null(options->advice);
}

static void test_a_certificates_name_as_client_id(void **state)
{
	char command[512];

	(void)state;
	(void)snprintf(command, sizeof command,
			"openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/key -out %s/cert -days 1 -subj /O=us/CN=hub/CN=second 2>&1 "
			"| cat >/dev/null",
			folder, folder);
	assert_int_equal(system(command), 0);
	use("localhost", 8883, "somebody", NULL);
	(void)snprintf(command, sizeof command, "%s/cert", folder);
	options->cert = copy(command);
	(void)read_conf("listener 8883\nuse_username_as_clientid true\nuse_identity_as_username true\n");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options->session_id, "hub");
	use("localhost", 8883, "somebody", NULL);
	options->cert = copy(command);
	(void)read_conf("listener 8883\nuse_username_as_clientid true\nuse_subject_as_username true\n");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options->session_id, "CN=second,CN=hub,O=us");
	/* One that cannot be read. */
	use("localhost", 8883, "somebody", NULL);
	options->cert = copy("/dev/null");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_null(options->session_id);
	assert_non_null(strstr(options->advice, "plugin_opt_cert"));
}

static void test_a_prefix_that_is_wanted(void **state)
{
	(void)state;
	use("localhost", 1883, NULL, NULL);
	(void)read_conf("clientid_prefixes dev-\n");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options->client_id, "dev-mqttasgi-here-1-abcd");
	assert_null(options->advice);
	use("localhost", 1883, NULL, "dev-hub");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options->client_id, "dev-hub");
	assert_null(options->advice);
	use("localhost", 1883, NULL, "hub");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_string_equal(options->client_id, "hub");
	assert_non_null(strstr(options->advice, "clientid_prefixes dev-"));
	assert_non_null(strstr(options->advice, "'hub'"));
}

static void test_what_else_stands_in_the_way(void **state)
{
	(void)state;
	use("localhost", 1883, NULL, NULL);
	(void)read_conf("listener 1883\nrequire_certificate true\nmax_connections 2\n");
	assert_int_equal(settings_apply(&settings, options), MOSQ_ERR_SUCCESS);
	assert_non_null(strstr(options->advice, "require_certificate true"));
	assert_non_null(strstr(options->advice, "max_connections 2"));
}

static void test_without_memory(void **state)
{
	unsigned int nth;
	bool failed = true;
	int rc = MOSQ_ERR_SUCCESS;

	(void)state;
	write_file("main.conf",
			"clientid_prefixes dev\nlistener 1883 127.0.0.1\nmount_point a/\nuse_username_as_clientid true\n"
			"max_connections 3\n");
	for (nth = 1; failed; nth++) {
		use("127.0.0.1", 1883, "hub", NULL);
		settings_free(&settings);
		scarce_memory(nth, false);
		settings_read(&place, &settings);
		rc = settings_apply(&settings, options);
		failed = scarce_memory_end();
		assert_true(nth < 200);
	}
	assert_int_equal(rc, MOSQ_ERR_SUCCESS);
	assert_true(settings.is_known);
	assert_string_equal(options->session_id, "hub");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
		test(test_defaults),
		test(test_without_a_file_nothing_is_known),
		test(test_who_has_a_say_in_access),
		test(test_limits),
		test(test_limits_that_are_too_low_are_named),
		test(test_the_listener_that_is_meant),
		test(test_included_files_have_listeners_of_their_own),
		test(test_a_user_name_as_client_id),
		test(test_a_certificates_name_as_client_id),
		test(test_a_prefix_that_is_wanted),
		test(test_what_else_stands_in_the_way),
		test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
