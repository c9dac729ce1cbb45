#include "cmocka_all.h"

#include <string.h>

#include "outlet_ends.h"
#include "scarce_memory.h"
#include "session/connection.h"
#include "session/copies.h"
#include "shared/fingerprint.h"
#include "shared/marks.h"

static struct copies copies;

static int set_up(void **state)
{
	(void)state;
	outlet_ends_open(10);
	assert_true(copies_init(&copies, &outlet));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	copies_free(&copies);
	outlet_ends_close();
	return 0;
}

static struct connection_message message_of(const char *payload, uint8_t qos)
{
	return (struct connection_message){
		.topic = "t", .payload = payload, .payload_length = strlen(payload), .subscription = 1, .qos = qos};
}

/* As the broker thread does. */
static void mark(const char *payload, uint8_t qos, bool late)
{
	const struct message_content content = {"t", 1, payload, strlen(payload), NULL, 0};

	marks_add(copies_marks(&copies, late),
			fingerprint_published(fingerprint_of(&content, true), qos, FINGERPRINT_LIVE));
}

/* For a subscription with QoS 2. */
static bool is_copy(const char *payload, uint8_t qos)
{
	const struct connection_message event = message_of(payload, qos);
	struct fingerprint_copies published;

	return copies_recognise(&copies, &event, 2, false, &published);
}

static void test_each_mark_is_one_copy(void **state)
{
	(void)state;
	assert_false(copies_are_under_way(&copies));
	mark("a", 1, false);
	mark("b", 2, true);
	assert_true(copies_are_under_way(&copies));
	assert_true(is_copy("a", 1));
	assert_false(copies_are_under_way(&copies));
	assert_false(is_copy("a", 1));
	assert_true(is_copy("b", 2));
	assert_false(is_copy("b", 2));
}

static void test_a_fence_ends_marks(void **state)
{
	(void)state;
	mark("a", 1, false);
	mark("b", 2, true);
	assert_true(copies_want_fence_now(&copies, clock_ms));
	assert_false(copies_want_fence_now(&copies, clock_ms + COPIES_FENCE_MS - 1));
	assert_true(copies_want_fence_now(&copies, clock_ms + COPIES_FENCE_MS));
	marks_fence(copies_marks(&copies, false), 1);
	marks_fence(copies_marks(&copies, true), 1);
	copies_pass(&copies, 1, false, clock_ms);
	assert_false(copies_want_fence(&copies));
	assert_false(is_copy("a", 1));
	assert_true(is_copy("b", 2)); /* its publisher has time to release it */
}

static void test_late_marks_end(void **state)
{
	(void)state;
	mark("a", 2, true);
	mark("b", 2, true);
	copies_end_late(&copies, clock_ms + 100 * COPIES_LATE_MS); /* there was no connection yet */
	assert_true(is_copy("a", 2));
	copies_caught_up(&copies, clock_ms);
	copies_lose(&copies);
	copies_end_late(&copies, clock_ms + 100 * COPIES_LATE_MS); /* there is none */
	copies_caught_up(&copies, clock_ms);
	copies_end_late(&copies, clock_ms + COPIES_LATE_MS - 1);
	mark("c", 2, true);
	copies_end_late(&copies, clock_ms + COPIES_LATE_MS);
	assert_false(is_copy("b", 2));
	assert_true(is_copy("c", 2));
}

/* Of what was published before its first subscriptions it has no copies. */
static void test_a_session_that_is_new(void **state)
{
	(void)state;
	mark("a", 2, true);
	marks_fence(copies_marks(&copies, true), 1);
	copies_connected(&copies, false);
	copies_pass(&copies, 1, false, clock_ms);
	mark("b", 2, true);
	marks_fence(copies_marks(&copies, true), 2);
	copies_pass(&copies, 2, true, clock_ms);
	assert_false(is_copy("a", 2));
	assert_false(is_copy("b", 2));
	mark("c", 2, true);
	marks_fence(copies_marks(&copies, true), 3);
	copies_pass(&copies, 3, true, clock_ms);
	assert_true(is_copy("c", 2));
}

static void test_upgraded_copies(void **state)
{
	const struct connection_message event = message_of("a", 2);
	struct fingerprint_copies published;

	(void)state;
	mark("a", 0, false);
	assert_true(is_copy("a", 2));
	assert_false(copies_recognise(&copies, &event, 2, false, &published));
	assert_int_equal(published.count, 9); /* any QoS, any flag */
	assert_false(is_copy("b", 1));        /* lower than the subscription's: nothing is upgraded */
	mark("a", 0, false);
	assert_false(is_copy("a", 2));
	clock_ms += COPIES_LOWERED_MS;
	assert_true(is_copy("a", 2));
}

static void test_marks_without_room_are_told(void **state)
{
	uint64_t i;

	(void)state;
	for (i = 1; i <= COPIES_MAX; i++) {
		marks_add(copies_marks(&copies, false), i * 7919);
	}
	mark("a", 1, false);
	copies_pass(&copies, 1, false, clock_ms);
	(void)outlet_ends_listen();
	assert_non_null(strstr(said_log, "1 messages may come to consumers twice"));
	mark("a", 1, false);
	copies_connected(&copies, false); /* there will be no copies of it */
	copies_pass(&copies, 2, false, clock_ms + COPIES_MISSING_MS);
	(void)outlet_ends_listen();
	assert_string_equal(said_log, "");
}

static void test_no_copies_without_connections(void **state)
{
	(void)state;
	assert_non_null(copies_marks(&copies, false));
	copies_give_up(&copies);
	assert_null(copies_marks(&copies, false));
	assert_null(copies_marks(&copies, true));
}

#define copies_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		copies_test(test_each_mark_is_one_copy),
		copies_test(test_a_fence_ends_marks),
		copies_test(test_late_marks_end),
		copies_test(test_a_session_that_is_new),
		copies_test(test_upgraded_copies),
		copies_test(test_marks_without_room_are_told),
		copies_test(test_no_copies_without_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
