/* DESIGN
 * In:  MESSAGE event -> router.c -> one message with all its recipients -> inbound queue.
 * Out: outbound queue -> drain(), called from MESSAGE and TICK -> publish.c, and in again, so that consumers
 * hear each other.
 *
 * Mosquitto 2.0 runs  [send what plugins published] poll, TICK;
 * Mosquitto 2.1 runs  [send what plugins published] TICK, poll.
 * What the TICK of a 2.1 publishes is therefore sent only after the poll that follows, which must be cut
 * short; what the MESSAGE events of a poll publish is sent before the next one. So that is where a 2.1 waits
 * for the answer to a lone message, and a 2.0 in its TICK, when the publisher has its acknowledgement. */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "broker/access.h"
#include "broker/clients.h"
#include "broker/deliver.h"
#include "broker/keeper.h"
#include "broker/lanes.h"
#include "broker/mirror.h"
#include "broker/pace.h"
#include "broker/publish.h"
#include "broker/router.h"
#include "broker/taker.h"
#include "broker/versions.h"
#include "broker/wakeup.h"
#include "options/options.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/text.h"

/* What the application has said of itself. */
struct application {
	bool has_started, has_stopped;
	char *summary; /* see broker_summary() */
};

/* What the session has said of itself. */
struct known_session {
	bool is_known;               /* whether it is up, or cannot be yet */
	bool suspends, is_suspended; /* see broker_suspend() */
};

struct broker {
	const struct options *options;
	const struct versions_traits *traits;
	struct queue *inbound;
	struct queue *outbound;
	struct wakeup *wakeup;
	struct router *router;
	struct lanes *lanes;
	struct clients *clients;
	struct statistics *statistics;
	struct mirror *mirror; /* NULL: no broker is mirrored */
	struct keeper *keeper; /* NULL: no durable inbox */
	struct access access;
	struct taker taker;
	struct pace pace;
	struct log_complaint publish_refused;
	struct message *kicks, **last_kick; /* see put_off_kick(); the end of their list */
	const char *kicked_id;              /* while it is disconnected, until the broker tells that it is gone */
	bool owes_writable;                 /* MESSAGE_WRITABLE, for which there was no memory yet */
	struct application application;
	struct known_session session;
	bool is_over;    /* see broker_end() */
	uint64_t unsent; /* what consumers have published since */
};

struct broker *broker_new(const struct options *options, struct queue *inbound, struct queue *outbound,
		struct wakeup *wakeup, struct lanes *lanes, struct clients *clients, struct statistics *statistics)
{
	struct broker *broker = calloc(1, sizeof(*broker));

	if (!broker) {
		return NULL;
	}
	broker->router = router_new(options, inbound, lanes, clients, statistics);
	broker->mirror = options->mirror ? mirror_new(options->mirror) : NULL;
	if (!broker->router || (options->mirror && !broker->mirror)) {
		broker_free(broker);
		return NULL;
	}
	broker->options = options;
	broker->inbound = inbound;
	broker->outbound = outbound;
	broker->wakeup = wakeup;
	broker->lanes = lanes;
	broker->clients = clients;
	broker->statistics = statistics;
	broker->last_kick = &broker->kicks;
	pace_init(&broker->pace);
	pace_set_spin(&broker->pace, options->spin_us);
	broker->traits = versions_traits();
	return broker;
}

void broker_free(struct broker *broker)
{
	struct message *kick;

	if (!broker) {
		return;
	}
	while ((kick = broker->kicks)) {
		broker->kicks = kick->next;
		message_free(kick);
	}
	router_free(broker->router);
	mirror_free(broker->mirror);
	free(broker->application.summary);
	free(broker);
}

bool broker_adopt(struct broker *broker, const struct options *options)
{
	const struct message_of_options of_python = {
		.verbosity = options->verbosity, .log_lines = options->log_lines};

	/* Behind the messages that wait: what they log is logged as it was. */
	if (!queue_tell(broker->inbound, message_options(&of_python))) {
		return false;
	}
	queue_set_limits(broker->inbound, options->queue_size, options->queue_bytes);
	queue_set_limits(broker->outbound, options->queue_size, options->queue_bytes);
	pace_set_spin(&broker->pace, options->spin_us);
	router_adopt(broker->router, options);
	keeper_adopt(broker->keeper, options);
	return true;
}

