#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naive_topics.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"
#include "shared/topics.h"

static void add(struct topics *topics, uint64_t consumer, const char *filter, uint8_t qos)
{
	assert_int_equal(topics_add(topics, consumer, filter, qos), MOSQ_ERR_SUCCESS);
}

static size_t match(struct topics *topics, const char *topic, const struct recipient **ret_recipients)
{
	size_t count;

	topics_match(topics, topic, ret_recipients, &count);
	return count;
}

/* The examples of MQTT 5 section 4.7, and the corners around them. */
static void test_matching(void **state)
{
	static const struct {
		const char *filter, *topic;
		bool matches;
	} cases[] = {
		{"a/b", "a/b", true},
		{"a/b", "a", false},
		{"a", "a/b", false},
		{"a", "A", false},
		{"sport/tennis/#", "sport/tennis", true},
		{"sport/tennis/#", "sport/tennis/a/b", true},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"#", "a", true},
		{"#", "/", true},
		{"#", "a/b/c", true},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"sport/+/x", "sport/a/x", true},
		{"+", "a", true},
		{"+", "/a", false},
		{"+/+", "/a", true},
		{"/+", "/a", true},
		{"+/#", "a", true},
		{"+/#", "a/b/c", true},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a/", "a", false},
		{"a/", "a/", true},
		{"/", "/", true},
		{"a/#", "a/", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/x", true},
		{"+/#", "$SYS", false},
		{"a/#", "a/$b", true},
		{"a/+", "a/$b", true},
		{"$", "$", true},
		{"#", "$", false},
		{"a+", "a+", true},
		{"\xc3\xa4/+", "\xc3\xa4/x", true},
	};
	const struct recipient *recipients;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct topics *topics = topics_new();

		add(topics, 7, cases[i].filter, 1);
		assert_int_equal(match(topics, cases[i].topic, &recipients), cases[i].matches);
		assert_int_equal(naive_matches(cases[i].filter, cases[i].topic), cases[i].matches);
		if (cases[i].matches) {
			assert_int_equal(recipients[0].consumer, 7);
			assert_int_equal(recipients[0].qos, 1);
		}
		topics_free(topics);
	}
}

static void test_a_slash_that_is_missing(void **state)
{
	static const struct {
		const char *filter, *topic;
		bool hears;
	} cases[] = {
		{"/a/b", "a/b", true},
		{"/a/+", "a/b", true},
		{"/#", "a/b", true},
		{"/+", "a", true},
		{"/a", "b", false},
		{"/a/b", "/a/b", false},
		{"a/b", "a/b", false},
		{"+/a", "a", false},
		{"#", "a", false},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct topics *topics = topics_new();
		const struct recipient *recipients;

		assert_false(topics_would_hear_with_slash(topics, cases[i].topic));
		add(topics, 1, cases[i].filter, 0);
		assert_int_equal(topics_would_hear_with_slash(topics, cases[i].topic), cases[i].hears);
		/* It leaves nothing behind. */
		(void)match(topics, "nothing/of/that/kind", &recipients);
		topics_free(topics);
	}
}

static void test_each_consumer_once_with_the_highest_qos(void **state)
{
	struct topics *topics = topics_new();
	const struct recipient *recipients;

	(void)state;
	add(topics, 1, "a/b", 0);
	add(topics, 1, "a/+", 2);
	add(topics, 1, "#", 1);
	add(topics, UINT64_MAX, "a/#", 1);
	assert_int_equal(topics_count(topics), 4);
	assert_int_equal(match(topics, "a/b", &recipients), 2);
	assert_int_equal(recipients[0].consumer == 1 ? recipients[0].qos : recipients[1].qos, 2);
	assert_int_equal(match(topics, "x", &recipients), 1);
	assert_int_equal(recipients[0].qos, 1);
	topics_free(topics);
}

