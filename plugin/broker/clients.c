/* DESIGN
 * One entry a connection. Most are only an address: a client is described when somebody wants to know, which
 * costs some allocations and, with a certificate, some 50 µs of OpenSSL's time, and that description serves
 * until it is gone.
 *
 * On Mosquitto 2.0, which has no event for a client that was let in, an entry is made when the broker asks
 * whether it may log in. One that was refused is gone before the broker's turn ends; on some versions without
 * its id.
 *
 * And it tells a second time that a client is gone whose session it kept: when that connects again, of the
 * connection that ended long ago. Where this cannot be told from the rest by what was announced, the address
 * is kept until then. */
#include "broker/clients.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/mosquitto_api.h"
#include "shared/table.h"
#include "shared/text.h"

/* False in a build that shows what it costs (WITHOUT in CMakeLists.txt). */
#ifdef WITHOUT_IDENTITY
#define PUBLISHERS_ARE_TOLD false
#else
#define PUBLISHERS_ARE_TOLD true
#endif

struct connection {
	struct table_entry entry;
	struct connection *next_asking;
	const struct mosquitto *mosquitto;
	struct client *client; /* NULL: not described yet */
	bool began_clean;      /* Clean Session, or Clean Start, as it was asked for */
	bool asks;             /* to be let in */
	bool is_announced;     /* those who watch were told, or would have been */
	char *offline_id;      /* of a client that is gone, and may be told of again; NULL: it is connected */
};

struct clients {
	struct table connections;
	struct connection *asking;
	struct connection *last; /* that published: the next message is often its, too */
	const char *session_id;
	bool tells_connects;
	struct recipient *watchers;
	size_t watcher_count;
	struct message *first_event, *last_event;
	uint64_t last_number;
};

struct clients *clients_new(bool tells_connects, const char *session_id)
{
	struct clients *clients = calloc(1, sizeof(*clients));

	if (clients) {
		clients->tells_connects = tells_connects;
		clients->session_id = session_id;
	}
	return clients;
}

/* ---- connections ---- */

static uint64_t hash_address(const struct mosquitto *mosquitto)
{
	uint64_t hash = (uint64_t)(uintptr_t)mosquitto;

	return (hash >> 4) ^ (hash >> 20);
}

static struct connection *find(const struct clients *clients, const struct mosquitto *mosquitto)
{
	struct table_entry *entry = table_chain(&clients->connections, hash_address(mosquitto));

	while (entry && ((struct connection *)entry)->mosquitto != mosquitto) {
		entry = entry->next;
	}
	return (struct connection *)entry; /* its first member */
}

static struct connection *add(struct clients *clients, const struct mosquitto *mosquitto)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		return NULL;
	}
	connection->mosquitto = mosquitto;
	connection->began_clean = mosquitto_client_clean_session(mosquitto);
	connection->entry.hash = hash_address(mosquitto);
	if (table_insert(&clients->connections, &connection->entry)) {
		free(connection);
		return NULL;
	}
	return connection;
}

static void stop_asking(struct clients *clients, struct connection *connection)
{
	struct connection **at = &clients->asking;

	if (!connection->asks) {
		return;
	}
	while (*at != connection) {
		at = &(*at)->next_asking;
	}
	*at = connection->next_asking;
	connection->asks = false;
}

static void forget(struct clients *clients, struct connection *connection)
{
	stop_asking(clients, connection);
	if (clients->last == connection) {
		clients->last = NULL;
	}
	table_remove(&clients->connections, &connection->entry);
	client_release(connection->client);
	free(connection->offline_id);
	free(connection);
}

/* Like find(), and what is kept of a connection that had the address before is forgotten. */
static struct connection *find_connected(struct clients *clients, const struct mosquitto *mosquitto)
{
	struct connection *connection = find(clients, mosquitto);

	if (connection && connection->offline_id) {
		forget(clients, connection);
		connection = NULL;
	}
	return connection;
}

/* ---- descriptions ---- */

static struct certificate *read_certificate(const struct mosquitto *mosquitto)
{
	X509 *x509 = mosquitto_client_certificate(mosquitto);
	struct certificate *certificate = x509 ? certificate_read(x509) : NULL;

	X509_free(x509);
	return certificate;
}

/* Whether what is known of a connection holds: a plugin may change a username, a certificate expires. */
static bool is_current(const struct connection *connection)
{
	const struct client_description *known;

	if (!connection->client) {
		return false;
	}
	known = client_description(connection->client);
	return text_equal(known->id, mosquitto_client_id(connection->mosquitto)) &&
			text_equal(known->username, mosquitto_client_username(connection->mosquitto)) &&
			client_is_current(connection->client);
}

/* Borrowed. NULL when memory ran out. */
static struct client *describe(struct clients *clients, struct connection *connection)
{
	const struct mosquitto *mosquitto = connection->mosquitto;
	struct client_description description;

