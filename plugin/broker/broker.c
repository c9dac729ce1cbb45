/* DESIGN
 * In:  MESSAGE event -> topics_match() -> one message with all its recipients -> inbound queue.
 * Out: outbound queue -> drain(), called from every callback -> mosquitto_broker_publish(), and in again, so that
 *      consumers hear each other.
 *
 * Mosquitto 2.0 runs  [send what plugins published] poll, TICK;
 * Mosquitto 2.1 runs  [send what plugins published] TICK, poll.
 * What the TICK of a 2.1 publishes is therefore sent only after the poll that follows, which must be cut short. */
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/clients.h"
#include "broker/lanes.h"
#include "broker/mirror.h"
#include "broker/pace.h"
#include "broker/publish.h"
#include "broker/taker.h"
#include "broker/versions.h"
#include "broker/wakeup.h"
#include "options/options.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/text.h"
#include "shared/topics.h"

/* In a format: as much of a topic (which may have 65,535 bytes) as leaves room for the sentence around it. */
#define TOPIC "%.400s"

struct broker {
	const struct options *options;
	const struct versions_traits *traits;
	struct queue *inbound;
	struct queue *outbound;
	struct wakeup *wakeup;
	struct topics *topics;
	struct lanes *lanes;
	struct clients *clients;
	struct statistics *statistics;
	struct mirror *mirror; /* NULL: no broker is mirrored */
	struct taker taker;
	struct properties_reader reader;
	bool reads_properties;
	struct text properties;  /* of the message that is being dealt with */
	struct pace pace;
	size_t queue_size, queue_bytes; /* each queue's bounds */
	struct log_complaint inbound_full;
	struct log_complaint no_memory;
	struct log_complaint publish_refused;
	bool owes_writable;      /* MESSAGE_WRITABLE, for which there was no memory yet */
	bool started, stopped;
	bool may_hint;           /* see hint_about_slash() */
	bool suspends, is_suspended; /* see broker_suspend() */
	char *summary;           /* see broker_summary() */
	bool knows_session;
	bool is_over;            /* see broker_end() */
	uint64_t unsent;         /* what consumers have published since */
};

/* The options that are numbers and can change. */
static void set_numbers(struct broker *broker, const struct options *options)
{
	pace_set_spin(&broker->pace, options->spin_us);
	broker->queue_size = options->queue_size;
	broker->queue_bytes = options->queue_bytes;
	broker->may_hint = options->verbosity > 0;
}

struct broker *broker_new(const struct options *options, struct queue *inbound, struct queue *outbound,
		struct wakeup *wakeup, struct lanes *lanes, struct clients *clients, struct statistics *statistics)
{
	struct broker *broker = calloc(1, sizeof(*broker));

