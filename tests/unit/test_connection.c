/* connection.c and what it is made of, against a broker that this program plays over a socket, byte by byte.
 * Both sides are on one thread: nothing waits but the test, for bytes that are on their way. */
#include "cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "options/options.h"
#include "scarce_memory.h"
#include "session/connection.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

#define PATIENCE_MS 60000
#define PACKETS 64

/* ---- time ---- */

static uint64_t clock_offset_ms;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	int rc = __real_clock_gettime(clock, ret_time);

	ret_time->tv_sec += (time_t)(clock_offset_ms / 1000);
	return rc;
}

/* ---- what the connection tells ---- */

static struct text told;

static void on_connected(void *userdata, const char *reason, bool session_present)
{
	(void)userdata;
	if (reason) {
		text_addf(&told, "refused: %s\n", reason);
	} else {
		text_addf(&told, "connected %d\n", session_present);
	}
}

static void on_acknowledged(void *userdata, int packet, int code)
{
	(void)userdata;
	text_addf(&told, "acknowledged %d %d\n", packet, code);
}

/* Set: messages are counted by their payload, a number, and not told. */
static unsigned char *deliveries;
static size_t deliveries_size;

static void on_message(void *userdata, const struct connection_message *message)
{
	const unsigned char *properties = message->properties;
	char digits[24] = "";
	size_t i;

	(void)userdata;
	if (deliveries) {
		assert_true(message->payload_length < sizeof(digits));
		memcpy(digits, message->payload, message->payload_length);
		i = strtoul(digits, NULL, 10);
		assert_true(i < deliveries_size);
		deliveries[i]++;
		return;
	}
	text_addf(&told, "%s %.*s qos %d", message->topic, (int)message->payload_length,
			(const char *)message->payload, message->qos);
	text_addf(&told, "%s%s", message->retain ? " retain" : "", message->is_fetched ? " fetched" : "");
	if (message->subscription) {
		text_addf(&told, " for %u", message->subscription);
	}
	for (i = 0; i < message->properties_length; i++) {
		text_addf(&told, "%s%02x", i ? "" : " with ", properties[i]);
	}
	text_addf(&told, "\n");
}

static void on_passed_over(void *userdata, const char *wrong)
{
	(void)userdata;
	text_addf(&told, "passed over: %s\n", wrong);
}

static const struct connection_events events = {on_connected, on_acknowledged, on_message, on_passed_over};

static void tells(const char *expected)
{
	assert_string_equal(told.data ? told.data : "", expected);
	text_free(&told);
}

/* ---- the broker ---- */

static struct options options;
static char path[64];
static int listening = -1, peer = -1;
static struct connection *connection;
static long blocks;

static void listen_at_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(path, sizeof(path), "/tmp/test_connection.%ld", (long)getpid());
	(void)unlink(path);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listening, 5), 0);
}

static void listen_at_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(address);

	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(listen(listening, 5), 0);
	options.port = ntohs(address.sin_port);
}

static void wait_readable(int descriptor)
{
	struct pollfd polled = {.fd = descriptor, .events = POLLIN};

	assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
}

static bool handle(void)
{
	return connection_handle(connection, PACKETS);
}

/* Reads a packet, or what else has that many bytes. The connection goes on meanwhile. */
static void broker_reads(unsigned char *bytes, size_t length)
{
	struct pollfd polled = {.fd = peer, .events = POLLIN};
	size_t at = 0;
	ssize_t count;

	while (at < length) {
		if (poll(&polled, 1, 1) > 0) {
			count = read(peer, bytes + at, length - at);
			assert_true(count > 0);
			at += (size_t)count;
		} else {
			assert_true(handle());
		}
	}
}

static void broker_gets(const char *hex)
{
	unsigned char bytes[4096];
	size_t length = strlen(hex) / 2, i;
	char got[sizeof(bytes) * 2 + 1] = "";

	broker_reads(bytes, length);
	for (i = 0; i < length; i++) {
		(void)snprintf(got + 2 * i, 3, "%02x", bytes[i]);
	}
	assert_string_equal(got, hex);
}

static void broker_gets_nothing(void)
{
	struct pollfd polled = {.fd = peer, .events = POLLIN};

	assert_true(handle());
	assert_int_equal(poll(&polled, 1, 0), 0);
}

static void broker_sends_bytes(const void *bytes, size_t length)
{
	assert_int_equal(send(peer, bytes, length, MSG_NOSIGNAL), length);
}

static size_t from_hex(const char *hex, unsigned char *bytes)
{
	size_t length = 0;
	unsigned int byte;

	for (; *hex; hex += 2) {
		while (*hex == ' ') {
			hex++;
		}
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		bytes[length++] = (unsigned char)byte;
	}
	return length;
}

static void broker_sends(const char *hex)
{
	unsigned char bytes[4096];

	broker_sends_bytes(bytes, from_hex(hex, bytes));
}

/* A PUBLISH of topic `t`. */
static void broker_publishes(uint8_t qos, uint16_t packet, bool dup, const char *payload)
{
	unsigned char bytes[64] = {(unsigned char)(0x30 | dup << 3 | qos << 1), 0, 0, 1, 't'};
	size_t at = 5;

	if (qos) {
		bytes[at++] = (unsigned char)(packet >> 8);
		bytes[at++] = (unsigned char)(packet & 0xff);
	}
	bytes[at++] = 0;
	memcpy(bytes + at, payload, strlen(payload));
	at += strlen(payload);
	bytes[1] = (unsigned char)(at - 2);
	broker_sends_bytes(bytes, at);
}

static void broker_releases(uint16_t packet)
{
	const unsigned char bytes[] = {0x62, 2, (unsigned char)(packet >> 8), (unsigned char)(packet & 0xff)};

	broker_sends_bytes(bytes, sizeof(bytes));
}

static void broker_cuts(void)
{
	if (peer >= 0) {
		(void)close(peer);
		peer = -1;
	}
}

