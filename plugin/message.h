/* What travels between the threads.
 *
 * A message is one heap block: the struct, then its recipients, its topic and its payload. It has one owner at a
 * time: who made it, then the queue it was pushed to, then who took it from there. No function here looks at
 * another thread's data, so any thread may call them for a message it owns. */
#ifndef MQTTASGI_MESSAGE_H
#define MQTTASGI_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "topics.h"

enum message_kind {
	/* both ways */
	MESSAGE_PUBLISH,     /* topic, payload, qos, retain; inbound: recipients, by_session */

	/* to the loop thread */
	MESSAGE_ANSWER,      /* sequence, code: what became of a SUBSCRIBE or UNSUBSCRIBE */
	MESSAGE_WRITABLE,    /* the outbound queue was full and has room again */
	MESSAGE_HOLD,        /* consumer (0: all), code: keep back what comes the direct lane; see session.h */
	MESSAGE_RELEASE,     /* consumer (0: all), code: go on */
	MESSAGE_STOP,        /* end every consumer, then the loop; to the session's thread: end */

	/* from the loop thread to the broker thread, and from there to the session's */
	MESSAGE_SUBSCRIBE,   /* consumer, topic (the filter), qos, sequence */
	MESSAGE_UNSUBSCRIBE, /* consumer, topic (the filter), sequence */
	MESSAGE_SETTLED,     /* the consumers of the start have subscribed */
	MESSAGE_SUSPEND,     /* the application has failed: the broker is to keep what it can for it */

	/* to the broker thread */
	MESSAGE_LOG,         /* code (MOSQ_LOG_*), topic (the line) */
	MESSAGE_STARTED,     /* the master consumer's connect() returned */
	MESSAGE_STOPPED,     /* Python has ended, or never began; nothing follows */
	MESSAGE_SESSION,     /* code: whether the session is up */
	MESSAGE_FENCE,       /* sequence: send it through the session, and mark its place */
};

struct message {
	struct message *next;         /* the queue's */
	enum message_kind kind;
	int code;
	uint64_t consumer;
	uint64_t sequence;            /* 0: nobody waits for an answer */
	size_t topic_length;          /* bytes, without the terminating NUL */
	size_t payload_length;        /* bytes */
	size_t recipient_count;
	const struct recipient *recipients;
	const char *topic;            /* NUL-terminated UTF-8 */
	const void *payload;          /* NULL when empty */
	uint8_t qos;
	bool retain;
	bool by_session; /* it came through the session */
};

/* Everything is copied. NULL when memory ran out. */
struct message *message_new(enum message_kind kind, const char *topic, size_t topic_length, const void *payload,
		size_t payload_length, const struct recipient *recipients, size_t recipient_count)
	__attribute__((warn_unused_result));

/* One without topic and payload. NULL when memory ran out. */
struct message *message_control(enum message_kind kind, uint64_t consumer, uint64_t sequence, int code)
	__attribute__((warn_unused_result));

/* Takes NULL. */
void message_free(struct message *message);

/* Bytes that count towards a queue's bound. */
size_t message_size(const struct message *message);

#endif
