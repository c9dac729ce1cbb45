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

#include "shared/topics.h"

struct client;

enum message_kind {
	/* both ways */
	MESSAGE_PUBLISH,     /* topic, payload, properties, qos, retain; outbound: consumer, who publishes; inbound:
	                        recipients, client, is_kept, by_session */

	/* to the loop thread */
	MESSAGE_CONNECT,     /* recipients; client has connected */
	MESSAGE_DISCONNECT,  /* recipients; client is gone, code: the reason (MQTT 5, 3.14.2.1) or -1, fate */
	MESSAGE_ANSWER,      /* sequence, code: what became of a SUBSCRIBE or UNSUBSCRIBE */
	MESSAGE_WRITABLE,    /* the outbound queue was full and has room again */
	MESSAGE_HOLD,        /* consumer (0: all), code: keep back what comes the direct lane; see session.h */
	MESSAGE_RELEASE,     /* consumer (0: all), code: go on */
	MESSAGE_VERBOSITY,   /* code: the option of that name has changed */
	MESSAGE_STOP,        /* end every consumer, then the loop; to the session's thread: end */

	/* from the loop thread to the broker thread, and from there to the session's */
	MESSAGE_SUBSCRIBE,   /* consumer, topic (the filter), options, subscription, sequence; to the session's thread, code: whether
	                        MESSAGE_HOLD was said */
	MESSAGE_UNSUBSCRIBE, /* consumer, topic (the filter), sequence */
	MESSAGE_WATCH,       /* consumer, sequence: it wants MESSAGE_CONNECT and MESSAGE_DISCONNECT */
	MESSAGE_UNWATCH,     /* consumer: no more */
	MESSAGE_SETTLED,     /* the consumers of the start have subscribed; topic: what there is, for the log */
	MESSAGE_SUSPEND,     /* the broker is to keep what it can: code 0, the application has failed; 1, it ends */
	MESSAGE_AUTHOR,      /* client, sequence (a fingerprint, see marks.h): who published what the session will bring */

	/* to the broker thread */
	MESSAGE_LOG,         /* code (MOSQ_LOG_*), topic (the line) */
	MESSAGE_STARTED,     /* the master consumer's connect() returned */
	MESSAGE_STOPPED,     /* Python has ended, or never began; nothing follows */
	MESSAGE_SESSION,     /* code: whether the session is up. To the session's thread: a connection with its client id is gone;
	                        is it up? code: if it was the session's, another one took its place */
	MESSAGE_FENCE,       /* sequence: send it through the session, and mark its place */
};

/* What becomes of a session (MQTT 5, 4.1) whose client is gone. */
enum message_fate { MESSAGE_FATE_UNKNOWN, MESSAGE_FATE_ENDS, MESSAGE_FATE_KEPT };

struct message {
	struct message *next;         /* the queue's */
	enum message_kind kind;
	int code;
	uint64_t consumer;
	uint64_t sequence;            /* 0: nobody waits for an answer */
	uint64_t fence;               /* session.c's, of an UNSUBSCRIBE: it is carried out behind this one */
	size_t topic_length;          /* bytes, without the terminating NUL */
	size_t payload_length;        /* bytes */
	size_t recipient_count;
	const struct recipient *recipients;
	const char *topic;            /* NUL-terminated UTF-8 */
	const void *payload;          /* NULL when empty */
	const void *properties;       /* see properties.h; NULL when there are none */
	size_t properties_length;     /* bytes */
	struct client *client;        /* NULL: not known; it holds a reference */
	uint8_t qos;
	uint8_t options;              /* Subscription Options (MQTT 5, 3.8.3.1) */
	uint32_t subscription;        /* its identifier (MQTT 5, 3.8.2.1.2); 0: none */
	enum message_fate fate;
	bool retain;                  /* as it was published */
	bool is_kept;                 /* the broker had kept it from before the subscription */
	bool by_session;              /* it came through the session */
	bool is_counted;              /* the queue's: towards its bounds; */
	bool is_control;              /* beyond them */
};

/* What a PUBLISH carries. */
struct message_content {
	const char *topic;
	size_t topic_length;
	const void *payload;
	size_t payload_length;
	const void *properties;
	size_t properties_length;
};

/* A MESSAGE_PUBLISH. Everything is copied. NULL when memory ran out. */
struct message *message_publish(const struct message_content *content, const struct recipient *recipients,
		size_t recipient_count) __attribute__((warn_unused_result));

/* Everything is copied. NULL when memory ran out. */
struct message *message_new(enum message_kind kind, const char *topic, size_t topic_length, const void *payload,
		size_t payload_length, const struct recipient *recipients, size_t recipient_count)
	__attribute__((warn_unused_result));

/* One without topic and payload. NULL when memory ran out. */
struct message *message_control(enum message_kind kind, uint64_t consumer, uint64_t sequence, int code)
	__attribute__((warn_unused_result));

/* Takes the recipient that published it out, as far as its subscriptions have No Local (MQTT 5, 3.8.3.1). */
void message_leave_out(struct message *message, uint64_t publisher);

/* Takes NULL. */
void message_free(struct message *message);

/* Bytes that count towards a queue's bound, those of its client too: that is set before it goes into a queue, and stays. */
size_t message_size(const struct message *message);

#endif