static void broker_accepts(void)
{
	broker_cuts();
	wait_readable(listening);
	peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
}

static void begin_connection(void)
{
	assert_true(connection_connect(connection, 300));
	broker_accepts();
	broker_gets("101700044d5154540500003c081100000"
				"12c21ffff00026d65");
}

static void connect_with(const char *connack)
{
	begin_connection();
	broker_sends(connack);
	wait_readable(connection_socket(connection));
}

static void connect_again(bool session_present)
{
	size_t length;

	connect_with(session_present ? "2003010000" : "2003000000");
	assert_true(handle());
	/* What was told before stays. */
	length = strlen("connected 1\n");
	assert_true(told.length >= length);
	assert_string_equal(told.data + told.length - length,
			session_present ? "connected 1\n" : "connected 0\n");
	told.length -= length;
	told.data[told.length] = '\0';
}

/* What was sent has been dealt with: what a PUBLISH at QoS 1 shows. */
static void broker_waits(void)
{
	broker_publishes(1, 9, false, "w");
	broker_gets("40020009");
}

/* The connection has to end, with this in its reason. */
static void ends_with(const char *reason)
{
	while (handle()) {
		struct pollfd polled = {.fd = connection_socket(connection), .events = POLLIN};

		assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
	}
	if (!strstr(connection_reason(connection), reason)) {
		fail_msg("'%s' is not in '%s'", reason, connection_reason(connection));
	}
	assert_int_equal(connection_socket(connection), -1);
	assert_false(handle());
}

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	clock_offset_ms = 0;
	listen_at_path();
	options = (struct options){.host = path, .client_id = (char *)(uintptr_t)"me", .cleansession = true};
	connection = connection_new(&options, &events, NULL);
	assert_non_null(connection);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	connection_free(connection);
	connection = NULL;
	broker_cuts();
	(void)close(listening);
	(void)unlink(path);
	text_free(&told);
	free(deliveries);
	deliveries = NULL;
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

/* ---- coming and going ---- */

static void test_a_whole_life(void **state)
{
	(void)state;
	assert_int_equal(connection_socket(connection), -1);
	assert_false(connection_handle(connection, PACKETS));
	connect_again(false);
	assert_int_equal(connection_subscribe(connection, "a/#", 1, 5, true, false), 1);
	broker_gets("820b0001"
				"020b0a"
				"0003612f23"
				"01");
	broker_sends("9004 0001 00 01");
	assert_int_equal(connection_unsubscribe(connection, "a/#"), 2);
	broker_gets("a2080002"
				"00"
				"0003612f23");
	broker_sends("b004 0002 00 11");
	broker_publishes(0, 0, false, "one");
	broker_waits();
	tells("acknowledged 1 1\nacknowledged 2 17\nt one qos 0\nt w qos 1\n");
	broker_cuts();
	ends_with("the broker closed the connection");
}

static void test_user_and_password(void **state)
{
	(void)state;
	options.username = (char *)(uintptr_t)"u";
	options.password = (char *)(uintptr_t)"pw";
	assert_true(connection_connect(connection, UINT32_MAX));
	broker_accepts();
	broker_gets("101e00044d51545405c0003c0811ffffffff21ffff00026d65"
				"000175"
				"00027077");
}

/* Both kinds of retained messages, and a SUBSCRIBE that nobody can be told of. */
static void test_subscribing(void **state)
{
	char *filter = malloc(70000);

	(void)state;
	assert_int_equal(connection_subscribe(connection, "x", 0, 1, true, false), -1);
	assert_string_equal(connection_reason(connection), "there is no connection");
	connect_with("2008 00 00 05 2700000040");
	assert_true(handle());
	/* Retain Handling 2: nothing that is retained. */
	assert_int_equal(connection_subscribe(connection, "x", 2, 1, false, false), 1);
	broker_gets("82090001"
				"020b02"
				"000178"
				"22");
	/* With Retain As Published, first the retained ones. */
	assert_int_equal(connection_subscribe(connection, "x", 0, CONNECTION_SUBSCRIPTION_MAX, true, true), 3);
	broker_gets("820c0002"
				"050bffffff7f"
				"000178"
				"08"
				"820c0003"
				"050bfeffff7f"
				"000178"
				"28");
	memset(filter, 'f', 70000);
	filter[69999] = '\0';
	assert_int_equal(connection_subscribe(connection, filter, 0, 1, false, false), -1);
	assert_non_null(strstr(connection_reason(connection), "at most 64 bytes"));
	filter[64] = '\0';
	assert_int_equal(connection_unsubscribe(connection, filter), -1);
	filter[30] = '\0';
	assert_int_equal(connection_unsubscribe(connection, filter), 4);
	free(filter);
}

static void test_packet_numbers_go_round(void **state)
{
	unsigned char bytes[10];
	int i;

	(void)state;
	connect_again(false);
	for (i = 1; i <= 65535; i++) {
		assert_int_equal(connection_unsubscribe(connection, "xyz"), i);
		if (i % 1000 == 0) {
			while (connection_wants_to_write(connection)) {
				broker_reads(bytes, 10);
				assert_true(connection_handle(connection, 0));
			}
		}
	}
	assert_int_equal(connection_unsubscribe(connection, "xyz"), 1);
}

static void test_refused(void **state)
{
	static const struct {
		const char *connack, *says;
	} cases[] = {
		{"2003008700", "it refused the connection: Not authorized"},
		{"2003008600", "it refused the connection: Bad User Name or Password"},
		{"200a 00 85 07 1f0004746f6f20", "it refused the connection: Client Identifier not valid (too )"},
		{"20020001", "it refused the connection: unacceptable protocol version"},
		{"20020005", "it refused the connection: not authorized"},
		{"2003 00 ff 00", "it refused the connection: unknown reason"},
	};
	char expected[200];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		connect_with(cases[i].connack);
		assert_false(handle());
		assert_non_null(strstr(connection_reason(connection), cases[i].says));
		(void)snprintf(expected, sizeof(expected), "refused: %s\n", connection_reason(connection));
		tells(expected);
	}
}

