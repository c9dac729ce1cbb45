/* DESIGN
 * A ring of fingerprints. Copies come in the order in which they were marked, except that the application's
 * own publishes wait for the broker's next turn: so the first few of the oldest end hold what is looked for.
 * Where they do not, because the broker has dropped copies or what comes is none, the taking thread looks it
 * up: it puts what is in the ring into buckets, each a chain in the order of the ring, so that the oldest of
 * several equal marks is taken and a chain's first one ends first. A mark that is taken out of the middle
 * leaves a 0, which the oldest end skips later.
 *
 * Places count on for ever, and a fence is the place of the next mark to come. */
#include "shared/marks.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Marks at the oldest end that are looked at first. */
#define NEAR 8U
/* Fences under way. One that finds no room clears nothing; the next one does. A power of two. */
#define FENCES 64U

struct fence {
	uint64_t number;
	size_t place;
};

/* The oldest and the newest of a chain: their indices in the ring, and one more; 0: it is empty. */
struct bucket {
	uint32_t first, last;
};

struct marks {
	atomic_size_t newest; /* how many were ever added; the adding thread's */
	atomic_size_t oldest; /* how many of them are done with; the taking thread's */
	atomic_size_t newest_fence, oldest_fence;
	atomic_uint_fast64_t missing;
	struct fence fences[FENCES];
	/* the taking thread's */
	size_t indexed; /* marks up to here are in buckets */
	struct bucket *buckets;
	uint32_t *next; /* in the chain, like struct bucket */
	size_t mask;
	uint64_t entries[]; /* 0: taken */
};

struct marks *marks_new(size_t capacity)
{
	struct marks *marks = calloc(1, sizeof(*marks) + capacity * sizeof(marks->entries[0]));

	if (!marks) {
		return NULL;
	}
	marks->buckets = calloc(capacity, sizeof(*marks->buckets));
	marks->next = calloc(capacity, sizeof(*marks->next));
	if (!marks->buckets || !marks->next) {
		marks_free(marks);
		return NULL;
	}
	atomic_init(&marks->newest, 0);
	atomic_init(&marks->oldest, 0);
	atomic_init(&marks->newest_fence, 0);
	atomic_init(&marks->oldest_fence, 0);
	atomic_init(&marks->missing, 0);
	marks->mask = capacity - 1;
	return marks;
}

void marks_free(struct marks *marks)
{
	if (marks) {
		free(marks->buckets);
		free(marks->next);
		free(marks);
	}
}

/* ---- the adding thread ---- */

void marks_add(struct marks *marks, uint64_t fingerprint)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_relaxed);

	if (newest - atomic_load_explicit(&marks->oldest, memory_order_acquire) > marks->mask) {
		(void)atomic_fetch_add_explicit(&marks->missing, 1, memory_order_relaxed);
		return;
	}
	marks->entries[newest & marks->mask] = fingerprint;
	atomic_store_explicit(&marks->newest, newest + 1, memory_order_release);
}

void marks_fence(struct marks *marks, uint64_t fence)
{
	size_t newest = atomic_load_explicit(&marks->newest_fence, memory_order_relaxed);

	if (newest - atomic_load_explicit(&marks->oldest_fence, memory_order_acquire) < FENCES) {
		marks->fences[newest & (FENCES - 1)] =
				(struct fence){fence, atomic_load_explicit(&marks->newest, memory_order_relaxed)};
		atomic_store_explicit(&marks->newest_fence, newest + 1, memory_order_release);
	}
}

uint64_t marks_missing(const struct marks *marks)
{
	return atomic_load_explicit(&marks->missing, memory_order_relaxed);
}

/* ---- the taking thread ---- */

static uint64_t *entry_at(struct marks *marks, size_t place)
{
	return &marks->entries[place & marks->mask];
}

static struct bucket *bucket_of(struct marks *marks, uint64_t fingerprint)
{
	return &marks->buckets[fingerprint & marks->mask];
}

/* Puts what is in the ring up to this place into buckets. */
static void index_up_to(struct marks *marks, size_t place)
{
	for (; marks->indexed != place; marks->indexed++) {
		uint32_t at = (uint32_t)(marks->indexed & marks->mask) + 1;
		struct bucket *bucket;

		if (!*entry_at(marks, marks->indexed)) {
			continue;
		}
		bucket = bucket_of(marks, *entry_at(marks, marks->indexed));
		marks->next[at - 1] = 0;
		if (bucket->first) {
			marks->next[bucket->last - 1] = at;
		} else {
			bucket->first = at;
		}
		bucket->last = at;
	}
}

