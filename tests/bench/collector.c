/* What the consumer of apps/benchapp/retained.py is compared with: the same in C, as an ordinary client on
 * libmosquitto.
 *
 * Usage: collector PORT. Runs until it is killed or the broker goes away. Topics, commands and reports are
 * the consumer's. */
#include <mosquitto.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEPT "bench/kept/"
#define LIVE "bench/kept/live/"
#define COMMAND "bench/command"
#define COUNT_MAX 1000000u

struct collector {
	unsigned int round;
	bool subscribed;
	int subscribe_id;
	uint8_t *seen;
	unsigned int count; /* how many there are to see */
	unsigned int arrived, doubled, unmarked;
	unsigned int live, live_disordered; /* the second: not above the highest number so far */
	long live_first, live_highest;
	int64_t begin, returned, last, live_longest; /* ns */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void check(const char *what, int error)
{
	if (error != MOSQ_ERR_SUCCESS) {
		fprintf(stderr, "collector: %s: %s\n", what, mosquitto_strerror(error));
		exit(1);
	}
}

static void forget(struct collector *collector, unsigned int count)
{
	free(collector->seen);
	*collector = (struct collector){.round = collector->round, .count = count};
	collector->seen = calloc(count + 1u, 1);
	check("forgetting", collector->seen == NULL ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS);
}

static void begin_round(struct mosquitto *client, struct collector *collector, unsigned int qos,
		unsigned int count)
{
	forget(collector, count);
	collector->begin = now_ns();
	check("subscribing", mosquitto_subscribe(client, &collector->subscribe_id, KEPT "#", (int)qos));
	collector->subscribed = true;
}

static void end_round(struct mosquitto *client, struct collector *collector)
{
	char report[512];
	int length;
	long missing = 0;

	if (collector->live > 0) {
		missing = collector->live_highest - collector->live_first + 1 -
				(long)(collector->live - collector->live_disordered);
	}
	if (collector->subscribed) {
		check("unsubscribing", mosquitto_unsubscribe(client, NULL, KEPT "#"));
	}
	length = snprintf(report, sizeof(report),
			"%u {\"arrived\": %u, \"doubled\": %u, \"unmarked\": %u, \"returned_ns\": %" PRId64
			", \"last_ns\": %" PRId64 ", \"live\": %u, \"live_missing\": %ld, \"live_disordered\": %u"
			", \"live_longest_ns\": %" PRId64 "}",
			collector->round, collector->arrived, collector->doubled, collector->unmarked,
			collector->returned - collector->begin,
			collector->last == 0 ? 0 : collector->last - collector->begin, collector->live, missing,
			collector->live_disordered, collector->live_longest);
	check("reporting", mosquitto_publish(client, NULL, "bench/report", length, report, 1, false));
	forget(collector, 0);
}

static void count_message(struct mosquitto *client, struct collector *collector, unsigned long number,
		bool marked)
{
	char text[16];

	if (number >= collector->count) {
		return;
	}
	if (collector->seen[number]) {
		collector->doubled++;
		return;
	}
	collector->seen[number] = 1;
	collector->arrived++;
	collector->unmarked += !marked;
	collector->last = now_ns();
	if (collector->arrived == collector->count) {
		int length = snprintf(text, sizeof(text), "%u", collector->round);
		check("publishing", mosquitto_publish(client, NULL, "bench/complete", length, text, 1, false));
	}
}

/* `<CLOCK_MONOTONIC ns, 20 digits> <number>`. */
static void count_live(struct collector *collector, char *payload)
{
	char *rest;
	int64_t late = now_ns() - strtoll(payload, &rest, 10);
	long number = strtol(rest, NULL, 10);

	if (collector->live == 0) {
		collector->live_first = number;
	} else if (number <= collector->live_highest) {
		collector->live_disordered++;
	}
	if (collector->live == 0 || number > collector->live_highest) {
		collector->live_highest = number;
	}
	collector->live++;
	collector->live_longest = late > collector->live_longest ? late : collector->live_longest;
}

static void on_connect(struct mosquitto *client, void *userdata, int code)
{
	(void)userdata;
	check("connecting", code == 0 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_CONN_REFUSED);
	check("subscribing", mosquitto_subscribe(client, NULL, COMMAND, 1));
}

static void on_subscribe(struct mosquitto *client, void *userdata, int id, int granted_count,
		const int *granted)
{
	struct collector *collector = userdata;

	(void)client, (void)granted_count, (void)granted;
	if (collector->subscribed && id == collector->subscribe_id) {
		collector->returned = now_ns();
	}
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message)
{
	struct collector *collector = userdata;
	char payload[64] = "";
	unsigned int qos, count;

	/* Command or stamp: what comes after 63 bytes is filling. */
	memcpy(payload, message->payloadlen > 0 ? message->payload : "",
			message->payloadlen < 63 ? (size_t)message->payloadlen : 63);
	if (strncmp(message->topic, LIVE, strlen(LIVE)) == 0) {
		if (collector->subscribed) {
			count_live(collector, payload);
		}
	} else if (strncmp(message->topic, KEPT, strlen(KEPT)) == 0) {
		count_message(client, collector, strtoul(message->topic + strlen(KEPT), NULL, 10), message->retain);
	} else if (sscanf(payload, "%u %u %u", &collector->round, &qos, &count) == 3) {
		begin_round(client, collector, qos, count < COUNT_MAX ? count : COUNT_MAX);
	} else {
		end_round(client, collector);
	}
}

int main(int argc, char **argv)
{
	struct collector collector = {0};
	struct mosquitto *client;

	if (argc != 2) {
		fputs("Usage: collector PORT\n", stderr);
		return 1;
	}
	mosquitto_lib_init();
	forget(&collector, 0);
	client = mosquitto_new("bench-collector", true, &collector);
	check("starting", client == NULL ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS);
	mosquitto_connect_callback_set(client, on_connect);
	mosquitto_subscribe_callback_set(client, on_subscribe);
	mosquitto_message_callback_set(client, on_message);
	mosquitto_max_inflight_messages_set(client, 0);
	mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
	check("connecting", mosquitto_connect(client, "127.0.0.1", atoi(argv[1]), 60));
	check("the loop", mosquitto_loop_forever(client, -1, 1));
	mosquitto_destroy(client);
	free(collector.seen);
	mosquitto_lib_cleanup();
	return 0;
}
