/* Certificates are made in memory with OpenSSL, encoded and decoded again, as they come from a connection.
 * One is fixed; what it says was printed by the openssl program. */
#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define ERR_raise(library, reason) ERR_put_error(library, 0, reason, __FILE__, __LINE__)
#define X509_VERSION_1 0
#define X509_VERSION_3 2
#endif

#include "scarce_memory.h"
#include "shared/certificate.h"

/* openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30000 -config ...
 *     -set_serial 0x7FC0FFEE1234567890ABCDEF0123456789ABCDEF */
static const char fixed_pem[] = "-----BEGIN CERTIFICATE-----\n"
								"MIICojCCAkegAwIBAgIUf8D/7hI0VniQq83vASNFZ4mrze8wCgYIKoZIzj0EAwIw\n"
								"YDELMAkGA1UEBhMCREUxHjAcBgNVBAoMFU3DvGxsZXIsIFPDtmhuZSAmIENvLjEP\n"
								"MA0GA1UECwwG5pel5pysMQwwCgYDVQQDDANodWIxEjAQBgNVBAMMCXNlbnNvci0x\n"
								"NzAgFw0yNjExMjQwNTM5NTBaGA8yMTA5MDExMzA1Mzk1MFowYDELMAkGA1UEBhMC\n"
								"REUxHjAcBgNVBAoMFU3DvGxsZXIsIFPDtmhuZSAmIENvLjEPMA0GA1UECwwG5pel\n"
								"5pysMQwwCgYDVQQDDANodWIxEjAQBgNVBAMMCXNlbnNvci0xNzBZMBMGByqGSM49\n"
								"AgEGCCqGSM49AwEHA0IABJNwRiOo9n+thdR09lU95xSJU0FpIOm3twFswG8+9Qbj\n"
								"9C+W6mHNgrIHSFvOyrcV7Sjt2QiD3X6oINsBmkrRm8KjgdwwgdkwgbcGA1UdEQSB\n"
								"rzCBrIIVc2Vuc29yLTE3LmV4YW1wbGUuY29tgQ9vcHNAZXhhbXBsZS5jb22GLXVy\n"
								"bjp1dWlkOmY4MWQ0ZmFlLTdkZWMtMTFkMC1hNzY1LTAwYTBjOTFlNmJmNocEwAAC\n"
								"B4cQIAENuAAAAAAAAAAAAAAAB4gDKgMEpCEwHzELMAkGA1UEBhMCRlIxEDAOBgNV\n"
								"BAMMB3BsYW50KzGgEwYKKwYBBAGCNxQCA6AFDAN4QHkwHQYDVR0OBBYEFM9i+C+I\n"
								"mUYIxGBUC2ANbj/ZCgwnMAoGCCqGSM49BAMCA0kAMEYCIQDpMLrORmAaFyAXhvI4\n"
								"VRlG+PpRRHHER4yXXCfmKLXa+gIhAN5NlueJbvAEyE3BIXpWGVni4GNiL4Y1zVVu\n"
								"91eYC32Q\n"
								"-----END CERTIFICATE-----\n";

/* The linker's --wrap makes them of the real ones. */
void *__real_malloc(size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);

static EVP_PKEY *key;

/* ---- making certificates ---- */

static void add_entry(X509_NAME *name, int nid, int type, const char *bytes, size_t length)
{
	/* A type that is not MBSTRING_...: the bytes are taken as they are. */
	assert_int_equal(
			X509_NAME_add_entry_by_NID(name, nid, type, (const unsigned char *)bytes, (int)length, -1, 0), 1);
}

static X509 *make(void)
{
	X509 *x509 = X509_new();
	X509_NAME *issuer = X509_NAME_new();

	assert_non_null(x509);
	assert_non_null(issuer);
	assert_int_equal(X509_set_version(x509, X509_VERSION_3), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x509), 1), 1);
	assert_int_equal(ASN1_TIME_set_string(X509_getm_notBefore(x509), "20200101000000Z"), 1);
	assert_int_equal(ASN1_TIME_set_string(X509_getm_notAfter(x509), "20300101000000Z"), 1);
	add_entry(issuer, NID_commonName, V_ASN1_UTF8STRING, "authority", 9);
	assert_int_equal(X509_set_issuer_name(x509, issuer), 1);
	assert_int_equal(X509_set_pubkey(x509, key), 1);
	X509_NAME_free(issuer);
	return x509;
}

