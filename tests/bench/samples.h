/* What a measurement collects: latencies, and which sequence numbers arrived how. Both grow as needed up to a
 * bound and die beyond it. */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Zero-initialised is empty. */
struct samples {
	int64_t *values; /* ns */
	size_t count, size;
};

void samples_free(struct samples *samples);

void samples_add(struct samples *samples, int64_t ns);

/* Sorts, and prints `"p50_us": …, "p99_us": …, "p999_us": …, "max_us": …` with nulls when there are none, and
 * `"histogram": [[k, n], …]`: n samples from 2^(k/16) us to less than 2^((k+1)/16) us. */
void samples_print(struct samples *samples, FILE *to);

/* How many are above limit. */
size_t samples_above(const struct samples *samples, int64_t limit);

/* Microseconds at a fraction (0–1); call after samples_print(). NaN when there are none. */
double samples_quantile_us(const struct samples *samples, double fraction);

/* Which sequence numbers came. Zero-initialised is empty. */
struct sequence {
	uint8_t *bits;
	size_t size; /* bytes */
	uint64_t unique, duplicated;
	uint64_t reordered; /* first arrivals behind a higher number */
	uint64_t next;      /* highest so far + 1 */
};

void sequence_free(struct sequence *sequence);

/* True for a number that had not come yet. */
bool sequence_add(struct sequence *sequence, uint64_t number);

#endif