static void test_nobody_there(void **state)
{
	(void)state;
	options.host = (char *)(uintptr_t)"/nowhere/there";
	assert_false(connection_connect(connection, 300));
	assert_string_equal(connection_reason(connection), "No such file or directory");
	options.host =
			(char *)(uintptr_t)"/a path that is far too long for a socket, which can have a hundred characters or so and "
							   "not one more than these";
	assert_false(connection_connect(connection, 300));
	assert_non_null(strstr(connection_reason(connection), "longer than a socket's can be"));
	options.host = (char *)(uintptr_t)"no-such-host.invalid";
	options.port = 1;
	assert_false(connection_connect(connection, 300));
	assert_non_null(strstr(connection_reason(connection), "the name server does not know that host: "));
}

static void test_disconnecting(void **state)
{
	unsigned char byte;

	(void)state;
	connection_disconnect(connection, true); /* there is none */
	connect_again(false);
	broker_publishes(2, 1, false, "1");
	wait_readable(connection_socket(connection));
	assert_true(handle());
	/* The acknowledgement goes, and what comes later is not acknowledged. */
	broker_publishes(2, 2, false, "2");
	(void)shutdown(peer, SHUT_WR);
	connection_disconnect(connection, true);
	assert_int_equal(connection_socket(connection), -1);
	broker_gets("50020001"
				"e007"
				"00"
				"0511"
				"00000000");
	assert_int_equal(read(peer, &byte, 1), 0);
	tells("t 1 qos 2\n");

	connect_again(true);
	(void)shutdown(peer, SHUT_WR);
	connection_disconnect(connection, false);
	broker_gets("e000");

	/* Before CONNACK there is nothing to say. */
	begin_connection();
	connection_disconnect(connection, false);
	assert_int_equal(read(peer, &byte, 1), 0);
}

static void test_the_broker_disconnects(void **state)
{
	(void)state;
	connect_again(false);
	broker_publishes(0, 0, false, "last");
	broker_sends("e001 8e");
	ends_with("the broker ended the connection: Session taken over");
	tells("t last qos 0\n");
	assert_true(connection_was_taken_over(connection));
	connect_again(false);
	assert_false(connection_was_taken_over(connection));
	broker_sends("e00a 8b 08 1f0005 6c6174 650a");
	ends_with("the broker ended the connection: Server shutting down (late\\x0a)");
	connect_again(false);
	broker_sends("e000");
	ends_with("the broker ended the connection: Success");
}

/* Why it did is read, also where something is to be written before that. */
static void test_the_broker_closes_while_something_is_written(void **state)
{
	(void)state;
	connect_again(false);
	assert_int_equal(connection_subscribe(connection, "x", 0, 1, false, false), 1);
	assert_true(connection_handle(connection, 0));
	broker_publishes(0, 0, false, "last");
	broker_sends("e001 8e");
	broker_cuts(); /* with what it has not read */
	assert_int_equal(connection_subscribe(connection, "y", 0, 1, false, false), 2);
	assert_true(connection_handle(connection, 0));
	ends_with("the broker ended the connection: Session taken over");
	tells("t last qos 0\n");
}

/* ---- messages ---- */

static void test_what_a_message_brings(void **state)
{
	(void)state;
	connect_again(false);
	broker_sends("3107 000378 2f79 00 61");   /* RETAIN */
	broker_sends("3108 000178 02 0b06 6869"); /* for subscription 3 */
	broker_sends("3108 000178 02 0b07 6869"); /* the same, fetched */
	broker_sends("3008 000178 02 0b07 6869"); /* live */
	/* What consumers get of the properties, without the identifiers between them. */
	broker_sends("301e 000178 19 0b02 0101 0200000e10 0b8001 03000174 26000161 000162 0b04 21");
	broker_waits();
	tells("x/y a qos 0 retain\n"
		  "x hi qos 0 retain for 3\n"
		  "x hi qos 0 retain fetched for 3\n"
		  "x hi qos 0 for 3\n"
		  "x ! qos 0 for 1 with 01010200000e100300017426000161000162\n"
		  "t w qos 1\n");
}

/* However what comes is cut up. */
static void test_byte_by_byte(void **state)
{
	unsigned char bytes[256];
	size_t length = from_hex(
				   "3207 0001 74 0001 00 61  9004 0001 00 02  3407 0001 74 0002 00 62  6202 0002  d000"
				   " 301e 000178 19 0b02 0101 0200000e10 0b8001 03000174 26000161 000162 0b04 21",
				   bytes),
		   step, i;

	(void)state;
	for (step = 1; step <= length; step++) {
		connect_again(false);
		for (i = 0; i < length; i += step) {
			broker_sends_bytes(bytes + i, length - i < step ? length - i : step);
			wait_readable(connection_socket(connection));
			assert_true(handle());
		}
		broker_gets("40020001"
					"50020002"
					"70020002");
		tells("t a qos 1\nacknowledged 1 2\nt b qos 2\n"
			  "x ! qos 0 for 1 with 01010200000e100300017426000161000162\n");
	}
}

