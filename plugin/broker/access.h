/* How everybody else stays as free as without this plugin, where the broker asks it about access, to keep
 * copies from its session (broker_on_access()).
 *
 * Mosquitto 2.1 takes `as if I were not here` for an answer. On 2.0 (mosquitto_acl_check(), security.c)
 * plugins are asked one after the other until one does not defer; where all do, access is denied, and where
 * none asks to be asked, it is granted. An acl_file is one of them, behind the plugins', and never defers;
 * the broker takes it out and puts it back at the end of the row whenever it reads its rules again. So this
 * plugin is asked twice: first, when it refuses copies and else defers; and last, when it grants what has
 * come so far. Behind an acl_file nothing does. With the dynamic security plugin, which asks to be asked as
 * well, there is no last: what that and all others leave undecided is denied, as it is without this plugin.
 * Broker thread only. */
#ifndef MQTTASGI_ACCESS_H
#define MQTTASGI_ACCESS_H

#include <stdbool.h>

#include "shared/mosquitto_api.h"

struct versions_traits;

struct access {
	mosquitto_plugin_id_t *identifier;
	bool grants;  /* what nobody decides: nobody else is there, but perhaps an acl_file */
	bool is_last; /* it is being asked last */
};

/* The answer to the first question, for all that is not to be refused. When that comes, all others have taken
 * their place in the row; so this takes the last one, unless it has. */
int access_undecided(struct access *access, const struct versions_traits *traits);

/* The broker reads its rules again: gives up the last place in the row. */
void access_rules_change(struct access *access);

#endif
