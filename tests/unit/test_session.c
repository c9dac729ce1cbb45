/* session.c without its thread and without a broker: the test does what the thread's loop does, step by step,
 * and plays the broker. */
#include "cmocka_all.h"

#include <inttypes.h>

#include "session/session.c" /* NOLINT: its functions are the thread's steps */

#include "scarce_memory.h"
#include "shared/fingerprint.h"
#include "shared/marks.h"
#include "shared/queue.h"
#include "shared/topics.h"
#include "stub_clock.h"
#include "word_number.h"

/* ---- the connection's place ---- */

struct packet {
	char filter[64];
	uint32_t id; /* 0: UNSUBSCRIBE */
	uint8_t qos;
	bool retained; /* sends what is retained */
	int number;
};

static struct {
	struct packet packets[256];
	size_t count, acknowledged;
	unsigned int connects, disconnects, caught_up;
	uint32_t expiry;
	bool refuses, refuses_packets, ended_session;
	const char *reason;
} client;

struct connection *connection_new(const struct options *options,
		const struct connection_events *connection_events, void *userdata)
{
	(void)options;
	(void)connection_events;
	(void)userdata;
	return (struct connection *)&client;
}

void connection_free(struct connection *unused)
{
	(void)unused;
}

bool connection_connect(struct connection *unused, uint32_t session_expiry)
{
	(void)unused;
	client.connects++;
	client.expiry = session_expiry;
	return !client.refuses;
}

void connection_disconnect(struct connection *unused, bool end_session)
{
	(void)unused;
	client.disconnects++;
	client.ended_session = end_session;
}

int connection_socket(const struct connection *unused)
{
	(void)unused;
	return -1;
}

bool connection_wants_to_write(const struct connection *unused)
{
	(void)unused;
	return false;
}

bool connection_has_more(const struct connection *unused)
{
	(void)unused;
	return false;
}

void connection_caught_up(struct connection *unused)
{
	(void)unused;
	client.caught_up++;
}

bool connection_handle(struct connection *unused, unsigned int limit)
{
	(void)unused;
	(void)limit;
	return client.reason == NULL;
}

bool connection_was_taken_over(const struct connection *unused)
{
	(void)unused;
	return false;
}

const char *connection_reason(const struct connection *unused)
{
	(void)unused;
	return client.reason ? client.reason : "no reason";
}

static int add_packet(const char *filter, uint32_t id, uint8_t qos, bool retained)
{
	struct packet *packet = &client.packets[client.count++];

	assert_true(client.count < sizeof(client.packets) / sizeof(client.packets[0]));
	*packet = (struct packet){.id = id, .qos = qos, .retained = retained, .number = (int)client.count};
	(void)snprintf(packet->filter, sizeof(packet->filter), "%s", filter);
	return packet->number;
}

int connection_subscribe(struct connection *unused, const char *filter, uint8_t qos, uint32_t id,
		bool retained, bool flags)
{
	(void)unused;
	(void)flags;
	return client.refuses_packets ? -1 : add_packet(filter, id, qos, retained);
}

int connection_unsubscribe(struct connection *unused, const char *filter)
{
	(void)unused;
	return client.refuses_packets ? -1 : add_packet(filter, 0, 0, false);
}

/* ---- one session ---- */

static struct options options;
static struct queue *inbound, *outbound;
static struct session *session;
static long blocks;

static void ignore(void *userdata)
{
	(void)userdata;
}

static void begin(bool cleansession, unsigned int retries, size_t queue_size)
{
	blocks = scarce_memory_blocks();
	memset(&client, 0, sizeof(client));
	clock_ms = 1000000;
	options = (struct options){.host = (char *)(uintptr_t)"localhost",
		.port = 1883,
		.client_id = (char *)(uintptr_t)"me",
		.cleansession = cleansession,
		.retries = retries};
	inbound = queue_new(queue_size, 1000000, ignore, NULL);
	outbound = queue_new(1000, 1000000, ignore, NULL);
	assert_int_equal(session_new(&options, inbound, outbound, -1, &session), MOSQ_ERR_SUCCESS);
}