static void set_subject(X509 *x509, X509_NAME *name)
{
	assert_int_equal(X509_set_subject_name(x509, name), 1);
	X509_NAME_free(name);
}

static X509 *make_with_entry(int nid, int type, const char *bytes, size_t length)
{
	X509 *x509 = make();
	X509_NAME *name = X509_NAME_new();

	add_entry(name, nid, type, bytes, length);
	set_subject(x509, name);
	return x509;
}

static void add_alternative_name(GENERAL_NAMES *names, int kind, const char *bytes, size_t length)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value = ASN1_STRING_type_new(kind == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

	assert_non_null(name);
	assert_non_null(value);
	assert_int_equal(ASN1_STRING_set(value, bytes, (int)length), 1);
	GENERAL_NAME_set0_value(name, kind, value);
	assert_true(sk_GENERAL_NAME_push(names, name) > 0);
}

static void add_directory_name(GENERAL_NAMES *names, X509_NAME *directory)
{
	GENERAL_NAME *name = GENERAL_NAME_new();

	assert_non_null(name);
	GENERAL_NAME_set0_value(name, GEN_DIRNAME, directory);
	assert_true(sk_GENERAL_NAME_push(names, name) > 0);
}

static void set_alternative_names(X509 *x509, GENERAL_NAMES *names)
{
	assert_int_equal(X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND), 1);
	GENERAL_NAMES_free(names);
}

static void add_raw_alternative_names(X509 *x509, const char *bytes, size_t length)
{
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	assert_int_equal(ASN1_OCTET_STRING_set(value, (const unsigned char *)bytes, (int)length), 1);
	extension = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(x509, extension, -1), 1);
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
}

/* Signs the certificate, frees it, and returns what a connection would have. */
static X509 *transport(X509 *x509)
{
	unsigned char *der = NULL;
	const unsigned char *at;
	X509 *received;
	int length;

	assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
	length = i2d_X509(x509, &der);
	assert_true(length > 0);
	X509_free(x509);
	at = der;
	received = d2i_X509(NULL, &at, length);
	assert_non_null(received);
	OPENSSL_free(der);
	return received;
}

static struct certificate *read_and_free(X509 *x509)
{
	X509 *received = transport(x509);
	struct certificate *certificate = certificate_read(received);

	X509_free(received);
	return certificate;
}

static X509 *make_fixed(void)
{
	BIO *bio = BIO_new_mem_buf(fixed_pem, -1);
	X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	assert_non_null(x509);
	BIO_free(bio);
	return x509;
}

static void assert_name(const struct certificate *certificate, size_t at, const char *type, const char *value)
{
	assert_true(at < certificate->name_count);
	assert_string_equal(certificate->names[at].type, type);
	assert_string_equal(certificate->names[at].value, value);
}

/* ---- what is read ---- */

