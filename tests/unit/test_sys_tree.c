/* sys_tree.c between a stub of Mosquitto and a clock, a session and signals that are what the test says. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/lanes.h"
#include "broker/sys_tree.h"
#include "broker/wakeup.h"
#include "scarce_memory.h"
#include "shared/message.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "stub_broker.h"

static time_t now;
static long nanoseconds;
static bool session_is_up;
static uint64_t signals;
static struct statistics *statistics;
static struct queue *inbound, *outbound;
static struct sys_tree *sys_tree;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	(void)clock;
	*time = (struct timespec){.tv_sec = now, .tv_nsec = nanoseconds};
	return 0;
}

uint64_t lanes_missing(const struct lanes *lanes)
{
	(void)lanes;
	return 7;
}

uint64_t lanes_forgotten(const struct lanes *lanes)
{
	(void)lanes;
	return 8;
}

uint64_t lanes_left_out(const struct lanes *lanes)
{
	(void)lanes;
	return 10;
}

uint64_t lanes_passed_over(const struct lanes *lanes)
{
	(void)lanes;
	return 11;
}

uint64_t lanes_refused(const struct lanes *lanes)
{
	(void)lanes;
	return 9;
}

bool lanes_has_session(const struct lanes *lanes)
{
	(void)lanes;
	return session_is_up;
}

uint64_t wakeup_count(const struct wakeup *wakeup)
{
	(void)wakeup;
	return signals;
}

static void ignore(void *userdata)
{
	(void)userdata;
}

static void make(bool has_session)
{
	const struct sys_tree_sources sources = {
		statistics, inbound, outbound, NULL, NULL, has_session, true, true};

	sys_tree_free(sys_tree);
	sys_tree = sys_tree_new(&sources);
	assert_non_null(sys_tree);
}

static int set_up(void **state)
{
	(void)state;
	stub_broker_reset();
	now = 1000;
	nanoseconds = 0;
	session_is_up = false;
	signals = 0;
	statistics = statistics_new();
	inbound = queue_new(10, 10000, ignore, NULL);
	outbound = queue_new(10, 10000, ignore, NULL);
	make(true);
	return statistics && inbound && outbound ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	sys_tree_free(sys_tree);
	sys_tree = NULL;
	queue_free(inbound);
	queue_free(outbound);
	statistics_free(statistics);
	stub_broker_reset();
	return 0;
}

/* What a tick publishes; the former is forgotten. */
static size_t tick(void)
{
	stub_broker_reset();
	sys_tree_tick(sys_tree);
	return stub.publish_count;
}

/* The payload that the last tick published for this topic; NULL: none. */
static const char *published(const char *name)
{
	char topic[128];
	size_t i;

	(void)snprintf(topic, sizeof topic, "$SYS/broker/mqttasgi/%s", name);
	for (i = 0; i < stub.publish_count; i++) {
		if (strcmp(stub.publishes[i].topic, topic) == 0) {
			assert_null(stub.publishes[i].client_id);
			assert_null(stub.publishes[i].properties);
			assert_int_equal(stub.publishes[i].qos, 0);
			assert_true(stub.publishes[i].retain);
			return stub.publishes[i].payload ? stub.publishes[i].payload : "";
		}
	}
	return NULL;
}

static void test_all_at_first_then_changes(void **state)
{
	unsigned int which;

	(void)state;
	assert_int_equal(tick(), 0); /* no interval is known yet */
	statistics_add(statistics, STATISTICS_SENT, 12);
	sys_tree_set_interval(sys_tree, 10);
	assert_int_equal(tick(), STATISTICS_COUNT);
	for (which = 0; which < STATISTICS_COUNT; which++) {
		assert_non_null(published(statistics_name((enum statistic)which)));
	}
	assert_string_equal(published("messages/sent"), "12");
	assert_string_equal(published("messages/received"), "0");
	assert_string_equal(published("messages/unmarked"), "7");
	assert_string_equal(published("messages/unnamed"), "8");
	assert_string_equal(published("session/left_out"), "10");
	assert_string_equal(published("session/passed_over"), "11");
	assert_string_equal(published("session/refused"), "9");
	assert_string_equal(published("uptime"), "0");
	/* Not counted as the application's. */
	assert_int_equal(statistics_get(statistics, STATISTICS_SENT), 12);

	statistics_add(statistics, STATISTICS_REFUSED, 1);
	now += 9;
	assert_int_equal(tick(), 0);
	now += 1;
	assert_true(tick() < 5); /* memory is what it is */
	assert_string_equal(published("messages/refused"), "1");
	assert_string_equal(published("uptime"), "10");
	assert_null(published("messages/sent"));
	/* Last: who reads them knows then that this interval's are complete. */
	assert_string_equal(stub.publishes[stub.publish_count - 1].topic, "$SYS/broker/mqttasgi/uptime");
	assert_int_equal(tick(), 0);
}

