#include "cmocka_all.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "broker/access.h"
#include "broker/broker.h"
#include "broker/clients.h"
#include "broker/lanes.h"
#include "broker/versions.h"
#include "broker/wakeup.h"
#include "options/options.h"
#include "scarce_memory.h"
#include "shared/client.h"
#include "shared/fingerprint.h"
#include "shared/log.h"
#include "shared/marks.h"
#include "shared/properties.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/topics.h"
#include "stub_broker.h"
#include "stub_session.h"

#ifdef STUB_BROKER_2_1
#define TICK_BEFORE_POLL true
#else
#define TICK_BEFORE_POLL false
#endif

/* ---- time, as the code under test sees it ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
time_t __real_time(time_t *ret_time);
int __real_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
time_t __wrap_time(time_t *ret_time);
int __wrap_getrusage(int who, struct rusage *usage);
int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before);

static struct {
	uint64_t step_ns; /* how far the clock goes with each look at it; 0: the real clock */
	uint64_t now_ns;
	unsigned int looks;
	unsigned int answer_at; /* at this look answer() is called */
	void (*answer)(void);
	time_t seconds; /* 0: the real time */
} fake;

static atomic_bool timer_runs;

/* Whether this thread, as far as getrusage() knows, sleeps; and how often it has. */
static bool sleeps_between_rounds;
static long sleeps;

int __wrap_getrusage(int who, struct rusage *usage)
{
	assert_int_equal(who, RUSAGE_THREAD);
	sleeps += sleeps_between_rounds;
	usage->ru_nvcsw = sleeps;
	return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	if (fake.step_ns == 0) {
		return __real_clock_gettime(clock, ret_time);
	}
	fake.looks++;
	if (fake.looks == fake.answer_at) {
		fake.answer();
	}
	fake.now_ns += fake.step_ns;
	ret_time->tv_sec = (time_t)(fake.now_ns / 1000000000U);
	ret_time->tv_nsec = (long)(fake.now_ns % 1000000000U);
	return 0;
}

time_t __wrap_time(time_t *ret_time)
{
	return fake.seconds ? fake.seconds : __real_time(ret_time);
}

int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before)
{
	atomic_store(&timer_runs, times->it_value.tv_nsec != 0);
	return __real_timer_settime(timer, flags, times, ret_before);
}

/* ---- the broker and its queues ---- */

static struct fixture {
	struct options options;
	struct wakeup *wakeup;
	struct queue *inbound, *outbound;
	struct session *session;
	struct lanes *lanes;
	struct clients *clients;
	struct statistics *statistics;
	struct broker *broker;
	unsigned int inbound_notices;
	long blocks;
} f;

/* Whether the next set_up_with() makes a broker with a session; and one that mirrors another. */
static bool use_session, use_mirror;

static void count_notice(void *userdata)
{
	++*(unsigned int *)userdata;
}

static void request_wakeup(void *wakeup)
{
	wakeup_request(wakeup);
}

static void set_up_with(size_t queue_size, unsigned int spin_us)
{
	memset(&fake, 0, sizeof(fake));
	sleeps_between_rounds = true;
	stub_broker_reset();
	memset(&f, 0, sizeof(f));
	f.options.client_id = (char *)(uintptr_t)"the-session";
	f.options.mirror = use_mirror ? (char *)(uintptr_t)"the-bridge" : NULL;
	f.session = use_session ? stub_session_get() : NULL;
	f.blocks = scarce_memory_blocks();
	f.options.queue_size = queue_size;
	f.options.queue_bytes = 1000000;
	f.options.spin_us = spin_us;
	f.wakeup = wakeup_new();
	f.inbound = queue_new(queue_size, f.options.queue_bytes, count_notice, &f.inbound_notices);
	f.outbound = queue_new(queue_size, f.options.queue_bytes, request_wakeup, f.wakeup);
	f.lanes = lanes_new(f.session, f.inbound, versions_traits(), false);
	f.clients = clients_new(true, f.session ? f.options.client_id : NULL);
	f.statistics = statistics_new();
	f.broker = broker_new(&f.options, f.inbound, f.outbound, f.wakeup, f.lanes, f.clients, f.statistics);
	assert_non_null(f.broker);
}

