/* What travels between the threads.
 *
 * A message is one heap block: the struct, then its recipients, its topic and its payload. It has one owner
 * at a time: who made it, then the queue it was pushed to, then who took it from there. No function here
 * looks at another thread's data, so any thread may call them for a message it owns. */
#ifndef MQTTASGI_MESSAGE_H
#define MQTTASGI_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/topics.h"

struct client;

/* In the handle of a guest: of code that subscribes and is no consumer. It is gone with the process, so
 * nothing is to be kept for it. */
#define MESSAGE_GUEST ((uint64_t)1 << 63)

/* What consumers receive, one row for each event: its kind, its type in Python, whether it may be lost where
 * there is no room, and what of the message it shows. */
/* clang-format off */
#define MESSAGE_EVENTS(EVENT) \
	EVENT(PUBLISH, "mqtt.msg", true, \
			MESSAGE_SHOWS_TOPIC | MESSAGE_SHOWS_PAYLOAD | MESSAGE_SHOWS_PUBLISH | MESSAGE_SHOWS_PROPERTIES | \
			MESSAGE_SHOWS_CLIENT) \
	EVENT(CONNECT, "mqtt.client.connect", false, MESSAGE_SHOWS_CLIENT) \
	EVENT(DISCONNECT, "mqtt.client.disconnect", false, MESSAGE_SHOWS_CLIENT | MESSAGE_SHOWS_DISCONNECT)
/* clang-format on */

/* Parts of an event, for which python/pymessage.c has an encoder each. */
enum message_shows {
	MESSAGE_SHOWS_TOPIC = 1,
	MESSAGE_SHOWS_PAYLOAD = 2,
	MESSAGE_SHOWS_PUBLISH = 4, /* as.publish */
	MESSAGE_SHOWS_PROPERTIES = 8,
	MESSAGE_SHOWS_CLIENT = 16,
	MESSAGE_SHOWS_DISCONNECT = 32, /* as.disconnect */
};

#define MESSAGE_KIND(kind, type, is_droppable, shows) MESSAGE_##kind,

/* For each kind, what it carries: which of the common fields, and which part of the union. A kind has one
 * meaning, whoever reads it. */
enum message_kind {
	/* Events for consumers: recipients; client, as far as it is known.
	 * MESSAGE_PUBLISH, both ways: topic, payload, properties, as.publish.
	 * MESSAGE_CONNECT: the client has connected. MESSAGE_DISCONNECT: it is gone; as.disconnect. */
	/* clang-format off */
	MESSAGE_EVENTS(MESSAGE_KIND)
	/* clang-format on */
	MESSAGE_EVENTS_END,

	/* to the loop thread: controls */
	MESSAGE_ANSWER = MESSAGE_EVENTS_END, /* as.answer: what became of a request */
	MESSAGE_WRITABLE,                    /* the outbound queue was full and has room again */
	MESSAGE_HOLD,          /* as.hold: every consumer keeps back what comes the direct lane; see session.h */
	MESSAGE_RELEASE,       /* as.hold: they go on, with what came until that hold */
	MESSAGE_HOLD_CONSUMER, /* as.hold_consumer: one keeps back what is not retained */
	MESSAGE_RELEASE_CONSUMER, /* as.hold_consumer: it goes on */
	MESSAGE_OPTIONS,          /* as.options: some of those that Python goes by have changed */
	MESSAGE_STOP,             /* end every consumer, then the loop */

	/* from the loop thread to the broker thread, and from there to the session's */
	MESSAGE_SUBSCRIBE,   /* topic (the filter), as.request */
	MESSAGE_UNSUBSCRIBE, /* topic (the filter), as.request */
	MESSAGE_SETTLED,     /* the consumers of the start have subscribed; topic: what there is, for the log */
	MESSAGE_SUSPEND,     /* as.suspend: the broker is to keep what it can */

	/* from the loop thread to the broker thread */
	MESSAGE_CONSUMER,      /* topic: its stable name, as.consumer: what is stored for it is to come */
	MESSAGE_CONSUMER_GONE, /* as.consumer: no more is */
	MESSAGE_DONE,          /* payload: struct message_handled, one for each that was handled */
	MESSAGE_FAILED,        /* as.failed: its handler has raised; topic: the traceback */
	MESSAGE_WATCH,         /* as.request: the consumer wants MESSAGE_CONNECT and MESSAGE_DISCONNECT */
	MESSAGE_UNWATCH,       /* as.request: no more */
	MESSAGE_KICK,          /* topic (a client's id), as.request: disconnect that client */
	MESSAGE_STARTED,       /* the master consumer's connect() returned */
	MESSAGE_STOPPED,       /* Python has ended, or never began; nothing follows */

