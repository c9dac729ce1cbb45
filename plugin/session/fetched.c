#include "session/fetched.h"

#include <stdbool.h>
#include <stdlib.h>

#define CAPACITY_MIN 64U /* a power of two */

static size_t place_of(const struct fetched *fetched, uint64_t fingerprint)
{
	size_t at = (size_t)(fingerprint ^ (fingerprint >> 32)) & (fetched->capacity - 1);

	while (fetched->rounds[at] && fetched->fingerprints[at] != fingerprint) {
		at = (at + 1) & (fetched->capacity - 1);
	}
	return at;
}

static bool grow(struct fetched *fetched)
{
	struct fetched more = {
		.capacity = fetched->capacity ? 2 * fetched->capacity : CAPACITY_MIN, .count = fetched->count};
	size_t i, at;

	more.fingerprints = calloc(more.capacity, sizeof(*more.fingerprints));
	more.rounds = calloc(more.capacity, sizeof(*more.rounds));
	if (!more.fingerprints || !more.rounds) {
		free(more.fingerprints);
		free(more.rounds);
		return false;
	}
	for (i = 0; i < fetched->capacity; i++) {
		if (fetched->rounds[i]) {
			at = place_of(&more, fetched->fingerprints[i]);
			more.fingerprints[at] = fetched->fingerprints[i];
			more.rounds[at] = fetched->rounds[i];
		}
	}
	fetched_forget(fetched);
	*fetched = more;
	return true;
}

uint32_t fetched_note(struct fetched *fetched, uint64_t fingerprint, uint32_t round)
{
	uint32_t before;
	size_t at;

	/* At most half full. */
	if (fetched->count * 2 >= fetched->capacity && (fetched->count >= FETCHED_MAX || !grow(fetched))) {
		if (!fetched->capacity) {
			return 0;
		}
		at = place_of(fetched, fingerprint);
		before = fetched->rounds[at];
		fetched->rounds[at] = before ? round : 0;
		return before;
	}
	at = place_of(fetched, fingerprint);
	before = fetched->rounds[at];
	fetched->fingerprints[at] = fingerprint;
	fetched->rounds[at] = round;
	fetched->count += before == 0;
	return before;
}

void fetched_forget(struct fetched *fetched)
{
	free(fetched->fingerprints);
	free(fetched->rounds);
	*fetched = (struct fetched){0};
}
