#include "scarce_sqlite.h"

#include <stddef.h>
#include <stdlib.h>

#include <sqlite3.h>

union block {
	int size;
	max_align_t align;
};

static void *take_memory(int size)
{
	union block *block = malloc(sizeof(*block) + (size_t)size);

	if (!block) {
		return NULL;
	}
	block->size = size;
	return block + 1;
}

static void give_memory(void *memory)
{
	free((union block *)memory - 1);
}

static void *change_memory(void *memory, int size)
{
	union block *block = realloc((union block *)memory - 1, sizeof(*block) + (size_t)size);

	if (!block) {
		return NULL;
	}
	block->size = size;
	return block + 1;
}

static int size_of_memory(void *memory)
{
	return memory ? ((union block *)memory - 1)->size : 0;
}

static int round_up(int size)
{
	return (size + 7) & ~7;
}

static int init_memory(void *userdata)
{
	(void)userdata;
	return SQLITE_OK;
}

static void end_memory(void *userdata)
{
	(void)userdata;
}

static const sqlite3_mem_methods MEMORY = {.xMalloc = take_memory,
	.xFree = give_memory,
	.xRealloc = change_memory,
	.xSize = size_of_memory,
	.xRoundup = round_up,
	.xInit = init_memory,
	.xShutdown = end_memory};

bool scarce_sqlite(void)
{
	return sqlite3_config(SQLITE_CONFIG_MALLOC, &MEMORY) == SQLITE_OK &&
			sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK;
}
