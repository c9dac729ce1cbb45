#include "broker/stop.h"

#include <signal.h>
#include <stddef.h>

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
