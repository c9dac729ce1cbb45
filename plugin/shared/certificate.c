/* DESIGN
 * A reader gathers the strings one after the other in a text and remembers where each begins, because the
 * text moves while it grows. In the end struct, names and strings are copied into one block.
 *
 * A certificate is the client's: its bytes are worth no more work than a few for each of them. What could
 * cost more is asked for its size before it is decoded. */
#include "shared/certificate.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "shared/text.h"

/* RFC 2253, and UTF-8 is not escaped. */
#define FLAGS_READABLE (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB)
#define NOWHERE SIZE_MAX
/* OpenSSL 1.1.1 changes no name here either, but does not promise it. */
#define UNCHANGED(name) ((X509_NAME *)(name))

enum outcome {
	ADDED,
	LEFT_OUT, /* it has no place among the values, or no room */
	FAILED,   /* memory ran out, or OpenSSL cannot read the certificate; it does not always tell which */
};

struct reader {
	struct text text;
	/* where in the text they begin */
	size_t subject, issuer, common_name, serial_number, fingerprint;
	struct {
		const char *type;
		size_t value;
	} names[CERTIFICATE_NAMES_MAX];
	size_t name_count;
	int64_t not_before, not_after;
};

static enum outcome add(struct reader *reader, const char *bytes, size_t length, size_t *ret_place)
{
	size_t place = reader->text.length;

	if (length >= CERTIFICATE_TEXT_MAX - place) {
		return LEFT_OUT;
	}
	text_add(&reader->text, bytes, length);
	text_add(&reader->text, "", 1);
	if (reader->text.failed) {
		return FAILED;
	}
	*ret_place = place;
	return ADDED;
}

/* ---- text ---- */

/* How OpenSSL's printing reads strings of this type: bytes of a character, 0 for UTF-8; -1: not as text. */
static int character_width(int type)
{
	switch (type) {
	case V_ASN1_UTF8STRING:
		return 0;
	case V_ASN1_NUMERICSTRING:
	case V_ASN1_PRINTABLESTRING:
	case V_ASN1_T61STRING:
	case V_ASN1_IA5STRING:
	case V_ASN1_VISIBLESTRING:
		return 1;
	case V_ASN1_BMPSTRING:
		return 2;
	case V_ASN1_UNIVERSALSTRING:
		return 4;
	default:
		return -1;
	}
}

/* Returns the bytes of the character at `at`, of which there are `rest` (more than 0); 0 when it is none. */
static int read_character(const unsigned char *at, int rest, int width, unsigned long *ret_character)
{
	unsigned long character = 0;
	int length = width, i;

	if (width == 0) {
		length = UTF8_getc(at, rest, &character);
	} else {
		for (i = 0; i < width && i < rest; i++) {
			character = character << 8 | at[i];
		}
	}
	if (length <= 0 || length > rest || character > 0x10ffff ||
			(character >= 0xd800 && character <= 0xdfff)) {
		return 0;
	}
	*ret_character = character;
	return length;
}

/* Adds a string as UTF-8. OpenSSL has functions for that; they do not tell a string that is no text from
 * memory that ran out. */
static enum outcome add_string(struct reader *reader, const ASN1_STRING *string, int width, size_t *ret_place)
{
	const unsigned char *at = ASN1_STRING_get0_data(string);
	int rest = ASN1_STRING_length(string), length, utf8_length;
	struct text value = {0};
	enum outcome outcome = LEFT_OUT;

	if (width < 0 || rest >= CERTIFICATE_TEXT_MAX) {
		return LEFT_OUT;
	}
	for (; rest > 0; at += length, rest -= length) {
		unsigned long character;
		unsigned char utf8[4];

		length = read_character(at, rest, width, &character);
		utf8_length = length > 0 && character != 0 ? UTF8_putc(utf8, sizeof(utf8), character) : 0;
		if (utf8_length <= 0) {
			goto out;
		}
		text_add(&value, (const char *)utf8, (size_t)utf8_length);
	}
	outcome = value.failed ? FAILED : add(reader, value.data ? value.data : "", value.length, ret_place);
out:
	text_free(&value);
	return outcome;
}

static enum outcome add_hexadecimal(struct reader *reader, const char *sign, const unsigned char *bytes,
		size_t length, const char *digits, size_t *ret_place)
{
	struct text value = {0};
	enum outcome outcome;
	size_t i;

	if (length >= CERTIFICATE_TEXT_MAX / 2) {
		return LEFT_OUT;
	}
	text_add(&value, sign, strlen(sign));
	for (i = 0; i < length; i++) {
		text_add(&value, &digits[bytes[i] >> 4], 1);
		text_add(&value, &digits[bytes[i] & 15], 1);
	}
	outcome = value.failed ? FAILED : add(reader, value.data, value.length, ret_place);
	text_free(&value);
	return outcome;
}