	/* from the session's thread to the broker thread */
	MESSAGE_SESSION, /* as.session: whether it is up */
	MESSAGE_FENCE,   /* as.fence: send it through the session, and mark its place */
	MESSAGE_STORE,   /* as MESSAGE_PUBLISH: to be stored; it comes to its recipients, too */

	/* from both of them */
	MESSAGE_LOG, /* as.log; topic: the line */

	/* from the broker thread to the session's */
	MESSAGE_LISTENING,       /* the broker lets clients in: connect */
	MESSAGE_PUBLISHER,       /* client, as.publisher: who published what the session will bring */
	MESSAGE_CONNECTION_GONE, /* as.gone: a connection with the session's client id is; is the session up? */
	MESSAGE_END,             /* the session's thread is to end */
};

/* What becomes of a session (MQTT 5, 4.1) whose client is gone. */
enum message_fate { MESSAGE_FATE_UNKNOWN, MESSAGE_FATE_ENDS, MESSAGE_FATE_KEPT };

struct message_of_publish {
	uint64_t publisher; /* outbound: the consumer; 0: nobody */
	uint64_t stored;    /* inbound: its id in the durable inbox; 0: it is not there */
	uint32_t tries;     /* inbound: how often its one recipient has failed at it */
	uint8_t qos;
	bool retain;         /* as it was published */
	bool is_retained;    /* inbound: the broker had retained it before the subscription */
	bool by_session;     /* inbound: it came through the session */
	bool is_redelivered; /* inbound: it may have come before */
};

/* A stored message that a consumer has handled. */
struct message_handled {
	uint64_t consumer, stored;
};

struct message_of_failed {
	uint64_t consumer, stored;
	uint32_t tries;
	bool is_dead; /* it is not to be tried again */
};

struct message_of_disconnect {
	int reason; /* MQTT 5, 3.14.2.1; -1: not known */
	enum message_fate fate;
};

struct message_of_answer {
	uint64_t sequence;
	int rc; /* MOSQ_ERR_* */
};

struct message_of_hold_consumer {
	uint64_t consumer;
	bool again; /* of a hold: it had subscribed to the filter before */
};

/* The options that Python goes by and that can change: their values, changed or not. */
struct message_of_options {
	int verbosity;
	unsigned int log_lines;
};

/* What a consumer asks for. */
struct message_request {
	uint64_t consumer;
	uint64_t sequence;   /* the answer's; 0: nobody waits for one */
	uint64_t fence;      /* the session's, of an UNSUBSCRIBE: it is carried out behind this one */
	uint32_t identifier; /* of a SUBSCRIBE (MQTT 5, 3.8.2.1.2); 0: none */
	uint8_t options;     /* of a SUBSCRIBE: Subscription Options (MQTT 5, 3.8.3.1) */
	bool is_held;        /* to the session's thread, of a SUBSCRIBE: MESSAGE_HOLD_CONSUMER was said */
};

/* The part of a message that its kind has. */
union message_as {
	struct message_of_publish publish;
	struct message_of_disconnect disconnect;
	struct message_of_answer answer;
	struct {
		int number; /* they rise; a release ends those up to its own */
	} hold;
	struct message_of_hold_consumer hold_consumer;
	struct message_request request;
	struct message_of_options options;
	struct {
		uint64_t handle;
		bool keeps; /* of one that is gone: its subscriptions stay, for whoever has its name next */
	} consumer;
	struct message_of_failed failed;
	struct {
		bool application_ends; /* otherwise it has failed */
	} suspend;
	struct {
		bool is_up;
	} session;
	struct {
		uint64_t number;
	} fence;
	struct {
		int level; /* MOSQ_LOG_* */
	} log;
	struct {
		uint64_t fingerprint; /* see fingerprint.h */
		uint64_t stored;      /* the message's id in the durable inbox; 0: it is not there */
	} publisher;
	struct {
		bool was_taken; /* it was the session's, and another one took its place */
	} gone;
};