static int set_up(void **state)
{
	(void)state;
	begin(true, 3, 1000);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	session_free(session);
	queue_free(inbound);
	queue_free(outbound);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static void use(bool cleansession, unsigned int retries, size_t queue_size)
{
	tear_down(NULL);
	begin(cleansession, retries, queue_size);
}

static struct message *new_command(enum message_kind kind, uint64_t consumer, const char *filter,
		uint8_t options_asked, uint64_t sequence)
{
	/* Who waits for an answer was told to hold, see lanes.c. */
	const struct message_request request = {.consumer = consumer,
		.options = options_asked,
		.sequence = sequence,
		.is_held = kind == MESSAGE_SUBSCRIBE && sequence &&
				(options_asked & TOPICS_RETAIN_HANDLING) == MQTT_SUB_OPT_SEND_RETAIN_ALWAYS};

	switch (kind) {
	case MESSAGE_SUBSCRIBE:
		return message_subscribe(&request, filter, strlen(filter));
	case MESSAGE_UNSUBSCRIBE:
		return message_unsubscribe(&request, filter, strlen(filter));
	case MESSAGE_SETTLED:
		return message_settled("", 0);
	case MESSAGE_SUSPEND:
		return message_suspend(false);
	default:
		assert_int_equal(kind, MESSAGE_LISTENING);
		return message_listening();
	}
}

static void give(struct message *message)
{
	session_command(session, message);
	take_commands(session);
	if (session->suspension.why && may_suspend(session, now_ms())) {
		suspend(session);
	}
}

static void command(enum message_kind kind, uint64_t consumer, const char *filter, uint8_t qos,
		uint64_t sequence)
{
	give(new_command(kind, consumer, filter, qos, sequence));
}

static void subscribe(uint64_t consumer, const char *filter, uint8_t qos, uint64_t sequence)
{
	command(MESSAGE_SUBSCRIBE, consumer, filter, qos, sequence);
}

static void unsubscribe(uint64_t consumer, const char *filter)
{
	command(MESSAGE_UNSUBSCRIBE, consumer, filter, 0, 0);
}

static void step(void)
{
	pass_on_stalled(session);
	watch_clock(session, now_ms());
}

/* Takes what the session said to the broker thread: the number of the last fence, 0 for none, and whether it
 * is up. */
static int up = -1;
static char log_text[4096];

static uint64_t listen_to(void)
{
	struct message *message;
	uint64_t fence = 0;

	log_text[0] = '\0';
	while ((message = queue_take(outbound))) {
		switch (message->kind) {
		case MESSAGE_FENCE:
			fence = message->as.fence.number;
			break;
		case MESSAGE_SESSION:
			up = message->as.session.is_up;
			break;
		default:
			assert_int_equal(message->kind, MESSAGE_LOG);
			strncat(log_text, message->topic, sizeof(log_text) - strlen(log_text) - 1);
			queue_release(outbound, message_size(message));
			break;
		}
		message_free(message);
	}
	return fence;
}

static void broker_sends_with(const char *properties, size_t properties_length, const char *filter,
		const char *topic, const char *payload, uint8_t qos, bool retain)
{
	struct connection_message event = {.topic = topic,
		.payload = payload,
		.payload_length = strlen(payload),
		.properties = properties,
		.properties_length = properties_length,
		.subscription = filter ? filters_find(&session->subscriptions.filters, filter)->id : 0,
		.qos = qos,
		.retain = retain,
		.is_fetched = retain && session->subscriptions.retain_as_published};

	on_message(session, &event);
}

static void broker_sends(const char *filter, const char *topic, const char *payload, uint8_t qos, bool retain)
{
	broker_sends_with(NULL, 0, filter, topic, payload, qos, retain);
}

static void broker_sends_fence(uint64_t fence)
{
	char digits[24];

	(void)snprintf(digits, sizeof(digits), "%" PRIu64, fence);
	broker_sends(NULL, SESSION_FENCE_TOPIC, digits, 1, false);
}

static void broker_acknowledges(void)
{
	while (client.acknowledged < client.count) {
		const struct packet *packet = &client.packets[client.acknowledged++];

		on_acknowledged(session, packet->number, packet->qos);
	}
}

static void connect_session(bool session_present)
{
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	step();
	assert_int_equal(session->state, CONNECTING);
	on_connected(session, NULL, session_present);
	assert_int_equal(session->state, PROVING);
}

static void prove(void)
{
	unsigned int before = client.caught_up;

	broker_sends_fence(listen_to());
	assert_int_equal(session->state, SUBSCRIBING);
	assert_int_equal(client.caught_up, before + 1);
	step();
}

static void finish_round(void)
{
	broker_acknowledges();
	broker_sends_fence(listen_to());
	step();
}

/* which: the consumer's number, the answer's or the hold's. */
static void receive(enum message_kind kind, uint64_t which)
{
	struct message *message = queue_take(inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, kind);
	assert_int_equal(word_number(message), which);
	message_free(message);
}

static void receive_message(const char *topic, const char *payload, uint8_t qos, bool retain,
		uint64_t consumer)
{
	struct message *message = queue_take(inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_string_equal(message->topic, topic);
	assert_int_equal(message->payload_length, strlen(payload));
	assert_memory_equal(message->payload, payload, strlen(payload));
	assert_int_equal(message->as.publish.qos, qos);
	assert_int_equal(message->as.publish.retain, retain);
	assert_true(message->as.publish.by_session);
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, consumer);
	queue_release(inbound, message_size(message));
	message_free(message);
}

static void receive_the_rest(void)
{
	struct message *message;

	while ((message = queue_take(inbound))) {
		message_free(message);
	}
}

static void receive_nothing(void)
{
	assert_null(queue_take(inbound));
}

/* A session that is up, with nothing subscribed. */
static void start(void)
{
	connect_session(false);
	prove();
	assert_int_equal(listen_to(), 0);
	assert_int_equal(up, 1);
	receive(MESSAGE_RELEASE, SESSION_FIRST_HOLD);
	receive_nothing();
}

/* ---- the beginning ---- */

static void test_connects_when_the_listeners_are_open(void **state)
{
	(void)state;
	step();
	assert_int_equal(client.connects, 0);
	start();
	assert_int_equal(client.connects, 1);
	assert_int_equal(client.expiry, EXPIRY_S);
}

static void test_queued_messages_wait_for_their_consumers(void **state)
{
	(void)state;
	use(false, 3, 1000);
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	step();
	assert_int_equal(client.connects, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	step();
	assert_int_equal(client.connects, 1);
	assert_int_equal(client.expiry, UINT32_MAX);

	use(false, 3, 1000);
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	clock_ms += SETTLE_MS;
	step();
	assert_int_equal(client.connects, 1);
}

static void test_a_session_of_another_time_is_ended_first(void **state)
{
	(void)state;
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	step();
	on_connected(session, NULL, true);
	use_connection(session);
	assert_int_equal(client.disconnects, 1);
	assert_true(client.ended_session);
	step();
	assert_int_equal(client.connects, 2);
	on_connected(session, NULL, false);
	prove();
	assert_int_equal(session->state, UP);
}

static void test_a_listener_of_another_broker(void **state)
{
	(void)state;
	connect_session(false);
	clock_ms += FENCES_ANSWER_MS;
	step();
	assert_int_equal(session->state, WAITING);
	(void)listen_to();
	assert_non_null(strstr(log_text, "belongs to another broker"));
	receive(MESSAGE_RELEASE, SESSION_FIRST_HOLD); /* the first hold ends whatever comes of it */
}

static void test_the_first_hold_is_bounded(void **state)
{
	(void)state;
	connect_session(false);
	clock_ms += FIRST_HOLD_MS;
	step();
	receive(MESSAGE_RELEASE, SESSION_FIRST_HOLD);
	prove();
	receive_nothing();
}

static void test_tries_again_and_gives_up(void **state)
{
	(void)state;
	client.refuses = true;
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	step();
	(void)listen_to();
	assert_non_null(strstr(log_text, "No session with the listener at localhost:1883: no reason."));
	assert_non_null(strstr(log_text, "Trying again in 1 s"));
	clock_ms += 999;
	step();
	assert_int_equal(client.connects, 1);
	clock_ms += 1;
	step();
	assert_int_equal(client.connects, 2);
	clock_ms += 2000;
	step();
	assert_int_equal(client.connects, 3);
	(void)listen_to();
	assert_non_null(strstr(log_text,
			"Gave up on the session with the listener at localhost:1883 after 3 tries"));
	assert_null(session_marks(session, false));
	clock_ms += 100000;
	step();
	assert_int_equal(client.connects, 3);
	subscribe(1, "a", 0, 5);
	receive(MESSAGE_RELEASE, SESSION_FIRST_HOLD);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
}

static void lose_to_another_client(void)
{
	struct message *word = message_connection_gone(true);

	session_command(session, word);
	client.reason = "the connection was closed";
	use_connection(session);
	client.reason = NULL;
	(void)listen_to();
}

/* Whoever knows its client id can do this as often as he likes. */
static void test_another_client_that_takes_its_place_does_not_end_it(void **state)
{
	unsigned int i;

	(void)state;
	start();
	lose_to_another_client();
	assert_int_equal(up, 0);
	assert_int_equal(session->retry.taken, 1);
	assert_non_null(strstr(log_text, "another client has connected with its client id, 'me'"));
	for (i = 2; i <= 100; i++) {
		clock_ms += RETRY_TAKEN_MAX_MS;
		step();
		assert_int_equal(client.connects, i);
		if (i % 2) {
			on_connected(session, NULL, true);
			(void)listen_to();
		}
		clock_ms++;
		lose_to_another_client();
		assert_int_equal(session->retry.taken, i);
	}
	/* Not each time; no try of these has failed. */
	assert_string_equal(log_text, "");
	assert_int_equal(session->retry.failures, 0);
	clock_ms += RETRY_TAKEN_MAX_MS;
	step();
	on_connected(session, NULL, true);
	prove();
	(void)listen_to();
	assert_int_equal(up, 1);
	assert_non_null(strstr(log_text, "is back"));
	/* The pause is short again after a while. */
	clock_ms += RETRY_TAKEN_QUIET_MS;
	lose_to_another_client();
	assert_int_equal(session->retry.taken, 1);
	assert_non_null(strstr(log_text, "another client has connected"));
	clock_ms += RETRY_MS;
	step();
	assert_int_equal(client.connects, 102);
	receive_the_rest();
}

static void test_says_whether_it_is_up_when_asked(void **state)
{
	(void)state;
	start();
	up = -1;
	give(message_connection_gone(true)); /* of somebody who was not let in */
	broker_sends_fence(listen_to());
	(void)listen_to();
	assert_int_equal(up, 1);
	/* A loss after that has another reason. */
	client.reason = "the connection was closed";
	use_connection(session);
	assert_int_equal(session->retry.taken, 0);
	(void)listen_to();
	clock_ms += RETRY_MS;
	/* So has one after what was said of others before it was made. */
	give(message_connection_gone(true));
	client.reason = NULL;
	step();
	on_connected(session, NULL, true);
	client.reason = "the connection was closed";
	use_connection(session);
	assert_int_equal(session->retry.taken, 0);
	assert_int_equal(session->retry.failures, 1);
	receive_the_rest();
}

/* The broker thread's word of the end may come before the CONNACK is read. */
static void test_a_connection_that_is_taken_over_before_its_connack_is_read(void **state)
{
	(void)state;
	start();
	lose_to_another_client();
	clock_ms += RETRY_TAKEN_MAX_MS;
	step();
	assert_int_equal(session->state, CONNECTING);
	session_command(session, message_connection_gone(true));
	session_command(session, message_connection_gone(false)); /* that of the other, which has left already */
	on_connected(session, NULL, true);
	client.reason = "the connection was closed";
	use_connection(session);
	assert_int_equal(session->retry.taken, 2);
	assert_int_equal(session->retry.failures, 0);
	/* What was meant for others counts until a fence has come. */
	client.reason = NULL;
	clock_ms += RETRY_TAKEN_MAX_MS;
	step();
	session_command(session, message_connection_gone(true));
	on_connected(session, NULL, true);
	prove();
	client.reason = "the connection was closed";
	use_connection(session);
	assert_int_equal(session->retry.taken, 2);
	(void)listen_to();
	assert_null(strstr(log_text, "another client"));
	receive_the_rest();
}

/* Mosquitto says of a connection that it has refused what it says of one that was taken over: that it began
 * clean. */
static void test_a_connection_that_is_refused_is_not_taken_over(void **state)
{
	(void)state;
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	step();
	assert_int_equal(session->state, CONNECTING);
	session_command(session, message_connection_gone(true));
	on_connected(session, "not authorised", false);
	client.reason = "not authorised";
	use_connection(session);
	assert_int_equal(session->retry.taken, 0);
	assert_int_equal(session->retry.failures, 1);
	client.reason = NULL;
	receive_the_rest();
}

/* ---- what gets lost on the way ---- */

static void test_a_subscribe_that_does_not_go_out(void **state)
{
	(void)state;
	start();
	client.refuses_packets = true;
	subscribe(1, "a", 1, 5);
	step();
	broker_sends_fence(listen_to());
	assert_non_null(strstr(log_text, "The session's subscription to 'a' is not in force: no reason."));
	assert_int_equal(session_refused(session), 1);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5); /* it does not wait */
	step();
	step();
	receive_nothing();
	assert_int_equal(listen_to(), 0);
	/* Again, with longer pauses, and without another line. */
	clock_ms += FENCES_ASK_MS;
	step();
	broker_sends_fence(listen_to());
	assert_string_equal(log_text, "");
	assert_int_equal(session_refused(session), 2);
	receive_the_rest();
	clock_ms += FENCES_ASK_MS;
	client.refuses_packets = false;
	step();
	assert_int_equal(client.count, 0);
	clock_ms += FENCES_ASK_MS;
	step();
	assert_int_equal(client.count, 1);
	assert_true(client.packets[0].retained);
	receive(MESSAGE_HOLD_CONSUMER, 1);
	broker_acknowledges();
	broker_sends("a", "a", "1", 0, true);
	broker_sends_fence(listen_to());
	assert_non_null(strstr(log_text, "The session's subscription to 'a' is in force now."));
	receive_message("a", "1", 0, true, 1);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive_nothing();
	clock_ms += RETRY_MAX_MS;
	step();
	assert_int_equal(client.count, 1);
}

static void test_an_unsubscribe_that_does_not_go_out(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 1, 0);
	step();
	finish_round();
	client.refuses_packets = true;
	unsubscribe(1, "a");
	step();
	broker_sends_fence(listen_to());
	assert_non_null(strstr(log_text, "cannot end its subscription to 'a'"));
	step();
	assert_int_equal(listen_to(), 0);
	client.refuses_packets = false;
	clock_ms += FENCES_ASK_MS;
	step();
	assert_int_equal(client.packets[1].id, 0);
	finish_round();
	assert_null(filters_find(&session->subscriptions.filters, "a"));
	receive_the_rest();
}

