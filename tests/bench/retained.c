/* The mode `retained`: how soon a subscriber has what the broker kept, while live traffic goes on. */
#include "modes.h"

#include "util.h"
#include "wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIVE_TOPICS 100
#define PAYLOAD_SIZE PAYLOAD_MIN
#define STAMP_DIGITS 20
#define NUMBER_DIGITS 10
#define REST (NS_PER_S / 2)      /* between two rounds, with live traffic only */
#define AFTERMATH (NS_PER_S / 5) /* for what arrives twice */
#define PROBE_INTERVAL (NS_PER_S / 5)

struct stage {
	const struct plan *plan;
	struct wire *wire;
	int64_t live_from; /* 0 before the live traffic */
	uint64_t live_sent;
};

/* `<CLOCK_MONOTONIC ns, 20 digits> <number, 10 digits>`, then filling. */
static void publish_stamped(struct stage *stage, const char *topic, uint64_t number, uint8_t qos, bool retain)
{
	uint8_t payload[PAYLOAD_SIZE];

	memset(payload, ' ', sizeof(payload));
	put_digits(payload, STAMP_DIGITS, (uint64_t)now_ns());
	put_digits(payload + STAMP_DIGITS + 1, NUMBER_DIGITS, number);
	if (retain) {
		wire_publish_retained(stage->wire, topic, payload, sizeof(payload), qos);
	} else {
		wire_publish(stage->wire, topic, payload, sizeof(payload), qos);
	}
}

/* Publishes the live messages that are due; returns when the next one is. */
static int64_t publish_live(struct stage *stage)
{
	const struct plan *plan = stage->plan;
	int64_t now = now_ns();
	char topic[512];

	if (stage->live_from == 0 || plan->rate == 0) {
		return INT64_MAX;
	}
	for (;;) {
		double after = (double)stage->live_sent / (double)plan->rate * (double)NS_PER_S;
		int64_t due = stage->live_from + (int64_t)after;
		if (due > now) {
			return due;
		}
		snprintf(topic, sizeof(topic), "%s/live/%u", plan->topic,
				(unsigned int)(stage->live_sent % LIVE_TOPICS));
		publish_stamped(stage, topic, stage->live_sent, plan->qos, false);
		stage->live_sent++;
	}
}

/* Lets the live traffic flow until a message of this round comes on topic, or until the deadline. Returns
 * whether it came. Topic NULL: until the deadline. */
static bool await(struct stage *stage, const char *topic, uint64_t round, int64_t deadline,
		struct wire_message *ret_message)
{
	uint64_t number;

	do {
		int64_t next = publish_live(stage);
		wire_wait(&stage->wire, 1, next < deadline ? next : deadline);
		while (wire_take(stage->wire, ret_message)) {
			if (topic != NULL && wire_message_is(ret_message, topic) &&
					get_digits(ret_message->payload, ret_message->length, &number) > 0 && number == round) {
				return true;
			}
		}
	} while (now_ns() < deadline);
	return false;
}

static void command(struct stage *stage, uint64_t round, bool begin)
{
	const struct plan *plan = stage->plan;
	char text[64];
	int length = begin
			? snprintf(text, sizeof(text), "%" PRIu64 " %d %" PRIu64, round, plan->qos, plan->count)
			: snprintf(text, sizeof(text), "%" PRIu64, round);

	wire_publish(stage->wire, plan->start, (const uint8_t *)text, (size_t)length, 1);
}

/* Has the broker keep plan->count messages, and returns when it does: it takes the messages of a client in
 * turn. */
static void publish_retained(struct stage *stage)
{
	const struct plan *plan = stage->plan;
	struct wire_message message;
	char topic[512];

	for (uint64_t number = 0; number < plan->count; number++) {
		snprintf(topic, sizeof(topic), "%s/%" PRIu64, plan->topic, number);
		publish_stamped(stage, topic, number, 1, true);
	}
	wire_publish(stage->wire, plan->done, (const uint8_t *)"0", 1, 1);
	if (!await(stage, plan->done, 0, now_ns() + plan->startup, &message)) {
		die("The broker did not take %" PRIu64 " retained messages within %.1f s.", plan->count,
				(double)plan->startup / (double)NS_PER_S);
	}
}

/* Until somebody obeys. */
static void await_collector(struct stage *stage)
{
	const struct plan *plan = stage->plan;
	struct wire_message message;
	int64_t deadline = now_ns() + plan->startup;

	do {
		if (now_ns() >= deadline) {
			die("Nobody reported on %s to the commands on %s.", plan->answer, plan->start);
		}
		command(stage, 0, false);
	} while (!await(stage, plan->answer, 0, now_ns() + PROBE_INTERVAL, &message));
}

static void run_round(struct stage *stage, uint64_t round)
{
	const struct plan *plan = stage->plan;
	struct wire_message message;
	const uint8_t *report;

	await(stage, NULL, 0, now_ns() + REST, &message);
	command(stage, round, true);
	await(stage, plan->done, round, now_ns() + plan->timeout, &message);
	await(stage, NULL, 0, now_ns() + AFTERMATH, &message);
	command(stage, round, false);
	if (!await(stage, plan->answer, round, now_ns() + plan->startup, &message)) {
		die("No report of round %" PRIu64 " came on %s.", round, plan->answer);
	}
	report = memchr(message.payload, ' ', message.length);
	if (report == NULL) {
		die("The report of round %" PRIu64 " is empty.", round);
	}
	fputs(round > 1 ? ", " : "", stdout);
	fwrite(report + 1, 1, message.length - (size_t)(report + 1 - message.payload), stdout);
	if (plan->verbose) {
		fprintf(stderr, "round %" PRIu64 ":%.*s\n", round, (int)(message.payload + message.length - report),
				(const char *)report);
	}
}

void mode_retained(const struct plan *plan)
{
	struct stage stage = {.plan = plan};

	if (plan->start == NULL || plan->done == NULL || plan->count == 0) {
		die("retained needs --start, --done and a --count.");
	}
	stage.wire = wire_open(plan->host, plan->port, "bench-retained", plan->timeout);
	wire_subscribe(stage.wire, plan->answer, 1);
	wire_await_subscribed(stage.wire, plan->timeout);
	wire_subscribe(stage.wire, plan->done, 1);
	wire_await_subscribed(stage.wire, plan->timeout);
	publish_retained(&stage);
	await_collector(&stage);

	printf("{\"mode\": \"retained\", \"qos\": %d, \"count\": %" PRIu64 ", \"rate\": %" PRIu64
		   ", \"rounds\": [",
			plan->qos, plan->count, plan->rate);
	stage.live_from = now_ns();
	for (uint64_t round = 1; round <= plan->rounds; round++) {
		run_round(&stage, round);
	}
	printf("], \"live_per_s\": %.1f}\n",
			(double)stage.live_sent / ((double)(now_ns() - stage.live_from) / (double)NS_PER_S));
	wire_close(stage.wire);
}
