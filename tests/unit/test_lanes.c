#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "broker/lanes.h"
#include "broker/refused.h"
#include "broker/versions.h"
#include "scarce_memory.h"
#include "session/session.h"
#include "shared/client.h"
#include "shared/fingerprint.h"
#include "shared/marks.h"
#include "shared/message.h"
#include "shared/queue.h"
#include "stub_broker.h"
#include "stub_session.h"

static time_t seconds;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	(void)clock;
	ret_time->tv_sec = seconds;
	ret_time->tv_nsec = 0;
	return 0;
}

/* The hash has a key of its own in each process, and connections are known by their addresses: left to
 * chance, two of a test's share a slot in one process of 256. */
ssize_t __wrap_getrandom(void *buf, size_t buflen, unsigned int flags);

ssize_t __wrap_getrandom(void *buf, size_t buflen, unsigned int flags)
{
	(void)flags;
	memset(buf, 1, buflen);
	return (ssize_t)buflen;
}

static const void *const client = (const void *)0x1000, *const another = (const void *)0x2000;

static struct queue *inbound;
static struct lanes *lanes;
static long blocks;

static void ignore(void *userdata)
{
	(void)userdata;
}

static int set_up(void **state)
{
	(void)state;
	stub_broker_reset();
	stub_session_reset();
	blocks = scarce_memory_blocks();
	seconds = 1000;
	stub_session.marks = marks_new(64);
	inbound = queue_new(100, 1000000, ignore, NULL);
	lanes = lanes_new(stub_session_get(), inbound, &versions_2_1, false);
	assert_non_null(lanes);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	lanes_free(lanes);
	queue_free(inbound);
	marks_free(stub_session.marks);
	stub_session_reset();
	stub_broker_reset();
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static void receive(enum message_kind kind, int number)
{
	struct message *message = queue_take(inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, kind);
	assert_int_equal(message->as.hold.number, number);
	message_free(message);
}

static void receive_nothing(void)
{
	assert_null(queue_take(inbound));
}

static struct lanes_message published(const char *topic, const char *payload, uint8_t qos)
{
	return (struct lanes_message){.content = {.topic = topic,
									  .topic_length = strlen(topic),
									  .payload = payload,
									  .payload_length = strlen(payload)},
		.qos = qos};
}

/* Whether it is left to the session; if not, a message is made of it. */
static bool choose(const struct lanes_message *message)
{
	const struct recipient recipient = {.consumer = 7, .qos = 2};
	struct message *made;
	enum lane lane = lanes_choose(lanes, message, &recipient, 1, &made);

	assert_int_equal(made != NULL, lane == LANE_DIRECT);
	if (made) {
		assert_int_equal(made->kind, MESSAGE_PUBLISH);
		assert_string_equal(made->topic, message->content.topic);
		assert_int_equal(made->as.publish.qos, message->qos);
		assert_int_equal(made->as.publish.retain, message->retain);
		assert_int_equal(made->recipient_count, 1);
		assert_null(made->client);
		message_free(made);
	}
	return lane == LANE_SESSION;
}

static bool leave(const void *connection, const char *topic, uint8_t qos)
{
	struct lanes_message message = published(topic, "", qos);

	message.connection = connection;
	return choose(&message);
}

static void went_direct(const char *topic, const char *payload, uint8_t qos)
{
	const struct lanes_message message = published(topic, payload, qos);

	assert_false(choose(&message));
}

static void publishes(const char *topic, const char *payload)
{
	const struct lanes_message message = published(topic, payload, 1);

	lanes_publishes(lanes, &message);
}

static bool is_copy_at(const char *topic, const char *payload, uint8_t qos)
{
	const struct lanes_message message = published(topic, payload, qos);

	return lanes_is_copy(lanes, &message) ||
			(lanes_has_published(lanes) && lanes_is_own_copy(lanes, &message));
}

static bool is_copy(const char *topic, const char *payload)
{
	return is_copy_at(topic, payload, 1);
}

static bool is_marked_as(const struct lanes_message *message, enum fingerprint_retain retain)
{
	uint64_t value = fingerprint_published(fingerprint_of(&message->content, true), message->qos, retain);

	return marks_take(stub_session.marks, &value, 1);
}

static bool is_marked_at(const char *topic, const char *payload, uint8_t qos)
{
	const struct lanes_message message = published(topic, payload, qos);

	return is_marked_as(&message, FINGERPRINT_LIVE);
}

static bool is_marked(const char *topic, const char *payload)
{
	return is_marked_at(topic, payload, 1);
}

static bool command_with(enum message_kind kind, const char *filter, uint64_t sequence, uint8_t options,
		bool is_new)
{
	const struct message command = {.kind = kind,
		.topic = filter,
		.topic_length = strlen(filter),
		.as.request = {.consumer = 7, .options = options, .sequence = sequence}};
	bool answers;

	assert_int_equal(lanes_command(lanes, &command, is_new, &answers), MOSQ_ERR_SUCCESS);
	return answers;
}

static bool command(enum message_kind kind, const char *filter, uint64_t sequence)
{
	return command_with(kind, filter, sequence, 1, true);
}

static struct client *connect_with(int protocol_version)
{
	const struct client_description description = {.id = "somebody", .protocol_version = protocol_version};
	struct client *made = client_new(&description, NULL);

	assert_non_null(made);
	return made;
}

static bool leave_of(struct client *publisher, const char *topic, const char *payload, uint8_t qos)
{
	struct lanes_message message = published(topic, payload, qos);

	message.connection = client;
	message.client = publisher;
	return choose(&message);
}

static void test_opening_holds_back_and_tells_the_session_once(void **state)
{
	(void)state;
	lanes_open(lanes);
	lanes_open(lanes);
	receive(MESSAGE_HOLD, SESSION_FIRST_HOLD);
	receive_nothing();
	assert_int_equal(stub_session.command_count, 1);
	assert_int_equal(stub_session.commands[0]->kind, MESSAGE_LISTENING);
	assert_int_equal(stub.publish_count, 0); /* the session ends the first hold itself */
}

static void test_without_a_session_everything_is_direct(void **state)
{
	(void)state;
	lanes_free(lanes);
	lanes = lanes_new(NULL, inbound, &versions_2_1, false);
	lanes_open(lanes);
	assert_false(leave(client, "a", 2));
	went_direct("a", "1", 1);
	publishes("a", "1");
	lanes_hold_for_will(lanes, false);
	assert_false(command(MESSAGE_SUBSCRIBE, "a", 1));
	assert_false(is_marked("a", "1"));
	receive_nothing();
}

static void test_qos_2_goes_through_the_session_while_it_is_up(void **state)
{
	(void)state;
	assert_false(leave(client, "a", 2));
	lanes_set_session(lanes, true);
	assert_false(leave(client, "a", 1));
	assert_true(leave(client, "a", 2));
	lanes_set_session(lanes, false);
	assert_false(leave(client, "a", 2));
}

/* So that a later message of the same client, or to the same topic, does not overtake it. */
static void test_what_follows_a_qos_2_message_is_kept_back_for_a_while(void **state)
{
	(void)state;
	lanes_set_session(lanes, true);
	assert_true(leave(client, "a", 2));
	assert_false(leave(another, "b", 0));
	receive_nothing();
	seconds += 9;
	assert_false(leave(another, "a", 0));
	receive(MESSAGE_HOLD, 1);
	assert_int_equal(stub.publish_count, 1);
	assert_false(leave(client, "b", 1));
	receive_nothing(); /* the fence of this turn is sent behind both */
	lanes_tick(lanes);
	assert_false(leave(client, "b", 1));
	receive(MESSAGE_HOLD, 2);
	lanes_tick(lanes);
	seconds += 1;
	assert_false(leave(client, "a", 1));
	receive_nothing();
}

static void test_a_will_is_waited_for(void **state)
{
	char fence[24];

	(void)state;
	lanes_hold_for_will(lanes, false);
	receive_nothing();
	lanes_set_session(lanes, true);
	lanes_hold_for_will(lanes, false);
	receive(MESSAGE_HOLD, 1);
	lanes_hold_for_will(lanes, false);
	receive_nothing(); /* the fence of this turn is sent behind both */
	assert_false(lanes_tick(lanes));
	lanes_hold_for_will(lanes, false);
	receive(MESSAGE_HOLD, 2);
	assert_int_equal(stub.publish_count, 2);
	assert_string_equal(stub.publishes[1].client_id, "the-session");
	assert_string_equal(stub.publishes[1].topic, SESSION_FENCE_TOPIC);
	assert_int_equal(stub.publishes[1].qos, 1);
	(void)snprintf(fence, sizeof(fence), "%llu", (unsigned long long)(SESSION_HOLD_FENCE | 2));
	assert_string_equal(stub.publishes[1].payload, fence);
	/* Nothing will come any more. */
	lanes_set_session(lanes, false);
	receive(MESSAGE_RELEASE, 2);
	lanes_set_session(lanes, false);
	receive_nothing();
}

/* On 2.1: the fence of this turn may have been sent. One for all that follow is sent in the TICK. */
static void test_a_late_will_is_waited_for(void **state)
{
	(void)state;
	lanes_set_session(lanes, true);
	lanes_hold_for_will(lanes, true);
	receive(MESSAGE_HOLD, 1);
	assert_int_equal(stub.publish_count, 1);
	lanes_hold_for_will(lanes, true);
	receive(MESSAGE_HOLD, 2);
	lanes_hold_for_will(lanes, true);
	assert_false(leave(client, "a", 0));
	receive_nothing();
	assert_int_equal(stub.publish_count, 1);
	assert_true(lanes_tick(lanes));
	assert_int_equal(stub.publish_count, 2);
	assert_false(lanes_tick(lanes));
	/* What is published now the broker sends after the next events, or before: nobody can tell. */
	lanes_hold_for_will(lanes, true);
	receive(MESSAGE_HOLD, 3);
	assert_int_equal(stub.publish_count, 3);
}

/* Clients come and go faster than the session can read. */
static void test_fences_are_bounded_by_what_the_session_has_read(void **state)
{
	int i;

	(void)state;
	lanes_set_session(lanes, true);
	for (i = 0; i < 1000; i++) {
		lanes_hold_for_will(lanes, i % 2);
		(void)lanes_tick(lanes);
	}
	assert_int_equal(stub.publish_count, 16);
	for (i = 1; i <= 17; i++) {
		receive(MESSAGE_HOLD, i);
	}
	receive_nothing();
	stub_session.released = 5;
	assert_true(lanes_tick(lanes));
	assert_int_equal(stub.publish_count, 17);
	assert_false(lanes_tick(lanes));
	/* Those under way are lost with the connection. */
	lanes_set_session(lanes, false);
	receive(MESSAGE_RELEASE, 17);
	lanes_set_session(lanes, true);
	lanes_hold_for_will(lanes, false);
	receive(MESSAGE_HOLD, 18);
	assert_int_equal(stub.publish_count, 18);
}

/* And so that the loop thread does not wait in vain for fences that got lost, one goes each second. */
static void test_a_lost_fence_is_made_good(void **state)
{
	int i;

	(void)state;
	lanes_set_session(lanes, true);
	for (i = 0; i < 20; i++) {
		lanes_hold_for_will(lanes, false);
		(void)lanes_tick(lanes);
	}
	assert_int_equal(stub.publish_count, 16);
	seconds++;
	assert_true(lanes_tick(lanes));
	assert_false(lanes_tick(lanes));
	assert_int_equal(stub.publish_count, 17);
}

/* Nothing else need happen for that. */
static void test_a_fence_that_does_not_come_is_sent_again(void **state)
{
	(void)state;
	lanes_set_session(lanes, true);
	lanes_hold_for_will(lanes, false);
	assert_int_equal(stub.publish_count, 1);
	(void)lanes_tick(lanes);
	seconds++;
	assert_false(lanes_tick(lanes));
	seconds++;
	assert_true(lanes_tick(lanes));
	assert_int_equal(stub.publish_count, 2);
	assert_string_equal(stub.publishes[1].topic, SESSION_FENCE_TOPIC);
	assert_string_equal(stub.publishes[1].payload, stub.publishes[0].payload);
	/* Less and less often. */
	seconds += 2;
	assert_false(lanes_tick(lanes));
	seconds++;
	assert_true(lanes_tick(lanes));
	stub_session.released = 1;
	seconds += 100;
	assert_false(lanes_tick(lanes));
	assert_int_equal(stub.publish_count, 3);
}

static void test_holds_are_bounded_by_what_the_loop_has_taken(void **state)
{
	struct message *message;
	int i;

	(void)state;
	lanes_set_session(lanes, true);
	for (i = 0; i < 1000; i++) {
		stub_session.released = i;
		lanes_hold_for_will(lanes, false);
		(void)lanes_tick(lanes);
	}
	assert_int_equal(queue_controls(inbound), 256);
	assert_false(lanes_tick(lanes));
	while ((message = queue_take(inbound))) {
		message_free(message);
	}
	assert_int_equal(queue_controls(inbound), 0);
	assert_true(lanes_tick(lanes));
}

static void test_copies_are_marked_where_they_cannot_be_refused(void **state)
{
	(void)state;
	went_direct("a", "1", 1);
	publishes("b", "2");
	assert_false(is_copy("a", "1"));
	assert_true(is_marked("a", "1"));
	assert_true(is_marked("b", "2"));
	assert_false(is_marked("b", "2"));
}

static void test_copies_are_refused(void **state)
{
	char topic[] = "a", same_text[] = "a";

	(void)state;
	lanes_refuse_copies(lanes);
	went_direct(topic, "1", 1);
	assert_true(is_copy(topic, "1"));
	assert_true(is_copy(topic, "1")); /* for another filter */
	assert_false(is_copy(topic, "2"));
	/* A QoS 2 message or a will of the same content. */
	assert_false(is_copy(same_text, "1"));
	lanes_next_message(lanes);
	assert_false(is_copy(topic, "1"));
	assert_false(is_marked("a", "1"));
	/* QoS 2, while there is no session: its copy is made later. */
	went_direct(topic, "2", 2);
	assert_false(is_copy_at(topic, "2", 2));
	assert_true(is_marked_at("a", "2", 2));
}

/* The broker sends them in its next turn, before the TICK. */
static void test_copies_of_own_publishes_are_refused(void **state)
{
	size_t i;
	char payload[8];

	(void)state;
	lanes_refuse_copies(lanes);
	lanes_set_session(lanes, true);
	for (i = 0; i < 100; i++) {
		(void)snprintf(payload, sizeof(payload), "%zu", i);
		publishes("a", payload);
	}
	lanes_next_message(lanes);
	assert_true(is_copy("a", "0"));
	assert_true(is_copy("a", "99"));
	assert_false(is_copy("a", "100"));
	lanes_tick(lanes);
	assert_false(is_copy("a", "0"));
}

/* The broker sends a will at once, before what was published until then. */
static void test_a_will_is_not_taken_for_an_own_publish(void **state)
{
	(void)state;
	lanes_refuse_copies(lanes);
	lanes_set_session(lanes, true);
	publishes("a", "1");
	publishes("a", "2");
	assert_true(is_copy("a", "1"));
	lanes_next_message(lanes);
	lanes_hold_for_will(lanes, false);
	assert_false(is_copy("a", "1"));
	assert_false(is_copy("a", "2"));
	publishes("a", "3");
	assert_true(is_copy("a", "3"));
	assert_true(is_marked("a", "1"));
	assert_true(is_marked("a", "2"));
	assert_false(is_marked("a", "3"));
	receive(MESSAGE_HOLD, 1);
}

/* Mosquitto 2.0 sends them just after the TICK: what is published later waits for the one after it. */
static void test_copies_of_own_publishes_are_refused_after_the_tick(void **state)
{
	(void)state;
	lanes_free(lanes);
	lanes = lanes_new(stub_session_get(), inbound, &versions_2_0, false);
	assert_true(lanes_refuse_copies(lanes));
	assert_false(lanes_refuse_copies(lanes));
	lanes_set_session(lanes, true);
	lanes_tick(lanes);
	publishes("a", "1");
	publishes("a", "2");
	assert_true(is_copy("a", "2"));
	assert_true(is_copy("a", "1"));
	lanes_next_message(lanes);
	assert_false(is_copy("a", "1")); /* retained, or a client's that was left to the session */
	publishes("a", "3");
	lanes_next_message(lanes);
	assert_false(is_copy("a", "3"));
	lanes_tick(lanes);
	assert_true(is_copy("a", "3"));
	assert_false(is_copy("a", "1"));
	/* Nothing has happened since. */
	lanes_tick(lanes);
	assert_false(is_copy("a", "3"));
	publishes("a", "4");
	lanes_tick(lanes);
	assert_false(is_copy("a", "4"));
	assert_false(is_marked("a", "4"));
}

/* Mosquitto 2.0 does not show them when it asks. */
static void test_properties_are_not_asked_about(void **state)
{
	static const char properties[] = {MQTT_PROP_CORRELATION_DATA, 0, 1, 'x'};
	struct lanes_message message = published("a", "1", 1), asked = message;

	(void)state;
	lanes_free(lanes);
	lanes = lanes_new(stub_session_get(), inbound, &versions_2_0, false);
	lanes_refuse_copies(lanes);
	lanes_set_session(lanes, true);
	message.content.properties = properties;
	message.content.properties_length = sizeof(properties);
	message.list = properties;
	assert_false(choose(&message));
	assert_true(lanes_is_copy(lanes, &asked));
	lanes_tick(lanes);
	lanes_publishes(lanes, &message);
	assert_true(lanes_is_own_copy(lanes, &asked));
}

/* The broker then asks about all that it has kept for it. */
static void test_copies_of_own_publishes_are_marked_while_the_session_is_down(void **state)
{
	(void)state;
	lanes_refuse_copies(lanes);
	publishes("a", "1");
	assert_false(is_copy("a", "1"));
	assert_true(is_marked("a", "1"));
}

/* The same topic and payload are not the same message: QoS, RETAIN flag and properties tell. */
static void test_what_is_compared(void **state)
{
	static const char properties[] = {MQTT_PROP_CORRELATION_DATA, 0, 1, 'x'};
	struct lanes_message message = published("a", "1", 1), other;

	(void)state;
	message.content.properties = properties;
	message.content.properties_length = sizeof(properties);
	message.list = properties;
	/* Marked, */
	assert_false(choose(&message));
	assert_false(is_marked("a", "1"));
	assert_true(is_marked_as(&message, FINGERPRINT_LIVE));
	message.retain = true;
	assert_false(choose(&message));
	assert_false(is_marked_as(&message, FINGERPRINT_LIVE));
	assert_true(is_marked_as(&message, FINGERPRINT_RETAIN));
	lanes_publishes(lanes, &message);
	assert_false(is_marked_as(&message, FINGERPRINT_RETAIN));
	assert_true(is_marked_as(&message, FINGERPRINT_OWN_RETAIN));
	/* and refused. */
	lanes_refuse_copies(lanes);
	lanes_set_session(lanes, true);
	assert_false(choose(&message));
	lanes_publishes(lanes, &message);
	assert_true(lanes_is_copy(lanes, &message));
	assert_true(lanes_is_own_copy(lanes, &message));
	other = message;
	other.qos = 2;
	assert_false(lanes_is_copy(lanes, &other));
	assert_false(lanes_is_own_copy(lanes, &other));
	other = message;
	other.list = NULL;
	other.content.properties_length = 0;
	assert_false(lanes_is_copy(lanes, &other));
	assert_false(lanes_is_own_copy(lanes, &other));
	other = message;
	other.retain = false;
	assert_false(lanes_is_copy(lanes, &other));
	assert_true(lanes_is_own_copy(lanes, &other)); /* retain_available false */
	message.retain = false;
	other.retain = true;
	lanes_tick(lanes);
	lanes_publishes(lanes, &message);
	assert_false(lanes_is_own_copy(lanes, &other));
}

/* Memory of a message that is gone is used for the next. */
static void is_told_from_others_at_the_same_place(char *topic, char *payload)
{
	char last = topic[strlen(topic) - 1], *end = payload + strlen(payload);

	went_direct(topic, payload, 1);
	assert_true(is_copy(topic, payload));
	if (end > payload) {
		end[-1]++;
		assert_false(is_copy(topic, payload));
		end[-1]--;
		assert_true(is_copy(topic, payload));
		end[-1] = '\0';
		assert_false(is_copy(topic, payload));
		end[-1] = '1';
	}
	topic[strlen(topic) - 1]++;
	assert_false(is_copy(topic, payload));
	topic[strlen(topic) - 1] = '\0';
	assert_false(is_copy(topic, payload));
	topic[strlen(topic)] = last;
	assert_true(is_copy(topic, payload));
}

static void test_other_content_at_the_same_place(void **state)
{
	char topic[] = "a/b", payload[] = "1", empty[] = "", all[REFUSED_BYTES - 2],
		 long_payload[REFUSED_BYTES - 1];
	char long_topic[REFUSED_BYTES + 3];

	(void)state;
	lanes_refuse_copies(lanes);
	is_told_from_others_at_the_same_place(topic, payload);
	is_told_from_others_at_the_same_place(topic, empty);
	/* The longest that is copied, and those of which there is a fingerprint. */
	memset(all, '1', sizeof(all) - 1);
	all[sizeof(all) - 1] = '\0';
	is_told_from_others_at_the_same_place(topic, all);
	memset(long_payload, '1', sizeof(long_payload) - 1);
	long_payload[sizeof(long_payload) - 1] = '\0';
	is_told_from_others_at_the_same_place(topic, long_payload);
	memset(long_topic, 'a', sizeof(long_topic) - 1);
	long_topic[sizeof(long_topic) - 1] = '\0';
	is_told_from_others_at_the_same_place(long_topic, payload);
	is_told_from_others_at_the_same_place(long_topic, empty);
}

/* The broker may release a client's of the same content in the same turn, before it sends this. */
static void test_copies_of_own_qos_2_publishes_are_marked(void **state)
{
	const struct lanes_message message = published("a", "1", 2);

	(void)state;
	lanes_refuse_copies(lanes);
	lanes_publishes(lanes, &message);
	assert_false(lanes_has_published(lanes));
	assert_true(is_marked_at("a", "1", 2));
}

/* Without a reader for their properties, clients' messages are told apart without; then all are. */
static void test_properties_that_nobody_can_read(void **state)
{
	static const char properties[] = {MQTT_PROP_CORRELATION_DATA, 0, 1, 'x'};
	struct lanes_message message = published("a", "1", 1);

	(void)state;
	lanes_ignore_properties(lanes);
	assert_true(stub_session.ignores_properties);
	message.content.properties = properties;
	message.content.properties_length = sizeof(properties);
	lanes_publishes(lanes, &message);
	assert_true(is_marked("a", "1"));
}

/* The broker asks about the session, not about the subscription: what is for the group must pass. */
static void test_copies_are_marked_where_the_topic_is_shared(void **state)
{
	(void)state;
	lanes_refuse_copies(lanes);
	assert_false(command(MESSAGE_SUBSCRIBE, "$share/one/a/+", 0));
	assert_false(command(MESSAGE_SUBSCRIBE, "$share/two/a/+", 0));
	went_direct("a/b", "1", 1);
	assert_false(is_copy("a/b", "1"));
	assert_true(is_marked("a/b", "1"));
	publishes("a/b", "2");
	assert_false(is_copy("a/b", "2"));
	assert_true(is_marked("a/b", "2"));
	assert_false(command(MESSAGE_UNSUBSCRIBE, "$share/one/a/+", 0));
	went_direct("a/b", "3", 1);
	assert_true(is_marked("a/b", "3"));
	assert_false(command(MESSAGE_UNSUBSCRIBE, "$share/two/a/+", 0));
	went_direct("a/b", "4", 1);
	assert_false(is_marked("a/b", "4"));
}

static void test_no_marks_once_the_session_has_given_up(void **state)
{
	struct marks *marks = stub_session.marks;

	(void)state;
	stub_session.marks = NULL;
	went_direct("a", "1", 1);
	publishes("a", "1");
	lanes_fence(lanes, 5);
	stub_session.marks = marks;
	assert_false(is_marked("a", "1"));
}

static void test_a_fence_is_marked_and_sent(void **state)
{
	(void)state;
	went_direct("a", "1", 1);
	lanes_fence(lanes, 5);
	went_direct("a", "2", 1);
	assert_int_equal(stub.publish_count, 1);
	assert_string_equal(stub.publishes[0].payload, "5");
	(void)marks_pass(stub_session.marks, 5);
	assert_false(is_marked("a", "1"));
	assert_true(is_marked("a", "2"));
	stub.no_memory = true;
	lanes_fence(lanes, 6);
	stub.no_memory = false;
	stub.publish_rc = MOSQ_ERR_NOMEM;
	lanes_fence(lanes, 7);
	assert_int_equal(stub.publish_count, 1);
}

static void test_commands_are_answered_by_the_session_only_while_it_is_up(void **state)
{
	(void)state;
	assert_false(command(MESSAGE_SUBSCRIBE, "a", 5));
	assert_int_equal(stub_session.commands[0]->as.request.sequence, 0);
	assert_int_equal(stub_session.commands[0]->as.request.consumer, 7);
	assert_int_equal(stub_session.commands[0]->as.request.options, 1);
	assert_string_equal(stub_session.commands[0]->topic, "a");
	lanes_set_session(lanes, true);
	assert_true(command(MESSAGE_SUBSCRIBE, "a", 6));
	assert_int_equal(stub_session.commands[1]->as.request.sequence, 6);
	message_free(queue_take(inbound)); /* the first one's hold */
	assert_true(command(MESSAGE_UNSUBSCRIBE, "a", 7));
	assert_int_equal(stub_session.commands[2]->as.request.sequence, 7);
	assert_true(queue_is_empty(inbound));
	assert_true(lanes_tell_session(lanes, message_settled("", 0)));
	assert_int_equal(stub_session.command_count, 4);
}

/* Retain Handling: who gets nothing that was retained need not keep anything back. */
static void test_only_who_gets_retained_messages_keeps_back(void **state)
{
	static const struct {
		uint8_t handling;
		bool is_new, holds;
	} cases[] = {
		{MQTT_SUB_OPT_SEND_RETAIN_ALWAYS, true, true},
		{MQTT_SUB_OPT_SEND_RETAIN_ALWAYS, false, true},
		{MQTT_SUB_OPT_SEND_RETAIN_NEW, true, true},
		{MQTT_SUB_OPT_SEND_RETAIN_NEW, false, false},
		{MQTT_SUB_OPT_SEND_RETAIN_NEVER, true, false},
		{MQTT_SUB_OPT_SEND_RETAIN_NEVER, false, false},
	};
	const struct message *copy;
	struct message *hold;
	size_t i;

	(void)state;
	lanes_set_session(lanes, true);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t options = (uint8_t)(2 | MQTT_SUB_OPT_NO_LOCAL | cases[i].handling);

		assert_true(command_with(MESSAGE_SUBSCRIBE, "a", 5, options, cases[i].is_new));
		copy = stub_session.commands[stub_session.command_count - 1];
		assert_int_equal(copy->as.request.options, options);
		assert_int_equal(copy->as.request.sequence, 5);
		assert_int_equal(copy->as.request.is_held, cases[i].holds);
		hold = queue_take(inbound);
		assert_int_equal(hold != NULL, cases[i].holds);
		if (hold) {
			assert_int_equal(hold->kind, MESSAGE_HOLD_CONSUMER);
			assert_int_equal(hold->as.hold_consumer.consumer, 7);
			assert_int_equal(hold->as.hold_consumer.again, !cases[i].is_new);
			message_free(hold);
		}
		receive_nothing();
		/* Nobody waits for an answer, so the session says it. */
		assert_false(command_with(MESSAGE_SUBSCRIBE, "a", 0, options, cases[i].is_new));
		assert_int_equal(stub_session.commands[stub_session.command_count - 1]->as.request.is_held, 0);
		receive_nothing();
	}
	/* A group gets none (MQTT 5, 4.8.2). */
	assert_true(command_with(MESSAGE_SUBSCRIBE, "$share/g/a", 5, MQTT_SUB_OPT_SEND_RETAIN_ALWAYS, true));
	assert_int_equal(stub_session.commands[stub_session.command_count - 1]->as.request.is_held, 0);
	receive_nothing();
}