static void assert_is_fixed(const struct certificate *certificate)
{
	static const char name[] = "CN=sensor-17,CN=hub,OU=日本,O=Müller\\, Söhne & Co.,C=DE";

	assert_string_equal(certificate->subject, name);
	assert_string_equal(certificate->issuer, name);
	assert_string_equal(certificate->common_name, "sensor-17");
	assert_string_equal(certificate->serial_number, "7FC0FFEE1234567890ABCDEF0123456789ABCDEF");
	assert_string_equal(certificate->fingerprint,
			"0a0be8d39affbc3abef0c19d5b44506862cbb629983f8c34ae46b9a1941c62ce");
	assert_true(certificate->not_before == 1795498790);
	assert_true(certificate->not_after == 4387498790);
	assert_int_equal(certificate->name_count, 6);
	assert_name(certificate, 0, "DNS", "sensor-17.example.com");
	assert_name(certificate, 1, "email", "ops@example.com");
	assert_name(certificate, 2, "URI", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
	assert_name(certificate, 3, "IP", "192.0.2.7");
	assert_name(certificate, 4, "IP", "2001:db8::7");
	/* between them: a registered ID; after it: another name */
	assert_name(certificate, 5, "DirName", "CN=plant\\+1,C=FR");
}

static void test_fixed_certificate(void **state)
{
	X509 *x509 = make_fixed();
	struct certificate *certificate = certificate_read(x509);

	(void)state;
	/* Nothing of it points into OpenSSL's. */
	X509_free(x509);
	assert_non_null(certificate);
	assert_is_fixed(certificate);
	certificate_free(certificate);
	certificate_free(NULL);
}

static void test_version_1(void **state)
{
	X509 *x509 = make_with_entry(NID_commonName, V_ASN1_PRINTABLESTRING, "old", 3);
	struct certificate *certificate;

	(void)state;
	assert_int_equal(X509_set_version(x509, X509_VERSION_1), 1);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_string_equal(certificate->subject, "CN=old");
	assert_string_equal(certificate->issuer, "CN=authority");
	assert_int_equal(certificate->name_count, 0);
	certificate_free(certificate);
}

static void test_empty_subject(void **state)
{
	struct certificate *certificate = read_and_free(make());

	(void)state;
	assert_non_null(certificate);
	assert_string_equal(certificate->subject, "");
	assert_null(certificate->common_name);
	certificate_free(certificate);
}

static void test_no_common_name(void **state)
{
	struct certificate *certificate =
			read_and_free(make_with_entry(NID_organizationName, V_ASN1_UTF8STRING, "Acme", 4));

	(void)state;
	assert_non_null(certificate);
	assert_string_equal(certificate->subject, "O=Acme");
	assert_null(certificate->common_name);
	certificate_free(certificate);
}

/* The last one is the most specific, also when others follow it that are no common name. */
static void test_several_common_names(void **state)
{
	X509 *x509 = make();
	X509_NAME *name = X509_NAME_new();
	struct certificate *certificate;

	(void)state;
	add_entry(name, NID_commonName, V_ASN1_UTF8STRING, "plant", 5);
	add_entry(name, NID_commonName, V_ASN1_UTF8STRING, "pump", 4);
	add_entry(name, NID_serialNumber, V_ASN1_PRINTABLESTRING, "42", 2);
	set_subject(x509, name);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_string_equal(certificate->subject, "serialNumber=42,CN=pump,CN=plant");
	assert_string_equal(certificate->common_name, "pump");
	certificate_free(certificate);
}

/* One that is less specific does not take the place of one that cannot be used. */
static void test_last_common_name_is_no_text(void **state)
{
	X509 *x509 = make();
	X509_NAME *name = X509_NAME_new();
	struct certificate *certificate;

	(void)state;
	add_entry(name, NID_commonName, V_ASN1_UTF8STRING, "admin", 5);
	add_entry(name, NID_commonName, V_ASN1_UTF8STRING, "x\0y", 3);
	set_subject(x509, name);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_null(certificate->common_name);
	certificate_free(certificate);
}

struct name_case {
	int type;
	const char *bytes;
	size_t length;
	const char *common_name;
	const char *subject;
};

static void test_strings(void **state)
{
	static const struct name_case cases[] = {
		{V_ASN1_UTF8STRING, "Zoë \xf0\x9f\x90\x9d", 9, "Zoë \xf0\x9f\x90\x9d", "CN=Zoë \xf0\x9f\x90\x9d"},
		{V_ASN1_UTF8STRING, "", 0, "", "CN="},
		{V_ASN1_UTF8STRING, "a,b+c\"d\\e<f>g;", 14, "a,b+c\"d\\e<f>g;", "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;"},
		{V_ASN1_T61STRING, "Zo\xeb", 3, "Zoë", "CN=Zoë"},
		{V_ASN1_BMPSTRING, "\0Z\0o\0\xeb\x65\xe5", 8, "Zoë日", "CN=Zoë日"},
		{V_ASN1_UNIVERSALSTRING, "\0\0\0Z\0\x01\xf4\x1d", 8, "Z\xf0\x9f\x90\x9d", "CN=Z\xf0\x9f\x90\x9d"},
		/* control characters are text, but printed they are escaped */
		{V_ASN1_UTF8STRING, "a\nb\x7f", 4, "a\nb\x7f", "CN=a\\0Ab\\7F"},
		{V_ASN1_UTF8STRING,
			"a\xc2\x9b"
			"b",
			4,
			"a\xc2\x9b"
			"b",
			"CN=a\\C2\\9Bb"},
		/* NULs */
		{V_ASN1_UTF8STRING, "admin\0.evil", 11, NULL, "CN=admin\\00.evil"},
		{V_ASN1_UTF8STRING, "admin\0", 6, NULL, "CN=admin\\00"},
		{V_ASN1_UTF8STRING, "\0", 1, NULL, "CN=\\00"},
		{V_ASN1_IA5STRING, "admin\0.evil", 11, NULL, "CN=admin\\00.evil"},
		{V_ASN1_BMPSTRING, "\0a\0\0\0b", 6, NULL, "CN=a\\00b"},
		/* no text, and says so */
		{V_ASN1_BIT_STRING, "admin", 5, NULL, "CN=#03060161646D696E"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509 *x509 = make_with_entry(NID_commonName, cases[i].type, cases[i].bytes, cases[i].length);
		struct certificate *certificate = read_and_free(x509);

		assert_non_null(certificate);
		assert_string_equal(certificate->subject, cases[i].subject);
		if (cases[i].common_name) {
			assert_non_null(certificate->common_name);
			assert_string_equal(certificate->common_name, cases[i].common_name);
		} else {
			assert_null(certificate->common_name);
		}
		certificate_free(certificate);
	}
}

/* OpenSSL decodes no such name, so it is made of one that it has decoded. */
static void test_subject_is_no_text(void **state)
{
	/* stray byte, cut short, overlong, surrogates, beyond Unicode */
	static const struct name_case cases[] = {
		{V_ASN1_UTF8STRING, "ab\xff", 3, NULL, NULL},
		{V_ASN1_UTF8STRING, "ab\xc3", 3, NULL, NULL},
		{V_ASN1_UTF8STRING, "ad\xc1\xad", 4, NULL, NULL},
		{V_ASN1_UTF8STRING, "\xc0\x80", 2, NULL, NULL},
		{V_ASN1_UTF8STRING, "\xed\xa0\x80", 3, NULL, NULL},
		{V_ASN1_UTF8STRING, "\xf4\x90\x80\x80", 4, NULL, NULL},
		{V_ASN1_BMPSTRING, "\0a\xd8\0\0b", 6, NULL, NULL},
		{V_ASN1_BMPSTRING, "\0a\0", 3, NULL, NULL},
		{V_ASN1_UNIVERSALSTRING, "\0\x11\0\0", 4, NULL, NULL},
		{V_ASN1_UNIVERSALSTRING, "\xff\0\0a", 4, NULL, NULL},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509 *x509 = transport(make_with_entry(NID_commonName, V_ASN1_UTF8STRING, "good", 4));
		X509_NAME_ENTRY *entry = X509_NAME_get_entry(X509_get_subject_name(x509), 0);
		struct certificate *certificate = certificate_read(x509);

		assert_non_null(certificate);
		certificate_free(certificate);
		assert_int_equal(X509_NAME_ENTRY_set_data(entry, cases[i].type, (const unsigned char *)cases[i].bytes,
								 (int)cases[i].length),
				1);
		assert_null(certificate_read(x509));
		X509_free(x509);
	}
}

static void test_serial_numbers(void **state)
{
	static const char *const cases[][2] = {
		{"0", "00"},
		{"5", "05"},
		{"80", "80"},
		{"0A1B", "0A1B"},
		{"-5", "-05"},
		{"-80", "-80"},
		{"-100", "-0100"},
		{"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"},
		{"-7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "-7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"},
		/* OpenSSL breaks the line in it when it prints this one */
		{"112233445566778899AABBCCDDEEFF112233445566778899AABBCCDDEEFF112233445566778899AABBCCDDEEFF",
			"112233445566778899AABBCCDDEEFF112233445566778899AABBCCDDEEFF112233445566778899AABBCCDDEE"
			"FF"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509 *x509 = make();
		BIGNUM *number = NULL;
		struct certificate *certificate;

		assert_true(BN_hex2bn(&number, cases[i][0]) > 0);
		assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)));
		BN_free(number);
		certificate = read_and_free(x509);
		assert_non_null(certificate);
		assert_string_equal(certificate->serial_number, cases[i][1]);
		certificate_free(certificate);
	}
}

/* As zero is before it is encoded. */
static void test_serial_number_without_bytes(void **state)
{
	X509 *x509 = transport(make());
	struct certificate *certificate;

	(void)state;
	assert_int_equal(ASN1_STRING_set(X509_get_serialNumber(x509), "", 0), 1);
	certificate = certificate_read(x509);
	assert_non_null(certificate);
	assert_string_equal(certificate->serial_number, "00");
	certificate_free(certificate);
	X509_free(x509);
}

/* Right is what `date -u -d ... +%s` says. */
static void test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{"500101000000Z", -631152000},
		{"19500101000000Z", -631152000},
		{"691231235959Z", -1},
		{"700101000000Z", 0},
		{"000229120000Z", 951825600},
		{"380119031408Z", 2147483648},
		{"491231235959Z", 2524607999},
		{"20500101000000Z", 2524608000},
		{"21060207062816Z", 4294967296},
		{"99991231235959Z", 253402300799},
		{"00010101000000Z", -62135596800},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509 *x509 = make();
		struct certificate *certificate;

		assert_int_equal(ASN1_TIME_set_string(X509_getm_notBefore(x509), cases[i].text), 1);
		assert_int_equal(ASN1_TIME_set_string(X509_getm_notAfter(x509), cases[i].text), 1);
		certificate = read_and_free(x509);
		assert_non_null(certificate);
		assert_true(certificate->not_before == cases[i].seconds);
		assert_true(certificate->not_after == cases[i].seconds);
		certificate_free(certificate);
	}
}