static void test_a_large_message(void **state)
{
	enum { SIZE = 3000000 };
	unsigned char head[] = {0x30, 0, 0, 0, 0, 0, 1, 't', 0};
	char *payload = malloc(SIZE);
	uint32_t length = SIZE + 4;
	size_t at = 0, i;
	ssize_t count;

	(void)state;
	connect_again(false);
	for (i = 1; i < 5; i++) {
		head[i] = (unsigned char)((length >> (7 * (i - 1)) & 0x7f) | (i < 4 ? 0x80 : 0));
	}
	memset(payload, 'x', SIZE);
	broker_sends_bytes(head, sizeof(head));
	while (at < SIZE) {
		count = send(peer, payload + at, SIZE - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		at += count > 0 ? (size_t)count : 0;
		assert_true(handle());
	}
	broker_waits();
	assert_int_equal(told.length, SIZE + strlen("t  qos 0\nt w qos 1\n"));
	free(payload);
}

/* A limit that leaves packets behind, of which poll() does not know. */
static void test_a_limit(void **state)
{
	int i;

	(void)state;
	connect_again(false);
	for (i = 0; i < 5; i++) {
		broker_publishes(0, 0, false, i < 4 ? "x" : "y");
	}
	wait_readable(connection_socket(connection));
	assert_false(connection_has_more(connection));
	assert_true(connection_handle(connection, 0));
	tells("");
	assert_true(connection_handle(connection, 2));
	tells("t x qos 0\nt x qos 0\n");
	assert_true(connection_has_more(connection));
	assert_true(connection_handle(connection, 2));
	assert_true(connection_handle(connection, 2));
	assert_false(connection_has_more(connection));
	tells("t x qos 0\nt x qos 0\nt y qos 0\n");
}

/* ---- what is not MQTT ---- */

/* A broker that lets it through sends it again until it is acknowledged. */
static void test_messages_that_are_passed_over(void **state)
{
	static const struct {
		const char *bytes, *says;
	} cases[] = {
		{"3004 0005 7441", "a PUBLISH without its topic"},
		{"3003 0000 00", "a PUBLISH whose topic is none"},
		{"3004 0001 00 00", "a PUBLISH whose topic is none"},       /* NUL */
		{"3004 0001 2b 00", "a PUBLISH whose topic is none"},       /* + */
		{"3004 0001 23 00", "a PUBLISH whose topic is none"},       /* # */
		{"3005 0002 c080 00", "a PUBLISH whose topic is none"},     /* longer than need be */
		{"3006 0003 eda080 00", "a PUBLISH whose topic is none"},   /* half a pair */
		{"3005 0002 c374 00", "a PUBLISH whose topic is none"},     /* cut short */
		{"3007 0004 f4908080 00", "a PUBLISH whose topic is none"}, /* beyond the last */
		{"3004 0001 ff 00", "a PUBLISH whose topic is none"},
		{"3004 0001 e2 00", "a PUBLISH whose topic is none"},
		{"3003 0001 74", "a property that is none"},
		{"3004 0001 74 05", "a property that is none"},
		{"3006 0001 74 02 0b00", "a property that is none"},      /* no such identifier */
		{"3008 0001 74 04 01010101", "a property that is none"},  /* twice */
		{"3007 0001 74 03 230001", "a property that is none"},    /* a topic alias */
		{"3008 0001 74 04 0300ff 61", "a property that is none"}, /* longer than they are */
		{"3008 0001 74 04 03000100", "a property that is none"},  /* NUL */
		{"3007 0001 74 03 26 0000", "a property that is none"},
		{"3006 0001 74 02 7f00", "a property that is none"},
		{"3006 0001 74 02 1f00", "a property that is none"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		connect_again(false);
		broker_sends(cases[i].bytes);
		broker_publishes(0, 0, false, "x");
		broker_waits();
		assert_non_null(strstr(told.data, cases[i].says));
		assert_non_null(strstr(told.data, "\nt x qos 0\n"));
		text_free(&told);
	}
	connect_again(false);
	broker_sends("3208 0001 74 0007 02 7f00");
	broker_gets("40020007");
	tells("passed over: a PUBLISH with a property that is none\n");
	/* Again, and released. */
	broker_sends("3408 0001 74 0008 02 7f00");
	broker_gets("50020008");
	broker_sends("3c08 0001 74 0008 02 7f00");
	broker_gets("50020008");
	broker_sends("6202 0008");
	broker_gets("70020008");
	tells("passed over: a PUBLISH with a property that is none\n");
}

/* Mosquitto 2.0 lets it through, whatever MQTT 5, 3.3.2.3.2, says. */
static void test_a_payload_format_that_is_none(void **state)
{
	(void)state;
	connect_again(false);
	broker_sends("3006 0001 74 02 0102");
	broker_waits();
	tells("t  qos 0 with 0102\nt w qos 1\n");
}

static void test_malformed(void **state)
{
	static const struct {
		const char *bytes, *says;
	} cases[] = {
		{"30ffffffff7f", "a packet whose length is none"},
		{"3600", "QoS 3"},
		{"3206 0001 74 0000 00", "packet identifier"},
		{"3204 0001 74 00", "packet identifier"},
		{"6002 0001", "flags"},
		{"6202 0000", "packet identifier"},
		{"6201 00", "packet identifier"},
		{"6204 0001 92 05", "properties that do not end"},
		{"6205 0001 92 00 00", "longer than what is in it"},
		{"9003 0001 00", "without a reason code"},
		{"9000", "packet identifier"},
		{"9104 0001 00 00", "flags"},
		{"b002 0001", "properties that do not end"},
		{"d001 00", "PINGRESP"},
		{"d100", "PINGRESP"},
		{"e002 00 01", "properties that do not end"},
		{"4002 0001", "nobody asked for"},
		{"5002 0001", "nobody asked for"},
		{"7002 0001", "nobody asked for"},
		{"2003000000", "nobody asked for"},
		{"1000", "nobody asked for"},
		{"8200", "nobody asked for"},
		{"c000", "nobody asked for"},
		{"f000", "nobody asked for"},
		{"0000", "nobody asked for"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		connect_again(false);
		broker_sends(cases[i].bytes);
		ends_with(cases[i].says);
		assert_non_null(strstr(connection_reason(connection), "it sent what MQTT 5 does not allow: "));
		tells("");
		broker_reads((unsigned char[3]){0}, 3); /* DISCONNECT with a reason */
	}
}

static void test_no_connack(void **state)
{
	static const char *const cases[] = {"2000", "2002 0000", "2003 020000", "2103 000000", "2003 000100",
		"2003 018700", "2004 0000 ffff", "2003 0000 01", "2006 0000 02 2400 00", "2006 0000 03 13003c",
		"2007 0000 04 13003c 2100", "3006 000178 00 6869", "5353482d322e30", "d000", "20ffffffff",
		"485454502f312e31"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin_connection();
		broker_sends(cases[i]);
		(void)shutdown(peer, SHUT_WR);
		if (i == 9) { /* that is one */
			wait_readable(connection_socket(connection));
			ends_with("the broker closed");
			text_free(&told);
			continue;
		}
		while (handle()) {
			wait_readable(connection_socket(connection));
		}
		assert_true(strstr(connection_reason(connection), "as MQTT 5 wants") ||
				strstr(connection_reason(connection), "the broker closed"));
		tells("");
	}
}

/* ---- QoS 2 ---- */

static void test_qos_2(void **state)
{
	(void)state;
	connect_again(false);
	broker_publishes(2, 7, false, "a");
	broker_gets("50020007");
	broker_publishes(2, 7, true, "a"); /* the same once more */
	broker_gets("50020007");
	broker_releases(7);
	broker_gets("70020007");
	broker_releases(7); /* again, or of nothing */
	broker_gets("7003000792");
	broker_publishes(2, 7, true, "b"); /* a DUP of which the first try got lost */
	broker_gets("50020007");
	broker_publishes(2, 7, false, "c"); /* a new message (MQTT 5, 3.3.1.1), whatever became of the other */
	broker_gets("50020007");
	broker_sends("6203 0007 92"); /* the broker does not know it any more */
	broker_gets("70020007");
	/* In order with what comes at other QoS. */
	broker_publishes(0, 0, false, "d");
	broker_publishes(2, 8, false, "e");
	broker_publishes(1, 9, false, "f");
	broker_gets("50020008"
				"40020009");
	tells("t a qos 2\nt b qos 2\nt c qos 2\nt d qos 0\nt e qos 2\nt f qos 1\n");
}

/* The connection breaks after each packet of a delivery. */
static void test_qos_2_over_connections(void **state)
{
	(void)state;
	connect_again(false);
	broker_publishes(2, 1, false, "1"); /* its PUBREC gets lost */
	broker_publishes(2, 2, false, "2");
	broker_publishes(2, 3, false, "3");
	broker_gets("50020001"
				"50020002"
				"50020003");
	broker_releases(3); /* and this one's PUBCOMP */
	broker_gets("70020003");
	connect_again(true);
	broker_publishes(2, 1, true, "1");
	broker_releases(2);
	broker_releases(3);
	broker_publishes(2, 4, false, "4");
	broker_gets("50020001"
				"70020002"
				"7003000392"
				"50020004");
	connection_caught_up(connection);
	broker_releases(1);
	broker_gets("70020001");
	tells("t 1 qos 2\nt 2 qos 2\nt 3 qos 2\nt 4 qos 2\n");

	/* Without the session, it is forgotten on both sides. */
	connect_again(false);
	broker_publishes(2, 4, true, "new 4");
	broker_gets("50020004");
	tells("t new 4 qos 2\n");
	connect_again(true);
	broker_publishes(2, 4, true, "new 4");
	broker_gets("50020004");
	tells("");
}

/* The broker gave a message up (it was valid for a while only). What has its number later is another one,
 * even if the first try of that gets lost. */
static void test_qos_2_given_up(void **state)
{
	(void)state;
	connect_again(false);
	broker_publishes(2, 1, false, "old");
	broker_publishes(2, 2, false, "kept");
	broker_gets("50020001"
				"50020002");
	connect_again(true);
	broker_publishes(2, 2, true, "kept");
	broker_publishes(2, 3, false, "newer");
	broker_gets("50020002"
				"50020003");
	connection_caught_up(connection);
	connect_again(true);
	broker_publishes(2, 2, true, "kept");
	broker_publishes(2, 3, true, "newer");
	broker_publishes(2, 1, true, "new");
	broker_gets("50020002"
				"50020003"
				"50020001");
	tells("t old qos 2\nt kept qos 2\nt newer qos 2\nt new qos 2\n");
}

/* A broker as Mosquitto is one: what is in flight is sent again in its order, with DUP, or as PUBREL. It
 * loses each connection at any byte, on either side. */
struct in_flight {
	unsigned int number;
	uint16_t packet;
	bool sent, received, released;
};

struct broker {
	struct in_flight in_flight[32];
	size_t count;
	unsigned int next_number;
	uint16_t last_packet, packets; /* numbers go from 1 to packets */
	unsigned char partial[8];
	size_t partial_length;
};

static uint32_t random_state = 1;

static uint32_t dice(uint32_t sides)
{
	random_state = random_state * 1664525U + 1013904223U;
	return (random_state >> 8) % sides;
}

/* What a connection that breaks takes with it: the end of what was sent, at any byte. */
static void transmit(const unsigned char *bytes, size_t length, bool *breaks)
{
	if (*breaks) {
		return;
	}
	if (dice(200) == 0) {
		*breaks = true;
		length = dice((uint32_t)length);
	}
	broker_sends_bytes(bytes, length);
}

static void send_message(struct in_flight *message, bool *breaks)
{
	unsigned char bytes[64];
	size_t at = 0, digits;

	if (message->received) {
		const unsigned char pubrel[] = {
			0x62, 2, (unsigned char)(message->packet >> 8), (unsigned char)message->packet};

		transmit(pubrel, sizeof(pubrel), breaks);
		return;
	}
	bytes[at++] = (unsigned char)(0x34 | message->sent << 3);
	bytes[at++] = 0;
	bytes[at++] = 0;
	bytes[at++] = 1;
	bytes[at++] = 't';
	bytes[at++] = (unsigned char)(message->packet >> 8);
	bytes[at++] = (unsigned char)message->packet;
	bytes[at++] = 0;
	digits = (size_t)snprintf((char *)bytes + at, sizeof(bytes) - at, "%u", message->number);
	bytes[1] = (unsigned char)(at + digits - 2);
	transmit(bytes, at + digits, breaks);
	message->sent = true; /* so Mosquitto thinks as soon as it has put it into its own buffer */
}

static void forget_in_flight(struct broker *broker, size_t i)
{
	broker->count--;
	memmove(&broker->in_flight[i], &broker->in_flight[i + 1],
			(broker->count - i) * sizeof(broker->in_flight[0]));
}

static void take_answer(struct broker *broker, const unsigned char *bytes, bool *breaks)
{
	uint16_t packet = (uint16_t)(bytes[2] << 8 | bytes[3]);
	size_t i;

	for (i = 0; i < broker->count && broker->in_flight[i].packet != packet; i++) {
	}
	if (bytes[0] == 0x50) {
		assert_true(i < broker->count);
		broker->in_flight[i].received = true;
		send_message(&broker->in_flight[i], breaks);
	} else {
		assert_int_equal(bytes[0], 0x70);
		assert_true(i < broker->count);
		forget_in_flight(broker, i);
	}
}

static void read_answers(struct broker *broker, bool *breaks)
{
	size_t size = 2;
	ssize_t count;

	while (!*breaks &&
			(count = recv(peer, broker->partial + broker->partial_length, size - broker->partial_length,
					 MSG_DONTWAIT)) > 0) {
		broker->partial_length += (size_t)count;
		size = broker->partial_length < 2 ? 2 : 2U + broker->partial[1];
		if (broker->partial_length == size) {
			broker->partial_length = 0;
			size = 2;
			take_answer(broker, broker->partial, breaks);
		}
		*breaks = *breaks || dice(500) == 0;
	}
}

static void send_new(struct broker *broker, bool *breaks)
{
	struct in_flight *message = &broker->in_flight[broker->count];
	size_t i;

	if (broker->count == sizeof(broker->in_flight) / sizeof(broker->in_flight[0])) {
		return;
	}
	do {
		broker->last_packet = (uint16_t)(broker->last_packet % broker->packets + 1);
		for (i = 0; i < broker->count && broker->in_flight[i].packet != broker->last_packet; i++) {
		}
	} while (i < broker->count);
	*message = (struct in_flight){.number = broker->next_number++, .packet = broker->last_packet};
	broker->count++;
	send_message(message, breaks);
}

static void reconnect(struct broker *broker, bool *breaks)
{
	size_t i;

	while (handle()) {
		wait_readable(connection_socket(connection));
	}
	broker->partial_length = 0;
	*breaks = false;
	connect_again(true);
	for (i = 0; i < broker->count; i++) {
		send_message(&broker->in_flight[i], breaks);
	}
}

static void play(struct broker *broker, unsigned int count)
{
	bool breaks = false;
	unsigned int cuts = 0;

	while (broker->next_number < count || broker->count > 0) {
		if (broker->next_number < count && dice(2)) {
			send_new(broker, &breaks);
		}
		if (!breaks && dice(3) == 0) {
			assert_true(connection_handle(connection, dice(4)));
		}
		if (broker->next_number == count || dice(3) == 0) {
			read_answers(broker, &breaks);
			if (!breaks) {
				(void)!handle();
			}
		}
		if (breaks) {
			cuts++;
			broker_cuts();
			reconnect(broker, &breaks);
		}
	}
	assert_true(cuts > 10);
}

static void exactly_once(uint16_t packets, unsigned int count)
{
	struct broker broker = {.packets = packets};
	unsigned int i;

	deliveries = calloc(count, 1);
	deliveries_size = count;
	connect_again(false);
	play(&broker, count);
	for (i = 0; i < count; i++) {
		if (deliveries[i] != 1) {
			fail_msg("message %u came %d times", i, deliveries[i]);
		}
	}
}

/* Numbers that are used again at once. */
static void test_exactly_once(void **state)
{
	unsigned int seed;

	for (seed = 1; seed <= 20; seed++) {
		random_state = seed;
		exactly_once(33, 2000);
		tear_down(state);
		set_up(state);
	}
}

static void test_exactly_once_three_times_round(void **state)
{
	(void)state;
	random_state = 77;
	exactly_once(65535, 3 * 65535 + 100);
}

/* ---- keep alive ---- */

static void test_pings(void **state)
{
	(void)state;
	connect_again(false);
	clock_offset_ms += 29000;
	broker_gets_nothing();
	clock_offset_ms += 2000;
	broker_gets("c000");
	broker_sends("d000");
	/* Also while nobody reads, for as long as it takes, answered or not. */
	do {
		clock_offset_ms += 31000;
		broker_publishes(0, 0, false, "waits");
		assert_true(connection_handle(connection, 0));
		broker_gets("c000");
	} while (clock_offset_ms < 400000);
	text_free(&told);
	assert_true(handle());
	assert_non_null(strstr(told.data, "t waits qos 0\n"));
	text_free(&told);
	/* The answers that were not read are no reason to give up, the one that does not come is. */
	clock_offset_ms += 31000;
	broker_gets("c000");
	clock_offset_ms += 31000;
	assert_true(handle());
	clock_offset_ms += 31000;
	ends_with("it does not answer any more");
}

static void test_the_broker_wants_pings_more_often(void **state)
{
	(void)state;
	connect_with("2006 0000 03 13000a");
	assert_true(handle());
	clock_offset_ms += 4000;
	broker_gets_nothing();
	clock_offset_ms += 2000;
	broker_gets("c000");
}

/* ---- acknowledgements that nobody reads ---- */

static void test_a_broker_that_does_not_read(void **state)
{
	enum { COUNT = 200000 };
	unsigned char bytes[4];
	int sent = 0, i;

	(void)state;
	deliveries = calloc(2, 1);
	deliveries_size = 2;
	connect_again(false);
	/* Until nothing goes through any more. */
	for (i = 0; i < COUNT && sent < COUNT; i++) {
		static const unsigned char publish[] = {0x32, 7, 0, 1, 't', 0, 1, 0, '1'};

		while (sent < COUNT && send(peer, publish, sizeof(publish), MSG_DONTWAIT) == sizeof(publish)) {
			sent++;
		}
		assert_true(handle());
		if (connection_wants_to_write(connection) && !connection_has_more(connection) && i > COUNT / 2) {
			break;
		}
	}
	assert_true(connection_wants_to_write(connection));
	assert_in_range(scarce_memory_blocks() - blocks, 1, 10);
	/* And it goes on when the broker reads. */
	for (i = 0; i < sent; i++) {
		broker_reads(bytes, 4);
		assert_int_equal(bytes[0], 0x40);
	}
}

/* ---- no memory ---- */

static void use_everything(void)
{
	struct pollfd polled = {.fd = listening, .events = POLLIN};

	if (!connection_connect(connection, 300)) {
		/* It may have come as far as the broker. */
		if (poll(&polled, 1, 0) > 0) {
			broker_accepts();
		}
		return;
	}
	broker_accepts();
	while (connection_wants_to_write(connection) && handle()) {
	}
	(void)!send(peer,
			"\x20\x03\0\0\0\x34\x07\0\1t\0\1\0"
			"1",
			14, MSG_NOSIGNAL);
	if (connection_handle(connection, PACKETS)) {
		(void)!connection_subscribe(connection, "x", 1, 1, true, true);
		(void)!connection_unsubscribe(connection, "x");
		(void)!send(peer, "\xe0\1\x8e", 3, MSG_NOSIGNAL);
		while (handle()) {
		}
	}
	connection_disconnect(connection, false);
}

static void test_no_memory(void **state)
{
	bool failed = true;
	unsigned long n;

	(void)state;
	for (n = 1; failed; n++) {
		struct connection *none;

		scarce_memory(n, false);
		none = connection_new(&options, &events, NULL);
		failed = scarce_memory_end();
		assert_int_equal(none == NULL, failed);
		connection_free(none);
	}
	deliveries = calloc(2, 1); /* nothing is told, which would take memory, too */
	deliveries_size = 2;
	failed = true;
	for (n = 1; failed; n++) {
		deliveries[1] = 0;
		scarce_memory(n, false);
		use_everything();
		failed = scarce_memory_end();
		text_free(&told);
		broker_cuts();
	}
	assert_int_equal(deliveries[1], 1);
	/* Whatever failed, the next one works. */
	connect_again(false);
}

/* ---- websockets ---- */

/* Reads the request and returns the key, for which the answer of RFC 6455 is made elsewhere. */
static void broker_reads_request(char *request, size_t size)
{
	size_t at = 0;

	while (at < 4 || memcmp(request + at - 4, "\r\n\r\n", 4) != 0) {
		assert_true(at + 1 < size);
		broker_reads((unsigned char *)request + at++, 1);
	}
	request[at] = '\0';
}

static void begin_websocket(char *request, size_t size)
{
	assert_true(connection_connect(connection, 300));
	broker_accepts();
	broker_reads_request(request, size);
}

/* The connection's bytes without their frames, each at most 125 bytes long. */
static void broker_gets_framed(const char *hex)
{
	unsigned char head[6], bytes[125];
	char got[251] = "";
	size_t i;

	broker_reads(head, 6);
	assert_int_equal(head[0], 0x82);
	assert_true(head[1] & 0x80);
	broker_reads(bytes, head[1] & 0x7f);
	for (i = 0; i < (head[1] & 0x7f); i++) {
		(void)snprintf(got + 2 * i, 3, "%02x", bytes[i] ^ head[2 + i % 4]);
	}
	assert_string_equal(got, hex);
}

static void use_websockets(void)
{
	(void)close(listening);
	listen_at_port();
	options.host = (char *)(uintptr_t)"localhost";
	options.transport = OPTIONS_TRANSPORT_WEBSOCKETS;
}

#include <openssl/evp.h>

static void broker_upgrades(const char *request, const char *protocol)
{
	char both[128], answer[300], accept[32];
	const char *key = strstr(request, "Sec-WebSocket-Key: ");
	unsigned char digest[EVP_MAX_MD_SIZE];

	assert_non_null(key);
	(void)snprintf(both, sizeof(both), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
	assert_int_equal(EVP_Digest(both, strlen(both), digest, NULL, EVP_sha1(), NULL), 1);
	(void)EVP_EncodeBlock((unsigned char *)accept, digest, 20);
	(void)snprintf(answer, sizeof(answer),
			"HTTP/1.1 101 Switching Protocols\r\nserver: x\r\nUPGRADE: WebSocket\r\nConnection: upgrade\r\n"
			"Sec-WebSocket-Protocol:%s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			protocol, accept);
	broker_sends_bytes(answer, strlen(answer));
}

static void test_websockets(void **state)
{
	char request[1000];

	(void)state;
	use_websockets();
	begin_websocket(request, sizeof(request));
	assert_non_null(strstr(request, "GET /mqtt HTTP/1.1\r\nHost: localhost:"));
	assert_non_null(strstr(request, "\r\nSec-WebSocket-Protocol: mqtt\r\n"));
	broker_upgrades(request, " mqtt ");
	broker_gets_framed("101700044d5154540500003c08110000012c21ffff00026d65");
	broker_sends("8205 2003000000");
	/* A packet in three frames, with a PING between them, and two packets in one. */
	broker_sends("0204 32070001  8904 70696e67  0003 740001  8002 0061");
	broker_sends("827e0012 3207000174000200 62 3207000174000300 63");
	{
		unsigned char pong[10];
		size_t i;

		broker_reads(pong, 10);
		assert_int_equal(pong[0], 0x8a);
		for (i = 0; i < 4; i++) {
			assert_int_equal(pong[6 + i] ^ pong[2 + i], "ping"[i]);
		}
	}
	broker_gets_framed("400200014002000240020003");
	tells("connected 0\nt a qos 1\nt b qos 1\nt c qos 1\n");
	broker_sends("8802 03e9");
	ends_with("the broker closed the websocket (code 1001)");
}

/* Nothing of MQTT's is sent meanwhile. */
static void test_pings_of_websockets_do_not_pile_up(void **state)
{
	enum { PINGS = 64 };
	unsigned char pings[PINGS * 6], pongs[PINGS * 10];
	unsigned long allocations = 0;
	char request[1000];
	int i;

	(void)state;
	use_websockets();
	begin_websocket(request, sizeof(request));
	broker_upgrades(request, "mqtt");
	broker_gets_framed("101700044d5154540500003c08110000012c21ffff00026d65");
	broker_sends("8205 2003000000");
	for (i = 0; i < PINGS; i++) {
		memcpy(pings + i * 6, "\x89\x04ping", 6);
	}
	for (i = 0; i < 200; i++) {
		broker_sends_bytes(pings, sizeof(pings));
		wait_readable(connection_socket(connection));
		broker_reads(pongs, sizeof(pongs));
		if (i == 10) {
			allocations = scarce_memory_allocations();
		}
	}
	assert_int_equal(scarce_memory_allocations(), allocations);
	tells("connected 0\n");
}

static void test_websockets_that_are_none(void **state)
{
	static const struct {
		const char *answer, *says;
	} cases[] = {
		{"HTTP/1.1 404 Not\x01 Found\r\nContent-Length: 0\r\n\r\n",
			"it does not speak websockets, it answers 'HTTP/1.1 404 Not? Found'"},
		{"\x20\x03\x00\x84\x00xxx", "handshake is none"},
		{"SSH-2.0-OpenSSH\r\n", "it does not speak websockets"},
		{"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: nonsense\r\n\r\n",
			"handshake is wrong"},
	};
	static const char *const frames[] = {"c200", "8280 00000000", "8100", "8300", "0900", "897e0080", "8b00",
		"8000", "827fffffffffffffffff", "0200 8200"};
	char request[1000], *endless;
	size_t i;

	(void)state;
	use_websockets();
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin_websocket(request, sizeof(request));
		broker_sends_bytes(cases[i].answer, i == 1 ? 8 : strlen(cases[i].answer));
		ends_with(cases[i].says);
	}
	begin_websocket(request, sizeof(request));
	broker_upgrades(request, "amqp");
	ends_with("not MQTT over them");
	begin_websocket(request, sizeof(request));
	endless = malloc(20000);
	memset(endless, 'x', 20000);
	memcpy(endless, "HTTP/1.1 101 ", 13);
	broker_sends_bytes(endless, 20000);
	free(endless);
	ends_with("handshake is none");
	for (i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		begin_websocket(request, sizeof(request));
		broker_upgrades(request, "mqtt");
		broker_gets_framed("101700044d5154540500003c08110000012c21ffff00026d65");
		broker_sends(frames[i]);
		ends_with("a websocket");
	}
	tells("");
}

static void test_websockets_with_much_to_write(void **state)
{
	char request[1000], *filter = malloc(50001);
	unsigned char head[8], bytes[16384];
	size_t left;

	(void)state;
	use_websockets();
	begin_websocket(request, sizeof(request));
	broker_upgrades(request, "mqtt");
	broker_gets_framed("101700044d5154540500003c08110000012c21ffff00026d65");
	broker_sends("8205 2003000000");
	wait_readable(connection_socket(connection));
	assert_true(handle());
	memset(filter, 'f', 50000);
	filter[50000] = '\0';
	assert_int_equal(connection_subscribe(connection, filter, 0, 1, false, false), 1);
	for (left = 50000 + 2 + 3 + 1 + 2 + 4; left > 0;) {
		size_t size;

		broker_reads(head, 8);
		assert_int_equal(head[0], 0x82);
		assert_int_equal(head[1], 0x80 | 126);
		size = (size_t)head[2] << 8 | head[3];
		assert_in_range(size, 126, 16384);
		broker_reads(bytes, size);
		left -= size;
	}
	free(filter);
}

/* ---- TCP ---- */

/* A name with several addresses, of which the first ones refuse. */
static void test_tcp_by_name(void **state)
{
	(void)state;
	(void)close(listening);
	listen_at_port();
	options.host = (char *)(uintptr_t)"localhost";
	assert_true(connection_connect(connection, 300));
	broker_accepts();
	broker_gets("101700044d5154540500003c08110000012c21ffff00026d65");
	broker_sends("2003000000");
	broker_waits();
	tells("connected 0\nt w qos 1\n");
	(void)close(listening);
	broker_cuts();
	ends_with("");
	if (connection_connect(connection, 300)) {
		ends_with("Connection refused");
	} else {
		assert_string_equal(connection_reason(connection), "Connection refused");
	}
	listen_at_path();
}

#define connection_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		connection_test(test_a_whole_life),
		connection_test(test_user_and_password),
		connection_test(test_subscribing),
		connection_test(test_packet_numbers_go_round),
		connection_test(test_refused),
		connection_test(test_nobody_there),
		connection_test(test_disconnecting),
		connection_test(test_the_broker_disconnects),
		connection_test(test_the_broker_closes_while_something_is_written),
		connection_test(test_what_a_message_brings),
		connection_test(test_byte_by_byte),
		connection_test(test_a_large_message),
		connection_test(test_a_limit),
		connection_test(test_messages_that_are_passed_over),
		connection_test(test_a_payload_format_that_is_none),
		connection_test(test_malformed),
		connection_test(test_no_connack),
		connection_test(test_qos_2),
		connection_test(test_qos_2_over_connections),
		connection_test(test_qos_2_given_up),
		connection_test(test_exactly_once),
		connection_test(test_exactly_once_three_times_round),
		connection_test(test_pings),
		connection_test(test_the_broker_wants_pings_more_often),
		connection_test(test_a_broker_that_does_not_read),
		connection_test(test_no_memory),
		connection_test(test_websockets),
		connection_test(test_pings_of_websockets_do_not_pile_up),
		connection_test(test_websockets_that_are_none),
		connection_test(test_websockets_with_much_to_write),
		connection_test(test_tcp_by_name),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
