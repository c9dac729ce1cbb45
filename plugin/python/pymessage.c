#include "python/pymessage.h"

#include "shared/certificate.h"
#include "shared/client.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/queue.h"

/* Clients whose dict is kept for their next message, and what describes these. With more that publish in
 * turn, some are made anew. Who connects chooses how long an id and a user name are, and a str takes up to
 * four times their bytes. */
#define CLIENTS_MAX 4096
#define CLIENTS_BYTES_MAX 8388608U

/* Keys and values of the events, made once. */
/* clang-format off */
#define NAMES(N) \
	N(TYPE, "type") N(MQTT, "mqtt") N(TOPIC, "topic") N(PAYLOAD, "payload") N(QOS, "qos") \
	N(RETAIN, "retain") N(REDELIVERED, "redelivered") N(PROPERTIES, "properties") N(CLIENT, "client") N(REASON, "reason") N(CODE, "code") \
	N(SESSION_ENDS, "session_ends") N(USER_PROPERTY, "user_property") \
	N(ID, "id") N(USERNAME, "username") N(ADDRESS, "address") N(PROTOCOL, "protocol") \
	N(PROTOCOL_VERSION, "protocol_version") N(CERTIFICATE, "certificate") N(SUBJECT, "subject") \
	N(ISSUER, "issuer") \
	N(COMMON_NAME, "common_name") N(SERIAL_NUMBER, "serial_number") \
	N(SUBJECT_ALTERNATIVE_NAMES, "subject_alternative_names") N(FINGERPRINT_SHA256, "fingerprint_sha256") \
	N(NOT_BEFORE, "not_before") N(NOT_AFTER, "not_after")
/* clang-format on */

#define MEMBER(name, text) NAME_##name,
#define TEXT(name, text) text,

enum name { NAMES(MEMBER) NAME_COUNT };
static const char *const texts[] = {NAMES(TEXT)};

#define PROPERTY_NAME(identifier, kind, name, comes) [MQTT_PROP_##identifier] = name,

static const char *const property_names[PROPERTIES_END] = {PROPERTIES(PROPERTY_NAME)};

_Static_assert(NAME_COUNT <= PYMESSAGE_NAMES, "room for every name");

/* What consumers have yet to handle. It counts towards the inbound queue until the last of them has taken
 * it. */
struct message_object {
	PyObject_HEAD struct message *message; /* owned */
	struct queue *inbound;
	PyObject *topic; /* str and bytes, made for the first consumer and shared with the others; NULL before */
	PyObject *payload;
};

/* Sets a key to a value, whose reference it takes. A value that is NULL is an exception that is set. */
static bool put_value(PyObject *dict, PyObject *key, PyObject *value)
{
	int rc = value ? PyDict_SetItem(dict, key, value) : -1;

	Py_XDECREF(value);
	return rc == 0;
}

static bool put(const struct pymessage_state *state, PyObject *dict, enum name name, PyObject *value)
{
	return put_value(dict, state->names[name], value);
}

/* A str of UTF-8, None for NULL. What is not UTF-8 (nothing that the broker lets through) becomes U+FFFD. New
 * reference. */
static PyObject *make_string(const char *text, size_t length)
{
	if (!text) {
		Py_RETURN_NONE;
	}
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "replace");
}

static PyObject *make_text(const char *text)
{
	return make_string(text, text ? strlen(text) : 0);
}

/* ---- clients ---- */

static PyObject *make_alternative_names(const struct certificate *certificate)
{
	PyObject *names = PyTuple_New((Py_ssize_t)certificate->name_count), *pair;
	size_t i;

	for (i = 0; names && i < certificate->name_count; i++) {
		pair = Py_BuildValue("(NN)", make_text(certificate->names[i].type),
				make_text(certificate->names[i].value));
		if (!pair) {
			Py_CLEAR(names);
		} else {
			PyTuple_SET_ITEM(names, (Py_ssize_t)i, pair);
		}
	}
	return names;
}

