#include "scarce_memory.h"

#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);

static unsigned long period, seen;
static bool repeating, failed;
/* Several threads may allocate while nothing has to fail. */
static atomic_ulong allocations;
static atomic_long blocks;

void scarce_memory(unsigned long n, bool again)
{
	period = n;
	seen = 0;
	repeating = again;
	failed = false;
}

bool scarce_memory_end(void)
{
	period = 0;
	return failed;
}

unsigned long scarce_memory_allocations(void)
{
	return allocations;
}

static bool must_fail(void)
{
	bool now;

	allocations++;
	if (period == 0) {
		return false;
	}
	seen++;
	now = repeating ? seen % period == 0 : seen == period;
	failed |= now;
	return now;
}

static void *count_block(void *block)
{
	blocks += block != NULL;
	return block;
}

long scarce_memory_blocks(void)
{
	return blocks;
}

void *__wrap_malloc(size_t size)
{
	return must_fail() ? NULL : count_block(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return must_fail() ? NULL : count_block(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	if (must_fail()) {
		return NULL;
	}
	return block ? __real_realloc(block, size) : count_block(__real_realloc(NULL, size));
}

void __wrap_free(void *block)
{
	blocks -= block != NULL;
	__real_free(block);
}