static void test_fingerprint_is_of_der_form(void **state)
{
	X509 *x509 = transport(make());
	struct certificate *certificate = certificate_read(x509);
	unsigned char *der = NULL, digest[32];
	int length = i2d_X509(x509, &der), i;
	char expected[65];

	(void)state;
	assert_non_null(certificate);
	assert_int_equal(EVP_Digest(der, (size_t)length, digest, NULL, EVP_sha256(), NULL), 1);
	for (i = 0; i < 32; i++) {
		snprintf(expected + i * 2, 3, "%02x", digest[i]);
	}
	assert_string_equal(certificate->fingerprint, expected);
	certificate_free(certificate);
	OPENSSL_free(der);
	X509_free(x509);
}

/* ---- alternative names ---- */

static void test_alternative_names(void **state)
{
	static const char ipv6_mapped[16] = {[10] = '\xff', '\xff', '\xc0', 0, 2, 1};
	X509 *x509 = make();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	X509_NAME *directory = X509_NAME_new();
	struct certificate *certificate;

	(void)state;
	add_alternative_name(names, GEN_URI, "mqtt://a/b?c", 12);
	add_alternative_name(names, GEN_DNS, "*.example.com", 13);
	add_alternative_name(names, GEN_DNS, "müller.example", 15);
	add_alternative_name(names, GEN_DNS, "", 0);
	add_alternative_name(names, GEN_IPADD, "\x7f\0\0\x01", 4);
	add_alternative_name(names, GEN_IPADD, "\xff\xff\xff\xff", 4);
	add_alternative_name(names, GEN_IPADD, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	add_alternative_name(names, GEN_IPADD, ipv6_mapped, 16);
	add_alternative_name(names, GEN_EMAIL, "a@b", 3);
	add_entry(directory, NID_organizationName, V_ASN1_UTF8STRING, "Zoë", 4);
	add_entry(directory, NID_commonName, V_ASN1_UTF8STRING, "a\0b", 3);
	add_directory_name(names, directory);
	set_alternative_names(x509, names);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_int_equal(certificate->name_count, 10);
	assert_name(certificate, 0, "URI", "mqtt://a/b?c");
	assert_name(certificate, 1, "DNS", "*.example.com");
	assert_name(certificate, 2, "DNS", "müller.example");
	assert_name(certificate, 3, "DNS", "");
	assert_name(certificate, 4, "IP", "127.0.0.1");
	assert_name(certificate, 5, "IP", "255.255.255.255");
	assert_name(certificate, 6, "IP", "::1");
	assert_name(certificate, 7, "IP", "::ffff:192.0.2.1");
	assert_name(certificate, 8, "email", "a@b");
	assert_name(certificate, 9, "DirName", "CN=a\\00b,O=Zoë");
	/* The common name is the subject's only. */
	assert_null(certificate->common_name);
	certificate_free(certificate);
}

static void test_unusable_names_are_left_out(void **state)
{
	static const int kinds[] = {GEN_DNS, GEN_EMAIL, GEN_URI};
	X509 *x509 = make();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	struct certificate *certificate;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		add_alternative_name(names, kinds[i], "good.example\0.evil", 18);
		add_alternative_name(names, kinds[i], "good.example\0", 13);
		add_alternative_name(names, kinds[i], "\0", 1);
		add_alternative_name(names, kinds[i], "good.exampl\xe9", 12);
		add_alternative_name(names, kinds[i], "g\xed\xa0\x80", 4);
	}
	add_alternative_name(names, GEN_IPADD, "", 0);
	add_alternative_name(names, GEN_IPADD, "\x7f\0\x01", 3);
	add_alternative_name(names, GEN_IPADD, "\x7f\0\0\x01\xff\0\0\0", 8);
	add_alternative_name(names, GEN_IPADD, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 17);
	add_alternative_name(names, GEN_DNS, "last.example", 12);
	set_alternative_names(x509, names);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_int_equal(certificate->name_count, 1);
	assert_name(certificate, 0, "DNS", "last.example");
	certificate_free(certificate);
}