/* The oldest in the buckets, and the one before it in its chain; 0: there is none. */
static uint32_t find_indexed(struct marks *marks, uint64_t fingerprint, uint32_t *ret_before)
{
	uint32_t at = bucket_of(marks, fingerprint)->first, before = 0;

	while (at && marks->entries[at - 1] != fingerprint) {
		before = at;
		at = marks->next[at - 1];
	}
	*ret_before = before;
	return at;
}

static void unlink_indexed(struct marks *marks, struct bucket *bucket, uint32_t at, uint32_t before)
{
	if (before) {
		marks->next[before - 1] = marks->next[at - 1];
	} else {
		bucket->first = marks->next[at - 1];
	}
	if (bucket->last == at) {
		bucket->last = before;
	}
}

static void take_indexed(struct marks *marks, uint32_t at, uint32_t before)
{
	unlink_indexed(marks, bucket_of(marks, marks->entries[at - 1]), at, before);
	marks->entries[at - 1] = 0;
}

static bool is_among(uint64_t entry, const uint64_t *fingerprints, size_t count)
{
	size_t i;

	for (i = 0; i < count && fingerprints[i] != entry; i++) {
	}
	return i < count;
}

/* Among the first few, where it is the oldest of those with these fingerprints, too. */
static bool take_near(struct marks *marks, const uint64_t *fingerprints, size_t count, size_t oldest,
		size_t newest)
{
	size_t at;
	uint32_t before, found;

	for (at = oldest; at != newest && at - oldest < NEAR; at++) {
		if (!is_among(*entry_at(marks, at), fingerprints, count)) {
			continue;
		}
		if (at - oldest < marks->indexed - oldest) {
			found = find_indexed(marks, *entry_at(marks, at), &before);
			take_indexed(marks, found, before);
		} else {
			*entry_at(marks, at) = 0;
		}
		return true;
	}
	return false;
}

static bool take_far(struct marks *marks, const uint64_t *fingerprints, size_t count, size_t oldest,
		size_t newest)
{
	uint32_t before, found, best = 0, before_best = 0;
	size_t i;

	index_up_to(marks, newest);
	for (i = 0; i < count; i++) {
		found = find_indexed(marks, fingerprints[i], &before);
		if (found && (!best || ((found - 1 - oldest) & marks->mask) < ((best - 1 - oldest) & marks->mask))) {
			best = found;
			before_best = before;
		}
	}
	if (best) {
		take_indexed(marks, best, before_best);
	}
	return best != 0;
}

/* What is before this place is done with. */
static void set_oldest(struct marks *marks, size_t oldest, size_t place)
{
	if (marks->indexed - oldest < place - oldest) {
		marks->indexed = place;
	}
	atomic_store_explicit(&marks->oldest, place, memory_order_release);
}

bool marks_take(struct marks *marks, const uint64_t *fingerprints, size_t count)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_acquire);
	size_t oldest = atomic_load_explicit(&marks->oldest, memory_order_relaxed), place = oldest;
	bool found = take_near(marks, fingerprints, count, oldest, newest) ||
			(newest - oldest > NEAR && take_far(marks, fingerprints, count, oldest, newest));

	while (place != newest && !*entry_at(marks, place)) {
		place++;
	}
	if (place != oldest) {
		set_oldest(marks, oldest, place);
	}
	return found;
}

size_t marks_place(const struct marks *marks)
{
	return atomic_load_explicit(&marks->newest, memory_order_acquire);
}

void marks_forget(struct marks *marks, size_t place)
{
	size_t newest = atomic_load_explicit(&marks->newest, memory_order_acquire);
	size_t oldest = atomic_load_explicit(&marks->oldest, memory_order_relaxed), at;

	if (newest - place > newest - oldest) {
		return; /* the others have overtaken it */
	}
	for (at = oldest; at != place; at++) {
		/* The oldest there is, and so the first in its chain. */
		if (at - oldest < marks->indexed - oldest && *entry_at(marks, at)) {
			take_indexed(marks, (uint32_t)(at & marks->mask) + 1, 0);
		}
	}
	set_oldest(marks, oldest, place);
}

void marks_pass(struct marks *marks, uint64_t fence)
{
	size_t newest = atomic_load_explicit(&marks->newest_fence, memory_order_acquire);
	size_t oldest = atomic_load_explicit(&marks->oldest_fence, memory_order_relaxed), at;

	for (at = oldest; at != newest && marks->fences[at & (FENCES - 1)].number <= fence; at++) {
	}
	if (at != oldest) {
		marks_forget(marks, marks->fences[(at - 1) & (FENCES - 1)].place);
		atomic_store_explicit(&marks->oldest_fence, at, memory_order_release);
	}
}

bool marks_are_waiting(const struct marks *marks)
{
	return atomic_load(&marks->oldest) != atomic_load(&marks->newest);
}
