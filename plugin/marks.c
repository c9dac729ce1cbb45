/* DESIGN
 * A ring of fingerprints. Copies come in the order in which they were marked, except that the application's own
 * publishes wait for the broker's next turn: so the search from the oldest on finds them within a few steps. A mark that
 * is taken out of the middle leaves a 0, which the oldest end skips later. Fences are entries, too. */
#include "marks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct entry {
	uint64_t value; /* fingerprint or number of the fence; 0: taken */
	bool is_fence;
};

struct marks {
	atomic_size_t newest;       /* how many were ever added; the adding thread's */
	atomic_size_t oldest;       /* how many of them are done with; the taking thread's */
	atomic_bool lost;           /* there was no room; no mark is added until the taking thread clears it */
	atomic_uint_fast64_t last_fence; /* put while marks were lost; it ends that */
	size_t mask;
	struct entry entries[];
};

struct marks *marks_new(size_t capacity)
{
	struct marks *marks = calloc(1, sizeof(*marks) + capacity * sizeof(struct entry));

	if (!marks) {
		return NULL;
	}
	atomic_init(&marks->newest, 0);
	atomic_init(&marks->oldest, 0);
	atomic_init(&marks->lost, false);
	atomic_init(&marks->last_fence, 0);
	marks->mask = capacity - 1;
	return marks;
}

void marks_free(struct marks *marks)
{
	free(marks);
}

/* ---- fingerprints ---- */

static uint64_t seed;

static void make_seed(void)
{
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
		/* Early at boot: hard to guess is good enough. */
		seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15U ^ (uintptr_t)&seed;
	}
}

/* Eight bytes a step: payloads may have megabytes. */
static uint64_t absorb(uint64_t hash, const void *data, size_t length)
{
	const unsigned char *at = data;
	uint64_t word;

	hash ^= length;
	for (; length >= sizeof(word); at += sizeof(word), length -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = (hash ^ word) * 0xbf58476d1ce4e5b9U;
		hash ^= hash >> 29;
	}
	if (length) {
		word = 0;
		memcpy(&word, at, length);
		hash = (hash ^ word) * 0xbf58476d1ce4e5b9U;
		hash ^= hash >> 29;
	}
	return hash * 0x94d049bb133111ebU;
}

uint64_t marks_fingerprint(const char *topic, const void *payload, size_t payload_length)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint64_t hash;

	(void)pthread_once(&once, make_seed);
	hash = absorb(seed, topic, strlen(topic));
	hash = absorb(hash, payload, payload_length);
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

/* ---- the adding thread ---- */

static bool put(struct marks *marks, uint64_t value, bool is_fence)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_relaxed);

	if (newest - atomic_load_explicit(&marks->oldest, memory_order_acquire) > marks->mask) {
		return false;
	}
	marks->entries[newest & marks->mask] = (struct entry){value, is_fence};
	atomic_store_explicit(&marks->newest, newest + 1, memory_order_release);
	return true;
}

void marks_add(struct marks *marks, uint64_t fingerprint)
{
	if (!atomic_load(&marks->lost) && !put(marks, fingerprint, false)) {
		atomic_store(&marks->lost, true);
	}
}

void marks_fence(struct marks *marks, uint64_t fence)
{
	if (atomic_load(&marks->lost)) {
		atomic_store(&marks->last_fence, fence);
	} else if (!put(marks, fence, true)) {
		atomic_store(&marks->last_fence, fence);
		atomic_store(&marks->lost, true);
	}
}

/* ---- the taking thread ---- */

bool marks_take(struct marks *marks, uint64_t fingerprint)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_acquire);
	size_t oldest = atomic_load_explicit(&marks->oldest, memory_order_relaxed), at;
	bool found = false;

	for (at = oldest; at != newest && !found; at++) {
		struct entry *entry = &marks->entries[at & marks->mask];

		if (entry->value == fingerprint && !entry->is_fence) {
			entry->value = 0;
			found = true;
		}
	}
	while (oldest != newest &&
			(marks->entries[oldest & marks->mask].is_fence || !marks->entries[oldest & marks->mask].value)) {
		oldest++;
	}
	atomic_store_explicit(&marks->oldest, oldest, memory_order_release);
	return found || atomic_load(&marks->lost);
}

bool marks_pass(struct marks *marks, uint64_t fence)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_acquire);
	size_t oldest = atomic_load_explicit(&marks->oldest, memory_order_relaxed), at;

	if (atomic_load(&marks->lost) && atomic_load(&marks->last_fence) == fence) {
		atomic_store_explicit(&marks->oldest, newest, memory_order_release);
		atomic_store(&marks->lost, false);
		return true;
	}
	for (at = oldest; at != newest; at++) {
		const struct entry *entry = &marks->entries[at & marks->mask];

		if (entry->is_fence && entry->value == fence) {
			atomic_store_explicit(&marks->oldest, at + 1, memory_order_release);
			break;
		}
	}
	return false;
}

bool marks_are_waiting(const struct marks *marks)
{
	return atomic_load(&marks->oldest) != atomic_load(&marks->newest) || atomic_load(&marks->lost);
}
