#include "stub_clock.h"

#include <time.h>

uint64_t clock_ms;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	(void)clock;
	ret_time->tv_sec = (time_t)(clock_ms / 1000);
	ret_time->tv_nsec = (long)(clock_ms % 1000) * 1000000L;
	return 0;
}