/* What a client of MQTT 5 publishes with a Message Expiry Interval may wait with the broker. */
static void test_what_mqtt_5_clients_publish_may_be_left(void **state)
{
	struct client *v5 = connect_with(5), *v4 = connect_with(4);

	(void)state;
	lanes_set_session(lanes, true);
	assert_false(leave_of(v5, "a", "1", 0));
	assert_false(leave_of(v5, "a", "1", 1));
	lanes_free(lanes);
	lanes = lanes_new(stub_session_get(), inbound, &versions_2_1, true);
	assert_false(leave_of(v5, "a", "1", 0)); /* there is no session yet */
	lanes_set_session(lanes, true);
	assert_false(leave_of(v4, "a", "1", 1));
	assert_false(leave_of(NULL, "a", "1", 1)); /* unknown for want of memory */
	receive_nothing();
	assert_true(leave_of(v5, "a", "1", 0));
	assert_true(leave_of(v5, "a", "1", 1));
	assert_true(leave_of(v4, "a", "1", 2));
	receive_nothing();
	/* And what others publish to that topic must not overtake it. */
	assert_false(leave_of(v4, "a", "1", 1));
	receive(MESSAGE_HOLD, 1);
	client_release(v5);
	client_release(v4);
}

static void test_the_session_is_told_who_published(void **state)
{
	const struct lanes_message message = published("a", "payload", 2);
	struct client *publisher = connect_with(4);
	const struct message *told;
	uint64_t value;

	(void)state;
	assert_false(leave_of(publisher, "a", "payload", 2)); /* goes direct */
	assert_int_equal(stub_session.command_count, 0);
	lanes_set_session(lanes, true);
	assert_true(leave_of(publisher, "a", "payload", 2));
	assert_int_equal(stub_session.command_count, 1);
	told = stub_session.commands[0];
	assert_int_equal(told->kind, MESSAGE_PUBLISHER);
	value = fingerprint_published(fingerprint_of(&message.content, true), 2, FINGERPRINT_LIVE);
	assert_true(told->as.publisher.fingerprint == value);
	assert_ptr_equal(told->client, publisher);
	client_release(publisher);
	assert_string_equal(client_description(told->client)->id, "somebody"); /* a reference of its own */
	assert_false(leave_of(told->client, "a", "payload", 1));
	assert_int_equal(stub_session.command_count, 1);
	receive(MESSAGE_HOLD, 1);
	/* Unknown. */
	assert_true(leave_of(NULL, "a", "payload", 2));
	assert_int_equal(stub_session.command_count, 1);
}