/* A queue of the broker's that is full has no room for it either. */
static void test_a_fence_that_the_broker_leaves_out(void **state)
{
	uint64_t first, second;

	(void)state;
	start();
	subscribe(1, "a", 1, 5);
	step();
	broker_acknowledges();
	first = listen_to();
	clock_ms += FENCES_ASK_MS - 1;
	step();
	assert_int_equal(listen_to(), 0);
	clock_ms += 1;
	step();
	second = listen_to();
	assert_int_equal(second, first + 1);
	broker_sends_fence(second);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
	(void)listen_to();
	assert_non_null(strstr(log_text, "The broker has left out some of what it had for the session"));
	assert_non_null(strstr(log_text, "(to 'a', or others)"));
	assert_int_equal(session_left_out(session), 1);
	/* What it has left out with QoS 1 and 2 it sends on the next connection. */
	step();
	assert_int_equal(client.disconnects, 1);
	assert_false(client.ended_session);
	step();
	assert_int_equal(client.connects, 2);
	on_connected(session, NULL, true);
	prove();
	/* Not each time. */
	subscribe(1, "b", 1, 0);
	step();
	broker_acknowledges();
	first = listen_to();
	clock_ms += FENCES_ASK_MS;
	step();
	broker_sends_fence(listen_to());
	step();
	assert_string_equal(log_text, "");
	assert_int_equal(client.disconnects, 1);
	assert_int_equal(session_left_out(session), 2);
	receive_the_rest();
}

static void test_it_is_not_dead_while_bytes_come(void **state)
{
	unsigned int i;

	(void)state;
	start();
	subscribe(1, "a", 1, 5);
	step();
	broker_acknowledges();
	for (i = 0; i < 100; i++) {
		clock_ms += FENCES_ANSWER_MS - 1;
		fences_hear(&session->fences, clock_ms);
		step();
		assert_int_equal(session->state, UP);
	}
	clock_ms += FENCES_ANSWER_MS;
	step();
	assert_int_equal(session->state, WAITING);
	receive_the_rest();
}

/* Another broker may have something to say, but no fence. */
static void test_bytes_prove_nothing(void **state)
{
	unsigned int i;

	(void)state;
	connect_session(false);
	for (i = 0; i < 100 && session->state == PROVING; i++) {
		clock_ms += FENCES_ANSWER_MS - 1;
		fences_hear(&session->fences, clock_ms);
		step();
	}
	assert_int_equal(session->state, WAITING);
	(void)listen_to();
	assert_non_null(strstr(log_text, "belongs to another broker"));
	receive_the_rest();
}

static void test_an_acknowledgement_that_does_not_come(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 1, 5);
	subscribe(1, "b", 1, 6);
	step();
	assert_int_equal(client.count, 2);
	client.acknowledged = 1;
	broker_acknowledges(); /* the second */
	assert_int_equal(listen_to(), 0);
	clock_ms += FENCES_ASK_MS;
	step();
	broker_sends_fence(listen_to());
	assert_int_equal(client.count, 3);
	assert_string_equal(client.packets[2].filter, client.packets[0].filter);
	/* The first may come after all. */
	on_acknowledged(session, client.packets[0].number, 0);
	assert_int_equal(listen_to(), 0);
	finish_round();
	receive_the_rest();
	assert_int_equal(session_refused(session), 0);
	assert_int_equal(topics_qos(session->subscriptions.topics, 1, "a"), 1);
	assert_int_equal(topics_qos(session->subscriptions.topics, 1, "b"), 1);
}

static void test_an_acknowledgement_that_never_comes(void **state)
{
	unsigned int i;

	(void)state;
	start();
	subscribe(1, "a", 1, 5);
	step();
	for (i = 0; i < SUBSCRIPTIONS_SEND_MAX; i++) {
		clock_ms += FENCES_ASK_MS;
		step();
		broker_sends_fence(listen_to());
	}
	assert_int_equal(client.count, SUBSCRIPTIONS_SEND_MAX);
	broker_sends_fence(listen_to());
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
	assert_int_equal(session_refused(session), 1);
	clock_ms += FENCES_ASK_MS;
	step();
	assert_int_equal(client.count, SUBSCRIPTIONS_SEND_MAX + 1);
	client.acknowledged = SUBSCRIPTIONS_SEND_MAX;
	finish_round();
	assert_int_equal(topics_qos(session->subscriptions.topics, 1, "a"), 1);
	receive_the_rest();
}

static void test_what_is_retained_comes_once(void **state)
{
	(void)state;
	start();
	subscribe(1, "a/#", 1, 0);
	step();
	broker_acknowledges();
	broker_sends("a/#", "a/1", "1", 0, true);
	receive(MESSAGE_HOLD_CONSUMER, 1);
	receive_message("a/1", "1", 0, true, 1);
	/* The connection is lost before all has come; somebody else subscribes. */
	break_off(session, "it is lost");
	(void)listen_to();
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	subscribe(2, "a/#", 1, 0);
	clock_ms += RETRY_MS;
	step();
	on_connected(session, NULL, true);
	prove();
	broker_acknowledges();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	receive(MESSAGE_HOLD_CONSUMER, 2);
	broker_sends("a/#", "a/1", "1", 0, true);
	receive_message("a/1", "1", 0, true, 2);
	/* Not all of it again: */
	break_off(session, "it is lost");
	(void)listen_to();
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	clock_ms += RETRY_MAX_MS;
	step();
	on_connected(session, NULL, true);
	prove();
	broker_acknowledges();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	receive(MESSAGE_HOLD_CONSUMER, 2);
	broker_sends("a/#", "a/1", "1", 0, true);
	broker_sends("a/#", "a/2", "2", 0, true);
	{
		struct message *message = queue_take(inbound);

		assert_string_equal(message->topic, "a/2");
		assert_int_equal(message->recipient_count, 2);
		queue_release(inbound, message_size(message));
		message_free(message);
	}
	broker_sends_fence(listen_to());
	receive_the_rest();
	/* Who subscribes once more gets all once more. */
	subscribe(1, "a/#", 1, 0);
	step();
	broker_acknowledges();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	broker_sends("a/#", "a/1", "1", 0, true);
	receive_message("a/1", "1", 0, true, 1);
	receive_the_rest();
}

static void test_tries_for_ever_where_retries_is_0(void **state)
{
	unsigned int i;

	(void)state;
	use(true, 0, 1000);
	client.refuses = true;
	command(MESSAGE_LISTENING, 0, "", 0, 0);
	for (i = 0; i < 20; i++) {
		step();
		(void)listen_to();
		clock_ms += RETRY_MAX_MS;
	}
	assert_int_equal(client.connects, 20);
	client.refuses = false;
	step();
	on_connected(session, NULL, false);
	prove();
	(void)listen_to();
	assert_non_null(strstr(log_text, "is there"));
}

/* ---- rounds ---- */

