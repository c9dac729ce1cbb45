/* Bytes → a certificate as OpenSSL decodes it; what certificate.c says of it is text, and within its
 * bounds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "shared/certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* Bytes of the character by the table in RFC 3629, section 4; 0: none. */
static size_t character_length(const unsigned char *s)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4, i;

	if ((s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4 || (s[0] == 0xe0 && s[1] < 0xa0) ||
			(s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
		return 0;
	}
	for (i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	return length;
}

/* Returns the bytes it takes. */
static size_t check_text(const char *text, int may_have_controls)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t length;

	while (*s) {
		length = character_length(s);
		require(length > 0, "not UTF-8");
		require(may_have_controls || (*s >= 0x20 && *s != 0x7f && !(s[0] == 0xc2 && s[1] < 0xa0)),
				"a control character");
		s += length;
	}
	return strlen(text) + 1;
}

static size_t check_hexadecimal(const char *text, const char *digits)
{
	size_t length = strlen(text);

	require(length > 0 && length % 2 == 0 && strspn(text, digits) == length, "not hexadecimal");
	return length + 1;
}

static void check(const struct certificate *certificate)
{
	const char *serial_number = certificate->serial_number;
	size_t length = check_text(certificate->subject, 0) + check_text(certificate->issuer, 0), i;

	if (certificate->common_name) {
		length += check_text(certificate->common_name, 1);
	}
	length += check_hexadecimal(serial_number + (*serial_number == '-'), "0123456789ABCDEF");
	length += check_hexadecimal(certificate->fingerprint, "0123456789abcdef");
	require(strlen(certificate->fingerprint) == 64, "not SHA-256");
	/* the years 0000 to 9999, and a day more for the time zone */
	require(certificate->not_before >= -62167219200 - 86400 && certificate->not_before < 253402300800 + 86400,
			"not_before out of range");
	require(certificate->not_after >= -62167219200 - 86400 && certificate->not_after < 253402300800 + 86400,
			"not_after out of range");
	require(certificate->name_count <= CERTIFICATE_NAMES_MAX, "too many names");
	for (i = 0; i < certificate->name_count; i++) {
		const struct certificate_name *name = &certificate->names[i];

		length += check_text(name->value, strcmp(name->type, "DirName") != 0);
	}
	require(length <= CERTIFICATE_TEXT_MAX, "too much text");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *at = data;
	X509 *x509 = d2i_X509(NULL, &at, (long)size);
	struct certificate *certificate;

	ERR_clear_error();
	if (x509) {
		certificate = certificate_read(x509);
		if (certificate) {
			check(certificate);
		}
		certificate_free(certificate);
		require(ERR_peek_error() == 0, "something is left in the error queue");
		X509_free(x509);
	}
	return 0;
}
