/* As Mosquitto's conf.c reads it: a listener's settings follow its `listener` line, in the same file; what
 * stands before the first one in each file is the default listener's, which is there if it has a setting of
 * its own, or nobody else listens. */
#include "options/settings.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "options/mosquitto_conf.h"
#include "options/options.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* Mosquitto's own. */
#define QUEUED_MESSAGES 1000
#define INFLIGHT_MESSAGES 20
#define DEFAULT_PORT 1883

struct reading {
	struct settings *settings;
	unsigned int file;
	size_t listener;      /* that the next line of this file belongs to, */
	size_t main_listener; /* and of the main file */
};

/* ---- reading ---- */

static size_t add_listener(struct settings *settings, unsigned int port, const char *host)
{
	struct settings_listener *more =
			realloc(settings->listeners, (settings->listener_count + 1) * sizeof(*settings->listeners));

	if (!more) {
		settings->no_memory = true;
		return settings->listener_count ? settings->listener_count - 1 : 0;
	}
	settings->listeners = more;
	more[settings->listener_count] = (struct settings_listener){.port = port, .max_connections = -1};
	if (host && *host) {
		more[settings->listener_count].host = text_copy(host, strlen(host));
		settings->no_memory |= !more[settings->listener_count].host;
	}
	return settings->listener_count++;
}

static void begin_listener(struct reading *reading, const char *value)
{
	char *host = NULL;
	unsigned long port = strtoul(value, &host, 10);
	size_t length;
	char *name;

	host += strspn(host, " \t");
	length = *host == '#' ? 0 : strcspn(host, " ");
	if (port == 0) {
		length = strlen(host); /* the path of a unix socket; 2.1 takes one with spaces */
	}
	name = text_copy(host, length);
	reading->listener = add_listener(reading->settings, (unsigned int)port, name ? name : "");
	reading->settings->no_memory |= !name;
	free(name);
}

static bool is_true(const char *value)
{
	return strncasecmp(value, "true", 4) == 0 || *value == '1';
}

static void take_string(struct settings *settings, char **at, const char *value)
{
	free(*at);
	*at = text_copy(value, strlen(value));
	settings->no_memory |= !*at;
}

static void take_plugin(struct settings *settings, const char *path)
{
	const char *slash = strrchr(path, '/');

	settings->plugin_count++;
	settings->dynamic_security_count +=
			strcmp(slash ? slash + 1 : path, "mosquitto_dynamic_security.so") == 0;
}

/* Of the listener that is being read. */
static void take_of_listener(struct settings *settings, struct settings_listener *listener, const char *word,
		const char *value)
{
	if (strcmp(word, "use_username_as_clientid") == 0) {
		listener->use_username_as_clientid = is_true(value);
	} else if (strcmp(word, "use_identity_as_username") == 0) {
		listener->use_identity_as_username = is_true(value);
	} else if (strcmp(word, "use_subject_as_username") == 0) {
		listener->use_subject_as_username = is_true(value);
	} else if (strcmp(word, "require_certificate") == 0) {
		listener->require_certificate = is_true(value);
	} else if (strcmp(word, "max_connections") == 0) {
		listener->max_connections = strtol(value, NULL, 10);
	} else if (strcmp(word, "mount_point") == 0) {
		take_string(settings, &listener->mount_point, value);
	}
}

static void take_line(void *userdata, unsigned int file, const char *word, const char *value)
{
	struct reading *reading = userdata;
	struct settings *settings = reading->settings;
	const struct {
		const char *word;
		long *number;
	} numbers[] = {
		{"max_queued_messages", &settings->max_queued_messages},
		{"max_queued_bytes", &settings->max_queued_bytes},
		{"max_inflight_messages", &settings->max_inflight_messages},
		{"max_inflight_bytes", &settings->max_inflight_bytes},
	};
	size_t i;

	if (settings->no_memory) {
		return;
	}
	if (file != reading->file) {
		reading->main_listener = reading->file == 0 ? reading->listener : reading->main_listener;
		reading->listener = file == 0 ? reading->main_listener : 0;
		reading->file = file;
	}
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strcmp(word, numbers[i].word) == 0) {
			*numbers[i].number = strtol(value, NULL, 10);
		}
	}
	if (strcmp(word, "listener") == 0) {
		begin_listener(reading, value);
	} else if (strcmp(word, "port") == 0) {
		settings->listeners[0].port = (unsigned int)strtoul(value, NULL, 10);
	} else if (strcmp(word, "plugin") == 0 || strcmp(word, "auth_plugin") == 0) {
		take_plugin(settings, value);
	} else if (strcmp(word, "per_listener_settings") == 0) {
		settings->is_per_listener = is_true(value);
	} else if (strcmp(word, "clientid_prefixes") == 0) {
		take_string(settings, &settings->clientid_prefix, value);
	} else {
		take_of_listener(settings, &settings->listeners[reading->listener], word, value);
	}
}

