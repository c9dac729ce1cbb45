/* clients.c between the stub of Mosquitto, whose connections the test makes, and the consumers it speaks
 * for. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "broker/clients.h"
#include "scarce_memory.h"
#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/queue.h"
#include "stub_broker.h"

/* ---- time ---- */

static time_t now = 1700000000;

time_t __wrap_time(time_t *ret_time);

time_t __wrap_time(time_t *ret_time)
{
	if (ret_time) {
		*ret_time = now;
	}
	return now;
}

/* ---- connections ---- */

#define SESSION "the-session"

static struct clients *clients;
static long blocks;
static X509 *certificate; /* valid for a hundred seconds before and after the beginning */
static struct stub_client a, b;

static void make_certificate(void)
{
	static const unsigned char secret[32] = "any 32 bytes are a key";
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof secret);
	X509_NAME *name = X509_NAME_new();

	certificate = X509_new();
	assert_non_null(certificate);
	assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sensor", -1,
							 -1, 0),
			1);
	assert_int_equal(X509_set_subject_name(certificate, name), 1);
	assert_int_equal(X509_set_issuer_name(certificate, name), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1), 1);
	assert_non_null(ASN1_TIME_set(X509_getm_notBefore(certificate), now - 100));
	assert_non_null(ASN1_TIME_set(X509_getm_notAfter(certificate), now + 100));
	assert_int_equal(X509_set_pubkey(certificate, key), 1);
	assert_true(X509_sign(certificate, key, NULL) > 0);
	X509_NAME_free(name);
	EVP_PKEY_free(key);
}

static struct stub_client make_client(const char *id)
{
	return (struct stub_client){.mark = STUB_CLIENT_MARK,
		.id = id,
		.username = "user",
		.address = "192.0.2.1",
		.protocol_version = 5,
		.clean_session = true};
}

static const struct mosquitto *of(const struct stub_client *client)
{
	return (const struct mosquitto *)client;
}

static void begin(bool tells_connects)
{
	blocks = scarce_memory_blocks();
	a = make_client("a");
	b = make_client("b");
	clients = clients_new(tells_connects, SESSION);
	assert_non_null(clients);
}

