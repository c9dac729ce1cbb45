#include "python_api.h"

#include "pymodule.h"

#include <string.h>
#include <unistd.h>

#include "message.h"
#include "mosquitto_api.h"
#include "options.h"
#include "queue.h"

/* Set before the interpreter starts and never changed: a built-in module cannot be handed an argument. */
static const struct pymodule_context *context;

struct module_state {
	PyTypeObject *message_type;
	/* Keys and values of the events, made once. */
	PyObject *type, *mqtt, *mqtt_msg, *topic, *payload, *qos, *retain;
};

/* A message that consumers have yet to handle. It counts towards the inbound queue until the last of them has
 * taken it. */
struct message_object {
	PyObject_HEAD
	struct message *message; /* owned */
	PyObject *topic;         /* str and bytes, made for the first consumer and shared with the others; NULL before */
	PyObject *payload;
};

static void message_dealloc(PyObject *self)
{
	struct message_object *object = (struct message_object *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (object->message) {
		queue_release(context->inbound, message_size(object->message));
		message_free(object->message);
	}
	Py_XDECREF(object->topic);
	Py_XDECREF(object->payload);
	type->tp_free(self);
	Py_DECREF(type);
}

static bool make_strings(struct message_object *object)
{
	const struct message *message = object->message;

	if (!object->topic) {
		/* The broker lets only UTF-8 through (MQTT 5, 1.5.4), so "replace" is for what cannot happen. */
		object->topic = PyUnicode_DecodeUTF8(message->topic, (Py_ssize_t)message->topic_length, "replace");
	}
	if (!object->payload) {
		object->payload = PyBytes_FromStringAndSize(message->payload, (Py_ssize_t)message->payload_length);
	}
	return object->topic && object->payload;
}

/* Message.event(qos): a new ASGI event for a consumer that subscribed at qos. New reference. */
static PyObject *message_event(PyObject *self, PyObject *subscribed)
{
	struct message_object *object = (struct message_object *)self;
	struct module_state *state = PyType_GetModuleState(Py_TYPE(self));
	PyObject *event = NULL, *mqtt = NULL, *qos = NULL;
	long level = PyLong_AsLong(subscribed);

	if ((level == -1 && PyErr_Occurred()) || !make_strings(object)) {
		return NULL;
	}
	/* MQTT 5, 3.8.4: the lower of what was published and what was subscribed. */
	qos = PyLong_FromLong(level < object->message->qos ? level : object->message->qos);
	mqtt = PyDict_New();
	event = PyDict_New();
	if (!qos || !mqtt || !event || PyDict_SetItem(mqtt, state->topic, object->topic) ||
			PyDict_SetItem(mqtt, state->payload, object->payload) || PyDict_SetItem(mqtt, state->qos, qos) ||
			PyDict_SetItem(mqtt, state->retain, object->message->retain ? Py_True : Py_False) ||
			PyDict_SetItem(event, state->type, state->mqtt_msg) || PyDict_SetItem(event, state->mqtt, mqtt)) {
		Py_CLEAR(event);
	}
	Py_XDECREF(qos);
	Py_XDECREF(mqtt);
	return event;
}

static PyObject *message_get_topic(PyObject *self, void *closure)
{
	struct message_object *object = (struct message_object *)self;

	(void)closure;
	if (!make_strings(object)) {
		return NULL;
	}
	return Py_NewRef(object->topic);
}

static PyObject *message_get_payload(PyObject *self, void *closure)
{
	struct message_object *object = (struct message_object *)self;

	(void)closure;
	if (!make_strings(object)) {
		return NULL;
	}
	return Py_NewRef(object->payload);
}

static PyObject *message_get_qos(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromLong(((struct message_object *)self)->message->qos);
}

static PyObject *message_get_retain(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct message_object *)self)->message->retain);
}

static PyObject *message_get_session(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct message_object *)self)->message->by_session);
}