static void test_no_memory_for_a_publisher(void **state)
{
	struct client *publisher = connect_with(4);

	(void)state;
	lanes_set_session(lanes, true);
	scarce_memory(1, false);
	assert_true(leave_of(publisher, "a", "1", 2));
	assert_true(scarce_memory_end());
	assert_int_equal(stub_session.command_count, 0);
	client_release(publisher);
}

static void test_no_memory(void **state)
{
	const struct message command_of_group = {
		.kind = MESSAGE_SUBSCRIBE, .topic = "$share/g/a", .topic_length = 10, .as.request = {.sequence = 1}};
	unsigned long n;
	bool failed = true, answers;
	int rc;

	(void)state;
	lanes_set_session(lanes, true);
	lanes_refuse_copies(lanes);
	for (n = 1; failed; n++) {
		scarce_memory(n, false);
		rc = lanes_command(lanes, &command_of_group, true, &answers);
		assert_true(rc == MOSQ_ERR_SUCCESS || (rc == MOSQ_ERR_NOMEM && !answers));
		publishes("b", "1");
		lanes_hold_for_will(lanes, false);
		lanes_tick(lanes);
		failed = scarce_memory_end();
	}
	assert_true(n > 3);
	scarce_memory(1, false);
	assert_null(lanes_new(NULL, inbound, &versions_2_1, false));
	(void)scarce_memory_end();
}

