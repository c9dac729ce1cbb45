#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_folder.h"
#include "options/mosquitto_conf.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"

static struct mosquitto_conf_lines lines;
static struct text error;

static int setup(void **state)
{
	(void)state;
	return conf_folder_make();
}

static void forget(void)
{
	mosquitto_conf_free(&lines);
	text_free(&error);
}

static int teardown(void **state)
{
	(void)state;
	forget();
	return conf_folder_remove();
}

/* What is read, as key=value with a | after each. */
static const char *read_conf(const char *content)
{
	static char found[1024];
	size_t i;
	int rc;

	write_file("main.conf", content);
	forget();
	rc = mosquitto_conf_read(&place, &lines, &error);
	found[0] = '\0';
	if (rc != MOSQ_ERR_SUCCESS) {
		assert_int_equal(rc, MOSQ_ERR_INVAL);
		assert_int_equal(lines.count, 0);
		assert_true(error.length > 0);
		return error.data;
	}
	assert_int_equal(error.length, 0);
	for (i = 0; i < lines.count; i++) {
		strcat(found, lines.lines[i].key);
		strcat(found, "=");
		strcat(found, lines.lines[i].value);
		strcat(found, "|");
	}
	return found;
}

#define assert_reads(expected, content) assert_string_equal(read_conf(content), expected)
#define OURS "plugin /usr/lib/ours.so\n"

static void test_the_command_line(void **state)
{
	static const char plain[] = "mosquitto\0-c\0/etc/m.conf", both[] = "m\0-v\0--config-file\0a\0-c\0b\0-d",
					  none[] = "m\0-p\0"
							   "1883",
					  half[] = "m\0-c", named[] = "m\0-c\0-c";

	(void)state;
	assert_string_equal(mosquitto_conf_file_of(plain, sizeof plain), "/etc/m.conf");
	assert_string_equal(mosquitto_conf_file_of(both, sizeof both), "b");
	assert_null(mosquitto_conf_file_of(none, sizeof none));
	assert_null(mosquitto_conf_file_of(half, sizeof half));
	assert_string_equal(mosquitto_conf_file_of(named, sizeof named), "-c");
	assert_null(mosquitto_conf_file_of("", 0));
}

static void test_the_place(void **state)
{
	char working[256];
	struct mosquitto_conf_place found;
	struct stat status;

	(void)state;
	assert_int_equal(mosquitto_conf_find(&found), MOSQ_ERR_SUCCESS);
	assert_null(found.file);
	assert_string_equal(found.folder, getcwd(working, sizeof working));
	assert_int_equal(stat(found.plugin, &status), 0);
	mosquitto_conf_forget(&found);
}

static void test_values(void **state)
{
	(void)state;
	assert_reads("", OURS);
	assert_reads("key=value|", OURS "plugin_opt_key value");
	assert_reads("spin=1 # one |port=2\t|", OURS "plugin_opt_spin  \t 1 # one \nauth_opt_port 2\t\r\n");
	assert_reads("key=|a=|=x|", OURS "plugin_opt_key\nplugin_opt_a  \nplugin_opt_ x\n");
	assert_reads("b=1|",
			OURS "# plugin_opt_a 1\n\n\r\n   \n  plugin_opt_b 1\n\tplugin_opt_c 1\nplugin_opts 1\n");
}

static void test_sections(void **state)
{
	(void)state;
	assert_reads("a=2|b=3|",
			"plugin /usr/lib/theirs.so\nplugin_opt_a 1\n" OURS
			"plugin_opt_a 2\nlistener 1883\nplugin_opt_b 3\nauth_plugin theirs.so\nplugin_opt_a 4\n");
	assert_reads("a=1|", "global_plugin   /usr/lib/ours.so  \nplugin_opt_a 1\n");
	assert_reads("a=1|", "plugin_opt_a 0\nplugin ours.so\nplugin_opt_a 1\n"); /* dlopen() searched for it */
	/* Mosquitto 2.1. */
	assert_reads("a=1|b=4|",
			"plugin_load hub /usr/lib/ours.so\nplugin_opt_a 1\nplugin_load x /x.so\nplugin_opt_a 2\n"
			"plugin_use x\nplugin_opt_a 3\nplugin_use hub\nplugin_opt_b 4\nplugin_use\nplugin_opt_b 5\n");
}

