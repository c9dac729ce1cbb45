#include "samples.h"

#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_MAX ((size_t)32 * 1024 * 1024)
#define SEQUENCE_MAX (UINT64_C(1) << 30)
#define BUCKETS_PER_OCTAVE 16

void samples_add(struct samples *samples, int64_t ns)
{
	if (samples->count == samples->size) {
		samples->size = samples->size == 0 ? 4096 : samples->size * 2;
		if (samples->size > SAMPLES_MAX) {
			die("More than %zu samples: ask for a lower --count.", SAMPLES_MAX);
		}
		samples->values = grow(samples->values, samples->size * sizeof(*samples->values));
	}
	samples->values[samples->count++] = ns;
}

void samples_free(struct samples *samples)
{
	free(samples->values);
	*samples = (struct samples){0};
}

static int compare(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

/* Nearest rank: the smallest sample that at least this fraction of all does not exceed. */
double samples_quantile_us(const struct samples *samples, double fraction)
{
	double rank = ceil(fraction * (double)samples->count);

	if (samples->count == 0) {
		return (double)NAN;
	}
	return (double)samples->values[rank < 1 ? 0 : (size_t)rank - 1] / (double)NS_PER_US;
}

static long samples_bucket(int64_t ns)
{
	double us = (double)ns / (double)NS_PER_US;

	return us <= 1 ? 0 : lround(floor(log2(us) * BUCKETS_PER_OCTAVE));
}

/* What can be added up over rounds. */
static void print_histogram(const struct samples *samples, FILE *to)
{
	const char *between = "";

	fputs(", \"histogram\": [", to);
	for (size_t i = 0, next; i < samples->count; i = next) {
		long bucket = samples_bucket(samples->values[i]);
		for (next = i + 1; next < samples->count && samples_bucket(samples->values[next]) == bucket; next++) {
		}
		fprintf(to, "%s[%ld, %zu]", between, bucket, next - i);
		between = ", ";
	}
	fputc(']', to);
}

void samples_print(struct samples *samples, FILE *to)
{
	static const struct {
		const char *name;
		double fraction;
	} quantiles[] = {{"p50_us", 0.5}, {"p99_us", 0.99}, {"p999_us", 0.999}, {"max_us", 1.0}};

	if (samples->count > 0) {
		qsort(samples->values, samples->count, sizeof(*samples->values), compare);
	}
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		fprintf(to, i == 0 ? "\"%s\": " : ", \"%s\": ", quantiles[i].name);
		if (samples->count == 0) {
			fputs("null", to);
		} else {
			fprintf(to, "%.1f", samples_quantile_us(samples, quantiles[i].fraction));
		}
	}
	print_histogram(samples, to);
}

size_t samples_above(const struct samples *samples, int64_t limit)
{
	size_t above = 0;

	for (size_t i = 0; i < samples->count; i++) {
		above += samples->values[i] > limit;
	}
	return above;
}

bool sequence_add(struct sequence *sequence, uint64_t number)
{
	uint8_t bit = (uint8_t)(1u << (number % 8));
	size_t byte = (size_t)(number / 8);

	if (number >= SEQUENCE_MAX) {
		die("A message carries the sequence number %llu, which cannot be.", (unsigned long long)number);
	}
	if (byte >= sequence->size) {
		size_t size = (byte + 1) * 2;
		sequence->bits = grow(sequence->bits, size);
		memset(sequence->bits + sequence->size, 0, size - sequence->size);
		sequence->size = size;
	}
	if (sequence->bits[byte] & bit) {
		sequence->duplicated++;
		return false;
	}
	sequence->bits[byte] |= bit;
	sequence->unique++;
	if (number < sequence->next) {
		sequence->reordered++;
	} else {
		sequence->next = number + 1;
	}
	return true;
}

void sequence_free(struct sequence *sequence)
{
	free(sequence->bits);
	*sequence = (struct sequence){0};
}
