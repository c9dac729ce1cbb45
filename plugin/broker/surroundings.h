/* What the broker's own configuration, and who else is in it, mean for consumers: said once, at start. Broker
 * thread only. */
#ifndef MQTTASGI_SURROUNDINGS_H
#define MQTTASGI_SURROUNDINGS_H

#include <stdbool.h>

struct versions_traits;

/* Whether the broker has loaded another plugin before this one; the broker does not tell. */
bool surroundings_has_predecessor(void);

/* Whether the broker may ask this plugin about access, to let it refuse copies for the session, and nobody
 * else notices (see access.h); where somebody might, the log says why not. At start. *ret_alone: on
 * Mosquitto 2.0, nobody else decides but an acl_file. */
bool surroundings_let_refuse(const struct versions_traits *traits, bool has_predecessor, bool *ret_alone);

struct surroundings {
	const char *version; /* Mosquitto's; empty: not known */
	const struct versions_traits *traits;
	bool connect_events;  /* the option */
	bool has_predecessor; /* another plugin was loaded before this one */
};

/* Logs a line for each setting of Mosquitto's that consumers do not meet as clients do. MOSQ_ERR_SUCCESS, or
 * MOSQ_ERR_NOT_SUPPORTED where the plugin cannot work with one, and MOSQ_ERR_NOMEM. */
int surroundings_look(const struct surroundings *surroundings) __attribute__((warn_unused_result));

#endif
