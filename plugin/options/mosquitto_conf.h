/* What the broker's configuration file says to this plugin, and when the broker publishes $SYS.
 *
 * Mosquitto hands a plugin its `plugin_opt_` lines at start. When it reads its file again (SIGHUP) it skips
 * the lines of all plugins, on every version, so this plugin then reads the file itself, line by line as
 * Mosquitto's conf.c does. Which file, and where from, is found out at start: the application may change the
 * working directory and the command line. Broker thread only. */
#ifndef MQTTASGI_MOSQUITTO_CONF_H
#define MQTTASGI_MOSQUITTO_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/text.h"

struct mosquitto_opt;

struct mosquitto_conf_place {
	char *file;   /* as the command line names it; NULL: it names none */
	char *folder; /* where the broker was started, what relative names are relative to; NULL: not known */
	char *plugin; /* this plugin's own file */
};

struct mosquitto_conf_lines {
	struct mosquitto_opt *lines; /* in the order of the file */
	size_t count;
	size_t capacity;
};

/* MOSQ_ERR_SUCCESS: *ret_place is the caller's, to be given to mosquitto_conf_forget(). MOSQ_ERR_NOMEM. */
int mosquitto_conf_find(struct mosquitto_conf_place *ret_place) __attribute__((warn_unused_result));
void mosquitto_conf_forget(struct mosquitto_conf_place *place);

/* The file that a broker with this command line reads (arguments with a NUL after each, as in
 * /proc/PID/cmdline), or NULL. */
const char *mosquitto_conf_file_of(const char *arguments, size_t length);

/* Reads the file, and those of its include_dir, for the options under this plugin's `plugin` line.
 * MOSQ_ERR_SUCCESS: *ret_lines is the caller's, to be given to mosquitto_conf_free().
 * MOSQ_ERR_INVAL: error is a sentence without its full stop. MOSQ_ERR_NOMEM. */
int mosquitto_conf_read(const struct mosquitto_conf_place *place, struct mosquitto_conf_lines *ret_lines,
		struct text *error) __attribute__((warn_unused_result));
void mosquitto_conf_free(struct mosquitto_conf_lines *lines);

/* Mosquitto's own `sys_interval` in the same files: seconds, 0 for never. A file without that line has
 * Mosquitto's default. Returns false where a file cannot be read, or says what Mosquitto refuses:
 * *ret_seconds stays as it was. */
bool mosquitto_conf_sys_interval(const struct mosquitto_conf_place *place, unsigned int *ret_seconds);

/* A setting of Mosquitto's own. */
struct mosquitto_conf_setting {
	const char *name;
	char *value; /* of the last line that has it, without the space around it; NULL: none has; to be freed
					with free() */
};

/* Finds them in the same files. Returns false where a file cannot be read, or memory ran out: some may not
 * have been found. */
bool mosquitto_conf_settings(const struct mosquitto_conf_place *place,
		struct mosquitto_conf_setting *settings, size_t count);

#define MOSQUITTO_CONF_SYS_INTERVAL 10 /* the default */

/* One line of these files: its first word, and the rest without spaces around it. file: a number of its own
 * for each file, 0 the main one; a file that is included is read where its include_dir stands. What is given
 * is valid until it returns. */
typedef void mosquitto_conf_visit(void *userdata, unsigned int file, const char *word, const char *value);

/* Calls visit for each line, in Mosquitto's order. False: a file cannot be read, or memory ran out; some were
 * visited. */
bool mosquitto_conf_each_line(const struct mosquitto_conf_place *place, mosquitto_conf_visit *visit,
		void *userdata);

#endif
