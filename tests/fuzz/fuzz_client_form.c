/* Bytes → a client: what is read is text, within the bounds of a certificate, and writes the same bytes
 * again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/client_form.h"
#include "shared/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* Whether wide characters come out of it, by the table in RFC 3629, section 3. */
static void check_text(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t character, least;
	unsigned int more;

	for (; *s; s++) {
		more = *s < 0x80 ? 0 : *s < 0xe0 ? 1 : *s < 0xf0 ? 2 : 3;
		character = more == 0 ? *s : *s & (0x3fU >> more);
		least = more == 0 ? 1 : more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
		require(*s < 0x80 || (*s >= 0xc0 && *s < 0xf8), "not the first byte of a character");
		for (; more > 0; more--) {
			s++;
			require((*s & 0xc0) == 0x80, "half a character");
			character = character << 6 | (*s & 0x3f);
		}
		require(character >= least && character <= 0x10ffff && (character < 0xd800 || character > 0xdfff),
				"no character");
	}
}

static size_t check_known(const char *text)
{
	require(text != NULL, "not there");
	check_text(text);
	return strlen(text) + 1;
}

static void check_certificate(const struct certificate *certificate)
{
	size_t length = check_known(certificate->subject) + check_known(certificate->issuer) +
			check_known(certificate->serial_number) + check_known(certificate->fingerprint),
		   i;

	if (certificate->common_name) {
		length += check_known(certificate->common_name);
	}
	require(strlen(certificate->fingerprint) == 64, "not SHA-256");
	require(certificate->name_count <= CERTIFICATE_NAMES_MAX, "too many names");
	for (i = 0; i < certificate->name_count; i++) {
		(void)check_known(certificate->names[i].type);
		length += check_known(certificate->names[i].value);
	}
	require(length <= CERTIFICATE_TEXT_MAX, "too much text");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client *client = client_unpack(data, size);
	const struct client_description *known;
	struct text again = {0};

	if (!client) {
		return 0;
	}
	known = client_description(client);
	(void)check_known(known->id);
	if (known->username) {
		check_text(known->username);
	}
	if (known->address) {
		check_text(known->address);
	}
	if (known->certificate) {
		check_certificate(known->certificate);
	}
	client_pack(client, &again);
	require(!again.failed && again.length == size && memcmp(again.data, data, size) == 0,
			"another form of the same");
	text_free(&again);
	client_release(client);
	return 0;
}
