#include "modes.h"

#include "samples.h"
#include "util.h"
#include "wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A payload is `<CLOCK_MONOTONIC ns, 20 digits> <sequence number, 10 digits>`, then filling. The filling
 * tells a probe, which is only there to find out whether somebody answers yet, from a message that is
 * measured. */
#define STAMP_DIGITS 20
#define NUMBER_DIGITS 10
#define KIND_AT (STAMP_DIGITS + 1 + NUMBER_DIGITS)
#define PROBE 'p'
#define MEASURED 'm'

#define PROBE_INTERVAL (200 * NS_PER_MS)
#define LOST_IN_A_ROW_MAX 5

static struct wire *open_wire(const struct plan *plan, const char *role, size_t index)
{
	char client_id[64];

	snprintf(client_id, sizeof(client_id), "bench-%s-%zu", role, index);
	return wire_open(plan->host, plan->port, client_id, plan->timeout);
}

static int64_t earlier(int64_t left, int64_t right)
{
	return left < right ? left : right;
}

static double seconds(int64_t ns)
{
	return (double)ns / (double)NS_PER_S;
}

/* Returns the stamp it wrote. */
static int64_t send_message(struct wire *wire, const struct plan *plan, const char *topic, uint8_t kind,
		uint64_t number)
{
	uint8_t payload[PAYLOAD_MAX];
	int64_t now = now_ns();

	put_digits(payload, STAMP_DIGITS, (uint64_t)now);
	payload[STAMP_DIGITS] = ' ';
	put_digits(payload + STAMP_DIGITS + 1, NUMBER_DIGITS, number);
	memset(payload + KIND_AT, kind, plan->size - KIND_AT);
	wire_publish(wire, topic, payload, plan->size, plan->qos);
	return now;
}

static bool read_stamp(const struct wire_message *message, int64_t *ret_stamp, uint64_t *ret_number)
{
	uint64_t stamp;

	if (get_digits(message->payload, message->length, &stamp) != STAMP_DIGITS ||
			message->length <= STAMP_DIGITS + 1 || message->payload[STAMP_DIGITS] != ' ' ||
			get_digits(message->payload + STAMP_DIGITS + 1, message->length - STAMP_DIGITS - 1, ret_number) ==
					0) {
		return false;
	}
	*ret_stamp = (int64_t)stamp;
	return true;
}

/* The next answer to a message of this kind; what else arrives is skipped. False when there is none right
 * now. */
static bool take_answer(struct wire *wire, const struct plan *plan, uint8_t kind, int64_t *ret_stamp,
		uint64_t *ret_number)
{
	struct wire_message message;

	while (wire_take(wire, &message)) {
		if (wire_message_is(&message, plan->answer) && message.length == plan->size &&
				message.payload[KIND_AT] == kind && read_stamp(&message, ret_stamp, ret_number)) {
			return true;
		}
	}
	return false;
}

/* Subscribes to the answers and publishes probes until the first of them is answered. */
static struct wire *open_answered(const struct plan *plan)
{
	struct wire *wire = open_wire(plan, "load", 0);
	int64_t deadline = now_ns() + plan->startup;
	int64_t stamp, next = 0;
	uint64_t number;

	wire_subscribe(wire, plan->answer, plan->qos);
	wire_await_subscribed(wire, plan->timeout);
	while (!take_answer(wire, plan, PROBE, &stamp, &number)) {
		int64_t now = now_ns();
		if (now >= deadline) {
			die("Nobody answered on %s to what was published to %s within %.1f s.", plan->answer, plan->topic,
					seconds(plan->startup));
		}
		if (now >= next) {
			send_message(wire, plan, plan->topic, PROBE, 0);
			next = now + PROBE_INTERVAL;
		}
		wire_wait(&wire, 1, earlier(next, deadline));
	}
	return wire;
}

/* Returns when the answer came, 0 when it did not. */
static int64_t await_answer(struct wire *wire, const struct plan *plan, uint64_t number, int64_t deadline)
{
	int64_t stamp;
	uint64_t answered;

	do {
		while (take_answer(wire, plan, MEASURED, &stamp, &answered)) {
			if (answered == number) {
				return now_ns();
			}
		}
	} while (wire_wait(&wire, 1, deadline) || now_ns() < deadline);
	return 0;
}