static void test_settings(void **state)
{
	struct mosquitto_conf_setting found[] = {
		{"retain_available", NULL}, {"max_packet_size", NULL}, {"never_set", NULL}};
	size_t i;

	(void)state;
	assert_int_equal(mkdir(path_of("more"), 0755), 0);
	write_file("more/1.conf", "max_packet_size 3000 \r\n");
	write_file("main.conf",
			"retain_available true\n#never_set 1\nnever_set_too 1\ninclude_dir more\n" OURS
			"plugin_opt_max_packet_size 5\n  retain_available   false # yes\n");
	assert_true(mosquitto_conf_settings(&place, found, 3));
	assert_string_equal(found[0].value, "false # yes");
	assert_string_equal(found[1].value, "3000");
	assert_null(found[2].value);
	assert_int_equal(unlink(path_of("main.conf")), 0);
	assert_false(mosquitto_conf_settings(&place, found, 3));
	for (i = 0; i < 3; i++) {
		free(found[i].value);
	}
}

/* Seconds; -1: there is no answer. */
static int sys_interval_of(const char *content)
{
	unsigned int seconds = 12345;

	write_file("main.conf", content);
	return mosquitto_conf_sys_interval(&place, &seconds) ? (int)seconds
														 : (assert_int_equal(seconds, 12345), -1);
}

static void test_sys_interval(void **state)
{
	unsigned int seconds = 7;
	struct mosquitto_conf_place nowhere = {NULL, folder, (char *)(uintptr_t)"/usr/lib/ours.so"};

	(void)state;
	assert_int_equal(sys_interval_of(""), 10);
	assert_int_equal(sys_interval_of("sys_interval 3\n"), 3); /* also without our plugin line */
	assert_int_equal(sys_interval_of(OURS "plugin_opt_a 1\n  sys_interval   0 \r\n"), 0);
	assert_int_equal(sys_interval_of("sys_interval 3\nsys_interval 65535"), 65535);
	assert_int_equal(sys_interval_of("#sys_interval 3\nsys_intervals 4\nsys_interval\t4\n"), 10);
	assert_int_equal(sys_interval_of("sys_interval 5 # seconds\n"), 5);
	assert_int_equal(sys_interval_of("sys_interval often\n"), 0);
	assert_int_equal(sys_interval_of("sys_interval -1\nsys_interval 2\n"), -1);
	assert_int_equal(sys_interval_of("sys_interval 65536\n"), -1);
	assert_int_equal(sys_interval_of("sys_interval\n"), -1);

	assert_int_equal(mkdir(path_of("more"), 0755), 0);
	write_file("more/1.conf", "sys_interval 20\n");
	write_file("more/2.conf", "sys_interval 21\n");
	assert_int_equal(sys_interval_of("sys_interval 3\ninclude_dir more\n"), 21);
	assert_int_equal(sys_interval_of("include_dir more\nsys_interval 3\n"), 3);
	assert_int_equal(sys_interval_of("sys_interval 3\ninclude_dir none\n"), -1);

	assert_int_equal(unlink(path_of("main.conf")), 0);
	assert_false(mosquitto_conf_sys_interval(&place, &seconds));
	assert_false(mosquitto_conf_sys_interval(&nowhere, &seconds));
	assert_int_equal(seconds, 7);
}

static void test_other_names_of_the_file(void **state)
{
	char content[512], own[128];

	(void)state;
	assert_int_equal(mkdir(path_of("lib"), 0755), 0);
	write_file("lib/ours.so", "");
	write_file("lib/theirs.so", "");
	strcpy(own, path_of("lib/ours.so"));
	assert_int_equal(symlink(own, path_of("link.so")), 0);
	place.plugin = own;
	(void)snprintf(content, sizeof content,
			"plugin %s\nplugin_opt_a 1\nplugin lib/theirs.so\nplugin_opt_a 2\n", path_of("link.so"));
	assert_reads("a=1|", content);
	assert_reads("a=1|", "plugin ./lib/../lib/ours.so\nplugin_opt_a 1\n");
	place.plugin = (char *)(uintptr_t)"./lib/ours.so";
	assert_reads("a=1|", "plugin lib/ours.so\nplugin_opt_a 1\n");
	/* A package that is being updated has taken it away. */
	assert_int_equal(unlink(own), 0);
	assert_reads("a=1|", "plugin ./lib/ours.so\nplugin_opt_a 1\n");
}

static void test_one_section(void **state)
{
	(void)state;
	assert_non_null(strstr(read_conf(""), "/main.conf\" has no plugin line for /usr/lib/ours.so"));
	assert_non_null(strstr(read_conf("plugin_opt_a 1\nplugin\nplugin_load\nplugin_load ours\n"),
			"has no plugin line"));
	assert_non_null(strstr(read_conf(OURS OURS),
			"/main.conf\" has more than one plugin line for /usr/lib/ours.so"));
}