	if (is_current(connection)) {
		return connection->client;
	}
	description = (struct client_description){
		.number = ++clients->last_number,
		.id = mosquitto_client_id(mosquitto),
		.username = mosquitto_client_username(mosquitto),
		.address = mosquitto_client_address(mosquitto),
		.protocol_version = mosquitto_client_protocol_version(mosquitto),
		.websockets = mosquitto_client_protocol(mosquitto) == mp_websockets,
	};
	if (!description.id) {
		description.id = "";
	}
	client_release(connection->client);
	connection->client = client_new(&description, read_certificate(mosquitto));
	return connection->client;
}

/* ---- events ---- */

static const struct message connects = {.kind = MESSAGE_CONNECT};

/* Without memory for it nobody is told. */
static void put_event(struct clients *clients, struct connection *connection, const struct message *what,
		const struct recipient *recipients, size_t count)
{
	struct client *client = count ? describe(clients, connection) : NULL;
	struct message *event = client ? message_copy_for(what, client, recipients, count) : NULL;

	if (!event) {
		return;
	}
	if (clients->first_event) {
		clients->last_event->next = event;
	} else {
		clients->first_event = event;
	}
	clients->last_event = event;
}

static void put_for_watchers(struct clients *clients, struct connection *connection,
		const struct message *what)
{
	put_event(clients, connection, what, clients->watchers, clients->watcher_count);
}

void clients_tell(struct clients *clients, const struct mosquitto *mosquitto, const struct message *what)
{
	struct connection *connection = find(clients, mosquitto);

	if (connection && connection->is_announced) {
		put_for_watchers(clients, connection, what);
	}
}

static void announce(struct clients *clients, struct connection *connection)
{
	stop_asking(clients, connection);
	if (!connection->is_announced) {
		connection->is_announced = true;
		put_for_watchers(clients, connection, &connects);
	}
}

struct message *clients_take(struct clients *clients)
{
	struct message *event = clients->first_event;

	if (event) {
		clients->first_event = event->next;
	}
	return event;
}

void clients_free(struct clients *clients)
{
	struct table_entry *entry, *next;
	struct message *event;
	size_t i;

	if (!clients) {
		return;
	}
	for (i = 0; i < clients->connections.bucket_count; i++) {
		for (entry = clients->connections.buckets[i]; entry; entry = next) {
			next = entry->next;
			client_release(((struct connection *)entry)->client);
			free(((struct connection *)entry)->offline_id);
			free(entry);
		}
	}
	free(clients->connections.buckets);
	while ((event = clients_take(clients))) {
		message_free(event);
	}
	free(clients->watchers);
	free(clients);
}

/* ---- what the broker tells ---- */

static bool is_session(const struct clients *clients, const struct mosquitto *mosquitto)
{
	return clients->session_id && text_equal(clients->session_id, mosquitto_client_id(mosquitto));
}

struct client *clients_publisher(struct clients *clients, const struct mosquitto *mosquitto)
{
	struct connection *connection = clients->last;
	struct client *client;

	if (!PUBLISHERS_ARE_TOLD) {
		return NULL;
	}
	if (!connection || connection->mosquitto != mosquitto) {
		connection = find_connected(clients, mosquitto);
		if (!connection) {
			connection = add(clients, mosquitto);
		}
		if (!connection) {
			return NULL;
		}
		clients->last = connection;
	}
	/* Mosquitto 2.0 does not ask about clients whose certificate names them. */
	if (clients->tells_connects) {
		announce(clients, connection);
	}
	client = describe(clients, connection);
	return client ? client_hold(client) : NULL;
}

void clients_logs_in(struct clients *clients, const struct mosquitto *mosquitto)
{
	struct connection *connection =
			is_session(clients, mosquitto) ? NULL : find_connected(clients, mosquitto);

	if (!connection && !is_session(clients, mosquitto)) {
		connection = add(clients, mosquitto);
	}
	if (connection && !connection->asks && !connection->is_announced) {
		connection->asks = true;
		connection->next_asking = clients->asking;
		clients->asking = connection;
	}
}

void clients_settle(struct clients *clients)
{
	struct connection *connection, *oldest = NULL, *next;

	/* The newest is first in the list. */
	for (connection = clients->asking; connection; connection = next) {
		next = connection->next_asking;
		connection->next_asking = oldest;
		oldest = connection;
	}
	clients->asking = oldest;
	while ((connection = clients->asking)) {
		if (mosquitto_client_id(connection->mosquitto)) {
			announce(clients, connection);
		} else {
			stop_asking(clients, connection);
		}
	}
}

void clients_connected(struct clients *clients, const struct mosquitto *mosquitto)
{
	struct connection *connection;

	if (is_session(clients, mosquitto)) {
		return;
	}
	connection = find(clients, mosquitto);
	if (connection) {
		forget(clients, connection); /* it cannot be the same */
	}
	connection = add(clients, mosquitto);
	if (connection) {
		announce(clients, connection);
	}
}

