/* Makes allocations of the code under test fail.
 *
 * The linker's --wrap sends malloc(), calloc(), realloc() and free() of every linked object here; libraries
 * keep theirs. Several threads may allocate at the same time as long as none has to fail. */
#ifndef SCARCE_MEMORY_H
#define SCARCE_MEMORY_H

#include <stdbool.h>

/* From now on the n-th allocation fails (from 1), and with again every n-th after it. 0: none. */
void scarce_memory(unsigned long n, bool again);

/* Whether any failed since, and back to plenty. */
bool scarce_memory_end(void);

/* How many allocations there were since the program began. */
unsigned long scarce_memory_allocations(void);

/* How many blocks are allocated now. */
long scarce_memory_blocks(void);

#endif