#define NO_LOCAL MQTT_SUB_OPT_NO_LOCAL
#define AS_PUBLISHED MQTT_SUB_OPT_RETAIN_AS_PUBLISHED

/* The only recipient of topic. */
static void assert_gets(struct topics *topics, const char *topic, uint8_t qos, int own_qos, bool as_published)
{
	const struct recipient *recipients;

	assert_int_equal(match(topics, topic, &recipients), 1);
	assert_int_equal(recipients[0].qos, qos);
	assert_int_equal(recipients[0].own_qos, own_qos);
	assert_int_equal(recipients[0].retain_as_published, as_published);
}

static void test_options_of_overlapping_filters_add_up(void **state)
{
	struct topics *topics = topics_new();
	const struct recipient *recipients;
	size_t count;

	(void)state;
	add(topics, 1, "a/b", 2 | NO_LOCAL);
	assert_gets(topics, "a/b", 2, -1, false);
	add(topics, 1, "a/+", 1);
	assert_gets(topics, "a/b", 2, 1, false);
	assert_gets(topics, "a/x", 1, 1, false);
	add(topics, 1, "a/#", AS_PUBLISHED);
	assert_gets(topics, "a/b", 2, 1, true);
	assert_gets(topics, "a", 0, 0, true);
	/* Each time it is asked, in whatever order the filters are found. */
	assert_gets(topics, "a/b", 2, 1, true);
	assert_int_equal(topics_remove(topics, 1, "a/+"), MOSQ_ERR_SUCCESS);
	assert_gets(topics, "a/b", 2, 0, true);
	add(topics, 1, "a/#", NO_LOCAL | AS_PUBLISHED | MQTT_SUB_OPT_SEND_RETAIN_NEVER);
	assert_gets(topics, "a/b", 2, -1, true);
	add(topics, 1, "a/b", 1);
	assert_gets(topics, "a/b", 1, 1, true);
	add(topics, 1, "a/#", 0);
	assert_gets(topics, "a/b", 1, 1, false);

	/* What others ask for is theirs. */
	add(topics, 2, "#", 2 | NO_LOCAL | AS_PUBLISHED);
	assert_int_equal(match(topics, "a/b", &recipients), 2);
	assert_int_equal(recipients[0].consumer + recipients[1].consumer, 3);
	assert_int_equal(recipients[0].own_qos + recipients[1].own_qos, 0);
	assert_int_equal(recipients[0].retain_as_published + recipients[1].retain_as_published, 1);
	/* And of one filter, its own alone. */
	topics_subscribers(topics, "a/#", &recipients, &count);
	assert_int_equal(count, 1);
	assert_int_equal(recipients[0].qos, 0);
	assert_int_equal(recipients[0].own_qos, 0);
	topics_subscribers(topics, "#", &recipients, &count);
	assert_int_equal(count, 1);
	assert_int_equal(recipients[0].own_qos, -1);
	topics_subscribers(topics, "a", &recipients, &count);
	assert_int_equal(count, 0);
	topics_free(topics);
}

static void test_the_qos_of_a_subscription(void **state)
{
	struct topics *topics = topics_new();

	(void)state;
	add(topics, 1, "a/+", 2 | NO_LOCAL | AS_PUBLISHED | MQTT_SUB_OPT_SEND_RETAIN_NEVER);
	add(topics, 1, "a/b", 0);
	assert_int_equal(topics_qos(topics, 1, "a/+"), 2);
	assert_int_equal(topics_qos(topics, 1, "a/b"), 0);
	assert_int_equal(topics_qos(topics, 1, "a/c"), -1);
	assert_int_equal(topics_qos(topics, 2, "a/b"), -1);
	topics_free(topics);
}

static void test_adding_again_changes_the_qos(void **state)
{
	struct topics *topics = topics_new();
	const struct recipient *recipients;

	(void)state;
	add(topics, 1, "a", 2);
	add(topics, 1, "a", 0);
	assert_int_equal(topics_count(topics), 1);
	assert_int_equal(match(topics, "a", &recipients), 1);
	assert_int_equal(recipients[0].qos, 0);
	topics_free(topics);
}

