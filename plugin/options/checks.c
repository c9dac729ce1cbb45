#include "options/checks.h"

#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include "options/loader.h"
#include "shared/mosquitto_api.h"

/* ---- checks across options ---- */

static void check_application(struct loader *loader)
{
	if (!loader->given[ROW_application].value) {
		loader_begin_sentence(loader);
		text_addf(&loader->errors,
				"option application: missing, name the application to run: "
				"plugin_opt_application package.module:name (or environment variable MQTTASGI_APPLICATION)");
	}
}

/* Options of a TCP connection, and why a unix socket has none of them. */
static const struct {
	size_t row;
	const char *reason;
} of_tcp[] = {
	{ROW_port, "a unix socket has none"},
	{ROW_cert, "a unix socket has no TLS"},
	{ROW_key, "a unix socket has no TLS"},
	{ROW_cacert, "a unix socket has no TLS"},
	{ROW_use_ssl, "a unix socket has no TLS"},
	{ROW_transport, "a unix socket has no websockets"},
};
#define OF_TCP_LENGTH (sizeof of_tcp / sizeof of_tcp[0])

static bool host_is_socket(const struct loader *loader)
{
	return loader->given[ROW_host].valid && *loader->options->host == '/';
}

/* A unix socket is not reached by TCP. What another place than the host's says of that, such as a `.env` file
 * that somebody else uses too, is passed over before anybody looks at it, with the defaults: the fields stay
 * zero, which is no port, no TLS and transport tcp. */
void checks_drop_tcp_options(struct loader *loader)
{
	struct given *given;
	size_t i;

	for (i = 0; i < OF_TCP_LENGTH && host_is_socket(loader); i++) {
		given = &loader->given[of_tcp[i].row];
		if (given->source != loader->given[ROW_host].source) {
			given->value = NULL;
		}
	}
}

static bool is_zero(const struct option *option, const struct options *options)
{
	static const char zeroes[sizeof(uint64_t)];

	return memcmp((const char *)options + option->offset, zeroes, option->size) == 0;
}

/* Beside the host such an option is a mistake, unless it says what holds anyway: port 0, use_ssl false,
 * transport tcp. */
static void check_socket_path(struct loader *loader)
{
	const struct options *options = loader->options;
	size_t row, i;

	if (strlen(options->host) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
		loader_begin_sentence_about(loader, ROW_host);
		text_add_quoted(&loader->errors, options->host);
		text_addf(&loader->errors, " is too long for a unix socket's path");
	}
	for (i = 0; i < OF_TCP_LENGTH; i++) {
		row = of_tcp[i].row;
		if (loader->given[row].valid && !is_zero(&option_table[row], options)) {
			loader_begin_sentence_about(loader, row);
			text_addf(&loader->errors, "%s, leave it out or name another host than ", of_tcp[i].reason);
			text_add_quoted(&loader->errors, options->host);
		}
	}
}

static void check_address(struct loader *loader)
{
	struct options *options = loader->options;
	size_t host = ROW_host, port = ROW_port;

	if (!loader->given[host].valid) {
		return;
	}
	if (host_is_socket(loader)) {
		check_socket_path(loader);
		return;
	}
	if (strchr(options->host, '/')) {
		loader_begin_sentence_about(loader, host);
		text_add_quoted(&loader->errors, options->host);
		text_addf(&loader->errors,
				" is neither a host's name or address nor a unix socket's path, which begins with /");
	}
	if (loader->given[port].valid && options->port == 0) {
		loader_begin_sentence_about(loader, port);
		text_addf(&loader->errors, "0 is only for a host that is a unix socket's path and begins with /");
	}
}

static void check_certificate(struct loader *loader)
{
	size_t cert = ROW_cert, key = ROW_key;
	bool has_cert = loader->given[cert].value, has_key = loader->given[key].value;

	if (has_cert != has_key && !host_is_socket(loader)) {
		loader_begin_sentence_about(loader, has_cert ? cert : key);
		text_addf(&loader->errors, "needs option %s too", has_cert ? "key" : "cert");
	}
}

static void check_message_expiry(struct loader *loader)
{
	if (loader->options->message_expiry && loader->options->session == OPTIONS_SESSION_OFF) {
		loader_begin_sentence_about(loader, ROW_message_expiry);
		text_addf(&loader->errors, "needs the session, which option session turns off");
	}
}

static void check_durable(struct loader *loader)
{
	const char *path = loader->options->durable;

	if (path && *path != '/') {
		loader_begin_sentence_about(loader, ROW_durable);
		text_add_quoted(&loader->errors, path);
		text_addf(&loader->errors, " is not a whole path, which begins with /");
	}
}

/* Options that do nothing without another one, and what that is. */
static void check_http(struct loader *loader)
{
	static const struct {
		size_t row, needs;
	} pairs[] = {{ROW_http_cert, ROW_http_key}, {ROW_http_key, ROW_http_cert}, {ROW_http_cert, ROW_http}};
	size_t i;

	for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		if (loader->given[pairs[i].row].value && !loader->given[pairs[i].needs].value) {
			loader_begin_sentence_about(loader, pairs[i].row);
			text_addf(&loader->errors, "needs option %s too", option_table[pairs[i].needs].key);
			return;
		}
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

	for (row = 0; row < OPTION_COUNT; row++) {
		distance = edit_distance(key, option_table[row].key);
		if (distance < best && distance * 2 < strlen(option_table[row].key)) {
			best = distance;
			closest = option_table[row].key;
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
		if (option_row(key) < OPTION_COUNT ? earlier != 1 : earlier > 0) {
			continue; /* each key is named once */
		}
		loader_begin_sentence(loader);
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

void checks_run(struct loader *loader)
{
	check_application(loader);
	check_address(loader);
	check_certificate(loader);
	check_message_expiry(loader);
	check_durable(loader);
	check_http(loader);
	check_keys(loader);
}