void settings_read(const struct mosquitto_conf_place *place, struct settings *ret_settings)
{
	struct reading reading = {.settings = ret_settings};

	*ret_settings = (struct settings){
		.max_queued_messages = QUEUED_MESSAGES, .max_inflight_messages = INFLIGHT_MESSAGES};
	(void)add_listener(ret_settings, DEFAULT_PORT, NULL);
	ret_settings->is_known = !ret_settings->no_memory &&
			mosquitto_conf_each_line(place, take_line, &reading) && !ret_settings->no_memory;
}

void settings_free(struct settings *settings)
{
	size_t i;

	for (i = 0; i < settings->listener_count; i++) {
		free(settings->listeners[i].host);
		free(settings->listeners[i].mount_point);
	}
	free(settings->listeners);
	free(settings->clientid_prefix);
	*settings = (struct settings){0};
}

enum settings_company settings_company(const struct settings *settings)
{
	if (!settings->is_known || settings->is_per_listener ||
			settings->plugin_count - settings->dynamic_security_count > 1) {
		return SETTINGS_NOT_KNOWN;
	}
	return settings->dynamic_security_count ? SETTINGS_DYNAMIC_SECURITY : SETTINGS_ALONE;
}

/* ---- limits ---- */

/* What a home with some hundred devices has retained, with room for a machine that is busy. */
#define ENOUGH_MESSAGES 10000
#define ENOUGH_BYTES (16L * 1024 * 1024)

/* max_inflight_messages does not count for the session: it says with CONNECT how much it takes at once. */
void settings_judge_limits(const struct settings *settings, struct text *ret_text)
{
	long messages = settings->max_queued_messages, bytes = settings->max_queued_bytes;
	/* Mosquitto's queue begins where these bytes are under way; without a limit for it, it has no place at
	 * all. */
	bool no_bytes = settings->max_inflight_bytes > 0 && bytes == 0 && messages == 0;

	if (!settings->is_known) {
		return;
	}
	if (messages > 0 && messages < ENOUGH_MESSAGES) {
		text_addf(ret_text, "max_queued_messages is %ld%s", messages,
				messages == QUEUED_MESSAGES ? ", Mosquitto's default" : "");
	} else if (bytes > 0 && bytes < ENOUGH_BYTES) {
		text_addf(ret_text, "max_queued_bytes is %ld", bytes);
	} else if (no_bytes ||
			(settings->max_inflight_bytes > 0 && settings->max_inflight_bytes < ENOUGH_BYTES && bytes > 0)) {
		text_addf(ret_text, "max_inflight_bytes is %ld", settings->max_inflight_bytes);
	} else {
		return;
	}
	text_addf(ret_text,
			": of what is retained for a consumer's filter, or waits while the application is down, the broker may drop "
			"what is more. max_queued_messages 100000 in mosquitto.conf, without the limits in bytes, is enough for most.");
}

/* ---- the session's listener ---- */

static bool is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* How well a listener fits; 0: not at all. */
static int fits(const struct settings_listener *listener, const struct options *options)
{
	if (listener->port != options->port) {
		return 0;
	}
	if (!listener->host) {
		return options->port ? 1 : 0;
	}
	if (strcasecmp(listener->host, options->host) == 0) {
		return 3;
	}
	return options->port && is_loopback(listener->host) && is_loopback(options->host) ? 2 : 0;
}