static void test_removing(void **state)
{
	struct topics *topics = topics_new();
	const struct recipient *recipients;

	(void)state;
	add(topics, 1, "a/b/c", 0);
	add(topics, 2, "a/b", 0);
	add(topics, 1, "a/+/#", 0);
	assert_int_equal(topics_remove(topics, 1, "a/b"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(topics_remove(topics, 3, "a/b/c"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(topics_remove(topics, 1, "a"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(topics_remove(topics, 1, "x/y"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(topics_remove(topics, 1, "#"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(topics_remove(topics, 1, "a/b/c"), MOSQ_ERR_SUCCESS);
	assert_int_equal(topics_remove(topics, 1, "a/b/c"), MOSQ_ERR_NOT_FOUND);
	assert_int_equal(match(topics, "a/b/c", &recipients), 1);
	assert_int_equal(topics_remove(topics, 1, "a/+/#"), MOSQ_ERR_SUCCESS);
	assert_int_equal(match(topics, "a/b/c", &recipients), 0);
	assert_int_equal(match(topics, "a/b", &recipients), 1);
	assert_int_equal(topics_remove(topics, 2, "a/b"), MOSQ_ERR_SUCCESS);
	assert_int_equal(topics_count(topics), 0);
	assert_int_equal(match(topics, "a/b", &recipients), 0);
	topics_free(topics);
	topics_free(NULL);
}

static void fill_levels(char *out, size_t levels, const char *level)
{
	size_t i;

	*out = '\0';
	for (i = 0; i < levels; i++) {
		strcat(out, i > 0 ? "/" : "");
		strcat(out, level);
	}
}

static void test_many_levels(void **state)
{
	struct topics *topics = topics_new();
	const struct recipient *recipients;
	char filter[2048], topic[2048];

	(void)state;
	fill_levels(filter, TOPICS_LEVELS_MAX, "+");
	fill_levels(topic, TOPICS_LEVELS_MAX, "a");
	add(topics, 1, filter, 0);
	add(topics, 2, topic, 0);
	assert_int_equal(match(topics, topic, &recipients), 2);
	strcat(topic, "/a");
	assert_int_equal(topics_add(topics, 1, topic, 0), MOSQ_ERR_INVAL);
	assert_int_equal(match(topics, topic, &recipients), 0);
	fill_levels(topic, 1000, "a");
	assert_int_equal(match(topics, topic, &recipients), 0);
	topics_free(topics);
}

/* 10,000 consumers come and go, with one filter of their own each and two in common. */
static void test_many_consumers(void **state)
{
	enum { consumers = 10000 };
	struct topics *topics = topics_new();
	const struct recipient *recipients;
	unsigned long allocations;
	long blocks = scarce_memory_blocks();
	char filter[64];
	uint64_t i;

	(void)state;
	for (i = 0; i < consumers; i++) {
		snprintf(filter, sizeof filter, "device/%d/state", (int)i);
		add(topics, i, filter, 1);
		add(topics, i, "all/#", 0);
		add(topics, i, "all/+", 2);
	}
	allocations = scarce_memory_allocations();
	assert_int_equal(match(topics, "all/x", &recipients), consumers);
	assert_int_equal(recipients[consumers - 1].qos, 2);
	assert_int_equal(match(topics, "device/77/state", &recipients), 1);
	assert_int_equal(recipients[0].consumer, 77);
	assert_int_equal(scarce_memory_allocations(), allocations);
	for (i = consumers; i-- > 0;) {
		snprintf(filter, sizeof filter, "device/%d/state", (int)i);
		assert_int_equal(topics_remove(topics, i, filter), MOSQ_ERR_SUCCESS);
		assert_int_equal(topics_remove(topics, i, "all/#"), MOSQ_ERR_SUCCESS);
		assert_int_equal(topics_remove(topics, i, "all/+"), MOSQ_ERR_SUCCESS);
	}
	assert_int_equal(topics_count(topics), 0);
	assert_int_equal(scarce_memory_blocks(), blocks + 1); /* the recipients */
	topics_free(topics);
	assert_int_equal(scarce_memory_blocks(), blocks - 2); /* and the root */
}

/* Every n-th allocation fails: the trie must go on agreeing with a list of what succeeded. */
static void test_scarce_memory(void **state)
{
	static const char *const filters[] = {"a", "a/b", "a/+", "a/#", "+/b/c", "#", "b/c/d/e/f", "+/+/#", "/",
		"a/b/x", "a/b/y", "a/b/z", "a/b/w", "a/b/v", "a/b/u"};
	static const char *const topics_tried[] = {
		"a", "a/b", "a/b/c", "x/b/c", "b/c/d/e/f", "/", "a/b/x", "$SYS/a"};
	enum { filter_count = sizeof filters / sizeof filters[0], tried_count = 8 };
	static struct naive naive;
	unsigned long n, failures = 0;
	unsigned int i, step;

	(void)state;
	scarce_memory(1, false);
	assert_null(topics_new());
	scarce_memory(2, false);
	assert_null(topics_new());
	scarce_memory_end();
	for (n = 1; n < 20; n++) {
		struct topics *topics = topics_new();

		naive.count = 0;
		naive_add(&naive, 99, "first", 0);
		add(topics, 99, "first", 0); /* the room for recipients stays from here on */
		scarce_memory(n, true);
		for (step = 0; step < 400; step++) {
			const char *filter = filters[(step * 7 + step / 15) % filter_count];
			uint64_t consumer = step * 5 % 13;
			uint8_t options = (uint8_t)(step % 3 | step % 4 << 2);

			if (step % 100 < 70) {
				long blocks = scarce_memory_blocks();
				int rc = topics_add(topics, consumer, filter, options);

				if (rc == MOSQ_ERR_SUCCESS) {
					naive_add(&naive, consumer, filter, options);
				} else {
					assert_int_equal(rc, MOSQ_ERR_NOMEM);
					assert_int_equal(scarce_memory_blocks(), blocks);
					failures++;
				}
			} else {
				assert_int_equal(topics_remove(topics, consumer, filter) == MOSQ_ERR_SUCCESS,
						naive_remove(&naive, consumer, filter));
			}
			for (i = 0; i < tried_count; i++) {
				assert_true(naive_agrees(&naive, topics, topics_tried[i]));
			}
		}
		scarce_memory_end();
		topics_free(topics);
	}
	assert_true(failures > 300);
}

/* Retain Handling (MQTT 5, 3.8.3.1). */
static void test_who_is_sent_what_is_retained(void **state)
{
	(void)state;
	assert_true(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_ALWAYS, true));
	assert_true(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_ALWAYS | 2, false));
	assert_true(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_NEW | MQTT_SUB_OPT_NO_LOCAL, true));
	assert_false(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_NEW, false));
	assert_false(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_NEVER, true));
	assert_false(topics_brings_retained("a", MQTT_SUB_OPT_SEND_RETAIN_NEVER, false));
	assert_false(topics_brings_retained("$share/g/a", MQTT_SUB_OPT_SEND_RETAIN_ALWAYS, true)); /* 4.8.2 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_sent_what_is_retained),
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_a_slash_that_is_missing),
		cmocka_unit_test(test_each_consumer_once_with_the_highest_qos),
		cmocka_unit_test(test_options_of_overlapping_filters_add_up),
		cmocka_unit_test(test_the_qos_of_a_subscription),
		cmocka_unit_test(test_adding_again_changes_the_qos),
		cmocka_unit_test(test_removing),
		cmocka_unit_test(test_many_levels),
		cmocka_unit_test(test_many_consumers),
		cmocka_unit_test(test_scarce_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
