/* SQLite's memory is the test's own, so that it can be scarce; see scarce_memory.h. */
#ifndef SCARCE_SQLITE_H
#define SCARCE_SQLITE_H

#include <stdbool.h>

/* Before anything else of SQLite's. */
bool scarce_sqlite(void);

#endif
