/* Which lane a message takes: the direct one, from the MESSAGE event to its consumers, or through the
 * session.
 *
 * The broker sends the session a copy of what goes the direct lane. It can be told not to, where nobody else
 * notices that (broker_on_access()); otherwise the copy is marked, and the session recognises it. And a
 * message must not overtake, on the direct lane, one on the same topic that the broker sent to the session
 * before: docs/architecture.md, "The order of messages". Broker thread only; with a session that is NULL
 * everything goes the direct lane and all of this does nothing. */
#ifndef MQTTASGI_LANES_H
#define MQTTASGI_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/lanes_message.h"
#include "shared/message.h"

struct lanes;
struct queue;
struct session;
struct versions_traits;

enum lane { LANE_DIRECT, LANE_SESSION };

/* Borrows session, inbound and traits. leaves_v5: to the session, all that MQTT 5 clients publish. NULL when
 * memory ran out. */
struct lanes *lanes_new(struct session *session, struct queue *inbound, const struct versions_traits *traits,
		bool leaves_v5);

/* Takes NULL. */
void lanes_free(struct lanes *lanes);

/* Nobody can read the properties of what clients publish: so messages are told apart without. Before the
 * session is started. */
void lanes_ignore_properties(struct lanes *lanes);

/* The listeners are open: the session may connect. To be called again does nothing. */
void lanes_open(struct lanes *lanes);

/* Which lane a client's message takes, which these consumers have subscribed to. LANE_SESSION: the session is
 * told who published it. LANE_DIRECT: *ret_message is for them, still without its client, and its copy will
 * be known for one; NULL: no memory, and so it is not, and the session brings it. */
enum lane lanes_choose(struct lanes *lanes, const struct lanes_message *published,
		const struct recipient *recipients, size_t recipient_count, struct message **ret_message);

/* Whether lanes_choose() would leave a client's message to the session. */
bool lanes_leaves(const struct lanes *lanes, const struct lanes_message *published);

/* A message that was stored in an earlier life of the process comes to its consumers: the broker may have
 * kept a copy of it for the session, which is not to come until that is up for the first time. With QoS 2 a
 * copy comes at any time, and may be of another message of the same content: then twice, rather than never.
 */
void lanes_recalls(struct lanes *lanes, const struct lanes_message *message);

/* The application publishes this, which consumers have subscribed to, and it goes the direct lane. */
void lanes_publishes(struct lanes *lanes, const struct lanes_message *message);

/* The broker has asked whether the session may do something: from now on it asks about everything before it
 * sends it to the session. Returns whether that is news. */
bool lanes_refuse_copies(struct lanes *lanes);

/* Whether what the broker is about to send to the session is the client's message that went the direct lane;
 * its properties are not looked at but as the broker's list. And whether it is one that the application has
 * published, of which there can only be any if lanes_has_published() says so. */
bool lanes_is_copy(const struct lanes *lanes, const struct lanes_message *message);
bool lanes_has_published(const struct lanes *lanes);
bool lanes_is_own_copy(struct lanes *lanes, const struct lanes_message *message);

/* The broker has turned to another message. */
void lanes_next_message(struct lanes *lanes);

/* The broker has come to its TICK. Returns whether something was published. */
bool lanes_tick(struct lanes *lanes);

/* Consumers are about to be told that a client is gone: not before they have what it published, which may be
 * with the session. connection is compared only. is_late: what was published since the last TICK may have
 * been sent before this (on Mosquitto 2.1 some clients are found to be gone between that and the TICK). */
void lanes_hold_for_client(struct lanes *lanes, const void *connection, bool is_late);

/* A client is gone, and its will may be on its way to the session. */
void lanes_hold_for_will(struct lanes *lanes, bool is_late);

/* The session is up, or no longer. */
void lanes_set_session(struct lanes *lanes, bool is_up);

bool lanes_has_session(const struct lanes *lanes);

/* How many messages went the direct lane without a mark, because too many copies were under way: they may
 * come twice. 0 where no copies can come any more. */
uint64_t lanes_missing(const struct lanes *lanes);

/* How many publishers of what the session is to bring were forgotten, because too much waited. */
uint64_t lanes_forgotten(const struct lanes *lanes);
/* session_left_out(), session_passed_over() and session_refused(), 0 without a session. */
uint64_t lanes_left_out(const struct lanes *lanes);
uint64_t lanes_passed_over(const struct lanes *lanes);
uint64_t lanes_refused(const struct lanes *lanes);

/* The fence is about to be sent. */
void lanes_fence(struct lanes *lanes, uint64_t fence);

/* Hands a SUBSCRIBE or UNSUBSCRIBE on to the session, if there is one; it is copied. *ret_answers: whether
 * the session will answer its sequence; then the consumer keeps back what comes the direct lane until the
 * retained messages, if it gets any, have come. is_new: of a SUBSCRIBE, whether the consumer had not
 * subscribed to the filter. MOSQ_ERR_SUCCESS, or MOSQ_ERR_NOMEM: the session does not know of it. */
int lanes_command(struct lanes *lanes, const struct message *command, bool is_new, bool *ret_answers)
		__attribute__((warn_unused_result));

/* Hands on what nobody waits for an answer to; owns it from here on. Without a session it goes to nobody.
 * Takes NULL, for which there was no memory: then returns false. */
bool lanes_tell_session(struct lanes *lanes, struct message *word);

#endif
