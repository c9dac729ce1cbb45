#include "shared/thread.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The kernel has it from 5.9 on, headers of that time may not; the number is the same on every machine. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define STACK_SIZE (8U * 1024U * 1024U)

#define SYSTEM_LOG "/dev/log"
#define DESCRIPTORS_MAX 256

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

bool thread_has_signals(void)
{
	return pthread_equal(pthread_self(), signals_thread) != 0;
}

/* In the child, which is about to become another program or is one of the application's own: only functions
 * that a signal handler may call. */
static void after_fork(void)
{
	/* What the broker and this plugin have handlers for, and libuv. */
	const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN, SIGURG, SIGCHLD};
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;
	size_t i;

	if (thread_has_signals()) {
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

/* Whether it is connected to where syslog() writes. */
static bool is_system_log(int fd, const char *real)
{
	struct sockaddr_un peer = {.sun_family = AF_UNSPEC};
	socklen_t size = sizeof(peer) - 1; /* the path may fill its field */

	return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX &&
			(strcmp(peer.sun_path, SYSTEM_LOG) == 0 || strcmp(peer.sun_path, real) == 0);
}

/* The descriptor that the C library keeps for syslog(), -1: it has none. */
static int system_log_descriptor(void)
{
	char real[PATH_MAX];
	int fd;

	if (!realpath(SYSTEM_LOG, real)) {
		return -1;
	}
	/* The broker has opened it before its plugins, so it is among the first. */
	for (fd = STDERR_FILENO + 1; fd < DESCRIPTORS_MAX; fd++) {
		if (is_system_log(fd, real)) {
			return fd;
		}
	}
	return -1;
}

static void close_between(int first, int last)
{
	if (first <= last) {
		(void)syscall(SYS_close_range, (unsigned int)first, (unsigned int)last, 0);
	}
}

void thread_take_own_descriptors(const int *keep, size_t count)
{
	int first = STDERR_FILENO + 1, system_log;
	size_t i;

#ifdef __SANITIZE_THREAD__
	/* ThreadSanitizer takes descriptors with one number for one descriptor, and reports what two threads do
	 * with them. */
	return;
#endif
	if (unshare(CLONE_FILES)) {
		return;
	}
	system_log = system_log_descriptor();
	for (i = 0; i < count; i++) {
		if (system_log >= first && system_log < keep[i]) {
			close_between(first, system_log - 1);
			first = system_log + 1;
		}
		close_between(first, keep[i] - 1);
		first = keep[i] + 1;
	}
	if (system_log >= first) {
		close_between(first, system_log - 1);
		first = system_log + 1;
	}
	close_between(first, INT_MAX);
}
