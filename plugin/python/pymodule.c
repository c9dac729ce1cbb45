#include "python/python_api.h"

#include "python/pymessage.h"
#include "python/pymodule.h"

#include <string.h>
#include <unistd.h>

#include "options/options.h"
#include "shared/clock.h"
#include "shared/heartbeat.h"
#include "shared/log_ring.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"

/* MQTT 5, 3.8.3.1; the runtime uses a bit above it, which means nothing inside of a broker. */
#define SUBSCRIPTION_OPTIONS 0x3fU

/* Set before the interpreter starts and never changed: a built-in module cannot be handed an argument. */
static const struct pymodule_context *context;

/* ---- taking ---- */

/* What Python wants to know of a recipient: Subscription Options, and from bit 8 on the identifier of the
 * subscription that a retained message comes for. */
static unsigned long long options_of(const struct recipient *recipient)
{
	return (unsigned long long)recipient->subscription << 8 | recipient->qos |
			(recipient->retain_as_published ? MQTT_SUB_OPT_RETAIN_AS_PUBLISHED : 0U);
}

/* Appends (consumer, Message, options) for each recipient. Owns message from here on. */
static int append_deliveries(PyObject *list, struct pymessage_state *state, struct message *message)
{
	PyObject *object = pymessage_new(state, message);
	int rc = object ? 0 : -1;
	size_t i;

	for (i = 0; rc == 0 && i < message->recipient_count; i++) {
		const struct recipient *recipient = &message->recipients[i];
		PyObject *delivery = Py_BuildValue("(KOK)", (unsigned long long)recipient->consumer, object,
				options_of(recipient));

		rc = delivery ? PyList_Append(list, delivery) : -1;
		Py_XDECREF(delivery);
	}
	Py_XDECREF(object);
	return rc;
}

/* (name, what it is about ...): `Control` in bridge.py. New reference. */
static PyObject *make_control(const struct message *message)
{
	const union message_as *as = &message->as;

	switch (message->kind) {
	case MESSAGE_ANSWER:
		return Py_BuildValue("(sKi)", "answer", (unsigned long long)as->answer.sequence, as->answer.rc);
	case MESSAGE_WRITABLE:
		return Py_BuildValue("(s)", "writable");
	case MESSAGE_HOLD:
		return Py_BuildValue("(si)", "hold", as->hold.number);
	case MESSAGE_RELEASE:
		return Py_BuildValue("(si)", "release", as->hold.number);
	case MESSAGE_HOLD_CONSUMER:
		return Py_BuildValue("(sKO)", "hold_consumer", (unsigned long long)as->hold_consumer.consumer,
				as->hold_consumer.again ? Py_True : Py_False);
	case MESSAGE_RELEASE_CONSUMER:
		return Py_BuildValue("(sK)", "release_consumer", (unsigned long long)as->hold_consumer.consumer);
	case MESSAGE_OPTIONS:
		return Py_BuildValue("(siI)", "options", as->options.verbosity, as->options.log_lines);
	case MESSAGE_STOP:
		return Py_BuildValue("(s)", "stop");
	default:
		return PyErr_Format(PyExc_SystemError, "a message of kind %d is not for Python", (int)message->kind);
	}
}

/* Appends (deliveries, control) to the batches. Takes the reference to control, which may be NULL: none. */
static int append_batch(PyObject *batches, PyObject *deliveries, PyObject *control)
{
	PyObject *batch = PyTuple_Pack(2, deliveries, control ? control : Py_None);
	int rc = batch ? PyList_Append(batches, batch) : -1;

	Py_XDECREF(batch);
	Py_XDECREF(control);
	return rc;
}

/* Ends a batch with a control. Owns message from here on. The next batch's deliveries, which take the place
 * of this one's, or NULL with an exception. */
static PyObject *end_batch(PyObject *batches, PyObject *deliveries, struct message *message)
{
	PyObject *control = make_control(message);
	int rc = control ? append_batch(batches, deliveries, control) : -1;

	message_free(message);
	Py_DECREF(deliveries);
	return rc ? NULL : PyList_New(0);
}

