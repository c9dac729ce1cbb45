/* Lines for the broker's log. Broker thread only: other threads send a MESSAGE_LOG. */
#ifndef MQTTASGI_LOG_H
#define MQTTASGI_LOG_H

#include <stddef.h>

/* Writes to the broker's log, with our name before each line; a text that is too long for one line of it takes several.
 * level is a MOSQ_LOG_*. */
void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a text that is no format; length in bytes. */
void log_text(int level, const char *text, size_t length);

#endif
