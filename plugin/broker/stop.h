/* Lets consumers disconnect while the broker still serves.
 *
 * At SIGTERM and SIGINT Mosquitto leaves its loop, and from then on sends nobody anything. So this module takes the two
 * signals from it: what comes first is kept until stop_pass_on() gives it back, and what comes after that is given back
 * at once, with the first. Between the two the broker's loop runs on, and consumers' last words reach everybody.
 *
 * Signals are the process's, so there is one of this, without a struct. Broker thread only. */
#ifndef MQTTASGI_STOP_H
#define MQTTASGI_STOP_H

#include <stdbool.h>

/* Takes the signals, if they are not taken. Not before the first TICK: Mosquitto sets its own handlers after it has
 * loaded its plugins. One that it ignores, or that is blocked, stays so. */
void stop_take_signals(void);

/* Whether a signal is kept. */
bool stop_is_asked_for(void);

/* Gives the signals back to the broker, with the one that is kept: it ends. Does nothing where they were not taken. */
void stop_pass_on(void);

#endif
