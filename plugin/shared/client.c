#include "shared/client.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/certificate.h"
#include "shared/text.h"

struct client {
	struct client_description description;
	atomic_uint references;
	struct certificate *certificate; /* owned; also when it is not valid */
	size_t size;
	char strings[];
};

/* The broker lets in whom OpenSSL accepted, but may be told not to look at dates
 * (disable_client_cert_date_checks), and a connection may last longer than its certificate. */
static bool is_valid(const struct certificate *certificate)
{
	int64_t now = (int64_t)time(NULL);

	return certificate && now >= certificate->not_before && now <= certificate->not_after;
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

static size_t size_of(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static size_t size_of_certificate(const struct certificate *certificate)
{
	size_t size, i;

	if (!certificate) {
		return 0;
	}
	size = sizeof(*certificate) + certificate->name_count * sizeof(certificate->names[0]) +
			size_of(certificate->subject) + size_of(certificate->issuer) + size_of(certificate->common_name) +
			size_of(certificate->serial_number) + size_of(certificate->fingerprint);
	for (i = 0; i < certificate->name_count; i++) {
		size += size_of(certificate->names[i].value);
	}
	return size;
}

static struct client *make(const struct client_description *description, struct certificate *certificate,
		bool certificate_is_valid)
{
	size_t size = sizeof(struct client) + size_of(description->id) + size_of(description->username) +
			size_of(description->address);
	struct client *client = calloc(1, size);
	char *at;

	if (!client) {
		certificate_free(certificate);
		return NULL;
	}
	atomic_init(&client->references, 1);
	client->certificate = certificate;
	client->size = size + size_of_certificate(certificate);
	client->description = *description;
	at = client->strings;
	client->description.id = put(&at, description->id);
	client->description.username = put(&at, description->username);
	client->description.address = put(&at, description->address);
	client->description.certificate = certificate_is_valid ? certificate : NULL;
	return client;
}

struct client *client_new(const struct client_description *description, struct certificate *certificate)
{
	return make(description, certificate, is_valid(certificate));
}

struct client *client_of_file(const struct client_description *description, struct certificate *certificate)
{
	return make(description, certificate, true);
}

struct client *client_hold(struct client *client)
{
	(void)atomic_fetch_add_explicit(&client->references, 1, memory_order_relaxed);
	return client;
}

void client_release(struct client *client)
{
	if (client && atomic_fetch_sub_explicit(&client->references, 1, memory_order_acq_rel) == 1) {
		certificate_free(client->certificate);
		free(client);
	}
}

const struct client_description *client_description(const struct client *client)
{
	return &client->description;
}

size_t client_size(const struct client *client)
{
	return client->size;
}

bool client_is_current(const struct client *client)
{
	return !client->certificate || is_valid(client->certificate) == (client->description.certificate != NULL);
}

bool client_is_same(const struct client *client, const struct client *other)
{
	const struct client_description *a = &client->description, *b = &other->description;

	return text_equal(a->id, b->id) && text_equal(a->username, b->username) &&
			!a->certificate == !b->certificate &&
			(!a->certificate || text_equal(a->certificate->fingerprint, b->certificate->fingerprint));
}