static void test_retained_messages_go_to_who_subscribed(void **state)
{
	(void)state;
	start();
	subscribe(1, "a/+", 1, 10);
	step();
	assert_int_equal(client.count, 1);
	assert_string_equal(client.packets[0].filter, "a/+");
	assert_true(client.packets[0].retained);
	receive_nothing(); /* the broker thread has told the consumer to hold, since it left the answer to the
						  session */
	broker_acknowledges();
	broker_sends("a/+", "a/b", "kept", 1, true);
	receive_message("a/b", "kept", 1, true, 1);
	receive_nothing();
	broker_sends_fence(listen_to());
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 10);

	/* Where it did not, the session tells. */
	subscribe(2, "a/+", 0, 0);
	step();
	assert_int_equal(client.count, 2);
	receive(MESSAGE_HOLD_CONSUMER, 2);
	broker_sends("a/+", "a/b", "kept", 1, true);
	receive_message("a/b", "kept", 1, true, 2);
	finish_round();
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	broker_sends("a/+", "a/b", "kept", 1, true);
	receive_nothing();
}

static void test_one_round_serves_all_that_came_meanwhile(void **state)
{
	uint64_t consumer;

	(void)state;
	start();
	subscribe(1, "a", 0, 1);
	step();
	for (consumer = 2; consumer < 10; consumer++) {
		subscribe(consumer, consumer % 2 ? "a" : "b", 0, consumer);
		step();
	}
	assert_int_equal(client.count, 1);
	finish_round();
	assert_int_equal(client.count, 3);
	finish_round();
	assert_int_equal(client.count, 3);
	assert_null(session->subscriptions.round.first);
}

static void test_a_subscription_that_was_not_new(void **state)
{
	struct message *message;

	(void)state;
	use(false, 3, 1000); /* where each filter has its own QoS */
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	start();
	subscribe(1, "a", 0, 0);
	step();
	finish_round();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	subscribe(1, "a", 2, 0);
	step();
	assert_int_equal(client.packets[1].qos, 2);
	message = queue_take(inbound);
	assert_int_equal(message->kind, MESSAGE_HOLD_CONSUMER);
	assert_int_equal(message->as.hold_consumer.again, 1);
	message_free(message);
	finish_round();
	/* The highest that a consumer wants, and no higher. */
	subscribe(2, "a", 1, 0);
	step();
	assert_int_equal(client.packets[2].qos, 2);
	finish_round();
	unsubscribe(1, "a");
	broker_sends_fence(listen_to());
	step();
	assert_int_equal(client.packets[3].qos, 1);
	assert_false(client.packets[3].retained);
}

static void test_unsubscribing(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 0, 0);
	subscribe(2, "a", 0, 0);
	step();
	finish_round();
	unsubscribe(1, "a");
	unsubscribe(1, "a");
	unsubscribe(1, "never");
	step();
	assert_int_equal(client.count, 1);
	unsubscribe(2, "a");
	step();
	assert_int_equal(client.count, 2);
	assert_int_equal(client.packets[1].id, 0);
	finish_round();
	assert_null(filters_find(&session->subscriptions.filters, "a"));
}

static void test_unsubscribing_while_the_round_goes_on(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 0, 5);
	step();
	unsubscribe(1, "a");
	step();
	finish_round();
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
	assert_int_equal(client.packets[1].id, 0);
	finish_round();
	assert_null(filters_find(&session->subscriptions.filters, "a"));

	/* Before it was sent there is nothing to take back. */
	subscribe(1, "b", 0, 6);
	unsubscribe(1, "b");
	step();
	assert_int_equal(client.count, 2);
	assert_null(filters_find(&session->subscriptions.filters, "b"));
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 6);
}

static void test_a_refused_subscription_is_reported(void **state)
{
	(void)state;
	start();
	subscribe(1, "secret/#", 0, 5);
	step();
	on_acknowledged(session, client.packets[client.acknowledged++].number, 135);
	broker_sends_fence(listen_to());
	assert_non_null(strstr(log_text, "secret/#"));
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
}

static void test_a_connection_lost_in_a_round(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 0, 5);
	step();
	subscribe(2, "b", 0, 6);
	client.reason = "gone";
	use_connection(session);
	(void)listen_to();
	assert_int_equal(up, 0);
	assert_string_equal(log_text, ""); /* a broker that stops closes its connections */
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
	receive(MESSAGE_RELEASE_CONSUMER, 2); /* which waited for the next round */
	receive(MESSAGE_ANSWER, 6);
	unsubscribe(2, "b");
	client.reason = NULL;

	/* The next connection asks again for what had not come. */
	clock_ms += RETRY_MS;
	step();
	(void)listen_to();
	assert_non_null(strstr(log_text, "is lost: gone"));
	assert_int_equal(client.connects, 2);
	on_connected(session, NULL, false);
	prove();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	broker_sends("a", "a", "kept", 0, true);
	finish_round();
	receive_message("a", "kept", 0, true, 1);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive_nothing();
	(void)listen_to();
	assert_int_equal(up, 1);
	assert_non_null(strstr(log_text, "is back"));

	/* And does not for what had, nor at all where the broker still has the subscription. */
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	clock_ms += RETRY_MS;
	step();
	on_connected(session, NULL, true);
	prove();
	assert_int_equal(client.count, 2);
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	clock_ms += RETRY_MS;
	step();
	on_connected(session, NULL, false);
	prove();
	assert_int_equal(client.count, 3);
	assert_false(client.packets[2].retained);
}

static void test_a_fence_that_does_not_come(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 0, 5);
	step();
	broker_acknowledges();
	clock_ms += FENCES_ANSWER_MS;
	step();
	assert_int_equal(session->state, WAITING);
	clock_ms += RETRY_MS;
	step();
	(void)listen_to();
	assert_non_null(strstr(log_text, "does not answer any more"));
}

/* ---- messages ---- */

static void subscribe_and_settle(uint64_t consumer, const char *filter, uint8_t qos)
{
	struct message *message;

	subscribe(consumer, filter, qos, 0);
	step();
	finish_round();
	while ((message = queue_take(inbound))) {
		message_free(message);
	}
}

static uint64_t published_with(const char *properties, size_t properties_length, const char *topic,
		const char *payload, uint8_t qos, bool retain)
{
	const struct message_content content = {
		topic, strlen(topic), payload, strlen(payload), properties, properties_length};

	return fingerprint_published(fingerprint_of(&content, true), qos,
			retain ? FINGERPRINT_RETAIN : FINGERPRINT_LIVE);
}

static uint64_t published(const char *topic, const char *payload, uint8_t qos)
{
	return published_with(NULL, 0, topic, payload, qos, false);
}

static void mark(const char *topic, const char *payload)
{
	marks_add(session->copies.marks, published(topic, payload, 1));
}

static void test_copies_are_recognised(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	mark("a", "1");
	broker_sends("a", "a", "1", 1, false);
	receive_nothing();
	broker_sends("a", "a", "1", 1, false); /* the same, from a last will */
	receive_message("a", "1", 1, false, 1);
}

static void test_marks_whose_copies_do_not_come_are_cleared(void **state)
{
	uint64_t fence;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	mark("a", "1");
	step();
	fence = listen_to();
	assert_int_not_equal(fence, 0);
	marks_fence(session->copies.marks, fence); /* as the broker thread does */
	broker_sends_fence(fence);
	broker_sends("a", "a", "1", 1, false);
	receive_message("a", "1", 1, false, 1);
	clock_ms += COPIES_FENCE_MS;
	step();
	assert_int_equal(listen_to(), 0);
}

#define CORRELATION(value) "\x09\0\1" value

/* Topic and payload are not all that a copy carries (MQTT 5, 3.3.2.3). */
static void test_what_a_copy_carries(void **state)
{
	static const char x[] = CORRELATION("x"), y[] = CORRELATION("y");
	const size_t size = sizeof(x) - 1;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	/* Who asked, */
	marks_add(session->copies.marks, published_with(x, size, "a", "1", 1, false));
	broker_sends_with(y, size, "a", "a", "1", 1, false);
	receive_message("a", "1", 1, false, 1);
	broker_sends("a", "a", "1", 1, false);
	receive_message("a", "1", 1, false, 1);
	/* at which QoS, */
	broker_sends_with(x, size, "a", "a", "1", 0, false);
	receive_message("a", "1", 0, false, 1);
	broker_sends_with(x, size, "a", "a", "1", 2, false);
	receive_message("a", "1", 2, false, 1);
	broker_sends_with(x, size, "a", "a", "1", 1, false);
	receive_nothing();
	broker_sends_with(x, size, "a", "a", "1", 1, false);
	receive_message("a", "1", 1, false, 1);
	/* but not when it expires. */
	marks_add(session->copies.marks, published_with(x, size, "a", "1", 1, false));
	broker_sends_with(CORRELATION("x") "\x02\0\0\0\5", size + 5, "a", "a", "1", 1, false);
	receive_nothing();
}