void broker_set_access(struct broker *broker, const struct access *access)
{
	broker->access = *access;
}

void broker_rules_change(struct broker *broker)
{
	access_rules_change(&broker->access);
}

void broker_use_keeper(struct broker *broker, struct keeper *keeper)
{
	broker->keeper = keeper;
	router_use_keeper(broker->router, keeper);
}

void broker_use_reader(struct broker *broker, const struct properties_reader *reader)
{
	router_use_reader(broker->router, reader);
}

static void answer(struct broker *broker, const struct message *command, int rc)
{
	uint64_t sequence = command->as.request.sequence;

	if (sequence && !queue_tell(broker->inbound, message_answer(sequence, rc))) {
		log_line(MOSQ_LOG_ERR,
				"No memory: the application waits for an answer about '" DELIVER_TOPIC "' in vain.",
				command->topic);
	}
}

static const char *why_refused(int rc)
{
	switch (rc) {
	case MOSQ_ERR_NOMEM:
		return "no memory";
	case MOSQ_ERR_PAYLOAD_SIZE:
		return "its payload is larger than MQTT can carry";
	default:
		return "it does not accept the topic, QoS or properties";
	}
}

static void carry_out_publish(struct broker *broker, const struct message *message)
{
	const struct message_content content = message_content(message);
	int rc = publish_message(NULL, &content, message->as.publish.qos, message->as.publish.retain);
	uint64_t times;

	if (rc == MOSQ_ERR_SUCCESS) {
		statistics_add(broker->statistics, STATISTICS_SENT, 1);
		mirror_note(broker->mirror, message->topic, message->as.publish.retain, message->payload_length == 0);
		router_route_own(broker->router, message);
		return;
	}
	statistics_add(broker->statistics, STATISTICS_REFUSED, 1);
	if (log_may_complain(&broker->publish_refused, 1, &times)) {
		log_line(MOSQ_LOG_ERR,
				"%llu publishes refused by the broker, the last on topic '" DELIVER_TOPIC "': %s",
				(unsigned long long)times, message->topic, why_refused(rc));
	}
}

static void carry_out_request(struct broker *broker, const struct message *message)
{
	bool answers;
	int rc = message->kind == MESSAGE_SUBSCRIBE ? router_subscribe(broker->router, message, &answers)
												: router_unsubscribe(broker->router, message, &answers);

	if (!answers) {
		answer(broker, message, rc);
	}
}

/* After broker_end(). */
static void put_aside(struct broker *broker, const struct message *message)
{
	broker->unsent += message->kind == MESSAGE_PUBLISH;
	/* So that no consumer waits for it: nothing will come that it could miss. */
	if (message->kind == MESSAGE_SUBSCRIBE || message->kind == MESSAGE_UNSUBSCRIBE ||
			message->kind == MESSAGE_WATCH || message->kind == MESSAGE_UNWATCH ||
			message->kind == MESSAGE_KICK) {
		answer(broker, message, MOSQ_ERR_SUCCESS);
	}
}

static void hear_of_session(struct broker *broker, const struct message *word)
{
	bool is_up = word->as.session.is_up;

	lanes_set_session(broker->lanes, is_up);
	broker->session.is_suspended = broker->session.suspends && !is_up;
	if (is_up) {
		taker_session_up(&broker->taker);
	}
}

/* A connection with the session's client id is gone: the session's own, or one that took its place, or that
 * of somebody who was not let in. The session's thread knows, and says so. */
static void session_connection_gone(struct broker *broker, const struct mosquitto *connection)
{
	struct message *gone = message_connection_gone(taker_took(connection));
	const char *taker = taker_connection_gone(&broker->taker, connection, lanes_has_session(broker->lanes));

	if (taker) {
		log_line(MOSQ_LOG_WARNING, "Who connected with the session's client id '%.200s': %s.",
				options_session_id(broker->options), taker);
	}
	lanes_set_session(broker->lanes, false); /* earlier than the session's own word */
	broker->session.is_suspended = broker->session.suspends;
	/* Without memory for it, what the session's next connection says of itself has to do. */
	(void)lanes_tell_session(broker->lanes, gone);
}

