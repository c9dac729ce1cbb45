#include "options/options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "options/dotenv.h"
#include "options/option_types.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* A new option is a field in struct options and a row here; its row frees it, too, where it is a string. */

#define NOT_IN_DOTENV 1u /* names the `.env` file: too late to read it there */
#define SECRET 2u
#define AT_ONCE 4u /* a number that can change while the broker runs; see broker_adopt() */

#define FIELD(name)                                                                                          \
	offsetof(struct options, name), sizeof(((struct options *)NULL)->name),                                    \
			_Generic(((struct options *)NULL)->name, char * : true, default : false)
#define NO_RANGE 0, 0, NULL

#define QUEUE_BYTES_MAX (SIZE_MAX > UINT32_MAX ? (uint64_t)64 << 30 : (uint64_t)1 << 30)

static const char *const transports[] = {"tcp", "websockets", NULL};
static const char *const sessions[] = {"full", "off", NULL};
static const char *const overloads[] = {"drop_newest", "drop_oldest", NULL};
static const char *const loops[] = {"auto", "asyncio", "uvloop", NULL};

/* clang-format off */
static const struct option table[] = {
	/* key, environment, type, default, field, minimum, maximum, choices, flags */
	{"application", "MQTTASGI_APPLICATION", option_take_application, NULL, FIELD(application), NO_RANGE, 0},
	{"host", "MQTT_HOSTNAME", option_take_string, "localhost", FIELD(host), NO_RANGE, 0},
	{"port", "MQTT_PORT", option_take_number, "1883", FIELD(port), 0, 65535, NULL, 0},
	{"username", "MQTT_USERNAME", option_take_string, NULL, FIELD(username), NO_RANGE, 0},
	{"password", "MQTT_PASSWORD", option_take_secret, NULL, FIELD(password), NO_RANGE, SECRET},
	{"cleansession", "MQTT_CLEAN", option_take_boolean, "true", FIELD(cleansession), NO_RANGE, 0},
	{"verbosity", "VERBOSITY", option_take_number, "0", FIELD(verbosity), 0, 2, NULL, AT_ONCE},
	{"client_id", "MQTT_CLIENT_ID", option_take_string, NULL, FIELD(client_id), NO_RANGE, 0},
	{"cert", "TLS_CERT", option_take_file, NULL, FIELD(cert), NO_RANGE, 0},
	{"key", "TLS_KEY", option_take_file, NULL, FIELD(key), NO_RANGE, 0},
	{"cacert", "TLS_CA", option_take_file, NULL, FIELD(cacert), NO_RANGE, 0},
	{"use_ssl", "MQTT_USE_SSL", option_take_boolean, "false", FIELD(use_ssl), NO_RANGE, 0},
	{"transport", "MQTT_TRANSPORT", option_take_choice, "tcp", FIELD(transport), 0, 0, transports, 0},
	{"retries", "MQTT_RETRIES", option_take_number, "3", FIELD(retries), 0, 1000000, NULL, 0},
	{"python_path", "MQTTASGI_PYTHON_PATH", option_take_folders, NULL, FIELD(python_path), NO_RANGE, 0},
	{"virtualenv", "MQTTASGI_VIRTUALENV", option_take_virtualenv, NULL, FIELD(virtualenv), NO_RANGE, 0},
	{"env_file", "MQTTASGI_ENV_FILE", option_take_file, NULL, FIELD(env_file), NO_RANGE, NOT_IN_DOTENV},
	{"queue_size", "MQTTASGI_QUEUE_SIZE", option_take_number, "100000", FIELD(queue_size), 1, 10000000, NULL, AT_ONCE},
	{"queue_bytes", "MQTTASGI_QUEUE_BYTES", option_take_bytes, "64M", FIELD(queue_bytes), 1024, QUEUE_BYTES_MAX, NULL, AT_ONCE},
	{"consumer_queue_size", "MQTTASGI_CONSUMER_QUEUE_SIZE", option_take_number, "0", FIELD(consumer_queue_size), 0, 10000000, NULL, 0},
	{"consumer_queue_bytes", "MQTTASGI_CONSUMER_QUEUE_BYTES", option_take_bytes, "0", FIELD(consumer_queue_bytes), 0, QUEUE_BYTES_MAX, NULL, 0},
	{"overload", "MQTTASGI_OVERLOAD", option_take_choice, "drop_newest", FIELD(overload), 0, 0, overloads, 0},
	{"startup_timeout", "MQTTASGI_STARTUP_TIMEOUT", option_take_seconds, "30", FIELD(startup_timeout_ms), 100, 3600000, NULL, 0},
	{"shutdown_timeout", "MQTTASGI_SHUTDOWN_TIMEOUT", option_take_seconds, "5", FIELD(shutdown_timeout_ms), 100, 3600000, NULL, 0},
	{"log_lines", "MQTTASGI_LOG_LINES", option_take_number, "100", FIELD(log_lines), 0, 1000000, NULL, 0},
	{"watchdog", "MQTTASGI_WATCHDOG", option_take_seconds, "2", FIELD(watchdog_ms), 0, 3600000, NULL, 0},
	{"session", "MQTTASGI_SESSION", option_take_choice, "full", FIELD(session), 0, 0, sessions, 0},
	{"loop", "MQTTASGI_LOOP", option_take_choice, "auto", FIELD(loop), 0, 0, loops, 0},
	{"spin", "MQTTASGI_SPIN", option_take_number, "100", FIELD(spin_us), 0, 1000, NULL, AT_ONCE},
	{"message_expiry", "MQTTASGI_MESSAGE_EXPIRY", option_take_boolean, "false", FIELD(message_expiry), NO_RANGE, 0},
	{"connect_events", "MQTTASGI_CONNECT_EVENTS", option_take_boolean, "false", FIELD(connect_events), NO_RANGE, 0},
	{"mirror", "MQTTASGI_MIRROR", option_take_string, NULL, FIELD(mirror), NO_RANGE, 0},
	{"check", "MQTTASGI_CHECK", option_take_boolean, "false", FIELD(check), NO_RANGE, 0},
};
/* clang-format on */

