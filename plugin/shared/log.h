/* Lines for the broker's log. Broker thread only: other threads send a MESSAGE_LOG. */
#ifndef MQTTASGI_LOG_H
#define MQTTASGI_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Writes to the broker's log, with our name before each line; a text that is too long for one line of it
 * takes several. level is a MOSQ_LOG_*. */
void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a text that is no format; length in bytes. */
void log_text(int level, const char *text, size_t length);

/* A complaint that may come a thousand times a second and is written once. All zero at first. */
struct log_complaint {
	uint64_t since_last_line;
	time_t last_line;
};

/* It happened so many times. Whether to write a line now, at most one a second, and how often it has happened
 * since the last. */
bool log_may_complain(struct log_complaint *complaint, uint64_t times, uint64_t *ret_times);

#endif