static int set_up(void **state)
{
	(void)state;
	set_up_with(1000, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	broker_free(f.broker);
	clients_free(f.clients);
	statistics_free(f.statistics);
	lanes_free(f.lanes);
	stub_session_reset();
	queue_free(f.inbound);
	queue_free(f.outbound);
	wakeup_free(f.wakeup);
	stub_broker_reset();
	assert_int_equal(scarce_memory_blocks(), f.blocks);
	return 0;
}

/* Sets up again, with other options. */
static void use(size_t queue_size, unsigned int spin_us)
{
	tear_down(NULL);
	set_up_with(queue_size, spin_us);
}

static void tick(void)
{
	assert_int_equal(broker_on_tick(MOSQ_EVT_TICK, NULL, f.broker), MOSQ_ERR_SUCCESS);
}

static void client_publishes(const char *topic, const char *payload, uint8_t qos)
{
	static char client;
	struct mosquitto_evt_message event = {.client = (struct mosquitto *)&client,
		.topic = (char *)(uintptr_t)topic,
		.payload = (char *)(uintptr_t)payload,
		.payloadlen = (uint32_t)strlen(payload),
		.qos = qos};

	if (event.payloadlen == 0) {
		event.payload = NULL;
	}
	assert_int_equal(broker_on_message(MOSQ_EVT_MESSAGE, &event, f.broker), MOSQ_ERR_SUCCESS);
}

static struct stub_client make_client(const char *id, int protocol_version)
{
	return (struct stub_client){
		.mark = STUB_CLIENT_MARK, .id = id, .username = "user", .protocol_version = protocol_version};
}

static void client_publishes_more(const struct stub_client *client, const char *topic, bool retain,
		const void *properties, size_t length)
{
	mosquitto_property *list = NULL;
	struct mosquitto_evt_message event = {.client = (struct mosquitto *)(uintptr_t)client,
		.topic = (char *)(uintptr_t)topic,
		.payload = (char *)(uintptr_t)"payload",
		.payloadlen = 7,
		.qos = 1,
		.retain = retain};

	assert_int_equal(properties_make(properties, length, &list), MOSQ_ERR_SUCCESS);
	event.properties = list;
	assert_int_equal(broker_on_message(MOSQ_EVT_MESSAGE, &event, f.broker), MOSQ_ERR_SUCCESS);
	mosquitto_property_free_all(&list);
}

void __real_free(void *block);

static void read_properties(void)
{
	struct properties_reader reader;

	assert_true(properties_find_reader(&reader, RTLD_DEFAULT));
	reader.release = __real_free; /* what the library allocates was not counted */
	assert_true(properties_reader_agrees(&reader));
	broker_use_reader(f.broker, &reader);
}

static void application_subscribes(uint64_t consumer, const char *filter, uint8_t options, uint64_t sequence)
{
	const struct message_request request = {.consumer = consumer, .options = options, .sequence = sequence};

	assert_true(queue_tell(f.outbound, message_subscribe(&request, filter, strlen(filter))));
}

static void application_unsubscribes(uint64_t consumer, const char *filter, uint64_t sequence)
{
	const struct message_request request = {.consumer = consumer, .sequence = sequence};

	assert_true(queue_tell(f.outbound, message_unsubscribe(&request, filter, strlen(filter))));
}

/* At any QoS. */
static bool is_marked(struct marks *marks, const char *topic, const char *payload)
{
	const struct message_content content = {
		.topic = topic, .topic_length = strlen(topic), .payload = payload, .payload_length = strlen(payload)};
	struct fingerprint_copies copies = fingerprint_copies(fingerprint_of(&content, true), 0, 2, false, false);

	return marks_take(marks, copies.values, copies.count);
}

static bool application_publishes_as(uint64_t consumer, const char *topic, const char *payload,
		const void *properties, size_t properties_length)
{
	const struct message_content content = {
		topic, strlen(topic), payload, strlen(payload), properties, properties_length};
	struct message *message = message_publish(&content, NULL, 0);

	message->as.publish.publisher = consumer;
	message->as.publish.qos = 1;
	message->as.publish.retain = true;
	if (queue_push(f.outbound, message)) {
		return true;
	}
	message_free(message);
	return false;
}

static bool application_publishes(const char *topic, const char *payload)
{
	return application_publishes_as(0, topic, payload, NULL, 0);
}

static void application_watches(uint64_t consumer, uint64_t sequence)
{
	assert_true(queue_tell(f.outbound, message_watch(consumer, sequence)));
}

static void application_says(enum message_kind kind)
{
	assert_true(queue_tell(f.outbound, message_copy(&(const struct message){.kind = kind})));
}

static void subscribe(uint64_t consumer, const char *filter, uint8_t qos)
{
	application_subscribes(consumer, filter, qos, 0);
	tick();
}

/* The next message for the application, which must be of this kind. The caller frees it, with done(). */
static struct message *receive(enum message_kind kind)
{
	struct message *message = queue_take(f.inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, kind);
	return message;
}

static void done(struct message *message)
{
	if (message_event(message->kind)) {
		queue_release(f.inbound, message_size(message));
	}
	message_free(message);
}

static void receive_message(const char *topic, const char *payload)
{
	struct message *message = receive(MESSAGE_PUBLISH);

	assert_string_equal(message->topic, topic);
	assert_int_equal(message->payload_length, strlen(payload));
	if (*payload) {
		assert_memory_equal(message->payload, payload, message->payload_length);
	}
	done(message);
}

static void receive_answer(uint64_t sequence, int code)
{
	struct message *message = receive(MESSAGE_ANSWER);

	assert_int_equal(message->as.answer.sequence, sequence);
	assert_int_equal(message->as.answer.rc, code);
	done(message);
}

static void receive_nothing(void)
{
	assert_null(queue_take(f.inbound));
}

/* ---- in ---- */

static void test_message_goes_to_its_recipients_in_one_message(void **state)
{
	struct message *message;
	int found[10] = {0};
	size_t i;

	(void)state;
	subscribe(1, "a/+", 0);
	subscribe(2, "a/#", 1);
	subscribe(2, "a/b", 2);
	subscribe(3, "b", 2);
	client_publishes("a/b", "payload", 1);
	message = receive(MESSAGE_PUBLISH);
	assert_string_equal(message->topic, "a/b");
	assert_int_equal(message->payload_length, 7);
	assert_memory_equal(message->payload, "payload", 7);
	assert_int_equal(message->as.publish.qos, 1);
	assert_false(message->as.publish.retain);
	assert_int_equal(message->recipient_count, 2);
	for (i = 0; i < 2; i++) {
		assert_in_range(message->recipients[i].consumer, 1, 3);
		found[message->recipients[i].consumer] = message->recipients[i].qos + 1;
	}
	assert_int_equal(found[1], 1);
	assert_int_equal(found[2], 3);
	done(message);
	client_publishes("c", "for nobody", 2);
	client_publishes("b", "", 2);
	receive_message("b", "");
	receive_nothing();
	assert_int_equal(stub.publish_count, 0);
}

/* What the application asked for before is in force for the message that comes now. */
static void test_message_event_drains_first(void **state)
{
	(void)state;
	application_subscribes(1, "a", 0, 5);
	client_publishes("a", "x", 0);
	receive_answer(5, MOSQ_ERR_SUCCESS);
	receive_message("a", "x");
	receive_nothing();
}

static unsigned int published;

static void count_publish(void)
{
	published++;
}

/* How many were published in one tick, after a round of the broker's loop that took so long. */
static unsigned int published_after(uint64_t round_ns)
{
	published = 0;
	fake.step_ns = round_ns;
	tick();
	return published;
}

/* A flooding application: as much at a time as other clients do not notice. */
static void test_the_portions_of_a_flood(void **state)
{
	static const unsigned int smaller[] = {16, 8, 4, 4}, larger[] = {8, 16, 32, 64, 128, 256, 256};
	size_t i;

	(void)state;
	use(5000, 0);
	stub.on_publish = count_publish;
	stub.publish_rc = MOSQ_ERR_NOMEM;
	for (i = 0; i < 1000; i++) {
		assert_true(application_publishes("flood", "x"));
	}
	/* The first finds no round before it. */
	assert_int_equal(published_after(200000), 16);
	for (i = 0; i < sizeof(smaller) / sizeof(smaller[0]); i++) {
		assert_int_equal(published_after(200000), smaller[i]);
	}
	assert_int_equal(published_after(70000), 4);
	/* Each message of a client has room for its answer. */
	published = 0;
	client_publishes("a", "x", 0);
	client_publishes("a", "x", 0);
	assert_int_equal(published, 6);
	assert_int_equal(published_after(1), 0);
	for (i = 0; i < sizeof(larger) / sizeof(larger[0]); i++) {
		assert_int_equal(published_after(1), larger[i]);
	}
	/* After a rest it begins small. */
	while (published_after(1)) {
	}
	for (i = 0; i < 100; i++) {
		assert_true(application_publishes("flood", "x"));
	}
	assert_int_equal(published_after(1), 16);
}

static void test_no_signal_between_message_and_tick(void **state)
{
	uint64_t signals = wakeup_count(f.wakeup);

	(void)state;
	client_publishes("a", "x", 0);
	assert_true(application_publishes("answer", "x"));
	assert_int_equal(wakeup_count(f.wakeup), signals);
	tick();
	assert_int_equal(stub.publish_count, 1);
	assert_true(application_publishes("answer", "y"));
	assert_int_equal(wakeup_count(f.wakeup), signals + !TICK_BEFORE_POLL);
}

static void test_full_inbound_queue_drops_the_newest(void **state)
{
	(void)state;
	use(2, 0);
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	client_publishes("a", "1", 0);
	client_publishes("a", "2", 0);
	assert_int_equal(stub.log_count, 0);
	client_publishes("dropped/first", "3", 0);
	client_publishes("dropped/second", "4", 0);
	client_publishes("dropped/third", "5", 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("1 messages"), 1);
	assert_int_equal(stub_broker_logged("dropped/first"), 1);
	assert_int_equal(stub_broker_logged("queue_size (2)"), 1);
	fake.seconds++;
	client_publishes("dropped/fourth", "6", 0);
	client_publishes("dropped/fifth", "7", 0);
	assert_int_equal(stub.log_count, 2);
	assert_int_equal(stub_broker_logged("3 messages"), 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_WARNING);
	receive_message("a", "1");
	receive_message("a", "2");
	receive_nothing();
	client_publishes("a", "8", 0);
	receive_message("a", "8");
}

static void test_full_inbound_queue_drops_the_oldest(void **state)
{
	(void)state;
	use(2, 0);
	f.options.overload = OPTIONS_DROP_OLDEST;
	queue_allow_dropping(f.inbound);
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	client_publishes("a", "1", 0);
	client_publishes("a", "2", 0);
	assert_int_equal(stub.log_count, 0);
	client_publishes("came/third", "3", 0);
	client_publishes("came/fourth", "4", 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("1 messages for consumers dropped, the oldest first"), 1);
	assert_int_equal(stub_broker_logged("came/third"), 1);
	assert_int_equal(statistics_get(f.statistics, STATISTICS_DROPPED_QUEUE), 2);
	assert_int_equal(statistics_get(f.statistics, STATISTICS_RECEIVED), 4);
	receive_message("came/third", "3");
	receive_message("came/fourth", "4");
	receive_nothing();
}

/* The loop thread, which sleeps, or has dealt with a message before the push of it has returned. */
static bool loop_sleeps;

static void take_and_free(void *userdata)
{
	struct message *message = loop_sleeps ? NULL : queue_take(*(struct queue **)userdata);

	if (!message) {
		return;
	}
	if (message->kind == MESSAGE_PUBLISH) {
		memset((char *)(uintptr_t)message->topic, '!', message->topic_length);
	}
	done(message);
}

static void test_what_was_pushed_is_not_looked_at_any_more(void **state)
{
	(void)state;
	use(1, 0);
	f.options.overload = OPTIONS_DROP_OLDEST;
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	queue_free(f.inbound);
	f.inbound = queue_new(1, f.options.queue_bytes, take_and_free, &f.inbound);
	queue_allow_dropping(f.inbound);
	broker_free(f.broker);
	f.broker = broker_new(&f.options, f.inbound, f.outbound, f.wakeup, f.lanes, f.clients, f.statistics);
	subscribe(1, "#", 0);
	loop_sleeps = true;
	client_publishes("dropped", "1", 0);
	loop_sleeps = false;
	client_publishes("came/with-a-name", "2", 0); /* to an empty queue, once the other is dropped */
	assert_int_equal(statistics_get(f.statistics, STATISTICS_DROPPED_QUEUE), 1);
	assert_int_equal(stub_broker_logged("on topic 'came/with-a-name'"), 1);
}

/* As at SIGHUP. What waits stays, and is handled as before. */
static void test_options_that_change(void **state)
{
	struct options other = {.verbosity = 2, .log_lines = 7, .queue_size = 3, .queue_bytes = 1000000};
	struct message *of_python;
	int i;

	(void)state;
	use(2, 0);
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	client_publishes("a", "1", 0);
	client_publishes("a", "2", 0);
	assert_true(broker_adopt(f.broker, &other));
	client_publishes("a", "3", 0);
	assert_int_equal(stub.log_count, 0);
	client_publishes("a", "4", 0);
	assert_int_equal(stub_broker_logged("queue_size (3) and queue_bytes (1000000)"), 1);
	receive_message("a", "1");
	receive_message("a", "2");
	of_python = receive(MESSAGE_OPTIONS);
	assert_int_equal(of_python->as.options.verbosity, 2);
	assert_int_equal(of_python->as.options.log_lines, 7);
	done(of_python);
	receive_message("a", "3");
	for (i = 0; i < 3; i++) {
		assert_true(application_publishes("b", "5"));
	}
	assert_false(application_publishes("b", "6"));
	tick();

	scarce_memory(1, true);
	other.queue_size = 1;
	assert_false(broker_adopt(f.broker, &other));
	assert_true(scarce_memory_end());
	for (i = 0; i < 3; i++) {
		assert_true(application_publishes("b", "5"));
	}
	tick();
}

/* A topic has up to 65,535 bytes, a line 1,000: the reason must not be what is cut off. */
static void test_complaints_about_long_topics(void **state)
{
	char topic[5001];

	(void)state;
	use(1, 0);
	memset(topic, 't', sizeof(topic) - 1);
	topic[sizeof(topic) - 1] = '\0';
	subscribe(1, "#", 0);
	client_publishes("a", "1", 0);
	client_publishes(topic, "2", 0);
	assert_int_equal(stub_broker_logged("the queue is full"), 1);
	assert_int_equal(stub_broker_logged("queue_bytes (1000000) bound what may wait."), 1);
	stub.publish_rc = MOSQ_ERR_INVAL;
	assert_true(application_publishes(topic, "3"));
	tick();
	assert_int_equal(stub_broker_logged("it does not accept the topic, QoS or properties"), 1);
	receive_message("a", "1");
}

static void test_no_memory_for_a_message(void **state)
{
	(void)state;
	subscribe(1, "#", 0);
	client_publishes("a", "1", 0); /* from here on its client is known */
	receive_message("a", "1");
	scarce_memory(1, false);
	client_publishes("a", "2", 0);
	assert_true(scarce_memory_end());
	receive_nothing();
	assert_int_equal(stub_broker_logged("no memory"), 1);
	client_publishes("a", "3", 0);
	receive_message("a", "3");
}

/* ---- out ---- */

static void test_own_publish_goes_to_the_broker_and_comes_in_again(void **state)
{
	struct message *message;

	(void)state;
	subscribe(1, "a/+", 0);
	assert_true(application_publishes("a/b", "hello"));
	assert_true(application_publishes("b", ""));
	tick();
	assert_int_equal(stub.publish_count, 2);
	assert_string_equal(stub.publishes[0].topic, "a/b");
	assert_int_equal(stub.publishes[0].payload_length, 5);
	assert_memory_equal(stub.publishes[0].payload, "hello", 5);
	assert_int_equal(stub.publishes[0].qos, 1);
	assert_true(stub.publishes[0].retain);
	assert_string_equal(stub.publishes[1].topic, "b");
	assert_int_equal(stub.publishes[1].payload_length, 0);
	assert_int_equal(queue_count(f.outbound), 0);
	assert_int_equal(queue_bytes(f.outbound), 0);
	message = receive(MESSAGE_PUBLISH);
	assert_string_equal(message->topic, "a/b");
	assert_memory_equal(message->payload, "hello", 5);
	assert_int_equal(message->as.publish.qos, 1);
	assert_true(message->as.publish.retain); /* as it was published */
	assert_false(message->as.publish.is_retained);
	assert_int_equal(message->recipient_count, 1);
	done(message);
	receive_nothing();
}

static void test_refused_publish_is_reported(void **state)
{
	(void)state;
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	stub.publish_rc = MOSQ_ERR_INVAL;
	assert_true(application_publishes("a/b", "hello"));
	assert_true(application_publishes("a/c", "hello"));
	tick();
	assert_int_equal(stub.blocks, 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_ERR);
	assert_int_equal(stub_broker_logged("a/b"), 1);
	receive_nothing();

	fake.seconds++;
	stub.publish_rc = MOSQ_ERR_SUCCESS;
	stub.no_memory = true;
	assert_true(application_publishes("a/d", "hello"));
	tick();
	assert_int_equal(stub.log_count, 2);
	assert_int_equal(stub_broker_logged("no memory"), 1);
	assert_int_equal(stub.publish_count, 0);
	receive_nothing();
	stub.no_memory = false;

	fake.seconds++;
	stub.publish_rc = MOSQ_ERR_PAYLOAD_SIZE;
	assert_true(application_publishes("a/e", "hello"));
	tick();
	assert_int_equal(stub.log_count, 3);
	assert_int_equal(stub_broker_logged("a/e': its payload is larger than MQTT can carry"), 1);
	assert_int_equal(stub_broker_logged("it does not accept the topic, QoS or properties"), 1);
	receive_nothing();
	assert_int_equal(queue_count(f.outbound), 0);
}

static void test_subscriptions_are_answered(void **state)
{
	char *deep = malloc(2 * TOPICS_LEVELS_MAX + 2);
	int i;

	(void)state;
	application_subscribes(1, "a/+", 1, 42);
	tick();
	receive_answer(42, MOSQ_ERR_SUCCESS);
	application_unsubscribes(1, "b", 43);
	application_unsubscribes(1, "a/+", 44);
	application_subscribes(1, "c", 1, 0);
	application_unsubscribes(1, "c", 0);
	tick();
	receive_answer(43, MOSQ_ERR_NOT_FOUND);
	receive_answer(44, MOSQ_ERR_SUCCESS);
	receive_nothing();
	client_publishes("a/b", "x", 0);
	receive_nothing();

	for (i = 0; i < 2 * TOPICS_LEVELS_MAX; i += 2) {
		memcpy(deep + i, "a/", 2);
	}
	strcpy(deep + i, "a");
	application_subscribes(1, deep, 0, 45);
	tick();
	receive_answer(45, MOSQ_ERR_INVAL);
	free(deep);
}

static void test_no_memory_for_a_subscription_or_its_answer(void **state)
{
	struct message *message;
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		application_subscribes(n, "a/b/c", 1, n);
		scarce_memory(n, false);
		tick();
		failed = scarce_memory_end();
		message = queue_take(f.inbound);
		if (message) {
			assert_int_equal(message->as.answer.sequence, n);
			assert_int_equal(message->as.answer.rc, failed ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS);
			done(message);
		} else {
			assert_true(failed);
			assert_int_equal(stub_broker_logged("a/b/c"), 1);
		}
	}
	assert_true(n > 2);
	assert_int_equal(stub.log_count, 1); /* one n was the answer's */
}

