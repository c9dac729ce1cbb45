#include "shared/heartbeat.h"

#include "shared/clock.h"

/* What one look may add: TICKs are at most 100 ms apart, unless this thread was not running either. */
#define GAP_MAX_NS 250000000U

uint64_t heartbeat_beat(struct heartbeat *heartbeat)
{
	(void)atomic_fetch_add_explicit(&heartbeat->beats, 1, memory_order_relaxed);
	return atomic_load_explicit(&heartbeat->silent_ns, memory_order_relaxed);
}

void heartbeat_end(struct heartbeat *heartbeat)
{
	atomic_store_explicit(&heartbeat->beats, 0, memory_order_relaxed);
}

uint64_t heartbeat_look(struct heartbeat *heartbeat, uint64_t limit_ns)
{
	uint64_t beats = atomic_load_explicit(&heartbeat->beats, memory_order_relaxed);
	uint64_t silent = atomic_load_explicit(&heartbeat->silent_ns, memory_order_relaxed);
	uint64_t now, gap;

	if (beats == 0) {
		heartbeat->seen = 0;
		return 0;
	}
	now = now_ns();
	gap = now - heartbeat->looked_at_ns;
	heartbeat->looked_at_ns = now;
	if (beats != heartbeat->seen) {
		heartbeat->seen = beats;
		heartbeat->is_told = false;
		silent = 0;
	} else {
		silent += gap < GAP_MAX_NS ? gap : GAP_MAX_NS;
	}
	atomic_store_explicit(&heartbeat->silent_ns, silent, memory_order_relaxed);
	if (heartbeat->is_told || silent < limit_ns) {
		return 0;
	}
	heartbeat->is_told = true;
	return silent;
}