static PyMethodDef message_methods[] = {
	{"event", message_event, METH_O, "The ASGI event for a consumer that subscribed at this QoS."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef message_getset[] = {
	{"topic", message_get_topic, NULL, "The topic it was published to.", NULL},
	{"payload", message_get_payload, NULL, "The application message.", NULL},
	{"qos", message_get_qos, NULL, "The QoS it came with.", NULL},
	{"retain", message_get_retain, NULL, "Whether the broker had kept it.", NULL},
	{"session", message_get_session, NULL, "Whether it came through the session.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot message_slots[] = {
	{Py_tp_dealloc, message_dealloc},
	{Py_tp_methods, message_methods},
	{Py_tp_getset, message_getset},
	{0, NULL},
};

static PyType_Spec message_spec = {
	.name = "_mqttasgi.Message",
	.basicsize = sizeof(struct message_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = message_slots,
};

/* ---- taking ---- */

/* Appends (consumer, Message, qos) for each recipient. Owns message from here on. */
static int append_deliveries(PyObject *list, struct module_state *state, struct message *message)
{
	struct message_object *object = PyObject_New(struct message_object, state->message_type);
	int rc = 0;
	size_t i;

	if (!object) {
		queue_release(context->inbound, message_size(message));
		message_free(message);
		return -1;
	}
	object->message = message;
	object->topic = NULL;
	object->payload = NULL;
	for (i = 0; i < message->recipient_count && rc == 0; i++) {
		PyObject *delivery = Py_BuildValue("(KOi)", (unsigned long long)message->recipients[i].consumer, object,
				(int)message->recipients[i].qos);

		rc = delivery ? PyList_Append(list, delivery) : -1;
		Py_XDECREF(delivery);
	}
	Py_DECREF(object);
	return rc;
}

/* Appends (0, name, (sequence or consumer, code)). */
static int append_control(PyObject *list, const char *name, const struct message *message)
{
	unsigned long long whose =
			message->kind == MESSAGE_HOLD || message->kind == MESSAGE_RELEASE ? message->consumer : message->sequence;
	PyObject *entry = Py_BuildValue("(is(Ki))", 0, name, whose, message->code);
	int rc = entry ? PyList_Append(list, entry) : -1;

	Py_XDECREF(entry);
	return rc;
}

static int append(PyObject *list, struct module_state *state, struct message *message)
{
	const char *name;
	int rc;

	switch (message->kind) {
	case MESSAGE_PUBLISH:
		return append_deliveries(list, state, message);
	case MESSAGE_ANSWER:
		name = "answer";
		break;
	case MESSAGE_WRITABLE:
		name = "writable";
		break;
	case MESSAGE_HOLD:
		name = "hold";
		break;
	case MESSAGE_RELEASE:
		name = "release";
		break;
	default:
		name = "stop";
		break;
	}
	rc = append_control(list, name, message);
	message_free(message);
	return rc;
}

static PyObject *module_take(PyObject *module, PyObject *argument)
{
	struct module_state *state = PyModule_GetState(module);
	size_t limit = PyLong_AsSize_t(argument), taken;
	struct message *message;
	char ignored[64];
	PyObject *list;

	if (limit == (size_t)-1 && PyErr_Occurred()) {
		return NULL;
	}
	list = PyList_New(0);
	if (!list) {
		return NULL;
	}
	/* Before the queue is looked at: a push after this makes it readable again. */
	if (read(context->inbound_fd, ignored, sizeof(ignored)) < 0) {
		/* Nothing new since the last time, which is fine. */
	}
	for (taken = 0; taken < limit && (message = queue_take(context->inbound)); taken++) {
		if (append(list, state, message)) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

/* ---- giving ---- */

static PyObject *push_control(struct message *message)
{
	if (!message) {
		return PyErr_NoMemory();
	}
	queue_push_control(context->outbound, message);
	Py_RETURN_NONE;
}

static PyObject *module_publish(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
	struct message *message;
	Py_buffer payload;
	const char *topic;
	Py_ssize_t topic_length;
	long qos;
	int retain;

	(void)module;
	if (count != 4) {
		PyErr_SetString(PyExc_TypeError, "publish() takes topic, payload, qos and retain");
		return NULL;
	}
	topic = PyUnicode_AsUTF8AndSize(arguments[0], &topic_length);
	qos = PyLong_AsLong(arguments[2]);
	retain = PyObject_IsTrue(arguments[3]);
	if (!topic || (qos == -1 && PyErr_Occurred()) || retain < 0 ||
			PyObject_GetBuffer(arguments[1], &payload, PyBUF_SIMPLE)) {
		return NULL;
	}
	message = message_new(
			MESSAGE_PUBLISH, topic, (size_t)topic_length, payload.buf, (size_t)payload.len, NULL, 0);
	PyBuffer_Release(&payload);
	if (!message) {
		return PyErr_NoMemory();
	}
	message->qos = (uint8_t)qos;
	message->retain = retain != 0;
	if (queue_push(context->outbound, message)) {
		Py_RETURN_TRUE;
	}
	message_free(message);
	Py_RETURN_FALSE;
}

static PyObject *module_subscribe(PyObject *module, PyObject *arguments)
{
	struct message *message;
	unsigned long long consumer, sequence;
	const char *filter;
	Py_ssize_t length;
	int qos;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ks#iK:subscribe", &consumer, &filter, &length, &qos, &sequence)) {
		return NULL;
	}
	message = message_new(MESSAGE_SUBSCRIBE, filter, (size_t)length, NULL, 0, NULL, 0);
	if (message) {
		message->consumer = consumer;
		message->qos = (uint8_t)qos;
		message->sequence = sequence;
	}
	return push_control(message);
}

static PyObject *module_unsubscribe(PyObject *module, PyObject *arguments)
{
	struct message *message;
	unsigned long long consumer, sequence;
	const char *filter;
	Py_ssize_t length;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ks#K:unsubscribe", &consumer, &filter, &length, &sequence)) {
		return NULL;
	}
	message = message_new(MESSAGE_UNSUBSCRIBE, filter, (size_t)length, NULL, 0, NULL, 0);
	if (message) {
		message->consumer = consumer;
		message->sequence = sequence;
	}
	return push_control(message);
}

static bool push_log(int level, const char *line, size_t length)
{
	struct message *message = message_new(MESSAGE_LOG, line, length, NULL, 0, NULL, 0);

	if (!message) {
		return false;
	}
	message->code = level;
	if (queue_push(context->outbound, message)) {
		return true;
	}
	message_free(message);
	return false;
}

static PyObject *module_log(PyObject *module, PyObject *arguments)
{
	const char *line;
	Py_ssize_t length;
	int level;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "is#:log", &level, &line, &length)) {
		return NULL;
	}
	return PyBool_FromLong(push_log(level, line, (size_t)length));
}

static PyObject *module_started(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return push_control(message_control(MESSAGE_STARTED, 0, 0, 0));
}

static PyObject *module_settled(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return push_control(message_control(MESSAGE_SETTLED, 0, 0, 0));
}

static PyObject *module_suspend(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return push_control(message_control(MESSAGE_SUSPEND, 0, 0, 0));
}

static PyObject *module_fileno(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyLong_FromLong(context->inbound_fd);
}

static PyObject *module_options(PyObject *module, PyObject *unused)
{
	static const char *const loops[] = {
		[OPTIONS_LOOP_AUTO] = "auto", [OPTIONS_LOOP_ASYNCIO] = "asyncio", [OPTIONS_LOOP_UVLOOP] = "uvloop"};
	const struct options *options = context->options;
	PyObject *variables, *entry, *result;
	size_t i;

	(void)module;
	(void)unused;
	variables = PyList_New(0);
	for (i = 0; variables && i < options->variable_count; i++) {
		/* Bytes, decoded as os.environ decodes its own. */
		entry = Py_BuildValue("(NN)", PyUnicode_DecodeFSDefault(options->variables[i].name),
				PyUnicode_DecodeFSDefault(options->variables[i].value));
		if (!entry || PyList_Append(variables, entry)) {
			Py_CLEAR(variables);
		}
		Py_XDECREF(entry);
	}
	if (!variables) {
		return NULL;
	}
	result = Py_BuildValue("{s:s,s:s,s:s,s:i,s:O,s:N}", "application", options->application, "python_path",
			options->python_path ? options->python_path : "", "loop", loops[options->loop], "verbosity",
			options->verbosity, "session", options->session == OPTIONS_SESSION_FULL ? Py_True : Py_False, "variables",
			variables);
	return result;
}

static PyMethodDef module_methods[] = {
	{"fileno", module_fileno, METH_NOARGS, "A descriptor that is readable when take() has something."},
	{"take", module_take, METH_O, "What the broker has for the application, at most so many."},
	{"publish", (PyCFunction)(void (*)(void))module_publish, METH_FASTCALL,
			"Queues a PUBLISH; False when the queue is full."},
	{"subscribe", module_subscribe, METH_VARARGS, "Queues a subscription of a consumer."},
	{"unsubscribe", module_unsubscribe, METH_VARARGS, "Queues the end of a subscription."},
	{"log", module_log, METH_VARARGS, "Queues a line for the broker's log; False when the queue is full."},
	{"started", module_started, METH_NOARGS, "Tells the broker to accept clients."},
	{"settled", module_settled, METH_NOARGS, "Says that the consumers of the start have subscribed."},
	{"suspend", module_suspend, METH_NOARGS, "Says that the application has failed."},
	{"options", module_options, METH_NOARGS, "The options that concern Python."},
	{NULL, NULL, 0, NULL},
};

static int module_execute(PyObject *module)
{
	struct module_state *state = PyModule_GetState(module);

	state->message_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &message_spec, NULL);
	state->type = PyUnicode_InternFromString("type");
	state->mqtt = PyUnicode_InternFromString("mqtt");
	state->mqtt_msg = PyUnicode_InternFromString("mqtt.msg");
	state->topic = PyUnicode_InternFromString("topic");
	state->payload = PyUnicode_InternFromString("payload");
	state->qos = PyUnicode_InternFromString("qos");
	state->retain = PyUnicode_InternFromString("retain");
	if (!state->message_type || !state->type || !state->mqtt || !state->mqtt_msg || !state->topic ||
			!state->payload || !state->qos || !state->retain) {
		return -1;
	}
	/* Log levels as the broker numbers them (mosquitto.h). */
	return PyModule_AddIntConstant(module, "LOG_ERR", MOSQ_LOG_ERR) ||
			PyModule_AddIntConstant(module, "LOG_WARNING", MOSQ_LOG_WARNING) ||
			PyModule_AddIntConstant(module, "LOG_INFO", MOSQ_LOG_INFO) ||
			PyModule_AddIntConstant(module, "LOG_DEBUG", MOSQ_LOG_DEBUG);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct module_state *state = PyModule_GetState(module);

	Py_VISIT(state->message_type);
	return 0;
}

static int module_clear(PyObject *module)
{
	struct module_state *state = PyModule_GetState(module);

	Py_CLEAR(state->message_type);
	Py_CLEAR(state->type);
	Py_CLEAR(state->mqtt);
	Py_CLEAR(state->mqtt_msg);
	Py_CLEAR(state->topic);
	Py_CLEAR(state->payload);
	Py_CLEAR(state->qos);
	Py_CLEAR(state->retain);
	return 0;
}

static PyModuleDef_Slot module_slots[] = {
	{Py_mod_exec, (void *)module_execute},
	{0, NULL},
};

static struct PyModuleDef module_definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_mqttasgi",
	.m_doc = "The broker that this interpreter runs in.",
	.m_size = sizeof(struct module_state),
	.m_methods = module_methods,
	.m_slots = module_slots,
	.m_traverse = module_traverse,
	.m_clear = module_clear,
};