/* ---- distinguished names ---- */

/* Whether OpenSSL prints the value as what it is: it would let pass bytes that are no UTF-8, and skip what is
 * no character. *ret_c1 is set when there are control characters from U+0080 on, which it does not know for
 * such. */
static bool can_be_printed(const ASN1_STRING *string, bool *ret_c1)
{
	const unsigned char *at = ASN1_STRING_get0_data(string);
	int rest = ASN1_STRING_length(string), width = character_width(ASN1_STRING_type(string)), length;
	unsigned long character;

	/* Of another type: it is printed in hexadecimal. */
	for (; width >= 0 && rest > 0; at += length, rest -= length) {
		length = read_character(at, rest, width, &character);
		if (length == 0) {
			return false;
		}
		if (character >= 0x80 && character < 0xa0) {
			*ret_c1 = true;
		}
	}
	return true;
}

static bool print_name(BIO *bio, const X509_NAME *name)
{
	int count = X509_NAME_entry_count(name), i;
	bool c1 = false;

	for (i = 0; i < count; i++) {
		/* OpenSSL refuses such a name when it decodes it, but does not promise that. */
		if (!can_be_printed(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)), &c1)) {
			return false;
		}
	}
	/* An empty name is printed in 0 characters. */
	return X509_NAME_print_ex(bio, name, 0, c1 ? XN_FLAG_RFC2253 : FLAGS_READABLE) >= 0;
}

static enum outcome add_distinguished_name(struct reader *reader, const X509_NAME *name, size_t *ret_place)
{
	const unsigned char *der;
	const char *printed;
	size_t der_length;
	long length;
	BIO *bio = NULL;
	enum outcome outcome = FAILED;

	if (!name || !X509_NAME_get0_der(UNCHANGED(name), &der, &der_length)) {
		return FAILED;
	}
	if (der_length > CERTIFICATE_NAME_MAX) {
		return LEFT_OUT;
	}
	bio = BIO_new(BIO_s_mem());
	if (!bio || !print_name(bio, name)) {
		goto out;
	}
	length = BIO_get_mem_data(bio, &printed);
	outcome = add(reader, length > 0 ? printed : "", length > 0 ? (size_t)length : 0, ret_place);
out:
	BIO_free(bio);
	return outcome;
}

static enum outcome add_common_name(struct reader *reader, const X509_NAME *subject)
{
	const ASN1_STRING *string;
	int at = -1, last = -1;

	while ((at = X509_NAME_get_index_by_NID(UNCHANGED(subject), NID_commonName, at)) >= 0) {
		last = at;
	}
	if (last < 0) {
		return LEFT_OUT;
	}
	string = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last));
	return add_string(reader, string, character_width(ASN1_STRING_type(string)), &reader->common_name);
}

/* ---- subject alternative names ---- */

static enum outcome add_address(struct reader *reader, const ASN1_STRING *address, size_t *ret_place)
{
	char printed[INET6_ADDRSTRLEN];
	int length = ASN1_STRING_length(address);

	if ((length != 4 && length != 16) ||
			!inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), printed,
					sizeof(printed))) {
		return LEFT_OUT;
	}
	return add(reader, printed, strlen(printed), ret_place);
}

/* NULL: not one of those that are read. */
static const char *name_type(int kind)
{
	switch (kind) {
	case GEN_DNS:
		return "DNS";
	case GEN_EMAIL:
		return "email";
	case GEN_URI:
		return "URI";
	case GEN_IPADD:
		return "IP";
	case GEN_DIRNAME:
		return "DirName";
	default:
		return NULL;
	}
}

static enum outcome add_name(struct reader *reader, const GENERAL_NAME *name)
{
	int kind;
	const void *value = GENERAL_NAME_get0_value(name, &kind);
	const char *type = name_type(kind);
	size_t place = NOWHERE;
	enum outcome outcome;

	if (!type) {
		return LEFT_OUT;
	}
	if (kind == GEN_IPADD) {
		outcome = add_address(reader, value, &place);
	} else if (kind == GEN_DIRNAME) {
		outcome = add_distinguished_name(reader, value, &place);
	} else {
		/* IA5String, which is ASCII; but UTF-8 is met there, and Python's ssl module reads it. */
		outcome = add_string(reader, value, 0, &place);
	}
	if (outcome == ADDED) {
		reader->names[reader->name_count].type = type;
		reader->names[reader->name_count].value = place;
		reader->name_count++;
	}
	return outcome;
}