/* A subscription takes QoS off. */
static void test_copies_at_a_lower_qos(void **state)
{
	uint8_t qos;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 1);
	for (qos = 0; qos < 3; qos++) {
		marks_add(session->copies.marks, published("a", "1", qos));
		broker_sends("a", "a", "1", qos < 1 ? qos : 1, false);
		receive_nothing();
	}
	marks_add(session->copies.late_marks, published("a", "1", 2));
	broker_sends("a", "a", "1", 1, false);
	receive_nothing();
	broker_sends("a", "a", "1", 1, false);
	receive_message("a", "1", 1, false, 1);
	/* What came with QoS 0 was published with it. */
	marks_add(session->copies.marks, published("a", "1", 1));
	broker_sends("a", "a", "1", 0, false);
	receive_message("a", "1", 0, false, 1);
	broker_sends("a", "a", "1", 1, false);
	receive_nothing();
}

/* upgrade_outgoing_qos: all copies have the QoS of the subscription. */
static void test_copies_at_a_higher_qos(void **state)
{
	uint8_t qos;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	for (qos = 0; qos < 3; qos++) {
		marks_add(session->copies.marks, published("a", "1", qos));
		broker_sends("a", "a", "1", 2, false);
		receive_nothing();
	}
	broker_sends("a", "a", "1", 2, false);
	receive_message("a", "1", 2, false, 1);
	/* Once a lower one has come that is not set, */
	broker_sends("a", "a", "2", 1, false);
	receive_message("a", "2", 1, false, 1);
	marks_add(session->copies.marks, published("a", "1", 1));
	broker_sends("a", "a", "1", 2, false);
	receive_message("a", "1", 2, false, 1);
	/* unless it is later. */
	clock_ms += COPIES_LOWERED_MS;
	marks_add(session->copies.marks, published("a", "1", 1));
	marks_pass(session->copies.marks, 0);
	broker_sends("a", "a", "1", 2, false);
	receive_nothing();
}

static void test_properties_that_the_broker_thread_cannot_read(void **state)
{
	(void)state;
	session_ignore_properties(session);
	start();
	subscribe_and_settle(1, "a", 2);
	mark("a", "1");
	broker_sends_with(CORRELATION("x"), 4, "a", "a", "1", 1, false);
	receive_nothing();
}

static void mark_late(const char *topic, const char *payload)
{
	marks_add(session->copies.late_marks, published(topic, payload, 2));
}

static void lose_and_reconnect(void)
{
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	clock_ms += RETRY_MS;
	step();
}

static void fill(struct marks *marks)
{
	uint64_t i;

	for (i = 1; i <= COPIES_MAX; i++) {
		marks_add(marks, i * 7919);
	}
}

/* More QoS 2 messages than can be marked while the connection was lost: what comes later is no copy of
 * theirs. */
static void test_too_many_late_marks(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	lose_and_reconnect();
	fill(session->copies.late_marks);
	mark_late("a", "without room");
	on_connected(session, NULL, true);
	prove();
	finish_round();
	assert_int_equal(session->copies.late_until, clock_ms + COPIES_LATE_MS);
	broker_sends("a", "a", "after", 2, false);
	receive_message("a", "after", 2, false, 1);
	broker_sends("a", "a", "after", 2, false);
	receive_message("a", "after", 2, false, 1);
	broker_sends("a", "a", "without room", 2, false); /* twice rather than never */
	receive_message("a", "without room", 2, false, 1);
}

/* It is told once a second how many, and not of a session that has no copies of them. */
static void test_missing_marks_are_told(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	fill(session->copies.marks);
	mark("a", "1");
	mark("a", "2");
	step();
	broker_sends_fence(listen_to());
	(void)listen_to();
	assert_non_null(strstr(log_text, "2 messages may come to consumers twice"));
	mark("a", "3");
	clock_ms += COPIES_FENCE_MS;
	step();
	broker_sends_fence(listen_to());
	(void)listen_to();
	assert_string_equal(log_text, "");
	clock_ms += COPIES_MISSING_MS;
	step();
	broker_sends_fence(listen_to());
	(void)listen_to();
	assert_non_null(strstr(log_text, "1 messages may come to consumers twice"));
	clock_ms += COPIES_MISSING_MS;
	lose_and_reconnect();
	mark("a", "4");
	on_connected(session, NULL, false);
	prove();
	assert_null(strstr(log_text, "twice"));
	finish_round();
	assert_null(strstr(log_text, "twice"));
}

/* Whose copy never comes: the publisher is gone, or the broker has dropped it. */
static void test_late_marks_end(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	lose_and_reconnect();
	mark_late("a", "in time");
	mark_late("a", "never");
	clock_ms += 10 * COPIES_LATE_MS; /* no copy can come meanwhile */
	step();
	on_connected(session, NULL, true);
	prove();
	finish_round();
	broker_sends("a", "a", "in time", 2, false);
	receive_nothing();
	clock_ms += COPIES_LATE_MS;
	broker_sends("a", "a", "never", 2, false);
	receive_message("a", "never", 2, false, 1);
	/* Also without any message. */
	lose_and_reconnect();
	mark_late("a", "never");
	on_connected(session, NULL, true);
	prove();
	finish_round();
	clock_ms += COPIES_LATE_MS;
	step();
	assert_false(marks_are_waiting(session->copies.late_marks));
}

/* With more live traffic before the session was there than can be marked, what the broker queued comes all
 * the same. */
static void test_queued_messages_after_much_traffic(void **state)
{
	(void)state;
	use(false, 3, 1000);
	subscribe(1, "a", 2, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	fill(session->copies.marks);
	mark("a", "without room");
	fill(session->copies.late_marks);
	mark_late("a", "without room");
	connect_session(true);
	broker_sends("a", "a", "kept", 1, false);
	broker_sends("a", "a", "kept", 2, false);
	broker_sends_fence(listen_to());
	receive_message("a", "kept", 1, false, 1);
	receive_message("a", "kept", 2, false, 1);
}

static void test_one_copy_counts_of_overlapping_filters(void **state)
{
	(void)state;
	use(false, 3, 1000);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	start();
	subscribe_and_settle(1, "a/#", 0);
	subscribe_and_settle(1, "a/+", 2);
	subscribe_and_settle(1, "+/b", 2);
	/* That for the highest QoS, of several the oldest. */
	broker_sends("a/#", "a/b", "1", 0, false);
	broker_sends("+/b", "a/b", "1", 1, false);
	receive_nothing();
	broker_sends("a/+", "a/b", "1", 1, false);
	receive_message("a/b", "1", 1, false, 1);
	broker_sends("a/#", "a", "2", 0, false);
	receive_message("a", "2", 0, false, 1);
	/* One that is no longer in force does not count. */
	unsubscribe(1, "a/+");
	broker_sends_fence(listen_to());
	step();
	finish_round();
	broker_sends("+/b", "a/b", "1", 1, false);
	receive_message("a/b", "1", 1, false, 1);
}

/* A QoS 2 message comes with its PUBREL: who unsubscribes gets those that were sent before. */
static void test_unsubscribing_from_qos_2(void **state)
{
	uint64_t fence;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	subscribe_and_settle(2, "a", 0);
	unsubscribe(1, "a");
	unsubscribe(2, "a"); /* not waited for */
	fence = listen_to();
	assert_int_not_equal(fence, 0);
	broker_sends("a", "a", "on its way", 2, false);
	receive_message("a", "on its way", 2, false, 1);
	assert_int_equal(client.count, 2);
	broker_sends_fence(fence);
	broker_sends("a", "a", "later", 2, false);
	receive_nothing();
	step();
	assert_int_equal(client.packets[2].id, 0);
	finish_round();

	/* Who subscribes again does not get what was between. */
	subscribe_and_settle(1, "a", 2);
	unsubscribe(1, "a");
	subscribe(1, "a", 2, 0);
	broker_sends("a", "a", "between", 2, false);
	receive_nothing();

	/* A lost connection ends the wait. */
	unsubscribe(1, "a");
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	assert_null(session->subscriptions.leaving.first);
}

/* When the application has failed, it is not its consumers' end that decides what the broker keeps. */
static void test_unsubscribing_while_the_session_suspends(void **state)
{
	(void)state;
	use(false, 3, 1000);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	start();
	subscribe_and_settle(1, "a", 1);
	mark("a", "on its way");
	command(MESSAGE_SUSPEND, 0, "", 0, 0);
	unsubscribe(1, "a");
	step();
	assert_int_equal(client.count, 1);
}

static void test_consumers_share_in_turn(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "$share/g/a", 1);
	subscribe_and_settle(2, "$share/g/a", 1);
	assert_false(client.packets[0].retained);
	mark("a", "1"); /* of the direct lane: has nothing to do with the group's */
	broker_sends("$share/g/a", "a", "1", 1, false);
	broker_sends("$share/g/a", "a", "2", 1, false);
	broker_sends("$share/g/a", "a", "3", 1, false);
	receive_message("a", "1", 1, false, 1);
	receive_message("a", "2", 1, false, 2);
	receive_message("a", "3", 1, false, 1);
}

