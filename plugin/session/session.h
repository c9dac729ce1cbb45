/* The plugin's own MQTT session: what the MESSAGE event does not show.
 *
 * Retained messages, last wills, $SYS, what other plugins publish, shared subscriptions, QoS 2, and what the
 * broker queued while the application was away reach consumers through a connection to one of this broker's
 * listeners. It subscribes to what the consumers subscribe to, on a thread of its own, and puts what it
 * receives into the inbound queue.
 *
 * Marks, fences and holds keep it and the direct lane in one order: docs/architecture.md, "The order of
 * messages". Holds of all consumers (MESSAGE_HOLD, MESSAGE_RELEASE) have numbers that rise, and a release
 * ends those up to its own; those of one consumer, which waits for what the broker has retained, are
 * MESSAGE_HOLD_CONSUMER and MESSAGE_RELEASE_CONSUMER. */
#ifndef MQTTASGI_SESSION_H
#define MQTTASGI_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct marks;
struct message;
struct options;
struct queue;
struct session;
struct stored_ids;

/* Where fences are published, with QoS 1 and to the session's client id alone; the payload is the number, in
 * decimal. */
#define SESSION_FENCE_TOPIC "$mqttasgi/fence"
/* Added to a hold's number it is the number of the fence that ends the hold. */
#define SESSION_HOLD_FENCE ((uint64_t)1 << 63)
/* The hold that the broker thread begins before session_command() with MESSAGE_LISTENING. */
#define SESSION_FIRST_HOLD 1

/* Prepares a session; the broker thread calls this at start. Borrows all, which must outlive it; inbound_fd
 * is what the inbound queue's notify writes to. MOSQ_ERR_SUCCESS or MOSQ_ERR_NOMEM. */
int session_new(const struct options *options, struct queue *inbound, struct queue *outbound, int inbound_fd,
		struct session **ret_session) __attribute__((warn_unused_result));

/* Takes NULL. The thread must have ended, or never begun. */
void session_free(struct session *session);

/* Starts the thread, which connects after MESSAGE_LISTENING. Returns 0 or an errno. */
int session_start(struct session *session) __attribute__((warn_unused_result));

/* Ends the thread, without a word to the broker. False: it still runs after that time. Broker thread. */
bool session_stop(struct session *session, unsigned int milliseconds);

/* Broker thread: MESSAGE_SUBSCRIBE and MESSAGE_UNSUBSCRIBE, which it has carried out for the direct lane,
 * MESSAGE_LISTENING when the listeners are open, MESSAGE_SETTLED, MESSAGE_SUSPEND, MESSAGE_PUBLISHER,
 * MESSAGE_CONNECTION_GONE. Owns the message from here on. A sequence is answered by MESSAGE_ANSWER. */
void session_command(struct session *session, struct message *command);

/* Broker thread: where to mark what went the direct lane; late: with QoS 2, of which the broker makes the
 * copies when it releases it. NULL when no copies can come any more. */
struct marks *session_marks(struct session *session, bool late);

/* The number of the last hold whose fence has come. Any thread. */
int session_released(const struct session *session);

/* Messages are told apart without their properties, which the broker thread cannot read. Before
 * session_start(). */
void session_ignore_properties(struct session *session);

/* What it brings with QoS 1 or 2 is stored in the durable inbox; its ids are taken from these, which are
 * borrowed. Before session_start(). */
void session_use_ids(struct session *session, struct stored_ids *ids);

/* How many publishers were forgotten, see publishers.h. Any thread. */
uint64_t session_forgotten(const struct session *session);
/* How often the broker has left out what it had for the session, as far as that was noticed, how many
 * messages were passed over because they could not be read, and how often a subscription of the session's was
 * refused. Any thread. */
uint64_t session_left_out(const struct session *session);
uint64_t session_passed_over(const struct session *session);
uint64_t session_refused(const struct session *session);

/* Its client id. Any thread. */
const char *session_client_id(const struct session *session);

#endif
