#include "cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shared/log_ring.h"

/* The ring is one for the process, so each test goes by the numbers that it finds. */

static void add(const char *text)
{
	log_ring_add(4, text, strlen(text));
}

static void test_empty(void **state)
{
	struct log_ring_line line;

	(void)state;
	assert_int_equal(log_ring_last(), 0);
	assert_false(log_ring_next(0, &line));
	assert_false(log_ring_next(7, &line));
}

static void test_lines_come_in_their_order(void **state)
{
	uint64_t before = log_ring_last(), now = (uint64_t)time(NULL) * 1000U;
	struct log_ring_line line;

	(void)state;
	add("first");
	log_ring_add(8, "second", 6);
	add("");
	assert_int_equal(log_ring_last(), before + 3);
	assert_true(log_ring_next(before, &line));
	assert_int_equal(line.number, before + 1);
	assert_int_equal(line.level, 4);
	assert_int_equal(line.length, 5);
	assert_memory_equal(line.text, "first", 5);
	assert_true(line.ms >= now && line.ms < now + 60000U);
	assert_true(log_ring_next(line.number, &line));
	assert_int_equal(line.level, 8);
	assert_memory_equal(line.text, "second", 6);
	assert_true(log_ring_next(line.number, &line));
	assert_int_equal(line.length, 0);
	assert_false(log_ring_next(line.number, &line));
	assert_false(log_ring_next(UINT64_MAX, &line));
}

static void test_no_more_than_a_thousand(void **state)
{
	uint64_t before = log_ring_last();
	struct log_ring_line line;
	char text[32];
	unsigned int i;

	(void)state;
	for (i = 0; i < LOG_RING_LINES + 5; i++) {
		log_ring_add(1, text, (size_t)snprintf(text, sizeof(text), "line %u", i));
	}
	assert_true(log_ring_next(0, &line));
	assert_int_equal(line.number, before + 6);
	assert_int_equal(line.length, 6);
	assert_memory_equal(line.text, "line 5", 6);
	for (i = 1; log_ring_next(line.number, &line); i++) {
	}
	assert_int_equal(i, LOG_RING_LINES);
}

/* Lines of every length, so that some go over the end of the bytes. */
static void test_no_more_than_has_room(void **state)
{
	struct log_ring_line line;
	char text[LOG_LINE_MAX + 10];
	size_t length, bytes = 0, count = 0;

	(void)state;
	for (length = 0; length < 2000; length++) {
		memset(text, 'a' + (int)(length % 26), sizeof(text));
		log_ring_add(1, text, length % 7 ? LOG_LINE_MAX - length % 50 : sizeof(text));
	}
	line.number = 0;
	while (log_ring_next(line.number, &line)) {
		assert_in_range(line.length, LOG_LINE_MAX - 49, LOG_LINE_MAX);
		for (length = 1; length < line.length; length++) {
			assert_int_equal(line.text[length], line.text[0]);
		}
		bytes += line.length;
		count++;
	}
	assert_int_equal(line.number, log_ring_last());
	assert_in_range(bytes, LOG_RING_BYTES - LOG_LINE_MAX, LOG_RING_BYTES);
	assert_true(count < LOG_RING_LINES);
}

static void *write_lines(void *unused)
{
	char text[100];
	unsigned int i;

	for (i = 0; i < 20000; i++) {
		memset(text, 'a' + (int)(i % 26), sizeof(text));
		log_ring_add(1, text, sizeof(text));
	}
	return unused;
}

static void test_a_reader_on_another_thread(void **state)
{
	struct log_ring_line line = {.number = log_ring_last()};
	uint64_t end = line.number + 20000, before;
	pthread_t writer;
	size_t i;

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_lines, NULL), 0);
	while (line.number < end) {
		before = line.number;
		if (!log_ring_next(before, &line)) {
			continue;
		}
		assert_true(line.number > before);
		for (i = 1; i < line.length; i++) {
			assert_int_equal(line.text[i], line.text[0]);
		}
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_lines_come_in_their_order),
		cmocka_unit_test(test_no_more_than_a_thousand),
		cmocka_unit_test(test_no_more_than_has_room),
		cmocka_unit_test(test_a_reader_on_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