static void test_what_the_broker_queued(void **state)
{
	(void)state;
	use(false, 3, 1000);
	subscribe(1, "a/#", 2, 0);
	subscribe(2, "a/b", 1, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	connect_session(true);
	broker_sends("a/b", "a/b", "1", 1, false);
	broker_sends("a/#", "a/c", "2", 2, false);
	broker_sends("a/#", "a/b", "1", 2, false); /* the copy for the other filter */
	broker_sends("a/#", "a/c", "2", 2, false); /* another message */
	receive_nothing();
	broker_sends_fence(listen_to());
	assert_int_equal(queue_count(inbound), 3);
	{
		struct message *message = queue_take(inbound);

		assert_string_equal(message->topic, "a/b");
		assert_int_equal(message->as.publish.qos, 2);
		assert_int_equal(message->recipient_count, 2);
		message_free(message);
	}
	receive_message("a/c", "2", 2, false, 1);
	receive_message("a/c", "2", 2, false, 1);
}

/* While the connection was lost, the direct lane went on, and the broker queued copies of that, too. */
static void test_what_the_broker_queued_and_consumers_have(void **state)
{
	uint64_t fence;

	(void)state;
	start();
	subscribe_and_settle(1, "a", 1);
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	mark("a", "direct");
	clock_ms += RETRY_MS;
	step();
	on_connected(session, NULL, true);
	fence = listen_to();
	marks_fence(session->copies.marks, fence);
	broker_sends("a", "a", "direct", 1, false);
	broker_sends("a", "a", "will", 1, false);
	broker_sends_fence(fence);
	receive_message("a", "will", 1, false, 1);
	receive_nothing();
	assert_false(marks_are_waiting(session->copies.marks));
}

/* Messages that the broker queued have the identifiers of the process before. */
static void test_identifiers_are_the_same_in_another_process(void **state)
{
	uint32_t id;

	(void)state;
	subscribe(1, "home/+/state", 1, 0);
	id = filters_find(&session->subscriptions.filters, "home/+/state")->id;
	use(true, 3, 1000);
	subscribe(9, "another", 1, 0);
	subscribe(1, "home/+/state", 1, 0);
	assert_int_equal(filters_find(&session->subscriptions.filters, "home/+/state")->id, id);
	assert_in_range(id, 1, CONNECTION_SUBSCRIPTION_MAX);
}

static void test_a_full_inbound_queue_loses_nothing(void **state)
{
	char payload[8];
	int i;

	(void)state;
	use(true, 3, 2);
	start();
	subscribe_and_settle(1, "a", 0);
	subscribe(2, "a", 0, 7);
	step();
	broker_acknowledges();
	for (i = 0; i < 6; i++) {
		(void)snprintf(payload, sizeof(payload), "%d", i);
		broker_sends("a", "a", payload, 0, true);
	}
	broker_sends_fence(listen_to());
	for (i = 0; i < 6; i++) {
		(void)snprintf(payload, sizeof(payload), "%d", i);
		receive_message("a", payload, 0, true, 2);
		step();
	}
	/* Not before what it tells the end of. */
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	receive(MESSAGE_ANSWER, 7);
	assert_null(session->outlet.stalled.first);
}

/* The broker may have queued one, whose number means nothing here. */
static void test_fences_of_an_earlier_process_end_no_hold(void **state)
{
	(void)state;
	use(false, 3, 1000);
	subscribe(1, "a", 2, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	connect_session(true);
	receive_nothing();
	broker_sends_fence(SESSION_HOLD_FENCE | 42);
	receive_nothing();
	assert_int_equal(session_released(session), 0);
	prove();
	broker_sends_fence(SESSION_HOLD_FENCE | 43);
	assert_int_equal(session_released(session), 0);
}

static void test_fences_of_the_broker_thread_end_its_holds(void **state)
{
	struct message *message;

	(void)state;
	start();
	broker_sends_fence(SESSION_HOLD_FENCE | 42);
	message = queue_take(inbound);
	assert_int_equal(message->kind, MESSAGE_RELEASE);
	assert_int_equal(message->as.hold.number, 42);
	message_free(message);
	broker_sends_fence(1); /* of an earlier one */
	broker_sends(NULL, SESSION_FENCE_TOPIC, "123456789012345678901234567890", 2, false);
	receive_nothing();
}

/* The message that the application failed at must not come again when it is back. */
static void test_suspending_waits_for_copies(void **state)
{
	(void)state;
	use(false, 3, 1000);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	start();
	subscribe_and_settle(1, "a", 1);
	mark("a", "poison");
	command(MESSAGE_SUSPEND, 0, "", 0, 0);
	assert_int_equal(session->state, UP);
	broker_sends("a", "a", "poison", 1, false);
	assert_true(may_suspend(session, now_ms()));
	mark("a", "never comes");
	assert_false(may_suspend(session, now_ms()));
	clock_ms += SUSPEND_MS;
	assert_true(may_suspend(session, now_ms()));
}

static void test_suspending(void **state)
{
	(void)state;
	start();
	command(MESSAGE_SUSPEND, 0, "", 0, 0); /* there is nothing to keep */
	assert_int_equal(session->state, UP);

	use(false, 3, 1000);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	start();
	subscribe_and_settle(1, "a", 1);
	subscribe_and_settle(MESSAGE_GUEST | 2, "b", 1);
	client.count = client.acknowledged = 0;
	command(MESSAGE_SUSPEND, 0, "", 0, 0);
	unsubscribe(1, "a");
	(void)listen_to();
	assert_non_null(strstr(log_text, "The application has failed"));
	assert_int_equal(up, 0);
	assert_int_equal(client.disconnects, 1);
	assert_false(client.ended_session);
	clock_ms += 1000000;
	step();
	assert_int_equal(client.count, 1); /* no UNSUBSCRIBE but for what a guest alone had */
	assert_string_equal(client.packets[0].filter, "b");
	assert_int_equal(client.connects, 1);
}

/* ---- how retained messages are handled (MQTT 5, 3.8.3.1) ---- */

#define NEVER MQTT_SUB_OPT_SEND_RETAIN_NEVER
#define IF_NEW MQTT_SUB_OPT_SEND_RETAIN_NEW
#define AS_PUBLISHED MQTT_SUB_OPT_RETAIN_AS_PUBLISHED

/* A live message that was published with the RETAIN flag. */
static void broker_sends_flagged(const char *filter, const char *topic, const char *payload, uint8_t qos)
{
	const struct connection_message event = {.topic = topic,
		.payload = payload,
		.payload_length = strlen(payload),
		.subscription = filters_find(&session->subscriptions.filters, filter)->id,
		.qos = qos,
		.retain = true};

	on_message(session, &event);
}

static void assert_packet(size_t at, const char *filter, bool retained)
{
	assert_true(at < client.count);
	assert_string_equal(client.packets[at].filter, filter);
	assert_int_not_equal(client.packets[at].id, 0);
	assert_int_equal(client.packets[at].retained, retained);
}

/* The next message for consumers, which the test looks at and frees. */
static struct message *take_message(const char *payload)
{
	struct message *message = queue_take(inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_memory_equal(message->payload, payload, strlen(payload));
	queue_release(inbound, message_size(message));
	return message;
}

static void receive_retained(const char *payload, uint64_t consumer)
{
	struct message *message = take_message(payload);

	assert_true(message->as.publish.is_retained);
	assert_true(message->as.publish.retain);
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, consumer);
	message_free(message);
}

static void receive_live(const char *payload, bool retain, size_t recipients)
{
	struct message *message = take_message(payload);

	assert_false(message->as.publish.is_retained);
	assert_int_equal(message->as.publish.retain, retain);
	assert_int_equal(message->recipient_count, recipients);
	message_free(message);
}

static void test_who_wants_no_retained_messages(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 1 | NEVER, 10);
	step();
	assert_packet(0, "a", false);
	receive_nothing();
	broker_acknowledges();
	broker_sends("a", "a", "kept", 1, true);
	broker_sends("a", "a", "live", 1, false);
	receive_message("a", "live", 1, false, 1);
	broker_sends_fence(listen_to());
	receive(MESSAGE_ANSWER, 10);
	receive_nothing();
	step();

	/* With others in one round, it still gets none. */
	subscribe(1, "b", 1 | NEVER, 11);
	subscribe(2, "b", 1, 12);
	step();
	assert_packet(1, "b", true);
	broker_acknowledges();
	broker_sends("b", "b", "kept", 1, true);
	receive_retained("kept", 2);
	broker_sends_fence(listen_to());
	receive(MESSAGE_ANSWER, 11);
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	receive(MESSAGE_ANSWER, 12);
	receive_nothing();
}

static void test_who_wants_retained_messages_once(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", IF_NEW, 0);
	step();
	assert_packet(0, "a", true);
	receive(MESSAGE_HOLD_CONSUMER, 1);
	/* Again, while the first is under way. */
	subscribe(1, "a", IF_NEW, 5);
	broker_acknowledges();
	broker_sends("a", "a", "kept", 0, true);
	receive_retained("kept", 1);
	broker_sends_fence(listen_to());
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	step();
	assert_packet(1, "a", false);
	receive_nothing();
	finish_round();
	receive(MESSAGE_ANSWER, 5);
	receive_nothing();
	/* And long after. */
	subscribe(1, "a", IF_NEW, 0);
	step();
	assert_packet(2, "a", false);
	finish_round();
	receive_nothing();
	/* It is new for another, and when it had left. */
	subscribe(2, "a", IF_NEW, 0);
	step();
	assert_packet(3, "a", true);
	finish_round();
	receive(MESSAGE_HOLD_CONSUMER, 2);
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	unsubscribe(1, "a");
	subscribe(1, "a", IF_NEW, 0);
	step();
	assert_packet(4, "a", true);
	finish_round();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	/* Who always wants them gets them again. */
	subscribe(1, "a", 0, 0);
	step();
	assert_packet(5, "a", true);
}

static void test_a_group_gets_nothing_retained(void **state)
{
	(void)state;
	start();
	subscribe(1, "$share/g/a", 1, 0);
	step();
	assert_packet(0, "$share/g/a", false);
	receive_nothing();
}

/* What is asked for again after a lost connection is what was asked for before. */
static void test_retain_handling_outlives_a_connection(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", NEVER, 0);
	subscribe(2, "b", IF_NEW, 0);
	step();
	receive(MESSAGE_HOLD_CONSUMER, 2);
	client.reason = "gone";
	use_connection(session);
	client.reason = NULL;
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	clock_ms += RETRY_MS;
	step();
	on_connected(session, NULL, false);
	prove();
	assert_int_equal(client.count, 4);
	assert_packet(2, client.packets[2].filter, strcmp(client.packets[2].filter, "b") == 0);
	assert_packet(3, client.packets[3].filter, strcmp(client.packets[3].filter, "b") == 0);
	receive(MESSAGE_HOLD_CONSUMER, 2);
	receive_nothing();
}

static void test_live_messages_keep_their_flag(void **state)
{
	struct message *message;

	(void)state;
	start();
	subscribe_and_settle(1, "a/#", 1);
	subscribe_and_settle(2, "a/+", 1 | NEVER | AS_PUBLISHED);
	assert_int_equal(client.count, 3); /* all filters: the one that counts must show it */
	broker_sends_flagged("a/#", "a/b", "live", 1);
	message = take_message("live");
	assert_false(message->as.publish.is_retained);
	assert_true(message->as.publish.retain);
	assert_int_equal(message->recipient_count, 2);
	assert_int_equal(message->recipients[0].retain_as_published, message->recipients[0].consumer == 2);
	assert_int_equal(message->recipients[1].retain_as_published, message->recipients[1].consumer == 2);
	message_free(message);
	broker_sends_flagged("a/+", "a/b", "live", 1); /* the other copy */
	receive_nothing();
	broker_sends("a/#", "a/b", "plain", 1, false);
	receive_live("plain", false, 2);
	/* A copy of the direct lane is one with the flag, too. */
	marks_add(session->copies.marks, published_with(NULL, 0, "a/b", "direct", 1, true));
	broker_sends_flagged("a/#", "a/b", "direct", 1);
	receive_nothing();
}

static void test_live_messages_are_no_retained_ones(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 1 | NEVER | AS_PUBLISHED);
	/* While another one fetches. */
	subscribe(2, "a", 1, 0);
	step();
	receive(MESSAGE_HOLD_CONSUMER, 2);
	broker_sends_flagged("a", "a", "before", 1);
	receive_live("before", true, 1);
	broker_sends("a", "a", "kept", 1, true);
	receive_retained("kept", 2);
	broker_acknowledges();
	broker_sends_flagged("a", "a", "live", 1);
	receive_live("live", true, 2);
	broker_sends_fence(listen_to());
	receive(MESSAGE_RELEASE_CONSUMER, 2);
	/* One that was fetched for somebody who is done. */
	broker_sends("a", "a", "late", 1, true);
	receive_nothing();
}