/* Puts a message where it belongs, and owns it. Returns where the next delivery goes; NULL: with an
 * exception. */
static PyObject *put_message(PyObject *batches, PyObject *deliveries, struct pymessage_state *state,
		struct message *message)
{
	if (!message_event(message->kind)) {
		return end_batch(batches, deliveries, message);
	}
	if (message->kind == MESSAGE_PUBLISH && message->as.publish.by_session) {
		/* All others the broker thread has counted. */
		statistics_add(context->statistics, STATISTICS_RECEIVED, 1);
	}
	if (append_deliveries(deliveries, state, message)) {
		Py_CLEAR(deliveries);
	}
	return deliveries;
}

/* What waits, up to so many messages, as batches. New reference. */
static PyObject *take_batches(struct pymessage_state *state, size_t limit)
{
	PyObject *batches = PyList_New(0), *deliveries = batches ? PyList_New(0) : NULL;
	struct message *message;
	size_t taken;

	for (taken = 0; deliveries && taken < limit && (message = queue_take(context->inbound)); taken++) {
		deliveries = put_message(batches, deliveries, state, message);
	}
	if (!deliveries || (PyList_GET_SIZE(deliveries) && append_batch(batches, deliveries, NULL))) {
		Py_CLEAR(batches);
	}
	Py_XDECREF(deliveries);
	return batches;
}

static PyObject *module_take(PyObject *module, PyObject *argument)
{
	size_t limit = PyLong_AsSize_t(argument);
	char ignored[64];

	if (limit == (size_t)-1 && PyErr_Occurred()) {
		return NULL;
	}
	/* Before the queue is looked at: a push after this makes it readable again. */
	if (read(context->inbound_fd, ignored, sizeof(ignored)) < 0) {
		/* Nothing new since the last time, which is fine. */
	}
	return take_batches(PyModule_GetState(module), limit);
}

static PyObject *module_is_over(PyObject *module, PyObject *argument)
{
	unsigned long sixteenths = PyLong_AsUnsignedLong(argument);

	(void)module;
	if (PyErr_Occurred()) {
		return NULL;
	}
	return PyBool_FromLong(queue_is_over(context->inbound, (unsigned int)sixteenths));
}

/* ---- giving ---- */

static PyObject *tell(struct message *message)
{
	if (!queue_tell(context->outbound, message)) {
		return PyErr_NoMemory();
	}
	Py_RETURN_NONE;
}

static PyObject *module_publish(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
	struct message_content content = {0};
	struct message *message;
	Py_buffer payload;
	Py_ssize_t topic_length, properties_length;
	unsigned long long consumer;
	char *properties;
	long qos;
	int retain;

	(void)module;
	if (count != 6) {
		PyErr_SetString(PyExc_TypeError,
				"publish() takes consumer, topic, payload, qos, retain and properties");
		return NULL;
	}
	/* One after the other: an exception must not be set while the next is looked at, which may run Python
	 * code. */
	consumer = PyLong_AsUnsignedLongLong(arguments[0]);
	if (consumer == (unsigned long long)-1 && PyErr_Occurred()) {
		return NULL;
	}
	content.topic = PyUnicode_AsUTF8AndSize(arguments[1], &topic_length);
	if (!content.topic) {
		return NULL;
	}
	qos = PyLong_AsLong(arguments[3]);
	if (qos == -1 && PyErr_Occurred()) {
		return NULL;
	}
	retain = PyObject_IsTrue(arguments[4]);
	if (retain < 0 || PyBytes_AsStringAndSize(arguments[5], &properties, &properties_length) ||
			PyObject_GetBuffer(arguments[2], &payload, PyBUF_SIMPLE)) {
		return NULL;
	}
	content.topic_length = (size_t)topic_length;
	content.payload = payload.buf;
	content.payload_length = (size_t)payload.len;
	content.properties = properties;
	content.properties_length = (size_t)properties_length;
	message = message_publish(&content, NULL, 0);
	PyBuffer_Release(&payload);
	if (!message) {
		return PyErr_NoMemory();
	}
	message->as.publish.publisher = consumer;
	message->as.publish.qos = (uint8_t)qos;
	message->as.publish.retain = retain != 0;
	if (queue_push(context->outbound, message)) {
		Py_RETURN_TRUE;
	}
	message_free(message);
	Py_RETURN_FALSE;
}

