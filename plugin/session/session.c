/* DESIGN
 * The life of the connection, and one loop: commands from the broker thread, the connection, timers. The
 * state says how far the connection is. What it subscribes to (subscriptions.c), who gets what it brings
 * (deliveries.c), which of that are copies (copies.c), how far the broker has got (fences.c), when to connect
 * again (retry.c), and what goes to the other threads (outlet.c) are pieces of their own, which know nothing
 * of the session. */
#include "session/session.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "options/options.h"
#include "session/connection.h"
#include "session/copies.h"
#include "session/deliveries.h"
#include "session/fences.h"
#include "session/inbox.h"
#include "session/outlet.h"
#include "session/retry.h"
#include "session/subscriptions.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/thread.h"

/* A listener that is another broker's may have something to say all the time. */
#define PROVE_MS 60000U
/* How long the first connection waits for consumers that are still subscribing, and live messages for what
 * the broker had queued. */
#define SETTLE_MS 5000U
#define FIRST_HOLD_MS 1000U
/* How long the broker keeps the session when the connection is lost and cleansession is true. */
#define EXPIRY_S 300U
/* How long the session does not look at its socket after it brought nothing but copies. */
#define NAP_MS 1
/* How long nothing may happen before the connection is looked after. */
#define IDLE_MS 5000
/* The same while it connects, when the next of a name's addresses may have its turn. */
#define CONNECTING_MS 200
/* How long copies of what the application had before it failed are waited for. */
#define SUSPEND_MS 200U
/* Packets read before commands and timers get a turn. */
#define READ_MAX 64
/* The same while the broker sends what it has retained: it writes all of it at once, and drops what finds no
 * room. */
#define READ_BATCH_MAX 1024

enum state {
	WAITING,       /* for the start, or for the next try */
	CONNECTING,    /* for CONNACK */
	REFUSED,       /* CONNACK said no; until the connection has returned */
	STARTING_OVER, /* the broker had a session that must not be there, and is to end it; until the connection
					  has returned */
	PROVING,       /* for the first fence: is this our broker, and has all come that it had queued? */
	SUBSCRIBING,   /* for the end of the first round */
	UP,            /* the subscriptions are in force */
	SUSPENDED,     /* the application has failed, or ends: the broker queues for it */
	GIVEN_UP,
};

/* Whether the session is about to be suspended, and why. */
struct suspension {
	enum { SUSPENSION_NONE, SUSPENSION_FAILED, SUSPENSION_ENDS } why;
	uint64_t at; /* then at the latest */
};

/* What has to come before the first connection is made, and how long live messages wait for that. */
struct start {
	uint64_t at;          /* 0: the listeners are not open yet */
	bool is_settled;      /* the consumers of the start have subscribed */
	uint64_t holds_until; /* the first hold; 0: it has ended, or not begun */
};

/* Whether another connection has taken this one's place. */
struct takeover {
	bool is_suspected; /* the broker thread says that a connection with the session's client id is gone */
	uint64_t fence;    /* if this comes, it was not this one; 0: it does not wait for one */
};

struct session {
	const struct options *options;
	struct inbox inbox;
	int inbound_fd;
	atomic_int released; /* the last hold whose fence has come */
	pthread_t thread;
	bool runs;

	/* the rest is the thread's */
	struct connection *connection;
	enum state state;
	bool is_ours; /* what session the broker has is of this process, or may be taken over from an earlier
				   * one */
	bool was_up;
	bool ends;
	uint64_t up_since;
	uint64_t deadline; /* of CONNECTING */
	struct suspension suspension;
	struct start start;
	struct takeover takeover;
	bool resumes; /* the connection is to be made anew, so that the broker sends what it has left out */
	struct retry retry;
	struct outlet outlet;
	struct fences fences;
	struct copies copies;
	struct subscriptions subscriptions;
	struct deliveries deliveries;
};

static bool is_running(const struct session *session)
{
	return session->state == SUBSCRIBING || session->state == UP;
}

/* The broker has taken the connection on. */
static bool is_connected(const struct session *session)
{
	return session->state == PROVING || is_running(session);
}