/* Until the next TICK. What is asked for may be carried out in the MESSAGE event of that very client, with
 * whose connection the broker goes on after the event. */
static void put_off_kick(struct broker *broker, const struct message *kick)
{
	struct message *copy = message_copy(kick);

	if (!copy) {
		answer(broker, kick, MOSQ_ERR_NOMEM);
		return;
	}
	*broker->last_kick = copy;
	broker->last_kick = &copy->next;
}

/* Mosquitto finds a client that is offline with a kept session, too, and does nothing. One by websockets it
 * may end later; of such a one what is known of clients has to do. */
static int carry_out_kick(struct broker *broker, const char *client_id)
{
	bool is_gone;
	int rc;

	if (strcmp(client_id, options_session_id(broker->options)) == 0) {
		return MOSQ_ERR_INVAL; /* without its connection the application would miss messages */
	}
	broker->kicked_id = client_id;
	/* With the will: without it, Mosquitto 2.0.11 frees an MQTT 5 client that is offline and goes on to use
	 * it. */
	rc = mosquitto_kick_client_by_clientid(client_id, true);
	is_gone = !broker->kicked_id;
	broker->kicked_id = NULL;
	if (rc == MOSQ_ERR_SUCCESS && !is_gone && !clients_has(broker->clients, client_id)) {
		return MOSQ_ERR_NOT_FOUND;
	}
	return rc;
}

/* The broker tells within each that the client is gone (broker_on_disconnect()), and sends its last will, for
 * which it asks about access. All that is as it is in a poll, if it is done before the turn ends
 * (lanes_tick()). */
static void carry_out_kicks(struct broker *broker)
{
	struct message *kick = broker->kicks, *next;

	broker->kicks = NULL;
	broker->last_kick = &broker->kicks;
	for (; kick; kick = next) {
		next = kick->next;
		answer(broker, kick, carry_out_kick(broker, kick->topic));
		message_free(kick);
	}
}

/* What needs no clients. */
static bool goes_on_to_the_end(enum message_kind kind)
{
	switch (kind) {
	case MESSAGE_LOG:
	case MESSAGE_STARTED:
	case MESSAGE_STOPPED:
	case MESSAGE_DONE:
	case MESSAGE_FAILED:
	case MESSAGE_STORE:
		return true;
	default:
		return false;
	}
}

static void carry_out(struct broker *broker, const struct message *message)
{
	if (broker->is_over && !goes_on_to_the_end(message->kind)) {
		put_aside(broker, message);
		return;
	}
	switch (message->kind) {
	case MESSAGE_PUBLISH:
		carry_out_publish(broker, message);
		break;
	case MESSAGE_SUBSCRIBE:
	case MESSAGE_UNSUBSCRIBE:
		carry_out_request(broker, message);
		break;
	case MESSAGE_WATCH:
		answer(broker, message, clients_watch(broker->clients, message->as.request.consumer));
		router_tell_of_clients(broker->router);
		break;
	case MESSAGE_UNWATCH:
		clients_unwatch(broker->clients, message->as.request.consumer);
		answer(broker, message, MOSQ_ERR_SUCCESS);
		break;
	case MESSAGE_KICK:
		put_off_kick(broker, message);
		break;
	case MESSAGE_SETTLED:
		free(broker->application.summary);
		broker->application.summary = text_copy(message->topic, message->topic_length);
		(void)lanes_tell_session(broker->lanes, message_copy(message));
		break;
	case MESSAGE_SUSPEND:
		(void)lanes_tell_session(broker->lanes, message_copy(message));
		break;
	case MESSAGE_SESSION:
		broker->session.is_known = true;
		hear_of_session(broker, message);
		break;
	case MESSAGE_FENCE:
		lanes_fence(broker->lanes, message->as.fence.number);
		break;
	case MESSAGE_CONSUMER:
	case MESSAGE_CONSUMER_GONE:
	case MESSAGE_DONE:
	case MESSAGE_FAILED:
		keeper_carry_out(broker->keeper, message);
		break;
	case MESSAGE_STORE:
		keeper_store(broker->keeper, message);
		break;
	case MESSAGE_LOG:
		log_text(message->as.log.level, message->topic, message->topic_length);
		break;
	case MESSAGE_STARTED:
		broker->application.has_started = true;
		break;
	case MESSAGE_STOPPED:
		broker->application.has_stopped = true;
		break;
	default:
		break; /* those go the other way */
	}
}

