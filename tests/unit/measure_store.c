/* What the durable inbox costs, with messages of 100 bytes for one consumer: prints one line a case.
 *
 *     measure_store FOLDER [BACKLOG]
 *     measure_store FOLDER stalls [SECONDS]
 *
 * The folder decides which disk is measured; a million messages is the backlog unless another number is
 * given. On a machine that others use the longest call is mostly one in which the processor was taken away:
 * each line says how long that was. The second way takes turns with what has nothing to do with the store:
 * whole pages written into a file, and computing without any call of the system. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

static double busy(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* How long this thread could have run and was not let. */
static double kept_waiting(void)
{
	static int file = -1;
	unsigned long long ran, waited = 0;
	char text[80] = "";

	file = file < 0 ? open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC) : file;
	if (pread(file, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%llu %llu", &ran, &waited) != 2) {
		return 0;
	}
	return (double)waited / 1e3;
}

/* How often this thread has waited for something else, as a disk. */
static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/* Microseconds of one call, or the longest of each among several. The rest is what it waited for the disk if
 * it slept, and otherwise what the host of this machine took. */
struct took {
	double all, busy, waiting, asleep, host;
};

static const int LIMITS[] = {1000, 5000, 20000, 100000};

static struct {
	struct took longest, start;
	long sleeps;
	double sum;
	int count, beyond[sizeof LIMITS / sizeof *LIMITS];
} calls[4], *call = calls;

static void forget_calls(void)
{
	memset(calls, 0, sizeof calls);
}

static void call_begins(void)
{
	call->sleeps = sleeps();
	call->start = (struct took){.waiting = kept_waiting(), .busy = busy()};
	call->start.all = now();
}

static void keep_longest(double *longest, double took)
{
	*longest = took > *longest ? took : *longest;
}

static void call_ends(void)
{
	double all = now() - call->start.all, was_busy = busy() - call->start.busy,
		   waiting = kept_waiting() - call->start.waiting;
	size_t i;

	call->count++;
	call->sum += all;
	for (i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++) {
		call->beyond[i] += all > LIMITS[i];
	}
	keep_longest(&call->longest.all, all);
	keep_longest(&call->longest.busy, was_busy);
	keep_longest(&call->longest.waiting, waiting);
	keep_longest(sleeps() != call->sleeps ? &call->longest.asleep : &call->longest.host,
			all - was_busy - waiting);
}

static void print_longest(void)
{
	printf("longest %6.0f us: computing %.0f, without a processor %.0f, asleep %.0f, else %.0f\n",
			call->longest.all, call->longest.busy, call->longest.waiting, call->longest.asleep,
			call->longest.host);
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
	int i;

	forget_calls();
	for (i = 0; i < count; i++) {
		call_begins();
		put(store, consumer);
		call_ends();
	}
	printf("put        %-8s %8d times %8.2f us each, ", name, count, call->sum / count);
	print_longest();
	forget_calls();
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
	printf("put, done  %-8s %8d times %8.2f us each, ", name, count, call->sum / count);
	print_longest();
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
	forget_calls();
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
	printf("read, done %d messages: %.0f a second, %ld KiB resident, ", i, i / took * 1e6, resident());
	print_longest();
	forget_calls();
	for (i = 0; i < 2000; i++) {
		call_begins();
		must(store_tick(store));
		call_ends();
	}
	printf("idle ticks %d: %.0f us each, ", i, call->sum / i);
	print_longest();
	store_close(store);
	forget();
}

/* As many pages as a put writes. */
static void write_pages(int file)
{
	static const char page[4096];
	static off_t at;
	int i;

	for (i = 0; i < 3; i++) {
		if (pwrite(file, page, sizeof page, at) != sizeof page) {
			perror("write");
			exit(1);
		}
		at = (at + (off_t)sizeof page) % (400 << 20);
	}
}

static void compute(double microseconds)
{
	double end = busy() + microseconds;

	while (busy() < end) {
	}
}

static void one_call(size_t kind, struct store *store, uint32_t consumer, int file)
{
	switch (kind) {
	case 0:
		put(store, consumer);
		return;
	case 1:
		must(store_done(store, put(store, consumer), consumer));
		return;
	case 2:
		write_pages(file);
		return;
	default:
		compute(15);
	}
}

static void measure_stalls(int seconds)
{
	static const char *const names[] = {"put", "put, done", "pages", "computing"};
	uint32_t consumer;
	struct store *store = must_open(STORE_SYNC_PROCESS, &consumer);
	double end = now() + seconds * 1e6;
	char pages[4200];
	size_t i, kind;
	int file;

	snprintf(pages, sizeof pages, "%s-pages", path);
	file = open(pages, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	while (now() < end) {
		for (kind = 0; kind < 4; kind++) {
			double until = now() + 300000;

			for (call = &calls[kind]; now() < until;) {
				call_begins();
				one_call(kind, store, consumer, file);
				call_ends();
			}
		}
		must(store_tick(store));
	}
	for (kind = 0; kind < 4; kind++) {
		call = &calls[kind];
		printf("%-10s %8d times %8.2f us each, ", names[kind], call->count, call->sum / call->count);
		for (i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++) {
			printf("%d > %d ms, ", call->beyond[i], LIMITS[i] / 1000);
		}
		print_longest();
	}
	close(file);
	unlink(pages);
	store_close(store);
	forget();
}

int main(int argc, char *argv[])
{
	if (argc < 2) {
		fprintf(stderr, "usage: measure_store FOLDER [BACKLOG | stalls [SECONDS]]\n");
		return 2;
	}
	snprintf(path, sizeof path, "%s/measure_store.%ld", argv[1], (long)getpid());
	forget();
	if (argc > 2 && strcmp(argv[2], "stalls") == 0) {
		measure_stalls(argc > 3 ? atoi(argv[3]) : 60);
		return 0;
	}
	measure_put("process", STORE_SYNC_PROCESS, 200000);
	measure_put("full", STORE_SYNC_FULL, 1000);
	measure_backlog(argc > 2 ? atoi(argv[2]) : 1000000);
	return 0;
}
