/* DESIGN
 * version, protocol version, flags: a byte each; id, username, address; of a certificate not_before,
 * not_after: eight bytes each; subject, issuer, common name, serial number, fingerprint; the number of its
 * names: two bytes, and for each a byte for its type and its value. Numbers begin with their highest byte.
 *
 * A text is the number of its bytes, in four bytes, and then these, of which the last is NUL: so it is a
 * string where it stands. 0: there is none. */
#include "shared/client_form.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/text.h"

#define VERSION 1U

enum { FLAG_WEBSOCKETS = 1, FLAG_CERTIFICATE = 2, FLAGS = 3 };

/* Bytes of an id or a username that MQTT can carry (1.5.4), and NUL. */
#define TEXT_MAX 65536U

/* The years 0000 to 9999, and a day more for the time zone. */
#define TIME_MIN (-62167219200 - 86400)
#define TIME_MAX (253402300800 + 86400)

/* Their places are in files: only to be added to. */
static const char *const TYPES[] = {"DNS", "email", "URI", "IP", "DirName"};
#define TYPE_COUNT (sizeof(TYPES) / sizeof(*TYPES))

/* ---- to bytes ---- */

static void add_number(struct text *bytes, uint64_t number, unsigned int size)
{
	char byte;

	while (size-- > 0) {
		byte = (char)(number >> (8 * size) & 0xff);
		text_add(bytes, &byte, 1);
	}
}

static void add_text(struct text *bytes, const char *text)
{
	size_t size = text ? strlen(text) + 1 : 0;

	add_number(bytes, size, 4);
	text_add(bytes, text ? text : "", size);
}

static void add_name(struct text *bytes, const struct certificate_name *name)
{
	unsigned int type = 0;

	while (type < TYPE_COUNT && strcmp(TYPES[type], name->type) != 0) {
		type++;
	}
	add_number(bytes, type, 1);
	add_text(bytes, name->value);
}

static void add_certificate(struct text *bytes, const struct certificate *certificate)
{
	size_t i;

	add_number(bytes, (uint64_t)certificate->not_before, 8);
	add_number(bytes, (uint64_t)certificate->not_after, 8);
	add_text(bytes, certificate->subject);
	add_text(bytes, certificate->issuer);
	add_text(bytes, certificate->common_name);
	add_text(bytes, certificate->serial_number);
	add_text(bytes, certificate->fingerprint);
	add_number(bytes, certificate->name_count, 2);
	for (i = 0; i < certificate->name_count; i++) {
		add_name(bytes, &certificate->names[i]);
	}
}

void client_pack(const struct client *client, struct text *bytes)
{
	const struct client_description *known = client_description(client);

	add_number(bytes, VERSION, 1);
	add_number(bytes, (uint64_t)known->protocol_version, 1);
	add_number(bytes,
			(known->websockets ? FLAG_WEBSOCKETS : 0U) | (known->certificate ? FLAG_CERTIFICATE : 0U), 1);
	add_text(bytes, known->id);
	add_text(bytes, known->username);
	add_text(bytes, known->address);
	if (known->certificate) {
		add_certificate(bytes, known->certificate);
	}
}

/* ---- from bytes ---- */

/* After something that cannot be, all that is taken is nothing, and failed says so in the end. */
struct reader {
	const unsigned char *at, *end;
	bool failed;
};

static uint64_t take_number(struct reader *reader, unsigned int size)
{
	uint64_t number = 0;

	if (reader->failed || (size_t)(reader->end - reader->at) < size) {
		reader->failed = true;
		return 0;
	}
	while (size-- > 0) {
		number = number << 8 | *reader->at++;
	}
	return number;
}

/* NULL: there is none. */
static const char *take_text(struct reader *reader)
{
	size_t size = (size_t)take_number(reader, 4);
	const char *text = (const char *)reader->at;

	if (size == 0 || reader->failed) {
		return NULL;
	}
	if (size > TEXT_MAX || (size_t)(reader->end - reader->at) < size || text[size - 1] != '\0' ||
			!text_is_utf8(text, size - 1)) {
		reader->failed = true;
		return NULL;
	}
	reader->at += size;
	return text;
}

/* One that there always is. */
static const char *take_known_text(struct reader *reader)
{
	const char *text = take_text(reader);

	reader->failed |= !text;
	return text ? text : "";
}

/* One in which a certificate has control characters escaped. */
static const char *take_distinguished_name(struct reader *reader)
{
	const char *text = take_known_text(reader);
	const unsigned char *at;

	for (at = (const unsigned char *)text; *at; at++) {
		reader->failed |= *at < 0x20 || *at == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
	}
	return text;
}

static const char *take_digits(struct reader *reader, const char *digits, bool may_be_negative)
{
	const char *text = take_known_text(reader), *first = text + (may_be_negative && *text == '-');
	size_t length = strlen(first);

	reader->failed |= length == 0 || length % 2 != 0 || strspn(first, digits) != length;
	return text;
}

static int64_t take_time(struct reader *reader)
{
	int64_t time = (int64_t)take_number(reader, 8);

	reader->failed |= time < TIME_MIN || time >= TIME_MAX;
	return time;
}