/* Does what the application asked for, up to a bound. Returns how much that was. */
static size_t drain(struct broker *broker, size_t most)
{
	struct message *message;
	size_t done;

	for (done = 0; done < most && (message = queue_take(broker->outbound)); done++) {
		carry_out(broker, message);
		if (message->kind == MESSAGE_PUBLISH || message->kind == MESSAGE_LOG) {
			queue_release(broker->outbound, message_size(message));
		}
		message_free(message);
	}
	broker->owes_writable |= done && queue_has_room_again(broker->outbound);
	if (broker->owes_writable) {
		broker->owes_writable = !queue_tell(broker->inbound, message_writable());
	}
	return done;
}

/* What is left until the next tick. Returns how much that was. */
static size_t drain_portion(struct broker *broker)
{
	size_t done = drain(broker, pace_left(&broker->pace));

	pace_spend(&broker->pace, done);
	return done;
}

int broker_on_message(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct mosquitto_evt_message *message = event_data;
	enum route route;

	(void)event;
	/* A TICK follows before the next poll, so until then nobody need wake this thread. */
	wakeup_attend(broker->wakeup);
	lanes_open(broker->lanes);
	pace_allow_answer(&broker->pace);
	lanes_next_message(broker->lanes);
	drain_portion(broker);
	route = router_route(broker->router, message);
	if (route == ROUTE_REFUSED) {
		return versions_refusal(broker->traits, message->client);
	}
	mirror_note(broker->mirror, message->topic, message->retain, message->payloadlen == 0);
	if (route == ROUTE_DIRECT) {
		pace_note_question(&broker->pace, broker->inbound);
		if (broker->traits->sends_after_poll) {
			/* In the TICK it would be too late for the answer to leave before the poll. */
			pace_wait_for_answer(&broker->pace, broker->outbound, broker->wakeup);
			drain_portion(broker);
		}
	}
	return MOSQ_ERR_SUCCESS;
}

int broker_on_tick(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	bool has_done, has_more, is_awake, is_settled;

	(void)event;
	(void)event_data;
	pace_begin_tick(&broker->pace);
	lanes_open(broker->lanes);
	carry_out_kicks(broker);
	has_done = lanes_tick(broker->lanes);
	clients_settle(broker->clients);
	router_tell_of_clients(broker->router);
	pace_wait_for_answer(&broker->pace, broker->outbound, broker->wakeup);
	has_done |= drain_portion(broker) > 0;
	is_settled = wakeup_settle_unless_busy(broker->wakeup);
	if (!queue_is_empty(broker->outbound)) {
		has_done |= drain_portion(broker) > 0;
	}
	is_awake = !queue_is_empty(broker->outbound) || broker->kicks;
	has_more = keeper_tick(broker->keeper);
	if (has_more || is_awake || (has_done && is_settled && broker->traits->sends_after_poll)) {
		wakeup_insist(broker->wakeup);
	}
	pace_end_tick(&broker->pace, is_awake);
	return MOSQ_ERR_SUCCESS;
}

static bool is_session(const struct broker *broker, const struct mosquitto *client)
{
	const char *client_id = mosquitto_client_id(client);

	return client_id && strcmp(client_id, options_session_id(broker->options)) == 0;
}

int broker_on_login(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct mosquitto_evt_basic_auth *login = event_data;

	(void)event;
	clients_logs_in(broker->clients, login->client);
	return MOSQ_ERR_PLUGIN_DEFER;
}

int broker_on_connect(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct evt_connect *connect = event_data;

	(void)event;
	clients_connected(broker->clients, connect->client);
	router_tell_of_clients(broker->router);
	return MOSQ_ERR_SUCCESS;
}

static void on_forgotten(void *userdata, const char *topic)
{
	router_hide(userdata, topic);
}

