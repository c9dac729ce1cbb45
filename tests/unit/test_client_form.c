#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scarce_memory.h"
#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/client_form.h"
#include "shared/text.h"

#define SHA_256 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static long blocks;

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static const struct certificate_name NAMES[] = {{"DNS", "sensor.example.com"}, {"email", "a@example.com"},
	{"URI", ""}, {"IP", "2001:db8::7"}, {"DirName", "CN=plant,C=FR"}};

static const struct certificate CERTIFICATE = {.subject = "CN=sensor,O=M\xc3\xbcller",
	.issuer = "",
	.common_name = "sensor",
	.serial_number = "-0A",
	.fingerprint = SHA_256,
	.not_before = -5,
	.not_after = 4000000000,
	.name_count = 5,
	.names = NAMES};

static const struct client_description DESCRIPTION = {.number = 7,
	.id = "\xe2\x82\xac id",
	.username = "user",
	.address = "192.0.2.1",
	.protocol_version = 5,
	.websockets = true};

/* The strings stay this file's. */
static struct certificate *certificate_like(const struct certificate *of)
{
	struct certificate *certificate = malloc(sizeof(*certificate));

	assert_non_null(certificate);
	*certificate = *of;
	return certificate;
}

static struct text form_of(const struct client_description *description,
		const struct certificate *certificate)
{
	struct client *client = client_of_file(description, certificate ? certificate_like(certificate) : NULL);
	struct text bytes = {0};

	assert_non_null(client);
	client_pack(client, &bytes);
	client_release(client);
	assert_false(bytes.failed);
	return bytes;
}

static struct client *read_form(struct text *bytes)
{
	struct client *client = client_unpack(bytes->data, bytes->length);

	text_free(bytes);
	return client;
}

static void test_everything_comes_back(void **state)
{
	struct text bytes = form_of(&DESCRIPTION, &CERTIFICATE);
	struct client *client = read_form(&bytes);
	const struct client_description *known;
	const struct certificate *certificate;
	size_t i;

	(void)state;
	assert_non_null(client);
	known = client_description(client);
	assert_string_equal(known->id, DESCRIPTION.id);
	assert_string_equal(known->username, "user");
	assert_string_equal(known->address, "192.0.2.1");
	assert_int_equal(known->protocol_version, 5);
	assert_true(known->websockets);
	certificate = known->certificate;
	assert_non_null(certificate);
	assert_string_equal(certificate->subject, CERTIFICATE.subject);
	assert_string_equal(certificate->issuer, "");
	assert_string_equal(certificate->common_name, "sensor");
	assert_string_equal(certificate->serial_number, "-0A");
	assert_string_equal(certificate->fingerprint, SHA_256);
	assert_true(certificate->not_before == -5 && certificate->not_after == 4000000000);
	assert_int_equal(certificate->name_count, 5);
	for (i = 0; i < 5; i++) {
		assert_string_equal(certificate->names[i].type, NAMES[i].type);
		assert_string_equal(certificate->names[i].value, NAMES[i].value);
	}
	client_release(client);
}

static void test_what_is_not_there_is_null(void **state)
{
	const struct client_description description = {.id = "", .protocol_version = 3};
	struct certificate without = CERTIFICATE;
	struct text bytes = form_of(&description, NULL);
	struct client *client = read_form(&bytes);

	(void)state;
	assert_non_null(client);
	assert_string_equal(client_description(client)->id, "");
	assert_null(client_description(client)->username);
	assert_null(client_description(client)->address);
	assert_null(client_description(client)->certificate);
	assert_int_equal(client_description(client)->protocol_version, 3);
	assert_false(client_description(client)->websockets);
	client_release(client);

	without.common_name = NULL;
	without.name_count = 0;
	bytes = form_of(&description, &without);
	client = read_form(&bytes);
	assert_non_null(client);
	assert_null(client_description(client)->certificate->common_name);
	assert_int_equal(client_description(client)->certificate->name_count, 0);
	client_release(client);
}

static void test_a_certificate_is_what_it_was(void **state)
{
	struct certificate over = CERTIFICATE;
	struct client *client;
	struct text bytes;

	(void)state;
	over.not_after = (int64_t)time(NULL) - 1000;
	/* It was valid when it published. */
	bytes = form_of(&DESCRIPTION, &over);
	client = read_form(&bytes);
	assert_non_null(client_description(client)->certificate);
	client_release(client);
	/* It was not. */
	client = client_new(&DESCRIPTION, certificate_like(&over));
	client_pack(client, &bytes);
	client_release(client);
	client = read_form(&bytes);
	assert_null(client_description(client)->certificate);
	client_release(client);
}

static void test_numbers_are_new(void **state)
{
	struct text bytes = form_of(&DESCRIPTION, NULL);
	struct client *one = client_unpack(bytes.data, bytes.length);
	struct client *other = client_unpack(bytes.data, bytes.length);

	(void)state;
	assert_true(client_description(one)->number != client_description(other)->number);
	assert_true(client_description(one)->number > UINT64_MAX / 2);
	assert_true(client_description(other)->number > UINT64_MAX / 2);
	assert_true(client_is_same(one, other));
	client_release(one);
	client_release(other);
	text_free(&bytes);
}