static void take_name(struct reader *reader, struct certificate_name *ret_name)
{
	size_t type = (size_t)take_number(reader, 1);

	reader->failed |= type >= TYPE_COUNT;
	if (reader->failed) {
		return;
	}
	ret_name->type = TYPES[type];
	ret_name->value =
			strcmp(TYPES[type], "DirName") == 0 ? take_distinguished_name(reader) : take_known_text(reader);
}

/* Into names, of which there is room for CERTIFICATE_NAMES_MAX. What it points to is the reader's. */
static void take_certificate(struct reader *reader, struct certificate_name *names, struct certificate *ret)
{
	size_t i;

	ret->not_before = take_time(reader);
	ret->not_after = take_time(reader);
	ret->subject = take_distinguished_name(reader);
	ret->issuer = take_distinguished_name(reader);
	ret->common_name = take_text(reader);
	ret->serial_number = take_digits(reader, "0123456789ABCDEF", true);
	ret->fingerprint = take_digits(reader, "0123456789abcdef", false);
	reader->failed |= strlen(ret->fingerprint) != 64;
	ret->name_count = (size_t)take_number(reader, 2);
	reader->failed |= ret->name_count > CERTIFICATE_NAMES_MAX;
	for (i = 0; !reader->failed && i < ret->name_count; i++) {
		take_name(reader, &names[i]);
	}
	ret->names = names;
}

static size_t text_size(const struct certificate *certificate)
{
	size_t size = strlen(certificate->subject) + strlen(certificate->issuer) +
			strlen(certificate->serial_number) + strlen(certificate->fingerprint) + 4,
		   i;

	if (certificate->common_name) {
		size += strlen(certificate->common_name) + 1;
	}
	for (i = 0; i < certificate->name_count; i++) {
		size += strlen(certificate->names[i].value) + 1;
	}
	return size;
}

/* Copies text, which may be NULL, to *at and moves that behind it. */
static const char *put(char **at, const char *text)
{
	const char *copy = *at;

	if (!text) {
		return NULL;
	}
	*at = stpcpy(*at, text) + 1;
	return copy;
}

/* In one block, as certificate_free() wants it. NULL: it is too large, or memory ran out. */
static struct certificate *copy_certificate(const struct certificate *of)
{
	size_t names_size = of->name_count * sizeof(struct certificate_name), size = text_size(of), i;
	struct certificate *certificate =
			size <= CERTIFICATE_TEXT_MAX ? malloc(sizeof(*certificate) + names_size + size) : NULL;
	struct certificate_name *names;
	char *at;

	if (!certificate) {
		return NULL;
	}
	names = (struct certificate_name *)(certificate + 1);
	at = (char *)(names + of->name_count);
	*certificate = *of;
	certificate->subject = put(&at, of->subject);
	certificate->issuer = put(&at, of->issuer);
	certificate->common_name = put(&at, of->common_name);
	certificate->serial_number = put(&at, of->serial_number);
	certificate->fingerprint = put(&at, of->fingerprint);
	for (i = 0; i < of->name_count; i++) {
		names[i].type = of->names[i].type;
		names[i].value = put(&at, of->names[i].value);
	}
	certificate->names = names;
	return certificate;
}

/* Those of connections rise from 1. */
static uint64_t new_number(void)
{
	static atomic_uint_fast64_t given;

	return UINT64_MAX - (uint64_t)atomic_fetch_add_explicit(&given, 1, memory_order_relaxed);
}

/* All but the certificate. Returns the flags. */
static unsigned int take_description(struct reader *reader, struct client_description *ret)
{
	unsigned int flags;

	reader->failed |= take_number(reader, 1) != VERSION;
	ret->protocol_version = (int)take_number(reader, 1);
	/* 0: the broker does not say. */
	reader->failed |= ret->protocol_version > 5 || ret->protocol_version == 1 || ret->protocol_version == 2;
	flags = (unsigned int)take_number(reader, 1);
	reader->failed |= flags > FLAGS;
	ret->websockets = (flags & FLAG_WEBSOCKETS) != 0;
	ret->id = take_known_text(reader);
	ret->username = take_text(reader);
	ret->address = take_text(reader);
	return flags;
}

struct client *client_unpack(const void *bytes, size_t length)
{
	struct reader reader = {.at = bytes, .end = bytes ? (const unsigned char *)bytes + length : NULL};
	struct client_description description = {0};
	struct certificate_name names[CERTIFICATE_NAMES_MAX];
	struct certificate read = {0}, *certificate = NULL;
	unsigned int flags = take_description(&reader, &description);

	if (flags & FLAG_CERTIFICATE) {
		take_certificate(&reader, names, &read);
	}
	if (reader.failed || reader.at != reader.end) {
		return NULL;
	}
	if (flags & FLAG_CERTIFICATE) {
		certificate = copy_certificate(&read);
		if (!certificate) {
			return NULL;
		}
	}
	description.number = new_number();
	return client_of_file(&description, certificate);
}
