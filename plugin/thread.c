#include "thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The kernel has it from 5.9 on, headers of that time may not; the number is the same on every machine. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define STACK_SIZE (8U * 1024U * 1024U)

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int rc;

	rc = pthread_attr_init(&attributes);
	if (rc) {
		return rc;
	}
	(void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
	/* The thread inherits the mask. */
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(ret_thread, &attributes, run, argument);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
	if (!rc) {
		(void)pthread_setname_np(*ret_thread, name);
	}
	return rc;
}

/* The thread that has the broker's signals. */
static pthread_t signals_thread;

/* In the child, which is about to become another program or is one of the application's own: only functions that a
 * signal handler may call. */
static void after_fork(void)
{
	/* What the broker and this plugin have handlers for, and libuv. */
	const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN, SIGURG, SIGCHLD};
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;
	size_t i;

	if (pthread_equal(pthread_self(), signals_thread)) {
		return;
	}
	for (i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
		(void)sigaction(handled[i], &action, NULL);
	}
	sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

void thread_give_children_signals(void)
{
	static bool done;

	signals_thread = pthread_self();
	if (!done) {
		done = pthread_atfork(NULL, NULL, after_fork) == 0;
	}
}

bool thread_join(pthread_t thread, unsigned int milliseconds)
{
	struct timespec deadline;

	(void)clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += milliseconds / 1000;
	deadline.tv_nsec += (long)(milliseconds % 1000) * 1000000L;
	if (deadline.tv_nsec >= 1000000000L) {
		deadline.tv_sec++;
		deadline.tv_nsec -= 1000000000L;
	}
	return pthread_timedjoin_np(thread, NULL, &deadline) == 0;
}

void thread_take_own_folder(void)
{
	(void)unshare(CLONE_FS);
}

void thread_take_own_descriptors(const int *keep, size_t count)
{
	unsigned int first = STDERR_FILENO + 1;
	size_t i;

#ifdef __SANITIZE_THREAD__
	/* ThreadSanitizer takes descriptors with one number for one descriptor, and reports what two threads do with them. */
	return;
#endif
	if (unshare(CLONE_FILES)) {
		return;
	}
	for (i = 0; i < count; i++) {
		if ((unsigned int)keep[i] > first) {
			(void)syscall(SYS_close_range, first, (unsigned int)keep[i] - 1, 0);
		}
		first = (unsigned int)keep[i] + 1;
	}
	(void)syscall(SYS_close_range, first, ~0U, 0);
}