static int set_up(void **state)
{
	(void)state;
	begin(true);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clients_free(clients);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static void use(bool tells_connects)
{
	tear_down(NULL);
	begin(tells_connects);
}

static void watch(uint64_t consumer)
{
	assert_int_equal(clients_watch(clients, consumer), MOSQ_ERR_SUCCESS);
}

static void logs_in(const struct stub_client *client)
{
	clients_logs_in(clients, of(client));
}

static void connects(const struct stub_client *client)
{
	clients_connected(clients, of(client));
}

static void is_gone(const struct stub_client *client)
{
	clients_disconnected(clients, of(client), 4, MESSAGE_FATE_ENDS);
}

static void publishes(const struct stub_client *client)
{
	struct client *publisher = clients_publisher(clients, of(client));

	assert_non_null(publisher);
	client_release(publisher);
}

/* What the next event says; the caller frees it. */
static struct message *take(enum message_kind kind, const char *id)
{
	struct message *event = clients_take(clients);

	assert_non_null(event);
	assert_int_equal(event->kind, kind);
	assert_non_null(event->client);
	assert_string_equal(client_description(event->client)->id, id);
	return event;
}

/* The next event, for consumer 1 alone. Returns the number of the connection. */
static uint64_t told(enum message_kind kind, const char *id)
{
	struct message *event = take(kind, id);
	uint64_t number = client_description(event->client)->number;

	assert_int_equal(event->recipient_count, 1);
	assert_int_equal(event->recipients[0].consumer, 1);
	message_free(event);
	return number;
}

static void told_nothing(void)
{
	assert_null(clients_take(clients));
}

/* ---- 2.1: the broker tells ---- */

static void test_a_client_comes_and_goes(void **state)
{
	struct message *event;
	uint64_t number;

	(void)state;
	watch(1);
	connects(&a);
	event = take(MESSAGE_CONNECT, "a");
	assert_string_equal(client_description(event->client)->username, "user");
	assert_string_equal(client_description(event->client)->address, "192.0.2.1");
	assert_int_equal(client_description(event->client)->protocol_version, 5);
	assert_false(client_description(event->client)->websockets);
	assert_null(client_description(event->client)->certificate);
	number = client_description(event->client)->number;
	message_free(event);
	told_nothing();
	clients_disconnected(clients, of(&a), 0x8e, MESSAGE_FATE_KEPT);
	event = take(MESSAGE_DISCONNECT, "a");
	assert_int_equal(event->as.disconnect.reason, 0x8e);
	assert_int_equal(event->as.disconnect.fate, MESSAGE_FATE_KEPT);
	assert_int_equal(client_description(event->client)->number, number);
	message_free(event);
	told_nothing();
	/* It is forgotten. */
	is_gone(&a);
	told_nothing();
}

static void test_what_the_broker_does_not_say(void **state)
{
	struct stub_client bare = {.mark = STUB_CLIENT_MARK, .id = "", .websockets = true, .protocol_version = 3};
	struct message *event;

	(void)state;
	watch(1);
	connects(&bare);
	event = take(MESSAGE_CONNECT, "");
	assert_null(client_description(event->client)->username);
	assert_null(client_description(event->client)->address);
	assert_true(client_description(event->client)->websockets);
	assert_int_equal(client_description(event->client)->protocol_version, 3);
	message_free(event);
}

static void test_the_session_is_nobody(void **state)
{
	struct stub_client session = make_client(SESSION);

	(void)state;
	watch(1);
	connects(&session);
	is_gone(&session);
	logs_in(&session);
	clients_settle(clients);
	is_gone(&session);
	told_nothing();
	use(false);
	watch(1);
	is_gone(&session);
	told_nothing();
	/* Without a session its name is anybody's. */
	clients_free(clients);
	clients = clients_new(true, NULL);
	watch(1);
	connects(&session);
	(void)told(MESSAGE_CONNECT, SESSION);
}

/* The new connection is announced behind the end of the old one: 2.1 tells of both in that order. */
static void test_a_client_is_taken_over(void **state)
{
	struct stub_client second = make_client("a");
	uint64_t number;

	(void)state;
	watch(1);
	connects(&a);
	number = told(MESSAGE_CONNECT, "a");
	is_gone(&a);
	connects(&second);
	assert_int_equal(told(MESSAGE_DISCONNECT, "a"), number);
	assert_int_not_equal(told(MESSAGE_CONNECT, "a"), number);
	told_nothing();
}

/* A struct of Mosquitto's is freed, and the next connection has its address. */
static void test_an_address_is_used_again(void **state)
{
	uint64_t number;

	(void)state;
	watch(1);
	connects(&a);
	publishes(&a);
	number = told(MESSAGE_CONNECT, "a");
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "a");
	a = make_client("another");
	connects(&a);
	assert_int_not_equal(told(MESSAGE_CONNECT, "another"), number);

	/* Also where the end was missed. */
	a = make_client("third");
	connects(&a);
	assert_int_not_equal(told(MESSAGE_CONNECT, "third"), number);
	publishes(&a);
	told_nothing();
	/* Then it is one connection all the same. */
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "third");
	is_gone(&a);
	told_nothing();
}

/* ---- 2.0: whether a client was let in shows later ---- */

static void test_a_client_is_let_in(void **state)
{
	(void)state;
	watch(1);
	logs_in(&a);
	logs_in(&a); /* asked twice */
	logs_in(&b);
	told_nothing();
	clients_settle(clients);
	(void)told(MESSAGE_CONNECT, "a");
	(void)told(MESSAGE_CONNECT, "b");
	told_nothing();
	clients_settle(clients);
	logs_in(&a); /* MQTT 5 lets it authenticate again */
	clients_settle(clients);
	told_nothing();
	is_gone(&b);
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "b");
	(void)told(MESSAGE_DISCONNECT, "a");
	told_nothing();
}

