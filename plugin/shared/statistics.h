/* What is counted and measured: the numbers below `$SYS/broker/mqttasgi/`.
 *
 * Each is one atomic number, so any thread may read and write any of them at any time; nothing here waits or
 * fails. A new one is a row here, one in docs/statistics.md and one in python/mqttasgi/metrics.py. */
#ifndef MQTTASGI_STATISTICS_H
#define MQTTASGI_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False in a build that shows what they cost (WITHOUT in CMakeLists.txt). */
#ifdef WITHOUT_STATISTICS
#define STATISTICS_ARE_KEPT false
#else
#define STATISTICS_ARE_KEPT true
#endif

struct statistics;

/* One row for each, in the order in which they are published: its name here, its topic below the prefix, how
 * its value is written (STATISTICS_IS_*), and what it counts. */
/* clang-format off */
#define STATISTICS(STATISTIC) \
	STATISTIC(RECEIVED, "messages/received", NUMBER) \
			/* messages for consumers that came into their queue, by either lane, each once */ \
	STATISTIC(SENT, "messages/sent", NUMBER) /* messages that consumers published and the broker took */ \
	STATISTIC(DROPPED_QUEUE, "messages/dropped/queue", NUMBER) \
			/* of those for consumers: queue_size or queue_bytes was reached */ \
	STATISTIC(DROPPED_CONSUMER_QUEUE, "messages/dropped/consumer_queue", NUMBER) \
			/* the same for one consumer's consumer_queue_size or consumer_queue_bytes */ \
	STATISTIC(DROPPED_MEMORY, "messages/dropped/memory", NUMBER) \
	STATISTIC(DROPPED_CONSUMER_ENDED, "messages/dropped/consumer_ended", NUMBER) \
			/* waited for a consumer that ended or was given up */ \
	STATISTIC(UNMARKED, "messages/unmarked", NUMBER) \
			/* of those for consumers: they may come twice, see marks.h */ \
	STATISTIC(UNNAMED, "messages/unnamed", NUMBER) \
			/* of those for consumers: they may come without their sender, see publishers.h */ \
	STATISTIC(REFUSED, "messages/refused", NUMBER) /* messages of consumers that the broker did not take */ \
	STATISTIC(LOG_DROPPED, "log/dropped", NUMBER) /* lines for the broker's log */ \
	STATISTIC(DURABLE_MESSAGES, "durable/messages", NUMBER) \
			/* stored now: some consumer has not handled them */ \
	STATISTIC(DURABLE_BYTES, "durable/bytes", NUMBER) /* as they count towards durable_size */ \
	STATISTIC(DURABLE_OLDEST, "durable/oldest", NUMBER) /* seconds since the oldest of them was published */ \
	STATISTIC(DURABLE_REFUSED, "durable/refused", NUMBER) \
			/* messages of clients that were not stored, and so not acknowledged */ \
	STATISTIC(DURABLE_UNSTORED, "durable/unstored", NUMBER) \
			/* other messages that were not stored, and came all the same */ \
	STATISTIC(DURABLE_REDELIVERED, "durable/redelivered", NUMBER) \
			/* messages that came to a consumer for which they had been stored before its start */ \
	STATISTIC(DURABLE_DEAD, "durable/dead", NUMBER) /* dead letters now */ \
	STATISTIC(DURABLE_DEAD_DROPPED, "durable/dead/dropped", NUMBER) /* dead letters that made room for others */ \
	STATISTIC(HTTP_CONNECTIONS, "http/connections", NUMBER) /* open now, for HTTP and WebSockets */ \
	STATISTIC(HTTP_REQUESTS, "http/requests", NUMBER) /* requests and WebSockets that came to the application */ \
	STATISTIC(HTTP_REFUSED, "http/refused", NUMBER) \
			/* connections and requests that were turned away or broken off at a limit */ \
	STATISTIC(INBOUND_MESSAGES, "queue/inbound/messages", NUMBER) /* wait for consumers now */ \
	STATISTIC(INBOUND_BYTES, "queue/inbound/bytes", NUMBER) \
	STATISTIC(OUTBOUND_MESSAGES, "queue/outbound/messages", NUMBER) /* wait for the broker now */ \
	STATISTIC(OUTBOUND_BYTES, "queue/outbound/bytes", NUMBER) \
	STATISTIC(RUNNING, "consumers/running", NUMBER) /* consumers now */ \
	STATISTIC(RESTARTING, "consumers/restarting", NUMBER) \
			/* consumers that have failed and wait for their next start, now */ \
	STATISTIC(FAILED, "consumers/failed", NUMBER) /* consumers given up, ever */ \
	STATISTIC(RESTARTED, "consumers/restarted", NUMBER) /* restarts, ever */ \
	STATISTIC(HANDLING_P50, "handling/p50", NUMBER) \
			/* microseconds from receive() to receive(), in the last interval with messages */ \
	STATISTIC(HANDLING_P99, "handling/p99", NUMBER) \
	STATISTIC(LONGEST_BLOCK, "loop/longest_block", NUMBER) \
			/* milliseconds for which the event loop did not react */ \
	STATISTIC(SESSION, "session/state", STATE) /* an enum statistics_session */ \
	STATISTIC(SESSION_LEFT_OUT, "session/left_out", NUMBER) \
			/* how often the broker dropped what it had for the session, as far as it shows */ \
	STATISTIC(SESSION_PASSED_OVER, "session/passed_over", NUMBER) /* messages that it could not read */ \
	STATISTIC(SESSION_REFUSED, "session/refused", NUMBER) \
			/* its subscriptions that did not come about, tries */ \
	STATISTIC(WAKE_UPS, "wake_ups", NUMBER) /* signals to the broker thread */ \
	STATISTIC(MEMORY, "memory", NUMBER) /* bytes of the broker's process that are in memory; 0: not known */ \
	STATISTIC(TIME, "time", NUMBER) /* when they were published: seconds since 1970 */ \
	STATISTIC(UPTIME, "uptime", NUMBER) \
			/* seconds since the plugin's start; the last, so it ends what an interval brings */
/* clang-format on */

#define STATISTICS_CONSTANT(constant, topic, kind) STATISTICS_##constant,

/* clang-format off */
enum statistic {
	STATISTICS(STATISTICS_CONSTANT)
	STATISTICS_COUNT
};
/* clang-format on */

enum statistics_kind {
	STATISTICS_IS_NUMBER,
	STATISTICS_IS_STATE /* of the session, an enum statistics_session */
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