static void test_a_tick_does_a_bounded_number(void **state)
{
	size_t i, ticks = 0;
	char payload[16];

	(void)state;
	for (i = 0; i < 1000; i++) {
		(void)snprintf(payload, sizeof(payload), "%zu", i);
		assert_true(application_publishes("a", payload));
	}
	while (stub.publish_count < 1000) {
		size_t before = stub.publish_count;

		tick();
		ticks++;
		assert_in_range(stub.publish_count - before, 1, 512);
		if (stub.publish_count < 1000) {
			/* The next poll must not wait. */
			assert_true(timer_runs);
			assert_int_equal(poll(NULL, 0, 60000), -1);
		}
	}
	assert_true(ticks > 1);
	for (i = 0; i < 1000; i++) {
		(void)snprintf(payload, sizeof(payload), "%zu", i);
		assert_string_equal(stub.publishes[i].payload, payload);
	}
}

static void test_writable_comes_once(void **state)
{
	int i;

	(void)state;
	use(4, 0);
	for (i = 0; i < 4; i++) {
		assert_true(application_publishes("a", "x"));
	}
	tick();
	receive_nothing();
	for (i = 0; i < 4; i++) {
		assert_true(application_publishes("a", "x"));
	}
	assert_false(application_publishes("a", "x"));
	assert_false(application_publishes("a", "x"));
	tick();
	done(receive(MESSAGE_WRITABLE));
	receive_nothing();
	tick();
	assert_true(application_publishes("a", "x"));
	tick();
	receive_nothing();
}

/* publish() waits for this word and for no other: without memory for it now, it comes later. */
static void test_writable_comes_when_there_is_memory_again(void **state)
{
	(void)state;
	use(1, 0);
	assert_true(application_publishes("a", "x"));
	assert_false(application_publishes("a", "x"));
	scarce_memory(1, false);
	tick();
	assert_true(scarce_memory_end());
	receive_nothing();
	tick();
	done(receive(MESSAGE_WRITABLE));
	tick();
	receive_nothing();
}

/* ---- the log ---- */

static void write_line(int level, const char *line, size_t length)
{
	assert_true(queue_push(f.outbound, message_log(level, line, length)));
	tick();
	assert_int_equal(queue_count(f.outbound), 0);
}

#define PREFIX "mqttasgi: "
#define PREFIX_LENGTH (sizeof(PREFIX) - 1)
/* What a line may have so that the time before it (log_timestamp_format) fits, too. */
#define ROOM 975

/* Every line must be one, and together they must be the text. */
static void assert_logged(const char *text, bool is_utf8)
{
	size_t i, length;

	assert_true(stub.log_count > 0);
	for (i = 0; i < stub.log_count; i++) {
		const char *line = stub.logs[i].line;

		assert_true(strlen(line) <= ROOM);
		assert_memory_equal(line, PREFIX, PREFIX_LENGTH);
		line += PREFIX_LENGTH;
		length = strlen(line);
		if (is_utf8) {
			assert_int_not_equal((unsigned char)*line & 0xC0, 0x80);
		}
		assert_true(strncmp(text, line, length) == 0);
		text += length;
	}
	assert_string_equal(text, "");
}

static void test_log_lines_are_split_between_characters(void **state)
{
	static const char *const characters[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\x9d"};
	char text[4100];
	size_t kind, offset, length, size;

	(void)state;
	for (kind = 0; kind < 4; kind++) {
		size = strlen(characters[kind]);
		for (offset = 0; offset < 4; offset++) {
			memset(text, 'x', offset);
			for (length = offset; length < 4000; length += size) {
				memcpy(text + length, characters[kind], size);
			}
			text[length] = '\0';
			stub_broker_reset();
			write_line(MOSQ_LOG_ERR, text, length);
			assert_in_range(stub.log_count, 4, 6);
			assert_logged(text, true);
			assert_int_equal(stub.logs[0].level, MOSQ_LOG_ERR);
		}
	}
}

static void test_log_lines_about_as_long_as_a_piece(void **state)
{
	char text[1100];
	size_t length;

	(void)state;
	for (length = 900; length < 1050; length++) {
		memset(text, 'y', length);
		text[length] = '\0';
		stub_broker_reset();
		write_line(MOSQ_LOG_INFO, text, length);
		assert_logged(text, true);
		assert_in_range(stub.log_count, 1, 2);
	}
	stub_broker_reset();
	write_line(MOSQ_LOG_INFO, "", 0);
	assert_int_equal(stub.log_count, 1);
	assert_string_equal(stub.logs[0].line, PREFIX);
}

/* What is not UTF-8 is written all the same. */
static void test_log_lines_of_anything(void **state)
{
	char text[3001];

	(void)state;
	memset(text, 0x80, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	write_line(MOSQ_LOG_DEBUG, text, sizeof(text) - 1);
	assert_logged(text, false);
}

static void test_own_log_lines(void **state)
{
	char text[2000];
	size_t written = 0;
	size_t i;

	(void)state;
	memset(text, 'z', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_line(MOSQ_LOG_NOTICE, "%d of %s", 7, "nine");
	log_line(MOSQ_LOG_NOTICE, "%s", text);
	assert_string_equal(stub.logs[0].line, PREFIX "7 of nine");
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_NOTICE);
	/* The rest is in further lines. */
	for (i = 1; i < stub.log_count; i++) {
		assert_true(strlen(stub.logs[i].line) <= ROOM);
		written += strlen(stub.logs[i].line) - strlen(PREFIX);
	}
	assert_int_equal(written, sizeof(text) - 1);

	/* Without memory for the whole, its beginning. */
	scarce_memory(1, true);
	log_line(MOSQ_LOG_NOTICE, "%s", text);
	assert_true(scarce_memory_end());
	assert_int_equal(stub.log_count, i + 1);
}

/* ---- waiting ---- */

static void *start_later(void *argument)
{
	const struct timespec moment = {.tv_nsec = 3000000};

	nanosleep(&moment, NULL);
	application_says(*(enum message_kind *)argument);
	return NULL;
}

static void test_wait(void **state)
{
	enum message_kind started = MESSAGE_STARTED, stopped = MESSAGE_STOPPED;
	pthread_t thread;

	(void)state;
	assert_false(broker_wait(f.broker, MESSAGE_STARTED, 0));
	assert_false(broker_wait(f.broker, MESSAGE_STARTED, 3));
	assert_int_equal(pthread_create(&thread, NULL, start_later, &started), 0);
	assert_true(broker_wait(f.broker, MESSAGE_STARTED, 3600000));
	pthread_join(thread, NULL);
	assert_true(broker_wait(f.broker, MESSAGE_STARTED, 0));
	assert_false(broker_has_stopped(f.broker));
	assert_false(broker_wait(f.broker, MESSAGE_STOPPED, 3));
	assert_int_equal(pthread_create(&thread, NULL, start_later, &stopped), 0);
	assert_true(broker_wait(f.broker, MESSAGE_STOPPED, 3600000));
	pthread_join(thread, NULL);
	assert_true(broker_has_stopped(f.broker));
}

/* Python ended before it had started: there is nothing to wait for. */
static void test_wait_ends_when_python_does(void **state)
{
	enum message_kind stopped = MESSAGE_STOPPED;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, start_later, &stopped), 0);
	assert_false(broker_wait(f.broker, MESSAGE_STARTED, 3600000));
	pthread_join(thread, NULL);
	assert_true(broker_has_stopped(f.broker));
	assert_false(broker_wait(f.broker, MESSAGE_STARTED, 3600000));
}

/* A connect() may subscribe, publish and log. */
static void test_wait_does_what_the_application_asks_for(void **state)
{
	int i;

	(void)state;
	application_subscribes(1, "a", 1, 9);
	for (i = 0; i < 900; i++) {
		assert_true(application_publishes("a", "x"));
	}
	application_says(MESSAGE_STARTED);
	assert_true(application_publishes("a", "last"));
	assert_true(broker_wait(f.broker, MESSAGE_STARTED, 3600000));
	assert_int_equal(stub.publish_count, 901);
	receive_answer(9, MOSQ_ERR_SUCCESS);
}