static void test_a_client_is_refused(void **state)
{
	(void)state;
	watch(1);
	logs_in(&a);
	a.id = NULL;
	is_gone(&a);
	told_nothing();
	clients_settle(clients);
	told_nothing();
	/* Or not gone yet. */
	logs_in(&b);
	b.id = NULL;
	clients_settle(clients);
	told_nothing();
	is_gone(&b);
	told_nothing();
	/* Its address is free for another. */
	b = make_client("b");
	logs_in(&b);
	clients_settle(clients);
	(void)told(MESSAGE_CONNECT, "b");
}

static void test_refused_among_others(void **state)
{
	struct stub_client c = make_client("c");

	(void)state;
	watch(1);
	logs_in(&a);
	logs_in(&b);
	logs_in(&c);
	b.id = NULL;
	is_gone(&b);
	clients_settle(clients);
	(void)told(MESSAGE_CONNECT, "a");
	(void)told(MESSAGE_CONNECT, "c");
	told_nothing();
}

/* Before the broker has come to its TICK. */
/* As some versions tell it: with its id. */
static void test_refused_with_its_id(void **state)
{
	(void)state;
	watch(1);
	logs_in(&a);
	is_gone(&a);
	told_nothing();
	clients_settle(clients);
	told_nothing();
}

static void test_let_in_and_taken_over_in_one_turn(void **state)
{
	struct stub_client second = make_client("a");
	uint64_t number;

	(void)state;
	watch(1);
	logs_in(&a);
	logs_in(&second);
	is_gone(&a);
	clients_settle(clients);
	number = told(MESSAGE_CONNECT, "a");
	assert_int_equal(told(MESSAGE_DISCONNECT, "a"), number);
	assert_int_not_equal(told(MESSAGE_CONNECT, "a"), number);
	told_nothing();
}

static void test_taken_over_order_on_2_0(void **state)
{
	struct stub_client second = make_client("a");
	uint64_t number;

	(void)state;
	watch(1);
	logs_in(&a);
	clients_settle(clients);
	number = told(MESSAGE_CONNECT, "a");
	logs_in(&second);
	is_gone(&a);
	clients_settle(clients);
	assert_int_equal(told(MESSAGE_DISCONNECT, "a"), number);
	assert_int_not_equal(told(MESSAGE_CONNECT, "a"), number);
	told_nothing();
}

/* Whose message comes in the turn in which it was let in, or who was never asked about: it has been let
 * in. */
static void test_who_publishes_is_announced_first(void **state)
{
	(void)state;
	watch(1);
	logs_in(&a);
	publishes(&a);
	(void)told(MESSAGE_CONNECT, "a");
	clients_settle(clients);
	told_nothing();
	publishes(&b);
	(void)told(MESSAGE_CONNECT, "b");
	publishes(&a);
	publishes(&b);
	told_nothing();
	is_gone(&b);
	(void)told(MESSAGE_DISCONNECT, "b");
}

static void test_without_connects_there_are_disconnects(void **state)
{
	struct stub_client refused = make_client(NULL);
	struct message *event;

	(void)state;
	use(false);
	is_gone(&a); /* nobody wants to know */
	watch(1);
	told_nothing();
	publishes(&a);
	told_nothing();
	clients_disconnected(clients, of(&a), -1, MESSAGE_FATE_UNKNOWN);
	event = take(MESSAGE_DISCONNECT, "a");
	assert_int_equal(event->as.disconnect.reason, -1);
	assert_int_equal(event->as.disconnect.fate, MESSAGE_FATE_UNKNOWN);
	message_free(event);
	is_gone(&b); /* of whom nothing had been heard */
	(void)told(MESSAGE_DISCONNECT, "b");
	is_gone(&refused);
	told_nothing();
	/* One who watches later is told of nobody: nobody was announced. */
	publishes(&a);
	watch(2);
	told_nothing();
}

/* ---- 2.0 tells twice that a client is gone whose session it kept: when it connects again, too ---- */

static void comes_back(struct stub_client *client)
{
	client->clean_session = true; /* so that its session is not kept any longer: another connection has it */
	clients_disconnected(clients, of(client), -1, MESSAGE_FATE_UNKNOWN);
}