static bool read_names(struct reader *reader, const X509 *x509)
{
	int position = X509_get_ext_by_NID(x509, NID_subject_alt_name, -1), count, i;
	GENERAL_NAMES *names;
	bool ok = true;

	/* Decoded, a name of two bytes takes a hundred. */
	if (position < 0 ||
			ASN1_STRING_length(X509_EXTENSION_get_data(X509_get_ext(x509, position))) >
					CERTIFICATE_EXTENSION_MAX) {
		return true;
	}
	/* NULL also when there is a second such extension: nobody could tell which is meant. */
	names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
	if (!names) {
		return false;
	}
	count = sk_GENERAL_NAME_num(names);
	for (i = 0; ok && i < count && reader->name_count < CERTIFICATE_NAMES_MAX; i++) {
		ok = add_name(reader, sk_GENERAL_NAME_value(names, i)) != FAILED;
	}
	GENERAL_NAMES_free(names);
	return ok;
}

/* ---- the rest ---- */

static bool read_serial_number(struct reader *reader, const X509 *x509)
{
	static const unsigned char zero = 0;
	const ASN1_INTEGER *number = X509_get0_serialNumber(x509);
	/* The magnitude; the sign is in the type. */
	const unsigned char *bytes = ASN1_STRING_get0_data(number);
	int length = ASN1_STRING_length(number);
	const char *sign = ASN1_STRING_type(number) == V_ASN1_NEG_INTEGER ? "-" : "";

	if (length <= 0) {
		bytes = &zero;
		length = 1;
	}
	return add_hexadecimal(reader, sign, bytes, (size_t)length, "0123456789ABCDEF", &reader->serial_number) ==
			ADDED;
}

static bool read_fingerprint(struct reader *reader, const X509 *x509)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length;

	return X509_digest(x509, EVP_sha256(), digest, &length) &&
			add_hexadecimal(reader, "", digest, length, "0123456789abcdef", &reader->fingerprint) == ADDED;
}

/* By the difference, as time_t may be too small: certificates without an end are valid until the end of
 * 9999. */
static bool read_time(const ASN1_TIME *time, const ASN1_TIME *epoch, int64_t *ret_seconds)
{
	int days, seconds;

	if (!ASN1_TIME_diff(&days, &seconds, epoch, time)) {
		return false;
	}
	*ret_seconds = (int64_t)days * 86400 + seconds;
	return true;
}

static bool read_validity(struct reader *reader, const X509 *x509)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	bool ok = epoch && read_time(X509_get0_notBefore(x509), epoch, &reader->not_before) &&
			read_time(X509_get0_notAfter(x509), epoch, &reader->not_after);

	ASN1_TIME_free(epoch);
	return ok;
}

static bool read_all(struct reader *reader, const X509 *x509)
{
	const X509_NAME *subject = X509_get_subject_name(x509);

	reader->common_name = NOWHERE;
	return add_distinguished_name(reader, subject, &reader->subject) == ADDED &&
			add_distinguished_name(reader, X509_get_issuer_name(x509), &reader->issuer) == ADDED &&
			add_common_name(reader, subject) != FAILED && read_serial_number(reader, x509) &&
			read_fingerprint(reader, x509) && read_validity(reader, x509) && read_names(reader, x509);
}

static struct certificate *assemble(const struct reader *reader)
{
	size_t names_size = reader->name_count * sizeof(struct certificate_name), i;
	struct certificate *certificate = malloc(sizeof(*certificate) + names_size + reader->text.length);
	struct certificate_name *names;
	char *text;

	if (!certificate) {
		return NULL;
	}
	names = (struct certificate_name *)(certificate + 1);
	text = (char *)(names + reader->name_count);
	memcpy(text, reader->text.data, reader->text.length);
	for (i = 0; i < reader->name_count; i++) {
		names[i].type = reader->names[i].type;
		names[i].value = text + reader->names[i].value;
	}
	*certificate = (struct certificate){
		.subject = text + reader->subject,
		.issuer = text + reader->issuer,
		.common_name = reader->common_name == NOWHERE ? NULL : text + reader->common_name,
		.serial_number = text + reader->serial_number,
		.fingerprint = text + reader->fingerprint,
		.not_before = reader->not_before,
		.not_after = reader->not_after,
		.name_count = reader->name_count,
		.names = names,
	};
	return certificate;
}

struct certificate *certificate_read(void *x509)
{
	struct reader reader = {0};
	struct certificate *certificate = NULL;

	if (!x509) {
		return NULL;
	}
	/* The broker's TLS code asks that queue what became of its own calls. */
	(void)ERR_set_mark();
	if (read_all(&reader, x509)) {
		certificate = assemble(&reader);
	}
	(void)ERR_pop_to_mark();
	text_free(&reader.text);
	return certificate;
}

void certificate_free(struct certificate *certificate)
{
	free(certificate);
}