int broker_on_disconnect(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct mosquitto_evt_disconnect *gone = event_data;
	int reason = versions_reason(broker->traits, gone->reason);
	enum message_fate fate;

	lanes_next_message(broker->lanes);
	/* A session that the broker has read from its file has never had an address. */
	if (broker->kicked_id && text_equal(broker->kicked_id, mosquitto_client_id(gone->client)) &&
			mosquitto_client_address(gone->client)) {
		broker->kicked_id = NULL;
	}
	if (!mosquitto_client_id(gone->client)) {
		/* 2.0 tells also of connections without a CONNECT, or that were not let in. There is no will, and
		 * nothing to wait for. */
		clients_disconnected(broker->clients, gone->client, reason, MESSAGE_FATE_UNKNOWN);
		return MOSQ_ERR_SUCCESS;
	}
	mirror_client_gone(broker->mirror, mosquitto_client_id(gone->client), on_forgotten, broker->router);
	lanes_hold_for_client(broker->lanes, gone->client, broker->traits->ends_clients_late);
	fate = versions_fate(broker->traits, gone->client, event, reason,
			clients_began_clean(broker->clients, gone->client));
	clients_disconnected(broker->clients, gone->client, reason, fate);
	router_tell_of_clients(broker->router);
	if (is_session(broker, gone->client)) {
		session_connection_gone(broker, gone->client);
	} else {
		lanes_hold_for_will(broker->lanes, broker->traits->ends_clients_late);
	}
	return MOSQ_ERR_SUCCESS;
}

int broker_on_access(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct mosquitto_evt_acl_check *access = event_data;

	(void)event;
	if (access->access != MOSQ_ACL_READ) {
		lanes_next_message(broker->lanes);
	}
	if (!is_session(broker, access->client)) {
		return access_undecided(&broker->access, broker->traits);
	}
	if (access->access != MOSQ_ACL_READ) {
		/* Its SUBSCRIBE, before any copy. The broker does not ask where the session uses a listener for which
		 * this plugin is not loaded (per_listener_settings). */
		if (lanes_refuse_copies(broker->lanes)) {
			log_line(MOSQ_LOG_INFO, "The session gets no copies of what consumers hear without it.");
		}
	} else if (router_is_copy(broker->router, access)) {
		return MOSQ_ERR_ACL_DENIED;
	}
	return access_undecided(&broker->access, broker->traits);
}

void broker_suspend(struct broker *broker)
{
	if (!broker->options->cleansession && lanes_has_session(broker->lanes)) {
		broker->session.suspends = lanes_tell_session(broker->lanes, message_suspend(true));
	}
	/* With a durable inbox it is stored, and so handled once. */
	if (broker->session.suspends && !broker->keeper) {
		router_close(broker->router);
	}
}

bool broker_is_suspending(const struct broker *broker)
{
	return broker->session.suspends && !broker->session.is_suspended;
}

void broker_end(struct broker *broker)
{
	broker->is_over = true;
	access_rules_change(&broker->access);
}

uint64_t broker_unsent(const struct broker *broker)
{
	return broker->unsent;
}

const char *broker_summary(const struct broker *broker)
{
	return broker->application.summary;
}

bool broker_knows_session(const struct broker *broker)
{
	return broker->session.is_known;
}

bool broker_has_stopped(const struct broker *broker)
{
	return broker->application.has_stopped;
}

bool broker_wait(struct broker *broker, enum message_kind kind, unsigned int milliseconds)
{
	const bool *came =
			kind == MESSAGE_STARTED ? &broker->application.has_started : &broker->application.has_stopped;
	uint64_t deadline = now_ns() + (uint64_t)milliseconds * 1000000U, now;
	size_t done;

	for (;;) {
		wakeup_settle(broker->wakeup);
		/* An application that publishes without an end must not hold up the end of the wait. */
		do {
			done = drain(broker, PACE_PORTION_MAX);
			now = now_ns();
		} while (done && !*came && now < deadline);
		if (*came || broker->application.has_stopped) {
			if (done && !broker->application.has_stopped) {
				wakeup_insist(broker->wakeup); /* the rest is the first tick's */
			}
			return *came;
		}
		if (now >= deadline) {
			return false;
		}
		wakeup_wait(broker->wakeup, (unsigned int)((deadline - now) / 1000000U + 1));
	}
}