static void test_a_client_that_comes_back_does_not_go_again(void **state)
{
	struct stub_client second = make_client("a");

	(void)state;
	use(false);
	a.clean_session = second.clean_session = b.clean_session = false;
	is_gone(&b); /* before anybody watched */
	watch(1);
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "a");
	comes_back(&a);
	told_nothing();
	comes_back(&b);
	told_nothing();
	/* The connection that it came back with ends, once. */
	is_gone(&second);
	(void)told(MESSAGE_DISCONNECT, "a");
	comes_back(&second);
	told_nothing();
	/* One that is taken over while it is there ends then. */
	a.clean_session = false;
	publishes(&a);
	comes_back(&a);
	(void)told(MESSAGE_DISCONNECT, "a");
}

/* The session ended without a word, and the next connection has the address. */
static void test_the_address_of_a_client_that_did_not_come_back(void **state)
{
	struct client *client;

	(void)state;
	use(false);
	watch(1);
	a.clean_session = false;
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "a");
	a = make_client("another");
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "another");

	a.clean_session = false;
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "another");
	client = clients_publisher(clients, of(&a));
	client_release(client);
	comes_back(&a);
	(void)told(MESSAGE_DISCONNECT, "another");

	/* The same client, whose new session is kept as well. */
	a.clean_session = false;
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "another");
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "another");
}

static void test_which_began_clean(void **state)
{
	(void)state;
	assert_false(clients_began_clean(clients, of(&a))); /* not known */
	connects(&a);
	assert_true(clients_began_clean(clients, of(&a)));
	b.clean_session = false;
	logs_in(&b);
	b.clean_session = true;
	assert_false(clients_began_clean(clients, of(&b)));
}

/* ---- who publishes ---- */

static void test_a_description_serves_until_the_end(void **state)
{
	struct client *first, *again;

	(void)state;
	first = clients_publisher(clients, of(&a));
	publishes(&b);
	again = clients_publisher(clients, of(&a));
	assert_ptr_equal(first, again);
	client_release(again);
	is_gone(&a);
	again = clients_publisher(clients, of(&a));
	assert_int_not_equal(client_description(again)->number, client_description(first)->number);
	assert_string_equal(client_description(first)->id, "a"); /* still there for who has it */
	client_release(first);
	client_release(again);
}

/* By a plugin: mosquitto_set_username(), mosquitto_set_clientid(). */
static void test_another_name_is_another_description(void **state)
{
	struct client *first = clients_publisher(clients, of(&a)), *second;

	(void)state;
	a.username = "other";
	second = clients_publisher(clients, of(&a));
	assert_string_equal(client_description(first)->username, "user");
	assert_string_equal(client_description(second)->username, "other");
	assert_int_not_equal(client_description(first)->number, client_description(second)->number);
	client_release(first);
	a.username = NULL;
	first = clients_publisher(clients, of(&a));
	assert_null(client_description(first)->username);
	client_release(second);
	a.id = "renamed";
	second = clients_publisher(clients, of(&a));
	assert_string_equal(client_description(second)->id, "renamed");
	client_release(first);
	client_release(second);
	/* Announced once, whatever it is called. */
	watch(1);
	(void)told(MESSAGE_CONNECT, "renamed");
	told_nothing();
	is_gone(&a);
	(void)told(MESSAGE_DISCONNECT, "renamed");
}

static void test_a_certificate_expires(void **state)
{
	struct client *client, *later;
	time_t beginning = now;

	(void)state;
	a.certificate = certificate;
	client = clients_publisher(clients, of(&a));
	assert_non_null(client_description(client)->certificate);
	assert_string_equal(client_description(client)->certificate->common_name, "sensor");
	now = beginning + 100; /* the last second of it */
	later = clients_publisher(clients, of(&a));
	assert_ptr_equal(client, later);
	client_release(later);
	now = beginning + 101;
	later = clients_publisher(clients, of(&a));
	assert_null(client_description(later)->certificate);
	assert_non_null(client_description(client)->certificate); /* it published when it was valid */
	client_release(client);
	client = clients_publisher(clients, of(&a));
	assert_ptr_equal(client, later); /* that does not change any more */
	client_release(client);
	client_release(later);
	/* Not yet valid: the broker was told not to look at dates. */
	now = beginning - 101;
	b.certificate = certificate;
	client = clients_publisher(clients, of(&b));
	assert_null(client_description(client)->certificate);
	client_release(client);
	now = beginning - 100;
	client = clients_publisher(clients, of(&b));
	assert_non_null(client_description(client)->certificate);
	client_release(client);
	now = beginning;
}

