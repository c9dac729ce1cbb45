/* DESIGN
 * One loop: commands from the broker thread, the connection, timers. The state says how far the connection is;
 * subscriptions are brought up to date in rounds. A round sends SUBSCRIBE for every filter that is due, waits for the
 * acknowledgements, then for a fence, behind the retained messages: then all of these have come. What becomes due
 * meanwhile waits for the next round, so a thousand consumers that subscribe at once take two or three. */
#include "session/session.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "options/options.h"
#include "session/connection.h"
#include "session/copies.h"
#include "session/deliveries.h"
#include "session/fences.h"
#include "session/fetched.h"
#include "session/message_list.h"
#include "session/outlet.h"
#include "session/backlog.h"
#include "session/publishers.h"
#include "session/retry.h"
#include "session/subscriptions.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/fingerprint.h"
#include "shared/hash.h"
#include "shared/marks.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/table.h"
#include "shared/thread.h"
#include "shared/topics.h"

/* A listener that is another broker's may have something to say all the time. */
#define PROVE_MS 60000U
/* How often the log says, at most, that the broker has dropped some of it, and the connection is made anew for that. */
#define LEFT_OUT_MS 60000U
/* How long the first connection waits for consumers that are still subscribing, and live messages for what the
 * broker had queued. */
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
/* The same while the broker sends what it has retained: it writes all of it at once, and drops what finds no room. */
#define READ_BATCH_MAX 1024

enum state {
	WAITING,    /* for the start, or for the next try */
	CONNECTING, /* for CONNACK */
	PROVING,    /* for the first fence: is this our broker, and has all come that it had queued? */
	RUNNING,
	SUSPENDED, /* the application has failed */
	GIVEN_UP,
};

struct session {
	const struct options *options;
	struct outlet outlet;
	struct queue *commands;
	int inbound_fd;
	int command_fd;  /* readable when there are commands */
	int notify_fd;   /* its other end */
	atomic_int released; /* the last hold whose fence has come */
	atomic_ullong left_out_count; /* see session.h */
	pthread_t thread;
	bool runs;

	/* the rest is the thread's */
	struct connection *connection;
	enum state state;
	uint64_t deadline;  /* of CONNECTING */
	uint64_t suspends_at;
	uint64_t started_at; /* 0: the listeners are not open yet */
	uint64_t up_since;
	bool is_taken;           /* another connection may have taken the place of this one, says the broker thread */
	uint64_t claim_fence;    /* and would be wrong if this fence came; 0: it does not wait for one */
	bool settled, suspends, application_ends, holds_back, cleaned, was_up, is_up, ends;
	bool keeps;         /* what comes, until it is known which filters are in force */
	bool refused;       /* CONNACK said no */
	bool starts_over;   /* the broker had a session that must not be there */

	struct retry retry;
	struct fences fences;
	struct copies copies;
	struct subscriptions subscriptions;
	struct deliveries deliveries;
	uint64_t left_out_told_at; /* 0: the log has not said that the broker has left out some of it */
	bool resumes;              /* the connection is to be made anew, so that the broker sends it again */
};

static void pass_on_stalled(struct session *session)
{
	if (outlet_try_again(&session->outlet)) {
		fences_read_again(&session->fences, now_ms());
	}
}

static void end_first_hold(struct session *session)
{
	if (session->holds_back) {
		session->holds_back = false;
		outlet_release_all(&session->outlet, SESSION_FIRST_HOLD);
	}
}

static void tell_is_up(struct session *session, bool is_up)
{
	if (session->is_up != is_up) {
		session->is_up = is_up;
		session->up_since = now_ms();
		outlet_tell_session(&session->outlet, is_up);
	}
	end_first_hold(session);
}

/* The connection is gone, and nobody shall wait for the next. */
static void lose_connection(struct session *session)
{
	subscriptions_lose(&session->subscriptions);
	deliveries_deliver_backlog(&session->deliveries); /* it is acknowledged: the broker will not send it again */
	copies_lose(&session->copies);
	fences_lose(&session->fences);
	tell_is_up(session, false);
}

/* ---- the connection's ups and downs ---- */

