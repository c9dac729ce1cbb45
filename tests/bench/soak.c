/* The mode `soak`: many messages from several publishers, every one of which must be answered, once and in
 * order. */
#include "modes.h"

#include "samples.h"
#include "util.h"
#include "wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Every so many messages one has plan->size bytes; the others have few. */
#define LARGE_EVERY 1000
#define SMALL_SPREAD 256

struct publisher {
	size_t index;
	struct wire *wire;
	char topic[512], answer[512];
	uint64_t count; /* how many to send */
	uint64_t sent;
	uint64_t foreign; /* answers that do not begin with a number, or with one that was not asked */
	struct sequence answers;
};

static void open_publisher(struct publisher *publisher, const struct plan *plan, size_t index)
{
	char client_id[64];

	publisher->index = index;
	publisher->count = plan->count / plan->publishers + (index < plan->count % plan->publishers ? 1 : 0);
	snprintf(publisher->topic, sizeof(publisher->topic), "%s/%zu", plan->topic, index);
	snprintf(publisher->answer, sizeof(publisher->answer), "%s/%zu", plan->answer, index);
	snprintf(client_id, sizeof(client_id), "bench-soak-%zu", index);
	publisher->wire = wire_open(plan->host, plan->port, client_id, plan->timeout);
	wire_subscribe(publisher->wire, publisher->answer, plan->qos);
	wire_await_subscribed(publisher->wire, plan->timeout);
}

static size_t size_of_message(const struct plan *plan, uint64_t number)
{
	size_t size = PAYLOAD_MIN + number % SMALL_SPREAD;

	if (number % LARGE_EVERY == LARGE_EVERY - 1 || size > plan->size) {
		return plan->size;
	}
	return size;
}

/* `<publisher> <number> <size> `, then filling up to size. */
static void publish_next(struct publisher *publisher, const struct plan *plan)
{
	static uint8_t payload[PAYLOAD_MAX];
	size_t size = size_of_message(plan, publisher->sent);
	char head[PAYLOAD_MIN];
	int length =
			snprintf(head, sizeof(head), "%zu %" PRIu64 " %zu ", publisher->index, publisher->sent, size);

	if (length < 0 || (size_t)length >= sizeof(head)) {
		die("Message %" PRIu64 " of publisher %zu has no room for its numbers.", publisher->sent,
				publisher->index);
	}
	memset(payload, '.', size);
	memcpy(payload, head, (size_t)length);
	wire_publish(publisher->wire, publisher->topic, payload, size, plan->qos);
	publisher->sent++;
}

/* Returns how many answers came. */
static uint64_t take_answers(struct publisher *publisher)
{
	struct wire_message message;
	uint64_t number, taken = 0;

	while (wire_take(publisher->wire, &message)) {
		taken++;
		if (get_digits(message.payload, message.length, &number) == 0 || number >= publisher->sent) {
			publisher->foreign++;
		} else {
			(void)sequence_add(&publisher->answers, number);
		}
	}
	return taken;
}

static void print_result(const struct plan *plan, const struct publisher *publishers, int64_t elapsed)
{
	uint64_t sent = 0, answered = 0, duplicated = 0, reordered = 0, foreign = 0;
	double duration = (double)elapsed / (double)NS_PER_S;

	for (size_t i = 0; i < plan->publishers; i++) {
		sent += publishers[i].sent;
		answered += publishers[i].answers.unique;
		duplicated += publishers[i].answers.duplicated;
		reordered += publishers[i].answers.reordered;
		foreign += publishers[i].foreign;
	}
	printf("{\"mode\": \"soak\", \"qos\": %d, \"publishers\": %zu, \"window\": %" PRIu64
		   ", \"sent\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"lost\": %" PRIu64
		   ", \"duplicated\": %" PRIu64 ", \"reordered\": %" PRIu64 ", \"foreign\": %" PRIu64
		   ", \"seconds\": %.3f, \"answered_per_s\": %.1f}\n",
			plan->qos, plan->publishers, plan->window, sent, answered, sent - answered, duplicated, reordered,
			foreign, duration, duration > 0 ? (double)answered / duration : 0.0);
	if (plan->verbose) {
		fprintf(stderr, "soak: %" PRIu64 " of %" PRIu64 " answered in %.1f s\n", answered, sent, duration);
	}
}

void mode_soak(const struct plan *plan)
{
	static struct publisher publishers[WIRES_MAX];
	struct wire *wires[WIRES_MAX];
	uint64_t answered = 0;

	if (plan->count == 0) {
		die("soak needs a --count.");
	}
	for (size_t i = 0; i < plan->publishers; i++) {
		open_publisher(&publishers[i], plan, i);
		wires[i] = publishers[i].wire;
	}

	int64_t begin = now_ns(), last = begin, now = begin;
	while (answered < plan->count && now < last + plan->timeout && now < begin + plan->duration) {
		for (size_t i = 0; i < plan->publishers; i++) {
			struct publisher *publisher = &publishers[i];
			while (publisher->sent < publisher->count &&
					publisher->sent - publisher->answers.unique < plan->window) {
				publish_next(publisher, plan);
			}
		}
		wire_wait(wires, plan->publishers, last + plan->timeout);
		now = now_ns();
		for (size_t i = 0; i < plan->publishers; i++) {
			uint64_t before = publishers[i].answers.unique;
			if (take_answers(&publishers[i]) > 0) {
				last = now;
			}
			answered += publishers[i].answers.unique - before;
		}
	}
	/* What was answered twice may still be on its way. */
	int64_t end = now_ns() + NS_PER_S / 5;
	while (wire_wait(wires, plan->publishers, end) || now_ns() < end) {
		for (size_t i = 0; i < plan->publishers; i++) {
			(void)take_answers(&publishers[i]);
		}
	}

	print_result(plan, publishers, now - begin);
	for (size_t i = 0; i < plan->publishers; i++) {
		sequence_free(&publishers[i].answers);
		wire_close(publishers[i].wire);
	}
}