static X509 *make_with_names(unsigned int count, unsigned int width)
{
	X509 *x509 = make();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	char *name = malloc(width + 1);
	unsigned int i;

	assert_non_null(name);
	for (i = 0; i < count; i++) {
		snprintf(name, width + 1, "%0*u", (int)width, i);
		add_alternative_name(names, GEN_DNS, name, width);
	}
	free(name);
	set_alternative_names(x509, names);
	return x509;
}

static void test_first_names_are_read(void **state)
{
	struct certificate *certificate = read_and_free(make_with_names(CERTIFICATE_NAMES_MAX + 100, 5));

	(void)state;
	assert_non_null(certificate);
	assert_int_equal(certificate->name_count, CERTIFICATE_NAMES_MAX);
	assert_name(certificate, 0, "DNS", "00000");
	assert_name(certificate, 255, "DNS", "00255");
	certificate_free(certificate);
}

static void test_ten_thousand_names(void **state)
{
	X509 *x509 = transport(make_with_names(10000, 12));
	unsigned long allocations = scarce_memory_allocations();
	struct certificate *certificate = certificate_read(x509);

	(void)state;
	assert_true(scarce_memory_allocations() - allocations < 1000);
	assert_non_null(certificate);
	assert_string_equal(certificate->issuer, "CN=authority");
	assert_int_equal(certificate->name_count, 0);
	certificate_free(certificate);
	X509_free(x509);
}