static void publish_more(void)
{
	assert_true(application_publishes("flood", "x"));
}

/* A connect() that publishes without an end does not hold up the end of the wait. */
static void test_wait_ends_in_a_flood(void **state)
{
	(void)state;
	stub.on_publish = publish_more;
	publish_more();
	assert_false(broker_wait(f.broker, MESSAGE_STARTED, 20));
	application_says(MESSAGE_STARTED);
	assert_true(broker_wait(f.broker, MESSAGE_STARTED, 20));
	assert_true(timer_runs); /* for the rest */
	tick();
}

/* ---- the spin ---- */

#define SPIN_US 100
#define STEP_NS 1000
/* Looks at the clock of a spin that is not answered, and of the question before. */
#define LOOKS_OF_A_SPIN (SPIN_US * 1000 / STEP_NS)
/* A message that nobody waits with looks once, and so does the tick when it ends. */
#define LOOKS_WITHOUT_SPIN 2

static void start_spinning(void)
{
	use(1000, SPIN_US);
	fake.step_ns = STEP_NS;
	fake.now_ns = 1000000000;
	subscribe(1, "question", 0);
}

/* The broker rests; a client asks; the consumer takes the message. Returns how often this and the tick that
 * follows looked at the clock. */
static unsigned int ask(void)
{
	fake.now_ns += SPIN_US * 1000;
	fake.looks = 0;
	client_publishes("question", "?", 0);
	receive_message("question", "?");
	tick();
	return fake.looks;
}

static void publish_answer(void)
{
	assert_true(application_publishes("answer", "!"));
}

static void test_spin_waits_for_the_answer_to_a_lone_message(void **state)
{
	uint64_t signals;
	int i;

	(void)state;
	start_spinning();
	signals = wakeup_count(f.wakeup);
	for (i = 1; i <= 50; i++) {
		fake.answer_at = 10;
		fake.answer = publish_answer;
		/* Up to the answer and a little more, and the answer is out with this tick. */
		assert_in_range(ask(), 10, 14);
		assert_int_equal(stub.publish_count, i);
	}
	assert_int_equal(wakeup_count(f.wakeup), signals);
}

static void test_spin_is_bounded_and_gives_up(void **state)
{
	int spins;

	(void)state;
	start_spinning();
	for (spins = 0; spins < 100; spins++) {
		unsigned int looks = ask();

		if (looks == LOOKS_WITHOUT_SPIN) {
			break;
		}
		assert_true(looks <= LOOKS_OF_A_SPIN + 3);
	}
	assert_in_range(spins, 1, 10);
	assert_int_equal(ask(), LOOKS_WITHOUT_SPIN);
	assert_int_equal(ask(), LOOKS_WITHOUT_SPIN);
}

/* After consumers that did not answer in time come quick answers, which nobody waits for and which the broker
 * finds so much later, until it waits again. */
static void learn_from_quick_answers(uint64_t found_after_ns)
{
	int quick;

	start_spinning();
	while (ask() > LOOKS_WITHOUT_SPIN) {
	}
	for (quick = 0; quick < 100; quick++) {
		if (ask() > LOOKS_WITHOUT_SPIN) {
			break;
		}
		publish_answer();
		fake.now_ns += found_after_ns;
		tick();
	}
	assert_in_range(quick, 1, 10);
}

static void test_spin_learns_again_from_quick_answers(void **state)
{
	(void)state;
	learn_from_quick_answers(0);
}

/* An answer that came within the budget, but the broker took longer to wake up for it. */
static void test_spin_learns_from_when_an_answer_came(void **state)
{
	(void)state;
	learn_from_quick_answers(2 * SPIN_US * 1000);
}

static void test_spin_does_not_learn_from_slow_answers(void **state)
{
	int slow;

	(void)state;
	start_spinning();
	while (ask() > LOOKS_WITHOUT_SPIN) {
	}
	for (slow = 0; slow < 20; slow++) {
		assert_int_equal(ask(), LOOKS_WITHOUT_SPIN);
		fake.now_ns += 2 * SPIN_US * 1000;
		publish_answer();
		tick();
	}
}

static void test_no_spin_with_several_messages_under_way(void **state)
{
	(void)state;
	start_spinning();
	client_publishes("question", "1", 0);
	fake.looks = 0;
	client_publishes("question", "2", 0);
	tick();
	assert_int_equal(fake.looks, LOOKS_WITHOUT_SPIN);
	receive_message("question", "1");
	/* The one that is left is not asked about again; a message for nobody asks nothing. */
	client_publishes("nobody", "3", 0);
	fake.looks = 0;
	tick();
	assert_int_equal(fake.looks, 1);
	receive_message("question", "2");
}

/* An answer that was waited for leaves without another poll. */
static void test_no_poll_is_cut_short_for_an_answer_that_was_waited_for(void **state)
{
	(void)state;
	start_spinning();
	fake.answer_at = 10;
	fake.answer = publish_answer;
	(void)ask();
	assert_int_equal(stub.publish_count, 1);
	assert_false(timer_runs);
}

/* The broker reads one packet a poll: a message that comes at once after a tick is one of many. */
static void test_no_spin_without_a_rest_before(void **state)
{
	(void)state;
	start_spinning();
	assert_true(ask() > LOOKS_WITHOUT_SPIN);
	fake.looks = 0;
	client_publishes("question", "?", 0);
	receive_message("question", "?");
	tick();
	assert_int_equal(fake.looks, LOOKS_WITHOUT_SPIN);
}

static void test_no_spin_without_the_option(void **state)
{
	(void)state;
	subscribe(1, "question", 0);
	fake.step_ns = STEP_NS;
	assert_int_equal(ask(), 0);
	client_publishes("question", "?", 0);
	assert_int_equal(fake.looks, 0);
}

/* ---- 2.0 and 2.1 ---- */

/* What a tick of 2.1 published is sent after the poll that follows, which must be cut short. */
static void test_spin_begins_and_ends_while_the_broker_runs(void **state)
{
	struct options other = {.queue_size = 1000, .queue_bytes = 1000000, .spin_us = SPIN_US};

	(void)state;
	subscribe(1, "question", 0);
	fake.step_ns = STEP_NS;
	fake.now_ns = 1000000000;
	assert_int_equal(ask(), 0);
	assert_true(broker_adopt(f.broker, &other));
	done(receive(MESSAGE_OPTIONS));
	assert_in_range(ask(), LOOKS_OF_A_SPIN, LOOKS_OF_A_SPIN + 3);
	other.spin_us = 0;
	assert_true(broker_adopt(f.broker, &other));
	done(receive(MESSAGE_OPTIONS));
	assert_int_equal(ask(), 0);
}

static void test_poll_after_a_tick_that_did_something(void **state)
{
	(void)state;
	assert_true(application_publishes("a", "x"));
	tick();
	assert_int_equal(timer_runs, TICK_BEFORE_POLL);
	assert_int_equal(poll(NULL, 0, TICK_BEFORE_POLL ? 60000 : 5), TICK_BEFORE_POLL ? -1 : 0);
	tick(); /* nothing to do: peace */
	assert_false(timer_runs);
	assert_int_equal(poll(NULL, 0, 5), 0);
}

#define ROUNDS_BUSY 16 /* after which it is seen that a thread has not slept; see wakeup.c */

/* A broker that does not sleep is not called: it comes round. */
static void test_a_busy_broker_is_not_signalled(void **state)
{
	uint64_t signals;
	int i;

	(void)state;
	subscribe(1, "question", 0);
	sleeps_between_rounds = false;
	for (i = 0; i < 2 * ROUNDS_BUSY; i++) {
		if (i == ROUNDS_BUSY) {
			signals = wakeup_count(f.wakeup);
		}
		assert_true(application_publishes("answer", "!"));
		client_publishes("question", "?", 0);
		receive_message("question", "?");
		tick();
	}
	assert_int_equal(wakeup_count(f.wakeup), signals);
	assert_int_equal(stub.publish_count, 2 * ROUNDS_BUSY);
	/* What comes when there is nothing else to do any more is not forgotten. */
	assert_true(application_publishes("answer", "last"));
	assert_int_equal(poll(NULL, 0, 60000), -1);
	tick();
	assert_int_equal(stub.publish_count, 2 * ROUNDS_BUSY + 1);
}

#define QUESTIONS 3000
#define POLL_MS 100
/* A poll that timed out this long after the application had answered did not hear it. */
#define LOST_NS 50000000U

static sem_t has_inbound;
static atomic_uint_fast64_t answered_at;

static void post_inbound(void *userdata)
{
	(void)userdata;
	sem_post(&has_inbound);
}