#define lanes_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		lanes_test(test_opening_holds_back_and_tells_the_session_once),
		lanes_test(test_without_a_session_everything_is_direct),
		lanes_test(test_qos_2_goes_through_the_session_while_it_is_up),
		lanes_test(test_what_follows_a_qos_2_message_is_kept_back_for_a_while),
		lanes_test(test_a_will_is_waited_for),
		lanes_test(test_a_late_will_is_waited_for),
		lanes_test(test_fences_are_bounded_by_what_the_session_has_read),
		lanes_test(test_a_lost_fence_is_made_good),
		lanes_test(test_a_fence_that_does_not_come_is_sent_again),
		lanes_test(test_holds_are_bounded_by_what_the_loop_has_taken),
		lanes_test(test_copies_are_marked_where_they_cannot_be_refused),
		lanes_test(test_copies_are_refused),
		lanes_test(test_copies_of_own_publishes_are_refused),
		lanes_test(test_copies_of_own_publishes_are_refused_after_the_tick),
		lanes_test(test_a_will_is_not_taken_for_an_own_publish),
		lanes_test(test_properties_are_not_asked_about),
		lanes_test(test_copies_of_own_publishes_are_marked_while_the_session_is_down),
		lanes_test(test_what_is_compared),
		lanes_test(test_other_content_at_the_same_place),
		lanes_test(test_copies_of_own_qos_2_publishes_are_marked),
		lanes_test(test_properties_that_nobody_can_read),
		lanes_test(test_copies_are_marked_where_the_topic_is_shared),
		lanes_test(test_no_marks_once_the_session_has_given_up),
		lanes_test(test_a_fence_is_marked_and_sent),
		lanes_test(test_commands_are_answered_by_the_session_only_while_it_is_up),
		lanes_test(test_only_who_gets_retained_messages_keeps_back),
		lanes_test(test_what_mqtt_5_clients_publish_may_be_left),
		lanes_test(test_the_session_is_told_who_published),
		lanes_test(test_no_memory_for_a_publisher),
		lanes_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