static void test_states(void **state)
{
	const struct message_content content = {"t", 1, "12345", 5, NULL, 0};
	struct message *in = message_publish(&content, NULL, 0), *out = message_publish(&content, NULL, 0);
	char expected[32];

	(void)state;
	(void)snprintf(expected, sizeof expected, "%zu", message_size(in));
	assert_true(queue_push(inbound, in));
	assert_true(queue_push(outbound, out));
	signals = 77;
	statistics_handled(statistics, 8300);
	sys_tree_set_interval(sys_tree, 1);
	(void)tick();
	assert_string_equal(published("queue/inbound/messages"), "1");
	assert_string_equal(published("queue/inbound/bytes"), expected);
	assert_string_equal(published("queue/outbound/messages"), "1");
	assert_string_not_equal(published("queue/outbound/bytes"), "0");
	assert_string_equal(published("wake_ups"), "77");
	assert_string_equal(published("handling/p50"), "8"); /* in steps of an eighth */
	assert_string_equal(published("session/state"), "down");
	assert_true(strtoull(published("memory"), NULL, 10) > 100000);

	session_is_up = true;
	queue_release(inbound, message_size(in));
	now++;
	(void)tick();
	assert_string_equal(published("session/state"), "up");
	assert_string_equal(published("queue/inbound/messages"), "0");
	assert_null(published("handling/p50"));
}

/* Who looks in the first seconds is not told what was so before anything had begun. */
static void test_states_are_published_when_they_change(void **state)
{
	(void)state;
	sys_tree_set_interval(sys_tree, 60);
	(void)tick();
	assert_string_equal(published("session/state"), "down");
	assert_string_equal(published("consumers/running"), "0");

	session_is_up = true;
	statistics_set(statistics, STATISTICS_RUNNING, 3);
	statistics_add(statistics, STATISTICS_SENT, 1);
	nanoseconds = 99999999;
	assert_int_equal(tick(), 0); /* ten times a second, at most */
	nanoseconds = 100000000;
	assert_true(tick() >= 3);
	assert_string_equal(published("session/state"), "up");
	assert_string_equal(published("consumers/running"), "3");
	assert_string_equal(published("messages/sent"), "1");
	nanoseconds = 300000000;
	statistics_add(statistics, STATISTICS_SENT, 1); /* no state */
	assert_int_equal(tick(), 0);

	statistics_set(statistics, STATISTICS_RUNNING, 2);
	statistics_set(statistics, STATISTICS_RESTARTING, 1);
	(void)tick();
	assert_string_equal(published("consumers/restarting"), "1");
	now++;
	statistics_set(statistics, STATISTICS_RESTARTING, 0);
	statistics_set(statistics, STATISTICS_FAILED, 1);
	(void)tick();
	assert_string_equal(published("consumers/failed"), "1");
	assert_string_equal(published("uptime"), "1");
	/* The interval goes on as it was. */
	now += 58;
	assert_int_equal(tick(), 0);
	now++;
	(void)tick();
	assert_string_equal(published("uptime"), "60");
}

static void test_when_it_was(void **state)
{
	time_t before = time(NULL);

	(void)state;
	sys_tree_set_interval(sys_tree, 60);
	(void)tick();
	assert_in_range(strtoull(published("time"), NULL, 10), (uintmax_t)before, (uintmax_t)time(NULL));
}

static void test_without_a_session(void **state)
{
	(void)state;
	make(false);
	sys_tree_set_interval(sys_tree, 1);
	(void)tick();
	assert_string_equal(published("session/state"), "off");
}

static void test_the_interval_changes(void **state)
{
	unsigned int which;

	(void)state;
	sys_tree_set_interval(sys_tree, 60);
	(void)tick();
	now += 5;
	sys_tree_set_interval(sys_tree, 60); /* the same: no new beginning */
	assert_int_equal(tick(), 0);
	sys_tree_set_interval(sys_tree, 2);
	(void)tick();
	assert_string_equal(published("uptime"), "5");
	now += 2;
	(void)tick();
	assert_string_equal(published("uptime"), "7");

	stub_broker_reset();
	sys_tree_set_interval(sys_tree, 0);
	assert_int_equal(stub.publish_count, STATISTICS_COUNT);
	for (which = 0; which < STATISTICS_COUNT; which++) {
		assert_string_equal(published(statistics_name((enum statistic)which)), "");
	}
	now += 1000;
	signals = 78;
	assert_int_equal(tick(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_WAKE_UPS),
			78); /* for who reads them in the process */
	signals = 79;
	now += 9;
	assert_int_equal(tick(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_WAKE_UPS), 78);
	now += 1;
	assert_int_equal(tick(), 0);
	assert_int_equal(statistics_get(statistics, STATISTICS_WAKE_UPS), 79);
	sys_tree_set_interval(sys_tree, 10);
	assert_int_equal(tick(), STATISTICS_COUNT);
}

static void test_what_the_broker_did_not_take_comes_the_next_time(void **state)
{
	(void)state;
	sys_tree_set_interval(sys_tree, 10);
	stub_broker_reset();
	stub.publish_rc = MOSQ_ERR_NOMEM;
	sys_tree_tick(sys_tree);
	stub_broker_reset();
	stub.no_memory = true;
	now += 10;
	sys_tree_tick(sys_tree);
	assert_int_equal(stub.publish_count, 0);
	now += 10;
	assert_int_equal(tick(), STATISTICS_COUNT);
}

static void test_without_memory(void **state)
{
	const struct sys_tree_sources sources = {0};

	(void)state;
	scarce_memory(1, false);
	assert_null(sys_tree_new(&sources));
	assert_true(scarce_memory_end());
	sys_tree_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_at_first_then_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_states_are_published_when_they_change, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_when_it_was, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_a_session, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_interval_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_the_broker_did_not_take_comes_the_next_time, set_up,
				tear_down),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