static void try_later(struct session *session, const char *reason)
{
	bool was_up = session->is_up;

	lose_connection(session);
	if (retry_failed(&session->retry, was_up, reason)) {
		session->state = WAITING;
	} else {
		session->state = GIVEN_UP;
		copies_give_up(&session->copies);
	}
}

static void on_taken_over(struct session *session)
{
	uint64_t up_since = session->is_up ? session->up_since : UINT64_MAX;

	lose_connection(session);
	session->state = WAITING;
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
	if (!session->refused && (session->is_taken || connection_was_taken_over(session->connection))) {
		on_taken_over(session);
	} else {
		try_later(session, copy);
	}
}

static void connect_now(struct session *session)
{
	retry_begins(&session->retry);
	take_commands(session); /* what ended before this one has begun */
	session->is_taken = false;
	session->claim_fence = 0;
	session->refused = false;
	session->starts_over = false;
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
		session->refused = true;
		return;
	}
	if (session->options->cleansession && !session->cleaned && session_present) {
		session->starts_over = true;
		session->cleaned = true;
		return;
	}
	session->cleaned = true;
	session->state = PROVING;
	fences_set_limit(&session->fences, now_ms() + PROVE_MS);
	session->keeps = true;
	copies_connected(&session->copies, session_present);
	if (!session_present) {
		subscriptions_forget(&session->subscriptions);
	} else if (!session->was_up) {
		/* It is that of an earlier process, and so are the consumers' subscriptions. Which filters are in force is not
		 * known before they are acknowledged. */
		subscriptions_assume(&session->subscriptions);
	}
	/* What was said so far may have been said of those before it, or of this connection: it can be over already. */
	session->claim_fence = fences_request(&session->fences);
}

static void on_proved(struct session *session)
{
	session->state = RUNNING;
	fences_set_limit(&session->fences, 0);
	connection_caught_up(session->connection);
	copies_caught_up(&session->copies, now_ms());
	subscriptions_run(&session->subscriptions);
}

/* The subscriptions are in force. */
static void on_first_round(struct session *session)
{
	session->keeps = false;
	tell_is_up(session, true);
	retry_succeeded(&session->retry, session->was_up);
	session->was_up = true;
}

static void on_acknowledged(void *userdata, int packet, int code)
{
	struct session *session = userdata;

	subscriptions_acknowledge(&session->subscriptions, packet, code);
}

static uint64_t number_in(const struct connection_message *event)
{
	char digits[24] = "";

	if (event->payload_length < sizeof(digits)) {
		memcpy(digits, event->payload, event->payload_length);
	}
	return strtoull(digits, NULL, 10);
}

/* Fences come in the order in which the broker thread sends them, all of them, unless the broker has had no room for one. What
 * it drops of QoS 1 and 2 from its socket's queue it sends again on the next connection only. */
static void note_left_out(struct session *session, uint64_t fences)
{
	const char *name = subscriptions_in_round(&session->subscriptions);
	uint64_t now = now_ms();

	if (!fences) {
		return;
	}
	atomic_fetch_add(&session->left_out_count, fences);
	if (session->left_out_told_at && now < session->left_out_told_at + LEFT_OUT_MS) {
		return;
	}
	session->left_out_told_at = now;
	session->resumes = true;
	outlet_log(&session->outlet, MOSQ_LOG_WARNING,
			"The broker has left out some of what it had for the session, because more than max_queued_messages waited for it at "
			"once: retained messages may be missing for consumers that have subscribed just now%s%.200s%s. Raise "
			"max_queued_messages in mosquitto.conf above the number of retained messages that a filter matches. The session connects "
			"anew, for what was left out with QoS 1 and 2.",
			name ? " (to '" : "", name ? name : "", name ? "', or others)" : "");
}