#define TABLE_LENGTH (sizeof table / sizeof table[0])

enum source { SOURCE_DEFAULT, SOURCE_LINE, SOURCE_ENVIRONMENT, SOURCE_DOTENV };

/* Where the value of a row comes from. */
struct given {
	enum source source;
	const char *value; /* NULL: none. Borrowed from loader.first, or it is `owned` */
	char *owned;
	size_t line; /* in the `.env` file */
	bool done;   /* it is in the struct now, or a sentence says why not */
	bool valid;  /* it is in the struct now */
};

struct loader {
	const struct mosquitto_opt *lines;
	int line_count;
	struct options *options;
	const struct options *first; /* whose environment and `.env` file count: options itself at start */
	struct given given[TABLE_LENGTH]; /* one per row of the table */
	struct text errors;               /* the sentences so far, "; " between */
	bool out_of_memory;
};

/* ---- sentences ---- */

static void begin_sentence(struct loader *loader)
{
	if (loader->errors.length > 0) {
		text_add(&loader->errors, "; ", 2);
	}
}

/* Begins a sentence about row with where its value came from. */
static void begin_sentence_about(struct loader *loader, size_t row)
{
	const struct given *given = &loader->given[row];

	begin_sentence(loader);
	switch (given->source) {
	case SOURCE_ENVIRONMENT:
		text_addf(&loader->errors, "environment variable %s: ", table[row].variable);
		break;
	case SOURCE_DOTENV:
		text_add_visible(&loader->errors, loader->first->env_file);
		text_addf(&loader->errors, " line %zu, %s: ", given->line, table[row].variable);
		break;
	default:
		text_addf(&loader->errors, "option %s: ", table[row].key);
		break;
	}
}

static size_t row_of(const char *key)
{
	size_t row;

	for (row = 0; row < TABLE_LENGTH && strcmp(table[row].key, key) != 0; row++) {
	}
	return row;
}

/* ---- where values come from ---- */

/* A copy of the line's value without blanks at its ends: a value runs to the end of the line in
 * mosquitto.conf, and blanks there cannot be seen. A password may want them. */