struct message {
	struct message *next; /* the queue's */
	enum message_kind kind;
	bool is_counted;       /* the queue's: towards its bounds; */
	bool is_control;       /* beyond them */
	size_t topic_length;   /* bytes, without the terminating NUL */
	size_t payload_length; /* bytes */
	size_t recipient_count;
	const struct recipient *recipients;
	const char *topic;        /* NUL-terminated UTF-8 */
	const void *payload;      /* NULL when empty */
	const void *properties;   /* see properties.h; NULL when there are none */
	size_t properties_length; /* bytes */
	struct client *client;    /* NULL: not known; it holds a reference */
	union message_as as;
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

/* ---- one function for each kind, but for those that somebody waits with for memory (message_copy());
 * everything is copied, a client is held. NULL when memory ran out ---- */

#define MESSAGE_MADE __attribute__((warn_unused_result))

/* Who makes it fills as.publish. */
MESSAGE_MADE struct message *message_publish(const struct message_content *content,
		const struct recipient *recipients, size_t recipient_count);

MESSAGE_MADE struct message *message_answer(uint64_t sequence, int rc);
MESSAGE_MADE struct message *message_writable(void);
MESSAGE_MADE struct message *message_hold(int number);
MESSAGE_MADE struct message *message_release(int number);
MESSAGE_MADE struct message *message_hold_consumer(uint64_t consumer, bool again);
MESSAGE_MADE struct message *message_release_consumer(uint64_t consumer);
MESSAGE_MADE struct message *message_options(const struct message_of_options *options);
MESSAGE_MADE struct message *message_stop(void);

MESSAGE_MADE struct message *message_subscribe(const struct message_request *request, const char *filter,
		size_t length);
MESSAGE_MADE struct message *message_unsubscribe(const struct message_request *request, const char *filter,
		size_t length);
MESSAGE_MADE struct message *message_consumer(uint64_t handle, const char *name, size_t length);
MESSAGE_MADE struct message *message_consumer_gone(uint64_t handle, bool keeps);
MESSAGE_MADE struct message *message_done(const struct message_handled *handled, size_t count);
MESSAGE_MADE struct message *message_failed(const struct message_of_failed *failed, const char *traceback,
		size_t length);
MESSAGE_MADE struct message *message_watch(uint64_t consumer, uint64_t sequence);
MESSAGE_MADE struct message *message_unwatch(uint64_t consumer, uint64_t sequence);
MESSAGE_MADE struct message *message_kick(const char *client_id, size_t length, uint64_t sequence);
MESSAGE_MADE struct message *message_settled(const char *summary, size_t length);
MESSAGE_MADE struct message *message_suspend(bool application_ends);
MESSAGE_MADE struct message *message_started(void);
MESSAGE_MADE struct message *message_stopped(void);

MESSAGE_MADE struct message *message_log(int level, const char *line, size_t length);

MESSAGE_MADE struct message *message_listening(void);
MESSAGE_MADE struct message *message_publisher(struct client *client, uint64_t fingerprint, uint64_t stored);
MESSAGE_MADE struct message *message_connection_gone(bool was_taken);
MESSAGE_MADE struct message *message_end(void);

/* A whole copy of a MESSAGE_PUBLISH, with its recipients and its client. */
MESSAGE_MADE struct message *message_store(const struct message *publish);

/* A copy of its kind, its topic and its part of the union, for one that has nothing else. It may be one on
 * the stack, as (struct message){.kind = ..., .as.answer = {...}}: so somebody who can wait for memory tries
 * again. */
MESSAGE_MADE struct message *message_copy(const struct message *message);

/* The same, as an event for consumers about a client, which may be NULL: not known. */
MESSAGE_MADE struct message *message_copy_for(const struct message *message, struct client *client,
		const struct recipient *recipients, size_t recipient_count);

/* A row of MESSAGE_EVENTS. */
struct message_event {
	const char *type;
	bool is_droppable;
	unsigned int shows; /* enum message_shows */
};

/* NULL: a message of this kind is no event. */
const struct message_event *message_event(enum message_kind kind);

/* Whether it may be lost where there is no room: an event that may, unless it came through the session, which
 * waits with it until there is room, or is stored: then it comes when there is. Nobody would say again that a
 * client came or went. */
bool message_is_droppable(const struct message *message);

/* What it carries, which is still the message's. */
struct message_content message_content(const struct message *message);

/* Takes the recipient that published it out, as far as its subscriptions have No Local (MQTT 5, 3.8.3.1). */
void message_leave_out(struct message *message, uint64_t publisher);

/* It is for these alone, no more than before. */
void message_keep_recipients(struct message *message, const struct recipient *recipients, size_t count);

/* Takes NULL. */
void message_free(struct message *message);

/* Bytes that count towards a queue's bound, those of its client too: that is set before it goes into a queue,
 * and stays. */
size_t message_size(const struct message *message);

#endif