static void on_fence(struct session *session, uint64_t fence)
{
	uint64_t left_out;

	if (fence & SESSION_HOLD_FENCE) {
		if (!session->was_up) {
			return; /* of an earlier process, for which the broker had queued it: the number means nothing here */
		}
		atomic_store(&session->released, (int)(fence & INT_MAX));
		outlet_release_all(&session->outlet, (int)(fence & INT_MAX));
		return;
	}
	if (!fences_come(&session->fences, fence, now_ms(), &left_out)) {
		return; /* of an earlier connection */
	}
	note_left_out(session, left_out);
	if (session->claim_fence && fence >= session->claim_fence) {
		session->is_taken = false;
		session->claim_fence = 0;
		if (session->is_up) {
			outlet_tell_session(&session->outlet, true);
		}
	}
	deliveries_deliver_backlog(&session->deliveries); /* before its marks go */
	copies_pass(&session->copies, fence, subscriptions_are_behind(&session->subscriptions, fence), now_ms());
	subscriptions_unsubscribe_until(&session->subscriptions, fence);
	if (session->state == PROVING) {
		session->keeps = !session->was_up;
		on_proved(session);
	} else if (subscriptions_pass(&session->subscriptions, fence) && !session->is_up) {
		on_first_round(session);
	}
}

/* ---- commands ---- */

static void suspend(struct session *session)
{
	session->suspends = false;
	if (session->options->cleansession || session->state == GIVEN_UP) {
		return;
	}
	connection_disconnect(session->connection, false);
	lose_connection(session);
	session->state = SUSPENDED;
	outlet_log(&session->outlet, MOSQ_LOG_NOTICE,
			"The application %s: the broker keeps its QoS 1 and 2 messages (session %s) until it is started again.",
			session->application_ends ? "ends" : "has failed", options_session_id(session->options));
}

/* The broker thread heard that a connection with this client id is gone. Was it this one, it soon ends; was it that of
 * somebody who was not let in, a fence comes. */
static void on_claim(struct session *session, const struct message *command)
{
	session->is_taken |= command->as.gone.was_taken != 0;
	if (session->state == PROVING || session->state == RUNNING) {
		session->claim_fence = fences_request(&session->fences);
	}
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
		deliveries_announce(&session->deliveries, command->as.publisher.fingerprint, client_hold(command->client));
		break;
	case MESSAGE_SETTLED:
		session->settled = true;
		break;
	case MESSAGE_SESSION:
	case MESSAGE_CONNECTION_GONE:
		on_claim(session, command);
		break;
	case MESSAGE_STARTED:
	case MESSAGE_LISTENING:
		session->started_at = now_ms();
		session->holds_back = true;
		break;
	case MESSAGE_SUSPEND:
		session->suspends = true;
		session->application_ends = command->as.suspend.application_ends != 0;
		session->suspends_at = now_ms() + SUSPEND_MS;
		break;
	default:
		session->ends = true;
		break;
	}
}

/* Whether it is not to be carried out: when the application has failed, the broker is to keep messages for what it had
 * subscribed to. */
static bool is_void(const struct session *session, const struct message *command)
{
	return command->kind == MESSAGE_UNSUBSCRIBE &&
			(session->state == SUSPENDED || (session->suspends && !session->options->cleansession));
}