static char *copy_line_value(const struct option *option, const char *value)
{
	size_t length = strlen(value);

	if (!(option->flags & SECRET)) {
		value += strspn(value, " \t");
		length = strlen(value);
		while (length > 0 && strchr(" \t\r", value[length - 1])) {
			length--;
		}
	}
	return text_copy(value, length);
}

static void gather_lines(struct loader *loader)
{
	size_t row;
	int i;

	for (i = 0; i < loader->line_count; i++) {
		row = row_of(loader->lines[i].key);
		if (row == TABLE_LENGTH || loader->given[row].owned) {
			continue; /* check_keys() says so */
		}
		loader->given[row].owned =
				copy_line_value(&table[row], loader->lines[i].value ? loader->lines[i].value : "");
		loader->given[row].value = loader->given[row].owned;
		loader->given[row].source = SOURCE_LINE;
		loader->out_of_memory |= !loader->given[row].owned;
	}
}

/* Keeps of the environment what are options. */
static void keep_environment(struct loader *loader)
{
	struct options *options = loader->options;
	struct options_variable *variable;
	const char *value;
	size_t row;

	options->environment = calloc(TABLE_LENGTH, sizeof *options->environment);
	for (row = 0; options->environment && row < TABLE_LENGTH; row++) {
		value = getenv(table[row].variable);
		if (value && *value) {
			variable = &options->environment[options->environment_count++];
			variable->name = text_copy(table[row].variable, strlen(table[row].variable));
			variable->value = text_copy(value, strlen(value));
			loader->out_of_memory |= !variable->name || !variable->value;
		}
	}
	loader->out_of_memory |= !options->environment;
}

/* Gives the rows that have no value yet those of the variables. */
static void gather_variables(
		struct loader *loader, enum source source, const struct options_variable *variables, size_t count)
{
	const struct options_variable *variable;
	size_t row, i;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if (loader->given[row].source != SOURCE_DEFAULT ||
				(source == SOURCE_DOTENV && (table[row].flags & NOT_IN_DOTENV))) {
			continue;
		}
		for (i = 0; i < count; i++) {
			variable = &variables[i];
			if (text_equal(variable->name, table[row].variable) && variable->value && *variable->value) {
				loader->given[row].value = variable->value;
				loader->given[row].line = variable->line;
				loader->given[row].source = source;
			}
		}
	}
}

static void gather_defaults(struct loader *loader)
{
	size_t row;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if (loader->given[row].source == SOURCE_DEFAULT) {
			loader->given[row].value = table[row].fallback;
		}
	}
}

/* ---- taking values ---- */

static void take_value(struct loader *loader, size_t row)
{
	struct given *given = &loader->given[row];
	void *field = (char *)loader->options + table[row].offset;
	struct text complaint = {0};
	int rc;

	if (given->done || !given->value) {
		return;
	}
	given->done = true;
	if (*given->value) {
		rc = table[row].take(&table[row], given->value, field, &complaint);
	} else {
		text_addf(&complaint, "has no value");
		rc = MOSQ_ERR_INVAL;
	}
	given->valid = rc == MOSQ_ERR_SUCCESS;
	if (rc == MOSQ_ERR_INVAL && !complaint.failed) {
		begin_sentence_about(loader, row);
		text_add(&loader->errors, complaint.data, complaint.length);
	}
	loader->out_of_memory |= rc == MOSQ_ERR_NOMEM || complaint.failed;
	text_free(&complaint);
}

/* ---- the `.env` file ---- */

/* Moves the variables that have a value; one without is not set by python-dotenv either. */
static void keep_variables(struct loader *loader, struct dotenv *dotenv)
{
	struct options *options = loader->options;
	struct dotenv_variable *variable;
	size_t i;

	options->variables = dotenv->count ? calloc(dotenv->count, sizeof *options->variables) : NULL;
	if (!options->variables) {
		loader->out_of_memory |= dotenv->count > 0;
		return;
	}
	for (i = 0; i < dotenv->count; i++) {
		variable = &dotenv->variables[i];
		if (variable->value) {
			options->variables[options->variable_count++] =
					(struct options_variable){variable->name, variable->value, variable->line};
			variable->name = variable->value = NULL;
		}
	}
}

