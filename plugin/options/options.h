/* What the administrator asked for.
 *
 * Every option has a key (the `plugin_opt_` line's rest), an environment variable and a default; the
 * precedence is line, environment, `.env` file, default. options_load() reads all of them once, on the broker
 * thread at start-up; from then on the struct is immutable and any thread may read it. When the lines have changed,
 * options_load_again() makes a new one, and who uses an option that can change is told. */
#ifndef MQTTASGI_OPTIONS_H
#define MQTTASGI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mosquitto_opt;
struct text;

enum options_loop { OPTIONS_LOOP_AUTO, OPTIONS_LOOP_ASYNCIO, OPTIONS_LOOP_UVLOOP };
enum options_session { OPTIONS_SESSION_FULL, OPTIONS_SESSION_OFF };
enum options_overload { OPTIONS_DROP_NEWEST, OPTIONS_DROP_OLDEST };
enum options_transport { OPTIONS_TRANSPORT_TCP, OPTIONS_TRANSPORT_WEBSOCKETS };

/* One NAME=value of the `.env` file or the environment. Bytes, not always UTF-8. */
struct options_variable {
	char *name;
	char *value;
	size_t line; /* in the `.env` file */
};

struct options {
	char *application; /* package.module:name, never NULL */
	char *host;        /* listener's name or address, or a unix socket's path */
	uint16_t port;     /* 0 with a unix socket */
	char *username;    /* NULL: none */
	char *password;    /* NULL: none; never logged */
	bool cleansession;
	int verbosity;             /* 0 warnings, 1 info, 2 debug */
	char *client_id;           /* never NULL */
	bool client_id_is_made;    /* nobody gave one */
	char *session_id;          /* what the broker knows the session by instead (settings.h); NULL: the client id */
	char *advice;              /* what else to try where there is no session, a blank before it (settings.h); NULL: nothing */
	char *cert, *key, *cacert; /* NULL: none */
	bool use_ssl;
	enum options_transport transport;
	unsigned int retries; /* 0: for ever */
	char *python_path;    /* folders, ':' between them; NULL: none */
	char *virtualenv;     /* folder; NULL: none */
	char *env_file;       /* the `.env` file that was read; NULL: none was found */
	size_t queue_size;    /* messages, each direction */
	size_t queue_bytes;   /* bytes of topics and payloads, each direction */
	size_t consumer_queue_size;  /* messages that wait for one consumer; 0: no bound of its own */
	size_t consumer_queue_bytes; /* the same in bytes */
	enum options_overload overload; /* which messages make room */
	unsigned int startup_timeout_ms;
	unsigned int shutdown_timeout_ms; /* for consumers' disconnect() */
	unsigned int watchdog_ms; /* how long a consumer may block the event loop before the log says so; 0: any time */
	unsigned int log_lines;   /* lines a second that one consumer may write to the broker's log; 0: any number */
	enum options_session session;
	enum options_loop loop;
	unsigned int spin_us; /* 0: never */
	bool message_expiry;  /* MQTT 5 clients' messages through the session, which knows how long they are valid */
	bool connect_events;  /* on Mosquitto 2.0, where that changes who may log in */
	char *mirror;         /* client id that a bridge to the broker that is mirrored has here; NULL: none is */
	bool check;           /* import the application, say whether that went well, and stop the broker */

	/* Of the `.env` file, in its order; also those that the environment has another value of. */
	struct options_variable *variables;
	size_t variable_count;
	/* Those of the environment that are options. */
	struct options_variable *environment;
	size_t environment_count;
};

/* Reads, validates and returns all options.
 * MOSQ_ERR_SUCCESS: *ret_options is the caller's, to be given to options_free().
 * MOSQ_ERR_INVAL or MOSQ_ERR_NOMEM: *ret_error is one line that names every wrong key, its value (never a
 * password) and what is allowed; the caller frees it with free(); NULL when memory ran out.
 * It may be longer than the 1,000 bytes of a line in the broker's log. Broker thread only: it reads the
 * environment. */
int options_load(const struct mosquitto_opt *lines, int line_count, struct options **ret_options,
		char **ret_error) __attribute__((warn_unused_result));

/* The same with other lines, and what first, which options_load() made, found in the environment and in the `.env` file:
 * both have become the application's since, which may change the one, and which would know nothing of a change of the
 * other. The new struct has no variables. Broker thread only. */
int options_load_again(const struct mosquitto_opt *lines, int line_count, const struct options *first,
		struct options **ret_options, char **ret_error) __attribute__((warn_unused_result));

/* Adds what differs among the options that can change while the broker runs, `spin is 0 now, verbosity is 1 now`, or
 * among the others, `application, host and port`. Returns how many those are. */
size_t options_changed_at_once(const struct options *before, const struct options *now, struct text *ret_text);
size_t options_changed_for_later(const struct options *before, const struct options *now, struct text *ret_text);

/* The client id by which the broker knows the session. */
static inline const char *options_session_id(const struct options *options)
{
	return options->session_id ? options->session_id : options->client_id;
}

/* Takes NULL. */
void options_free(struct options *options);

#endif
