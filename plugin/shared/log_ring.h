/* The last lines that this plugin and the application have written to the broker's log, for whoever looks at
 * them inside the process.
 *
 * The broker thread adds each line as it goes to the broker (log.c). A thousand lines, or as many as have
 * room, are kept; the oldest make room for the next. One lock, held for the time that it takes to copy one
 * line. Any thread. */
#ifndef MQTTASGI_LOG_RING_H
#define MQTTASGI_LOG_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a line. mosquitto_log_printf() cuts one at 1,000 bytes, our name included. */
#define LOG_LINE_MAX 960

#define LOG_RING_LINES 1000U
#define LOG_RING_BYTES 262144U

struct log_ring_line {
	uint64_t number; /* of the process's first line 1; rises by one */
	uint64_t ms;     /* since the epoch */
	int level;       /* MOSQ_LOG_* */
	size_t length;
	char text[LOG_LINE_MAX]; /* no NUL behind it */
};

/* Of a text that is longer than LOG_LINE_MAX the rest is left out. */
void log_ring_add(int level, const char *text, size_t length);

/* The number of the last line; 0: there is none. */
uint64_t log_ring_last(void);

/* The first line behind the one with this number that is still there. False: there is none. */
bool log_ring_next(uint64_t after, struct log_ring_line *ret_line);

#endif
