/* Stands for the functions of mosquitto_broker.h, and records what they are called with.
 *
 * Like the broker's they are for one thread. With STUB_BROKER_2_1 the program also exports a function that
 * only Mosquitto 2.1 has, as long as it is linked with its symbols exported. */
#ifndef STUB_BROKER_H
#define STUB_BROKER_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/mosquitto_api.h"

#define STUB_LOG_LINE 1000 /* bytes that mosquitto_log_printf() keeps, with the NUL */
#define STUB_RECORDS 2048

struct stub_publish {
	char *client_id; /* NULL: for everybody */
	char *topic;
	void *payload; /* NULL when payload_length is 0 */
	int payload_length;
	int qos;
	bool retain;
	mosquitto_property *properties; /* the client library's; freed with the rest */
};

/* What the broker knows of a client: a connection here is a pointer to one of these, or, where only its id
 * matters, to that string. */
#define STUB_CLIENT_MARK 1
struct stub_client {
	char mark; /* STUB_CLIENT_MARK, with which no id begins */
	const char *id, *username, *address;
	int protocol_version, sub_count;
	bool websockets, clean_session;
	void *certificate; /* X509 *; each question for it gets a reference */
};

struct stub_log {
	int level;
	char *line;
};

struct stub_broker {
	struct stub_publish publishes[STUB_RECORDS];
	size_t publish_count;
	size_t sent_count; /* of publishes: what stub_broker_send() has sent */
	struct stub_log logs[STUB_RECORDS];
	size_t log_count;
	long blocks;              /* allocated with mosquitto_calloc() and not freed */
	bool no_memory;           /* for mosquitto_calloc() */
	int publish_rc;           /* what mosquitto_broker_publish() returns */
	void (*on_publish)(void); /* called by it */
	int kick_rc;              /* what mosquitto_kick_client_by_clientid() returns */
	unsigned int kick_count;
	void (*on_kick)(const char *client_id); /* called by it: the broker disconnects the client */
	int register_rc;                        /* what mosquitto_callback_register() returns, */
	size_t register_rc_after;               /* after so many that succeeded */
	size_t callback_count;
	struct {
		int event;
		MOSQ_FUNC_generic_callback callback;
		void *userdata;
	} callbacks[16];
};

extern struct stub_broker stub;

/* Forgets everything. Fails the test where the code under test leaked the broker's memory. */
void stub_broker_reset(void);

/* As queue_plugin_msgs(): what plugins published goes to the subscribers. */
void stub_broker_send(void);

/* How many lines contain text. */
size_t stub_broker_logged(const char *text);

#endif