static uint64_t real_now_ns(void)
{
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Answers every message, after a moment that varies around the broker's way into its poll. */
static void *echo(void *argument)
{
	struct message *message;
	unsigned int answers = 0, step, seed = 1;
	volatile unsigned int spent;

	(void)argument;
	while (answers < QUESTIONS) {
		message = queue_take(f.inbound);
		if (!message) {
			while (sem_wait(&has_inbound)) {
			}
			continue;
		}
		seed = seed * 1664525U + 1013904223U;
		spent = 0;
		for (step = (seed >> 8) % ((seed >> 5) % 4 ? 3000 : 60000); step > 0; step--) {
			spent++;
		}
		(void)spent;
		done(message);
		if (!application_publishes("answer", "!")) {
			abort(); /* a test cannot fail on another thread */
		}
		atomic_store(&answered_at, real_now_ns());
		answers++;
	}
	return NULL;
}

/* The loop of the Mosquitto that this program stands for, with one client that asks, hears, and asks
 * again. */
static void run_loop(unsigned int spin_us, bool sleeps_for_all_it_knows)
{
	unsigned int asked = 0, lost = 0;
	bool asks = true;
	pthread_t thread;
	int rc;

	use(1000, spin_us);
	sleeps_between_rounds = sleeps_for_all_it_knows;
	queue_free(f.inbound);
	broker_free(f.broker);
	assert_int_equal(sem_init(&has_inbound, 0, 0), 0);
	f.inbound = queue_new(1000, 1000000, post_inbound, NULL);
	f.broker = broker_new(&f.options, f.inbound, f.outbound, f.wakeup, f.lanes, f.clients, f.statistics);
	subscribe(1, "question", 0);
	assert_int_equal(pthread_create(&thread, NULL, echo, NULL), 0);
	for (;;) {
		asks |= stub.publish_count > 0;
		stub_broker_send();
		if (asked == QUESTIONS && stub.sent_count > 0) {
			break;
		}
		stub_broker_reset();
		if (TICK_BEFORE_POLL) {
			tick();
		}
		/* A client that was answered asks at once: its message ends the poll. */
		rc = poll(NULL, 0, asks ? 0 : POLL_MS);
		if (asks) {
			asks = false;
			asked++;
			atomic_store(&answered_at, 0);
			client_publishes("question", "?", 0);
		} else if (rc == 0) {
			uint64_t at = atomic_load(&answered_at);

			lost += at != 0 && real_now_ns() > at + LOST_NS;
		}
		if (!TICK_BEFORE_POLL) {
			tick();
		}
	}
	pthread_join(thread, NULL);
	sem_destroy(&has_inbound);
	assert_int_equal(lost, 0);
}

static void test_every_answer_wakes_the_broker(void **state)
{
	(void)state;
	run_loop(0, true);
	run_loop(SPIN_US, true);
	run_loop(0, false);
	run_loop(SPIN_US, false);
}

/* ---- failures ---- */

static void test_no_memory_at_start(void **state)
{
	struct broker *broker;
	unsigned long n = 0;
	long blocks = scarce_memory_blocks();
	bool failed;

	(void)state;
	do {
		scarce_memory(++n, false);
		broker = broker_new(&f.options, f.inbound, f.outbound, f.wakeup, f.lanes, f.clients, f.statistics);
		failed = scarce_memory_end();
		assert_int_equal(broker == NULL, failed);
		broker_free(broker);
		assert_int_equal(scarce_memory_blocks(), blocks);
	} while (failed);
	assert_true(n > 2);
	broker_free(NULL);
}

/* ---- the session ---- */

static void use_with_session(void)
{
	use_session = true;
	use(1000, 0);
	use_session = false;
}

static void client_is_gone(const char *client_id)
{
	struct mosquitto_evt_disconnect event = {.client = (struct mosquitto *)(uintptr_t)client_id};

	assert_int_equal(broker_on_disconnect(MOSQ_EVT_DISCONNECT, &event, f.broker), MOSQ_ERR_SUCCESS);
}

static void session_is(bool up)
{
	assert_true(queue_tell(f.outbound,
			message_copy(&(struct message){.kind = MESSAGE_SESSION, .as.session.is_up = up})));
	tick();
}

static void test_the_session_gets_what_is_not_direct(void **state)
{
	const struct stub_client nobody = {.mark = STUB_CLIENT_MARK};
	struct message *message;
	size_t publishes;

	(void)state;
	use_with_session();
	fake.step_ns = 1;
	fake.now_ns = 1000000000;
	tick();
	done(receive(MESSAGE_HOLD));
	subscribe(1, "a", 2);
	application_subscribes(1, "$share/g/b", 1, 5);
	tick();
	receive_answer(5, MOSQ_ERR_SUCCESS);
	client_publishes("b", "x", 1);
	client_publishes("a", "1", 2);
	receive_message("a", "1");
	session_is(true);
	client_publishes("a", "2", 2);
	receive_nothing();
	client_publishes("a", "3", 1); /* must not overtake it */
	done(receive(MESSAGE_HOLD));
	receive_message("a", "3");
	application_subscribes(1, "c", 0, 6);
	tick();
	message = receive(MESSAGE_HOLD_CONSUMER); /* and the session answers */
	assert_int_equal(message->as.hold_consumer.consumer, 1);
	assert_false(message->as.hold_consumer.again);
	done(message);
	receive_nothing();
	/* So long after "2" that nobody shares its delay, as one in a thousand does by its hash. */
	fake.now_ns += 10000000000;
	client_is_gone("somebody");
	done(receive(MESSAGE_HOLD));
	/* No client, but a connection that never said CONNECT. */
	tick();
	publishes = stub.publish_count;
	client_is_gone((const char *)&nobody);
	receive_nothing();
	assert_int_equal(stub.publish_count, publishes);
	client_is_gone("the-session");
	done(receive(MESSAGE_RELEASE));
	client_publishes("a", "4", 2);
	receive_message("a", "4");
	application_unsubscribes(1, "$share/g/b", 7);
	tick();
	receive_answer(7, MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.command_count,
			7); /* with the publisher of "2", and the question whether it is gone */
}

/* Of somebody who was not let in, too, it is told under the client id that was claimed. */
static void test_the_session_is_asked_whether_it_is_gone(void **state)
{
	(void)state;
	use_with_session();
	tick();
	done(receive(MESSAGE_HOLD));
	session_is(true);
	client_is_gone("the-session");
	done(receive(MESSAGE_RELEASE));
	assert_int_equal(stub_session.commands[stub_session.command_count - 1]->kind, MESSAGE_CONNECTION_GONE);
	assert_false(lanes_has_session(f.lanes));
	session_is(true); /* its answer */
	assert_true(lanes_has_session(f.lanes));
}

/* clean: as Mosquitto says of every connection that was taken over. */
static void client_is_gone_from(const char *address, const char *username, bool clean)
{
	const struct stub_client client = {.mark = STUB_CLIENT_MARK,
		.id = "the-session",
		.address = address,
		.username = username,
		.protocol_version = 4,
		.clean_session = clean};

	client_is_gone((const char *)&client);
}

static void test_who_took_the_sessions_place(void **state)
{
	(void)state;
	use_with_session();
	fake.step_ns = 1;
	fake.now_ns = 1000000000;
	tick();
	session_is(true);
	client_is_gone_from("127.0.0.1", NULL, true); /* its own */
	assert_true(stub_session.commands[stub_session.command_count - 1]->as.gone.was_taken);
	assert_int_equal(stub_broker_logged("Who connected"), 0);
	client_is_gone_from("10.0.0.5", "somebody", true);
	assert_int_equal(stub_broker_logged("'the-session': 10.0.0.5, user 'somebody', MQTT 3.1.1."), 1);
	client_is_gone_from("127.0.0.1", NULL, true); /* the session's next, taken over before it was up */
	session_is(true);
	fake.now_ns += 61000000000;
	client_is_gone_from("127.0.0.1", NULL, true);
	client_is_gone_from(NULL, NULL, false);
	assert_int_equal(stub_broker_logged("a unix socket, without a user name, MQTT 3.1.1."), 1);
	session_is(true);
	/* A connection that was lost for another reason. */
	fake.now_ns += 61000000000;
	client_is_gone_from("127.0.0.1", NULL, false);
	assert_false(stub_session.commands[stub_session.command_count - 1]->as.gone.was_taken);
	client_is_gone_from("127.0.0.1", NULL, true);
	session_is(true);
	/* Somebody who was not let in, as the session says. */
	client_is_gone_from("10.0.0.7", NULL, true);
	session_is(true);
	client_is_gone_from("127.0.0.1", NULL, false);
	session_is(true);
	assert_int_equal(stub_broker_logged("Who connected"), 2);
	/* Once a minute is enough. */
	client_is_gone_from("127.0.0.1", NULL, true);
	client_is_gone_from("10.0.0.5", NULL, true);
	session_is(true);
	client_is_gone_from("127.0.0.1", NULL, true);
	client_is_gone_from("10.0.0.5", NULL, true);
	assert_int_equal(stub_broker_logged("Who connected"), 3);
	use(1000, 0);
}

static int asked_for(const char *client_id, int access, const char *topic, const char *payload)
{
	struct mosquitto_evt_acl_check event = {.client = (struct mosquitto *)(uintptr_t)client_id,
		.topic = topic,
		.payload = payload,
		.payloadlen = (uint32_t)strlen(payload),
		.access = access,
		.qos = 1};

	return broker_on_access(MOSQ_EVT_ACL_CHECK, &event, f.broker);
}

/* MOSQ_ERR_PLUGIN_IGNORE where there is that. */
#define UNDECIDED (versions_traits()->may_be_ignored ? 32 : MOSQ_ERR_PLUGIN_DEFER)

static void test_copies_are_kept_from_the_session_alone(void **state)
{
	static const char topic[] = "a", payload[] = "1";
	struct marks *marks;

	(void)state;
	use_with_session();
	marks = marks_new(8);
	stub_session.marks = marks;
	session_is(true);
	subscribe(1, "a", 2);
	/* Until the broker has asked about the session once, copies are marked. */
	client_publishes(topic, payload, 1);
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, topic, payload), UNDECIDED);
	assert_true(is_marked(marks, topic, payload));
	assert_int_equal(asked_for("the-session", MOSQ_ACL_SUBSCRIBE, "a", ""), UNDECIDED);
	client_publishes(topic, payload, 1);
	assert_int_equal(asked_for("somebody", MOSQ_ACL_READ, topic, payload), UNDECIDED);
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, topic, payload), MOSQ_ERR_ACL_DENIED);
	assert_int_equal(asked_for("somebody", MOSQ_ACL_WRITE, topic, payload), UNDECIDED); /* a will */
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, topic, payload), UNDECIDED);
	assert_true(application_publishes("a", "2"));
	tick();
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, "a", "2"), MOSQ_ERR_ACL_DENIED);
	tick();
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, "a", "2"), UNDECIDED);
	stub_session.marks = NULL;
	marks_free(marks);
}

/* In the row of those who are asked, behind all who came before the first question. */
static void test_what_nobody_decides_is_granted(void **state)
{
	size_t places = versions_traits()->may_be_ignored ? 0 : 1;

	(void)state;
	use_with_session();
	assert_int_equal(asked_for("somebody", MOSQ_ACL_WRITE, "a", "1"), UNDECIDED);
	assert_int_equal(stub.callback_count, 0);
	broker_set_access(f.broker, &(struct access){.grants = true});
	stub.register_rc = MOSQ_ERR_NOMEM;
	assert_int_equal(asked_for("somebody", MOSQ_ACL_WRITE, "a", "1"), UNDECIDED);
	stub.register_rc = MOSQ_ERR_SUCCESS;
	assert_int_equal(asked_for("somebody", MOSQ_ACL_WRITE, "a", "1"), UNDECIDED);
	assert_int_equal(asked_for("the-session", MOSQ_ACL_READ, "a", "1"), UNDECIDED);
	assert_int_equal(stub.callback_count, places);
	if (places) {
		assert_int_equal(stub.callbacks[0].event, MOSQ_EVT_ACL_CHECK);
		assert_int_equal(stub.callbacks[0].callback(MOSQ_EVT_ACL_CHECK, NULL, NULL), MOSQ_ERR_SUCCESS);
	}
	/* The place is taken anew when the rules have been read. */
	broker_rules_change(f.broker);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(asked_for("somebody", MOSQ_ACL_WRITE, "a", "1"), UNDECIDED);
	assert_int_equal(stub.callback_count, places);
	broker_end(f.broker);
	assert_int_equal(stub.callback_count, 0);
}

/* ---- what comes with a message ---- */