static void test_a_client_without_a_certificate_stays_the_same(void **state)
{
	struct client *client = clients_publisher(clients, of(&a)), *later;

	(void)state;
	now += 1000000;
	later = clients_publisher(clients, of(&a));
	assert_ptr_equal(client, later);
	client_release(client);
	client_release(later);
	now -= 1000000;
}

/* ---- who watches ---- */

static void test_who_watches_later_is_told_who_is_there(void **state)
{
	struct stub_client many[50];
	char ids[50][8];
	bool seen[50] = {false};
	struct message *event;
	size_t i;

	(void)state;
	watch(2);
	for (i = 0; i < 50; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "%zu", i);
		many[i] = make_client(ids[i]);
		connects(&many[i]);
		message_free(take(MESSAGE_CONNECT, ids[i]));
	}
	logs_in(&a); /* not let in yet */
	is_gone(&many[7]);
	message_free(take(MESSAGE_DISCONNECT, "7"));
	watch(1);
	while ((event = clients_take(clients))) {
		assert_int_equal(event->kind, MESSAGE_CONNECT);
		assert_int_equal(event->recipient_count, 1);
		assert_int_equal(event->recipients[0].consumer, 1);
		i = (size_t)atoi(client_description(event->client)->id);
		assert_true(i < 50 && !seen[i]);
		seen[i] = true;
		message_free(event);
	}
	for (i = 0; i < 50; i++) {
		assert_int_equal(seen[i], i != 7);
	}
	/* Who watches already is not told again. */
	watch(1);
	told_nothing();
	clients_settle(clients);
	event = take(MESSAGE_CONNECT, "a");
	assert_int_equal(event->recipient_count, 2);
	message_free(event);
}

static void test_several_watch_and_stop(void **state)
{
	struct message *event;

	(void)state;
	watch(1);
	watch(2);
	watch(3);
	clients_unwatch(clients, 1);
	clients_unwatch(clients, 1);
	clients_unwatch(clients, 77);
	connects(&a);
	event = take(MESSAGE_CONNECT, "a");
	assert_int_equal(event->recipient_count, 2);
	assert_int_equal(event->recipients[0].consumer + event->recipients[1].consumer, 5);
	message_free(event);
	clients_unwatch(clients, 3);
	clients_unwatch(clients, 2);
	is_gone(&a);
	connects(&b);
	told_nothing();
	/* Those that came while nobody watched are there for the next. */
	watch(1);
	(void)told(MESSAGE_CONNECT, "b");
	told_nothing();
}

/* What nobody has taken is freed with the rest. */
static void test_events_that_nobody_takes(void **state)
{
	(void)state;
	watch(1);
	connects(&a);
	connects(&b);
	is_gone(&a);
}

/* Most connections are never described. */
static void test_nobody_is_described_for_nobody(void **state)
{
	unsigned long allocations;

	(void)state;
	allocations = scarce_memory_allocations();
	a.certificate = certificate;
	connects(&a);
	assert_true(scarce_memory_allocations() <= allocations + 2); /* the entry and the table */
	is_gone(&a);
	told_nothing();
}

/* ---- memory ---- */

/* Whatever fails, what is told makes sense: nobody goes who did not come, and each connection at most
 * once. */
static void live(unsigned long n)
{
	struct stub_client second = make_client("a");
	struct client *client;
	int rc;

	a = make_client("a");
	a.certificate = certificate;
	b = make_client("b");
	scarce_memory(n, false);
	rc = clients_watch(clients, 1);
	assert_true(rc == MOSQ_ERR_SUCCESS || rc == MOSQ_ERR_NOMEM);
	connects(&a);
	logs_in(&b);
	client = clients_publisher(clients, of(&b));
	client_release(client);
	logs_in(&second);
	is_gone(&a);
	clients_settle(clients);
	rc = clients_watch(clients, 2);
	assert_true(rc == MOSQ_ERR_SUCCESS || rc == MOSQ_ERR_NOMEM);
	client = clients_publisher(clients, of(&second));
	client_release(client);
	is_gone(&b);
	is_gone(&second);
}

