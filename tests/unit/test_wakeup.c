#include "cmocka_all.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "broker/wakeup.h"
#include "scarce_memory.h"
#include "shared/clock.h"

/* ---- the timer, seen from outside (the linker's --wrap sends these calls here) ---- */

int __real_timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer);
int __real_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before);
int __wrap_timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer);
int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before);

static timer_t last_timer;
static int timer_create_error;
static void (*before_settime)(void *argument); /* called once */
static void *before_settime_argument;

int __wrap_timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer)
{
	int rc;

	if (timer_create_error) {
		errno = timer_create_error;
		return -1;
	}
	rc = __real_timer_create(clock, event, ret_timer);
	last_timer = *ret_timer;
	return rc;
}

int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *times,
		struct itimerspec *ret_before)
{
	void (*hook)(void *argument) = before_settime;

	if (hook) {
		before_settime = NULL;
		hook(before_settime_argument);
	}
	return __real_timer_settime(timer, flags, times, ret_before);
}

/* ---- whether this thread has slept ---- */

int __wrap_getrusage(int who, struct rusage *usage);

static long sleeps;
static int getrusage_error;

int __wrap_getrusage(int who, struct rusage *usage)
{
	assert_int_equal(who, RUSAGE_THREAD);
	if (getrusage_error) {
		errno = getrusage_error;
		return -1;
	}
	usage->ru_nvcsw = sleeps;
	return 0;
}

static bool timer_runs(void)
{
	struct itimerspec left;

	assert_int_equal(timer_gettime(last_timer, &left), 0);
	return left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0;
}

static struct wakeup *new_wakeup(void)
{
	struct wakeup *wakeup = wakeup_new();

	assert_non_null(wakeup);
	assert_int_equal(wakeup_count(wakeup), 0);
	assert_false(timer_runs());
	return wakeup;
}

static void assert_poll_interrupted(void)
{
	errno = 0;
	assert_int_equal(poll(NULL, 0, 60000), -1);
	assert_int_equal(errno, EINTR);
}

/* ---- states ---- */

static void test_request_signals_once_until_settled(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	assert_true(timer_runs());
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 2);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
	wakeup_free(NULL);
}

/* One signal may arrive just before the poll begins; the next ones do not. */
static void test_request_interrupts_every_poll_until_settled(void **state)
{
	struct wakeup *wakeup = new_wakeup();
	int i;

	(void)state;
	wakeup_request(wakeup);
	for (i = 0; i < 5; i++) {
		assert_poll_interrupted();
	}
	wakeup_settle(wakeup);
	assert_int_equal(poll(NULL, 0, 5), 0);
	wakeup_free(wakeup);
}

static void test_attentive_thread_is_not_signalled(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	wakeup_attend(wakeup);
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 0);
	assert_false(timer_runs());
	wakeup_settle(wakeup);
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	wakeup_settle(wakeup);

	wakeup_attend(wakeup);
	wakeup_settle(wakeup);
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 2);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void set_too_often(void *argument)
{
	(void)argument;
	fail_msg("the timer was set again");
}

#define ROUNDS 8 /* as in wakeup.c */

static bool requests; /* somebody makes one in each round */

/* So many rounds, in each of which the thread sleeps or not. Returns whether the last was settled. */
static bool go_round(struct wakeup *wakeup, unsigned int rounds, bool sleep)
{
	bool is_settled = false;

	for (; rounds > 0; rounds--) {
		sleeps += sleep;
		wakeup_attend(wakeup);
		if (requests) {
			wakeup_request(wakeup);
		}
		is_settled = wakeup_settle_unless_busy(wakeup);
	}
	return is_settled;
}

static void test_a_thread_that_does_not_sleep_is_not_signalled(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	sleeps = 100;
	requests = true;
	assert_true(go_round(wakeup, 5 * ROUNDS, true));
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	assert_true(go_round(wakeup, ROUNDS - 1, false));
	assert_false(timer_runs());
	assert_false(go_round(wakeup, 1, false));
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	/* It may sleep now, for want of other work: the timer wakes it, for as long as it takes to see that. */
	assert_true(timer_runs());
	assert_poll_interrupted();
	assert_poll_interrupted();
	assert_false(go_round(wakeup, ROUNDS - 1, true));
	assert_true(timer_runs());
	assert_true(go_round(wakeup, 1, true));
	assert_false(timer_runs());
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 2);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void test_the_timer_is_set_once_while_a_thread_is_busy(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	requests = true;
	assert_false(go_round(wakeup, 2 * ROUNDS, false));
	before_settime = set_too_often;
	assert_false(go_round(wakeup, 100 * ROUNDS, false));
	before_settime = NULL;
	/* What has to be done at once is. */
	wakeup_insist(wakeup);
	assert_poll_interrupted();
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	wakeup_free(wakeup);
}