static PyObject *make_certificate(const struct pymessage_state *state, const struct certificate *certificate)
{
	PyObject *dict;

	if (!certificate) {
		Py_RETURN_NONE;
	}
	dict = PyDict_New();
	if (dict &&
			!(put(state, dict, NAME_SUBJECT, make_text(certificate->subject)) &&
					put(state, dict, NAME_ISSUER, make_text(certificate->issuer)) &&
					put(state, dict, NAME_COMMON_NAME, make_text(certificate->common_name)) &&
					put(state, dict, NAME_SERIAL_NUMBER, make_text(certificate->serial_number)) &&
					put(state, dict, NAME_SUBJECT_ALTERNATIVE_NAMES, make_alternative_names(certificate)) &&
					put(state, dict, NAME_FINGERPRINT_SHA256, make_text(certificate->fingerprint)) &&
					put(state, dict, NAME_NOT_BEFORE, PyLong_FromLongLong(certificate->not_before)) &&
					put(state, dict, NAME_NOT_AFTER, PyLong_FromLongLong(certificate->not_after)))) {
		Py_CLEAR(dict);
	}
	return dict;
}

static PyObject *make_client(const struct pymessage_state *state, const struct client_description *client)
{
	PyObject *dict = PyDict_New();

	if (dict &&
			!(put(state, dict, NAME_ID, make_text(client->id)) &&
					put(state, dict, NAME_USERNAME, make_text(client->username)) &&
					put(state, dict, NAME_ADDRESS, make_text(client->address)) &&
					put(state, dict, NAME_PROTOCOL, make_text(client->websockets ? "websockets" : "mqtt")) &&
					put(state, dict, NAME_PROTOCOL_VERSION, PyLong_FromLong(client->protocol_version)) &&
					put(state, dict, NAME_CERTIFICATE, make_certificate(state, client->certificate)))) {
		Py_CLEAR(dict);
	}
	return dict;
}

/* Puts a new dict among those that are kept, in the place of all of them where there are enough. Borrowed. */
static PyObject *add_client(struct pymessage_state *state, PyObject *key, const struct client *client)
{
	PyObject *found = NULL, *made;

	if (PyDict_Size(state->clients) >= CLIENTS_MAX ||
			state->clients_bytes + client_size(client) > CLIENTS_BYTES_MAX) {
		state->last_client = NULL;
		state->clients_bytes = 0;
		PyDict_Clear(state->clients);
	}
	made = make_client(state, client_description(client));
	if (made && PyDict_SetItem(state->clients, key, made) == 0) {
		state->clients_bytes += client_size(client);
		found = made; /* the dict of clients holds it */
	}
	Py_XDECREF(made);
	return found;
}

/* The dict that belongs to a connection, made for its first message. Borrowed. */
static PyObject *find_client(struct pymessage_state *state, const struct client *client)
{
	uint64_t number = client_description(client)->number;
	PyObject *key, *found;

	if (state->last_client && state->last_client_number == number) {
		return state->last_client;
	}
	key = PyLong_FromUnsignedLongLong(number);
	if (!key) {
		return NULL;
	}
	found = PyDict_GetItemWithError(state->clients, key);
	if (!found && !PyErr_Occurred()) {
		found = add_client(state, key, client);
	}
	Py_DECREF(key);
	state->last_client = found;
	state->last_client_number = number;
	return found;
}

/* A dict of the consumer's own, None where nobody is known. New reference. */
static PyObject *copy_client(struct pymessage_state *state, const struct client *client)
{
	PyObject *known, *copy, *certificate;

	if (!client) {
		Py_RETURN_NONE;
	}
	known = find_client(state, client);
	copy = known ? PyDict_Copy(known) : NULL;
	if (copy && client_description(client)->certificate) {
		certificate = PyDict_GetItemWithError(known, state->names[NAME_CERTIFICATE]); /* borrowed */
		if (!certificate || !put(state, copy, NAME_CERTIFICATE, PyDict_Copy(certificate))) {
			Py_CLEAR(copy);
		}
	}
	return copy;
}