static PyObject *module_init(void)
{
	return PyModuleDef_Init(&module_definition);
}

int pymodule_register(const struct pymodule_context *new_context)
{
	context = new_context;
	return PyImport_AppendInittab("_mqttasgi", module_init);
}

/* ---- exceptions ---- */

void pymodule_log(int level, const char *line)
{
	(void)push_log(level, line, strlen(line));
}

static void log_lines(PyObject *text)
{
	const char *line = PyUnicode_AsUTF8(text), *end;

	while (line && *line) {
		end = strchrnul(line, '\n');
		(void)push_log(MOSQ_LOG_ERR, line, (size_t)(end - line));
		line = *end ? end + 1 : end;
	}
}

void pymodule_log_exception(const char *what)
{
	PyObject *type, *value, *traceback, *module, *lines = NULL;
	Py_ssize_t i;

	if (!PyErr_Occurred()) {
		return;
	}
	pymodule_log(MOSQ_LOG_ERR, what);
	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	module = PyImport_ImportModule("traceback");
	if (module) {
		lines = PyObject_CallMethod(module, "format_exception", "OOO", type, value ? value : Py_None,
				traceback ? traceback : Py_None);
	}
	for (i = 0; lines && i < PyList_GET_SIZE(lines); i++) {
		log_lines(PyList_GET_ITEM(lines, i));
	}
	Py_XDECREF(lines);
	Py_XDECREF(module);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	PyErr_Clear();
}
