#include "session/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "options/options.h"

bool tls_is_wanted(const struct options *options)
{
	return options->use_ssl || options->cacert || options->cert;
}

/* OpenSSL's words for the oldest error of this thread. */
static const char *first_error(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());

	return text ? text : "no reason given";
}

static void refuse_file(const char *option, const char *file, char *reason, size_t size)
{
	(void)snprintf(reason, size, "option %s: '%s' cannot be used: %s", option, file, first_error());
}

/* Else OpenSSL would ask at the terminal. */
static int has_no_password(char *buffer, int size, int is_for_writing, void *userdata)
{
	(void)buffer;
	(void)size;
	(void)is_for_writing;
	(void)userdata;
	return -1;
}

static bool load_own(SSL_CTX *context, const struct options *options, char *reason, size_t size)
{
	if (options->cert && SSL_CTX_use_certificate_chain_file(context, options->cert) != 1) {
		refuse_file("cert", options->cert, reason, size);
		return false;
	}
	if (options->key && SSL_CTX_use_PrivateKey_file(context, options->key, SSL_FILETYPE_PEM) != 1) {
		refuse_file("key", options->key, reason, size);
		return false;
	}
	if (options->key && SSL_CTX_check_private_key(context) != 1) {
		(void)snprintf(reason, size, "options cert and key: '%s' is not the key of '%s'", options->key,
				options->cert);
		return false;
	}
	return true;
}

SSL_CTX *tls_context(const struct options *options, char *reason, size_t size)
{
	SSL_CTX *context;

	ERR_clear_error();
	context = SSL_CTX_new(TLS_client_method());
	if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
		(void)snprintf(reason, size, "OpenSSL cannot be used: %s", first_error());
		goto fail;
	}
	SSL_CTX_set_default_passwd_cb(context, has_no_password);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Without a file of their own, wherever OpenSSL and its environment say that the system's authorities
	 * are. */
	if (options->cacert ? SSL_CTX_load_verify_locations(context, options->cacert, NULL) != 1
						: SSL_CTX_set_default_verify_paths(context) != 1) {
		refuse_file("cacert", options->cacert ? options->cacert : "the system's certificates", reason, size);
		goto fail;
	}
	if (!load_own(context, options, reason, size)) {
		goto fail;
	}
	return context;
fail:
	SSL_CTX_free(context);
	ERR_clear_error();
	return NULL;
}

static bool is_address(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

SSL *tls_connection(SSL_CTX *context, int descriptor, const char *host)
{
	SSL *connection = SSL_new(context);

	if (connection && SSL_set_fd(connection, descriptor) == 1 &&
			(is_address(host) || SSL_set_tlsext_host_name(connection, host) == 1)) {
		return connection;
	}
	SSL_free(connection);
	ERR_clear_error();
	return NULL;
}

/* As Mosquitto's own client does it: an address may also stand where names do. */
bool tls_is_for(const SSL *connection, const char *host)
{
	X509 *certificate = SSL_get_peer_certificate(connection);
	bool is_for = certificate &&
			(X509_check_host(certificate, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1 ||
					(is_address(host) && X509_check_ip_asc(certificate, host, 0) == 1));

	X509_free(certificate);
	ERR_clear_error();
	return is_for;
}

/* It is closed without a word of TLS; what is missing at the end MQTT would notice. */
static bool is_plain_end(unsigned long error)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
	return ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
	(void)error;
	return false; /* OpenSSL 1.1.1 says that it is an error of the system, without a number */
#endif
}

void tls_describe(const SSL *connection, int code, char *reason, size_t size)
{
	long verified = SSL_get_verify_result(connection);
	unsigned long error = ERR_peek_error();

	if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		(void)snprintf(reason, size, "the listener's certificate is refused: %s",
				X509_verify_cert_error_string(verified));
	} else if (code == SSL_ERROR_SYSCALL && !error) {
		(void)snprintf(reason, size, "%s", errno ? strerror(errno) : "the broker closed the connection");
	} else if (code == SSL_ERROR_ZERO_RETURN || (SSL_is_init_finished(connection) && is_plain_end(error))) {
		(void)snprintf(reason, size, "the broker closed the connection");
	} else {
		(void)snprintf(reason, size, "TLS failed: %s", first_error());
	}
	ERR_clear_error();
}

void tls_end(SSL *connection)
{
	(void)SSL_shutdown(connection);
	ERR_clear_error();
}
