/* What every part of the load generator needs: time, decimal digits, and a way out.
 *
 * The generator is a program of its own that measures once and ends, so whatever goes wrong ends it with a
 * sentence: no function here or in wire.h reports an error to its caller. */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

/* Prints "load: <sentence>" on stderr and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CLOCK_MONOTONIC in nanoseconds: the same clock for every process of this machine. */
int64_t now_ns(void);

void sleep_ns(int64_t duration);

/* realloc() that dies. */
void *grow(void *memory, size_t size);

/* Writes exactly width digits, with leading zeros and without a terminator. */
void put_digits(uint8_t *to, size_t width, uint64_t value);

/* Reads the digits at the start of from, at most length of them, into *ret_value; returns how many there
 * were. */
size_t get_digits(const uint8_t *from, size_t length, uint64_t *ret_value);

/* xorshift64*: the same pauses for the same seed. *state must not be 0. */
uint64_t random_next(uint64_t *state);

#endif
