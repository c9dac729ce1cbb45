#include "cmocka_all.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scarce_memory.h"
#include "shared/certificate.h"
#include "shared/client.h"

static long blocks, certificates;

/* certificate.c is not linked: certificates here are made by hand. */
void certificate_free(struct certificate *certificate)
{
	certificates -= certificate != NULL;
	free(certificate);
}

static struct certificate *make_certificate(const char *fingerprint, bool is_valid)
{
	struct certificate *certificate = calloc(1, sizeof(*certificate));
	int64_t now = (int64_t)time(NULL);

	assert_non_null(certificate);
	certificate->fingerprint = fingerprint;
	certificate->not_before = now - 100000;
	certificate->not_after = is_valid ? now + 100000 : now - 1000;
	certificates++;
	return certificate;
}

static int set_up(void **state)
{
	(void)state;
	certificates = 0;
	blocks = scarce_memory_blocks();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(certificates, 0);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static void test_everything_is_copied(void **state)
{
	char id[] = "id", username[] = "user", address[] = "192.0.2.1";
	const struct client_description description = {.number = UINT64_MAX,
		.id = id,
		.username = username,
		.address = address,
		.protocol_version = 5,
		.websockets = true};
	struct client *client = client_new(&description, make_certificate("f", true));
	const struct client_description *known;

	(void)state;
	assert_non_null(client);
	memset(id, '?', 2);
	memset(username, '?', 4);
	memset(address, '?', 9);
	known = client_description(client);
	assert_true(known->number == UINT64_MAX);
	assert_string_equal(known->id, "id");
	assert_string_equal(known->username, "user");
	assert_string_equal(known->address, "192.0.2.1");
	assert_int_equal(known->protocol_version, 5);
	assert_true(known->websockets);
	assert_string_equal(known->certificate->fingerprint, "f");
	assert_true(client_is_current(client));
	client_release(client);
	client_release(NULL);
}

static void test_what_is_not_there_is_null(void **state)
{
	const struct client_description description = {.id = ""};
	struct client *client = client_new(&description, make_certificate("f", false));

	(void)state;
	assert_string_equal(client_description(client)->id, "");
	assert_null(client_description(client)->username);
	assert_null(client_description(client)->address);
	assert_null(client_description(client)->certificate); /* it is over */
	assert_true(client_is_current(client));
	client_release(client);
}

static void test_the_last_reference_frees(void **state)
{
	const struct client_description description = {.id = "a"};
	struct client *client = client_new(&description, make_certificate("f", true));

	(void)state;
	assert_ptr_equal(client_hold(client), client);
	client_release(client);
	assert_int_equal(certificates, 1);
	assert_string_equal(client_description(client)->id, "a");
	client_release(client);
	assert_int_equal(certificates, 0);
}

static void assert_same(const struct client_description *one, const char *one_fingerprint,
		const struct client_description *other, const char *other_fingerprint, bool is_same)
{
	struct client *a = client_new(one, one_fingerprint ? make_certificate(one_fingerprint, true) : NULL);
	struct client *b =
			client_new(other, other_fingerprint ? make_certificate(other_fingerprint, true) : NULL);

	assert_int_equal(client_is_same(a, b), is_same);
	assert_int_equal(client_is_same(b, a), is_same);
	assert_true(client_is_same(a, a));
	client_release(a);
	client_release(b);
}

static void test_who_is_the_same(void **state)
{
	const struct client_description
			a = {.number = 1, .id = "a", .username = "u", .address = "x", .protocol_version = 4},
			again = {.number = 2, .id = "a", .username = "u", .address = "y", .protocol_version = 5},
			other_id = {.id = "b", .username = "u"}, other_user = {.id = "a", .username = "v"},
			no_user = {.id = "a"}, empty_user = {.id = "a", .username = ""};

	(void)state;
	assert_same(&a, NULL, &again, NULL, true);
	assert_same(&a, "f", &again, "f", true);
	assert_same(&a, "f", &again, "g", false);
	assert_same(&a, "f", &again, NULL, false);
	assert_same(&a, NULL, &other_id, NULL, false);
	assert_same(&a, NULL, &other_user, NULL, false);
	assert_same(&a, NULL, &no_user, NULL, false);
	assert_same(&no_user, NULL, &no_user, NULL, true);
	assert_same(&no_user, NULL, &empty_user, NULL, false);
}

static void test_no_memory(void **state)
{
	const struct client_description description = {.id = "a"};

	(void)state;
	scarce_memory(2, false); /* the first is the certificate's */
	assert_null(client_new(&description, make_certificate("f", true)));
	assert_true(scarce_memory_end());
	assert_int_equal(certificates, 0);
	scarce_memory(1, false);
	assert_null(client_new(&description, NULL));
	assert_true(scarce_memory_end());
}

/* ---- several threads ---- */

#define THREADS 4
#define ROUNDS 20000

struct reader {
	pthread_t thread;
	struct client *client; /* a reference of its own */
	unsigned long errors;
};

/* Holds, reads and gives back; the last of all threads frees. */
static void *read_and_release(void *argument)
{
	struct reader *reader = argument;
	struct client *held;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		held = client_hold(reader->client);
		reader->errors += strcmp(client_description(held)->id, "shared") != 0;
		client_release(held);
	}
	client_release(reader->client);
	return NULL;
}

static void test_references_on_several_threads(void **state)
{
	const struct client_description description = {.id = "shared"};
	struct client *client = client_new(&description, make_certificate("f", true));
	struct reader readers[THREADS];
	int i;

	(void)state;
	for (i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){.client = client_hold(client)};
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_and_release, &readers[i]), 0);
	}
	client_release(client);
	for (i = 0; i < THREADS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].errors, 0);
	}
	assert_int_equal(certificates, 0);
}

#define client_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		client_test(test_everything_is_copied),
		client_test(test_what_is_not_there_is_null),
		client_test(test_the_last_reference_frees),
		client_test(test_who_is_the_same),
		client_test(test_no_memory),
		client_test(test_references_on_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
