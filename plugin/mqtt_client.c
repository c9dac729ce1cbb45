#include "mqtt_client.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mosquitto_api.h"
#include "options.h"
#include "properties.h"

/* Seconds without a packet after which the connection is tried with a PINGREQ. */
#define KEEPALIVE 60
/* Where Debian keeps the system's certificates, one a file; the library wants a place beside a client certificate. */
#define SYSTEM_CERTIFICATES "/etc/ssl/certs"
/* A Receive Maximum (MQTT 5, 3.1.2.11.3) that the broker never reaches: it then sends QoS 1 and 2 at once, as it does
 * QoS 0, and one order holds for all three. With its own limit of 20 it would queue them, and drop what is beyond
 * max_queued_messages. */
#define RECEIVE_MAXIMUM 65535

/* How long the broker has to close a connection after DISCONNECT. */
#define CLOSE_MS 1000

/* Mosquitto 2.1's names; which headers this was compiled with says nothing about the library it will find. */
#define OPTION_TRANSPORT 15
#define TRANSPORT_WEBSOCKETS 2

#define FUNCTIONS(F)                                                                                                   \
	F(mosquitto_connack_string)                                                                                          \
	F(mosquitto_connect_bind_v5)                                                                                         \
	F(mosquitto_connect_v5_callback_set)                                                                                 \
	F(mosquitto_destroy)                                                                                                 \
	F(mosquitto_disconnect_v5)                                                                                           \
	F(mosquitto_int_option)                                                                                              \
	F(mosquitto_lib_init)                                                                                                \
	F(mosquitto_log_callback_set)                                                                                        \
	F(mosquitto_loop_misc)                                                                                               \
	F(mosquitto_loop_read)                                                                                               \
	F(mosquitto_loop_write)                                                                                              \
	F(mosquitto_message_v5_callback_set)                                                                                 \
	F(mosquitto_new)                                                                                                     \
	F(mosquitto_property_add_int16)                                                                                      \
	F(mosquitto_property_add_int32)                                                                                      \
	F(mosquitto_property_add_varint)                                                                                     \
	F(mosquitto_property_free_all)                                                                                       \
	F(mosquitto_property_read_varint)                                                                                    \
	F(mosquitto_reason_string)                                                                                           \
	F(mosquitto_socket)                                                                                                  \
	F(mosquitto_strerror)                                                                                                \
	F(mosquitto_threaded_set)                                                                                            \
	F(mosquitto_subscribe_v5)                                                                                            \
	F(mosquitto_subscribe_v5_callback_set)                                                                               \
	F(mosquitto_tls_set)                                                                                                 \
	F(mosquitto_unsubscribe_v5)                                                                                          \
	F(mosquitto_unsubscribe_v5_callback_set)                                                                             \
	F(mosquitto_username_pw_set)                                                                                         \
	F(mosquitto_want_write)

#define MEMBER(function) __typeof__(function) *function;

static struct {
	void *handle;
	struct properties_reader reader;
	FUNCTIONS(MEMBER)
} library;

struct mqtt_client {
	struct mosquitto *mosquitto;
	const struct options *options;
	const struct mqtt_client_events *events;
	void *userdata;
	bool encrypted;
	bool accepted;    /* CONNACK came */
	bool closing;     /* what still comes is not the caller's any more */
	struct text properties; /* of the message that is being dealt with */
	char logged[256]; /* the library's last complaint: it knows more than its return codes say */
	char reason[512];
};

/* ---- the library ---- */