/* The timer is for requests; clients' messages to each other make none. */
static void test_no_timer_for_a_busy_thread_without_requests(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	requests = false;
	assert_true(go_round(wakeup, 5 * ROUNDS, false));
	assert_false(timer_runs());
	requests = true;
	/* What it did before is not known, so two looks. */
	assert_true(go_round(wakeup, 2 * ROUNDS - 1, false));
	assert_false(go_round(wakeup, 1, false));
	requests = false;
	assert_true(go_round(wakeup, 2 * ROUNDS, false));
	assert_false(timer_runs());
	wakeup_free(wakeup);
}

static void test_a_thread_of_which_that_is_not_known_is_signalled(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	requests = true;
	getrusage_error = EINVAL;
	assert_true(go_round(wakeup, 5 * ROUNDS, false));
	getrusage_error = 0;
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void test_when_a_request_was_made(void **state)
{
	struct wakeup *wakeup = new_wakeup();
	uint64_t first;

	(void)state;
	assert_int_equal(wakeup_requested_at(wakeup), 0);
	wakeup_request(wakeup);
	first = wakeup_requested_at(wakeup);
	assert_in_range(first, 1, now_ns());
	/* One that is under way, or to a thread that is awake, is none. */
	wakeup_request(wakeup);
	wakeup_settle(wakeup);
	wakeup_attend(wakeup);
	wakeup_request(wakeup);
	assert_int_equal(wakeup_requested_at(wakeup), first);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

/* attend leaves a request that is under way alone: only settle ends it. */
static void test_request_outlives_attend(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	wakeup_request(wakeup);
	wakeup_attend(wakeup);
	assert_poll_interrupted();
	assert_poll_interrupted();
	wakeup_request(wakeup);
	assert_int_equal(wakeup_count(wakeup), 1);
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	wakeup_free(wakeup);
}

static void test_insist_interrupts_without_a_request(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	wakeup_insist(wakeup);
	assert_poll_interrupted();
	assert_poll_interrupted();
	wakeup_request(wakeup); /* on its way already */
	assert_int_equal(wakeup_count(wakeup), 0);
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	assert_int_equal(poll(NULL, 0, 5), 0);

	wakeup_attend(wakeup);
	wakeup_insist(wakeup);
	assert_poll_interrupted();
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void settle(void *argument)
{
	wakeup_settle(argument);
}

/* The requesting thread loses the processor before it sets the timer, and meanwhile the broker thread, awake
 * for another reason, settles. The timer that is set after that must not run for ever. */
static void test_timer_of_an_overtaken_request_ends(void **state)
{
	struct wakeup *wakeup = new_wakeup();

	(void)state;
	before_settime = settle;
	before_settime_argument = wakeup;
	wakeup_request(wakeup);
	/* A needless wake-up, then peace. */
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	assert_int_equal(poll(NULL, 0, 5), 0);
	/* And the next request wakes. */
	wakeup_request(wakeup);
	assert_poll_interrupted();
	wakeup_settle(wakeup);
	assert_false(timer_runs());
	wakeup_free(wakeup);
}

/* ---- SIGURG ---- */

static atomic_int foreign_calls;

static void foreign_handler(int number)
{
	(void)number;
	atomic_fetch_add(&foreign_calls, 1);
}

static void foreign_action(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
	atomic_fetch_add(&foreign_calls, 1);
}

static void install(struct sigaction *action)
{
	sigemptyset(&action->sa_mask);
	assert_int_equal(sigaction(SIGURG, action, NULL), 0);
}

static void check_handler_stays(struct sigaction *action)
{
	struct sigaction present;
	struct wakeup *wakeup;

	install(action);
	atomic_store(&foreign_calls, 0);
	wakeup = new_wakeup();
	assert_int_equal(sigaction(SIGURG, NULL, &present), 0);
	if (action->sa_flags & SA_SIGINFO) {
		assert_true(present.sa_flags & SA_SIGINFO);
		assert_ptr_equal((void *)present.sa_sigaction, (void *)action->sa_sigaction);
	} else {
		assert_false(present.sa_flags & SA_SIGINFO);
		assert_ptr_equal((void *)present.sa_handler, (void *)action->sa_handler);
	}
	wakeup_request(wakeup);
	assert_poll_interrupted();
	assert_true(atomic_load(&foreign_calls) > 0);
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void test_handler_of_somebody_else_stays(void **state)
{
	struct sigaction plain = {.sa_handler = foreign_handler};
	struct sigaction with_information = {.sa_sigaction = foreign_action, .sa_flags = SA_SIGINFO | SA_RESTART};

	(void)state;
	check_handler_stays(&plain);
	check_handler_stays(&with_information);
}

static void check_handler_replaces(void (*disposition)(int number))
{
	struct sigaction action = {.sa_handler = disposition}, present;
	struct wakeup *wakeup;

	install(&action);
	wakeup = new_wakeup();
	assert_int_equal(sigaction(SIGURG, NULL, &present), 0);
	assert_true(present.sa_handler != SIG_DFL && present.sa_handler != SIG_IGN);
	assert_true(present.sa_flags & SA_RESTART);
	wakeup_request(wakeup);
	assert_poll_interrupted();
	wakeup_settle(wakeup);
	wakeup_free(wakeup);
}

static void test_handler_where_there_was_none(void **state)
{
	(void)state;
	check_handler_replaces(SIG_DFL);
	check_handler_replaces(SIG_IGN);
}

/* ---- failures ---- */

static void test_no_memory(void **state)
{
	long blocks = scarce_memory_blocks();

	(void)state;
	scarce_memory(1, false);
	assert_null(wakeup_new());
	assert_true(scarce_memory_end());
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_no_timer(void **state)
{
	long blocks = scarce_memory_blocks();

	(void)state;
	timer_create_error = EAGAIN;
	assert_null(wakeup_new());
	assert_int_equal(errno, EAGAIN);
	timer_create_error = 0;
	assert_int_equal(scarce_memory_blocks(), blocks);
}

/* ---- wakeup_wait ---- */

static void *request_later(void *wakeup)
{
	const struct timespec moment = {.tv_nsec = 2000000};

	nanosleep(&moment, NULL);
	wakeup_request(wakeup);
	return NULL;
}

/* A wait of an hour that returns at all was woken. */
static void test_wait(void **state)
{
	struct wakeup *wakeup = new_wakeup();
	pthread_t thread;
	int i;

	(void)state;
	wakeup_request(wakeup);
	wakeup_wait(wakeup, 3600000);
	wakeup_settle(wakeup);
	for (i = 0; i < 50; i++) {
		assert_int_equal(pthread_create(&thread, NULL, request_later, wakeup), 0);
		wakeup_wait(wakeup, 3600000);
		pthread_join(thread, NULL);
		wakeup_settle(wakeup);
	}
	wakeup_wait(wakeup, 0);
	wakeup_wait(wakeup, 2); /* nobody asks: the time passes */
	wakeup_free(wakeup);
}

/* ---- the broker's loop ---- */

#define REQUESTS 10000
#define POLL_MS 100
/* A poll that timed out while a request was this old did not hear it. */
#define LOST_NS 50000000U

enum order { POLL_THEN_TICK, TICK_THEN_POLL };

struct loop {
	enum order order;
	bool attends; /* some polls bring a client's message, whose callback attends */
	bool bursts;  /* the application does not wait for the last to be sent */
	struct wakeup *wakeup;
	atomic_uint pushed;     /* by the application, not drained: the outbound queue */
	unsigned int published; /* drained, not sent */
	unsigned int sent;
	sem_t seen;                        /* posted when some were sent */
	atomic_uint_fast64_t requested_at; /* when wakeup_request() last returned; 0: all were sent since */
	unsigned int lost, polls;
	unsigned int seed;
};

static unsigned int jitter(unsigned int *seed, unsigned int limit)
{
	*seed = *seed * 1664525U + 1013904223U;
	return (*seed >> 8) % limit;
}

static void *application(void *argument)
{
	struct loop *loop = argument;
	unsigned int seed = 7, i, steps;
	volatile unsigned int step;

	for (i = 0; i < REQUESTS; i++) {
		/* Mostly about as long as the broker's way into its poll, now and then long enough for it to
		 * sleep. */
		steps = jitter(&seed, jitter(&seed, 8) ? 4000 : 200000);
		for (step = 0; step < steps; step++) {
		}
		if (atomic_fetch_add(&loop->pushed, 1) == 0) {
			wakeup_request(loop->wakeup);
		}
		atomic_store(&loop->requested_at, now_ns());
		if (!loop->bursts) {
			while (sem_wait(&loop->seen)) {
			}
		}
	}
	return NULL;
}

/* As queue_plugin_msgs(). */
static void send_published(struct loop *loop)
{
	if (loop->published) {
		loop->sent += loop->published;
		loop->published = 0;
		atomic_store(&loop->requested_at, 0);
		sem_post(&loop->seen);
	}
}

static unsigned int drain(struct loop *loop)
{
	unsigned int taken = atomic_exchange(&loop->pushed, 0);

	loop->published += taken;
	return taken;
}

/* As broker_on_tick(). */
static void tick(struct loop *loop)
{
	unsigned int done = drain(loop);

	wakeup_settle(loop->wakeup);
	done += drain(loop);
	if (done && loop->order == TICK_THEN_POLL) {
		wakeup_insist(loop->wakeup);
	}
}

static void broker_poll(struct loop *loop)
{
	bool traffic = loop->attends && jitter(&loop->seed, 4) == 0;
	uint64_t requested_at;
	int rc = poll(NULL, 0, traffic ? 0 : POLL_MS);

	loop->polls++;
	if (traffic) {
		wakeup_attend(loop->wakeup);
		(void)drain(loop);
	} else if (rc == 0) {
		requested_at = atomic_load(&loop->requested_at);
		loop->lost += (atomic_load(&loop->pushed) || loop->published) && requested_at != 0 &&
				now_ns() > requested_at + LOST_NS;
	}
}

static void run_loop(enum order order, bool attends, bool bursts)
{
	struct loop loop = {.order = order, .attends = attends, .bursts = bursts, .seed = 3};
	pthread_t thread;

	assert_int_equal(sem_init(&loop.seen, 0, 0), 0);
	loop.wakeup = new_wakeup();
	assert_int_equal(pthread_create(&thread, NULL, application, &loop), 0);
	while (loop.sent < REQUESTS) {
		send_published(&loop);
		if (order == POLL_THEN_TICK) {
			broker_poll(&loop);
			tick(&loop);
		} else {
			tick(&loop);
			broker_poll(&loop);
		}
	}
	pthread_join(thread, NULL);
	assert_int_equal(loop.sent, REQUESTS);
	assert_int_equal(loop.lost, 0);
	/* Nothing is left that wakes. */
	wakeup_settle(loop.wakeup);
	assert_false(timer_runs());
	wakeup_free(loop.wakeup);
	sem_destroy(&loop.seen);
}

static void test_no_request_is_lost_in_2_0(void **state)
{
	(void)state;
	run_loop(POLL_THEN_TICK, false, false);
	run_loop(POLL_THEN_TICK, true, false);
	run_loop(POLL_THEN_TICK, true, true);
}

static void test_no_request_is_lost_in_2_1(void **state)
{
	(void)state;
	run_loop(TICK_THEN_POLL, false, false);
	run_loop(TICK_THEN_POLL, true, false);
	run_loop(TICK_THEN_POLL, true, true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_signals_once_until_settled),
		cmocka_unit_test(test_request_interrupts_every_poll_until_settled),
		cmocka_unit_test(test_attentive_thread_is_not_signalled),
		cmocka_unit_test(test_a_thread_that_does_not_sleep_is_not_signalled),
		cmocka_unit_test(test_the_timer_is_set_once_while_a_thread_is_busy),
		cmocka_unit_test(test_no_timer_for_a_busy_thread_without_requests),
		cmocka_unit_test(test_a_thread_of_which_that_is_not_known_is_signalled),
		cmocka_unit_test(test_when_a_request_was_made),
		cmocka_unit_test(test_request_outlives_attend),
		cmocka_unit_test(test_insist_interrupts_without_a_request),
		cmocka_unit_test(test_timer_of_an_overtaken_request_ends),
		cmocka_unit_test(test_handler_of_somebody_else_stays),
		cmocka_unit_test(test_handler_where_there_was_none),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_timer),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_no_request_is_lost_in_2_0),
		cmocka_unit_test(test_no_request_is_lost_in_2_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