static void test_no_memory(void **state)
{
	struct message *event;
	unsigned long n;
	bool failed = true;
	size_t events;

	(void)state;
	scarce_memory(1, false);
	assert_null(clients_new(true, NULL));
	assert_true(scarce_memory_end());
	clients_free(NULL);
	for (n = 1; failed; n++) {
		use(true);
		live(n);
		failed = scarce_memory_end();
		for (events = 0; (event = clients_take(clients)); events++) {
			assert_non_null(event->client);
			assert_true(event->recipient_count > 0);
			message_free(event);
		}
		assert_true(events <= 8);
		assert_true(failed || events == 8);
		/* All are gone, and it goes on. */
		watch(9);
		told_nothing();
		connects(&a);
		event = take(MESSAGE_CONNECT, "a");
		message_free(event);
	}
	assert_true(n > 15);
}

/* Then it may be told twice. */
static void test_no_memory_for_who_may_come_back(void **state)
{
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		use(false);
		a.clean_session = false;
		scarce_memory(n, false);
		is_gone(&a);
		failed = scarce_memory_end();
		watch(1);
		comes_back(&a);
		if (failed) {
			(void)told(MESSAGE_DISCONNECT, "a");
		}
		told_nothing();
	}
	assert_int_equal(n, 5); /* entry, table, id, none */
}

static void test_no_memory_to_watch(void **state)
{
	(void)state;
	connects(&a);
	scarce_memory(1, false);
	assert_int_equal(clients_watch(clients, 1), MOSQ_ERR_NOMEM);
	assert_true(scarce_memory_end());
	told_nothing();
	connects(&b);
	told_nothing();
	watch(1);
	message_free(clients_take(clients));
	message_free(clients_take(clients));
	told_nothing();
}

/* Messages come all the same, without their author. */
static void test_no_memory_for_a_publisher(void **state)
{
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		struct client *client;

		use(false);
		scarce_memory(n, false);
		client = clients_publisher(clients, of(&a));
		failed = scarce_memory_end();
		assert_int_equal(client == NULL, failed);
		client_release(client);
		publishes(&a);
	}
	assert_int_equal(n, 5); /* entry, table, description, none */
}

#define clients_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		clients_test(test_a_client_comes_and_goes),
		clients_test(test_what_the_broker_does_not_say),
		clients_test(test_the_session_is_nobody),
		clients_test(test_a_client_is_taken_over),
		clients_test(test_an_address_is_used_again),
		clients_test(test_a_client_is_let_in),
		clients_test(test_a_client_is_refused),
		clients_test(test_refused_among_others),
		clients_test(test_refused_with_its_id),
		clients_test(test_let_in_and_taken_over_in_one_turn),
		clients_test(test_taken_over_order_on_2_0),
		clients_test(test_who_publishes_is_announced_first),
		clients_test(test_without_connects_there_are_disconnects),
		clients_test(test_a_client_that_comes_back_does_not_go_again),
		clients_test(test_the_address_of_a_client_that_did_not_come_back),
		clients_test(test_which_began_clean),
		clients_test(test_a_description_serves_until_the_end),
		clients_test(test_another_name_is_another_description),
		clients_test(test_a_certificate_expires),
		clients_test(test_a_client_without_a_certificate_stays_the_same),
		clients_test(test_who_watches_later_is_told_who_is_there),
		clients_test(test_several_watch_and_stop),
		clients_test(test_events_that_nobody_takes),
		clients_test(test_nobody_is_described_for_nobody),
		clients_test(test_no_memory),
		clients_test(test_no_memory_for_who_may_come_back),
		clients_test(test_no_memory_to_watch),
		clients_test(test_no_memory_for_a_publisher),
	};
	int failed;

	make_certificate();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	X509_free(certificate);
	return failed;
}