	if (!broker) {
		return NULL;
	}
	broker->topics = topics_new();
	broker->mirror = options->mirror ? mirror_new(options->mirror) : NULL;
	if (!broker->topics || (options->mirror && !broker->mirror)) {
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
	pace_init(&broker->pace);
	set_numbers(broker, options);
	broker->traits = versions_traits();
	return broker;
}

void broker_free(struct broker *broker)
{
	if (!broker) {
		return;
	}
	topics_free(broker->topics);
	mirror_free(broker->mirror);
	text_free(&broker->properties);
	free(broker->summary);
	free(broker);
}

bool broker_adopt(struct broker *broker, const struct options *options)
{
	/* Behind the messages that wait: what they log is logged as it was. */
	if (!queue_tell(broker->inbound, message_verbosity(options->verbosity))) {
		return false;
	}
	queue_set_limits(broker->inbound, options->queue_size, options->queue_bytes);
	queue_set_limits(broker->outbound, options->queue_size, options->queue_bytes);
	set_numbers(broker, options);
	return true;
}

void broker_read_properties(struct broker *broker, const struct properties_reader *reader)
{
	broker->reader = *reader;
	broker->reads_properties = true;
}

/* Puts a message into the inbound queue, or not; adds to *dropped how many others made room for it. */
static bool push(struct broker *broker, struct message *message, size_t *dropped)
{
	if (broker->options->overload == OPTIONS_DROP_OLDEST) {
		return queue_push_dropping(broker->inbound, message, dropped);
	}
	return queue_push(broker->inbound, message);
}

static void complain_of_overload(struct broker *broker, size_t dropped, const char *topic)
{
	const char *which = broker->options->overload == OPTIONS_DROP_OLDEST ? "oldest" : "newest";
	uint64_t times;

	if (log_may_complain(&broker->inbound_full, dropped, &times)) {
		log_line(MOSQ_LOG_WARNING,
				"%llu messages for consumers dropped, the %s first: the queue is full. The last that came was %s" TOPIC
				"%s. The application is slower than its messages; queue_size (%zu) and queue_bytes (%zu) bound what may wait.",
				(unsigned long long)times, which, topic ? "on topic '" : "about a client that came or went", topic ? topic : "",
				topic ? "'" : "", broker->queue_size, broker->queue_bytes);
	}
}

/* Owns message from here on; once it is pushed, the loop thread may have freed it. topic: its topic in the caller's memory,
 * for the log; NULL: it has none. Returns whether consumers will get it. */
static bool hand_over(struct broker *broker, struct message *message, const char *topic)
{
	uint64_t times;
	size_t dropped = 0;

	if (!message) {
		statistics_add(broker->statistics, STATISTICS_DROPPED_MEMORY, 1);
		if (log_may_complain(&broker->no_memory, 1, &times)) {
			log_line(MOSQ_LOG_WARNING, "%llu messages for consumers dropped: no memory.", (unsigned long long)times);
		}
		return false;
	}
	if (push(broker, message, &dropped)) {
		message = NULL;
		statistics_add(broker->statistics, STATISTICS_RECEIVED, 1);
	} else {
		dropped++;
	}
	if (dropped) {
		statistics_add(broker->statistics, STATISTICS_DROPPED_QUEUE, dropped);
		complain_of_overload(broker, dropped, topic);
	}
	if (message) {
		message_free(message);
		return false;
	}
	return true;
}

/* Tells those who watch clients. */
static void tell_of_clients(struct broker *broker)
{
	struct message *message;

	while ((message = clients_take(broker->clients))) {
		(void)hand_over(broker, message, NULL);
	}
}

/* Reads the broker's list for a content, which is valid until end_properties(). False: no memory. */
static bool read_properties(
		struct broker *broker, const mosquitto_property *list, struct message_content *content)
{
	if (list && broker->reads_properties) {
		properties_read(&broker->reader, list, &broker->properties);
		content->properties = broker->properties.data;
		content->properties_length = broker->properties.length;
	}
	return !broker->properties.failed;
}

static void end_properties(struct broker *broker)
{
	broker->properties.length = 0;
	if (broker->properties.failed || broker->properties.capacity > PROPERTIES_ROOM) {
		text_free(&broker->properties);
	}
}

/* Hands a client's message to those who hear it, unless it is left to the session. Returns whether they get it so. */
static bool hand_over_direct(struct broker *broker, const struct mosquitto_evt_message *event,
		const struct recipient *recipients, size_t count)
{
	struct lanes_message published = {
			.content = {event->topic, strlen(event->topic), event->payload, event->payloadlen, NULL, 0},
			.qos = event->qos,
			.retain = event->retain,
			.list = event->properties,
			.connection = event->client,
			.client = clients_publisher(broker->clients, event->client)};
	struct message *message;
	enum lane lane;

	published.is_incomplete = !read_properties(broker, event->properties, &published.content);
	tell_of_clients(broker);
	lane = lanes_choose(broker->lanes, &published, recipients, count, &message);
	end_properties(broker);
	if (message) {
		message->client = published.client;
	} else {
		client_release(published.client);
	}
	return lane == LANE_DIRECT && hand_over(broker, message, event->topic);
}

/* A slash too many at the beginning is a frequent mistake, and silent: `/kitchen` and `kitchen` are two topics (MQTT 5,
 * 4.7.3). Said once, at verbosity 1, and only as long as no topic with such a slash has been heard: then it is meant. */
static void hint_about_slash(struct broker *broker, const char *topic)
{
	const struct recipient *recipients;
	size_t count = 0;

	if (*topic == '/' && topic[1]) {
		topics_match(broker->topics, topic + 1, &recipients, &count);
	}
	if (count > 0) {
		log_line(MOSQ_LOG_INFO, "No consumer hears the topic '" TOPIC "', but one would without the slash at its beginning: "
				"with it, it is another topic. Publish without it, or subscribe with it.", topic);
	} else if (*topic != '/' && *topic != '$' && topics_would_hear_with_slash(broker->topics, topic)) {
		log_line(MOSQ_LOG_INFO, "No consumer hears the topic '" TOPIC "', but one has a filter that begins with a slash and would "
				"hear '/" TOPIC "', which is another topic. Subscribe without the slash.", topic, topic);
	} else {
		return;
	}
	broker->may_hint = false;
}

/* Hands a client's message to every consumer that asked for it. Returns whether one did and it went the direct lane. */
static bool route(struct broker *broker, const struct mosquitto_evt_message *event)
{
	const struct recipient *recipients;
	size_t count;

	topics_match(broker->topics, event->topic, &recipients, &count);
	if (broker->may_hint && count > 0 && *event->topic == '/') {
		broker->may_hint = false;
	} else if (broker->may_hint && count == 0) {
		hint_about_slash(broker, event->topic);
	}
	return count > 0 && !broker->suspends && hand_over_direct(broker, event, recipients, count);
}

/* Hands what a consumer publishes to all, itself included. */
static void route_own(struct broker *broker, const struct message *publish)
{
	const struct lanes_message published = {
			.content = {publish->topic, publish->topic_length, publish->payload, publish->payload_length,
					publish->properties, publish->properties_length},
			.qos = publish->as.publish.qos,
			.retain = publish->as.publish.retain};
	const struct recipient *recipients;
	struct message *message;
	size_t count;

	topics_match(broker->topics, publish->topic, &recipients, &count);
	if (count == 0 || broker->suspends) {
		return;
	}
	lanes_publishes(broker->lanes, &published);
	message = message_publish(&published.content, recipients, count);
	if (message) {
		message->as.publish.qos = publish->as.publish.qos;
		message->as.publish.retain = publish->as.publish.retain;
		message_leave_out(message, publish->as.publish.publisher);
		if (message->recipient_count == 0) {
			message_free(message);
			return;
		}
	}
	(void)hand_over(broker, message, publish->topic);
}

static void answer(struct broker *broker, const struct message *command, int rc)
{
	uint64_t sequence = command->as.request.sequence;

	if (sequence && !queue_tell(broker->inbound, message_answer(sequence, rc))) {
		log_line(MOSQ_LOG_ERR, "No memory: a consumer waits for its subscription to '" TOPIC "' in vain.",
				command->topic);
	}
}

static void carry_out_publish(struct broker *broker, const struct message *message)
{
	const struct message_content content = {message->topic, message->topic_length, message->payload, message->payload_length,
			message->properties, message->properties_length};
	int rc = publish_message(NULL, &content, message->as.publish.qos, message->as.publish.retain);
	uint64_t times;

	if (rc == MOSQ_ERR_SUCCESS) {
		statistics_add(broker->statistics, STATISTICS_SENT, 1);
		mirror_note(broker->mirror, message->topic, message->as.publish.retain, message->payload_length == 0);
		route_own(broker, message);
		return;
	}
	statistics_add(broker->statistics, STATISTICS_REFUSED, 1);
	if (log_may_complain(&broker->publish_refused, 1, &times)) {
		log_line(MOSQ_LOG_ERR, "%llu publishes refused by the broker, the last on topic '" TOPIC "': %s",
				(unsigned long long)times, message->topic,
				rc == MOSQ_ERR_NOMEM ? "no memory" : "it does not accept the topic, QoS or properties");
	}
}

static void unsubscribe(struct broker *broker, const struct message *message)
{
	int rc = MOSQ_ERR_SUCCESS, of_session;
	bool answers;

	if (!topics_is_shared(message->topic)) {
		rc = topics_remove(broker->topics, message->as.request.consumer, message->topic);
	}
	of_session = lanes_command(broker->lanes, message, false, &answers);
	if (!answers) {
		answer(broker, message, rc != MOSQ_ERR_SUCCESS ? rc : of_session);
	}
}

static void subscribe(struct broker *broker, const struct message *message)
{
	bool is_new = topics_qos(broker->topics, message->as.request.consumer, message->topic) < 0;
	int rc = MOSQ_ERR_SUCCESS;
	bool answers = false;

	/* Those that share come through the session alone: the broker decides who gets which message. */
	if (!topics_is_shared(message->topic)) {
		rc = topics_add(broker->topics, message->as.request.consumer, message->topic, message->as.request.options);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = lanes_command(broker->lanes, message, is_new, &answers);
		if (rc != MOSQ_ERR_SUCCESS && is_new && !topics_is_shared(message->topic)) {
			(void)topics_remove(broker->topics, message->as.request.consumer, message->topic);
		}
	}
	if (!answers) {
		answer(broker, message, rc);
	}
}

/* After broker_end(). */
static void put_aside(struct broker *broker, const struct message *message)
{
	broker->unsent += message->kind == MESSAGE_PUBLISH;
	/* So that no consumer waits for it: nothing will come that it could miss. */
	if (message->kind == MESSAGE_SUBSCRIBE || message->kind == MESSAGE_UNSUBSCRIBE || message->kind == MESSAGE_WATCH) {
		answer(broker, message, MOSQ_ERR_SUCCESS);
	}
}

static void hear_of_session(struct broker *broker, const struct message *word)
{
	bool is_up = word->as.session.is_up;

	lanes_set_session(broker->lanes, is_up);
	broker->is_suspended = broker->suspends && !is_up;
	if (is_up) {
		taker_session_up(&broker->taker);
	}
}

/* A connection with the session's client id is gone: the session's own, or one that took its place, or that of somebody
 * who was not let in. The session's thread knows, and says so. */
static void session_connection_gone(struct broker *broker, const struct mosquitto *connection)
{
	struct message *gone = message_connection_gone(taker_took(connection));
	const char *taker = taker_connection_gone(&broker->taker, connection, lanes_has_session(broker->lanes));

	if (taker) {
		log_line(MOSQ_LOG_WARNING, "Who connected with the session's client id '%.200s': %s.",
				options_session_id(broker->options), taker);
	}
	lanes_set_session(broker->lanes, false); /* earlier than the session's own word */
	broker->is_suspended = broker->suspends;
	/* Without memory for it, what the session's next connection says of itself has to do. */
	(void)lanes_tell_session(broker->lanes, gone);
}

static void carry_out(struct broker *broker, const struct message *message)
{
	if (broker->is_over && message->kind != MESSAGE_LOG && message->kind != MESSAGE_STARTED && message->kind != MESSAGE_STOPPED) {
		put_aside(broker, message);
		return;
	}
	switch (message->kind) {
	case MESSAGE_PUBLISH:
		carry_out_publish(broker, message);
		break;
	case MESSAGE_SUBSCRIBE:
		subscribe(broker, message);
		break;
	case MESSAGE_UNSUBSCRIBE:
		unsubscribe(broker, message);
		break;
	case MESSAGE_WATCH:
		answer(broker, message, clients_watch(broker->clients, message->as.request.consumer));
		tell_of_clients(broker);
		break;
	case MESSAGE_UNWATCH:
		clients_unwatch(broker->clients, message->as.request.consumer);
		break;
	case MESSAGE_SETTLED:
		free(broker->summary);
		broker->summary = text_copy(message->topic, message->topic_length);
		(void)lanes_tell_session(broker->lanes, message_copy(message));
		break;
	case MESSAGE_SUSPEND:
		(void)lanes_tell_session(broker->lanes, message_copy(message));
		break;
	case MESSAGE_SESSION:
		broker->knows_session = true;
		hear_of_session(broker, message);
		break;
	case MESSAGE_FENCE:
		lanes_fence(broker->lanes, message->as.fence.number);
		break;
	case MESSAGE_LOG:
		log_text(message->as.log.level, message->topic, message->topic_length);
		break;
	case MESSAGE_STARTED:
		broker->started = true;
		break;
	case MESSAGE_STOPPED:
		broker->stopped = true;
		break;
	case MESSAGE_CONNECT:
	case MESSAGE_DISCONNECT:
	case MESSAGE_ANSWER:
	case MESSAGE_WRITABLE:
	case MESSAGE_HOLD:
	case MESSAGE_RELEASE:
	case MESSAGE_HOLD_CONSUMER:
	case MESSAGE_RELEASE_CONSUMER:
	case MESSAGE_VERBOSITY:
	case MESSAGE_STOP:
	case MESSAGE_LISTENING:
	case MESSAGE_PUBLISHER:
	case MESSAGE_CONNECTION_GONE:
	case MESSAGE_END:
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
	if (done && queue_has_room_again(broker->outbound)) {
		broker->owes_writable = true;
	}
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

	(void)event;
	/* A TICK follows before the next poll, so until then nobody need wake this thread. */
	wakeup_attend(broker->wakeup);
	lanes_open(broker->lanes);
	pace_allow_answer(&broker->pace);
	drain_portion(broker);
	lanes_next_message(broker->lanes);
	mirror_note(broker->mirror, message->topic, message->retain, message->payloadlen == 0);
	if (route(broker, message)) {
		pace_note_question(&broker->pace, broker->inbound);
	}
	return MOSQ_ERR_SUCCESS;
}

int broker_on_tick(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	bool has_done, is_awake;

	(void)event;
	(void)event_data;
	pace_begin_tick(&broker->pace);
	lanes_open(broker->lanes);
	has_done = lanes_tick(broker->lanes);
	clients_settle(broker->clients);
	tell_of_clients(broker);
	pace_wait_for_answer(&broker->pace, broker->outbound, broker->wakeup);
	has_done |= drain_portion(broker) > 0;
	wakeup_settle(broker->wakeup);
	if (!queue_is_empty(broker->outbound)) {
		has_done |= drain_portion(broker) > 0;
	}
	is_awake = !queue_is_empty(broker->outbound);
	if (is_awake || (has_done && broker->traits->sends_after_poll)) {
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
	tell_of_clients(broker);
	return MOSQ_ERR_SUCCESS;
}

/* The session gets a copy of what was published for the mirror, which is not for consumers. */
static void on_forgotten(void *userdata, const char *topic)
{
	struct broker *broker = userdata;
	const struct lanes_message published = {.content = {.topic = topic, .topic_length = strlen(topic)}, .retain = true};
	const struct recipient *recipients;
	size_t count;

	topics_match(broker->topics, topic, &recipients, &count);
	if (count) {
		lanes_publishes(broker->lanes, &published);
	}
}

int broker_on_disconnect(int event, void *event_data, void *userdata)
{
	struct broker *broker = userdata;
	const struct mosquitto_evt_disconnect *gone = event_data;
	int reason = versions_reason(broker->traits, gone->reason);
	enum message_fate fate;

	if (!mosquitto_client_id(gone->client)) {
		/* 2.0 tells also of connections without a CONNECT, or that were not let in. There is no will, and nothing to wait for. */
		clients_disconnected(broker->clients, gone->client, reason, MESSAGE_FATE_UNKNOWN);
		return MOSQ_ERR_SUCCESS;
	}
	mirror_client_gone(broker->mirror, mosquitto_client_id(gone->client), on_forgotten, broker);
	lanes_client_goes(broker->lanes, gone->client, broker->traits->ends_clients_late);
	fate = versions_fate(broker->traits, gone->client, event, reason, clients_began_clean(broker->clients, gone->client));
	clients_disconnected(broker->clients, gone->client, reason, fate);
	tell_of_clients(broker);
	if (is_session(broker, gone->client)) {
		session_connection_gone(broker, gone->client);
	} else {
		lanes_client_gone(broker->lanes, broker->traits->ends_clients_late);
	}
	return MOSQ_ERR_SUCCESS;
}

/* Whether what the broker is about to send to the session went the direct lane. */
static bool is_copy(struct broker *broker, const struct mosquitto_evt_acl_check *access)
{
	struct lanes_message message = {
			.content = {access->topic, strlen(access->topic), access->payload, access->payloadlen, NULL, 0},
			.qos = access->qos,
			.retain = access->retain,
			.list = access->properties};
	bool is_own;

	if (lanes_is_copy(broker->lanes, &message)) {
		return true;
	}
	if (!lanes_has_published(broker->lanes)) {
		return false;
	}
	is_own = read_properties(broker, access->properties, &message.content) &&
			lanes_is_own_copy(broker->lanes, &message);
	end_properties(broker);
	return is_own;
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
		return PLUGIN_IGNORE;
	}
	if (access->access != MOSQ_ACL_READ) {
		/* Its SUBSCRIBE, before any copy. The broker does not ask where the session uses a listener for which this
		 * plugin is not loaded (per_listener_settings). */
		lanes_refuse_copies(broker->lanes);
	} else if (is_copy(broker, access)) {
		return MOSQ_ERR_ACL_DENIED;
	}
	return PLUGIN_IGNORE;
}

void broker_suspend(struct broker *broker)
{
	if (!broker->options->cleansession && lanes_has_session(broker->lanes)) {
		broker->suspends = lanes_tell_session(broker->lanes, message_suspend(true));
	}
}

bool broker_is_suspending(const struct broker *broker)
{
	return broker->suspends && !broker->is_suspended;
}

void broker_end(struct broker *broker)
{
	broker->is_over = true;
}

uint64_t broker_unsent(const struct broker *broker)
{
	return broker->unsent;
}

const char *broker_summary(const struct broker *broker)
{
	return broker->summary;
}

bool broker_knows_session(const struct broker *broker)
{
	return broker->knows_session;
}

bool broker_has_stopped(const struct broker *broker)
{
	return broker->stopped;
}

bool broker_wait(struct broker *broker, enum message_kind kind, unsigned int milliseconds)
{
	const bool *came = kind == MESSAGE_STARTED ? &broker->started : &broker->stopped;
	uint64_t deadline = now_ns() + (uint64_t)milliseconds * 1000000U, now;
	size_t done;

	for (;;) {
		wakeup_settle(broker->wakeup);
		/* An application that publishes without an end must not hold up the end of the wait. */
		do {
			done = drain(broker, PACE_PORTION_MAX);
			now = now_ns();
		} while (done && !*came && now < deadline);
		if (*came || broker->stopped) {
			if (done && !broker->stopped) {
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