static void test_include_dir(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path_of("conf.d"), 0755), 0);
	write_file("conf.d/b.conf", OURS "plugin_opt_a 1\ninclude_dir nowhere\n");
	write_file("conf.d/C.conf", "plugin_opt_a 2\n"); /* no section of this file */
	write_file("conf.d/.conf", OURS);
	write_file("conf.d/d.conf.old", OURS);
	assert_reads("a=1|", "plugin /theirs.so\ninclude_dir conf.d\nplugin_opt_a 3\n");
	/* The section of the main file goes on behind it. */
	write_file("conf.d/b.conf", "plugin /theirs.so\nplugin_opt_a 1\n");
	assert_reads("a=3|", OURS "include_dir conf.d\nplugin_opt_a 3\n");
	/* Names count across files, in the order of the alphabet. */
	write_file("conf.d/B.conf", "plugin_use hub\nplugin_opt_b 1\n");
	write_file("conf.d/a.conf", "plugin_load hub /usr/lib/ours.so\nplugin_opt_a 1\n");
	assert_reads("a=1|b=1|", "include_dir conf.d\n");
	write_file("conf.d/b.conf", "plugin_load hub /usr/lib/ours.so\nplugin_opt_a 1\n");
	assert_int_equal(unlink(path_of("conf.d/a.conf")), 0);
	assert_reads("a=1|", "include_dir conf.d\n");

	assert_non_null(strstr(read_conf(OURS "include_dir nowhere\n"), "/nowhere\" cannot be read"));
	assert_int_equal(mkdir(path_of("conf.d/e.conf"), 0755), 0);
	assert_non_null(strstr(read_conf(OURS "include_dir conf.d\n"),
			"/conf.d/e.conf\" cannot be read: Is a directory"));
}

static void test_what_cannot_be_read(void **state)
{
	(void)state;
	place.file = (char *)(uintptr_t)"missing.conf";
	assert_non_null(strstr(read_conf(OURS), "/missing.conf\" cannot be read: No such file or directory"));
	assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
	place.file = (char *)(uintptr_t)"pipe";
	assert_non_null(strstr(read_conf(OURS), "/pipe\" is no file that can be read again"));
	place.file = NULL;
	assert_reads("the broker's command line does not tell which file it read (-c FILE)", OURS);
	/* Without the folder, names are relative to where the program is. */
	place.file = path_of("main.conf");
	place.folder = NULL;
	assert_reads("a=1|", OURS "plugin_opt_a 1\n");
}

static void test_many_lines(void **state)
{
	char content[20000] = OURS, line[64];
	int i;

	(void)state;
	for (i = 0; i < 500; i++) {
		(void)snprintf(line, sizeof line, "plugin_opt_key%d %d\n", i, i);
		strcat(content, line);
	}
	write_file("main.conf", content);
	assert_int_equal(mosquitto_conf_read(&place, &lines, &error), MOSQ_ERR_SUCCESS);
	assert_int_equal(lines.count, 500);
	assert_string_equal(lines.lines[499].key, "key499");
	assert_string_equal(lines.lines[499].value, "499");
}

/* As many allocations as it takes, with each failing once. */
static void read_while_scarce(bool again, int otherwise)
{
	unsigned long n;
	long blocks;
	int rc;

	for (n = 1;; n++) {
		forget();
		blocks = scarce_memory_blocks();
		scarce_memory(n, again);
		rc = mosquitto_conf_read(&place, &lines, &error);
		if (!scarce_memory_end()) {
			break;
		}
		assert_int_equal(rc, MOSQ_ERR_NOMEM);
		assert_int_equal(lines.count, 0);
		text_free(&error);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_int_equal(rc, otherwise);
	assert_true(n > 5);
}

static void test_scarce_memory(void **state)
{
	struct mosquitto_conf_place found;
	unsigned long n;

	(void)state;
	assert_int_equal(mkdir(path_of("conf.d"), 0755), 0);
	write_file("conf.d/a.conf", "plugin /theirs.so\nplugin_load hub /usr/lib/ours.so\nplugin_opt_key 1\n");
	write_file("main.conf", "include_dir conf.d\nplugin_use hub\nplugin_opt_other 2\n");
	read_while_scarce(false, MOSQ_ERR_SUCCESS);
	read_while_scarce(true, MOSQ_ERR_SUCCESS);
	write_file("main.conf", "include_dir missing\n");
	read_while_scarce(false, MOSQ_ERR_INVAL);

	for (n = 1;; n++) {
		scarce_memory(n, false);
		if (mosquitto_conf_find(&found) == MOSQ_ERR_SUCCESS) {
			assert_false(scarce_memory_end());
			break;
		}
		assert_true(scarce_memory_end());
		assert_null(found.plugin);
	}
	mosquitto_conf_forget(&found);
	assert_true(n > 2);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_the_command_line),
		test(test_the_place),
		test(test_values),
		test(test_sections),
		test(test_other_names_of_the_file),
		test(test_one_section),
		test(test_include_dir),
		test(test_settings),
		test(test_sys_interval),
		test(test_what_cannot_be_read),
		test(test_many_lines),
		test(test_scarce_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