/* The strings' bound is met by names of an extension that is just short enough: what does not fit is left
 * out. */
static void test_names_without_room(void **state)
{
	X509 *x509 = make();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	X509_NAME *directory;
	char *long_value = malloc(8150);
	struct certificate *certificate;
	int i;

	(void)state;
	assert_non_null(long_value);
	memset(long_value, '\n', 8150);
	for (i = 0; i < 3; i++) {
		directory = X509_NAME_new();
		add_entry(directory, NID_commonName, V_ASN1_UTF8STRING, long_value, 8150);
		add_directory_name(names, directory);
	}
	add_alternative_name(names, GEN_DNS, "small.example", 13);
	free(long_value);
	set_alternative_names(x509, names);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	/* A line feed takes three bytes: two names fit. */
	assert_int_equal(certificate->name_count, 3);
	assert_int_equal(strlen(certificate->names[0].value), 3 + 3 * 8150);
	assert_int_equal(strlen(certificate->names[1].value), 3 + 3 * 8150);
	assert_name(certificate, 2, "DNS", "small.example");
	certificate_free(certificate);
}

static void test_long_directory_name_is_left_out(void **state)
{
	X509 *x509 = make();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	X509_NAME *directory = X509_NAME_new();
	char *long_value = malloc(CERTIFICATE_NAME_MAX);
	struct certificate *certificate;

	(void)state;
	assert_non_null(long_value);
	memset(long_value, 'x', CERTIFICATE_NAME_MAX);
	add_entry(directory, NID_commonName, V_ASN1_UTF8STRING, long_value, CERTIFICATE_NAME_MAX);
	free(long_value);
	add_directory_name(names, directory);
	add_alternative_name(names, GEN_DNS, "small.example", 13);
	set_alternative_names(x509, names);
	certificate = read_and_free(x509);
	assert_non_null(certificate);
	assert_int_equal(certificate->name_count, 1);
	assert_name(certificate, 0, "DNS", "small.example");
	certificate_free(certificate);
}