/* Reads options->env_file. */
static void read_dotenv(struct loader *loader)
{
	const char *path = loader->options->env_file;
	struct dotenv *dotenv = NULL;
	int rc = dotenv_read(path, &dotenv);
	int error = errno;

	if (rc == MOSQ_ERR_NOMEM) {
		loader->out_of_memory = true;
	} else if (rc != MOSQ_ERR_SUCCESS) {
		begin_sentence(loader);
		option_cannot_read(&loader->errors, path, error);
	} else if (dotenv->problem_count > 0) {
		begin_sentence(loader);
		text_add_visible(&loader->errors, path);
		text_addf(&loader->errors, " line %zu: %s", dotenv->problem_line, dotenv->problem);
		if (dotenv->problem_count > 1) {
			text_addf(&loader->errors, " (and %zu more below)", dotenv->problem_count - 1);
		}
	}
	if (dotenv) {
		keep_variables(loader, dotenv);
	}
	dotenv_free(dotenv);
}

/* Makes folder's `.env` options->env_file if there is one. A folder of that name is a virtual environment;
 * and what cannot even be looked at is passed over, for the broker's user often may not enter the working
 * directory. */
static bool try_folder(struct loader *loader, const char *folder, size_t length)
{
	struct text path = {0};
	struct stat status;
	char *name;

	text_add(&path, folder, length);
	text_addf(&path, "/.env");
	name = text_take(&path);
	if (!name) {
		loader->out_of_memory = true;
		return false;
	}
	if (stat(name, &status) != 0 || !S_ISREG(status.st_mode)) {
		free(name);
		return false;
	}
	loader->options->env_file = name;
	return true;
}

/* Whether folder's `.env` belongs to root, to this user or to owner. */
static bool has_trusted_dotenv(struct loader *loader, const char *folder, uid_t owner)
{
	struct text path = {0};
	struct stat status;
	char *name;
	bool trusted;

	text_addf(&path, "%s/.env", folder);
	name = text_take(&path);
	if (!name) {
		loader->out_of_memory = true;
		return false;
	}
	trusted = lstat(name, &status) == 0 &&
			(status.st_uid == 0 || status.st_uid == geteuid() || status.st_uid == owner);
	free(name);
	return trusted;
}

/* Looks in the folders above folder, the nearest first, as python-dotenv does. One of them may be everybody's, as
 * /tmp is: there only a file counts that belongs to root, to this user or to whom folder belongs. */
static bool try_above(struct loader *loader, const char *working, const char *folder, size_t length)
{
	struct text text = {0};
	struct stat status;
	char *path, *slash;
	bool found = false;

	if (*folder != '/') {
		text_addf(&text, "%s/", working);
	}
	text_add(&text, folder, length);
	path = text_take(&text);
	if (!path) {
		loader->out_of_memory = true;
		return false;
	}
	if (stat(path, &status) == 0) {
		while (!found && (slash = strrchr(path, '/'))) {
			*slash = '\0';
			found = has_trusted_dotenv(loader, path, status.st_uid) && try_folder(loader, path, strlen(path));
		}
	}
	free(path);
	return found;
}

/* The first of the folders of python_path and of the working directory that has a `.env`, else the nearest above one
 * of them. */
static void search_dotenv(struct loader *loader)
{
	const char *const folders = loader->given[row_of("python_path")].value;
	const char *at;
	char working[PATH_MAX];
	size_t length;
	bool above;
	int i;

	if (!getcwd(working, sizeof working)) {
		*working = '\0';
	}
	for (i = 0; i < 2; i++) {
		above = i > 0;
		for (at = folders; at && *at; at += length + (at[length] == ':')) {
			length = strcspn(at, ":");
			if (length > 0 &&
					(above ? try_above(loader, working, at, length) : try_folder(loader, at, length))) {
				return;
			}
		}
		length = strlen(working);
		if (length > 0 && (above ? try_above(loader, working, working, length) : try_folder(loader, working, length))) {
			return;
		}
	}
}