/* ---- properties ---- */

static bool put_user_property(const struct pymessage_state *state, PyObject *dict,
		const struct property *property)
{
	PyObject *pairs = PyDict_GetItemWithError(dict, state->names[NAME_USER_PROPERTY]), *pair; /* borrowed */
	int rc;

	if (!pairs) {
		pairs = PyErr_Occurred() ? NULL : PyList_New(0);
		if (!put(state, dict, NAME_USER_PROPERTY, pairs)) {
			return false;
		}
		/* The dict holds it now. */
	}
	pair = Py_BuildValue("(NN)", make_string(property->name, property->name_length),
			make_string(property->value, property->value_length));
	rc = pair ? PyList_Append(pairs, pair) : -1;
	Py_XDECREF(pair);
	return rc == 0;
}

static bool put_property(const struct pymessage_state *state, PyObject *dict, const struct property *property)
{
	PyObject *value = NULL;

	switch (property->kind) {
	case PROPERTY_BYTE:
	case PROPERTY_FOUR:
		value = PyLong_FromUnsignedLong(property->number);
		break;
	case PROPERTY_STRING:
		value = make_string(property->value, property->value_length);
		break;
	case PROPERTY_BINARY:
		value = PyBytes_FromStringAndSize(property->value, (Py_ssize_t)property->value_length);
		break;
	case PROPERTY_PAIR:
		return put_user_property(state, dict, property);
	case PROPERTY_NONE:
		return true; /* properties_take() returns none such */
	}
	return put_value(dict, state->properties[property->identifier], value);
}

static PyObject *make_properties(const struct pymessage_state *state, const struct message *message)
{
	const unsigned char *at = message->properties, *end = at;
	PyObject *dict = PyDict_New();
	struct property property;

	if (message->properties_length) {
		end += message->properties_length;
	}
	while (dict && at < end && properties_take(&at, end, &property)) {
		if (!put_property(state, dict, &property)) {
			Py_CLEAR(dict);
		}
	}
	return dict;
}

/* ---- events ---- */

static bool make_strings(struct message_object *object)
{
	const struct message *message = object->message;

	if (!object->topic) {
		object->topic = make_string(message->topic, message->topic_length);
	}
	if (!object->payload) {
		object->payload = PyBytes_FromStringAndSize(message->payload, (Py_ssize_t)message->payload_length);
	}
	return object->topic && object->payload;
}

static bool put_publish(const struct pymessage_state *state, PyObject *mqtt,
		const struct message_of_publish *publish, unsigned int options)
{
	unsigned int qos = options & TOPICS_QOS;
	bool retain = publish->is_retained || (publish->retain && options & MQTT_SUB_OPT_RETAIN_AS_PUBLISHED);
	bool redelivered = publish->is_redelivered || options & PYMESSAGE_REDELIVERED;

	/* MQTT 5, 3.8.4: the lower of what was published and what was subscribed. */
	return put(state, mqtt, NAME_QOS, PyLong_FromUnsignedLong(qos < publish->qos ? qos : publish->qos)) &&
			PyDict_SetItem(mqtt, state->names[NAME_RETAIN], retain ? Py_True : Py_False) == 0 &&
			PyDict_SetItem(mqtt, state->names[NAME_REDELIVERED], redelivered ? Py_True : Py_False) == 0;
}

/* Py_NewRef() is there from Python 3.10 on. */
static PyObject *new_reference(PyObject *object)
{
	Py_INCREF(object);
	return object;
}

static PyObject *make_reason(const struct pymessage_state *state, const struct message_of_disconnect *gone)
{
	PyObject *reason = PyDict_New(), *ends;

	ends = gone->fate == MESSAGE_FATE_UNKNOWN ? Py_None
			: gone->fate == MESSAGE_FATE_ENDS ? Py_True
											  : Py_False;
	if (reason &&
			!(put(state, reason, NAME_CODE,
					  gone->reason < 0 ? new_reference(Py_None) : PyLong_FromLong(gone->reason)) &&
					put(state, reason, NAME_SESSION_ENDS, new_reference(ends)))) {
		Py_CLEAR(reason);
	}
	return reason;
}