static void pass_on_stalled(struct session *session)
{
	if (outlet_try_again(&session->outlet)) {
		fences_read_again(&session->fences, now_ms());
	}
}

static void end_first_hold(struct session *session)
{
	if (session->start.holds_until) {
		session->start.holds_until = 0;
		outlet_release_all(&session->outlet, SESSION_FIRST_HOLD);
	}
}

/* The connection is gone, and nobody shall wait for the next. */
static void lose_connection(struct session *session, enum state next)
{
	bool was_up = session->state == UP;

	subscriptions_lose(&session->subscriptions);
	deliveries_deliver_backlog(
			&session->deliveries); /* it is acknowledged: the broker will not send it again */
	copies_lose(&session->copies);
	fences_lose(&session->fences);
	session->state = next;
	if (was_up) {
		outlet_tell_session(&session->outlet, false);
	}
	end_first_hold(session);
}

/* ---- the connection's ups and downs ---- */

static void try_later(struct session *session, const char *reason)
{
	bool was_up = session->state == UP;

	lose_connection(session, WAITING);
	if (!retry_failed(&session->retry, was_up, reason)) {
		session->state = GIVEN_UP;
		copies_give_up(&session->copies);
	}
}

static void on_taken_over(struct session *session)
{
	uint64_t up_since = session->state == UP ? session->up_since : UINT64_MAX;

	lose_connection(session, WAITING);
	retry_taken_over(&session->retry, up_since, now_ms());
}

static void take_commands(struct session *session);

/* One more connection that broke: reason is the end of a sentence. */
static void break_off(struct session *session, const char *reason)
{
	char copy[512];

	/* It may be the client's own, which the next call overwrites. */
	(void)snprintf(copy, sizeof(copy), "%s", reason);
	connection_disconnect(session->connection, false);
	take_commands(session); /* the broker thread's word came before the end of the connection */
	/* Of one that it refused, too, the broker says what it says of one that was taken over. */
	if (session->state != REFUSED &&
			(session->takeover.is_suspected || connection_was_taken_over(session->connection))) {
		on_taken_over(session);
	} else {
		try_later(session, copy);
	}
}

static void connect_now(struct session *session)
{
	retry_begins(&session->retry);
	take_commands(session); /* what ended before this one has begun */
	session->takeover = (struct takeover){0};
	if (!connection_connect(session->connection, session->options->cleansession ? EXPIRY_S : UINT32_MAX)) {
		try_later(session, connection_reason(session->connection));
		return;
	}
	session->state = CONNECTING;
	session->deadline = now_ms() + FENCES_ANSWER_MS;
}

static void on_connected(void *userdata, const char *reason, bool session_present)
{
	struct session *session = userdata;

	take_commands(session); /* the fence comes after these */
	if (reason) {
		session->state = REFUSED;
		return;
	}
	if (session->options->cleansession && !session->is_ours && session_present) {
		session->state = STARTING_OVER;
		session->is_ours = true;
		return;
	}
	session->is_ours = true;
	session->state = PROVING;
	fences_set_limit(&session->fences, now_ms() + PROVE_MS);
	copies_connected(&session->copies, session_present);
	if (!session_present) {
		subscriptions_forget(&session->subscriptions);
	} else if (!session->was_up) {
		/* It is that of an earlier process, and so are the consumers' subscriptions. Which filters are in
		 * force is not known before they are acknowledged. */
		subscriptions_assume(&session->subscriptions);
	}
	/* What was said so far may have been said of those before it, or of this connection: it can be over
	 * already. */
	session->takeover.fence = fences_request(&session->fences);
}

static void on_proved(struct session *session)
{
	session->state = SUBSCRIBING;
	fences_set_limit(&session->fences, 0);
	connection_caught_up(session->connection);
	copies_caught_up(&session->copies, now_ms());
	subscriptions_run(&session->subscriptions);
}

/* The subscriptions are in force. */
static void on_first_round(struct session *session)
{
	session->state = UP;
	session->up_since = now_ms();
	outlet_tell_session(&session->outlet, true);
	end_first_hold(session);
	retry_succeeded(&session->retry, session->was_up);
	session->was_up = true;
}