static void load_dotenv(struct loader *loader)
{
	size_t row = row_of("env_file");

	take_value(loader, row);
	if (!loader->given[row].value) {
		search_dotenv(loader);
	}
	if (loader->options->env_file && loader->first == loader->options) {
		read_dotenv(loader);
	}
	gather_variables(loader, SOURCE_DOTENV, loader->first->variables, loader->first->variable_count);
}

/* ---- checks across options ---- */

static void check_application(struct loader *loader)
{
	if (!loader->given[row_of("application")].value) {
		begin_sentence(loader);
		text_addf(&loader->errors,
				"option application: missing, name the application to run: "
				"plugin_opt_application package.module:name (or environment variable MQTTASGI_APPLICATION)");
	}
}

/* Options of a TCP connection, and why a unix socket has none of them. */
static const struct {
	const char *key, *reason;
} of_tcp[] = {
	{"port", "a unix socket has none"},
	{"cert", "a unix socket has no TLS"},
	{"key", "a unix socket has no TLS"},
	{"cacert", "a unix socket has no TLS"},
	{"use_ssl", "a unix socket has no TLS"},
	{"transport", "a unix socket has no websockets"},
};
#define OF_TCP_LENGTH (sizeof of_tcp / sizeof of_tcp[0])

static bool host_is_socket(const struct loader *loader)
{
	return loader->given[row_of("host")].valid && *loader->options->host == '/';
}

/* A unix socket is not reached by TCP. What another place than the host's says of that, such as a `.env` file that
 * somebody else uses too, is passed over before anybody looks at it, with the defaults: the fields stay zero, which is
 * no port, no TLS and transport tcp. */
static void pass_over_of_tcp(struct loader *loader)
{
	struct given *given;
	size_t i;

	for (i = 0; i < OF_TCP_LENGTH && host_is_socket(loader); i++) {
		given = &loader->given[row_of(of_tcp[i].key)];
		if (given->source != loader->given[row_of("host")].source) {
			given->value = NULL;
		}
	}
}

static bool is_zero(const struct option *option, const struct options *options)
{
	static const char zeroes[sizeof(uint64_t)];

	return memcmp((const char *)options + option->offset, zeroes, option->size) == 0;
}

/* Beside the host such an option is a mistake, unless it says what holds anyway: port 0, use_ssl false, transport tcp. */
static void check_socket_path(struct loader *loader)
{
	const struct options *options = loader->options;
	size_t row, i;

	if (strlen(options->host) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
		begin_sentence_about(loader, row_of("host"));
		text_add_quoted(&loader->errors, options->host);
		text_addf(&loader->errors, " is too long for a unix socket's path");
	}
	for (i = 0; i < OF_TCP_LENGTH; i++) {
		row = row_of(of_tcp[i].key);
		if (loader->given[row].valid && !is_zero(&table[row], options)) {
			begin_sentence_about(loader, row);
			text_addf(&loader->errors, "%s, leave it out or name another host than ", of_tcp[i].reason);
			text_add_quoted(&loader->errors, options->host);
		}
	}
}

static void check_address(struct loader *loader)
{
	struct options *options = loader->options;
	size_t host = row_of("host"), port = row_of("port");

	if (!loader->given[host].valid) {
		return;
	}
	if (host_is_socket(loader)) {
		check_socket_path(loader);
		return;
	}
	if (strchr(options->host, '/')) {
		begin_sentence_about(loader, host);
		text_add_quoted(&loader->errors, options->host);
		text_addf(&loader->errors, " is neither a host's name or address nor a unix socket's path, which begins with /");
	}
	if (loader->given[port].valid && options->port == 0) {
		begin_sentence_about(loader, port);
		text_addf(&loader->errors, "0 is only for a host that is a unix socket's path and begins with /");
	}
}

static void check_certificate(struct loader *loader)
{
	size_t cert = row_of("cert"), key = row_of("key");
	bool has_cert = loader->given[cert].value, has_key = loader->given[key].value;

	if (has_cert != has_key && !host_is_socket(loader)) {
		begin_sentence_about(loader, has_cert ? cert : key);
		text_addf(&loader->errors, "needs option %s too", has_cert ? "key" : "cert");
	}
}

