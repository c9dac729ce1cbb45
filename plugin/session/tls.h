/* The client's side of TLS, by OpenSSL, as the options cacert, cert, key and use_ssl ask for it. One
 * thread. */
#ifndef MQTTASGI_TLS_H
#define MQTTASGI_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct options;

/* Whether options ask for TLS. */
bool tls_is_wanted(const struct options *options);

/* Reads the files that options name; each connection does so anew, because certificates are renewed. NULL: a
 * sentence's end in reason. The caller frees it with SSL_CTX_free(). */
SSL_CTX *tls_context(const struct options *options, char *reason, size_t size)
		__attribute__((warn_unused_result));

/* A connection over this socket, for SSL_connect(). NULL: no memory. The caller frees it with SSL_free(). */
SSL *tls_connection(SSL_CTX *context, int descriptor, const char *host) __attribute__((warn_unused_result));

/* After SSL_connect(): whether the listener's certificate is one for host, which may be an address. */
bool tls_is_for(const SSL *connection, const char *host);

/* Describes what SSL_connect(), SSL_read() or SSL_write() failed with, which returned SSL_get_error() code,
 * and takes it off the thread's list of errors. */
void tls_describe(const SSL *connection, int code, char *reason, size_t size);

/* Says that nothing more will be written. */
void tls_end(SSL *connection);

#endif