/* What the event's row in MESSAGE_EVENTS says it shows. */
static bool fill(struct pymessage_state *state, PyObject *mqtt, struct message_object *object,
		unsigned int options)
{
	const struct message *message = object->message;
	unsigned int shows = message_event(message->kind)->shows;

	return (!(shows & (MESSAGE_SHOWS_TOPIC | MESSAGE_SHOWS_PAYLOAD)) || make_strings(object)) &&
			(!(shows & MESSAGE_SHOWS_TOPIC) ||
					PyDict_SetItem(mqtt, state->names[NAME_TOPIC], object->topic) == 0) &&
			(!(shows & MESSAGE_SHOWS_PAYLOAD) ||
					PyDict_SetItem(mqtt, state->names[NAME_PAYLOAD], object->payload) == 0) &&
			(!(shows & MESSAGE_SHOWS_PUBLISH) || put_publish(state, mqtt, &message->as.publish, options)) &&
			(!(shows & MESSAGE_SHOWS_PROPERTIES) ||
					put(state, mqtt, NAME_PROPERTIES, make_properties(state, message))) &&
			(!(shows & MESSAGE_SHOWS_CLIENT) ||
					put(state, mqtt, NAME_CLIENT, copy_client(state, message->client))) &&
			(!(shows & MESSAGE_SHOWS_DISCONNECT) ||
					put(state, mqtt, NAME_REASON, make_reason(state, &message->as.disconnect)));
}

/* Message.event(options): a new ASGI event for a consumer that subscribed with these. New reference. */
static PyObject *make_event(PyObject *self, PyObject *subscribed)
{
	struct pymessage_state *state = PyType_GetModuleState(Py_TYPE(self));
	unsigned long long options = PyLong_AsUnsignedLongLong(subscribed);
	enum message_kind kind = ((struct message_object *)self)->message->kind;
	PyObject *event, *mqtt;

	if (PyErr_Occurred()) {
		return NULL;
	}
	event = PyDict_New();
	mqtt = PyDict_New();
	if (!event || !mqtt ||
			!fill(state, mqtt, (struct message_object *)self, (unsigned int)(options & 0xff)) ||
			PyDict_SetItem(event, state->names[NAME_TYPE], state->types[kind]) ||
			PyDict_SetItem(event, state->names[NAME_MQTT], mqtt)) {
		Py_CLEAR(event);
	}
	Py_XDECREF(mqtt);
	return event;
}

/* ---- the type ---- */