static void test_flags_in_what_the_broker_queued(void **state)
{
	(void)state;
	use(false, 3, 1000);
	subscribe(1, "a", 1 | AS_PUBLISHED, 0);
	subscribe(2, "b", 1, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	connect_session(true);
	broker_sends_flagged("a", "a", "1", 1);
	broker_sends("b", "b", "2", 1, false);
	broker_sends("b", "b", "fetched by the process before", 1, true);
	receive_nothing();
	broker_sends_fence(listen_to());
	receive_live("1", true, 1);
	receive_live("2", false, 1);
	receive_nothing();
}

/* Without Retain As Published a copy has no RETAIN flag. */
static void test_copies_and_the_retain_flag(void **state)
{
	const uint64_t live = published("a", "1", 1), flagged = published_with(NULL, 0, "a", "1", 1, true);

	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	marks_add(session->copies.marks, flagged);
	broker_sends("a", "a", "1", 1, false);
	receive_nothing();
	subscribe_and_settle(1, "a", 2 | AS_PUBLISHED);
	marks_add(session->copies.marks, live);
	broker_sends_flagged("a", "a", "1", 1);
	receive_live("1", true, 1);
	broker_sends("a", "a", "1", 1, false);
	receive_nothing();
	marks_add(session->copies.marks, flagged);
	broker_sends("a", "a", "1", 1, false);
	receive_live("1", false, 1);
	broker_sends_flagged("a", "a", "1", 1);
	receive_nothing();
}

/* ---- who published, and what with ---- */

static void publisher_of(const char *id, uint64_t fingerprint_of_message)
{
	const struct client_description description = {.id = id};
	struct client *client_who = client_new(&description, NULL);

	assert_non_null(client_who);
	give(message_publisher(client_who, fingerprint_of_message, 0));
	client_release(client_who);
}

static void publisher_is(const char *id, const char *topic, const char *payload)
{
	publisher_of(id, published(topic, payload, 2));
}

static void receive_from(const char *id, const char *payload)
{
	struct message *message = take_message(payload);

	assert_int_equal(message->client == NULL, id == NULL);
	if (id) {
		assert_string_equal(client_description(message->client)->id, id);
	}
	message_free(message);
}

static void test_a_message_gets_its_publisher(void **state)
{
	(void)state;
	start();
	subscribe_and_settle(1, "a", 2);
	publisher_is("x", "a", "1");
	broker_sends("a", "a", "1", 2, false);
	receive_from("x", "1");
	/* A will of the same content, or what another plugin publishes, has none. */
	broker_sends("a", "a", "1", 2, false);
	receive_from(NULL, "1");
	/* They come in the broker's order. */
	publisher_is("x", "a", "2");
	publisher_is("y", "a", "3");
	broker_sends("a", "a", "3", 2, false);
	broker_sends("a", "a", "2", 2, false);
	receive_from("y", "3");
	receive_from("x", "2");
	/* Two who published the same: nobody. */
	publisher_is("x", "a", "4");
	publisher_is("y", "a", "4");
	broker_sends("a", "a", "4", 2, false);
	broker_sends("a", "a", "4", 2, false);
	receive_from(NULL, "4");
	receive_from(NULL, "4");
	/* At another QoS it is not the same, unless the subscription makes it so. */
	publisher_of("x", published("a", "6", 1));
	publisher_is("y", "a", "6");
	broker_sends("a", "a", "6", 1, false);
	broker_sends("a", "a", "6", 2, false);
	receive_from("x", "6");
	receive_from("y", "6");
	/* The publisher took too long to release it. */
	publisher_is("x", "a", "5");
	clock_ms += DELIVERIES_PUBLISHERS_MS;
	broker_sends("a", "a", "5", 2, false);
	receive_from(NULL, "5");
}

/* Who published a retained message the broker does not know any more; what waits for its publisher is
 * another. */
static void test_retained_messages_have_no_publisher(void **state)
{
	(void)state;
	start();
	subscribe(1, "a", 2, 0);
	step();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	broker_acknowledges();
	publisher_is("x", "a", "1");
	broker_sends("a", "a", "1", 2, true);
	receive_from(NULL, "1");
	broker_sends("a", "a", "1", 2, false);
	receive_from("x", "1");
	/* Nor has a copy that is none of them. */
	publisher_is("x", "a", "2");
	mark("a", "2");
	broker_sends("a", "a", "2", 1, false);
	broker_sends("a", "a", "2", 2, false);
	receive_from("x", "2");
	/* Whom nobody hears any more is forgotten. */
	broker_sends_fence(listen_to());
	step();
	publisher_is("x", "a", "3");
	unsubscribe(1, "a");
	broker_sends_fence(listen_to());
	broker_sends("a", "a", "3", 2, false);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive_nothing();
}

static void test_properties_come_with_a_message(void **state)
{
	struct message *message;

	(void)state;
	start();
	subscribe(1, "a", 2, 0);
	subscribe(2, "$share/g/a", 1, 0);
	step();
	receive(MESSAGE_HOLD_CONSUMER, 1);
	broker_acknowledges();
	broker_sends_with("\x01\x00", 2, "a", "a", "kept", 1, true);
	broker_sends_with("\x01\x01", 2, "a", "a", "live", 1, false);
	broker_sends_with("\x02\x00\x00\x00\x01", 5, "$share/g/a", "a", "shared", 1, false);
	broker_sends("a", "a", "none", 1, false);
	message = take_message("kept");
	assert_int_equal(message->properties_length, 2);
	assert_memory_equal(message->properties, "\x01\x00", 2);
	message_free(message);
	message = take_message("live");
	assert_int_equal(message->properties_length, 2);
	assert_memory_equal(message->properties, "\x01\x01", 2);
	message_free(message);
	message = take_message("shared");
	assert_int_equal(message->properties_length, 5);
	assert_memory_equal(message->properties, "\x02\x00\x00\x00\x01", 5);
	message_free(message);
	message = take_message("none");
	assert_int_equal(message->properties_length, 0);
	message_free(message);
}

/* Also with what is collected before it is known whom it is for. */
static void test_properties_and_publishers_of_what_the_broker_queued(void **state)
{
	struct message *message;

	(void)state;
	use(false, 3, 1000);
	subscribe(1, "a", 2, 0);
	command(MESSAGE_SETTLED, 0, "", 0, 0);
	connect_session(true);
	publisher_of("x", published_with("\x01\x01", 2, "a", "1", 2, false));
	publisher_of("y", published("a", "1", 2));
	broker_sends_with("\x01\x01", 2, "a", "a", "1", 2, false);
	receive_nothing();
	broker_sends_fence(listen_to());
	message = take_message("1");
	assert_int_equal(message->properties_length, 2);
	assert_memory_equal(message->properties, "\x01\x01", 2);
	assert_string_equal(client_description(message->client)->id, "x");
	message_free(message);
	receive_nothing();
}

static void play(void)
{
	start();
	subscribe_and_settle(1, "a/#", 2);
	subscribe_and_settle(2, "$share/g/a", 1);
	broker_sends("a/#", "a", "1", 1, false);
	broker_sends("a/#", "a", "1", 1, true);
	unsubscribe(1, "a/#");
	step();
	finish_round();
}

static void test_no_memory(void **state)
{
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		struct session *none = NULL;

		scarce_memory(n, false);
		if (session_new(&options, inbound, outbound, -1, &none) == MOSQ_ERR_SUCCESS) {
			session_free(none);
		}
		failed = scarce_memory_end();
	}
	/* Commands without memory leave the session as it was, or say so. */
	start();
	failed = true;
	for (n = 1; failed; n++) {
		struct message *message = new_command(MESSAGE_SUBSCRIBE, n, "x/y", 0, 0);

		scarce_memory(n, false);
		carry_out(session, message);
		failed = scarce_memory_end();
		message_free(message);
		unsubscribe(n, "x/y");
	}
	assert_true(n > 5);
	use(true, 3, 1000);
	play();
}