static void on_acknowledged(void *userdata, int packet, int code)
{
	struct session *session = userdata;

	subscriptions_acknowledge(&session->subscriptions, packet, code);
}

/* Of the broker thread's own: all that the broker sent before the hold began has come. */
static void on_hold_fence(struct session *session, int hold)
{
	if (!session->was_up) {
		return; /* of an earlier process, for which the broker had queued it: the number means nothing here */
	}
	atomic_store(&session->released, hold);
	outlet_release_all(&session->outlet, hold);
}

/* This connection was there when the broker thread said that one was gone. */
static void end_suspicion(struct session *session)
{
	session->takeover = (struct takeover){0};
	if (session->state == UP) {
		outlet_tell_session(&session->outlet, true);
	}
}

static void on_fence(struct session *session, uint64_t fence)
{
	uint64_t left_out;

	if (!fences_come(&session->fences, fence, now_ms(), &left_out)) {
		return; /* of an earlier connection */
	}
	if (left_out > 0 &&
			fences_tell_left_out(&session->fences, left_out, subscriptions_in_round(&session->subscriptions),
					now_ms())) {
		session->resumes = true;
	}
	if (session->takeover.fence && fence >= session->takeover.fence) {
		end_suspicion(session);
	}
	deliveries_deliver_backlog(&session->deliveries); /* before its marks go */
	copies_pass(&session->copies, fence, subscriptions_are_behind(&session->subscriptions, fence), now_ms());
	subscriptions_unsubscribe_until(&session->subscriptions, fence);
	if (session->state == PROVING) {
		on_proved(session);
	} else if (subscriptions_pass(&session->subscriptions, fence) && session->state == SUBSCRIBING) {
		on_first_round(session);
	}
}

/* ---- commands ---- */

static void suspend(struct session *session)
{
	bool ends = session->suspension.why == SUSPENSION_ENDS;

	session->suspension.why = SUSPENSION_NONE;
	if (session->options->cleansession || session->state == GIVEN_UP) {
		return;
	}
	subscriptions_keep(&session->subscriptions);
	connection_disconnect(session->connection, false);
	lose_connection(session, SUSPENDED);
	outlet_log(&session->outlet, MOSQ_LOG_NOTICE,
			"The application %s: the broker keeps its QoS 1 and 2 messages (session %s) until it is started again.",
			ends ? "ends" : "has failed", options_session_id(session->options));
}

/* The broker thread heard that a connection with this client id is gone. Was it this one, it soon ends; was
 * it that of somebody who was not let in, a fence comes. */
static void on_connection_gone(struct session *session, bool was_taken)
{
	session->takeover.is_suspected |= was_taken;
	if (is_connected(session)) {
		session->takeover.fence = fences_request(&session->fences);
	}
}

/* The listeners are open. The broker thread has begun the first hold. */
static void on_listening(struct session *session, uint64_t now)
{
	session->start.at = now;
	session->start.holds_until =
			now + (session->options->cleansession ? FIRST_HOLD_MS : SETTLE_MS + FENCES_ANSWER_MS);
}

static void carry_out(struct session *session, const struct message *command)
{
	switch (command->kind) {
	case MESSAGE_SUBSCRIBE:
		subscriptions_subscribe(&session->subscriptions, command);
		break;
	case MESSAGE_UNSUBSCRIBE:
		subscriptions_unsubscribe(&session->subscriptions, command);
		break;
	case MESSAGE_PUBLISHER:
		deliveries_announce(&session->deliveries, command->as.publisher.fingerprint,
				client_hold(command->client), command->as.publisher.stored);
		break;
	case MESSAGE_SETTLED:
		session->start.is_settled = true;
		break;
	case MESSAGE_CONNECTION_GONE:
		on_connection_gone(session, command->as.gone.was_taken);
		break;
	case MESSAGE_LISTENING:
		on_listening(session, now_ms());
		break;
	case MESSAGE_SUSPEND:
		session->suspension.why = command->as.suspend.application_ends ? SUSPENSION_ENDS : SUSPENSION_FAILED;
		session->suspension.at = now_ms() + SUSPEND_MS;
		break;
	default: /* MESSAGE_END */
		session->ends = true;
		break;
	}
}