static int open_library(struct text *error)
{
	int flags = RTLD_NOW | RTLD_LOCAL;

	if (library.handle) {
		return MOSQ_ERR_SUCCESS;
	}
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(RTLD_DEEPBIND)
	flags |= RTLD_DEEPBIND; /* the sanitizers refuse it */
#endif
	library.handle = dlopen("libmosquitto.so.1", flags);
	if (!library.handle) {
		text_addf(error, "the client library libmosquitto.so.1 cannot be opened (%s); on Debian, apt-get install libmosquitto1",
				dlerror());
		return MOSQ_ERR_NOT_FOUND;
	}
#define FIND(function)                                                                                                 \
	*(void **)&library.function = dlsym(library.handle, #function);                                                      \
	if (!library.function) {                                                                                             \
		text_addf(error, "the client library libmosquitto.so.1 is too old: it has no %s", #function);                      \
		(void)dlclose(library.handle);                                                                                     \
		library.handle = NULL;                                                                                             \
		return MOSQ_ERR_NOT_FOUND;                                                                                         \
	}
	FUNCTIONS(FIND)
	if (!properties_find_reader(&library.reader, library.handle)) {
		text_addf(error, "the client library libmosquitto.so.1 is too old: it cannot read properties");
		(void)dlclose(library.handle);
		library.handle = NULL;
		return MOSQ_ERR_NOT_FOUND;
	}
	(void)library.mosquitto_lib_init();
	return MOSQ_ERR_SUCCESS;
}

void *mqtt_client_library(struct text *error)
{
	return open_library(error) ? NULL : library.handle;
}

/* ---- its callbacks ---- */

static void on_log(struct mosquitto *mosquitto, void *userdata, int level, const char *line)
{
	struct mqtt_client *client = userdata;

	(void)mosquitto;
	if (level == MOSQ_LOG_ERR || level == MOSQ_LOG_WARNING) {
		(void)snprintf(client->logged, sizeof(client->logged), "%s", line);
	}
}

static void on_connect(
		struct mosquitto *mosquitto, void *userdata, int code, int flags, const mosquitto_property *properties)
{
	struct mqtt_client *client = userdata;

	(void)mosquitto;
	(void)properties;
	if (client->closing) {
		return;
	}
	if (code) {
		/* Below 128 it is an MQTT 3 answer: a broker that does not know MQTT 5. */
		(void)snprintf(client->reason, sizeof(client->reason), "it refused the connection: %s",
				code >= 128 ? library.mosquitto_reason_string(code) : library.mosquitto_connack_string(code));
		client->events->connected(client->userdata, client->reason, false);
		return;
	}
	client->accepted = true;
	client->events->connected(client->userdata, NULL, flags & 1);
}

static void on_subscribe(struct mosquitto *mosquitto, void *userdata, int packet, int count, const int *granted,
		const mosquitto_property *properties)
{
	struct mqtt_client *client = userdata;

	(void)mosquitto;
	(void)properties;
	if (!client->closing) {
		client->events->acknowledged(client->userdata, packet, count > 0 ? granted[0] : 0);
	}
}

static void on_unsubscribe(
		struct mosquitto *mosquitto, void *userdata, int packet, const mosquitto_property *properties)
{
	struct mqtt_client *client = userdata;

	(void)mosquitto;
	(void)properties;
	if (!client->closing) {
		client->events->acknowledged(client->userdata, packet, 0);
	}
}

static void on_message(struct mosquitto *mosquitto, void *userdata, const struct mosquitto_message *message,
		const mosquitto_property *properties)
{
	struct mqtt_client *client = userdata;
	struct mqtt_client_message event = {
		.topic = message->topic,
		.payload = message->payload,
		.payload_length = (size_t)message->payloadlen,
		.qos = (uint8_t)message->qos,
		.retain = message->retain,
	};
	uint32_t identifier = 0;

	(void)mosquitto;
	if (client->closing) {
		return;
	}
	(void)library.mosquitto_property_read_varint(
			properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, &identifier, false);
	event.subscription = identifier >> 1;
	event.is_fetched = event.retain && (identifier & 1U);
	properties_read(&library.reader, properties, &client->properties);
	if (client->properties.length) {
		event.properties = client->properties.data;
		event.properties_length = client->properties.length;
	}
	event.is_incomplete = client->properties.failed;
	client->events->message(client->userdata, &event);
	client->properties.length = 0;
	if (client->properties.failed || client->properties.capacity > PROPERTIES_ROOM) {
		text_free(&client->properties);
	}
}

/* ---- a client ---- */

/* A sentence about a call of the library that failed, unless the broker has given a reason already. */
static void set_reason(struct mqtt_client *client, int rc, int error)
{
	const char *text = library.mosquitto_strerror(rc);

	if (rc == MOSQ_ERR_ERRNO) {
		/* Mosquitto 2.1's library has closed the socket once more by now. */
		text = error && error != EBADF ? strerror(error) : "nobody listens there, or the way there is barred";
	}
	if (client->reason[0]) {
		return;
	}
	if (client->logged[0]) {
		(void)snprintf(client->reason, sizeof(client->reason), "%s (%s)", text, client->logged);
	} else {
		(void)snprintf(client->reason, sizeof(client->reason), "%s", text);
	}
	client->reason[strcspn(client->reason, "\n")] = '\0';
	if (client->reason[0] && client->reason[strlen(client->reason) - 1] == '.') {
		client->reason[strlen(client->reason) - 1] = '\0'; /* it is the middle of a sentence */
	}
}

static int configure(struct mqtt_client *client, struct text *error)
{
	const struct options *options = client->options;
	int rc = MOSQ_ERR_SUCCESS;

	if (options->transport == OPTIONS_TRANSPORT_WEBSOCKETS &&
			library.mosquitto_int_option(client->mosquitto, OPTION_TRANSPORT, TRANSPORT_WEBSOCKETS)) {
		text_addf(error, "option transport: the installed client library (libmosquitto.so.1) cannot speak websockets, "
				"which came with Mosquitto 2.1. Give the session a listener without: plugin_opt_transport tcp, and "
				"plugin_opt_port with that listener's port");
		return MOSQ_ERR_INVAL;
	}
	if (library.mosquitto_int_option(client->mosquitto, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5) ||
			library.mosquitto_int_option(client->mosquitto, MOSQ_OPT_TCP_NODELAY, 1)) {
		return MOSQ_ERR_NOMEM;
	}
	if (options->username || options->password) {
		rc = library.mosquitto_username_pw_set(client->mosquitto, options->username, options->password);
	}
	client->encrypted = options->use_ssl || options->cacert || options->cert;
	if (!rc && client->encrypted && !options->cacert && !options->cert) {
		/* Wherever OpenSSL and its environment say that these are. */
		rc = library.mosquitto_int_option(client->mosquitto, MOSQ_OPT_TLS_USE_OS_CERTS, 1);
	} else if (!rc && client->encrypted) {
		rc = library.mosquitto_tls_set(client->mosquitto, options->cacert,
				options->cacert ? NULL : SYSTEM_CERTIFICATES, options->cert, options->key, NULL);
		if (rc && rc != MOSQ_ERR_NOMEM) {
			text_addf(error, "options cacert, cert, key: the client library refuses them: %s",
					library.mosquitto_strerror(rc));
			return MOSQ_ERR_INVAL;
		}
	}
	return rc;
}

int mqtt_client_new(const struct options *options, const struct mqtt_client_events *events, void *userdata,
		struct mqtt_client **ret_client, struct text *error)
{
	struct mqtt_client *client;
	int rc = open_library(error);

	if (rc) {
		return rc;
	}
	client = calloc(1, sizeof(*client));
	if (!client) {
		return MOSQ_ERR_NOMEM;
	}
	client->options = options;
	client->events = events;
	client->userdata = userdata;
	client->mosquitto = library.mosquitto_new(options->client_id, false, client);
	if (!client->mosquitto) {
		free(client);
		return MOSQ_ERR_NOMEM;
	}
	/* With this it queues what it has to say and leaves it to mosquitto_loop_write(). Else it writes at once, and forgets a
	 * QoS 2 message whose PUBCOMP it cannot write because the connection has just broken: it does not hand it over, and the
	 * broker, which did not get the PUBCOMP, releases it in vain after the next CONNECT. */
	(void)library.mosquitto_threaded_set(client->mosquitto, true);
	library.mosquitto_log_callback_set(client->mosquitto, on_log);
	library.mosquitto_connect_v5_callback_set(client->mosquitto, on_connect);
	library.mosquitto_subscribe_v5_callback_set(client->mosquitto, on_subscribe);
	library.mosquitto_unsubscribe_v5_callback_set(client->mosquitto, on_unsubscribe);
	library.mosquitto_message_v5_callback_set(client->mosquitto, on_message);
	rc = configure(client, error);
	if (rc) {
		library.mosquitto_destroy(client->mosquitto);
		free(client);
		return rc;
	}
	*ret_client = client;
	return MOSQ_ERR_SUCCESS;
}

void mqtt_client_free(struct mqtt_client *client)
{
	library.mosquitto_destroy(client->mosquitto);
	text_free(&client->properties);
	free(client);
}

bool mqtt_client_connect(struct mqtt_client *client, uint32_t session_expiry)
{
	mosquitto_property *properties = NULL;
	int rc, error;

	client->accepted = false;
	client->logged[0] = '\0';
	client->reason[0] = '\0';
	rc = library.mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, session_expiry);
	if (!rc) {
		rc = library.mosquitto_property_add_int16(&properties, MQTT_PROP_RECEIVE_MAXIMUM, RECEIVE_MAXIMUM);
	}
	if (!rc) {
		errno = 0;
		rc = library.mosquitto_connect_bind_v5(client->mosquitto, client->options->host, client->options->port,
				KEEPALIVE, NULL, properties);
	}
	if (!rc) {
		rc = library.mosquitto_loop_write(client->mosquitto, 1);
	}
	error = errno;
	library.mosquitto_property_free_all(&properties);
	if (rc) {
		set_reason(client, rc, error);
	}
	return rc == MOSQ_ERR_SUCCESS;
}

/* Waits until the broker has closed its side. What it sends meanwhile is not acknowledged, so it keeps it. */
static void read_to_end(int descriptor)
{
	struct pollfd polled = {.fd = descriptor, .events = POLLIN};
	char ignored[4096];

	(void)shutdown(descriptor, SHUT_WR);
	while (poll(&polled, 1, CLOSE_MS) > 0 && read(descriptor, ignored, sizeof(ignored)) > 0) {
	}
}

void mqtt_client_disconnect(struct mqtt_client *client, bool end_session)
{
	mosquitto_property *properties = NULL;
	int descriptor;

	if (mqtt_client_socket(client) < 0) {
		return;
	}
	/* libmosquitto closes its own when it has written the DISCONNECT. A socket that is closed while the broker still sends
	 * takes back what it wrote, and the broker would not see the last acknowledgements. */
	descriptor = fcntl(mqtt_client_socket(client), F_DUPFD_CLOEXEC, 0);
	client->closing = true;
	if (end_session) {
		(void)library.mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 0);
	}
	(void)library.mosquitto_disconnect_v5(client->mosquitto, 0, properties);
	(void)library.mosquitto_loop_write(client->mosquitto, 1);
	library.mosquitto_property_free_all(&properties);
	if (descriptor >= 0) {
		read_to_end(descriptor);
		(void)close(descriptor);
	}
	if (mqtt_client_socket(client) >= 0) {
		(void)shutdown(mqtt_client_socket(client), SHUT_RDWR);
		(void)library.mosquitto_loop_read(client->mosquitto, 1);
	}
	client->closing = false;
}