/* A client that is read writes the same bytes again: there is one form of each. */
static bool is_read(const char *data, size_t length)
{
	/* In a block of its own, so that AddressSanitizer sees who reads on. */
	char *copy = malloc(length + (length == 0));
	struct client *client;
	struct text again = {0};
	bool is_client;

	assert_non_null(copy);
	memcpy(copy, data, length);
	client = client_unpack(copy, length);
	is_client = client != NULL;
	if (client) {
		client_pack(client, &again);
		client_release(client);
		assert_int_equal(again.length, length);
		assert_memory_equal(again.data, data, length);
	}
	text_free(&again);
	free(copy);
	return is_client;
}

static void test_what_is_no_form(void **state)
{
	struct text bytes = form_of(&DESCRIPTION, &CERTIFICATE);
	size_t i, read = 0;
	int value;

	(void)state;
	assert_null(client_unpack(NULL, 0));
	assert_true(is_read(bytes.data, bytes.length));
	assert_false(is_read(bytes.data, bytes.length + 1)); /* a NUL more */
	for (i = 0; i < bytes.length; i++) {
		char was = bytes.data[i];

		assert_false(is_read(bytes.data, i));
		for (value = 0; value < 256; value++) {
			bytes.data[i] = (char)value;
			read += is_read(bytes.data, bytes.length);
		}
		bytes.data[i] = was;
	}
	assert_true(read > bytes.length);
	bytes.data[0] = 2;
	assert_false(is_read(bytes.data, bytes.length));
	text_free(&bytes);
}

static void assert_form(const struct client_description *description, const struct certificate *certificate,
		bool is_good)
{
	struct text bytes = form_of(description, certificate);

	assert_int_equal(is_read(bytes.data, bytes.length), is_good);
	text_free(&bytes);
}

static void test_bounds(void **state)
{
	static const char *const not_utf8[] = {"\xff", "\xc3", "a\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
		"\xe2\x82", "\xf0\x9f\x98", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\x80"};
	static const char *const not_escaped[] = {"\n", "\x7f", "\xc2\x9f"};
	static char long_text[65538];
	static struct certificate_name names[CERTIFICATE_NAMES_MAX + 1];
	struct client_description description = DESCRIPTION;
	struct certificate certificate = CERTIFICATE;
	size_t i;

	(void)state;
	memset(long_text, 'x', sizeof long_text - 1);
	for (i = 0; i < sizeof not_utf8 / sizeof *not_utf8; i++) {
		description.id = not_utf8[i];
		assert_form(&description, NULL, false);
		certificate.issuer = not_utf8[i];
		assert_form(&DESCRIPTION, &certificate, false);
	}
	for (i = 0; i < sizeof not_escaped / sizeof *not_escaped; i++) {
		description.id = not_escaped[i];
		assert_form(&description, NULL, true);
		certificate.issuer = not_escaped[i];
		assert_form(&DESCRIPTION, &certificate, false);
	}
	certificate = CERTIFICATE;
	description.id = long_text;
	assert_form(&description, NULL, false);
	description.id = long_text + 2;
	assert_form(&description, NULL, true);
	certificate.subject = long_text + 2;
	assert_form(&DESCRIPTION, &certificate, false); /* with the others it is too long */
	certificate.subject = long_text + 300;
	assert_form(&DESCRIPTION, &certificate, true);

	certificate = CERTIFICATE;
	certificate.names = names;
	for (i = 0; i <= CERTIFICATE_NAMES_MAX; i++) {
		names[i] = NAMES[i % 5];
	}
	certificate.name_count = CERTIFICATE_NAMES_MAX;
	assert_form(&DESCRIPTION, &certificate, true);
	certificate.name_count = CERTIFICATE_NAMES_MAX + 1;
	assert_form(&DESCRIPTION, &certificate, false);
	certificate.name_count = 1;
	names[0].type = "RID";
	assert_form(&DESCRIPTION, &certificate, false);

	certificate = CERTIFICATE;
	certificate.serial_number = "0a";
	assert_form(&DESCRIPTION, &certificate, false);
	certificate.serial_number = "-";
	assert_form(&DESCRIPTION, &certificate, false);
	certificate = CERTIFICATE;
	certificate.fingerprint = SHA_256 "00";
	assert_form(&DESCRIPTION, &certificate, false);
	certificate = CERTIFICATE;
	certificate.not_after = INT64_MAX;
	assert_form(&DESCRIPTION, &certificate, false);
	description = DESCRIPTION;
	for (i = 0; i < 7; i++) {
		description.protocol_version = (int)i;
		assert_form(&description, NULL, i == 0 || (i >= 3 && i <= 5));
	}
}

static void test_no_memory(void **state)
{
	struct text bytes = form_of(&DESCRIPTION, &CERTIFICATE), none = {0};
	struct client *client = client_unpack(bytes.data, bytes.length);
	unsigned long n;

	(void)state;
	for (n = 1; n <= 2; n++) {
		scarce_memory(n, false);
		assert_null(client_unpack(bytes.data, bytes.length));
		assert_true(scarce_memory_end());
	}
	scarce_memory(2, false);
	client_pack(client, &none);
	assert_true(scarce_memory_end());
	assert_true(none.failed);
	text_free(&none);
	client_release(client);
	text_free(&bytes);
}

#define client_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		client_test(test_everything_comes_back),
		client_test(test_what_is_not_there_is_null),
		client_test(test_a_certificate_is_what_it_was),
		client_test(test_numbers_are_new),
		client_test(test_what_is_no_form),
		client_test(test_bounds),
		client_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