/* Whether the end of this connection was told before: when it is told again, the broker has another for the
 * client, and says of this one that its session is not kept. */
static bool was_gone(const struct connection *connection)
{
	return connection && connection->offline_id && mosquitto_client_clean_session(connection->mosquitto) &&
			text_equal(connection->offline_id, mosquitto_client_id(connection->mosquitto));
}

/* Without memory for it the client's end may be told twice. */
static void keep_offline(struct clients *clients, struct connection *connection)
{
	const char *id = mosquitto_client_id(connection->mosquitto);

	client_release(connection->client);
	connection->client = NULL;
	connection->offline_id = text_copy(id, strlen(id));
	if (clients->last == connection) {
		clients->last = NULL;
	}
	if (!connection->offline_id) {
		forget(clients, connection);
	}
}

/* Of a connection that was not announced. Connection is NULL where nothing is known of it. */
static void end_unannounced(struct clients *clients, struct connection *connection,
		const struct mosquitto *mosquitto, const struct message *gone)
{
	bool is_told_again = was_gone(connection);

	if (connection && connection->offline_id) {
		forget(clients, connection);
		connection = NULL;
	}
	if (!connection && !is_told_again) {
		connection = add(clients, mosquitto);
	}
	if (!connection) {
		return;
	}
	put_for_watchers(clients, connection, gone);
	if (mosquitto_client_clean_session(mosquitto)) {
		forget(clients, connection);
	} else {
		keep_offline(clients, connection);
	}
}

/* Whether a client that asked in this turn, and is gone in this turn, had been let in: then because another
 * asks under its name. */
static bool is_taken_over(const struct clients *clients, const struct connection *connection)
{
	const char *id = mosquitto_client_id(connection->mosquitto);
	const struct connection *other;

	for (other = clients->asking; other; other = other->next_asking) {
		if (other != connection && text_equal(id, mosquitto_client_id(other->mosquitto))) {
			return true;
		}
	}
	return false;
}

void clients_disconnected(struct clients *clients, const struct mosquitto *mosquitto, int reason,
		enum message_fate fate)
{
	const struct message gone = {
		.kind = MESSAGE_DISCONNECT, .as.disconnect = {.reason = reason, .fate = fate}};
	struct connection *connection = find(clients, mosquitto);

	if (!mosquitto_client_id(mosquitto) || is_session(clients, mosquitto)) {
		/* Not let in, or nobody. */
	} else if (!clients->tells_connects) {
		end_unannounced(clients, connection, mosquitto, &gone);
		return;
	} else {
		if (connection && connection->asks && is_taken_over(clients, connection)) {
			announce(clients, connection);
		}
		clients_tell(clients, mosquitto, &gone);
	}
	if (connection) {
		forget(clients, connection);
	}
}

bool clients_began_clean(const struct clients *clients, const struct mosquitto *mosquitto)
{
	const struct connection *connection = find(clients, mosquitto);

	return connection && !connection->offline_id && connection->began_clean;
}

bool clients_has(const struct clients *clients, const char *client_id)
{
	const struct table_entry *entry;
	size_t i;

	for (i = 0; i < clients->connections.bucket_count; i++) {
		for (entry = clients->connections.buckets[i]; entry; entry = entry->next) {
			const struct connection *connection = (const struct connection *)entry;

			if (!connection->offline_id && !connection->asks &&
					text_equal(client_id, mosquitto_client_id(connection->mosquitto))) {
				return true;
			}
		}
	}
	return false;
}

/* ---- consumers ---- */

int clients_watch(struct clients *clients, uint64_t consumer)
{
	struct recipient *watchers;
	struct table_entry *entry;
	size_t i;

	for (i = 0; i < clients->watcher_count; i++) {
		if (clients->watchers[i].consumer == consumer) {
			return MOSQ_ERR_SUCCESS;
		}
	}
	watchers = realloc(clients->watchers, (clients->watcher_count + 1) * sizeof(*watchers));
	if (!watchers) {
		return MOSQ_ERR_NOMEM;
	}
	clients->watchers = watchers;
	watchers[clients->watcher_count] = (struct recipient){.consumer = consumer};
	for (i = 0; i < clients->connections.bucket_count; i++) {
		for (entry = clients->connections.buckets[i]; entry; entry = entry->next) {
			struct connection *connection = (struct connection *)entry;

			if (connection->is_announced) {
				put_event(clients, connection, &connects, &watchers[clients->watcher_count], 1);
			}
		}
	}
	clients->watcher_count++;
	return MOSQ_ERR_SUCCESS;
}

void clients_unwatch(struct clients *clients, uint64_t consumer)
{
	size_t i;

	for (i = 0; i < clients->watcher_count; i++) {
		if (clients->watchers[i].consumer == consumer) {
			clients->watchers[i] = clients->watchers[--clients->watcher_count];
			return;
		}
	}
}