int mqtt_client_socket(const struct mqtt_client *client)
{
	return library.mosquitto_socket(client->mosquitto);
}

bool mqtt_client_wants_to_write(const struct mqtt_client *client)
{
	/* While TLS shakes hands the CONNECT waits, and the socket would always take more. */
	return library.mosquitto_want_write(client->mosquitto) && (client->accepted || !client->encrypted);
}

bool mqtt_client_handle(struct mqtt_client *client, unsigned int limit)
{
	static const int on = 1;
	int rc = MOSQ_ERR_SUCCESS, error = 0;
	unsigned int i;

	client->logged[0] = '\0';
	/* The broker, unless set_tcp_nodelay is given, holds a packet back until the one before is acknowledged, which
	 * without this takes 40 ms. The kernel forgets it after a while. A unix socket knows neither. */
	(void)setsockopt(mqtt_client_socket(client), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
	for (i = 0; i < limit && !rc; i++) {
		/* It reads one packet and says with errno alone that there was none. */
		errno = 0;
		rc = library.mosquitto_loop_read(client->mosquitto, 1);
		error = errno;
		if (error == EAGAIN) {
			break;
		}
	}
	if (!rc && library.mosquitto_want_write(client->mosquitto)) {
		errno = 0;
		rc = library.mosquitto_loop_write(client->mosquitto, 1);
		error = errno;
	}
	if (!rc) {
		errno = 0;
		rc = library.mosquitto_loop_misc(client->mosquitto);
		error = errno;
	}
	if (rc) {
		set_reason(client, rc, error);
	}
	return rc == MOSQ_ERR_SUCCESS;
}

static int send_subscribe(
		struct mqtt_client *client, const char *filter, uint8_t qos, uint32_t identifier, int subscription_options)
{
	mosquitto_property *properties = NULL;
	int packet = 0, rc;

	rc = library.mosquitto_property_add_varint(&properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, identifier);
	if (!rc) {
		rc = library.mosquitto_subscribe_v5(
				client->mosquitto, &packet, filter, qos, subscription_options, properties);
	}
	library.mosquitto_property_free_all(&properties);
	return rc ? -1 : packet;
}

/* With Retain As Published, a live message may have the RETAIN flag, too. So what the broker has retained is asked for with
 * an identifier of its own, an odd one (MQTT 5, 3.8.2.1.2), which each message keeps whenever it comes; a second SUBSCRIBE
 * sets the even one, for what is live. Between the two, a live message with the flag counts as retained, which is why it
 * is not done where nobody wants the flag. To turn the option off meanwhile is no way: Mosquitto 2.0 does not change it in
 * a subscription that it has, neither off nor on. */
int mqtt_client_subscribe(struct mqtt_client *client, const char *filter, uint8_t qos, uint32_t subscription,
		bool kept, bool flags)
{
	int as_published = flags ? MQTT_SUB_OPT_RETAIN_AS_PUBLISHED : 0;
	int handling = kept ? MQTT_SUB_OPT_SEND_RETAIN_ALWAYS : MQTT_SUB_OPT_SEND_RETAIN_NEVER;
	uint32_t identifier = subscription << 1;

	if (kept && flags) {
		if (send_subscribe(client, filter, qos, identifier | 1U, as_published | handling) < 0) {
			return -1;
		}
		handling = MQTT_SUB_OPT_SEND_RETAIN_NEVER;
	}
	return send_subscribe(client, filter, qos, identifier, as_published | handling);
}

int mqtt_client_unsubscribe(struct mqtt_client *client, const char *filter)
{
	int packet = 0;

	return library.mosquitto_unsubscribe_v5(client->mosquitto, &packet, filter, NULL) ? -1 : packet;
}

const char *mqtt_client_reason(const struct mqtt_client *client)
{
	return client->reason;
}
