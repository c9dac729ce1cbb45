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

/* ---- fingerprints: SipHash-1-3 (Aumasson and Bernstein, 2012) ---- */

static uint64_t key[2];

static void make_key(void)
{
	if (getrandom(key, sizeof(key), GRND_NONBLOCK) != (ssize_t)sizeof(key)) {
		/* Early at boot: hard to guess is good enough. */
		key[0] = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15U;
		key[1] = key[0] ^ (uintptr_t)&key;
	}
}

static uint64_t rotate(uint64_t word, unsigned int bits)
{
	return word << bits | word >> (64 - bits);
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static void sip_round(struct sip *sip)
{
	sip->v0 += sip->v1;
	sip->v2 += sip->v3;
	sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
	sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
	sip->v0 = rotate(sip->v0, 32);
	sip->v2 += sip->v1;
	sip->v0 += sip->v3;
	sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
	sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
	sip->v2 = rotate(sip->v2, 32);
}

static void sip_word(struct sip *sip, uint64_t word)
{
	sip->v3 ^= word;
	sip_round(sip);
	sip->v0 ^= word;
}

/* The bytes in words, the last one filled up, then their number: so two strings one after the other are not the same as
 * two others of the same bytes. */
static void sip_string(struct sip *sip, const void *data, size_t length)
{
	const unsigned char *at = data;
	size_t rest = length;
	uint64_t word;

	for (; rest >= sizeof(word); at += sizeof(word), rest -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sip_word(sip, word);
	}
	word = 0;
	if (rest) {
		memcpy(&word, at, rest);
	}
	sip_word(sip, word);
	sip_word(sip, length);
}

uint64_t marks_fingerprint(const char *topic, const void *payload, size_t payload_length)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sip sip;
	uint64_t hash;

	(void)pthread_once(&once, make_key);
	sip = (struct sip){key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU, key[0] ^ 0x6c7967656e657261U,
			key[1] ^ 0x7465646279746573U};
	sip_string(&sip, topic, strlen(topic));
	sip_string(&sip, payload, payload_length);
	sip.v2 ^= 0xff;
	sip_round(&sip);
	sip_round(&sip);
	sip_round(&sip);
	hash = sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
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
