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

/* NULL: no memory. */
struct mirror *mirror_new(void) __attribute__((warn_unused_result));

/* Takes NULL. */
void mirror_free(struct mirror *mirror);

/* The broker keeps a message with this topic from now on, or, after an empty one, none. */
void mirror_note(struct mirror *mirror, const char *topic, bool is_empty);

/* Calls forget() with each topic, in no order, and takes it out. forget() must not note anything. */
void mirror_forget(
		struct mirror *mirror, void (*forget)(void *userdata, const char *topic), void *userdata);

#endif