/* Whether it is not to be carried out: when the application has failed, the broker is to keep messages for
 * what it had subscribed to. */
static bool is_void(const struct session *session, const struct message *command)
{
	return command->kind == MESSAGE_UNSUBSCRIBE &&
			(session->state == SUSPENDED || (session->suspension.why && !session->options->cleansession));
}

static void take_commands(struct session *session)
{
	struct message *command;
	bool needs_fence = false;

	while ((command = inbox_take(&session->inbox))) {
		if (is_void(session, command)) {
			outlet_answer(&session->outlet, command->as.request.sequence);
		} else if (command->kind == MESSAGE_UNSUBSCRIBE &&
				subscriptions_unsubscribe_later(&session->subscriptions, command)) {
			needs_fence = true;
			continue;
		} else {
			carry_out(session, command);
		}
		message_free(command);
	}
	if (needs_fence) {
		(void)fences_request(&session->fences);
	}
}

/* ---- what comes ---- */

/* Whether what comes may be of an earlier time, and it is not known yet which filters are in force. */
static bool collects(const struct session *session)
{
	return session->state == PROVING || (session->state == SUBSCRIBING && !session->was_up);
}

static void on_message(void *userdata, const struct connection_message *event)
{
	struct session *session = userdata;
	uint64_t number;

	/* Who unsubscribed before the broker sent this does not get it. */
	take_commands(session);
	if (!is_connected(session)) {
		return; /* of a session that is about to be ended */
	}
	if (event->subscription || strcmp(event->topic, SESSION_FENCE_TOPIC) != 0) {
		deliveries_receive(&session->deliveries, event, collects(session));
		return;
	}
	number = fences_read(event->payload, event->payload_length);
	if (number & SESSION_HOLD_FENCE) {
		on_hold_fence(session, (int)(number & INT_MAX));
	} else {
		on_fence(session, number);
	}
}

static void on_passed_over(void *userdata, const char *wrong)
{
	struct session *session = userdata;

	deliveries_pass_over(&session->deliveries, wrong, now_ms());
}

static const struct connection_events events = {
	.connected = on_connected,
	.acknowledged = on_acknowledged,
	.message = on_message,
	.passed_over = on_passed_over,
};

/* ---- the thread ---- */

/* Once the listeners are open and, where the broker has queued messages, the consumers have subscribed to
 * them. */
static bool may_connect(const struct session *session, uint64_t now)
{
	return session->start.at && now >= session->retry.at &&
			(session->options->cleansession || session->start.is_settled ||
					now >= session->start.at + SETTLE_MS);
}

/* Once the copies of what the application had before it failed have come: what is not acknowledged it gets
 * again, the message too that it failed at. What comes after these stays with the broker, so not a packet
 * more is read. */
static bool may_suspend(const struct session *session, uint64_t now)
{
	return !is_running(session) || !copies_are_under_way(&session->copies) || now >= session->suspension.at;
}

/* Makes the connection anew, for what the broker has left out on this one. */
static void resume(struct session *session)
{
	session->resumes = false;
	connection_disconnect(session->connection, false);
	lose_connection(session, WAITING);
	retry_at_once(&session->retry);
}

/* Whether nothing goes on that would have to be done again on another connection. */
static bool may_resume(const struct session *session)
{
	return is_running(session) && !subscriptions_have_work(&session->subscriptions) &&
			!fences_are_under_way(&session->fences) && !session->suspension.why;
}

/* Asks for a fence where one is needed, one at a time. */
static void watch_fences(struct session *session, uint64_t now)
{
	bool reads = !outlet_is_stalled(&session->outlet);

	if (reads && fences_are_overdue(&session->fences, now)) {
		break_off(session,
				session->state == PROVING
						? "what the broker sends to the session does not arrive there; the listener belongs to another "
						  "broker, or has a mount_point"
						: "it does not answer any more");
	} else if (!(reads && fences_ask_again(&session->fences, now)) &&
			!subscriptions_probe(&session->subscriptions, now) && !fences_are_under_way(&session->fences) &&
			copies_want_fence_now(&session->copies, now)) {
		(void)fences_request(&session->fences);
	}
}

