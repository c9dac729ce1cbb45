#include "stub_stop.h"

#include "broker/broker.h"
#include "broker/lanes.h"
#include "broker/wakeup.h"

struct stub_stop stub_stop = {.wait_ms = -1};

void broker_suspend(struct broker *broker)
{
	(void)broker;
	stub_stop.was_suspended = true;
}

bool broker_is_suspending(const struct broker *broker)
{
	(void)broker;
	return stub_stop.was_suspended && stub_stop.suspends;
}

bool broker_has_stopped(const struct broker *broker)
{
	(void)broker;
	return stub_stop.has_stopped;
}

void broker_end(struct broker *broker)
{
	(void)broker;
	stub_stop.has_ended = true;
}

uint64_t broker_unsent(const struct broker *broker)
{
	(void)broker;
	return stub_stop.unsent;
}

bool broker_wait(struct broker *broker, enum message_kind kind, unsigned int milliseconds)
{
	(void)broker;
	stub_stop.wait_ms = (int)milliseconds;
	return kind == MESSAGE_STOPPED && stub_stop.has_stopped;
}

void lanes_set_session(struct lanes *lanes, bool is_up)
{
	(void)lanes;
	(void)is_up;
}

void wakeup_insist(struct wakeup *wakeup)
{
	(void)wakeup;
	stub_stop.insists++;
}