static void test_a_message_has_its_properties_and_its_client(void **state)
{
	static const char properties[] = {
		MQTT_PROP_CONTENT_TYPE, 0, 1, 't', MQTT_PROP_USER_PROPERTY, 0, 1, 'n', 0, 1, 'v'};
	struct stub_client a = make_client("a", 5), b = make_client("b", 4);
	struct message *message;

	(void)state;
	read_properties();
	subscribe(1, "a", 0);
	client_publishes_more(&a, "a", true, properties, sizeof(properties));
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->properties_length, sizeof(properties));
	assert_memory_equal(message->properties, properties, sizeof(properties));
	assert_true(message->as.publish.retain);
	assert_false(message->as.publish.is_retained);
	assert_false(message->as.publish.by_session);
	assert_string_equal(client_description(message->client)->id, "a");
	assert_int_equal(client_description(message->client)->protocol_version, 5);
	done(message);
	/* Nothing of it is left for the next. */
	client_publishes_more(&b, "a", false, NULL, 0);
	message = receive(MESSAGE_PUBLISH);
	assert_null(message->properties);
	assert_int_equal(message->properties_length, 0);
	assert_false(message->as.publish.retain);
	assert_string_equal(client_description(message->client)->id, "b");
	done(message);
	receive_nothing();
}

static void test_without_a_reader_there_are_no_properties(void **state)
{
	struct stub_client a = make_client("a", 5);
	struct message *message;

	(void)state;
	subscribe(1, "a", 0);
	client_publishes_more(&a, "a", false, "\x01\x01", 2);
	message = receive(MESSAGE_PUBLISH);
	assert_null(message->properties);
	assert_string_equal(client_description(message->client)->id, "a");
	done(message);
}

/* The buffer is kept for the next message, unless it is a large one. */
static void test_large_properties(void **state)
{
	enum { large = 65000, pairs = 3 };
	struct stub_client a = make_client("a", 5);
	char *properties = malloc(pairs * (large + 6));
	struct message *message;
	long blocks;
	int i;

	(void)state;
	assert_non_null(properties);
	read_properties();
	subscribe(1, "a", 0);
	client_publishes_more(&a, "a", false, NULL, 0);
	done(receive(MESSAGE_PUBLISH));
	blocks = scarce_memory_blocks();
	for (i = 0; i < pairs; i++) {
		char *at = properties + i * (large + 6);

		memcpy(at,
				(char[]){
					MQTT_PROP_USER_PROPERTY, 0, 1, (char)('a' + i), (char)(large >> 8), (char)(large & 0xff)},
				6);
		memset(at + 6, 'x', large);
	}
	client_publishes_more(&a, "a", false, properties, pairs * (large + 6));
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->properties_length, pairs * (large + 6));
	assert_memory_equal(message->properties, properties, message->properties_length);
	done(message);
	assert_int_equal(scarce_memory_blocks(), blocks);
	client_publishes_more(&a, "a", false, "\x01\x01", 2);
	done(receive(MESSAGE_PUBLISH));
	assert_int_equal(scarce_memory_blocks(), blocks + 1);
	free(properties);
}

/* Not half of it, and not without its properties. */
static void test_no_memory_for_properties(void **state)
{
	struct stub_client a = make_client("a", 5);
	struct message *message;
	unsigned long n;
	bool failed = true;
	size_t lost = 0;

	(void)state;
	read_properties();
	fake.seconds = 1000;
	subscribe(1, "a", 0);
	client_publishes_more(&a, "a", false, NULL, 0); /* its client is known from here on */
	done(receive(MESSAGE_PUBLISH));
	for (n = 1; failed; n++) {
		mosquitto_property *list = NULL;
		struct mosquitto_evt_message event = {
			.client = (struct mosquitto *)&a, .topic = (char *)(uintptr_t)"a"};

		assert_int_equal(properties_make("\x02\x00\x00\x00\x01\x01\x01", 7, &list), MOSQ_ERR_SUCCESS);
		event.properties = list;
		fake.seconds++;
		scarce_memory(n, false);
		assert_int_equal(broker_on_message(MOSQ_EVT_MESSAGE, &event, f.broker), MOSQ_ERR_SUCCESS);
		failed = scarce_memory_end();
		mosquitto_property_free_all(&list);
		if (!failed) {
			message = receive(MESSAGE_PUBLISH);
			assert_int_equal(message->properties_length, 7);
			done(message);
		}
		receive_nothing();
		lost += failed;
	}
	assert_int_equal(lost, 2); /* the buffer's and the message's */
	assert_int_equal(stub_broker_logged("no memory"), lost);
}

static void test_own_publish_has_properties(void **state)
{
	static const char properties[] = {
		MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1, MQTT_PROP_RESPONSE_TOPIC, 0, 1, 'r'};
	struct message *message;
	char *text = NULL;

	(void)state;
	subscribe(1, "a", 0);
	assert_true(application_publishes_as(2, "a", "hello", properties, sizeof(properties)));
	tick();
	assert_int_equal(stub.publish_count, 1);
	assert_non_null(stub.publishes[0].properties);
	assert_non_null(mosquitto_property_read_string(stub.publishes[0].properties, MQTT_PROP_RESPONSE_TOPIC,
			&text, false));
	assert_string_equal(text, "r");
	__real_free(text);
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->properties_length, sizeof(properties));
	assert_memory_equal(message->properties, properties, sizeof(properties));
	assert_null(message->client); /* no client published it */
	done(message);
	assert_true(application_publishes_as(2, "a", "hello", NULL, 0));
	tick();
	assert_null(stub.publishes[1].properties);
	done(receive(MESSAGE_PUBLISH));
}

static void test_properties_that_the_broker_refuses(void **state)
{
	(void)state;
	fake.seconds = 1000;
	subscribe(1, "#", 0);
	assert_true(application_publishes_as(2, "a", "hello", "\x01\x01\x03\x00\x01\xff", 6));
	tick();
	assert_int_equal(stub.publish_count, 0);
	assert_int_equal(stub.blocks, 0);
	receive_nothing();
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("it does not accept the topic, QoS or properties"), 1);
	/* The list was well, the topic is not. */
	fake.seconds++;
	stub.publish_rc = MOSQ_ERR_INVAL;
	assert_true(application_publishes_as(2, "a", "hello", "\x01\x01", 2));
	tick();
	assert_int_equal(stub.blocks, 0);
	assert_int_equal(stub_broker_logged("it does not accept the topic, QoS or properties"), 2);
	receive_nothing();
	assert_int_equal(queue_count(f.outbound), 0);
}

static void test_no_memory_for_own_properties(void **state)
{
	(void)state;
	fake.seconds = 1000;
	assert_true(application_publishes_as(2, "a", "hello", "\x03\x00\x01t", 4));
	scarce_memory(1, false);
	tick();
	assert_true(scarce_memory_end());
	assert_int_equal(stub.publish_count, 0);
	assert_int_equal(stub.blocks, 0);
	assert_int_equal(stub_broker_logged("no memory"), 1);
}

static void test_own_publish_with_no_local(void **state)
{
	struct message *message;
	struct marks *marks;

	(void)state;
	use_with_session();
	marks = marks_new(8);
	stub_session.marks = marks;
	tick();
	done(receive(MESSAGE_HOLD));
	subscribe(1, "a/b", 1 | MQTT_SUB_OPT_NO_LOCAL);
	/* It alone: nobody gets it. The session has subscribed all the same, so its copy is expected. */
	assert_true(application_publishes_as(1, "a/b", "1", NULL, 0));
	tick();
	assert_int_equal(stub.publish_count, 1);
	receive_nothing();
	assert_true(is_marked(marks, "a/b", "1"));
	assert_int_equal(queue_count(f.inbound), 0);
	/* What others publish it gets, */
	assert_true(application_publishes_as(2, "a/b", "2", NULL, 0));
	tick();
	receive_message("a/b", "2");
	/* and others what it does. */
	subscribe(2, "a/b", 1);
	assert_true(application_publishes_as(1, "a/b", "3", NULL, 0));
	tick();
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, 2);
	done(message);
	/* By another filter it does get it, at that one's QoS. */
	subscribe(1, "a/+", 0);
	assert_true(application_publishes_as(1, "a/b", "4", NULL, 0));
	tick();
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->recipient_count, 2);
	assert_int_equal(message->recipients[message->recipients[0].consumer != 1].qos, 0);
	done(message);
	/* No Local is about what the consumer published, not about a client. */
	client_publishes("a/b", "5", 1);
	message = receive(MESSAGE_PUBLISH);
	assert_int_equal(message->recipient_count, 2);
	assert_int_equal(message->recipients[message->recipients[0].consumer != 1].qos, 1);
	done(message);
	stub_session.marks = NULL;
	marks_free(marks);
}

/* ---- clients ---- */

static void client_connects(const struct stub_client *client)
{
	struct evt_connect event = {.client = (struct mosquitto *)(uintptr_t)client};

	assert_int_equal(broker_on_connect(EVT_CONNECT, &event, f.broker), MOSQ_ERR_SUCCESS);
}

static void client_logs_in(const struct stub_client *client)
{
	struct mosquitto_evt_basic_auth event = {.client = (struct mosquitto *)(uintptr_t)client};

	/* Whether it may is for others to say. */
	assert_int_equal(broker_on_login(MOSQ_EVT_BASIC_AUTH, &event, f.broker), MOSQ_ERR_PLUGIN_DEFER);
}

static void client_goes(const struct stub_client *client, int event_kind, int reason)
{
	struct mosquitto_evt_disconnect event = {
		.client = (struct mosquitto *)(uintptr_t)client, .reason = reason};

	assert_int_equal(broker_on_disconnect(event_kind, &event, f.broker), MOSQ_ERR_SUCCESS);
}

static void told(enum message_kind kind, const char *id)
{
	struct message *message = receive(kind);

	assert_string_equal(client_description(message->client)->id, id);
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, 1);
	done(message);
}

static void watch_clients(void)
{
	application_watches(1, 33);
	tick();
	receive_answer(33, MOSQ_ERR_SUCCESS);
}

static void test_consumers_are_told_of_clients(void **state)
{
	struct stub_client a = make_client("a", 4), b = make_client("b", 4);

	(void)state;
	client_connects(&a);
	receive_nothing();
	watch_clients();
	told(MESSAGE_CONNECT, "a"); /* after the answer */
	client_connects(&b);
	told(MESSAGE_CONNECT, "b");
	client_goes(&a, MOSQ_EVT_DISCONNECT, 0);
	told(MESSAGE_DISCONNECT, "a");
	assert_true(queue_tell(f.outbound, message_unwatch(1, 0)));
	tick();
	client_goes(&b, MOSQ_EVT_DISCONNECT, 0);
	receive_nothing();
}

static struct stub_client kicked;