static void watch_subscriptions(struct session *session, uint64_t now)
{
	if (is_running(session)) {
		subscriptions_try_again(&session->subscriptions, now);
	}
	if (session->resumes && may_resume(session)) {
		resume(session);
	}
	if (is_running(session) && subscriptions_begin_round(&session->subscriptions) &&
			session->state == SUBSCRIBING) {
		on_first_round(session);
	}
}

static void watch_clock(struct session *session, uint64_t now)
{
	if (session->start.holds_until && now >= session->start.holds_until) {
		end_first_hold(session);
	}
	copies_end_late(&session->copies, now);
	deliveries_tell_unnamed(&session->deliveries, now);
	if (session->state == WAITING && may_connect(session, now)) {
		connect_now(session);
	} else if (session->state == CONNECTING && now >= session->deadline) {
		break_off(session, "it does not answer");
	} else if (is_connected(session)) {
		watch_fences(session, now);
	}
	watch_subscriptions(session, now);
}

/* While there is no room for what came, nothing more is read; but the connection is kept alive. */
static unsigned int packets_to_read(const struct session *session)
{
	if (outlet_is_stalled(&session->outlet)) {
		return 0;
	}
	return session->suspension.why                            ? 1
			: subscriptions_in_round(&session->subscriptions) ? READ_BATCH_MAX
															  : READ_MAX;
}

static void use_connection(struct session *session)
{
	bool ok = connection_handle(session->connection, packets_to_read(session));

	if (session->state == REFUSED || !ok) {
		break_off(session, connection_reason(session->connection));
	} else if (session->state == STARTING_OVER) {
		connection_disconnect(session->connection, true);
		session->state = WAITING;
		session->retry.at = 0;
	}
}

static bool uses_connection(const struct session *session)
{
	return (session->state == CONNECTING || is_connected(session)) &&
			connection_socket(session->connection) >= 0;
}

static int poll_timeout(const struct session *session, uint64_t now)
{
	if (outlet_is_stalled(&session->outlet)) {
		return 1;
	}
	if (uses_connection(session) && connection_has_more(session->connection)) {
		return 0;
	}
	if (session->state == CONNECTING) {
		return CONNECTING_MS;
	}
	if (session->state == WAITING && session->start.at && session->retry.at > now) {
		return session->retry.at - now < 1000 ? (int)(session->retry.at - now) : 1000;
	}
	if (session->suspension.why) {
		return (int)SUSPEND_MS;
	}
	if (session->start.holds_until || fences_are_under_way(&session->fences) ||
			copies_want_fence(&session->copies) || subscriptions_watch_clock(&session->subscriptions)) {
		return (int)COPIES_FENCE_MS;
	}
	return IDLE_MS;
}

/* Copies can wait. To be woken for each of them would cost the broker and the application, which work on the
 * messages at that very moment, more than anything else here. */
static bool naps(const struct session *session)
{
	/* What the broker still has to get acknowledged when it stops it sends again to a session that outlives
	 * it. */
	return session->deliveries.brought_copies && !session->outlet.is_used && is_running(session) &&
			session->options->cleansession && !subscriptions_in_round(&session->subscriptions) &&
			!fences_are_under_way(&session->fences);
}

static void take_own_descriptors(const struct session *session)
{
	int inbox = session->inbox.read_fd, inbound = session->inbound_fd;
	const int keep[2] = {inbox < inbound ? inbox : inbound, inbox < inbound ? inbound : inbox};

	thread_take_own_descriptors(keep, 2);
}

/* All that waits neither for the connection nor for the clock. */
static void do_what_is_due(struct session *session)
{
	inbox_clear_signal(&session->inbox);
	take_commands(session);
	if (session->suspension.why && may_suspend(session, now_ms())) {
		suspend(session);
	}
	pass_on_stalled(session);
	if (outlet_is_stuck(&session->outlet, now_ms())) {
		subscriptions_release_stuck(&session->subscriptions);
	}
	watch_clock(session, now_ms());
}

/* What of the connection is waited for. */
static struct pollfd polled_connection(const struct session *session)
{
	struct pollfd polled = {.fd = -1, .events = POLLIN};