static void take_commands(struct session *session)
{
	struct message *command;
	bool needs_fence = false;

	while ((command = queue_take(session->commands))) {
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

static void on_message(void *userdata, const struct connection_message *event)
{
	struct session *session = userdata;

	/* Who unsubscribed before the broker sent this does not get it. */
	take_commands(session);
	if (session->state != PROVING && session->state != RUNNING) {
		return; /* of a session that is about to be ended */
	}
	if (!event->subscription && strcmp(event->topic, SESSION_FENCE_TOPIC) == 0) {
		on_fence(session, number_in(event));
		return;
	}
	deliveries_receive(&session->deliveries, event, session->keeps);
}

static const struct connection_events events = {
	.connected = on_connected,
	.acknowledged = on_acknowledged,
	.message = on_message,
};

/* ---- the thread ---- */

/* Once the listeners are open and, where the broker has queued messages, the consumers have subscribed to them. */
static bool may_connect(const struct session *session, uint64_t now)
{
	return session->started_at && now >= session->retry.at &&
			(session->options->cleansession || session->settled || now >= session->started_at + SETTLE_MS);
}

/* Once the copies of what the application had before it failed have come: what is not acknowledged it gets again, the
 * message too that it failed at. What comes after these stays with the broker, so not a packet more is read. */
static bool may_suspend(const struct session *session, uint64_t now)
{
	return session->state != RUNNING || !copies_are_under_way(&session->copies) || now >= session->suspends_at;
}

/* Makes the connection anew, for what the broker has left out on this one. */
static void resume(struct session *session)
{
	session->resumes = false;
	connection_disconnect(session->connection, false);
	lose_connection(session);
	session->state = WAITING;
	retry_at_once(&session->retry);
}

static void watch_clock(struct session *session, uint64_t now)
{
	unsigned int patience = session->options->cleansession ? FIRST_HOLD_MS : SETTLE_MS + FENCES_ANSWER_MS;

	if (session->holds_back && now >= session->started_at + patience) {
		end_first_hold(session);
	}
	copies_end_late(&session->copies, now);
	deliveries_tell_unnamed(&session->deliveries, now);
	switch (session->state) {
	case WAITING:
		if (may_connect(session, now)) {
			connect_now(session);
		}
		break;
	case CONNECTING:
		if (now >= session->deadline) {
			break_off(session, "it does not answer");
		}
		break;
	case PROVING:
	case RUNNING:
		if (fences_are_overdue(&session->fences, now) && !outlet_is_stalled(&session->outlet)) {
			break_off(session, session->state == PROVING
							? "what the broker sends to the session does not arrive there; the listener belongs to another "
							  "broker, or has a mount_point"
							: "it does not answer any more");
		} else if (!outlet_is_stalled(&session->outlet) && fences_ask_again(&session->fences, now)) {
			break;
		} else if (subscriptions_probe(&session->subscriptions, now)) {
			break;
		} else if (!fences_are_under_way(&session->fences) && now >= session->copies.fence_at && copies_want_fence(&session->copies)) {
			session->copies.fence_at = now + COPIES_FENCE_MS;
			(void)fences_request(&session->fences);
		}
		break;
	case SUSPENDED:
	case GIVEN_UP:
		break;
	}
	if (session->state == RUNNING) {
		subscriptions_try_again(&session->subscriptions, now);
	}
	if (session->state == RUNNING && session->resumes && !subscriptions_have_work(&session->subscriptions) &&
			!fences_are_under_way(&session->fences) && !session->suspends) {
		resume(session);
	}
	if (session->state == RUNNING && subscriptions_begin_round(&session->subscriptions) && !session->is_up) {
		on_first_round(session);
	}
}

/* While there is no room for what came, nothing more is read; but the connection is kept alive. */
static unsigned int packets_to_read(const struct session *session)
{
	if (outlet_is_stalled(&session->outlet)) {
		return 0;
	}
	return session->suspends ? 1 : subscriptions_in_round(&session->subscriptions) ? READ_BATCH_MAX : READ_MAX;
}

static void use_connection(struct session *session)
{
	bool ok = connection_handle(session->connection, packets_to_read(session));

	if (session->refused || !ok) {
		break_off(session, connection_reason(session->connection));
	} else if (session->starts_over) {
		connection_disconnect(session->connection, true);
		session->state = WAITING;
		session->retry.at = 0;
	}
}

static bool uses_connection(const struct session *session)
{
	return (session->state == CONNECTING || session->state == PROVING || session->state == RUNNING) &&
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
	if (session->state == WAITING && session->started_at && session->retry.at > now) {
		return session->retry.at - now < 1000 ? (int)(session->retry.at - now) : 1000;
	}
	if (session->suspends) {
		return (int)SUSPEND_MS;
	}
	if (session->holds_back || fences_are_under_way(&session->fences) || copies_want_fence(&session->copies) ||
			subscriptions_watch_clock(&session->subscriptions)) {
		return (int)COPIES_FENCE_MS;
	}
	return IDLE_MS;
}

/* Copies can wait. To be woken for each of them would cost the broker and the application, which work on the messages
 * at that very moment, more than anything else here. */
static bool naps(const struct session *session)
{
	/* What the broker still has to get acknowledged when it stops it sends again to a session that outlives it. */
	return session->deliveries.brought_copies && !session->outlet.is_used && session->state == RUNNING &&
			session->options->cleansession && !subscriptions_in_round(&session->subscriptions) && !fences_are_under_way(&session->fences);
}

static void *session_thread(void *argument)
{
	struct session *session = argument;
	int keep[2] = {session->inbound_fd, session->command_fd};
	struct pollfd polled[2] = {{.fd = session->command_fd, .events = POLLIN}, {.fd = -1}};
	char ignored[64];

	if (keep[0] > keep[1]) {
		keep[0] = session->command_fd;
		keep[1] = session->inbound_fd;
	}
	thread_take_own_descriptors(keep, 2);
	while (!session->ends) {
		while (read(session->command_fd, ignored, sizeof(ignored)) > 0) {
		}
		take_commands(session);
		if (session->suspends && may_suspend(session, now_ms())) {
			suspend(session);
		}
		pass_on_stalled(session);
		if (outlet_is_stuck(&session->outlet, now_ms())) {
			subscriptions_release_stuck(&session->subscriptions);
		}
		watch_clock(session, now_ms());
		polled[1].fd = uses_connection(session) && packets_to_read(session) ? connection_socket(session->connection) : -1;
		polled[1].events = POLLIN;
		if (polled[1].fd >= 0 && connection_wants_to_write(session->connection)) {
			polled[1].events |= POLLOUT;
		}
		(void)poll(polled, 2, session->ends ? 0 : poll_timeout(session, now_ms()));
		if (uses_connection(session)) {
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
	}
	subscriptions_unsubscribe_until(&session->subscriptions, UINT64_MAX); /* nobody shall wait for a session that has ended */
	return NULL;
}

static void notify_session(void *userdata)
{
	const struct session *session = userdata;

	/* Fails only when it is full, and so readable already. */
	if (write(session->notify_fd, "", 1) < 0) {
		return;
	}
}

/* ---- for the broker thread ---- */

int session_new(const struct options *options, struct queue *inbound, struct queue *outbound, int inbound_fd,
		struct session **ret_session)
{
	struct session *session = calloc(1, sizeof(*session));
	int ends[2];

	if (!session) {
		return MOSQ_ERR_NOMEM;
	}
	session->options = options;
	outlet_init(&session->outlet, inbound, outbound);
	retry_init(&session->retry, options, &session->outlet);
	session->inbound_fd = inbound_fd;
	session->command_fd = -1;
	session->notify_fd = -1;
	atomic_init(&session->released, 0);
	atomic_init(&session->left_out_count, 0);
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		goto fail;
	}
	session->command_fd = ends[0];
	session->notify_fd = ends[1];
	/* Commands come from consumers' subscriptions and wait only for this thread, so they need no bound. */
	session->commands = queue_new(SIZE_MAX, SIZE_MAX, notify_session, session);
	session->connection = connection_new(options, &events, session);
	if (!copies_init(&session->copies, &session->outlet) || !session->commands || !session->connection ||
			!subscriptions_init(&session->subscriptions, &session->outlet, &session->fences, session->connection,
					options->cleansession) ||
			!deliveries_init(&session->deliveries, &session->outlet, &session->copies, &session->subscriptions)) {
		goto fail;
	}
	/* Fences of an earlier process that the broker had queued for this client id have other numbers. */
	fences_init(&session->fences, &session->outlet, (uint64_t)time(NULL) << 20);
	*ret_session = session;
	return MOSQ_ERR_SUCCESS;
fail:
	session_free(session);
	return MOSQ_ERR_NOMEM;
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
	queue_free(session->commands);
	if (session->command_fd >= 0) {
		(void)close(session->command_fd);
		(void)close(session->notify_fd);
	}
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
		(void)queue_tell(session->commands, message_end());
		session->runs = !thread_join(session->thread, milliseconds);
	}
	return !session->runs;
}

void session_command(struct session *session, struct message *command)
{
	(void)queue_tell(session->commands, command);
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

uint64_t session_forgotten(const struct session *session)
{
	return deliveries_unnamed(&session->deliveries);
}

uint64_t session_left_out(const struct session *session)
{
	return atomic_load(&session->left_out_count);
}

uint64_t session_refused(const struct session *session)
{
	return atomic_load(&session->subscriptions.refused_count);
}

const char *session_client_id(const struct session *session)
{
	return options_session_id(session->options);
}