/* ---- what is refused ---- */

static void test_megabyte_of_subject(void **state)
{
	size_t length = 1000000;
	char *value = malloc(length);
	X509 *x509;
	unsigned long allocations;

	(void)state;
	assert_non_null(value);
	memset(value, 'x', length);
	x509 = transport(make_with_entry(NID_commonName, V_ASN1_UTF8STRING, value, length));
	free(value);
	allocations = scarce_memory_allocations();
	assert_null(certificate_read(x509));
	assert_true(scarce_memory_allocations() - allocations < 100);
	X509_free(x509);
}

static void test_long_issuer(void **state)
{
	X509 *x509 = make();
	X509_NAME *issuer = X509_NAME_new();
	char *value = malloc(CERTIFICATE_NAME_MAX);

	(void)state;
	assert_non_null(value);
	memset(value, 'x', CERTIFICATE_NAME_MAX);
	add_entry(issuer, NID_commonName, V_ASN1_UTF8STRING, value, CERTIFICATE_NAME_MAX);
	free(value);
	assert_int_equal(X509_set_issuer_name(x509, issuer), 1);
	X509_NAME_free(issuer);
	assert_null(read_and_free(x509));
}

static void test_long_serial_number(void **state)
{
	X509 *x509 = make();
	BIGNUM *number = BN_new();

	(void)state;
	assert_int_equal(BN_lshift(number, BN_value_one(), 8 * 100000), 1);
	assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)));
	BN_free(number);
	assert_null(read_and_free(x509));
}

/* From 3.5 on OpenSSL looks into a time when it decodes, and has no certificate for such a one. Older
 * releases hand it on; here nothing is decoded. */
static void test_broken_times(void **state)
{
	static const struct {
		const char *time;
		bool is_one;
	} cases[] = {{"20300101000000Z", true}, {"", false}, {"2020", false}, {"20201301000000Z", false},
		{"20200101000000", false}, {"20200230000000Z", false}, {"2020010100000\0Z", false},
		{"not a time, no", false}};
	struct certificate *certificate;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		X509 *x509 = make();

		assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
		assert_int_equal(ASN1_STRING_set(X509_getm_notAfter(x509), cases[i].time, (int)strlen(cases[i].time)),
				1);
		certificate = certificate_read(x509);
		assert_int_equal(certificate != NULL, cases[i].is_one);
		certificate_free(certificate);
		X509_free(x509);
	}
}

/* An extension that is no list of names, and two of them. */
static void test_broken_alternative_names(void **state)
{
	X509 *x509 = make();

	(void)state;
	add_raw_alternative_names(x509,
			"\x30\x05\x82\x09"
			"abc",
			7);
	assert_null(read_and_free(x509));

	x509 = make();
	add_raw_alternative_names(x509, "", 0);
	assert_null(read_and_free(x509));

	x509 = make();
	add_raw_alternative_names(x509,
			"\x30\x03\x82\x01"
			"a",
			5);
	add_raw_alternative_names(x509,
			"\x30\x03\x82\x01"
			"b",
			5);
	assert_null(read_and_free(x509));
}

static void test_no_certificate(void **state)
{
	X509 *empty = X509_new();

	(void)state;
	assert_null(certificate_read(NULL));
	assert_null(certificate_read(empty));
	X509_free(empty);
}

/* ---- what it leaves behind ---- */

