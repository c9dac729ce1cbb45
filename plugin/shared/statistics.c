/* DESIGN
 * Handling times are counted in a histogram whose buckets are an eighth of a power of two wide, so a
 * percentile is right to within 12.5 %, with a few hundred counters and one addition a message. */
#include "shared/statistics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_BITS 3U
#define PARTS (1U << PARTS_BITS)                  /* buckets from one power of two to the next */
#define BUCKETS ((64U - PARTS_BITS + 1U) * PARTS) /* for every 64-bit number */

#define ROW(constant, topic, kind) [STATISTICS_##constant] = {topic, STATISTICS_IS_##kind},

static const struct {
	const char *name;
	enum statistics_kind kind;
} rows[STATISTICS_COUNT] = {STATISTICS(ROW)};

struct statistics {
	_Atomic uint64_t values[STATISTICS_COUNT];
	_Atomic uint32_t handled[BUCKETS]; /* messages, by the logarithm of the time */
};

struct statistics *statistics_new(void)
{
	return calloc(1, sizeof(struct statistics));
}

void statistics_free(struct statistics *statistics)
{
	free(statistics);
}

void statistics_add(struct statistics *statistics, enum statistic which, uint64_t by)
{
	if (STATISTICS_ARE_KEPT) {
		(void)atomic_fetch_add_explicit(&statistics->values[which], by, memory_order_relaxed);
	}
}

void statistics_set(struct statistics *statistics, enum statistic which, uint64_t value)
{
	atomic_store_explicit(&statistics->values[which], value, memory_order_relaxed);
}

void statistics_raise(struct statistics *statistics, enum statistic which, uint64_t value)
{
	uint64_t before = statistics_get(statistics, which);

	while (before < value &&
			!atomic_compare_exchange_weak_explicit(&statistics->values[which], &before, value,
					memory_order_relaxed, memory_order_relaxed)) {
	}
}

uint64_t statistics_get(const struct statistics *statistics, enum statistic which)
{
	return atomic_load_explicit(&statistics->values[which], memory_order_relaxed);
}

const char *statistics_name(enum statistic which)
{
	return rows[which].name;
}

size_t statistics_text(enum statistic which, uint64_t value, char text[STATISTICS_TEXT_MAX])
{
	static const char *const sessions[] = {
		[STATISTICS_SESSION_OFF] = "off", [STATISTICS_SESSION_DOWN] = "down", [STATISTICS_SESSION_UP] = "up"};

	if (rows[which].kind == STATISTICS_IS_STATE && value < sizeof(sessions) / sizeof(sessions[0])) {
		return (size_t)snprintf(text, STATISTICS_TEXT_MAX, "%s", sessions[value]);
	}
	return (size_t)snprintf(text, STATISTICS_TEXT_MAX, "%" PRIu64, value);
}

enum statistic statistics_find(const char *name)
{
	unsigned int which;

	for (which = 0; which < STATISTICS_COUNT && strcmp(rows[which].name, name) != 0; which++) {
	}
	return (enum statistic)which;
}

/* ---- handling times ---- */

/* The first PARTS buckets hold one number each, every further PARTS of them a power of two. */
static unsigned int bucket_of(uint64_t ns)
{
	unsigned int power;

	if (ns < PARTS) {
		return (unsigned int)ns;
	}
	power = 63U - (unsigned int)__builtin_clzll(ns);
	return (power - PARTS_BITS + 1U) * PARTS + (unsigned int)(ns >> (power - PARTS_BITS) & (PARTS - 1U));
}

/* The middle of a bucket. */
static uint64_t time_of(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < PARTS) {
		return bucket;
	}
	shift = bucket / PARTS - 1U;
	return ((uint64_t)(PARTS + bucket % PARTS) << shift) + ((uint64_t)1 << shift) / 2U;
}

void statistics_handled(struct statistics *statistics, uint64_t ns)
{
	(void)atomic_fetch_add_explicit(&statistics->handled[bucket_of(ns)], 1, memory_order_relaxed);
}

static uint64_t percentile(const uint32_t *counts, uint64_t total, unsigned int percent)
{
	uint64_t rank = (total * percent + 99U) / 100U, seen = 0;
	unsigned int bucket;

	for (bucket = 0; bucket < BUCKETS - 1U && (seen += counts[bucket]) < rank; bucket++) {
	}
	return time_of(bucket);
}

void statistics_end_interval(struct statistics *statistics)
{
	uint32_t counts[BUCKETS];
	uint64_t total = 0;
	unsigned int bucket;

	for (bucket = 0; bucket < BUCKETS; bucket++) {
		counts[bucket] = atomic_exchange_explicit(&statistics->handled[bucket], 0, memory_order_relaxed);
		total += counts[bucket];
	}
	if (total) {
		statistics_set(statistics, STATISTICS_HANDLING_P50, percentile(counts, total, 50) / 1000U);
		statistics_set(statistics, STATISTICS_HANDLING_P99, percentile(counts, total, 99) / 1000U);
	}
}