static void check_message_expiry(struct loader *loader)
{
	if (loader->options->message_expiry && loader->options->session == OPTIONS_SESSION_OFF) {
		begin_sentence_about(loader, row_of("message_expiry"));
		text_addf(&loader->errors, "needs the session, which option session turns off");
	}
}

/* ---- keys ---- */

#define KEY_MAX 32 /* longer ones resemble no key of ours */

static size_t minimum(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters to add, drop, replace or swap to get from a to b. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t distance[KEY_MAX + 1][KEY_MAX + 1];
	size_t a_length = strlen(a), b_length = strlen(b), i, j;

	if (a_length > KEY_MAX || b_length > KEY_MAX) {
		return SIZE_MAX;
	}
	for (i = 0; i <= a_length; i++) {
		for (j = 0; j <= b_length; j++) {
			if (i == 0 || j == 0) {
				distance[i][j] = i + j;
				continue;
			}
			distance[i][j] = minimum(distance[i - 1][j], distance[i][j - 1]) + 1;
			distance[i][j] = minimum(distance[i][j], distance[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				distance[i][j] = minimum(distance[i][j], distance[i - 2][j - 2] + 1);
			}
		}
	}
	return distance[a_length][b_length];
}

/* NULL where no key is close: at most two letters off, and fewer than half of them. */
static const char *closest_key(const char *key)
{
	const char *closest = NULL;
	size_t row, distance, best = 3;

	for (row = 0; row < TABLE_LENGTH; row++) {
		distance = edit_distance(key, table[row].key);
		if (distance < best && distance * 2 < strlen(table[row].key)) {
			best = distance;
			closest = table[row].key;
		}
	}
	return closest;
}

/* How many earlier lines have the key of line i. */
static size_t count_earlier(const struct loader *loader, int i)
{
	size_t count = 0;
	int j;

	for (j = 0; j < i; j++) {
		count += strcmp(loader->lines[j].key, loader->lines[i].key) == 0;
	}
	return count;
}

static void check_keys(struct loader *loader)
{
	const char *key, *closest;
	size_t earlier;
	int i;

	for (i = 0; i < loader->line_count; i++) {
		key = loader->lines[i].key;
		earlier = count_earlier(loader, i);
		if (row_of(key) < TABLE_LENGTH ? earlier != 1 : earlier > 0) {
			continue; /* each key is named once */
		}
		begin_sentence(loader);
		text_addf(&loader->errors, "option ");
		text_add_visible(&loader->errors, key);
		text_addf(&loader->errors, ": ");
		if (earlier == 1) {
			text_addf(&loader->errors, "given more than once");
			continue;
		}
		closest = closest_key(key);
		text_addf(&loader->errors, "unknown%s%s%s", closest ? ", did you mean " : "", closest ? closest : "",
				closest ? "?" : "");
	}
}

/* ---- the rest of the struct ---- */

/* What nobody can guess: MQTT gives a client id to whoever connects with it last, and with it the session. The process
 * id will do where the system has no such number. */
static uint32_t secret_number(void)
{
	uint32_t number;

	return getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number ? number : (uint32_t)getpid();
}

/* With the process id, by which people know it, and a number that others do not know; without both, where the session is to
 * outlive the process. */
static void make_client_id(struct loader *loader)
{
	struct text id = {0};
	char host[256];

	if (loader->options->client_id) {
		return;
	}
	if (gethostname(host, sizeof host) != 0) {
		host[0] = '\0';
	}
	host[sizeof host - 1] = '\0';
	text_addf(&id, "mqttasgi-%s", host);
	if (loader->options->cleansession) {
		text_addf(&id, "-%ld-%08" PRIx32, (long)getpid(), secret_number());
	}
	loader->options->client_id = text_take(&id);
	loader->options->client_id_is_made = true;
	loader->out_of_memory |= !loader->options->client_id;
}

/* ---- the whole ---- */

static void load(struct loader *loader)
{
	size_t row;

	gather_lines(loader);
	if (loader->first == loader->options) {
		keep_environment(loader);
	}
	gather_variables(loader, SOURCE_ENVIRONMENT, loader->first->environment, loader->first->environment_count);
	load_dotenv(loader);
	gather_defaults(loader);
	take_value(loader, row_of("host"));
	pass_over_of_tcp(loader);
	for (row = 0; row < TABLE_LENGTH; row++) {
		take_value(loader, row);
	}
	check_application(loader);
	check_address(loader);
	check_certificate(loader);
	check_message_expiry(loader);
	check_keys(loader);
	make_client_id(loader);
}

int options_load(
		const struct mosquitto_opt *lines, int line_count, struct options **ret_options, char **ret_error)
{
	return options_load_again(lines, line_count, NULL, ret_options, ret_error);
}

int options_load_again(const struct mosquitto_opt *lines, int line_count, const struct options *first,
		struct options **ret_options, char **ret_error)
{
	struct loader loader = {.lines = lines, .line_count = line_count};
	int rc = MOSQ_ERR_NOMEM;
	size_t row;

	loader.options = calloc(1, sizeof *loader.options);
	if (!loader.options) {
		*ret_error = NULL;
		return MOSQ_ERR_NOMEM;
	}
	loader.first = first ? first : loader.options;
	load(&loader);
	if (loader.out_of_memory || loader.errors.failed) {
		*ret_error = NULL;
	} else if (loader.errors.length > 0) {
		*ret_error = text_take(&loader.errors);
		rc = MOSQ_ERR_INVAL;
	} else {
		*ret_options = loader.options;
		loader.options = NULL;
		rc = MOSQ_ERR_SUCCESS;
	}
	for (row = 0; row < TABLE_LENGTH; row++) {
		free(loader.given[row].owned);
	}
	text_free(&loader.errors);
	options_free(loader.options);
	return rc;
}

/* ---- what has changed ---- */

static bool differs(size_t row, const struct options *before, const struct options *now)
{
	const char *field = (const char *)before + table[row].offset, *other = (const char *)now + table[row].offset;

	if (row == row_of("client_id") && before->client_id_is_made && now->client_id_is_made) {
		return false; /* it follows from others, or from the machine's name */
	}
	return table[row].is_string ? !text_equal(*(char *const *)field, *(char *const *)other)
								: memcmp(field, other, table[row].size) != 0;
}

static uint64_t number_of(size_t row, const struct options *options)
{
	const char *field = (const char *)options + table[row].offset;
	uint32_t narrow;
	uint64_t number;

	if (table[row].size == sizeof narrow) {
		memcpy(&narrow, field, sizeof narrow);
		return narrow;
	}
	memcpy(&number, field, sizeof number);
	return number;
}

size_t options_changed_at_once(const struct options *before, const struct options *now, struct text *ret_text)
{
	size_t count = 0, row;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if ((table[row].flags & AT_ONCE) && differs(row, before, now)) {
			text_addf(ret_text, "%s%s is %" PRIu64 " now", count ? ", " : "", table[row].key, number_of(row, now));
			count++;
		}
	}
	return count;
}

size_t options_changed_for_later(const struct options *before, const struct options *now, struct text *ret_text)
{
	size_t count = 0, last = TABLE_LENGTH, row;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if (!(table[row].flags & AT_ONCE) && differs(row, before, now)) {
			if (count) {
				text_addf(ret_text, "%s%s", count > 1 ? ", " : "", table[last].key);
			}
			last = row;
			count++;
		}
	}
	if (count) {
		text_addf(ret_text, "%s%s", count > 1 ? " and " : "", table[last].key);
	}
	return count;
}

static void free_variables(struct options_variable *variables, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		free(variables[i].name);
		free(variables[i].value);
	}
	free(variables);
}

void options_free(struct options *options)
{
	size_t i;

	if (!options) {
		return;
	}
	for (i = 0; i < TABLE_LENGTH; i++) {
		if (table[i].is_string) {
			free(*(char **)((char *)options + table[i].offset));
		}
	}
	free_variables(options->variables, options->variable_count);
	free_variables(options->environment, options->environment_count);
	free(options->session_id);
	free(options->advice);
	free(options);
}
