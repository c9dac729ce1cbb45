/* What the durable inbox costs, with messages of 100 bytes for one consumer: prints one line a case.
 *
 *     measure_store FOLDER [BACKLOG]
 *
 * The folder decides which disk is measured; a million messages is the backlog unless another number is
 * given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "durable/store.h"

#define LIMIT (4ULL << 30)

static const char PAYLOAD[101] = "0123456789012345678901234567890123456789012345678901234567890123456789"
								 "012345678901234567890123456789";
static char path[4096];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds of the longest call so far, and of the one that took most of the processor: the first has in
 * it what else the machine did, the second not the disk. */
static double longest, longest_busy, call_start, call_start_busy;

static double busy(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void forget_longest(void)
{
	longest = longest_busy = 0;
}

static void call_begins(void)
{
	call_start = now();
	call_start_busy = busy();
}

static void call_ends(void)
{
	double took = now() - call_start, took_busy = busy() - call_start_busy;

	longest = took > longest ? took : longest;
	longest_busy = took_busy > longest_busy ? took_busy : longest_busy;
}

static void must(enum store_result result)
{
	if (result != STORE_OK) {
		fprintf(stderr, "%s\n", store_result_text(result));
		exit(1);
	}
}

static void forget(void)
{
	char log[4100];

	snprintf(log, sizeof log, "%s-wal", path);
	unlink(path);
	unlink(log);
}

static struct store *must_open(enum store_sync sync, uint32_t *ret_consumer)
{
	char reason[512];
	struct store *store = store_open(path, sync, LIMIT, reason, sizeof reason);

	if (!store) {
		fprintf(stderr, "%s\n", reason);
		exit(1);
	}
	must(store_consumer(store, "master", 1, ret_consumer));
	return store;
}

static uint64_t put(struct store *store, uint32_t consumer)
{
	const struct store_message message = {.content = {.topic = "home/lights/kitchen",
											  .topic_length = 19,
											  .payload = PAYLOAD,
											  .payload_length = 100},
		.time = 1,
		.qos = 1};
	const struct store_recipient recipient = {.consumer = consumer};
	uint64_t id = 0;

	must(store_put(store, &message, &recipient, 1, &id));
	return id;
}

static void measure_put(const char *name, enum store_sync sync, int count)
{
	uint32_t consumer;
	struct store *store = must_open(sync, &consumer);
	double start = now(), each;
	int i;

	forget_longest();
	for (i = 0; i < count; i++) {
		call_begins();
		put(store, consumer);
		call_ends();
	}
	printf("put        %-8s %8d times %8.2f us each, longest %6.0f us, busy %6.0f us\n", name, count,
			(now() - start) / count, longest, longest_busy);
	forget_longest();
	start = now();
	for (i = 0; i < count; i++) {
		call_begins();
		must(store_done(store, put(store, consumer), consumer));
		call_ends();
		if (i % 100 == 0) {
			call_begins();
			must(store_tick(store));
			call_ends();
		}
	}
	each = (now() - start) / count;
	printf("put, done  %-8s %8d times %8.2f us each, longest %6.0f us, busy %6.0f us\n", name, count, each,
			longest, longest_busy);
	store_close(store);
	forget();
}

static long resident(void)
{
	long pages = 0, ignored;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file) {
		if (fscanf(file, "%ld %ld", &ignored, &pages) != 2) {
			pages = 0;
		}
		fclose(file);
	}
	return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void measure_backlog(int count)
{
	struct store_delivery delivery = {0};
	enum store_result result;
	uint32_t consumer;
	struct store *store = must_open(STORE_SYNC_PROCESS, &consumer);
	double start, took;
	int i;

	for (i = 0; i < count; i++) {
		put(store, consumer);
	}
	store_close(store);
	start = now();
	store = must_open(STORE_SYNC_PROCESS, &consumer);
	printf("open       with %d messages: %.0f ms, %ld KiB resident\n", count, (now() - start) / 1e3,
			resident());
	start = now();
	for (i = 0; (result = store_next(store, consumer, delivery.message.id, &delivery)) == STORE_OK; i++) {
	}
	took = now() - start;
	printf("read       %d messages: %.0f a second, %ld KiB resident\n", i, i / took * 1e6, resident());
	delivery.message.id = 0;
	forget_longest();
	start = now();
	for (i = 0; (result = store_next(store, consumer, delivery.message.id, &delivery)) == STORE_OK; i++) {
		call_begins();
		must(store_done(store, delivery.message.id, consumer));
		if (i % 100 == 0) {
			must(store_tick(store));
		}
		call_ends();
	}
	took = now() - start;
	printf("read, done %d messages: %.0f a second, longest %.0f us, busy %.0f us, %ld KiB resident\n", i,
			i / took * 1e6, longest, longest_busy, resident());
	forget_longest();
	start = now();
	for (i = 0; i < 2000; i++) {
		call_begins();
		must(store_tick(store));
		call_ends();
	}
	printf("idle ticks %d: %.0f us each, longest %.0f us, busy %.0f us\n", i, (now() - start) / i, longest,
			longest_busy);
	store_close(store);
	forget();
}

int main(int argc, char *argv[])
{
	if (argc < 2) {
		fprintf(stderr, "usage: measure_store FOLDER [BACKLOG]\n");
		return 2;
	}
	snprintf(path, sizeof path, "%s/measure_store.%ld", argv[1], (long)getpid());
	forget();
	measure_put("process", STORE_SYNC_PROCESS, 200000);
	measure_put("full", STORE_SYNC_FULL, 1000);
	measure_backlog(argc > 2 ? atoi(argv[2]) : 1000000);
	return 0;
}
