#include "broker/sys_tree.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/lanes.h"
#include "broker/publish.h"
#include "broker/wakeup.h"
#include "shared/clock.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"

/* How often at most a state that changes is published without waiting for the interval's end. */
#define STATES_NS 100000000U
/* Seconds after which states are looked at where none are published: who runs in this process may read them.
 */
#define UNPUBLISHED_S 10

struct sys_tree {
	struct sys_tree_sources sources;
	unsigned int interval; /* 0: none */
	time_t started_at;
	time_t next_at;
	uint64_t states_after_ns; /* not sooner is a change of a state published before its time */
	struct {
		bool is_retained; /* the broker has it, */
		uint64_t value;   /* with this value */
	} published[STATISTICS_COUNT];
};

struct sys_tree *sys_tree_new(const struct sys_tree_sources *sources)
{
	struct sys_tree *sys_tree = calloc(1, sizeof(*sys_tree));

	if (sys_tree) {
		sys_tree->sources = *sources;
		sys_tree->started_at = now_s();
	}
	return sys_tree;
}

void sys_tree_free(struct sys_tree *sys_tree)
{
	free(sys_tree);
}

/* Returns whether the broker took it. */
static bool publish(enum statistic which, const char *text, size_t length)
{
	char topic[sizeof(SYS_TREE_PREFIX) + 64];
	struct message_content content = {.topic = topic, .payload = text, .payload_length = length};

	(void)snprintf(topic, sizeof(topic), "%s%s", SYS_TREE_PREFIX, statistics_name(which));
	content.topic_length = strlen(topic);
	/* What was not taken is still a change the next time. */
	return publish_message(NULL, &content, 0, true) == MOSQ_ERR_SUCCESS;
}

static void take_back(struct sys_tree *sys_tree)
{
	unsigned int which;

	for (which = 0; which < STATISTICS_COUNT; which++) {
		if (sys_tree->published[which].is_retained) {
			sys_tree->published[which].is_retained = !publish((enum statistic)which, "", 0);
		}
	}
}

void sys_tree_set_interval(struct sys_tree *sys_tree, unsigned int seconds)
{
	if (seconds == sys_tree->interval) {
		return;
	}
	sys_tree->interval = seconds;
	sys_tree->next_at = now_s();
	if (seconds == 0) {
		take_back(sys_tree);
	}
}

/* Bytes of this process that are in memory; 0: nobody knows. */
static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	char text[128];
	ssize_t length;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		return 0;
	}
	length = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[length > 0 ? length : 0] = '\0';
	/* The second number (proc(5)). */
	return sscanf(text, "%*u %llu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static enum statistics_session state_of_session(const struct sys_tree_sources *sources)
{
	if (lanes_has_session(sources->lanes)) {
		return STATISTICS_SESSION_UP;
	}
	return sources->has_session ? STATISTICS_SESSION_DOWN : STATISTICS_SESSION_OFF;
}

/* Whether something has changed that nobody should have to wait for: the session is up, a consumer runs or
 * has failed. */
static bool has_changed(struct sys_tree *sys_tree)
{
	static const enum statistic states[] = {
		STATISTICS_SESSION, STATISTICS_RUNNING, STATISTICS_RESTARTING, STATISTICS_FAILED};
	struct statistics *statistics = sys_tree->sources.statistics;
	size_t i;

	statistics_set(statistics, STATISTICS_SESSION, state_of_session(&sys_tree->sources));
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (sys_tree->published[states[i]].value != statistics_get(statistics, states[i])) {
			return now_ns() >= sys_tree->states_after_ns;
		}
	}
	return false;
}

/* Refreshes what is no count but a state. */
static void refresh(struct sys_tree *sys_tree, time_t now)
{
	const struct sys_tree_sources *sources = &sys_tree->sources;
	struct statistics *statistics = sources->statistics;

	statistics_end_interval(statistics);
	statistics_set(statistics, STATISTICS_INBOUND_MESSAGES, queue_count(sources->inbound));
	statistics_set(statistics, STATISTICS_INBOUND_BYTES, queue_bytes(sources->inbound));
	statistics_set(statistics, STATISTICS_OUTBOUND_MESSAGES, queue_count(sources->outbound));
	statistics_set(statistics, STATISTICS_OUTBOUND_BYTES, queue_bytes(sources->outbound));
	statistics_raise(statistics, STATISTICS_UNMARKED, lanes_missing(sources->lanes));
	statistics_set(statistics, STATISTICS_UNNAMED, lanes_forgotten(sources->lanes));
	statistics_set(statistics, STATISTICS_SESSION, state_of_session(sources));
	statistics_set(statistics, STATISTICS_SESSION_LEFT_OUT, lanes_left_out(sources->lanes));
	statistics_set(statistics, STATISTICS_SESSION_PASSED_OVER, lanes_passed_over(sources->lanes));
	statistics_set(statistics, STATISTICS_SESSION_REFUSED, lanes_refused(sources->lanes));
	statistics_set(statistics, STATISTICS_WAKE_UPS, wakeup_count(sources->wakeup));
	statistics_set(statistics, STATISTICS_MEMORY, resident_bytes());
	statistics_set(statistics, STATISTICS_TIME, (uint64_t)time(NULL));
	statistics_set(statistics, STATISTICS_UPTIME, (uint64_t)(now - sys_tree->started_at));
}

static bool begins_with(const char *name, const char *beginning)
{
	return strncmp(name, beginning, strlen(beginning)) == 0;
}

/* Nothing is said of a durable inbox or a web side that is not there. */
static bool is_left_out(const struct sys_tree *sys_tree, unsigned int which)
{
	const char *name = statistics_name((enum statistic)which);

	return (!sys_tree->sources.has_keeper && begins_with(name, "durable/")) ||
			(!sys_tree->sources.has_web && begins_with(name, "http/"));
}

void sys_tree_tick(struct sys_tree *sys_tree)
{
	char text[STATISTICS_TEXT_MAX];
	unsigned int which;
	uint64_t value;
	time_t now;

	now = now_s();
	if (now >= sys_tree->next_at) {
		sys_tree->next_at = now + (sys_tree->interval ? (time_t)sys_tree->interval : UNPUBLISHED_S);
	} else if (sys_tree->interval == 0 || !has_changed(sys_tree)) {
		return;
	}
	sys_tree->states_after_ns = now_ns() + STATES_NS;
	refresh(sys_tree, now);
	if (sys_tree->interval == 0) {
		return;
	}
	for (which = 0; which < STATISTICS_COUNT; which++) {
		value = statistics_get(sys_tree->sources.statistics, (enum statistic)which);
		if (is_left_out(sys_tree, which) ||
				(sys_tree->published[which].is_retained && sys_tree->published[which].value == value)) {
			continue;
		}
		if (publish((enum statistic)which, text, statistics_text((enum statistic)which, value, text))) {
			sys_tree->published[which].is_retained = true;
			sys_tree->published[which].value = value;
		}
	}
}
