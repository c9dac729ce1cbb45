#include "broker/stop.h"

#include <signal.h>
#include <stddef.h>

#include "broker/broker.h"
#include "broker/lanes.h"
#include "broker/wakeup.h"
#include "options/options.h"
#include "session/session.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"

/* How long the session has to end before the application is asked to. */
#define SUSPEND_MS 500
/* How long the broker goes on after the application has ended. It sends what was published last, and reads
 * the acknowledgements: a connection that it closes over unread ones takes back what the client has not read
 * yet. */
#define LINGER_MS 200
/* How long the session's thread has; the name server may hold it up for longer, and then it is left alone. */
#define SESSION_JOIN_MS 500

/* ---- the signals ---- */

static const int signals[] = {SIGTERM, SIGINT};
#define SIGNAL_COUNT (sizeof(signals) / sizeof(signals[0]))

static struct sigaction before[SIGNAL_COUNT];
static volatile sig_atomic_t taken;
static volatile sig_atomic_t kept; /* a signal's number; 0: none */

/* In a handler too: everything here is allowed there. */
static void give_back(void)
{
	size_t i;

	for (i = 0; taken && i < SIGNAL_COUNT; i++) {
		(void)sigaction(signals[i], &before[i], NULL);
	}
	taken = 0;
	if (kept) {
		(void)raise(kept);
	}
}

static void keep(int number)
{
	if (kept) {
		give_back(); /* whoever sends a second one does not want to wait */
	} else {
		kept = number;
	}
}

void stop_take_signals(void)
{
	struct sigaction action = {.sa_handler = keep};
	size_t i;

	if (taken || kept) {
		return;
	}
	/* Not SA_RESTART: the broker's poll is to return. */
	(void)sigemptyset(&action.sa_mask);
	for (i = 0; i < SIGNAL_COUNT; i++) {
		(void)sigaddset(&action.sa_mask, signals[i]);
	}
	for (i = 0; i < SIGNAL_COUNT; i++) {
		(void)sigaction(signals[i], NULL, &before[i]);
	}
	taken = 1;
	for (i = 0; i < SIGNAL_COUNT; i++) {
		if (before[i].sa_handler != SIG_IGN) {
			(void)sigaction(signals[i], &action, NULL);
		}
	}
}

bool stop_is_asked_for(void)
{
	return kept != 0;
}

void stop_pass_on(void)
{
	if (taken) {
		give_back();
	}
}

/* ---- the stages ---- */

static void ask_application_to_stop(struct stop *stop)
{
	(void)queue_tell(stop->inbound, message_stop());
}

static void say_that_it_did_not_end(const struct stop *stop)
{
	log_line(MOSQ_LOG_WARNING,
			"The application did not end within shutdown_timeout (%g s); the broker ends without it.",
			stop->options->shutdown_timeout_ms / 1000.0);
}

static void enter(struct stop *stop, enum stop_stage stage, unsigned int milliseconds)
{
	stop->stage = stage;
	stop->until_ns = now_ns() + milliseconds * (uint64_t)1000000U;
}

void stop_tick(struct stop *stop)
{
	stop_take_signals();
	if (!stop_is_asked_for()) {
		return;
	}
	if (stop->stage == STOP_NOT_ASKED) {
		broker_suspend(stop->broker);
		enter(stop, STOP_SUSPENDING, SUSPEND_MS);
	}
	if (stop->stage == STOP_SUSPENDING &&
			(!broker_is_suspending(stop->broker) || now_ns() >= stop->until_ns)) {
		ask_application_to_stop(stop);
		enter(stop, STOP_ASKED, stop->options->shutdown_timeout_ms);
	}
	if (stop->stage == STOP_ASKED && broker_has_stopped(stop->broker)) {
		enter(stop, STOP_LINGERING, LINGER_MS);
	} else if (stop->stage == STOP_ASKED && now_ns() >= stop->until_ns) {
		say_that_it_did_not_end(stop);
		enter(stop, STOP_LINGERING, 0);
	}
	if (stop->stage == STOP_LINGERING && now_ns() >= stop->until_ns) {
		stop_pass_on();
		return;
	}
	wakeup_insist(stop->wakeup);
}

static void say_what_was_not_sent(const struct stop *stop)
{
	uint64_t unsent = broker_unsent(stop->broker);

	if (unsent) {
		log_line(MOSQ_LOG_WARNING,
				"The broker ended before the application did: %llu messages that consumers published meanwhile went to nobody. At "
				"one SIGTERM or SIGINT it waits for them.",
				(unsigned long long)unsent);
	}
}

bool stop_now(struct stop *stop)
{
	broker_end(stop->broker);
	stop_pass_on();
	/* The broker serves nobody any more; what it sent and the session has not read it sends again after a
	 * restart, where cleansession is false. */
	lanes_set_session(stop->lanes, false);
	if (stop->session) {
		(void)session_stop(stop->session, SESSION_JOIN_MS);
	}
	if (stop->stage == STOP_NOT_ASKED) {
		/* The broker ends for another reason. */
		ask_application_to_stop(stop);
		if (!broker_wait(stop->broker, MESSAGE_STOPPED, stop->options->shutdown_timeout_ms)) {
			say_that_it_did_not_end(stop);
		}
	} else {
		(void)broker_wait(stop->broker, MESSAGE_STOPPED, 0); /* for the log's last lines */
	}
	say_what_was_not_sent(stop);
	return broker_has_stopped(stop->broker);
}
