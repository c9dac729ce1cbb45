/* Which topics the broker keeps a retained message for, where it mirrors another broker.
 *
 * Mosquitto's bridge sends all that is retained here to the other broker, each time it tries to connect and
 * each time it has connected: values of before the loss of the link would take the place of newer ones there,
 * and commands would be given again. So all that was retained is forgotten when the link is lost; the other
 * broker sends it again, as it is by then. Broker thread only. */
#ifndef MQTTASGI_MIRROR_H
#define MQTTASGI_MIRROR_H

#include <stdbool.h>

struct mirror;

/* bridge: the client id that the bridge to the other broker has here; borrowed. NULL: no memory. */
struct mirror *mirror_new(const char *bridge) __attribute__((warn_unused_result));

/* This and the others take NULL, and then do nothing. */
void mirror_free(struct mirror *mirror);

/* A message is published. With retain, the broker keeps it from now on, or, after an empty one, none. Noted
 * are topics of MIRROR_BYTES_MAX together; that there are more is logged, and these are not forgotten.
 * Retained messages that expire stay noted until the bridge is gone: the broker does not tell. */
#define MIRROR_BYTES_MAX 67108864U
void mirror_note(struct mirror *mirror, const char *topic, bool retain, bool is_empty);

/* A client is gone. If that is the bridge, the broker is let forget everything that was noted. Calls
 * forgotten() with the topic of each empty message that was published for that, in no order; it must not note
 * anything. */
void mirror_client_gone(struct mirror *mirror, const char *client_id,
		void (*forgotten)(void *userdata, const char *topic), void *userdata);

#endif