void mode_roundtrip(const struct plan *plan)
{
	struct wire *wire = open_answered(plan);
	struct samples samples = {0};
	uint64_t lost = 0, lost_in_a_row = 0, random = plan->seed;
	int64_t begin = now_ns();

	for (uint64_t number = 0; plan->count == 0 || samples.count + lost < plan->count; number++) {
		int64_t sent = send_message(wire, plan, plan->topic, MEASURED, number);
		int64_t answered = await_answer(wire, plan, number, sent + plan->timeout);
		if (answered == 0) {
			lost++;
			if (++lost_in_a_row == LOST_IN_A_ROW_MAX) {
				die("%d messages in a row were not answered on %s.", LOST_IN_A_ROW_MAX, plan->answer);
			}
		} else {
			lost_in_a_row = 0;
			if (sent >= begin + plan->warm_up) {
				samples_add(&samples, answered - sent);
			}
		}
		if (sent >= begin + plan->warm_up + plan->duration) {
			break;
		}
		wire_flush(wire); /* the PUBACK is not to wait for the next message */
		if (plan->pause > 0) {
			sleep_ns((int64_t)(random_next(&random) % (uint64_t)plan->pause));
		}
	}
	printf("{\"mode\": \"roundtrip\", \"qos\": %d, \"count\": %zu, \"lost\": %" PRIu64 ", ", plan->qos,
			samples.count, lost);
	samples_print(&samples, stdout);
	puts("}");
	if (plan->verbose) {
		fprintf(stderr, "round trip: %zu answered, %" PRIu64 " lost, p50 %.1f us, p99 %.1f us\n",
				samples.count, lost, samples_quantile_us(&samples, 0.5), samples_quantile_us(&samples, 0.99));
	}
	samples_free(&samples);
	wire_close(wire);
}

struct window {
	struct sequence answers;
	uint64_t sent, written_off, counted;
	int64_t last_answer, longest_gap; /* the gap: between two answers while messages were outstanding */
};

/* Takes what has arrived; counts what is new when counting. */
static void window_take(struct window *window, struct wire *wire, const struct plan *plan, bool counting)
{
	int64_t stamp;
	uint64_t number;

	while (take_answer(wire, plan, MEASURED, &stamp, &number)) {
		if (number < window->sent && sequence_add(&window->answers, number)) {
			int64_t now = now_ns();
			if (counting && now - window->last_answer > window->longest_gap) {
				window->longest_gap = now - window->last_answer;
			}
			window->counted += counting;
			window->last_answer = now;
		}
	}
}

static uint64_t window_outstanding(const struct window *window)
{
	uint64_t settled = window->answers.unique + window->written_off;

	return settled < window->sent ? window->sent - settled : 0;
}

