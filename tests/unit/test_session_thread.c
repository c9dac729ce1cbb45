/* session.c with its thread, between queues as the plugin has them. The test plays the broker: what it sends
 * is handed to the thread through a pipe, and every wait is for a word from the other side. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "options/options.h"
#include "scarce_memory.h"
#include "session/connection.h"
#include "session/session.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/thread.h"
#include "word_number.h"

#define PATIENCE_S 60
#define EVENTS 4096

/* ---- the connection's place ---- */

enum event_kind { CONNACK, ACKNOWLEDGEMENT, PUBLISHED, LOST };

struct event {
	enum event_kind kind;
	int packet;
	uint32_t subscription;
	bool retain;
	char text[24]; /* topic and payload */
};

struct connection {
	const struct connection_events *events;
	void *userdata;
};

static struct {
	pthread_mutex_t lock;
	struct event events[EVENTS]; /* guarded by lock, as are the next two */
	size_t sent, taken;
	int ends[2]; /* a pipe with a byte for each event */
	sem_t connects, packets, may_connect;
	atomic_int last_packet;
	atomic_uint last_subscription;
	atomic_bool is_connected, ended_session;
	atomic_int disconnects;
	atomic_uint without_reading; /* how often the connection was kept alive only */
	struct connection only;
} wire;

struct connection *connection_new(const struct options *options, const struct connection_events *events,
		void *userdata)
{
	(void)options;
	wire.only = (struct connection){events, userdata};
	return &wire.only;
}

void connection_free(struct connection *connection)
{
	(void)connection;
}

/* As the name server or the TCP handshake does, it may take its time. */
bool connection_connect(struct connection *connection, uint32_t session_expiry)
{
	(void)connection;
	(void)session_expiry;
	sem_post(&wire.connects);
	while (sem_wait(&wire.may_connect)) {
	}
	atomic_store(&wire.is_connected, true);
	return true;
}

void connection_disconnect(struct connection *connection, bool end_session)
{
	(void)connection;
	atomic_store(&wire.is_connected, false);
	atomic_store(&wire.ended_session, end_session);
	atomic_fetch_add(&wire.disconnects, 1);
}

int connection_socket(const struct connection *connection)
{
	(void)connection;
	return atomic_load(&wire.is_connected) ? wire.ends[0] : -1;
}

bool connection_wants_to_write(const struct connection *connection)
{
	(void)connection;
	return false;
}

bool connection_has_more(const struct connection *connection)
{
	(void)connection;
	return false;
}

void connection_caught_up(struct connection *connection)
{
	(void)connection;
}

static bool take_event(struct event *ret_event)
{
	bool found;

	pthread_mutex_lock(&wire.lock);
	found = wire.taken < wire.sent;
	if (found) {
		*ret_event = wire.events[wire.taken++ % EVENTS];
	}
	pthread_mutex_unlock(&wire.lock);
	return found;
}

bool connection_handle(struct connection *connection, unsigned int limit)
{
	struct connection_message message = {0};
	struct event event;
	unsigned int i;
	char byte;

	atomic_fetch_add(&wire.without_reading, limit == 0);
	for (i = 0; i < limit && read(wire.ends[0], &byte, 1) == 1; i++) {
		if (!take_event(&event)) {
			abort(); /* there is one for each byte; a test cannot fail on another thread */
		}
		switch (event.kind) {
		case CONNACK:
			connection->events->connected(connection->userdata, NULL, false);
			break;
		case ACKNOWLEDGEMENT:
			connection->events->acknowledged(connection->userdata, event.packet, 0);
			break;
		case PUBLISHED:
			message.topic = event.subscription ? "topic" : SESSION_FENCE_TOPIC;
			message.payload = event.text;
			message.payload_length = strlen(event.text);
			message.subscription = event.subscription;
			message.retain = event.retain;
			message.qos = event.subscription ? 0 : 1;
			connection->events->message(connection->userdata, &message);
			break;
		case LOST:
			return false;
		}
	}
	return true;
}

bool connection_was_taken_over(const struct connection *connection)
{
	(void)connection;
	return false;
}

const char *connection_reason(const struct connection *connection)
{
	(void)connection;
	return "it went away";
}

/* The broker thread reads packets and the outbound queue; words for it, and for the loop thread. */
static sem_t has_outbound, has_inbound;

