/* A clock that the test sets. Needs -Wl,--wrap=clock_gettime. */
#ifndef STUB_CLOCK_H
#define STUB_CLOCK_H

#include <stdint.h>

/* What every clock shows, in milliseconds. */
extern uint64_t clock_ms;

#endif