	if (uses_connection(session) && packets_to_read(session)) {
		polled.fd = connection_socket(session->connection);
		if (connection_wants_to_write(session->connection)) {
			polled.events |= POLLOUT;
		}
	}
	return polled;
}

static void *session_thread(void *argument)
{
	struct session *session = argument;
	struct pollfd polled[2] = {{.fd = session->inbox.read_fd, .events = POLLIN}};

	take_own_descriptors(session);
	while (!session->ends) {
		do_what_is_due(session);
		polled[1] = polled_connection(session);
		(void)poll(polled, 2, session->ends ? 0 : poll_timeout(session, now_ms()));
		if (!uses_connection(session)) {
			continue;
		}
		if (polled[1].revents & POLLIN) {
			fences_hear(&session->fences, now_ms());
		}
		session->deliveries.brought_copies = false;
		session->outlet.is_used = false;
		use_connection(session);
		if (naps(session)) {
			(void)poll(polled, 1, NAP_MS);
		}
	}
	subscriptions_unsubscribe_until(&session->subscriptions,
			UINT64_MAX); /* nobody shall wait for a session that has ended */
	return NULL;
}

/* ---- for the broker thread ---- */

int session_new(const struct options *options, struct queue *inbound, struct queue *outbound, int inbound_fd,
		struct session **ret_session)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session) {
		return MOSQ_ERR_NOMEM;
	}
	session->options = options;
	session->inbox = (struct inbox){.read_fd = -1, .write_fd = -1};
	session->inbound_fd = inbound_fd;
	atomic_init(&session->released, 0);
	outlet_init(&session->outlet, inbound, outbound);
	retry_init(&session->retry, options, &session->outlet);
	/* Fences of an earlier process that the broker had queued for this client id have other numbers. */
	fences_init(&session->fences, &session->outlet, (uint64_t)time(NULL) << 20);
	session->connection = connection_new(options, &events, session);
	if (!session->connection || !inbox_init(&session->inbox) ||
			!copies_init(&session->copies, &session->outlet) ||
			!subscriptions_init(&session->subscriptions, &session->outlet, &session->fences,
					session->connection, options->cleansession) ||
			!deliveries_init(&session->deliveries, &session->outlet, &session->copies,
					&session->subscriptions)) {
		session_free(session);
		return MOSQ_ERR_NOMEM;
	}
	*ret_session = session;
	return MOSQ_ERR_SUCCESS;
}

void session_free(struct session *session)
{
	if (!session) {
		return;
	}
	connection_free(session->connection);
	subscriptions_free(&session->subscriptions);
	deliveries_free(&session->deliveries);
	outlet_clear(&session->outlet);
	copies_free(&session->copies);
	inbox_free(&session->inbox);
	free(session);
}

int session_start(struct session *session)
{
	int rc = thread_start(&session->thread, "mqttasgi-mqtt", session_thread, session);

	session->runs = rc == 0;
	return rc;
}

bool session_stop(struct session *session, unsigned int milliseconds)
{
	if (session->runs) {
		inbox_put(&session->inbox, message_end());
		session->runs = !thread_join(session->thread, milliseconds);
	}
	return !session->runs;
}

void session_command(struct session *session, struct message *command)
{
	inbox_put(&session->inbox, command);
}

struct marks *session_marks(struct session *session, bool late)
{
	return copies_marks(&session->copies, late);
}

int session_released(const struct session *session)
{
	return atomic_load(&session->released);
}

void session_ignore_properties(struct session *session)
{
	session->copies.ignore_properties = true;
}

void session_use_ids(struct session *session, struct stored_ids *ids)
{
	session->deliveries.ids = ids;
}

uint64_t session_forgotten(const struct session *session)
{
	return deliveries_unnamed(&session->deliveries);
}

uint64_t session_passed_over(const struct session *session)
{
	return deliveries_passed_over(&session->deliveries);
}

uint64_t session_left_out(const struct session *session)
{
	return atomic_load(&session->fences.left_out_count);
}

uint64_t session_refused(const struct session *session)
{
	return atomic_load(&session->subscriptions.refused_count);
}

const char *session_client_id(const struct session *session)
{
	return options_session_id(session->options);
}