static void kick(const char *client_id)
{
	assert_string_equal(client_id, kicked.id);
	client_goes(&kicked, MOSQ_EVT_DISCONNECT, MOSQ_ERR_CONN_LOST);
}

static void application_kicks(const char *client_id, uint64_t sequence)
{
	assert_true(queue_tell(f.outbound, message_kick(client_id, strlen(client_id), sequence)));
}

static void test_a_client_is_kicked(void **state)
{
	(void)state;
	kicked = make_client("a", 5);
	kicked.address = "192.0.2.1";
	client_connects(&kicked);
	watch_clients();
	told(MESSAGE_CONNECT, "a");
	stub.on_kick = kick;
	application_kicks("a", 7);
	/* The event may be about that very client: the broker goes on with it afterwards. */
	client_publishes("nobody/hears", "x", 0);
	assert_int_equal(stub.kick_count, 0);
	tick();
	assert_int_equal(stub.kick_count, 1);
	told(MESSAGE_DISCONNECT, "a");
	receive_answer(7, MOSQ_ERR_SUCCESS);
	tick();
	assert_int_equal(stub.kick_count, 1);
	receive_nothing();
}

static void assert_kick_answers(int rc)
{
	application_kicks("a", 7);
	tick();
	tick();
	receive_answer(7, rc);
}

/* The broker keeps sessions of clients that are not there. */
static void test_a_client_that_is_offline_is_not_kicked(void **state)
{
	(void)state;
	assert_kick_answers(MOSQ_ERR_NOT_FOUND);
	/* What it tells of one whose session comes from its file. */
	kicked = make_client("a", 5);
	stub.on_kick = kick;
	assert_kick_answers(MOSQ_ERR_NOT_FOUND);
	assert_int_equal(stub.kick_count, 2);
}

/* One by websockets, on Mosquitto 2.0. */
static void test_a_kick_that_takes_time(void **state)
{
	(void)state;
	kicked = make_client("a", 5);
	client_connects(&kicked);
	assert_kick_answers(MOSQ_ERR_SUCCESS);
	client_goes(&kicked, MOSQ_EVT_DISCONNECT, MOSQ_ERR_CONN_LOST);
	assert_kick_answers(MOSQ_ERR_NOT_FOUND);
}

/* What a TICK finds in the queue it does not leave to an event that may be far away. */
static void test_kicks_make_the_next_tick_come(void **state)
{
	(void)state;
	stub.kick_rc = MOSQ_ERR_NOT_FOUND;
	application_kicks("a", 7);
	application_kicks("b", 0);
	application_kicks("c", 9);
	tick();
	assert_int_equal(stub.kick_count, 0);
	assert_true(atomic_load(&timer_runs));
	tick();
	assert_int_equal(stub.kick_count, 3);
	receive_answer(7, MOSQ_ERR_NOT_FOUND);
	receive_answer(9, MOSQ_ERR_NOT_FOUND);
	/* And after that the list is as it was. */
	application_kicks("a", 0);
	tick();
	tick();
	assert_int_equal(stub.kick_count, 4);
	receive_nothing();
}

static void test_the_session_is_not_kicked(void **state)
{
	(void)state;
	application_kicks("the-session", 7);
	tick();
	tick();
	receive_answer(7, MOSQ_ERR_INVAL);
	assert_int_equal(stub.kick_count, 0);
}

static void test_no_memory_for_a_kick(void **state)
{
	(void)state;
	application_kicks("a", 0);
	scarce_memory(1, false);
	tick();
	assert_true(scarce_memory_end());
	tick();
	assert_int_equal(stub.kick_count, 0);
	/* One that the broker's end overtakes, and one that comes after it. */
	application_kicks("a", 7);
	tick();
	broker_end(f.broker);
	application_kicks("b", 8);
	client_publishes("nobody/hears", "x", 0);
	receive_answer(8, MOSQ_ERR_SUCCESS);
	receive_nothing();
}

static void test_logins_settle_with_the_tick(void **state)
{
	struct stub_client a = make_client("a", 4), b = make_client("b", 4), refused = make_client("c", 4);

	(void)state;
	subscribe(1, "a", 0);
	watch_clients();
	client_logs_in(&a);
	client_logs_in(&b);
	client_logs_in(&refused);
	receive_nothing();
	/* Who publishes before is announced before. */
	client_publishes_more(&b, "a", false, NULL, 0);
	told(MESSAGE_CONNECT, "b");
	receive_message("a", "payload");
	refused.id = NULL;
	client_goes(&refused, MOSQ_EVT_DISCONNECT, -1);
	receive_nothing();
	tick();
	told(MESSAGE_CONNECT, "a");
	receive_nothing();
	tick();
	receive_nothing();
}

static void assert_goes_with(struct stub_client *client, int event, int reason, int code,
		enum message_fate fate)
{
	struct message *message;

	client_connects(client);
	told(MESSAGE_CONNECT, client->id);
	client_goes(client, event, reason);
	message = receive(MESSAGE_DISCONNECT);
	assert_int_equal(message->as.disconnect.reason, code);
	assert_int_equal(message->as.disconnect.fate, fate);
	done(message);
}

static void test_why_and_what_becomes_of_the_session(void **state)
{
	struct stub_client v4 = make_client("v4", 4), v5 = make_client("v5", 5), v3 = make_client("v3", 3);

	(void)state;
	watch_clients();
	if (!TICK_BEFORE_POLL) {
		/* 2.0 tells no reason, and the session only by Clean Session, which MQTT 5 has no more. */
		assert_goes_with(&v4, MOSQ_EVT_DISCONNECT, -1, -1, MESSAGE_FATE_KEPT);
		assert_goes_with(&v5, MOSQ_EVT_DISCONNECT, -1, -1, MESSAGE_FATE_UNKNOWN);
		v5.clean_session = v4.clean_session = v3.clean_session = true;
		assert_goes_with(&v4, MOSQ_EVT_DISCONNECT, 0, -1, MESSAGE_FATE_ENDS);
		assert_goes_with(&v3, MOSQ_EVT_DISCONNECT, -1, -1, MESSAGE_FATE_ENDS);
		assert_goes_with(&v5, MOSQ_EVT_DISCONNECT, -1, -1, MESSAGE_FATE_UNKNOWN);
		return;
	}
	/* On 2.1 the event says it. */
	v4.clean_session = true;
	assert_goes_with(&v4, EVT_CLIENT_OFFLINE, 0, 0, MESSAGE_FATE_KEPT);
	assert_goes_with(&v5, EVT_CLIENT_OFFLINE, 0, 0, MESSAGE_FATE_KEPT);
	v4.clean_session = false;
	assert_goes_with(&v4, MOSQ_EVT_DISCONNECT, 0, 0, MESSAGE_FATE_ENDS);
	assert_goes_with(&v5, MOSQ_EVT_DISCONNECT, MOSQ_ERR_CONN_LOST, MQTT_RC_UNSPECIFIED, MESSAGE_FATE_ENDS);
	/* Another connection has it now. */
	assert_goes_with(&v4, MOSQ_EVT_DISCONNECT, MQTT_RC_SESSION_TAKEN_OVER, MQTT_RC_SESSION_TAKEN_OVER,
			MESSAGE_FATE_UNKNOWN);
	assert_goes_with(&v5, EVT_CLIENT_OFFLINE, MQTT_RC_SESSION_TAKEN_OVER, MQTT_RC_SESSION_TAKEN_OVER,
			MESSAGE_FATE_UNKNOWN);
}

/* When another connection takes a client over, 2.0 says that its session is not kept, whether it goes on or
 * not. */
static void test_what_becomes_of_a_session_that_is_taken_over(void **state)
{
	struct stub_client client = make_client("a", 4);
	struct message *message;

	(void)state;
	watch_clients();
	client_connects(&client);
	told(MESSAGE_CONNECT, "a");
	client.clean_session = true;
	client_goes(&client, MOSQ_EVT_DISCONNECT, TICK_BEFORE_POLL ? MQTT_RC_SESSION_TAKEN_OVER : -1);
	message = receive(MESSAGE_DISCONNECT);
	assert_int_equal(message->as.disconnect.fate, MESSAGE_FATE_UNKNOWN);
	done(message);
	if (TICK_BEFORE_POLL) {
		return;
	}
	/* Without connect_events, a client is known that has published, */
	clients_free(f.clients);
	broker_free(f.broker);
	f.clients = clients_new(false, NULL);
	f.broker = broker_new(&f.options, f.inbound, f.outbound, f.wakeup, f.lanes, f.clients, f.statistics);
	watch_clients();
	subscribe(1, "a", 0);
	client_publishes_more(&client, "a", false, NULL, 0);
	receive_message("a", "payload");
	client_goes(&client, MOSQ_EVT_DISCONNECT, -1);
	message = receive(MESSAGE_DISCONNECT);
	assert_int_equal(message->as.disconnect.fate, MESSAGE_FATE_ENDS);
	done(message);
	/* or that still has its subscriptions, which go with its session. */
	client_goes(&client, MOSQ_EVT_DISCONNECT, -1);
	message = receive(MESSAGE_DISCONNECT);
	assert_int_equal(message->as.disconnect.fate, MESSAGE_FATE_UNKNOWN);
	done(message);
	client.sub_count = 1;
	client_goes(&client, MOSQ_EVT_DISCONNECT, -1);
	message = receive(MESSAGE_DISCONNECT);
	assert_int_equal(message->as.disconnect.fate, MESSAGE_FATE_ENDS);
	done(message);
}