static PyObject *module_subscribe(PyObject *module, PyObject *arguments)
{
	unsigned long long consumer, options, sequence;
	struct message_request request;
	const char *filter;
	Py_ssize_t length;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ks#KK:subscribe", &consumer, &filter, &length, &options, &sequence)) {
		return NULL;
	}
	request = (struct message_request){.consumer = consumer,
		.sequence = sequence,
		.options = (uint8_t)(options & SUBSCRIPTION_OPTIONS),
		.identifier = (uint32_t)(options >> 8)};
	return tell(message_subscribe(&request, filter, (size_t)length));
}

static PyObject *module_unsubscribe(PyObject *module, PyObject *arguments)
{
	unsigned long long consumer, sequence;
	struct message_request request;
	const char *filter;
	Py_ssize_t length;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ks#K:unsubscribe", &consumer, &filter, &length, &sequence)) {
		return NULL;
	}
	request = (struct message_request){.consumer = consumer, .sequence = sequence};
	return tell(message_unsubscribe(&request, filter, (size_t)length));
}

static PyObject *module_watch_clients(PyObject *module, PyObject *arguments)
{
	unsigned long long consumer, sequence;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KK:watch_clients", &consumer, &sequence)) {
		return NULL;
	}
	return tell(message_watch(consumer, sequence));
}

static PyObject *module_unwatch_clients(PyObject *module, PyObject *arguments)
{
	unsigned long long consumer, sequence;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KK:unwatch_clients", &consumer, &sequence)) {
		return NULL;
	}
	return tell(message_unwatch(consumer, sequence));
}

static PyObject *module_tells_connects(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyBool_FromLong(context->tells_connects);
}

static PyObject *module_kick(PyObject *module, PyObject *arguments)
{
	unsigned long long sequence;
	const char *client_id;

	(void)module;
	/* One with a NUL is none, and its beginning may be another's. */
	if (!PyArg_ParseTuple(arguments, "sK:kick", &client_id, &sequence)) {
		return NULL;
	}
	return tell(message_kick(client_id, strlen(client_id), sequence));
}

/* ---- the durable inbox ---- */

static PyObject *module_consumer(PyObject *module, PyObject *arguments)
{
	unsigned long long handle;
	const char *name;
	Py_ssize_t length;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ks#:consumer", &handle, &name, &length)) {
		return NULL;
	}
	return tell(message_consumer(handle, name, (size_t)length));
}

static PyObject *module_consumer_gone(PyObject *module, PyObject *arguments)
{
	unsigned long long handle;
	int keeps;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Kp:consumer_gone", &handle, &keeps)) {
		return NULL;
	}
	return tell(message_consumer_gone(handle, keeps != 0));
}

static PyObject *module_done(PyObject *module, PyObject *list)
{
	Py_ssize_t count = PyList_Size(list), i;
	struct message_handled *handled;
	unsigned long long consumer, stored;
	PyObject *result;

	(void)module;
	if (count < 0) {
		return NULL;
	}
	handled = PyMem_Calloc((size_t)count + 1, sizeof(*handled));
	if (!handled) {
		return PyErr_NoMemory();
	}
	for (i = 0; i < count; i++) {
		if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "KK:done", &consumer, &stored)) {
			PyMem_Free(handled);
			return NULL;
		}
		handled[i] = (struct message_handled){.consumer = consumer, .stored = stored};
	}
	result = tell(message_done(handled, (size_t)count));
	PyMem_Free(handled);
	return result;
}