/* Three connections, in which one allocation fails. */
static void live(struct message *const commands[3][5])
{
	static const struct connection_message retained = {
		.topic = "a/b", .payload = "kept", .payload_length = 4, .subscription = 1, .qos = 1, .retain = true};
	static const struct connection_message live_message = {
		.topic = "a/b", .payload = "live", .payload_length = 4, .subscription = 1, .qos = 1};
	uint64_t fence;
	size_t turn, i;

	for (turn = 0; turn < 3; turn++) {
		for (i = 0; i < 4; i++) {
			give(commands[turn][i]);
		}
		clock_ms += RETRY_MAX_MS;
		step();
		on_connected(session, NULL, turn == 1);
		on_message(session, &live_message);
		if ((fence = listen_to())) {
			broker_sends_fence(fence);
		}
		step();
		on_message(session, &retained);
		finish_round();
		on_message(session, &live_message);
		give(commands[turn][4]);
		step();
		client.reason = "gone";
		use_connection(session);
		client.reason = NULL;
	}
}

static void test_a_life_with_little_memory(void **state)
{
	struct message *commands[3][5];
	unsigned long n;
	bool failed = true;
	size_t turn;

	(void)state;
	for (n = 1; failed; n++) {
		use(true, 0, 1000);
		for (turn = 0; turn < 3; turn++) {
			commands[turn][0] = new_command(MESSAGE_LISTENING, 0, "", 0, 0);
			commands[turn][1] = new_command(MESSAGE_SUBSCRIBE, turn, "a/#", 1, 10);
			commands[turn][2] = new_command(MESSAGE_SUBSCRIBE, 1 + turn, "a/+", 2, 11);
			commands[turn][3] = new_command(MESSAGE_SUBSCRIBE, 3, "$share/g/a", 1, 12);
			commands[turn][2]->as.request.options |= AS_PUBLISHED;
			commands[turn][4] = new_command(MESSAGE_UNSUBSCRIBE, turn, "a/#", 0, 0);
		}
		scarce_memory(n, false);
		live(commands);
		failed = scarce_memory_end();
		/* It goes on. */
		assert_int_equal(session->state, WAITING);
	}
	assert_true(n > 50);
}

#define session_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		session_test(test_connects_when_the_listeners_are_open),
		session_test(test_queued_messages_wait_for_their_consumers),
		session_test(test_a_session_of_another_time_is_ended_first),
		session_test(test_a_listener_of_another_broker),
		session_test(test_the_first_hold_is_bounded),
		session_test(test_tries_again_and_gives_up),
		session_test(test_another_client_that_takes_its_place_does_not_end_it),
		session_test(test_a_connection_that_is_taken_over_before_its_connack_is_read),
		session_test(test_a_connection_that_is_refused_is_not_taken_over),
		session_test(test_says_whether_it_is_up_when_asked),
		session_test(test_a_subscribe_that_does_not_go_out),
		session_test(test_an_unsubscribe_that_does_not_go_out),
		session_test(test_a_fence_that_the_broker_leaves_out),
		session_test(test_it_is_not_dead_while_bytes_come),
		session_test(test_bytes_prove_nothing),
		session_test(test_an_acknowledgement_that_does_not_come),
		session_test(test_an_acknowledgement_that_never_comes),
		session_test(test_what_is_retained_comes_once),
		session_test(test_tries_for_ever_where_retries_is_0),
		session_test(test_retained_messages_go_to_who_subscribed),
		session_test(test_one_round_serves_all_that_came_meanwhile),
		session_test(test_a_subscription_that_was_not_new),
		session_test(test_unsubscribing),
		session_test(test_unsubscribing_while_the_round_goes_on),
		session_test(test_a_refused_subscription_is_reported),
		session_test(test_a_connection_lost_in_a_round),
		session_test(test_a_fence_that_does_not_come),
		session_test(test_copies_are_recognised),
		session_test(test_marks_whose_copies_do_not_come_are_cleared),
		session_test(test_too_many_late_marks),
		session_test(test_what_a_copy_carries),
		session_test(test_copies_at_a_lower_qos),
		session_test(test_copies_at_a_higher_qos),
		session_test(test_copies_and_the_retain_flag),
		session_test(test_properties_that_the_broker_thread_cannot_read),
		session_test(test_missing_marks_are_told),
		session_test(test_late_marks_end),
		session_test(test_queued_messages_after_much_traffic),
		session_test(test_one_copy_counts_of_overlapping_filters),
		session_test(test_unsubscribing_from_qos_2),
		session_test(test_unsubscribing_while_the_session_suspends),
		session_test(test_consumers_share_in_turn),
		session_test(test_what_the_broker_queued),
		session_test(test_what_the_broker_queued_and_consumers_have),
		session_test(test_identifiers_are_the_same_in_another_process),
		session_test(test_a_full_inbound_queue_loses_nothing),
		session_test(test_fences_of_the_broker_thread_end_its_holds),
		session_test(test_fences_of_an_earlier_process_end_no_hold),
		session_test(test_suspending_waits_for_copies),
		session_test(test_suspending),
		session_test(test_who_wants_no_retained_messages),
		session_test(test_who_wants_retained_messages_once),
		session_test(test_a_group_gets_nothing_retained),
		session_test(test_retain_handling_outlives_a_connection),
		session_test(test_live_messages_keep_their_flag),
		session_test(test_live_messages_are_no_retained_ones),
		session_test(test_flags_in_what_the_broker_queued),
		session_test(test_a_message_gets_its_publisher),
		session_test(test_retained_messages_have_no_publisher),
		session_test(test_properties_come_with_a_message),
		session_test(test_properties_and_publishers_of_what_the_broker_queued),
		session_test(test_no_memory),
		session_test(test_a_life_with_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