void mode_throughput(const struct plan *plan)
{
	struct wire *wire = open_answered(plan);
	struct window window = {0};
	uint64_t stalls = 0;
	int64_t now = now_ns();
	int64_t count_from = now + plan->warm_up, end = count_from + plan->duration;

	window.last_answer = now;
	while (now < end && (plan->count == 0 || window.counted < plan->count)) {
		while (window_outstanding(&window) < plan->window) {
			send_message(wire, plan, plan->topic, MEASURED, window.sent);
			window.sent++;
		}
		wire_wait(&wire, 1, earlier(end, window.last_answer + plan->timeout));
		now = now_ns();
		window_take(&window, wire, plan, now >= count_from && now < end);
		if (now - window.last_answer >= plan->timeout) {
			if (window.answers.unique == 0) {
				die("None of %" PRIu64 " messages was answered on %s.", window.sent, plan->answer);
			}
			/* What is outstanding will not come: go on without it, or nothing would be measured any more. */
			window.written_off += window_outstanding(&window);
			window.last_answer = now;
			stalls++;
		}
	}
	int64_t elapsed = now - count_from;
	while (window.answers.unique < window.sent && now_ns() < window.last_answer + plan->timeout) {
		wire_wait(&wire, 1, window.last_answer + plan->timeout);
		window_take(&window, wire, plan, false);
	}

	double rate = elapsed > 0 ? (double)window.counted / seconds(elapsed) : 0;
	uint64_t lost = window.sent - window.answers.unique;
	printf("{\"mode\": \"throughput\", \"qos\": %d, \"window\": %" PRIu64
		   ", \"seconds\": %.3f, \"sent\": %" PRIu64 ", \"answered_per_s\": %.1f, \"lost\": %" PRIu64
		   ", \"duplicated\": %" PRIu64 ", \"reordered\": %" PRIu64 ", \"stalls\": %" PRIu64
		   ", \"longest_gap_ms\": %.1f}\n",
			plan->qos, plan->window, seconds(elapsed), window.sent, rate, lost, window.answers.duplicated,
			window.answers.reordered, stalls, (double)window.longest_gap / (double)NS_PER_MS);
	if (plan->verbose) {
		fprintf(stderr, "throughput: %.0f messages a second, %" PRIu64 " lost\n", rate, lost);
	}
	sequence_free(&window.answers);
	wire_close(wire);
}

void mode_sink(const struct plan *plan)
{
	struct wire *wire = open_wire(plan, "sink", 0);
	struct wire_message message;
	struct samples samples = {0};
	struct sequence numbers = {0};
	int64_t begin = now_ns(), last = begin, next_start = begin, now = begin;
	uint64_t malformed = 0;
	bool done = false;

	wire_subscribe(wire, plan->topic, plan->qos);
	wire_await_subscribed(wire, plan->timeout);
	if (plan->done != NULL) {
		wire_subscribe(wire, plan->done, plan->qos);
		wire_await_subscribed(wire, plan->timeout);
	}
	while (!done && now < begin + plan->startup + plan->duration) {
		int64_t silence = numbers.unique == 0 ? begin + plan->startup : last + plan->timeout;
		if (now >= silence) {
			break;
		}
		if (plan->start != NULL && numbers.unique == 0 && now >= next_start) {
			wire_publish(wire, plan->start, NULL, 0, plan->qos);
			next_start = now + NS_PER_S;
		}
		wire_wait(&wire, 1, numbers.unique == 0 ? earlier(next_start + NS_PER_MS, silence) : silence);
		while (wire_take(wire, &message)) {
			int64_t stamp;
			uint64_t number;
			now = now_ns();
			if (plan->done != NULL && wire_message_is(&message, plan->done)) {
				done = true;
			} else if (!read_stamp(&message, &stamp, &number)) {
				malformed++;
			} else if (sequence_add(&numbers, number)) {
				samples_add(&samples, now - stamp);
				last = now;
			}
		}
		now = now_ns();
		done = done || (plan->done == NULL && plan->count > 0 && numbers.unique >= plan->count);
	}
	if (numbers.unique == 0) {
		die("No message with a time stamp came on %s within %.1f s.", plan->topic, seconds(now - begin));
	}

	uint64_t expected = plan->count > numbers.next ? plan->count : numbers.next;
	uint64_t missing = expected - numbers.unique;
	size_t above = samples_above(&samples, plan->limit);
	printf("{\"mode\": \"sink\", \"qos\": %d, \"ended\": %s, \"count\": %zu, \"missing\": %" PRIu64
		   ", \"duplicated\": %" PRIu64 ", \"reordered\": %" PRIu64 ", \"malformed\": %" PRIu64
		   ", \"limit_us\": %.1f, \"above_limit\": %zu, ",
			plan->qos, done ? "true" : "false", samples.count, missing, numbers.duplicated, numbers.reordered,
			malformed, (double)plan->limit / (double)NS_PER_US, above);
	samples_print(&samples, stdout);
	puts("}");
	if (plan->verbose) {
		fprintf(stderr, "sink: %zu messages, %" PRIu64 " missing, %zu above %.1f us, p50 %.1f us\n",
				samples.count, missing, above, (double)plan->limit / (double)NS_PER_US,
				samples_quantile_us(&samples, 0.5));
	}
	samples_free(&samples);
	sequence_free(&numbers);
	wire_close(wire);
}

