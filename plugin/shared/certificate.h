/* What a TLS client certificate says of its owner.
 *
 * It is read once for each connection, on the broker thread, into one heap block that nothing changes
 * afterwards: any thread may read that, and does not need OpenSSL for it.
 *
 * Whether to trust the certificate is not asked here; the broker has done that. But what it says is taken as
 * it stands, or not at all: no value is cut short or mended, so that none becomes another's. An embedded NUL
 * would do that to a C string ("admin\0.evil.example"), a character that is left out to any string. */
#ifndef MQTTASGI_CERTIFICATE_H
#define MQTTASGI_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

/* At most as many subject alternative names; those that come after them are left out. */
#define CERTIFICATE_NAMES_MAX 256
/* Bytes of the extension that holds them; of a longer one none is read. */
#define CERTIFICATE_EXTENSION_MAX 65536
/* Bytes that a subject, an issuer or a DirName takes in the certificate. One with a longer subject or issuer
 * is refused, a longer DirName is left out. */
#define CERTIFICATE_NAME_MAX 8192
/* Bytes of all strings together, their NULs included. An alternative name that finds no room is left out;
 * where one of the other strings does not, which takes a serial number of thousands of bytes, the certificate
 * is refused. */
#define CERTIFICATE_TEXT_MAX 65536

struct certificate_name {
	/* "DNS", "email", "URI", "IP" or "DirName", as OpenSSL and Python's ssl module name them, save that these
	 * print "IP Address". Names of other types are left out. */
	const char *type;
	const char *value; /* UTF-8; of "DirName" as the subject is written, of "IP" as inet_ntop() does */
};

struct certificate {
	/* RFC 2253, UTF-8, control characters escaped; with one of U+0080 to U+009F in it, everything that is not
	 * ASCII. May be empty. */
	const char *subject, *issuer;
	/* UTF-8. The subject's most specific one, which is the last in the certificate and the first in the
	 * subject above. NULL: there is none, or it has a NUL in it or is no text; one that is less specific does
	 * not take its place. */
	const char *common_name;
	const char *serial_number;     /* hexadecimal, upper case, two digits a byte; '-' before a negative one */
	const char *fingerprint;       /* SHA-256 of the DER form, hexadecimal, lower case */
	int64_t not_before, not_after; /* seconds since the epoch */
	/* Subject alternative names, in their order. Values with a NUL in them and those that are no text are
	 * left out. Control characters other than NUL are text: who prints a value escapes them. */
	size_t name_count;
	const struct certificate_name *names;
};

/* Broker thread. Of an X509 *, as mosquitto_client_certificate() gives it; it stays the caller's. OpenSSL's
 * error queue is afterwards what it was before. certificate_free() frees what is returned. NULL: memory ran
 * out, or x509 is no certificate (NULL too), has parts that cannot be read, or is refused for its size. */
struct certificate *certificate_read(void *x509) __attribute__((warn_unused_result));

/* Any thread. Takes NULL. */
void certificate_free(struct certificate *certificate);

#endif
