/* The listener that the session is to use, by Mosquitto's own settings: said at start, where it is not what
 * was expected. Broker thread only. */
#ifndef MQTTASGI_LISTENER_H
#define MQTTASGI_LISTENER_H

#include <stdbool.h>

struct options;

/* Puts into options what Mosquitto's settings say of the session, and sets whether there can be one; what is
 * in the way is in the log. MOSQ_ERR_SUCCESS or MOSQ_ERR_NOMEM. */
int listener_use_settings(struct options *options, bool *ret_can_be) __attribute__((warn_unused_result));

#endif
