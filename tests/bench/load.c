/* Load generator: measures a broker on this machine, and who answers through it. `load --help` tells the
 * rest. */
#include "modes.h"
#include "util.h"
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static const char usage[] =
		"Usage: load MODE [options]\n"
		"Measures an MQTT broker on this machine. One JSON object on stdout; exit status 1 and a sentence on "
		"stderr\n"
		"when nobody answers.\n"
		"\n"
		"Modes:\n"
		"  roundtrip   publish to --topic, wait for the answer on --answer, pause, repeat: latency\n"
		"  throughput  keep --window messages outstanding for --seconds: answers a second, lost, doubled, "
		"reordered\n"
		"  sink        receive messages that begin with '<CLOCK_MONOTONIC ns, 20 digits> <number>': one-way "
		"latency\n"
		"  flood       publish to --topic/0..N with --subscribers on --topic/#: deliveries a second\n"
		"  first       print the payload of the first message on --topic, a retained one for instance\n"
		"  soak        publish --count messages to --topic/0..N from --publishers, each with a --window of "
		"its "
		"own; every\n"
		"              one must be answered on --answer/0..N, with its number, once and in order\n"
		"  retained    have the broker keep --count messages on --topic/0..N, publish others to "
		"--topic/live/0..99 "
		"at\n"
		"              --rate, and let a subscriber subscribe --rounds times: '<round> <qos> <count>' on "
		"--start "
		"makes it\n"
		"              subscribe to --topic/#, it says '<round>' on --done when it has all, and to '<round>' "
		"on "
		"--start it\n"
		"              says '<round> <JSON object>' on --answer\n"
		"\n"
		"Options (default):\n"
		"  --host H          localhost or 127.x.x.x; others are refused (127.0.0.1)\n"
		"  --port N          (1883)\n"
		"  --qos N           0 or 1 (soak 1, others 0)\n"
		"  --topic T         (bench/in)\n"
		"  --answer T        where the answers come; roundtrip, throughput: give --topic's to measure the "
		"broker alone\n"
		"                    (bench/out)\n"
		"  --count N         messages; 0: as --seconds allows (roundtrip 5000, flood 100000, soak "
		"1000000,\n"
		"                    retained 5000, others 0)\n"
		"  --seconds S       bound in time (throughput 5, soak 3600, others 60); of sink: from the first "
		"--startup on\n"
		"  --warm-up S       roundtrip, throughput: at the start, not counted (0.2)\n"
		"  --startup S       how long the first answer may take (15)\n"
		"  --timeout-ms N    how long any other may take (2000)\n"
		"  --pause-us N      roundtrip: longest pause, drawn evenly from 0 up (2000)\n"
		"  --seed N          of the pauses (1)\n"
		"  --window N        (throughput and soak 200, flood 1000)\n"
		"  --size N          bytes of a payload, 32-65536 (32); soak: of one in a thousand, others have "
		"fewer\n"
		"  --start T         sink: publish here until the first message comes; retained: for the commands\n"
		"  --done T          sink: a message here is the end; retained: of a round\n"
		"  --limit-us N      sink: count the latencies above (10000)\n"
		"  --subscribers N   flood: 1-255 (1)\n"
		"  --publishers N    soak: 1-256 (4)\n"
		"  --topics N        flood: how many topics to spread over (100)\n"
		"  --rate N          messages a second (flood 0: as fast as they are delivered; retained 2000)\n"
		"  --rounds N        retained (5)\n"
		"  --verbose         a line for humans on stderr\n";

static const struct {
	const char *name;
	void (*run)(const struct plan *);
	uint64_t count, seconds, window, rate;
	uint8_t qos;
} modes[] = {
	{"roundtrip", mode_roundtrip, 5000, 60, 1, 0, 0},
	{"throughput", mode_throughput, 0, 5, 200, 0, 0},
	{"sink", mode_sink, 0, 60, 1, 0, 0},
	{"flood", mode_flood, 100000, 60, 1000, 0, 0},
	{"first", mode_first, 0, 60, 1, 0, 0},
	{"soak", mode_soak, 1000000, 3600, 200, 0, 1},
	{"retained", mode_retained, 5000, 60, 1, 2000, 0},
};

static uint64_t read_number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);

	if (errno != 0 || end == text || *end != '\0' || strchr(text, '-') != NULL || value < least ||
			value > most) {
		die("--%s takes a number from %" PRIu64 " to %" PRIu64 ", not '%s'.", name, least, most, text);
	}
	return value;
}

static int64_t read_seconds(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0 && value <= 3600)) {
		die("--%s takes seconds from 0 to 3600, not '%s'.", name, text);
	}
	return (int64_t)(value * (double)NS_PER_S);
}

static const char *read_topic(const char *name, const char *text)
{
	if (text[0] == '\0' || strlen(text) > 400 || strpbrk(text, "+#") != NULL) {
		die("--%s takes a topic of 1 to 400 bytes without wildcards, not '%s'.", name, text);
	}
	return text;
}

enum {
	HOST,
	PORT,
	QOS,
	TOPIC,
	ANSWER,
	COUNT,
	SECONDS,
	WARM_UP,
	STARTUP,
	TIMEOUT,
	PAUSE,
	SEED,
	WINDOW,
	SIZE,
	START,
	DONE,
	LIMIT,
	SUBSCRIBERS,
	PUBLISHERS,
	TOPICS,
	RATE,
	ROUNDS,
	VERBOSE,
	HELP
};