const struct settings_listener *settings_listener(const struct settings *settings,
		const struct options *options)
{
	const struct settings_listener *best = NULL;
	int quality, best_quality = 0;
	size_t i;

	/* The default one last: it is there only where it has something of its own. */
	for (i = settings->listener_count; settings->is_known && i > 0; i--) {
		quality = fits(&settings->listeners[i - 1], options);
		if (quality > best_quality) {
			best = &settings->listeners[i - 1];
			best_quality = quality;
		}
	}
	return best;
}

/* ---- what follows for the session ---- */

/* The first common name, or the whole subject, as Mosquitto makes a user name of it. NULL: the certificate
 * has none, or cannot be read. */
static char *name_in_certificate(const char *path, bool whole)
{
	FILE *file = fopen(path, "re");
	X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
	BIO *text = whole && certificate ? BIO_new(BIO_s_mem()) : NULL;
	char *name = NULL, *data = NULL;
	long length;
	int at;

	if (text) {
		(void)X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
		length = BIO_get_mem_data(text, &data);
		name = length > 0 ? text_copy(data, (size_t)length) : NULL;
	} else if (certificate && !whole) {
		at = X509_NAME_get_index_by_NID(X509_get_subject_name(certificate), NID_commonName, -1);
		if (at >= 0) {
			const ASN1_STRING *value =
					X509_NAME_ENTRY_get_data(X509_NAME_get_entry(X509_get_subject_name(certificate), at));

			name = text_copy((const char *)ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
		}
	}
	BIO_free(text);
	X509_free(certificate);
	if (file) {
		(void)fclose(file);
	}
	ERR_clear_error();
	return name;
}

/* The user name that the broker gives the session; NULL: none. */
static char *user_name(const struct settings_listener *listener, const struct options *options)
{
	if ((listener->use_identity_as_username || listener->use_subject_as_username) && options->cert) {
		return name_in_certificate(options->cert, !listener->use_identity_as_username);
	}
	return options->username ? text_copy(options->username, strlen(options->username)) : NULL;
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void prefix_client_id(const struct settings *settings, struct options *options)
{
	struct text id = {0};

	text_addf(&id, "%s%s", settings->clientid_prefix, options->client_id);
	free(options->client_id);
	options->client_id = text_take(&id);
}

static void advise(const struct settings *settings, const struct settings_listener *listener,
		const struct options *options, struct text *advice)
{
	if (settings->clientid_prefix && !has_prefix(options->client_id, settings->clientid_prefix)) {
		text_addf(advice,
				" The broker's file has clientid_prefixes %.100s, and so it lets nobody in as '%.100s': choose "
				"plugin_opt_client_id accordingly.",
				settings->clientid_prefix, options->client_id);
	}
	if (!listener) {
		return;
	}
	if (listener->use_username_as_clientid && !options->session_id) {
		text_addf(advice,
				" The listener has use_username_as_clientid true, and so it lets in nobody without a user name: set "
				"plugin_opt_username%s.",
				listener->use_identity_as_username || listener->use_subject_as_username
						? ", or plugin_opt_cert to a certificate that has one"
						: "");
	}
	if (listener->require_certificate && !options->cert) {
		text_addf(advice,
				" The listener has require_certificate true: set plugin_opt_cert and plugin_opt_key.");
	}
	if (listener->max_connections > 0) {
		text_addf(advice, " The listener has max_connections %ld, of which the session takes one.",
				listener->max_connections);
	}
}

int settings_apply(const struct settings *settings, struct options *options)
{
	const struct settings_listener *listener = settings_listener(settings, options);
	struct text advice = {0};

	if (settings->clientid_prefix && options->client_id_is_made &&
			!has_prefix(options->client_id, settings->clientid_prefix)) {
		prefix_client_id(settings, options);
	}
	if (!options->client_id || settings->no_memory) {
		return MOSQ_ERR_NOMEM;
	}
	if (listener && listener->use_username_as_clientid) {
		options->session_id = user_name(listener, options);
	}
	advise(settings, listener, options, &advice);
	options->advice = advice.length ? text_take(&advice) : NULL;
	if (advice.failed) {
		text_free(&advice);
		return MOSQ_ERR_NOMEM;
	}
	return MOSQ_ERR_SUCCESS;
}
