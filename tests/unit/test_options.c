#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options/load.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* Every test runs in an empty folder of its own, with none of our variables in the environment. */

#define LINES_MAX 32
#define APP "application", "mysite.asgi:application"

static char folder[64];
static struct options *options;
static char *error;

static int setup(void **state)
{
	static const char *const variables[] = {
#define OPTION(key, variable, ...) variable,
#include "options/table.h"
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof variables / sizeof variables[0]; i++) {
		unsetenv(variables[i]);
	}
	strcpy(folder, "/tmp/options-XXXXXX");
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	options_free(options);
	options = NULL;
	free(error);
	error = NULL;
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/* The arguments are key, value, key, value, NULL. */
static int load(const char *key, ...)
{
	struct mosquitto_opt lines[LINES_MAX];
	va_list arguments;
	int count = 0;

	options_free(options);
	options = NULL;
	free(error);
	error = NULL;
	va_start(arguments, key);
	for (; key && count < LINES_MAX; key = va_arg(arguments, const char *)) {
		lines[count].key = (char *)(uintptr_t)key;
		lines[count++].value = va_arg(arguments, char *);
	}
	va_end(arguments);
	return options_load(lines, count, &options, &error);
}

static void write_file(const char *name, const char *content)
{
	FILE *file = fopen(name, "w");

	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

#define assert_loads(...) assert_int_equal(load(__VA_ARGS__, NULL), MOSQ_ERR_SUCCESS)
#define assert_fails(expected, ...)                                                                          \
	do {                                                                                                     \
		assert_int_equal(load(__VA_ARGS__, NULL), MOSQ_ERR_INVAL);                                           \
		assert_string_equal(error, expected);                                                                \
	} while (0)

/* The same where the expected sentence has the test's folder in it, as %s. */
static void assert_error_is(const char *format)
{
	char expected[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(expected, sizeof expected, format, folder);
#pragma GCC diagnostic pop
	assert_non_null(error);
	assert_string_equal(error, expected);
}

static void test_defaults(void **state)
{
	char host[256], id[300];

	(void)state;
	assert_loads(APP);
	assert_string_equal(options->application, "mysite.asgi:application");
	assert_string_equal(options->host, "localhost");
	assert_int_equal(options->port, 1883);
	assert_null(options->username);
	assert_null(options->password);
	assert_true(options->cleansession);
	assert_int_equal(options->verbosity, 0);
	assert_int_equal(gethostname(host, sizeof host), 0);
	snprintf(id, sizeof id, "mqttasgi-%s-%ld-", host, (long)getpid());
	assert_int_equal(strncmp(options->client_id, id, strlen(id)), 0);
	assert_null(options->cert);
	assert_false(options->use_ssl);
	assert_int_equal(options->transport, OPTIONS_TRANSPORT_TCP);
	assert_int_equal(options->retries, 3);
	assert_null(options->env_file);
	assert_int_equal(options->queue_size, 100000);
	assert_int_equal(options->queue_bytes, 67108864);
	assert_int_equal(options->consumer_queue_size, 0);
	assert_int_equal(options->consumer_queue_bytes, 0);
	assert_int_equal(options->overload, OPTIONS_DROP_NEWEST);
	assert_int_equal(options->watchdog_ms, 2000);
	assert_int_equal(options->log_lines, 100);
	assert_int_equal(options->startup_timeout_ms, 30000);
	assert_int_equal(options->shutdown_timeout_ms, 5000);
	assert_int_equal(options->session, OPTIONS_SESSION_FULL);
	assert_int_equal(options->loop, OPTIONS_LOOP_AUTO);
	assert_int_equal(options->spin_us, 100);
	assert_false(options->message_expiry);
	assert_false(options->connect_events);
	assert_null(options->mirror);
	assert_false(options->check);
	assert_int_equal(options->variable_count, 0);
}

/* Whoever knows it can take the session's place. */
static void test_a_client_id_that_nobody_can_guess(void **state)
{
	char first[400];

	(void)state;
	assert_loads(APP);
	(void)snprintf(first, sizeof first, "%s", options->client_id);
	assert_loads(APP);
	assert_string_not_equal(options->client_id, first);
	assert_int_equal(strspn(strrchr(first, '-') + 1, "0123456789abcdef"), 8);
}

static void test_a_client_id_that_outlives_the_process(void **state)
{
	char host[256], id[300];

	(void)state;
	assert_loads(APP, "cleansession", "false");
	assert_int_equal(gethostname(host, sizeof host), 0);
	(void)snprintf(id, sizeof id, "mqttasgi-%s", host);
	assert_string_equal(options->client_id, id);
	assert_loads(APP, "cleansession", "false", "client_id", "hub");
	assert_string_equal(options->client_id, "hub");
}

static void test_every_option_from_lines(void **state)
{
	(void)state;
	write_file("pem", "");
	assert_int_equal(mkdir("bin", 0755), 0);
	write_file("bin/python3", "");
	assert_int_equal(chmod("bin/python3", 0755), 0);
	write_file("env", "X=1\n");
	assert_loads("application", "\xc3\xa4_1.b2:C.d", "host", "::1", "port", "65535", "username", "u v",
			"password", " p\t ", "cleansession", "No", "verbosity", "2", "client_id", "me", "cert", "pem",
			"key", "pem", "cacert", "pem", "use_ssl", "ON", "transport", "websockets", "retries", "0",
			"python_path", "/:/tmp", "virtualenv", folder, "env_file", "env", "queue_size", "1",
			"queue_bytes", "3k", "startup_timeout", "0.25", "shutdown_timeout", "2", "session", "off", "loop",
			"uvloop", "spin", "1000", "connect_events", "true");
	assert_string_equal(options->host, "::1");
	assert_int_equal(options->port, 65535);
	assert_string_equal(options->username, "u v");
	assert_string_equal(options->password, " p\t ");
	assert_false(options->cleansession);
	assert_int_equal(options->verbosity, 2);
	assert_string_equal(options->client_id, "me");
	assert_string_equal(options->key, "pem");
	assert_true(options->use_ssl);
	assert_int_equal(options->transport, OPTIONS_TRANSPORT_WEBSOCKETS);
	assert_int_equal(options->retries, 0);
	assert_string_equal(options->python_path, "/:/tmp");
	assert_string_equal(options->virtualenv, folder);
	assert_string_equal(options->env_file, "env");
	assert_int_equal(options->queue_size, 1);
	assert_int_equal(options->queue_bytes, 3072);
	assert_int_equal(options->startup_timeout_ms, 250);
	assert_int_equal(options->shutdown_timeout_ms, 2000);
	assert_int_equal(options->session, OPTIONS_SESSION_OFF);
	assert_int_equal(options->loop, OPTIONS_LOOP_UVLOOP);
	assert_int_equal(options->spin_us, 1000);
	assert_true(options->connect_events);
	assert_int_equal(options->variable_count, 1);
	assert_loads(APP, "message_expiry", "true", "check", "true", "consumer_queue_size", "7",
			"consumer_queue_bytes", "2k", "overload", "drop_oldest", "watchdog", "0.5", "log_lines", "7");
	assert_int_equal(options->log_lines, 7);
	assert_int_equal(options->consumer_queue_size, 7);
	assert_int_equal(options->consumer_queue_bytes, 2048);
	assert_int_equal(options->overload, OPTIONS_DROP_OLDEST);
	assert_int_equal(options->watchdog_ms, 500);
	assert_loads(APP, "watchdog", "0");
	assert_int_equal(options->watchdog_ms, 0);
	assert_loads(APP, "message_expiry", "true", "check", "true");
	assert_true(options->message_expiry);
	assert_true(options->check);
}

static struct options_value value_for_python(const char *key)
{
	struct options_value value;
	size_t row = 0;

	while (options_next_for_python(options, &row, &value)) {
		if (strcmp(value.key, key) == 0) {
			return value;
		}
	}
	fail();
	return value;
}

static void test_values_for_python(void **state)
{
	struct options_value value;
	size_t row = 0, count = 0;

	(void)state;
	assert_loads(APP, "password", "secret", "retries", "7", "watchdog", "0.5", "check", "yes", "overload",
			"drop_oldest", "consumer_queue_bytes", "512M");
	while (options_next_for_python(options, &row, &value)) {
		assert_string_not_equal(value.key, "password");
		count++;
	}
	assert_true(count > 10);
	assert_false(options_next_for_python(options, &row, &value));
	value = value_for_python("application");
	assert_int_equal(value.kind, OPTIONS_TEXT);
	assert_string_equal(value.text, "mysite.asgi:application");
	assert_string_equal(value_for_python("python_path").text, "");
	value = value_for_python("overload");
	assert_int_equal(value.kind, OPTIONS_TEXT);
	assert_string_equal(value.text, "drop_oldest");
	value = value_for_python("retries");
	assert_int_equal(value.kind, OPTIONS_NUMBER);
	assert_int_equal(value.number, 7);
	assert_int_equal(value_for_python("consumer_queue_bytes").number, 536870912);
	value = value_for_python("watchdog");
	assert_int_equal(value.kind, OPTIONS_MILLISECONDS);
	assert_int_equal(value.number, 500);
	value = value_for_python("check");
	assert_int_equal(value.kind, OPTIONS_TRUTH);
	assert_int_equal(value.number, 1);
}

static void test_precedence(void **state)
{
	(void)state;
	write_file(".env", "MQTT_PORT=1\nMQTT_HOSTNAME=dot\nMQTT_RETRIES=7\nVERBOSITY=\nOTHER=x\nNOTHING\n");
	setenv("MQTT_PORT", "2", 1);
	setenv("MQTT_HOSTNAME", "env", 1);
	setenv("MQTT_RETRIES", "", 1); /* empty is not set */
	assert_loads(APP, "port", "3");
	assert_int_equal(options->port, 3);
	assert_string_equal(options->host, "env");
	assert_int_equal(options->retries, 7);
	assert_int_equal(options->verbosity, 0);
	assert_int_equal(options->variable_count, 5);
	assert_string_equal(options->variables[4].name, "OTHER");
	assert_string_equal(options->variables[4].value, "x");
}

static void test_again(void **state)
{
	struct mosquitto_opt lines[] = {{(char *)(uintptr_t)"application", (char *)(uintptr_t)"a:b"},
		{(char *)(uintptr_t)"port", (char *)(uintptr_t)"3"}};
	struct options *again = NULL;
	struct text text = {0};

	(void)state;
	write_file(".env", "MQTT_PORT=1\n\nMQTT_RETRIES=7\nMQTT_HOSTNAME=dot\n");
	setenv("MQTT_HOSTNAME", "env", 1);
	assert_loads("application", "a:b");
	/* As if they had never changed, */
	write_file(".env", "MQTT_PORT=2\nMQTT_RETRIES=8\nMQTT_USERNAME=dot\nno sense\n");
	setenv("MQTT_HOSTNAME", "other", 1);
	setenv("VERBOSITY", "nonsense", 1);
	assert_int_equal(options_load_again(lines, 1, options, &again, &error), MOSQ_ERR_SUCCESS);
	assert_string_equal(again->host, "env");
	assert_int_equal(again->port, 1);
	assert_int_equal(again->retries, 7);
	assert_null(again->username);
	assert_int_equal(again->verbosity, 0);
	assert_string_equal(again->env_file, options->env_file);
	assert_int_equal(again->variable_count, 0);
	assert_int_equal(options_changed_for_later(options, again, &text), 0);
	options_free(again);
	/* and a line goes before them. */
	assert_int_equal(options_load_again(lines, 2, options, &again, &error), MOSQ_ERR_SUCCESS);
	assert_int_equal(again->port, 3);
	assert_int_equal(options_changed_for_later(options, again, &text), 1);
	assert_string_equal(text.data, "port");
	text_free(&text);
	options_free(again);
	/* What was fit for the start may not be any more, and is named as then. */
	unsetenv("VERBOSITY");
	write_file("pem", "");
	write_file(".env", "\nTLS_CA=pem\n");
	assert_loads("application", "a:b");
	assert_int_equal(unlink("pem"), 0);
	assert_int_equal(options_load_again(lines, 1, options, &again, &error), MOSQ_ERR_INVAL);
	assert_error_is("%s/.env line 2, TLS_CA: \"pem\" cannot be read: No such file or directory");
}

static void test_where_dotenv_is_looked_for(void **state)
{
	char path[256];

	(void)state;
	assert_int_equal(mkdir("one", 0755), 0);
	assert_int_equal(mkdir("one/.env", 0755), 0); /* a virtual environment */
	assert_int_equal(mkdir("two", 0755), 0);
	write_file(".env", "WHERE=working\nMQTTASGI_APPLICATION=a:b\n");
	assert_loads("python_path", "one:two");
	assert_string_equal(options->variables[0].value, "working");
	assert_string_equal(options->application, "a:b");
	snprintf(path, sizeof path, "%s/.env", folder);
	assert_string_equal(options->env_file, path);
	write_file("two/.env", "WHERE=two\n");
	assert_loads(APP, "python_path", "one:two");
	assert_string_equal(options->variables[0].value, "two");
	write_file("named", "WHERE=named\n");
	setenv("MQTTASGI_ENV_FILE", "named", 1);
	assert_loads(APP, "python_path", "one:two");
	assert_string_equal(options->variables[0].value, "named");
	assert_fails("option env_file: \"missing\" cannot be read: No such file or directory", APP, "env_file",
			"missing");
}

static void assert_dotenv_is(const char *expected, const char *python_path)
{
	char path[256];

	assert_loads(APP, "python_path", python_path);
	if (!expected) {
		assert_null(options->env_file);
		return;
	}
	snprintf(path, sizeof path, "%s/%s", folder, expected);
	assert_string_equal(options->env_file, path);
}

/* As python-dotenv's find_dotenv() does from a folder that has none. */
static void test_dotenv_is_found_in_the_folders_above(void **state)
{
	char absolute[256];

	(void)state;
	assert_int_equal(system("mkdir -p site/src/code elsewhere/deep"), 0);
	assert_dotenv_is(NULL, "site/src/code");
	write_file("site/.env", "A=1\n");
	assert_dotenv_is("site/.env", "site/src/code");
	assert_dotenv_is("site/.env", "site/src/code/");
	assert_dotenv_is("site/.env", "site/src");
	assert_dotenv_is("site/.env", "elsewhere/deep:site/src/code");
	snprintf(absolute, sizeof absolute, "%s/site/src/code", folder);
	assert_dotenv_is("site/.env", absolute);
	/* a folder that was named comes before one above */
	assert_int_equal(chdir("elsewhere"), 0);
	write_file(".env", "A=2\n");
	assert_dotenv_is("elsewhere/.env", absolute);
	assert_int_equal(chdir("deep"), 0);
	assert_dotenv_is("site/.env", absolute);
	assert_dotenv_is("elsewhere/.env", ".");
	/* the nearest */
	assert_int_equal(chdir("../.."), 0);
	write_file("site/src/.env", "A=3\n");
	assert_dotenv_is("site/src/.env", "site/src/code");
	assert_int_equal(mkdir("site/src/code/.env", 0755), 0);
	assert_dotenv_is("site/src/.env", "site/src/code");
	if (geteuid() == 0) {
		/* somebody else's */
		assert_int_equal(chown("site/src/.env", 12345, (gid_t)-1), 0);
		assert_dotenv_is("site/.env", "site/src/code");
		assert_int_equal(chown("site/src/code", 12345, (gid_t)-1), 0);
		assert_dotenv_is("site/src/.env", "site/src/code");
		assert_int_equal(unlink("site/src/.env"), 0);
		assert_int_equal(symlink("../.env", "site/src/.env"), 0);
		assert_int_equal(lchown("site/src/.env", 54321, (gid_t)-1), 0);
		assert_dotenv_is("site/.env", "site/src/code");
	}
	assert_int_equal(system("rm -r site elsewhere"), 0);
}

static void test_numbers_are_strict(void **state)
{
	static const char *const bad[] = {"65536", "-1", "+1", "0x50", "1 2", "1.0", "1e3", "abc",
		"18446744073709551617", "99999999999999999999999"};
	char expected[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(expected, sizeof expected, "option port: \"%s\" is not a number from 0 to 65535", bad[i]);
		assert_fails(expected, APP, "port", bad[i]);
	}
	assert_loads(APP, "port", " 42 \t"); /* blanks at the end of a line cannot be seen */
	assert_int_equal(options->port, 42);
	assert_fails("option queue_size: \"0\" is not a number from 1 to 10000000", APP, "queue_size", "0");
	assert_fails("option spin: \"1001\" is not a number from 0 to 1000", APP, "spin", "1001");
	assert_fails("option port: has no value", APP, "port", "");
	assert_fails("option port: has no value", APP, "port", NULL);
}

static void test_bytes_and_seconds(void **state)
{
	static const char *const bad_bytes[] = {"1023", "64MB", "1T", "M", "99999999999G", "1.5M", "-1k", "64 M"};
	static const char *const bad_seconds[] = {
		"0", "0.09", "3601", "1,5", ".5", "5.", "1.5s", "1e1", "99999999999"};
	size_t i;

	(void)state;
	assert_loads(APP, "queue_bytes", "2M");
	assert_int_equal(options->queue_bytes, 2 << 20);
	assert_loads(APP, "queue_bytes", "1G");
	assert_int_equal(options->queue_bytes, 1 << 30);
	assert_loads(APP, "queue_bytes", "4096");
	assert_int_equal(options->queue_bytes, 4096);
	for (i = 0; i < sizeof bad_bytes / sizeof bad_bytes[0]; i++) {
		assert_int_equal(load(APP, "queue_bytes", bad_bytes[i], NULL), MOSQ_ERR_INVAL);
		assert_non_null(strstr(error, "is not a number of bytes from 1024 to "));
	}
	assert_loads(APP, "startup_timeout", "1.2345");
	assert_int_equal(options->startup_timeout_ms, 1234);
	assert_loads(APP, "startup_timeout", "3600");
	assert_int_equal(options->startup_timeout_ms, 3600000);
	for (i = 0; i < sizeof bad_seconds / sizeof bad_seconds[0]; i++) {
		assert_int_equal(load(APP, "startup_timeout", bad_seconds[i], NULL), MOSQ_ERR_INVAL);
		assert_non_null(strstr(error, "is not a number of seconds from 0.1 to 3600"));
	}
}

static void test_words(void **state)
{
	static const char *const bad[] = {"a", "a:", ":a", "a:b:c", "a b:c", "1a:b", "a..b:c", "a.:c", "a:b.",
		"a/b:c", "a.b.c", "a:b()", "a-b:c"};
	size_t i;

	(void)state;
	assert_loads(APP, "cleansession", "FALSE", "use_ssl", "1");
	assert_false(options->cleansession);
	assert_true(options->use_ssl);
	assert_fails("option use_ssl: \"maybe\" is neither true nor false", APP, "use_ssl", "maybe");
	assert_fails("option loop: \"trio\" is not one of auto, asyncio, uvloop", APP, "loop", "trio");
	assert_fails("option host: \"a\\x0ab\" contains a control character", APP, "host", "a\nb");
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(load("application", bad[i], NULL), MOSQ_ERR_INVAL);
		assert_non_null(strstr(error, "\" is not of the form package.module:name"));
	}
	assert_fails("option application: missing, name the application to run: "
				 "plugin_opt_application package.module:name (or environment variable MQTTASGI_APPLICATION)",
			"port", "1");
}

static void test_keys(void **state)
{
	(void)state;
	assert_fails("option port: \"70000\" is not a number from 0 to 65535; option prot: unknown, did you mean "
				 "port?",
			"prot", "1", APP, "port", "70000");
	assert_fails("option port: given more than once", APP, "port", "1", "port", "2", "port", "3");
	assert_fails("option quite_another: unknown; option ab\\x1bc: unknown", APP, "quite_another", "1",
			"quite_another", "1", "ab\033c", "");
	assert_fails("option clientid: unknown, did you mean client_id?; option user_name: unknown, did you mean "
				 "username?",
			APP, "clientid", "x", "user_name", "y");
	assert_int_equal(load(APP,
							 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
							 "aaaaaaaaaaa",
							 "", NULL),
			MOSQ_ERR_INVAL);
	assert_non_null(strstr(error, "aaa...: unknown"));
}

static void test_sources_are_named(void **state)
{
	(void)state;
	setenv("MQTT_PORT", "x", 1);
	assert_fails("environment variable MQTT_PORT: \"x\" is not a number from 0 to 65535", APP);
	unsetenv("MQTT_PORT");
	write_file(".env", "# c\n\nMQTT_PORT=x\n");
	assert_int_equal(load(APP, NULL), MOSQ_ERR_INVAL);
	assert_error_is("%s/.env line 3, MQTT_PORT: \"x\" is not a number from 0 to 65535");
	write_file(".env", "A=1\nB C\nMQTT_RETRIES=x\n=2\n");
	assert_int_equal(load(APP, "spin", "x", NULL), MOSQ_ERR_INVAL);
	assert_non_null(strstr(error, "/.env line 2: there is no = after the name (and 1 more below); "));
	assert_non_null(strstr(error, "/.env line 3, MQTT_RETRIES: \"x\" is not a number"));
	assert_non_null(strstr(error, "; option spin: \"x\" is not a number from 0 to 1000"));
}

static void test_values_are_shortened_and_passwords_hidden(void **state)
{
	char value[400];

	(void)state;
	memset(value, 'x', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	assert_int_equal(load(APP, "port", value, NULL), MOSQ_ERR_INVAL);
	assert_true(strlen(error) < 200);
	assert_non_null(strstr(error, "xxx...\" is not"));
	assert_fails("option port: \"\\\"\xc3\xa4\\xff\\x1b[\\x9b\" is not a number from 0 to 65535", APP, "port",
			"\"\xc3\xa4\xff\x1b[\x9b");
	assert_int_equal(load(APP, "password", "secret\x01", "password", "secret2", "passwrod", "secret3", "port",
							 "x", NULL),
			MOSQ_ERR_INVAL);
	assert_null(strstr(error, "secret"));
	assert_non_null(strstr(error, "option password: given more than once"));
	write_file(".env", "MQTT_PASSWORD=secret 'x' y\n'MQTT_PASSWORD'='secret' x\nMQTT_PASSWORD=\"secret\n");
	assert_int_equal(load(APP, NULL), MOSQ_ERR_INVAL);
	assert_null(strstr(error, "secret"));
}

static void test_address(void **state)
{
	char path[200] = "/";

	(void)state;
	assert_fails("option port: 0 is only for a host that is a unix socket's path and begins with /", APP,
			"port", "0");
	assert_loads(APP, "host", "/run/mosquitto.sock", "port", "0");
	assert_int_equal(options->port, 0);
	assert_loads(APP, "host", "/run/mosquitto.sock");
	assert_int_equal(options->port, 0);
	assert_fails("option port: a unix socket has none, leave it out or name another host than "
				 "\"/run/mosquitto.sock\"",
			APP, "host", "/run/mosquitto.sock", "port", "1883");
	/* Settings that another program uses as well. */
	setenv("MQTT_PORT", "1883", 1);
	assert_loads(APP, "host", "/run/mosquitto.sock");
	assert_int_equal(options->port, 0);
	setenv("MQTT_HOSTNAME", "/run/mosquitto.sock", 1);
	assert_int_equal(load(APP, NULL), MOSQ_ERR_INVAL);
	assert_non_null(strstr(error, "environment variable MQTT_PORT: a unix socket has none"));
	assert_fails(
			"option host: \"mqtt://localhost\" is neither a host's name or address nor a unix socket's path, "
			"which begins with /",
			APP, "host", "mqtt://localhost");
	memset(path + 1, 'x', sizeof path - 2);
	assert_int_equal(load(APP, "host", path, NULL), MOSQ_ERR_INVAL);
	assert_non_null(strstr(error, "\" is too long for a unix socket's path"));
}

/* A `.env` file, or an environment, that somebody else uses too says how to reach a listener by TCP. */
static void test_what_a_unix_socket_does_without(void **state)
{
	static const char *const lines[][2] = {
		{"cert", "pem"}, {"key", "pem"}, {"cacert", "pem"}, {"use_ssl", "true"}};
	char expected[256];
	size_t i;

	(void)state;
	write_file("pem", "");
	write_file(".env", "MQTT_PORT=8883\nTLS_CERT=pem\nTLS_KEY=pem\nTLS_CA=missing\nMQTT_TRANSPORT=pigeon\n");
	setenv("MQTT_USE_SSL", "perhaps", 1);
	assert_loads(APP, "host", "/run/mosquitto.sock");
	assert_int_equal(options->port, 0);
	assert_null(options->cert);
	assert_null(options->key);
	assert_null(options->cacert);
	assert_false(options->use_ssl);
	assert_int_equal(options->transport, OPTIONS_TRANSPORT_TCP);

	/* Half a certificate is none. */
	write_file(".env", "TLS_CERT=missing\n");
	assert_loads(APP, "host", "/run/mosquitto.sock");
	assert_null(options->cert);

	/* They are looked at for any other host, */
	assert_int_equal(load(APP, "host", "localhost", NULL), MOSQ_ERR_INVAL);
	assert_non_null(strstr(error, "MQTT_USE_SSL: \"perhaps\" is neither"));
	assert_non_null(strstr(error, "TLS_CERT: \"missing\" cannot be read"));

	/* and beside the host, wherever that is. */
	unsetenv("MQTT_USE_SSL");
	assert_int_equal(unlink(".env"), 0);
	for (i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		(void)snprintf(expected, sizeof expected,
				"option %s: a unix socket has no TLS, leave it out or name another host than \"/s\"",
				lines[i][0]);
		assert_fails(expected, APP, "host", "/s", lines[i][0], lines[i][1]);
	}
	assert_fails(
			"option transport: a unix socket has no websockets, leave it out or name another host than \"/s\"",
			APP, "host", "/s", "transport", "websockets");
	write_file(".env", "MQTT_HOSTNAME=/s\nMQTT_USE_SSL=true\n");
	assert_int_equal(load(APP, NULL), MOSQ_ERR_INVAL);
	assert_error_is(
			"%s/.env line 2, MQTT_USE_SSL: a unix socket has no TLS, leave it out or name another host than "
			"\"/s\"");
	assert_loads(APP, "host", "/s", "port", "0", "use_ssl", "false", "transport", "tcp");
	assert_int_equal(options->transport, OPTIONS_TRANSPORT_TCP);
}

static void test_paths(void **state)
{
	(void)state;
	write_file("pem", "");
	assert_fails("option cert: needs option key too", APP, "cert", "pem");
	assert_fails("option key: needs option cert too", APP, "key", "pem");
	assert_fails("option http_cert: needs option http_key too", APP, "http", "[::1]:8000", "http_cert",
			"pem");
	assert_fails("option http_key: needs option http_cert too", APP, "http", "[::1]:8000", "http_key", "pem");
	assert_fails("option http_cert: needs option http too", APP, "http_cert", "pem", "http_key", "pem");
	assert_fails("option message_expiry: needs the session, which option session turns off", APP,
			"message_expiry", "true", "session", "off");
	assert_fails("option cacert: \"none\" cannot be read: No such file or directory", APP, "cacert", "none");
	assert_fails("option cacert: \".\" cannot be read: Is a directory", APP, "cacert", ".");
	assert_fails("option python_path: \"pem\" cannot be read: Not a directory", APP, "python_path",
			"/tmp:pem");
	assert_fails("option python_path: \"/tmp:\" has an empty folder name before or after a colon", APP,
			"python_path", "/tmp:");
	assert_fails("option virtualenv: \".\" is no virtual environment: neither bin/python3 nor bin/python in "
				 "it can be "
				 "run (No such file or directory)",
			APP, "virtualenv", ".");
	assert_int_equal(mkdir("bin", 0755), 0);
	write_file("bin/python", "");
	assert_int_equal(chmod("bin/python", 0755), 0);
	assert_loads(APP, "virtualenv", ".");
}

/* As the broker does: started as root in a folder of root's, then another user. Exit status 0: all is as it
 * should be. */
static int complain_as_nobody(void)
{
	char pem[128];

	snprintf(pem, sizeof pem, "%s/private/pem", folder);
	if (chdir("private") != 0 || setuid(65534) != 0) {
		return 1;
	}
	if (load(APP, "cacert", pem, NULL) != MOSQ_ERR_INVAL || !strstr(error, "cannot be read by user ") ||
			!strstr(error, ": Permission denied")) {
		return 2;
	}
	/* A working directory that it may not enter does no harm. */
	return load(APP, NULL) == MOSQ_ERR_SUCCESS ? 0 : 3;
}

static void test_another_user_is_named(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0) {
		skip();
	}
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(mkdir("private", 0700), 0);
	write_file("private/pem", "");
	child = fork();
	if (child == 0) {
		_exit(complain_as_nobody());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void load_while_scarce(bool again, const char *port, int otherwise)
{
	unsigned long n;
	int rc;

	for (n = 1;; n++) {
		options_free(options);
		options = NULL;
		free(error);
		error = (char *)-1; /* must be set on failure */
		scarce_memory(n, again);
		{
			struct mosquitto_opt lines[] = {{(char *)(uintptr_t)"application", (char *)(uintptr_t)"a.b:c"},
				{(char *)(uintptr_t)"port", (char *)(uintptr_t)port},
				{(char *)(uintptr_t)"python_path", (char *)(uintptr_t)"/tmp:."}};

			rc = options_load(lines, 3, &options, &error);
		}
		if (!scarce_memory_end()) {
			break;
		}
		assert_int_equal(rc, MOSQ_ERR_NOMEM);
		assert_null(error);
		assert_null(options);
	}
	assert_int_equal(rc, otherwise);
	assert_true(n > 20);
	if (rc == MOSQ_ERR_SUCCESS) {
		error = NULL;
	}
}

static void test_scarce_memory(void **state)
{
	(void)state;
	write_file(".env", "MQTT_USERNAME=me\nTLS_CA=.env\nX='${MQTT_USERNAME}'\nY=1\nZ\n");
	load_while_scarce(false, "1", MOSQ_ERR_SUCCESS);
	load_while_scarce(true, "1", MOSQ_ERR_SUCCESS);
	load_while_scarce(false, "x", MOSQ_ERR_INVAL);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_defaults),
		test(test_a_client_id_that_nobody_can_guess),
		test(test_a_client_id_that_outlives_the_process),
		test(test_every_option_from_lines),
		test(test_values_for_python),
		test(test_precedence),
		test(test_again),
		test(test_where_dotenv_is_looked_for),
		test(test_dotenv_is_found_in_the_folders_above),
		test(test_numbers_are_strict),
		test(test_bytes_and_seconds),
		test(test_words),
		test(test_keys),
		test(test_sources_are_named),
		test(test_values_are_shortened_and_passwords_hidden),
		test(test_address),
		test(test_what_a_unix_socket_does_without),
		test(test_paths),
		test(test_another_user_is_named),
		test(test_scarce_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