static int send_packet(uint32_t subscription)
{
	int packet = atomic_fetch_add(&wire.last_packet, 1) + 1;

	atomic_store(&wire.last_subscription, subscription);
	sem_post(&wire.packets);
	sem_post(&has_outbound);
	return packet;
}

int connection_subscribe(struct connection *connection, const char *filter, uint8_t qos,
		uint32_t subscription, bool retained, bool flags)
{
	(void)flags;
	(void)connection;
	(void)filter;
	(void)qos;
	(void)retained;
	return send_packet(subscription);
}

int connection_unsubscribe(struct connection *connection, const char *filter)
{
	(void)connection;
	(void)filter;
	return send_packet(0);
}

/* ---- the thread keeps the test's descriptors ---- */

void __wrap_thread_take_own_descriptors(const int *keep, size_t count);

void __wrap_thread_take_own_descriptors(const int *keep, size_t count)
{
	size_t i;

	/* As it has to be called. */
	for (i = 1; i < count; i++) {
		if (keep[i] <= keep[i - 1]) {
			abort();
		}
	}
}

/* ---- the broker thread, which is this one ---- */

static struct options options;
static struct queue *inbound, *outbound;
static struct session *session;
static long blocks;

static void post(void *userdata)
{
	sem_post(userdata);
}

static void wait_for(sem_t *word)
{
	struct timespec deadline;

	(void)clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE_S;
	while (sem_timedwait(word, &deadline)) {
		assert_int_equal(errno, EINTR);
	}
}

static struct message *take(struct queue *queue, sem_t *word)
{
	struct message *message;

	while (!(message = queue_take(queue))) {
		wait_for(word);
	}
	return message;
}

static void begin(size_t queue_size)
{
	blocks = scarce_memory_blocks();
	memset(&wire, 0, sizeof(wire));
	assert_int_equal(pthread_mutex_init(&wire.lock, NULL), 0);
	assert_int_equal(pipe2(wire.ends, O_NONBLOCK), 0);
	assert_int_equal(sem_init(&wire.connects, 0, 0), 0);
	assert_int_equal(sem_init(&wire.packets, 0, 0), 0);
	assert_int_equal(sem_init(&wire.may_connect, 0, 1000), 0);
	assert_int_equal(sem_init(&has_inbound, 0, 0), 0);
	assert_int_equal(sem_init(&has_outbound, 0, 0), 0);
	options = (struct options){.host = (char *)(uintptr_t)"localhost",
		.port = 1883,
		.client_id = (char *)(uintptr_t)"me",
		.cleansession = true,
		.retries = 3};
	inbound = queue_new(queue_size, 1000000, post, &has_inbound);
	outbound = queue_new(1000, 1000000, post, &has_outbound);
	assert_int_equal(session_new(&options, inbound, outbound, 0, &session), MOSQ_ERR_SUCCESS);
	assert_int_equal(session_start(session), 0);
}

