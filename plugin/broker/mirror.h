/* Which topics the broker keeps a retained message for, where it mirrors another broker.
 *
 * Mosquitto's bridge sends all that is retained here to the other broker, each time it tries to connect and
 * each time it has connected: values of before the loss of the link would take the place of newer ones there,
 * and commands would be given again. So all that was retained is forgotten when the link is lost; the other
 * broker sends it again, as it is by then. Broker thread only. */
#ifndef MQTTASGI_MIRROR_H
#define MQTTASGI_MIRROR_H

#include <stdbool.h>

struct retained;

/* NULL: no memory. */
struct retained *retained_new(void) __attribute__((warn_unused_result));

/* Takes NULL. */
void retained_free(struct retained *retained);

/* The broker keeps a message with this topic from now on, or, after an empty one, none. */
void retained_note(struct retained *retained, const char *topic, bool is_empty);

/* Calls forget() with each topic, in no order, and takes it out. forget() must not note anything. */
void retained_forget(
		struct retained *retained, void (*forget)(void *userdata, const char *topic), void *userdata);

#endif
