/* DESIGN
 * One atomic word says where the broker thread stands towards the queue:
 *   RESTING    it polls, or will without another look: a request must signal
 *   ATTENTIVE  it will look before it polls: a request does nothing
 *   REQUESTED  a signal is under way and the timer repeats it, or the thread is busy and the timer will send
 *              one: a request does nothing
 * wakeup_request() moves RESTING to REQUESTED and is the only transition another thread makes. The broker
 * thread makes the others and looks at the queue after each, so whatever was pushed before is seen.
 *
 * SIGURG is ignored by default, so a late one is harmless, and neither Mosquitto nor CPython uses it.
 * SA_RESTART keeps every call but the poll (which is never restarted, signal(7)) from noticing. */
#include "broker/wakeup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* How long after the first signal the timer repeats it, and how often from then on. Not often: a machine on
 * which taking a signal takes longer than the interval would do nothing else any more (one under strace, or a
 * virtual one whose host is busy). */
#define REPEAT_FIRST_NS 50000
#define REPEAT_NS 500000
/* How often it sends one to a busy thread. Each costs some microseconds, on a virtual machine tens. */
#define BUSY_NS 1000000
/* After how many rounds to see whether the broker thread has slept. */
#define ROUNDS 8U
/* For wakeup_insist(): the poll begins some microseconds after the caller returns. */
#define INSIST_NS 25000

enum { RESTING, ATTENTIVE, REQUESTED };

struct wakeup {
	atomic_int state;
	atomic_bool armed; /* the timer may run */
	atomic_bool asked; /* there was a request; cleared when it is seen whether the thread has slept */
	atomic_uint_fast64_t signals;
	atomic_uint_fast64_t requested_at_ns; /* the last that made a signal */
	pid_t process;
	pid_t thread;
	timer_t timer;
	/* Of the broker thread alone. */
	unsigned int rounds; /* since it was seen whether */
	long sleeps;         /* how often it has slept, then */
	bool is_busy;        /* it had not */
};

static void on_signal(int number)
{
	(void)number;
}

static int install_handler(void)
{
	struct sigaction action, present;

	if (sigaction(SIGURG, NULL, &present)) {
		return -1;
	}
	/* Go plugins use SIGURG as well. Any handler interrupts the poll, so theirs does. */
	if ((present.sa_flags & SA_SIGINFO) || (present.sa_handler != SIG_DFL && present.sa_handler != SIG_IGN)) {
		return 0;
	}
	action.sa_handler = on_signal;
	action.sa_flags = SA_RESTART;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGURG, &action, NULL);
}

static void set_timer(struct wakeup *wakeup, long first_ns, long repeat_ns)
{
	struct itimerspec times = {.it_value.tv_nsec = first_ns, .it_interval.tv_nsec = repeat_ns};

	/* Fails only for a timer that does not exist or a time that is not one. */
	(void)timer_settime(wakeup->timer, 0, &times, NULL);
}

static void arm(struct wakeup *wakeup, long first_ns, long repeat_ns)
{
	set_timer(wakeup, first_ns, repeat_ns);
	/* After the timer: a wakeup_settle() that comes in between leaves the timer to the next one. */
	atomic_store(&wakeup->armed, true);
}

struct wakeup *wakeup_new(void)
{
	struct wakeup *wakeup;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};

	wakeup = calloc(1, sizeof(*wakeup));
	if (!wakeup) {
		return NULL;
	}
	atomic_init(&wakeup->state, RESTING);
	atomic_init(&wakeup->armed, false);
	atomic_init(&wakeup->asked, false);
	atomic_init(&wakeup->signals, 0);
	atomic_init(&wakeup->requested_at_ns, 0);
	wakeup->process = getpid();
	wakeup->thread = (pid_t)syscall(SYS_gettid);
	event.sigev_notify_thread_id = wakeup->thread;
	if (install_handler() || timer_create(CLOCK_MONOTONIC, &event, &wakeup->timer)) {
		free(wakeup);
		return NULL;
	}
	return wakeup;
}

void wakeup_free(struct wakeup *wakeup)
{
	if (!wakeup) {
		return;
	}
	(void)timer_delete(wakeup->timer);
	free(wakeup);
}

void wakeup_request(struct wakeup *wakeup)
{
	int state = RESTING;

	if (!atomic_load_explicit(&wakeup->asked, memory_order_relaxed)) {
		atomic_store_explicit(&wakeup->asked, true, memory_order_relaxed);
	}
	if (!atomic_compare_exchange_strong(&wakeup->state, &state, REQUESTED)) {
		return;
	}
	atomic_fetch_add_explicit(&wakeup->signals, 1, memory_order_relaxed);
	atomic_store(&wakeup->requested_at_ns, now_ns());
	arm(wakeup, REPEAT_FIRST_NS, REPEAT_NS);
	(void)syscall(SYS_tgkill, wakeup->process, wakeup->thread, SIGURG);
}

void wakeup_attend(struct wakeup *wakeup)
{
	int state = atomic_load(&wakeup->state);

	if (state != RESTING) {
		return;
	}
	/* REQUESTED stays: its timer runs until wakeup_settle(). */
	(void)atomic_compare_exchange_strong(&wakeup->state, &state, ATTENTIVE);
}

void wakeup_insist(struct wakeup *wakeup)
{
	atomic_store(&wakeup->state, REQUESTED);
	arm(wakeup, INSIST_NS, REPEAT_NS);
}

void wakeup_settle(struct wakeup *wakeup)
{
	/* Whatever the state: a request may have been overtaken here before it set the timer, which then ran for
	 * ever. */
	if (atomic_load(&wakeup->armed)) {
		atomic_store(&wakeup->armed, false);
		/* The timer first: a request made between this line and the next finds REQUESTED and does nothing,
		 * which the caller's look at the queue makes good; the other way round its timer would be stopped. */
		set_timer(wakeup, 0, 0);
	}
	if (atomic_load(&wakeup->state) != RESTING) {
		atomic_store(&wakeup->state, RESTING);
	}
}

/* Whether the broker thread has not slept for some rounds, in which requests were made: its polls return at
 * once. */
static bool is_busy(struct wakeup *wakeup)
{
	struct rusage usage;

	if (++wakeup->rounds < ROUNDS) {
		return wakeup->is_busy;
	}
	wakeup->rounds = 0;
	/* Without requests there is nothing to spare. */
	if (!atomic_exchange_explicit(&wakeup->asked, false, memory_order_relaxed) ||
			getrusage(RUSAGE_THREAD, &usage)) {
		wakeup->is_busy = false;
	} else {
		wakeup->is_busy = usage.ru_nvcsw == wakeup->sleeps;
		wakeup->sleeps = usage.ru_nvcsw;
	}
	return wakeup->is_busy;
}

bool wakeup_settle_unless_busy(struct wakeup *wakeup)
{
	if (!is_busy(wakeup)) {
		wakeup_settle(wakeup);
		return true;
	}
	if (!atomic_load(&wakeup->armed)) {
		arm(wakeup, BUSY_NS, BUSY_NS);
	}
	atomic_store(&wakeup->state, REQUESTED);
	return false;
}

void wakeup_wait(struct wakeup *wakeup, unsigned int milliseconds)
{
	if (atomic_load(&wakeup->state) == REQUESTED) {
		return;
	}
	(void)poll(NULL, 0, (int)milliseconds);
}

uint64_t wakeup_requested_at(const struct wakeup *wakeup)
{
	return atomic_load(&wakeup->requested_at_ns);
}

uint64_t wakeup_count(const struct wakeup *wakeup)
{
	return atomic_load_explicit(&wakeup->signals, memory_order_relaxed);
}
