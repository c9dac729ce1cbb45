/* The type `_mqttasgi.Message`: what consumers get out of a struct message.
 *
 * python/mqttasgi/runtime/bridge.py describes it, with types. Everything runs with the GIL. */
#ifndef MQTTASGI_PYMESSAGE_H
#define MQTTASGI_PYMESSAGE_H

#include "python/python_api.h"

#include "shared/message.h"
#include "shared/properties.h"

struct queue;

/* Room for the interned strings of the table in pymessage.c. */
#define PYMESSAGE_NAMES 48

/* In a delivery's options, beside Subscription Options (MQTT 5, 3.8.3.1): its consumer has had it before. */
#define PYMESSAGE_REDELIVERED 0x10U

/* The state of the module `_mqttasgi`. */
struct pymessage_state {
	struct queue *inbound;
	PyTypeObject *type;
	PyObject *clients;     /* dict: number of a connection -> its `client` */
	PyObject *last_client; /* the one that was asked for last, which that dict holds; NULL: none */
	unsigned long long last_client_number;
	size_t clients_bytes; /* client_size() of all in that dict */
	PyObject *names[PYMESSAGE_NAMES];
	PyObject *types[MESSAGE_EVENTS_END];  /* of the events, by kind */
	PyObject *properties[PROPERTIES_END]; /* their names, by identifier; NULL where there is none */
};

/* Fills the module's state. Borrows inbound for good. 0, or -1 with an exception. */
int pymessage_prepare(PyObject *module, struct queue *inbound) __attribute__((warn_unused_result));
int pymessage_traverse(PyObject *module, visitproc visit, void *arg);
int pymessage_clear(PyObject *module);

/* A Message. Owns message from here on, also when it fails, and counts it towards the inbound queue until it
 * is freed. New reference, or NULL with an exception. */
PyObject *pymessage_new(struct pymessage_state *state, struct message *message);

#endif