static PyObject *module_failed(PyObject *module, PyObject *arguments)
{
	unsigned long long consumer, stored;
	unsigned int tries;
	const char *traceback;
	Py_ssize_t length;
	int is_dead;
	struct message_of_failed failed;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KKIs#p:failed", &consumer, &stored, &tries, &traceback, &length,
				&is_dead)) {
		return NULL;
	}
	failed = (struct message_of_failed){
		.consumer = consumer, .stored = stored, .tries = tries, .is_dead = is_dead != 0};
	return tell(message_failed(&failed, traceback, (size_t)length));
}

/* ---- the log ---- */

static bool push_log(int level, const char *line, size_t length)
{
	struct message *message = message_log(level, line, length);

	if (!message) {
		return false;
	}
	if (queue_push(context->outbound, message)) {
		return true;
	}
	statistics_add(context->statistics, STATISTICS_LOG_DROPPED, 1);
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

/* (number, time, level, text). New reference. */
static PyObject *make_line(const struct log_ring_line *line)
{
	/* A client may have had anything but UTF-8 written there. */
	PyObject *text = PyUnicode_DecodeUTF8(line->text, (Py_ssize_t)line->length, "replace");

	return text ? Py_BuildValue("(KdiN)", (unsigned long long)line->number, (double)line->ms / 1000.0,
						  line->level, text)
				: NULL;
}

static PyObject *module_log_lines(PyObject *module, PyObject *argument)
{
	unsigned long long after = PyLong_AsUnsignedLongLong(argument);
	uint64_t last = log_ring_last(); /* no more, however many come meanwhile */
	PyObject *lines, *item;
	struct log_ring_line line;

	(void)module;
	if (after == (unsigned long long)-1 && PyErr_Occurred()) {
		return NULL;
	}
	lines = PyList_New(0);
	for (line.number = after; lines && line.number < last && log_ring_next(line.number, &line);) {
		item = make_line(&line);
		if (!item || PyList_Append(lines, item)) {
			Py_CLEAR(lines);
		}
		Py_XDECREF(item);
	}
	return lines;
}

static PyObject *module_last_log_line(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyLong_FromUnsignedLongLong(log_ring_last());
}

static PyObject *module_started(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return tell(message_started());
}

static PyObject *module_settled(PyObject *module, PyObject *argument)
{
	Py_ssize_t length;
	const char *summary = PyUnicode_AsUTF8AndSize(argument, &length);

	(void)module;
	if (!summary) {
		return NULL;
	}
	return tell(message_settled(summary, (size_t)length));
}

static PyObject *module_suspend(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return tell(message_suspend(false));
}

static PyObject *module_fileno(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyLong_FromLong(context->inbound_fd);
}

/* ---- dictionaries ---- */

/* Takes the reference to value, NULL: an exception is set. 0, or -1 with an exception. */
static int set_item(PyObject *dictionary, const char *key, PyObject *value)
{
	int rc = value ? PyDict_SetItemString(dictionary, key, value) : -1;

	Py_XDECREF(value);
	return rc;
}

/* ---- statistics ---- */

/* Changes the statistic with this name by or to this number. */
static PyObject *change_statistic(PyObject *arguments,
		void (*change)(struct statistics *statistics, enum statistic which, uint64_t value))
{
	unsigned long long value;
	enum statistic which;
	const char *name;

	if (!PyArg_ParseTuple(arguments, "sK", &name, &value)) {
		return NULL;
	}
	which = statistics_find(name);
	if (which == STATISTICS_COUNT) {
		return PyErr_Format(PyExc_ValueError, "there is no statistic named %s", name);
	}
	change(context->statistics, which, value);
	Py_RETURN_NONE;
}

static PyObject *module_add(PyObject *module, PyObject *arguments)
{
	(void)module;
	return change_statistic(arguments, statistics_add);
}

static PyObject *module_set(PyObject *module, PyObject *arguments)
{
	(void)module;
	return change_statistic(arguments, statistics_set);
}

static PyObject *module_raise(PyObject *module, PyObject *arguments)
{
	(void)module;
	return change_statistic(arguments, statistics_raise);
}

/* As they are now, where that is known on this thread; others are those of the last look at them. */
static uint64_t value_of_statistic(enum statistic which)
{
	switch (which) {
	case STATISTICS_INBOUND_MESSAGES:
		return queue_count(context->inbound);
	case STATISTICS_INBOUND_BYTES:
		return queue_bytes(context->inbound);
	case STATISTICS_OUTBOUND_MESSAGES:
		return queue_count(context->outbound);
	case STATISTICS_OUTBOUND_BYTES:
		return queue_bytes(context->outbound);
	default:
		return statistics_get(context->statistics, which);
	}
}

static PyObject *module_values(PyObject *module, PyObject *unused)
{
	PyObject *values = PyDict_New();
	unsigned int which;

	(void)module;
	(void)unused;
	for (which = 0; values && which < STATISTICS_COUNT; which++) {
		uint64_t value = value_of_statistic((enum statistic)which);

		if (set_item(values, statistics_name((enum statistic)which), PyLong_FromUnsignedLongLong(value))) {
			Py_CLEAR(values);
		}
	}
	return values;
}

/* Once a message: what this costs, every message costs. */
static PyObject *module_handled(PyObject *module, PyObject *argument)
{
	unsigned long long since = PyLong_AsUnsignedLongLong(argument);
	uint64_t now;

	(void)module;
	if (since == (unsigned long long)-1 && PyErr_Occurred()) {
		return NULL;
	}
	now = STATISTICS_ARE_KEPT ? now_ns() : 0;
	if (since) {
		statistics_handled(context->statistics, now - since);
	}
	return PyLong_FromUnsignedLongLong(now);
}

/* ---- whether Python runs ---- */

static PyObject *module_beat(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyFloat_FromDouble((double)heartbeat_beat(context->heartbeat) / 1e9);
}

static PyObject *module_rest(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	heartbeat_end(context->heartbeat);
	Py_RETURN_NONE;
}

/* ---- options ---- */

/* As a list of (name, value); NULL with an exception. */
static PyObject *variables_of(const struct options *options)
{
	PyObject *variables = PyList_New(0), *entry;
	size_t i;

	for (i = 0; variables && i < options->variable_count; i++) {
		/* Bytes, decoded as os.environ decodes its own. */
		entry = Py_BuildValue("(NN)", PyUnicode_DecodeFSDefault(options->variables[i].name),
				PyUnicode_DecodeFSDefault(options->variables[i].value));
		if (!entry || PyList_Append(variables, entry)) {
			Py_CLEAR(variables);
		}
		Py_XDECREF(entry);
	}
	return variables;
}

static PyObject *value_of_option(const struct options_value *value)
{
	switch (value->kind) {
	case OPTIONS_TEXT:
		return PyUnicode_FromString(value->text);
	case OPTIONS_MILLISECONDS:
		return PyFloat_FromDouble((double)value->number / 1000.0);
	case OPTIONS_TRUTH:
		return PyBool_FromLong(value->number != 0);
	default:
		return PyLong_FromUnsignedLongLong(value->number);
	}
}

static PyObject *module_options(PyObject *module, PyObject *unused)
{
	const struct options *options = context->options;
	struct options_value value;
	PyObject *result = PyDict_New();
	size_t row = 0;

	(void)module;
	(void)unused;
	if (!result || set_item(result, "variables", variables_of(options))) {
		Py_XDECREF(result);
		return NULL;
	}
	while (options_next_for_python(options, &row, &value)) {
		if (set_item(result, value.key, value_of_option(&value))) {
			Py_DECREF(result);
			return NULL;
		}
	}
	return result;
}

static PyMethodDef module_methods[] = {
	{"fileno", module_fileno, METH_NOARGS, "A descriptor that is readable when take() has something."},
	{"take", module_take, METH_O, "What the broker has for the application, at most so many."},
	{"is_over", module_is_over, METH_O,
		"Whether more than so many sixteenths of the inbound queue's bounds are in use."},
	{"publish", (PyCFunction)(void (*)(void))module_publish, METH_FASTCALL,
		"Queues a PUBLISH; False when the queue is full."},
	{"subscribe", module_subscribe, METH_VARARGS, "Queues a subscription of a consumer."},
	{"unsubscribe", module_unsubscribe, METH_VARARGS, "Queues the end of a subscription."},
	{"watch_clients", module_watch_clients, METH_VARARGS, "Queues that a consumer watches clients."},
	{"unwatch_clients", module_unwatch_clients, METH_VARARGS, "Queues that it no longer does."},
	{"tells_connects", module_tells_connects, METH_NOARGS, "Whether those who watch hear of who connects."},
	{"kick", module_kick, METH_VARARGS, "Queues that a client is to be disconnected."},
	{"consumer", module_consumer, METH_VARARGS, "Queues that a consumer of this name is there."},
	{"consumer_gone", module_consumer_gone, METH_VARARGS, "Queues that it is not any more."},
	{"done", module_done, METH_O, "Queues that consumers have handled stored messages."},
	{"failed", module_failed, METH_VARARGS, "Queues that a consumer has failed at one."},
	{"log", module_log, METH_VARARGS, "Queues a line for the broker's log; False when the queue is full."},
	{"log_lines", module_log_lines, METH_O, "The last lines of that log behind the one with this number."},
	{"last_log_line", module_last_log_line, METH_NOARGS, "The number of the last of them."},
	{"started", module_started, METH_NOARGS, "Tells the broker to accept clients."},
	{"settled", module_settled, METH_O,
		"Says that the consumers of the start have subscribed, and what there is."},
	{"suspend", module_suspend, METH_NOARGS, "Says that the application has failed."},
	{"add", module_add, METH_VARARGS, "Adds to a statistic."},
	{"set", module_set, METH_VARARGS, "Sets a statistic."},
	{"raise_to", module_raise, METH_VARARGS, "Sets a statistic that is less."},
	{"values", module_values, METH_NOARGS, "The statistics by their names."},
	{"beat", module_beat, METH_NOARGS,
		"Says that Python runs; how long the broker has not heard so, in seconds."},
	{"rest", module_rest, METH_NOARGS, "Says that no more beats will come."},
	{"handled", module_handled, METH_O, "Counts the time since then, unless that is 0; the time now."},
	{"options", module_options, METH_NOARGS, "The options that concern Python."},
	{NULL, NULL, 0, NULL},
};

static int module_execute(PyObject *module)
{
	if (pymessage_prepare(module, context->inbound)) {
		return -1;
	}
	/* Log levels as the broker numbers them (mosquitto.h). */
	return PyModule_AddIntConstant(module, "LOG_ERR", MOSQ_LOG_ERR) ||
			PyModule_AddIntConstant(module, "LOG_WARNING", MOSQ_LOG_WARNING) ||
			PyModule_AddIntConstant(module, "LOG_NOTICE", MOSQ_LOG_NOTICE) ||
			PyModule_AddIntConstant(module, "LOG_INFO", MOSQ_LOG_INFO) ||
			PyModule_AddIntConstant(module, "LOG_DEBUG", MOSQ_LOG_DEBUG) ||
			PyModule_AddStringConstant(module, "VERSION", MQTTASGI_VERSION);
}

static PyModuleDef_Slot module_slots[] = {
	{Py_mod_exec, (void *)module_execute},
	{0, NULL},
};

static struct PyModuleDef module_definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_mqttasgi",
	.m_doc = "The broker that this interpreter runs in.",
	.m_size = sizeof(struct pymessage_state),
	.m_methods = module_methods,
	.m_slots = module_slots,
	.m_traverse = pymessage_traverse,
	.m_clear = pymessage_clear,
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