static void test_error_queue_is_left_alone(void **state)
{
	X509 *broken = make(), *fixed = make_fixed();
	unsigned long before;

	(void)state;
	add_raw_alternative_names(broken,
			"\x30\x05\x82\x09"
			"abc",
			7);
	broken = transport(broken);

	ERR_clear_error();
	assert_null(certificate_read(broken));
	assert_int_equal(ERR_peek_error(), 0);

	ERR_raise(ERR_LIB_USER, 123);
	before = ERR_peek_error();
	assert_null(certificate_read(broken));
	certificate_free(certificate_read(fixed));
	assert_int_equal(ERR_get_error(), before);
	assert_int_equal(ERR_get_error(), 0);
	X509_free(broken);
	X509_free(fixed);
}

/* OpenSSL's allocations, which come here, fail only while this is set. */
static bool openssl_too;

static void *openssl_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return openssl_too ? malloc(size) : __real_malloc(size);
}

static void *openssl_realloc(void *block, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return openssl_too ? realloc(block, size) : __real_realloc(block, size);
}

static void openssl_free(void *block, const char *file, int line)
{
	(void)file;
	(void)line;
	__real_free(block);
}

static void test_no_memory(void **state)
{
	X509 *x509 = make_fixed();
	long blocks = scarce_memory_blocks();
	struct certificate *certificate;
	unsigned long n;

	(void)state;
	for (n = 1;; n++) {
		scarce_memory(n, false);
		certificate = certificate_read(x509);
		if (!scarce_memory_end()) {
			break;
		}
		assert_null(certificate);
		assert_int_equal(scarce_memory_blocks(), blocks);
	}
	assert_true(n > 10);
	assert_non_null(certificate);
	assert_is_fixed(certificate);
	assert_int_equal(scarce_memory_blocks(), blocks + 1);
	certificate_free(certificate);
	assert_int_equal(scarce_memory_blocks(), blocks);
	X509_free(x509);
}

/* The last test: the count of blocks is wrong after it, as OpenSSL's are freed past it.
 *
 * OpenSSL can do without some of its allocations; but what is returned is everything or nothing. */
static void test_no_memory_in_openssl(void **state)
{
	X509 *x509 = make_fixed();
	struct certificate *certificate;
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		openssl_too = true;
		scarce_memory(n, false);
		certificate = certificate_read(x509);
		failed = scarce_memory_end();
		openssl_too = false;
		assert_int_equal(ERR_peek_error(), 0);
		if (certificate) {
			assert_is_fixed(certificate);
		}
		assert_true(failed || certificate);
		certificate_free(certificate);
	}
	assert_true(n > 50);
	X509_free(x509);
}

static int make_key(void **state)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	bool ok = context && EVP_PKEY_keygen_init(context) > 0 &&
			EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) > 0 &&
			EVP_PKEY_keygen(context, &key) > 0;

	(void)state;
	EVP_PKEY_CTX_free(context);
	return ok ? 0 : -1;
}

static int free_key(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed_certificate),
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_empty_subject),
		cmocka_unit_test(test_no_common_name),
		cmocka_unit_test(test_several_common_names),
		cmocka_unit_test(test_last_common_name_is_no_text),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_subject_is_no_text),
		cmocka_unit_test(test_serial_numbers),
		cmocka_unit_test(test_serial_number_without_bytes),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_fingerprint_is_of_der_form),
		cmocka_unit_test(test_alternative_names),
		cmocka_unit_test(test_unusable_names_are_left_out),
		cmocka_unit_test(test_first_names_are_read),
		cmocka_unit_test(test_ten_thousand_names),
		cmocka_unit_test(test_names_without_room),
		cmocka_unit_test(test_long_directory_name_is_left_out),
		cmocka_unit_test(test_megabyte_of_subject),
		cmocka_unit_test(test_long_issuer),
		cmocka_unit_test(test_long_serial_number),
		cmocka_unit_test(test_broken_times),
		cmocka_unit_test(test_broken_alternative_names),
		cmocka_unit_test(test_no_certificate),
		cmocka_unit_test(test_error_queue_is_left_alone),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_in_openssl),
	};

	/* Before OpenSSL has allocated anything. */
	if (!CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free)) {
		return 1;
	}
	return cmocka_run_group_tests(tests, make_key, free_key);
}
