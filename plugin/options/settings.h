/* What the broker's own settings mean for the session: which client id it gets at its listener, what stands
 * in the way there, and how much the broker holds ready for it.
 *
 * Mosquitto tells plugins nothing of this, so it is read from its configuration file (mosquitto_conf.h), once
 * at the start. Broker thread. */
#ifndef MQTTASGI_SETTINGS_H
#define MQTTASGI_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct mosquitto_conf_place;
struct options;
struct text;

/* What a listener's lines say; strings are NULL where they say nothing. */
struct settings_listener {
	unsigned int port; /* 0: a unix socket */
	char *host;        /* or the socket's path */
	char *mount_point;
	long max_connections; /* -1: as many as come */
	bool use_username_as_clientid, use_identity_as_username, use_subject_as_username, require_certificate;
};

struct settings {
	bool is_known; /* else the file could not be read, and this is Mosquitto's defaults */
	long max_queued_messages, max_queued_bytes, max_inflight_messages, max_inflight_bytes; /* 0: no limit */
	char *clientid_prefix;
	size_t plugin_count;           /* lines of plugins, with ours, */
	size_t dynamic_security_count; /* and of these for Mosquitto's own */
	bool is_per_listener; /* per_listener_settings: each listener has plugins and rules for access of its own
						   */
	struct settings_listener *listeners; /* the first: what stands before all listener lines */
	size_t listener_count;
	bool no_memory;
};

/* Never fails: what cannot be read is not known. The caller gives *ret_settings to settings_free(). */
void settings_read(const struct mosquitto_conf_place *place, struct settings *ret_settings);
void settings_free(struct settings *settings);

/* The listener that options name; NULL: not known, or not which of several. */
const struct settings_listener *settings_listener(const struct settings *settings,
		const struct options *options);

/* Who may have a say in access beside Mosquitto itself with its acl_file: nobody but this plugin, the dynamic
 * security plugin as well, or it is not known. */
enum settings_company { SETTINGS_NOT_KNOWN, SETTINGS_ALONE, SETTINGS_DYNAMIC_SECURITY };
enum settings_company settings_company(const struct settings *settings);

/* Adds a sentence about limits that are too low for what the session has to bring, where one is. */
void settings_judge_limits(const struct settings *settings, struct text *ret_text);

/* Gives the options what follows for the session: its client id where nobody chose one and a prefix is
 * wanted, the id that the broker knows it by, and what to try where it does not come about. MOSQ_ERR_SUCCESS
 * or MOSQ_ERR_NOMEM. */
int settings_apply(const struct settings *settings, struct options *options)
		__attribute__((warn_unused_result));

#endif