static const struct option options[] = {
	{"host", required_argument, NULL, HOST},
	{"port", required_argument, NULL, PORT},
	{"qos", required_argument, NULL, QOS},
	{"topic", required_argument, NULL, TOPIC},
	{"answer", required_argument, NULL, ANSWER},
	{"count", required_argument, NULL, COUNT},
	{"seconds", required_argument, NULL, SECONDS},
	{"warm-up", required_argument, NULL, WARM_UP},
	{"startup", required_argument, NULL, STARTUP},
	{"timeout-ms", required_argument, NULL, TIMEOUT},
	{"pause-us", required_argument, NULL, PAUSE},
	{"seed", required_argument, NULL, SEED},
	{"window", required_argument, NULL, WINDOW},
	{"size", required_argument, NULL, SIZE},
	{"start", required_argument, NULL, START},
	{"done", required_argument, NULL, DONE},
	{"limit-us", required_argument, NULL, LIMIT},
	{"subscribers", required_argument, NULL, SUBSCRIBERS},
	{"publishers", required_argument, NULL, PUBLISHERS},
	{"topics", required_argument, NULL, TOPICS},
	{"rate", required_argument, NULL, RATE},
	{"rounds", required_argument, NULL, ROUNDS},
	{"verbose", no_argument, NULL, VERBOSE},
	{"help", no_argument, NULL, HELP},
	{NULL, 0, NULL, 0},
};

static void read_option(struct plan *plan, int option, const char *name, const char *text)
{
	/* clang-format off */
	switch (option) {
	case HOST: plan->host = text; break;
	case PORT: plan->port = (uint16_t)read_number(name, text, 1, UINT16_MAX); break;
	case QOS: plan->qos = (uint8_t)read_number(name, text, 0, 1); break;
	case TOPIC: plan->topic = read_topic(name, text); break;
	case ANSWER: plan->answer = read_topic(name, text); break;
	case COUNT: plan->count = read_number(name, text, 0, 100000000); break;
	case SECONDS: plan->duration = read_seconds(name, text); break;
	case WARM_UP: plan->warm_up = read_seconds(name, text); break;
	case STARTUP: plan->startup = read_seconds(name, text); break;
	case TIMEOUT: plan->timeout = (int64_t)read_number(name, text, 1, 600000) * NS_PER_MS; break;
	case PAUSE: plan->pause = (int64_t)read_number(name, text, 0, 10000000) * NS_PER_US; break;
	case SEED: plan->seed = read_number(name, text, 1, UINT32_MAX); break;
	case WINDOW: plan->window = read_number(name, text, 1, 50000); break;
	case SIZE: plan->size = (size_t)read_number(name, text, PAYLOAD_MIN, PAYLOAD_MAX); break;
	case START: plan->start = read_topic(name, text); break;
	case DONE: plan->done = read_topic(name, text); break;
	case LIMIT: plan->limit = (int64_t)read_number(name, text, 0, 60000000) * NS_PER_US; break;
	case SUBSCRIBERS: plan->subscribers = (size_t)read_number(name, text, 1, WIRES_MAX - 1); break;
	case PUBLISHERS: plan->publishers = (size_t)read_number(name, text, 1, WIRES_MAX); break;
	case TOPICS: plan->topics = (size_t)read_number(name, text, 1, 1000000); break;
	case RATE: plan->rate = read_number(name, text, 0, 10000000); break;
	case ROUNDS: plan->rounds = read_number(name, text, 1, 1000000); break;
	case VERBOSE: plan->verbose = true; break;
	case HELP: fputs(usage, stdout); exit(0);
	default: die("See load --help.");
	}
	/* clang-format on */
}

int main(int argc, char **argv)
{
	struct plan plan = {
		.host = "127.0.0.1",
		.port = 1883,
		.topic = "bench/in",
		.answer = "bench/out",
		.warm_up = NS_PER_S / 5,
		.startup = 15 * NS_PER_S,
		.timeout = 2 * NS_PER_S,
		.pause = 2 * NS_PER_MS,
		.limit = 10 * NS_PER_MS,
		.seed = 1,
		.size = PAYLOAD_MIN,
		.subscribers = 1,
		.publishers = 4,
		.topics = 100,
		.rounds = 5,
	};
	const char *name = argc > 1 ? argv[1] : "--help";
	size_t mode = 0;
	int option, index = 0;

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		fputs(usage, stdout);
		return argc > 1 ? 0 : 1;
	}
	while (strcmp(modes[mode].name, name) != 0) {
		if (++mode == sizeof(modes) / sizeof(modes[0])) {
			die("There is no mode '%s'; see load --help.", name);
		}
	}
	plan.count = modes[mode].count;
	plan.duration = (int64_t)modes[mode].seconds * NS_PER_S;
	plan.window = modes[mode].window;
	plan.rate = modes[mode].rate;
	plan.qos = modes[mode].qos;
	while ((option = getopt_long(argc - 1, argv + 1, "", options, &index)) != -1) {
		read_option(&plan, option, option == '?' ? "" : options[index].name, optarg);
	}
	if (optind < argc - 1) {
		die("'%s' is one word too many; see load --help.", argv[1 + optind]);
	}
	/* The default slack of 50 us would be added to each pause and deadline. */
	prctl(PR_SET_TIMERSLACK, 1);
	modes[mode].run(&plan);
	return fflush(stdout) == 0 ? 0 : 1;
}