/* What has reached the subscriber that is behind most. */
static uint64_t flood_take(struct wire *const *subscribers, uint64_t *delivered, size_t count,
		uint64_t *ret_total)
{
	struct wire_message message;
	uint64_t slowest = UINT64_MAX, total = 0;

	for (size_t i = 0; i < count; i++) {
		while (wire_take(subscribers[i], &message)) {
			delivered[i]++;
		}
		total += delivered[i];
		slowest = delivered[i] < slowest ? delivered[i] : slowest;
	}
	*ret_total = total;
	return slowest;
}

void mode_flood(const struct plan *plan)
{
	struct wire *wires[WIRES_MAX]; /* the subscribers, then the publisher */
	uint64_t delivered[WIRES_MAX] = {0};
	uint64_t sent = 0, slowest = 0, total = 0;
	size_t subscribers = plan->subscribers;
	struct wire_message message;
	char topic[512];

	snprintf(topic, sizeof(topic), "%s/#", plan->topic);
	for (size_t i = 0; i < subscribers; i++) {
		wires[i] = open_wire(plan, "flood", i);
		wire_subscribe(wires[i], topic, plan->qos);
		wire_await_subscribed(wires[i], plan->timeout);
	}
	wires[subscribers] = open_wire(plan, "flood", subscribers);

	int64_t begin = now_ns(), last = begin, now = begin;
	while (slowest < plan->count && now < last + plan->timeout && now < begin + plan->duration) {
		int64_t deadline = last + plan->timeout;
		while (sent < plan->count && sent - slowest < plan->window) {
			if (plan->rate > 0) {
				int64_t due = begin + (int64_t)((double)sent / (double)plan->rate * (double)NS_PER_S);
				if (due > now) {
					deadline = earlier(deadline, due);
					break;
				}
			}
			snprintf(topic, sizeof(topic), "%s/%zu", plan->topic, (size_t)(sent % plan->topics));
			send_message(wires[subscribers], plan, topic, MEASURED, sent);
			sent++;
		}
		wire_wait(wires, subscribers + 1, deadline);
		wire_take(wires[subscribers], &message);
		uint64_t before = total;
		slowest = flood_take(wires, delivered, subscribers, &total);
		now = now_ns();
		if (total > before || sent == slowest) {
			last = now; /* with nothing under way nobody is late */
		}
	}
	if (total == 0) {
		die("None of %" PRIu64 " messages was delivered on %s/#.", sent, plan->topic);
	}

	double elapsed = seconds(now - begin);
	uint64_t lost = sent * subscribers - total;
	printf("{\"mode\": \"flood\", \"qos\": %d, \"subscribers\": %zu, \"published\": %" PRIu64
		   ", \"delivered\": %" PRIu64 ", \"lost\": %" PRIu64
		   ", \"seconds\": %.3f, \"delivered_per_s\": %.1f}\n",
			plan->qos, subscribers, sent, total, lost, elapsed, (double)total / elapsed);
	if (plan->verbose) {
		fprintf(stderr, "flood: %.0f deliveries a second, %" PRIu64 " lost\n", (double)total / elapsed, lost);
	}
	for (size_t i = 0; i <= subscribers; i++) {
		wire_close(wires[i]);
	}
}

void mode_first(const struct plan *plan)
{
	struct wire *wire = open_wire(plan, "first", 0);
	struct wire_message message;
	int64_t deadline = now_ns() + plan->startup;

	/* Mosquitto sends retained messages before the SUBACK, so that nothing may be dropped here. */
	wire_subscribe(wire, plan->topic, plan->qos);
	while (!wire_take(wire, &message)) {
		if (!wire_wait(&wire, 1, deadline) && now_ns() >= deadline) {
			die("No message came on %s within %.1f s.", plan->topic, seconds(plan->startup));
		}
	}
	fwrite(message.payload, 1, message.length, stdout);
	putchar('\n');
	wire_close(wire);
}