static void test_reason_codes(void **state)
{
	static const int cases[][2] = {
		{MOSQ_ERR_SUCCESS, MQTT_RC_NORMAL_DISCONNECTION},
		{MOSQ_ERR_MALFORMED_PACKET, MQTT_RC_MALFORMED_PACKET},
		{MOSQ_ERR_MALFORMED_UTF8, MQTT_RC_MALFORMED_PACKET},
		{MOSQ_ERR_PROTOCOL, MQTT_RC_PROTOCOL_ERROR},
		{MOSQ_ERR_DUPLICATE_PROPERTY, MQTT_RC_PROTOCOL_ERROR},
		{MOSQ_ERR_AUTH, MQTT_RC_NOT_AUTHORIZED},
		{MOSQ_ERR_ACL_DENIED, MQTT_RC_NOT_AUTHORIZED},
		{MOSQ_ERR_KEEPALIVE, MQTT_RC_KEEP_ALIVE_TIMEOUT},
		{MOSQ_ERR_OVERSIZE_PACKET, MQTT_RC_PACKET_TOO_LARGE},
		{MOSQ_ERR_PAYLOAD_SIZE, MQTT_RC_PACKET_TOO_LARGE},
		{MOSQ_ERR_QOS_NOT_SUPPORTED, MQTT_RC_QOS_NOT_SUPPORTED},
		{ERR_QUOTA_EXCEEDED, MQTT_RC_QUOTA_EXCEEDED},
		{MOSQ_ERR_CONN_LOST, MQTT_RC_UNSPECIFIED},
		{MOSQ_ERR_ERRNO, MQTT_RC_UNSPECIFIED},
		{MOSQ_ERR_NOMEM, MQTT_RC_UNSPECIFIED},
		{-4, MQTT_RC_UNSPECIFIED},
		{127, MQTT_RC_UNSPECIFIED},
		{128, MQTT_RC_UNSPECIFIED},
		{MQTT_RC_ADMINISTRATIVE_ACTION, MQTT_RC_ADMINISTRATIVE_ACTION},
		{255, 255},
		{256, MQTT_RC_UNSPECIFIED},
	};
	struct stub_client a = make_client("a", 4);
	size_t i;
	int code;

	(void)state;
	watch_clients();
	a.clean_session = true;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_goes_with(&a, MOSQ_EVT_DISCONNECT, cases[i][0], TICK_BEFORE_POLL ? cases[i][1] : -1,
				MESSAGE_FATE_ENDS);
	}
	/* 2.1 gives these as they are: 148 for an invalid topic alias, 154 for a retained message that it does
	 * not take. */
	for (code = MQTT_RC_UNSPECIFIED; code <= MQTT_RC_WILDCARD_SUBS_NOT_SUPPORTED; code++) {
		assert_goes_with(&a, MOSQ_EVT_DISCONNECT, code, TICK_BEFORE_POLL ? code : -1,
				TICK_BEFORE_POLL && code == MQTT_RC_SESSION_TAKEN_OVER ? MESSAGE_FATE_UNKNOWN
																	   : MESSAGE_FATE_ENDS);
	}
}

static void test_a_full_queue_drops_clients_events(void **state)
{
	struct stub_client a = make_client("a", 4), b = make_client("b", 4);

	(void)state;
	use(1, 0);
	fake.seconds = 1000;
	watch_clients();
	client_connects(&a);
	assert_int_equal(stub.log_count, 0);
	client_connects(&b);
	client_goes(&a, MOSQ_EVT_DISCONNECT, 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("the queue is full"), 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_WARNING);
	told(MESSAGE_CONNECT, "a");
	receive_nothing();
	client_goes(&b, MOSQ_EVT_DISCONNECT, 0);
	told(MESSAGE_DISCONNECT, "b");
	assert_int_equal(queue_count(f.inbound), 0);
	assert_int_equal(queue_bytes(f.inbound), 0);
}

static void test_no_memory_to_watch(void **state)
{
	struct stub_client a = make_client("a", 4);
	unsigned long n;
	bool failed = true;
	struct message *message;

	(void)state;
	for (n = 1; failed; n++) {
		application_watches(n, 100 + n);
		scarce_memory(n, false);
		tick();
		failed = scarce_memory_end();
		message = queue_take(f.inbound);
		if (message) {
			assert_int_equal(message->kind, MESSAGE_ANSWER);
			assert_int_equal(message->as.answer.sequence, 100 + n);
			assert_int_equal(message->as.answer.rc, n == 1 ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS);
			done(message);
		} else {
			assert_int_equal(n, 2);
		}
	}
	client_connects(&a);
	message = receive(MESSAGE_CONNECT);
	assert_int_equal(message->recipient_count, 2);
	done(message);
}

static void test_what_is_retained_is_forgotten_with_the_link(void **state)
{
	const struct stub_client bridge = make_client("the-bridge", 5);
	struct marks *marks;
	size_t before;

	(void)state;
	use_mirror = true;
	use_with_session();
	use_mirror = false;
	marks = marks_new(8);
	stub_session.marks = marks;
	subscribe(1, "theirs", 1);
	client_publishes_more(&bridge, "theirs", true, NULL, 0);
	client_publishes_more(&bridge, "live", false, NULL, 0);
	assert_true(is_marked(marks, "theirs", "payload"));
	assert_true(application_publishes("ours", "1"));
	assert_true(application_publishes("gone", "1"));
	assert_true(application_publishes("gone", ""));
	tick();
	before = stub.publish_count;
	client_is_gone("somebody");
	assert_int_equal(stub.publish_count, before);
	client_is_gone("the-bridge");
	assert_int_equal(stub.publish_count, before + 2);
	for (size_t i = 0; i < 2; i++) {
		const struct stub_publish *publish = &stub.publishes[before + i];
		const char *other = stub.publishes[before + 1 - i].topic;

		assert_string_equal(publish->topic, strcmp(other, "ours") == 0 ? "theirs" : "ours");
		assert_int_equal(publish->payload_length, 0);
		assert_int_equal(publish->qos, 0);
		assert_true(publish->retain);
		assert_null(publish->client_id);
	}
	/* A copy comes of what a consumer has subscribed to, and of nothing else. */
	assert_true(is_marked(marks, "theirs", ""));
	assert_false(is_marked(marks, "ours", ""));
	client_is_gone("the-bridge");
	assert_int_equal(stub.publish_count, before + 2);
	stub_session.marks = NULL;
	marks_free(marks);
}

/* The broker has left its loop: its clients are freed. */
static void test_after_the_end_only_log_lines_are_carried_out(void **state)
{
	struct mosquitto_evt_basic_auth login = {0};
	struct stub_client *client;

	(void)state;
	use_with_session();
	client = malloc(sizeof(*client));
	assert_non_null(client);
	login.client = (struct mosquitto *)client;
	*client = make_client("somebody", 4);
	tick();
	done(receive(MESSAGE_HOLD));
	assert_int_equal(broker_on_login(MOSQ_EVT_BASIC_AUTH, &login, f.broker), MOSQ_ERR_PLUGIN_DEFER);
	tick();
	broker_end(f.broker);
	memset(client, 0x5a, sizeof(*client));
	free(client);
	application_watches(1, 3);
	application_subscribes(1, "a", 0, 4);
	application_unsubscribes(1, "a", 5);
	assert_true(application_publishes("a", "1") && application_publishes("a", "2"));
	assert_true(queue_push(f.outbound, message_log(MOSQ_LOG_WARNING, "the last word", 13)));
	application_says(MESSAGE_STOPPED);
	assert_true(broker_wait(f.broker, MESSAGE_STOPPED, 1000));
	receive_answer(3, MOSQ_ERR_SUCCESS);
	receive_answer(4, MOSQ_ERR_SUCCESS);
	receive_answer(5, MOSQ_ERR_SUCCESS);
	receive_nothing();
	assert_int_equal(stub_broker_logged("the last word"), 1);
	assert_int_equal(stub.publish_count, 0);
	assert_int_equal(stub_session.command_count, 1); /* MESSAGE_LISTENING */
	assert_true(broker_unsent(f.broker) == 2);
}

#define broker_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		broker_test(test_message_goes_to_its_recipients_in_one_message),
		broker_test(test_message_event_drains_first),
		broker_test(test_the_portions_of_a_flood),
		broker_test(test_no_signal_between_message_and_tick),
		broker_test(test_full_inbound_queue_drops_the_newest),
		broker_test(test_full_inbound_queue_drops_the_oldest),
		broker_test(test_what_was_pushed_is_not_looked_at_any_more),
		broker_test(test_options_that_change),
		broker_test(test_complaints_about_long_topics),
		broker_test(test_no_memory_for_a_message),
		broker_test(test_own_publish_goes_to_the_broker_and_comes_in_again),
		broker_test(test_refused_publish_is_reported),
		broker_test(test_subscriptions_are_answered),
		broker_test(test_no_memory_for_a_subscription_or_its_answer),
		broker_test(test_a_tick_does_a_bounded_number),
		broker_test(test_writable_comes_once),
		broker_test(test_writable_comes_when_there_is_memory_again),
		broker_test(test_log_lines_are_split_between_characters),
		broker_test(test_log_lines_about_as_long_as_a_piece),
		broker_test(test_log_lines_of_anything),
		broker_test(test_own_log_lines),
		broker_test(test_wait),
		broker_test(test_wait_ends_when_python_does),
		broker_test(test_wait_does_what_the_application_asks_for),
		broker_test(test_wait_ends_in_a_flood),
		broker_test(test_spin_waits_for_the_answer_to_a_lone_message),
		broker_test(test_spin_is_bounded_and_gives_up),
		broker_test(test_spin_learns_again_from_quick_answers),
		broker_test(test_spin_learns_from_when_an_answer_came),
		broker_test(test_spin_does_not_learn_from_slow_answers),
		broker_test(test_no_spin_with_several_messages_under_way),
		broker_test(test_no_poll_is_cut_short_for_an_answer_that_was_waited_for),
		broker_test(test_no_spin_without_a_rest_before),
		broker_test(test_no_spin_without_the_option),
		broker_test(test_spin_begins_and_ends_while_the_broker_runs),
		broker_test(test_a_busy_broker_is_not_signalled),
		broker_test(test_poll_after_a_tick_that_did_something),
		broker_test(test_every_answer_wakes_the_broker),
		broker_test(test_the_session_gets_what_is_not_direct),
		broker_test(test_the_session_is_asked_whether_it_is_gone),
		broker_test(test_who_took_the_sessions_place),
		broker_test(test_copies_are_kept_from_the_session_alone),
		broker_test(test_what_nobody_decides_is_granted),
		broker_test(test_a_message_has_its_properties_and_its_client),
		broker_test(test_without_a_reader_there_are_no_properties),
		broker_test(test_large_properties),
		broker_test(test_no_memory_for_properties),
		broker_test(test_own_publish_has_properties),
		broker_test(test_properties_that_the_broker_refuses),
		broker_test(test_no_memory_for_own_properties),
		broker_test(test_own_publish_with_no_local),
		broker_test(test_consumers_are_told_of_clients),
		broker_test(test_a_client_is_kicked),
		broker_test(test_a_client_that_is_offline_is_not_kicked),
		broker_test(test_a_kick_that_takes_time),
		broker_test(test_kicks_make_the_next_tick_come),
		broker_test(test_the_session_is_not_kicked),
		broker_test(test_no_memory_for_a_kick),
		broker_test(test_logins_settle_with_the_tick),
		broker_test(test_why_and_what_becomes_of_the_session),
		broker_test(test_what_becomes_of_a_session_that_is_taken_over),
		broker_test(test_reason_codes),
		broker_test(test_a_full_queue_drops_clients_events),
		broker_test(test_no_memory_to_watch),
		broker_test(test_what_is_retained_is_forgotten_with_the_link),
		broker_test(test_after_the_end_only_log_lines_are_carried_out),
		broker_test(test_no_memory_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