static int set_up(void **state)
{
	(void)state;
	begin(1000);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_true(session_stop(session, PATIENCE_S * 1000));
	session_free(session);
	queue_free(inbound);
	queue_free(outbound);
	close(wire.ends[0]);
	close(wire.ends[1]);
	pthread_mutex_destroy(&wire.lock);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static void command(enum message_kind kind, uint64_t consumer, const char *filter, uint64_t sequence)
{
	const struct message_request request = {
		.consumer = consumer, .sequence = sequence, .is_held = kind == MESSAGE_SUBSCRIBE && sequence};
	struct message *message = kind == MESSAGE_SUBSCRIBE ? message_subscribe(&request, filter, strlen(filter))
			: kind == MESSAGE_UNSUBSCRIBE ? message_unsubscribe(&request, filter, strlen(filter))
										  : message_listening();

	session_command(session, message);
}

static void broker_sends(struct event event)
{
	pthread_mutex_lock(&wire.lock);
	assert_true(wire.sent - wire.taken < EVENTS);
	wire.events[wire.sent++ % EVENTS] = event;
	pthread_mutex_unlock(&wire.lock);
	assert_int_equal(write(wire.ends[1], "", 1), 1);
}

static void broker_publishes(uint32_t subscription, bool retain, unsigned int number)
{
	struct event event = {.kind = PUBLISHED, .subscription = subscription, .retain = retain};

	(void)snprintf(event.text, sizeof(event.text), "%u", number);
	broker_sends(event);
}

/* Does what the session asks the broker thread for, up to a word of this kind. Returns whether the session is
 * up, if that is it. */
static int serve_until(enum message_kind kind)
{
	struct message *message;
	enum message_kind was;
	int is_up;

	do {
		message = take(outbound, &has_outbound);
		was = message->kind;
		is_up = was == MESSAGE_SESSION ? message->as.session.is_up : -1;
		if (was == MESSAGE_FENCE) {
			struct event event = {.kind = PUBLISHED};

			(void)snprintf(event.text, sizeof(event.text), "%" PRIu64, message->as.fence.number);
			broker_sends(event);
		} else if (was == MESSAGE_LOG) {
			queue_release(outbound, message_size(message));
		}
		message_free(message);
	} while (was != kind);
	return is_up;
}

/* which: the consumer's number, the answer's or the hold's. */
static void receive(enum message_kind kind, uint64_t which)
{
	struct message *message = take(inbound, &has_inbound);

	assert_int_equal(message->kind, kind);
	assert_int_equal(word_number(message), which);
	message_free(message);
}

static void assert_number(const struct message *message, unsigned int number)
{
	char payload[24];

	(void)snprintf(payload, sizeof(payload), "%u", number);
	assert_int_equal(message->kind, MESSAGE_PUBLISH);
	assert_int_equal(message->payload_length, strlen(payload));
	assert_memory_equal(message->payload, payload, strlen(payload));
	queue_release(inbound, message_size(message));
}

static void receive_number(unsigned int number)
{
	struct message *message = take(inbound, &has_inbound);

	assert_number(message, number);
	message_free(message);
}

static void bring_up(void)
{
	command(MESSAGE_LISTENING, 0, "", 0);
	wait_for(&wire.connects);
	broker_sends((struct event){.kind = CONNACK});
	assert_int_equal(serve_until(MESSAGE_SESSION), 1);
	receive(MESSAGE_RELEASE, SESSION_FIRST_HOLD);
}

/* Returns the subscription's identifier. */
static uint32_t acknowledge(void)
{
	wait_for(&wire.packets);
	broker_sends((struct event){.kind = ACKNOWLEDGEMENT, .packet = atomic_load(&wire.last_packet)});
	return atomic_load(&wire.last_subscription);
}

/* ---- tests ---- */

/* Each word from either side wakes the thread, which otherwise waits for seconds. */
static void test_a_whole_life(void **state)
{
	uint32_t subscription;

	(void)state;
	bring_up();
	command(MESSAGE_SUBSCRIBE, 1, "topic", 5);
	subscription = acknowledge();
	broker_publishes(subscription, true, 1);
	receive_number(1);
	(void)serve_until(MESSAGE_FENCE);
	receive(MESSAGE_RELEASE_CONSUMER, 1);
	receive(MESSAGE_ANSWER, 5);
	broker_publishes(subscription, false, 2);
	receive_number(2);

	broker_sends((struct event){.kind = LOST});
	assert_int_equal(serve_until(MESSAGE_SESSION), 0);
	wait_for(&wire.connects);
	broker_sends((struct event){.kind = CONNACK});
	(void)serve_until(MESSAGE_FENCE);
	(void)acknowledge(); /* the broker had forgotten the session */
	assert_int_equal(serve_until(MESSAGE_SESSION), 1);
	broker_publishes(subscription, false, 3);
	receive_number(3);
}

static void test_ends_in_every_state(void **state)
{
	unsigned int i;

	(void)state;
	tear_down(NULL); /* it waits for the start */

	begin(1000);
	command(MESSAGE_LISTENING, 0, "", 0);
	wait_for(&wire.connects); /* for CONNACK */
	tear_down(NULL);

	begin(1000);
	command(MESSAGE_LISTENING, 0, "", 0);
	wait_for(&wire.connects);
	broker_sends((struct event){.kind = CONNACK}); /* for the first fence */
	message_free(take(outbound, &has_outbound));
	tear_down(NULL);

	begin(1);
	bring_up();
	command(MESSAGE_SUBSCRIBE, 1, "topic", 5);
	(void)acknowledge();
	for (i = 0; i < 5; i++) { /* for room */
		broker_publishes(atomic_load(&wire.last_subscription), true, i);
	}
}

/* The name server may hold the thread up for longer than the broker waits for it. */
static void test_does_not_end_while_it_connects(void **state)
{
	(void)state;
	while (sem_trywait(&wire.may_connect) == 0) {
	}
	command(MESSAGE_LISTENING, 0, "", 0);
	wait_for(&wire.connects);
	assert_false(session_stop(session, 10));
	assert_false(session_stop(session, 0));
	sem_post(&wire.may_connect);
}

/* More than there is room for; the consumers are slow. */
static void test_nothing_is_lost_and_order_is_kept(void **state)
{
	enum { COUNT = 500 };
	/* A loop thread that takes nothing for OUTLET_STALL_MS, on a busy machine this one, gets the release at
	 * once: it may be what it waits for. */
	bool gave_up_early = false;
	unsigned int i, releases = 0, released_after = 0;
	struct message *message;
	uint32_t subscription;

	(void)state;
	tear_down(NULL);
	begin(3);
	bring_up();
	command(MESSAGE_SUBSCRIBE, 1, "topic", 5);
	subscription = acknowledge();
	for (i = 0; i < COUNT; i++) {
		broker_publishes(subscription, true, i);
	}
	/* While there is no room the broker still gets its sign of life. */
	while (atomic_load(&wire.without_reading) < 3) {
		(void)sched_yield();
	}
	(void)serve_until(MESSAGE_FENCE);
	for (i = 0; (message = take(inbound, &has_inbound))->kind != MESSAGE_ANSWER;) {
		if (message->kind == MESSAGE_RELEASE_CONSUMER) {
			assert_int_equal(message->as.hold_consumer.consumer, 1);
			released_after = i;
			releases++;
		} else if (message->kind == MESSAGE_RELEASE) {
			gave_up_early = true;
		} else {
			assert_number(message, i++);
		}
		message_free(message);
	}
	assert_int_equal(i, COUNT);
	assert_int_equal(releases, 1);
	assert_true(released_after == COUNT || gave_up_early);
	assert_int_equal(message->as.answer.sequence, 5);
	message_free(message);
}

struct answers {
	unsigned int wanted;
	atomic_bool done;
	unsigned int releases;
};

/* The loop thread. */
static void *count_answers(void *argument)
{
	struct answers *answers = argument;
	unsigned int found = 0;
	struct message *message;

	while (found < answers->wanted) {
		message = queue_take(inbound);
		if (!message) {
			while (sem_wait(&has_inbound)) {
			}
			continue;
		}
		found += message->kind == MESSAGE_ANSWER;
		answers->releases += message->kind == MESSAGE_RELEASE_CONSUMER;
		if (message->kind == MESSAGE_PUBLISH) {
			queue_release(inbound, message_size(message));
		}
		message_free(message);
	}
	atomic_store(&answers->done, true);
	sem_post(&has_outbound);
	return NULL;
}

/* Every subscribe() returns, with its hold released, whatever goes on at the same time. */
static void test_many_subscribe_at_once(void **state)
{
	enum { COUNT = 2000, FILTERS = 50 };
	struct answers answers = {.wanted = COUNT};
	int acknowledged = 0;
	struct message *message;
	pthread_t loop;
	unsigned int sent = 0;
	char filter[16];

	(void)state;
	bring_up();
	assert_int_equal(pthread_create(&loop, NULL, count_answers, &answers), 0);
	while (!atomic_load(&answers.done)) {
		if (sent < COUNT) {
			(void)snprintf(filter, sizeof(filter), "f/%u", sent % FILTERS);
			command(MESSAGE_SUBSCRIBE, 1 + sent % 7, filter, 1 + sent);
			if (sent % 3 == 0) {
				command(MESSAGE_UNSUBSCRIBE, 1 + sent % 7, filter, 0);
			}
			sent++;
		} else {
			wait_for(&has_outbound);
		}
		while (acknowledged < atomic_load(&wire.last_packet)) {
			broker_sends((struct event){.kind = ACKNOWLEDGEMENT, .packet = ++acknowledged});
		}
		while ((message = queue_take(outbound))) {
			if (message->kind == MESSAGE_FENCE) {
				struct event event = {.kind = PUBLISHED};

				(void)snprintf(event.text, sizeof(event.text), "%" PRIu64, message->as.fence.number);
				broker_sends(event);
			}
			message_free(message);
		}
	}
	assert_int_equal(pthread_join(loop, NULL), 0);
	assert_int_equal(answers.releases, COUNT);
}

#define thread_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		thread_test(test_a_whole_life),
		thread_test(test_ends_in_every_state),
		thread_test(test_does_not_end_while_it_connects),
		thread_test(test_nothing_is_lost_and_order_is_kept),
		thread_test(test_many_subscribe_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
