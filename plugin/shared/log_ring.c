#include "shared/log_ring.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

struct slot {
	uint64_t at; /* where it begins, in bytes since the first line */
	uint64_t ms;
	int level;
	size_t length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The rest is under the lock. */
static struct slot slots[LOG_RING_LINES]; /* line N is in slot N % LOG_RING_LINES */
static char bytes[LOG_RING_BYTES];
static uint64_t first = 1, last; /* the lines that are there; none where last < first */
static uint64_t written;         /* bytes since the first line */

static struct slot *slot_of(uint64_t number)
{
	return &slots[number % LOG_RING_LINES];
}

static void copy_in(uint64_t at, const char *text, size_t length)
{
	size_t start = (size_t)(at % LOG_RING_BYTES);
	size_t head = length < LOG_RING_BYTES - start ? length : LOG_RING_BYTES - start;

	memcpy(bytes + start, text, head);
	memcpy(bytes, text + head, length - head);
}

static void copy_out(uint64_t at, char *text, size_t length)
{
	size_t start = (size_t)(at % LOG_RING_BYTES);
	size_t head = length < LOG_RING_BYTES - start ? length : LOG_RING_BYTES - start;

	memcpy(text, bytes + start, head);
	memcpy(text + head, bytes, length - head);
}

static void make_room(size_t length)
{
	while (first <= last &&
			(last - first + 1 == LOG_RING_LINES || written + length - slot_of(first)->at > LOG_RING_BYTES)) {
		first++;
	}
}

void log_ring_add(int level, const char *text, size_t length)
{
	struct timespec now;

	if (length > LOG_LINE_MAX) {
		length = LOG_LINE_MAX;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&lock);
	make_room(length);
	copy_in(written, text, length);
	*slot_of(++last) = (struct slot){.at = written,
		.ms = (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U,
		.level = level,
		.length = length};
	written += length;
	pthread_mutex_unlock(&lock);
}

uint64_t log_ring_last(void)
{
	uint64_t number;

	pthread_mutex_lock(&lock);
	number = last;
	pthread_mutex_unlock(&lock);
	return number;
}

bool log_ring_next(uint64_t after, struct log_ring_line *ret_line)
{
	const struct slot *slot;
	bool is_there;

	pthread_mutex_lock(&lock);
	is_there = after < last;
	if (is_there) {
		ret_line->number = after < first ? first : after + 1;
		slot = slot_of(ret_line->number);
		ret_line->ms = slot->ms;
		ret_line->level = slot->level;
		ret_line->length = slot->length;
		copy_out(slot->at, ret_line->text, slot->length);
	}
	pthread_mutex_unlock(&lock);
	return is_there;
}
