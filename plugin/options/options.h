/* What the administrator asked for.
 *
 * Every option has a key (the `plugin_opt_` line's rest), an environment variable and a default, which
 * table.h says; the precedence is line, environment, `.env` file, default. options_load() (load.h) reads all
 * of them once, on the broker thread at start-up; from then on the struct is immutable and any thread may
 * read it. When the lines have changed, options_load_again() makes a new one, and who uses an option that can
 * change is told. */
#ifndef MQTTASGI_OPTIONS_H
#define MQTTASGI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text;

enum options_loop { OPTIONS_LOOP_AUTO, OPTIONS_LOOP_ASYNCIO, OPTIONS_LOOP_UVLOOP };
enum options_session { OPTIONS_SESSION_FULL, OPTIONS_SESSION_OFF };
enum options_overload { OPTIONS_DROP_NEWEST, OPTIONS_DROP_OLDEST };
enum options_durable_sync { OPTIONS_SYNC_PROCESS, OPTIONS_SYNC_FULL };
enum options_transport { OPTIONS_TRANSPORT_TCP, OPTIONS_TRANSPORT_WEBSOCKETS };

/* One NAME=value of the `.env` file or the environment. Bytes, not always UTF-8. */
struct options_variable {
	char *name;
	char *value;
	size_t line; /* in the `.env` file */
};

/* Strings are NULL where there is none, but for application, host and client_id; 0 retries are as many as it
 * takes, 0 in a bound of a consumer's queue, in watchdog_ms and in log_lines is no bound, and 0 is the port
 * of a unix socket. */
struct options {
#define OPTION(key, variable, kind, type, field, ...) type field;
#include "options/table.h"

	bool client_id_is_made; /* nobody gave one */
	char *session_id; /* what the broker knows the session by instead (settings.h); NULL: the client id */
	char *advice;     /* what else to try where there is no session, a blank before it (settings.h); NULL:
					   * nothing */

	/* Of the `.env` file, in its order; also those that the environment has another value of. */
	struct options_variable *variables;
	size_t variable_count;
	/* Those of the environment that are options. */
	struct options_variable *environment;
	size_t environment_count;
};

/* An option's value for whoever hands it on. */
struct options_value {
	const char *key;
	enum { OPTIONS_TEXT, OPTIONS_NUMBER, OPTIONS_MILLISECONDS, OPTIONS_TRUTH } kind;
	const char *text; /* the options'; empty where there is none */
	uint64_t number;  /* of the other kinds */
};

/* The next of the options that are FOR_PYTHON, from row on, which is 0 at first. False: there are no more. */
bool options_next_for_python(const struct options *options, size_t *row, struct options_value *ret_value);

/* Adds what differs among the options that can change while the broker runs, `spin is 0 now, verbosity is 1
 * now`, or among the others, `application, host and port`. Returns how many those are. */
size_t options_changed_at_once(const struct options *before, const struct options *now,
		struct text *ret_text);
size_t options_changed_for_later(const struct options *before, const struct options *now,
		struct text *ret_text);

/* The client id by which the broker knows the session. */
static inline const char *options_session_id(const struct options *options)
{
	return options->session_id ? options->session_id : options->client_id;
}

/* Takes NULL. */
void options_free(struct options *options);

#endif
