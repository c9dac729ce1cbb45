/* reload.c between a broker that only keeps record and the files of a broker that was started with -c
 * main.conf: this program, which starts itself again that way, and is the plugin, too. */
#include "cmocka_all.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/reload.h"
#include "broker/sys_tree.h"
#include "broker/versions.h"
#include "options/load.h"
#include "scarce_memory.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"

static struct {
	struct versions_traits traits;
	bool no_memory;
	unsigned int adopted, rules_changed;
	int verbosity;
	size_t queue_size;
	unsigned int sys_interval;
	char log[2048]; /* level, line, newline */
} broker;

static char program[PATH_MAX], folder[64];
static const char *application;
static struct options *options;
static struct reload *reload;

void log_line(int level, const char *format, ...)
{
	size_t length = strlen(broker.log);
	va_list arguments;

	length += (size_t)snprintf(broker.log + length, sizeof broker.log - length, "%d ", level);
	va_start(arguments, format);
	length += (size_t)vsnprintf(broker.log + length, sizeof broker.log - length, format, arguments);
	va_end(arguments);
	(void)snprintf(broker.log + length, sizeof broker.log - length, "\n");
}

bool broker_adopt(struct broker *unused, const struct options *now)
{
	(void)unused;
	if (broker.no_memory) {
		return false;
	}
	broker.adopted++;
	broker.verbosity = now->verbosity;
	broker.queue_size = now->queue_size;
	return true;
}

void broker_rules_change(struct broker *unused)
{
	(void)unused;
	broker.rules_changed++;
}

void sys_tree_set_interval(struct sys_tree *unused, unsigned int seconds)
{
	(void)unused;
	broker.sys_interval = seconds;
}

static void write_conf(const char *content)
{
	FILE *file = fopen("main.conf", "w");

	assert_non_null(file);
	fprintf(file, "plugin /another.so\nplugin_opt_verbosity 9\nplugin %s\nplugin_opt_application %s\n%s",
			program, application, content);
	fclose(file);
}

