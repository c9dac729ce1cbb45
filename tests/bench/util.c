#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

_Noreturn void die(const char *format, ...)
{
	va_list arguments;

	fputs("load: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void sleep_ns(int64_t duration)
{
	struct timespec rest = {.tv_sec = duration / NS_PER_S, .tv_nsec = duration % NS_PER_S};

	if (duration <= 0) {
		return;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, &rest) == EINTR) {
	}
}

void *grow(void *memory, size_t size)
{
	void *grown = realloc(memory, size);

	if (grown == NULL) {
		die("Out of memory: %zu bytes were refused.", size);
	}
	return grown;
}

void put_digits(uint8_t *to, size_t width, uint64_t value)
{
	while (width > 0) {
		to[--width] = (uint8_t)('0' + value % 10);
		value /= 10;
	}
}

size_t get_digits(const uint8_t *from, size_t length, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t digits = 0;

	while (digits < length && from[digits] >= '0' && from[digits] <= '9') {
		value = value * 10 + (uint64_t)(from[digits] - '0');
		digits++;
	}
	*ret_value = value;
	return digits;
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}
