/* What is counted and measured: the numbers below `$SYS/broker/mqttasgi/`.
 *
 * Each is one atomic number, so any thread may read and write any of them at any time; nothing here waits or
 * fails. A new one is a name in the enum, a row in statistics.c, and a row in docs/statistics.md. */
#ifndef MQTTASGI_STATISTICS_H
#define MQTTASGI_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

struct statistics;

/* In the order in which they are published. */
enum statistic {
	STATISTICS_RECEIVED, /* messages for consumers that came into their queue, by either lane, each once */
	STATISTICS_SENT,     /* messages that consumers published and the broker took */
	STATISTICS_DROPPED_QUEUE,          /* of those for consumers: queue_size or queue_bytes was reached */
	STATISTICS_DROPPED_CONSUMER_QUEUE, /* the same for one consumer's consumer_queue_size or
										  consumer_queue_bytes */
	STATISTICS_DROPPED_MEMORY,
	STATISTICS_DROPPED_CONSUMER_ENDED, /* waited for a consumer that ended or was given up */
	STATISTICS_UNMARKED,               /* of those for consumers: they may come twice, see marks.h */
	STATISTICS_UNNAMED,     /* of those for consumers: they may come without their sender, see publishers.h */
	STATISTICS_REFUSED,     /* messages of consumers that the broker did not take */
	STATISTICS_LOG_DROPPED, /* lines for the broker's log */
	STATISTICS_INBOUND_MESSAGES, /* wait for consumers now */
	STATISTICS_INBOUND_BYTES,
	STATISTICS_OUTBOUND_MESSAGES, /* wait for the broker now */
	STATISTICS_OUTBOUND_BYTES,
	STATISTICS_RUNNING,      /* consumers now */
	STATISTICS_RESTARTING,   /* consumers that have failed and wait for their next start, now */
	STATISTICS_FAILED,       /* consumers given up, ever */
	STATISTICS_RESTARTED,    /* restarts, ever */
	STATISTICS_HANDLING_P50, /* microseconds from receive() to receive(), in the last interval with
							  * messages */
	STATISTICS_HANDLING_P99,
	STATISTICS_LONGEST_BLOCK,    /* milliseconds for which the event loop did not react */
	STATISTICS_SESSION,          /* an enum statistics_session */
	STATISTICS_SESSION_LEFT_OUT, /* how often the broker dropped what it had for the session, as far as it
									shows */
	STATISTICS_SESSION_REFUSED,  /* its subscriptions that did not come about, tries */
	STATISTICS_WAKE_UPS,         /* signals to the broker thread */
	STATISTICS_MEMORY,           /* bytes of the broker's process that are in memory; 0: not known */
	STATISTICS_TIME,             /* when they were published: seconds since 1970 */
	STATISTICS_UPTIME, /* seconds since the plugin's start; the last, so it ends what an interval brings */
	STATISTICS_COUNT
};

enum statistics_session { STATISTICS_SESSION_OFF, STATISTICS_SESSION_DOWN, STATISTICS_SESSION_UP };

/* Room for what statistics_text() writes. */
#define STATISTICS_TEXT_MAX 24

/* NULL when memory ran out. */
struct statistics *statistics_new(void);

/* Takes NULL. */
void statistics_free(struct statistics *statistics);

void statistics_add(struct statistics *statistics, enum statistic which, uint64_t by);
void statistics_set(struct statistics *statistics, enum statistic which, uint64_t value);

/* Sets it, unless it is more already. */
void statistics_raise(struct statistics *statistics, enum statistic which, uint64_t value);

uint64_t statistics_get(const struct statistics *statistics, enum statistic which);

/* The topic's end, `messages/received`. */
const char *statistics_name(enum statistic which);

/* Writes a value as it is published; returns its length. */
size_t statistics_text(enum statistic which, uint64_t value, char text[STATISTICS_TEXT_MAX]);

/* The number with this name; STATISTICS_COUNT: there is none. */
enum statistic statistics_find(const char *name);

/* A consumer took so many nanoseconds to handle a message. */
void statistics_handled(struct statistics *statistics, uint64_t ns);

/* Makes STATISTICS_HANDLING_P50 and _P99 what was handled since the last call, where something was. */
void statistics_end_interval(struct statistics *statistics);

#endif