static int setup(void **state)
{
	struct mosquitto_opt line = {(char *)(uintptr_t)"application", (char *)(uintptr_t)"a:b"};
	char *error = NULL;

	(void)state;
	memset(&broker, 0, sizeof broker);
	broker.traits = versions_2_0;
	application = "a:b";
	strcpy(folder, "/tmp/reload-XXXXXX");
	if (!mkdtemp(folder) || chdir(folder) != 0) {
		return -1;
	}
	setenv("MQTT_USERNAME", "me", 1);
	write_conf("");
	if (options_load(&line, 1, &options, &error) != MOSQ_ERR_SUCCESS) {
		return -1;
	}
	reload = reload_new(options, &broker.traits, NULL, NULL);
	return reload ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	reload_free(reload);
	options_free(options);
	(void)snprintf(command, sizeof command, "rm -rf %s", folder);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/* The log of a reload with these further lines. */
static const char *reload_with(const char *content)
{
	write_conf(content);
	broker.log[0] = '\0';
	assert_int_equal(reload_on_event(MOSQ_EVT_RELOAD, NULL, reload), broker.traits.reload_result);
	return broker.log;
}

static void test_sys_interval(void **state)
{
	(void)state;
	assert_int_equal(broker.sys_interval, 10); /* at start */
	assert_string_equal(reload_with("sys_interval 3\n"), "1 No option has changed.\n");
	assert_int_equal(broker.sys_interval, 3);
	/* It is the broker's: a mistake of this plugin's lines is no mistake there. */
	(void)reload_with("sys_interval 4\nplugin_opt_spin x\n");
	assert_int_equal(broker.sys_interval, 4);
	assert_int_equal(unlink("main.conf"), 0);
	(void)reload_on_event(MOSQ_EVT_RELOAD, NULL, reload);
	assert_int_equal(broker.sys_interval, 4);
	(void)reload_with("sys_interval 0\n");
	assert_int_equal(broker.sys_interval, 0);
	(void)reload_with("");
	assert_int_equal(broker.sys_interval, 10);
}

static void test_nothing(void **state)
{
	(void)state;
	assert_string_equal(reload_with(""), "1 No option has changed.\n");
	broker.traits = versions_2_1;
	assert_string_equal(reload_with("plugin_opt_spin 100\n"), "1 No option has changed.\n");
	assert_int_equal(broker.adopted, 0);
	assert_int_equal(broker.rules_changed, 2);
}

static void test_at_once(void **state)
{
	(void)state;
	assert_string_equal(reload_with("plugin_opt_verbosity 2\n"), "2 Options changed: verbosity is 2 now.\n");
	assert_int_equal(broker.verbosity, 2);
	assert_string_equal(reload_with("plugin_opt_verbosity 2\n"), "1 No option has changed.\n");
	assert_string_equal(
			reload_with("plugin_opt_spin 0\nplugin_opt_queue_size 7\nplugin_opt_queue_bytes 3k\n"),
			"2 Options changed: verbosity is 0 now, queue_size is 7 now, queue_bytes is 3072 now, spin is 0 now.\n");
	assert_int_equal(broker.verbosity, 0);
	assert_int_equal(broker.queue_size, 7);
	assert_int_equal(broker.adopted, 2);
}

static void test_at_the_next_start(void **state)
{
	static const char expected[] =
			"2 Options changed: verbosity is 1 now.\n"
			"2 Options application, host and password changed; they take effect at the next start "
			"of the broker.\n";

	(void)state;
	assert_string_equal(reload_with("plugin_opt_host other\n"),
			"2 Option host changed; that takes effect at the next start of the broker.\n");
	assert_int_equal(broker.adopted, 0);
	assert_string_equal(reload_with(""), "1 No option has changed.\n");
	/* The default client_id follows from this one, which is enough to say. */
	assert_string_equal(reload_with("plugin_opt_cleansession false\n"),
			"2 Option cleansession changed; that takes effect at the next start of the broker.\n");
	assert_string_equal(reload_with("plugin_opt_client_id hub\nplugin_opt_cleansession false\n"),
			"2 Options cleansession and client_id changed; they take effect at the next start of the broker.\n");
	application = "c:d";
	assert_string_equal(reload_with("plugin_opt_host h\nplugin_opt_password hush\nplugin_opt_verbosity 1\n"),
			expected);
}

static void test_mistakes_change_nothing(void **state)
{
	(void)state;
	assert_string_equal(reload_with("plugin_opt_verbosity 3\nplugin_opt_queue_size 7\n"),
			"8 The options stay as they were: option verbosity: \"3\" is not a number from 0 to 2\n");
	assert_string_equal(reload_with("plugin_opt_verbosty 1\n"),
			"8 The options stay as they were: option verbosty: unknown, did you mean verbosity?\n");
	assert_int_equal(unlink("main.conf"), 0);
	broker.log[0] = '\0';
	assert_int_equal(reload_on_event(MOSQ_EVT_RELOAD, NULL, reload), MOSQ_ERR_PLUGIN_DEFER);
	assert_non_null(strstr(broker.log, "/main.conf\" cannot be read: No such file or directory\n"));
	assert_int_equal(broker.adopted, 0);
	assert_string_equal(reload_with("plugin_opt_verbosity 1\n"), "2 Options changed: verbosity is 1 now.\n");
}

/* What they said at the start holds: the application has them, and may have changed the environment. */
static void test_environment_and_env_file_are_those_of_the_start(void **state)
{
	FILE *file;

	(void)state;
	setenv("MQTT_USERNAME", "you", 1);
	setenv("VERBOSITY", "2", 1);
	assert_string_equal(reload_with(""), "1 No option has changed.\n");
	assert_string_equal(reload_with("plugin_opt_username you\n"),
			"2 Option username changed; that takes effect at the next start of the broker.\n");
	file = fopen(".env", "w");
	fputs("VERBOSITY=2\nno sense\n", file);
	fclose(file);
	assert_string_equal(reload_with(""),
			"2 Option env_file changed; that takes effect at the next start of the broker.\n");
	unsetenv("VERBOSITY");
	unsetenv("MQTT_USERNAME");
	assert_int_equal(broker.adopted, 0);
}

static void test_the_application_is_elsewhere(void **state)
{
	char elsewhere[] = "/";

	(void)state;
	write_conf("plugin_opt_verbosity 1\n");
	assert_int_equal(chdir(elsewhere), 0);
	assert_int_equal(reload_on_event(MOSQ_EVT_RELOAD, NULL, reload), MOSQ_ERR_PLUGIN_DEFER);
	assert_string_equal(broker.log, "2 Options changed: verbosity is 1 now.\n");
}

static void test_scarce_memory(void **state)
{
	unsigned long n;
	bool failed;

	(void)state;
	broker.no_memory = true;
	assert_string_equal(reload_with("plugin_opt_verbosity 1\n"),
			"8 The options stay as they were: no memory\n");
	broker.no_memory = false;
	for (n = 1;; n++) {
		broker.log[0] = '\0';
		broker.sys_interval = 99;
		scarce_memory(n, false);
		assert_int_equal(reload_on_event(MOSQ_EVT_RELOAD, NULL, reload), MOSQ_ERR_PLUGIN_DEFER);
		failed = scarce_memory_end();
		if (!failed || broker.adopted) {
			break;
		}
		assert_string_equal(broker.log, "8 The options stay as they were: no memory\n");
		assert_int_equal(broker.adopted, 0);
	}
	assert_string_equal(broker.log, "2 Options changed: verbosity is 1 now.\n");
	assert_true(n > 10);
	assert_true(failed); /* reading sys_interval, which then stays */
	assert_int_equal(broker.sys_interval, 99);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(test_nothing),
		test(test_sys_interval),
		test(test_at_once),
		test(test_at_the_next_start),
		test(test_mistakes_change_nothing),
		test(test_environment_and_env_file_are_those_of_the_start),
		test(test_the_application_is_elsewhere),
		test(test_scarce_memory),
	};
	char *again[] = {program, (char *)(uintptr_t)"-c", (char *)(uintptr_t)"main.conf", NULL};

	(void)argv;
	if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) {
		return 1;
	}
	if (argc == 1) {
		(void)execv(program, again);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