static void message_dealloc(PyObject *self)
{
	struct message_object *object = (struct message_object *)self;
	PyTypeObject *type = Py_TYPE(self);

	queue_release(object->inbound, message_size(object->message));
	message_free(object->message);
	Py_XDECREF(object->topic);
	Py_XDECREF(object->payload);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *message_get_topic(PyObject *self, void *closure)
{
	struct message_object *object = (struct message_object *)self;

	(void)closure;
	return make_strings(object) ? new_reference(object->topic) : NULL;
}

static PyObject *message_get_payload(PyObject *self, void *closure)
{
	struct message_object *object = (struct message_object *)self;

	(void)closure;
	return make_strings(object) ? new_reference(object->payload) : NULL;
}

/* What a publish has and an event about a client has not; that came with QoS 0, the direct lane. */
static const struct message_of_publish *published(PyObject *self)
{
	static const struct message_of_publish none;
	const struct message *message = ((struct message_object *)self)->message;

	return message->kind == MESSAGE_PUBLISH ? &message->as.publish : &none;
}

static PyObject *message_get_qos(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromLong(published(self)->qos);
}

static PyObject *message_get_retain(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(published(self)->is_retained);
}

static PyObject *message_get_session(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(published(self)->by_session);
}

static PyObject *message_get_stored(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(published(self)->stored);
}

static PyObject *message_get_tries(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLong(published(self)->tries);
}

static PyObject *message_get_is_droppable(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(message_is_droppable(((struct message_object *)self)->message));
}

static PyObject *message_get_size(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromSize_t(message_size(((struct message_object *)self)->message));
}

static PyMethodDef message_methods[] = {
	{"event", make_event, METH_O, "The ASGI event for a consumer that subscribed with these options."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef message_getset[] = {
	{"topic", message_get_topic, NULL, "The topic it was published to; empty for a client that came or went.",
		NULL},
	{"payload", message_get_payload, NULL, "The application message.", NULL},
	{"qos", message_get_qos, NULL, "The QoS it came with.", NULL},
	{"retain", message_get_retain, NULL, "Whether the broker had kept it.", NULL},
	{"session", message_get_session, NULL, "Whether it came through the session.", NULL},
	{"stored", message_get_stored, NULL, "Its id in the durable inbox; 0: it is not there.", NULL},
	{"tries", message_get_tries, NULL, "How often its consumer has failed at it.", NULL},
	{"is_droppable", message_get_is_droppable, NULL, "Whether it may be lost where there is no room.", NULL},
	{"size", message_get_size, NULL, "The bytes that count towards a queue's bound.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

/* Python 3.10 has a flag for it, and 3.9 would let a type without this inherit object's. */
static PyObject *refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	(void)arguments;
	(void)keywords;
	PyErr_Format(PyExc_TypeError, "cannot create '%s' instances", type->tp_name);
	return NULL;
}

static PyType_Slot message_slots[] = {
	{Py_tp_new, refuse_new},
	{Py_tp_dealloc, message_dealloc},
	{Py_tp_methods, message_methods},
	{Py_tp_getset, message_getset},
	{0, NULL},
};

static PyType_Spec message_spec = {
	.name = "_mqttasgi.Message",
	.basicsize = sizeof(struct message_object),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = message_slots,
};

PyObject *pymessage_new(struct pymessage_state *state, struct message *message)
{
	struct message_object *object = PyObject_New(struct message_object, state->type);

	if (!object) {
		queue_release(state->inbound, message_size(message));
		message_free(message);
		return NULL;
	}
	object->message = message;
	object->inbound = state->inbound;
	object->topic = NULL;
	object->payload = NULL;
	return (PyObject *)object;
}

int pymessage_prepare(PyObject *module, struct queue *inbound)
{
	struct pymessage_state *state = PyModule_GetState(module);
	size_t i;

	state->inbound = inbound;
	for (i = 0; i < NAME_COUNT; i++) {
		state->names[i] = PyUnicode_InternFromString(texts[i]);
		if (!state->names[i]) {
			return -1;
		}
	}
	for (i = 0; i < MESSAGE_EVENTS_END; i++) {
		state->types[i] = PyUnicode_InternFromString(message_event((enum message_kind)i)->type);
		if (!state->types[i]) {
			return -1;
		}
	}
	for (i = 0; i < PROPERTIES_END; i++) {
		if (property_names[i] && !(state->properties[i] = PyUnicode_InternFromString(property_names[i]))) {
			return -1;
		}
	}
	state->clients = PyDict_New();
	state->type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &message_spec, NULL);
	return state->clients && state->type ? 0 : -1;
}

int pymessage_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct pymessage_state *state = PyModule_GetState(module);

	Py_VISIT(state->type);
	Py_VISIT(state->clients);
	return 0;
}

int pymessage_clear(PyObject *module)
{
	struct pymessage_state *state = PyModule_GetState(module);
	size_t i;

	Py_CLEAR(state->type);
	state->last_client = NULL;
	Py_CLEAR(state->clients);
	for (i = 0; i < NAME_COUNT; i++) {
		Py_CLEAR(state->names[i]);
	}
	for (i = 0; i < MESSAGE_EVENTS_END; i++) {
		Py_CLEAR(state->types[i]);
	}
	for (i = 0; i < PROPERTIES_END; i++) {
		Py_CLEAR(state->properties[i]);
	}
	return 0;
}
