/* What Mosquitto calls: the three entry points, one table of callbacks, the order of start and stop.
 *
 * Start: options, queues, loop thread, wait until the master consumer's connect() has returned, callbacks. The
 *        broker opens its listeners after that, so no client meets a half-started application.
 * Stop:  callbacks off, consumers disconnect, loop thread ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "interpreter.h"
#include "message.h"
#include "mosquitto_api.h"
#include "options.h"
#include "queue.h"
#include "wakeup.h"

#define EXPORT __attribute__((visibility("default")))

/* How long consumers have for their disconnect() when the broker stops. */
#define SHUTDOWN_MS 5000
/* How long the loop thread has for its last instructions after it said that it ended. */
#define JOIN_MS 1000

static const struct {
	int event;
	MOSQ_FUNC_generic_callback callback;
} callbacks[] = {
	{MOSQ_EVT_MESSAGE, broker_on_message},
	{MOSQ_EVT_TICK, broker_on_tick},
};
#define CALLBACK_COUNT (sizeof(callbacks) / sizeof(callbacks[0]))

struct plugin {
	mosquitto_plugin_id_t *identifier;
	struct options *options;
	struct wakeup *wakeup;
	struct queue *inbound;
	struct queue *outbound;
	struct broker *broker;
	struct pymodule_context context;
	int notify_fd;     /* the other end of context.inbound_fd */
	size_t registered; /* how many of callbacks[] */
};

static void notify_loop_thread(void *userdata)
{
	const struct plugin *plugin = userdata;

	/* Fails only when it is full, and so readable already. */
	if (write(plugin->notify_fd, "", 1) < 0) {
		return;
	}
}

static void notify_broker_thread(void *userdata)
{
	wakeup_request(userdata);
}

/* Takes NULL and what was half built. No other thread may use any of it any more. */
static void plugin_free(struct plugin *plugin)
{
	if (!plugin) {
		return;
	}
	queue_free(plugin->inbound);
	queue_free(plugin->outbound);
	broker_free(plugin->broker);
	wakeup_free(plugin->wakeup);
	if (plugin->notify_fd >= 0) {
		(void)close(plugin->context.inbound_fd);
		(void)close(plugin->notify_fd);
	}
	options_free(plugin->options);
	free(plugin);
}

static struct plugin *plugin_new(mosquitto_plugin_id_t *identifier, struct options *options)
{
	struct plugin *plugin = calloc(1, sizeof(*plugin));
	int ends[2];

	if (!plugin) {
		options_free(options);
		return NULL;
	}
	plugin->identifier = identifier;
	plugin->options = options;
	plugin->context.options = options;
	plugin->notify_fd = -1;
	/* A pipe and no eventfd: a write to a pipe tells the scheduler that the writer is about to sleep, so the loop thread
	 * starts on the broker's warm processor, which takes a fraction of the time that waking another one does. */
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		goto fail;
	}
	plugin->context.inbound_fd = ends[0];
	plugin->notify_fd = ends[1];
	plugin->wakeup = wakeup_new();
	if (!plugin->wakeup) {
		goto fail;
	}
	plugin->inbound = queue_new(options->queue_size, options->queue_bytes, notify_loop_thread, plugin);
	plugin->outbound = queue_new(options->queue_size, options->queue_bytes, notify_broker_thread, plugin->wakeup);
	if (!plugin->inbound || !plugin->outbound) {
		goto fail;
	}
	plugin->context.inbound = plugin->inbound;
	plugin->context.outbound = plugin->outbound;
	plugin->broker = broker_new(options, plugin->inbound, plugin->outbound, plugin->wakeup);
	if (plugin->broker) {
		return plugin;
	}
fail:
	plugin_free(plugin);
	return NULL;
}

/* The broker waits here, before it opens its listeners, until the master consumer's connect() has returned. */
static int wait_for_start(struct plugin *plugin)
{
	const struct options *options = plugin->options;

	if (broker_wait(plugin->broker, MESSAGE_STARTED, options->startup_timeout_ms)) {
		return MOSQ_ERR_SUCCESS;
	}
	if (broker_has_stopped(plugin->broker)) {
		broker_log(MOSQ_LOG_ERR, "The application %s did not start; the lines above say why.", options->application);
		(void)interpreter_join(JOIN_MS);
	} else {
		broker_log(MOSQ_LOG_ERR,
				"The application %s was not ready within startup_timeout (%g s): importing it, or the master consumer's "
				"connect(), takes longer or waits for something. Raise plugin_opt_startup_timeout or look there.",
				options->application, options->startup_timeout_ms / 1000.0);
	}
	return MOSQ_ERR_UNKNOWN;
}

static int register_callbacks(struct plugin *plugin)
{
	int rc;

	for (; plugin->registered < CALLBACK_COUNT; plugin->registered++) {
		rc = mosquitto_callback_register(plugin->identifier, callbacks[plugin->registered].event,
				callbacks[plugin->registered].callback, NULL, plugin->broker);
		if (rc != MOSQ_ERR_SUCCESS) {
			return rc;
		}
	}
	return MOSQ_ERR_SUCCESS;
}

static void unregister_callbacks(struct plugin *plugin)
{
	while (plugin->registered > 0) {
		plugin->registered--;
		(void)mosquitto_callback_unregister(plugin->identifier, callbacks[plugin->registered].event,
				callbacks[plugin->registered].callback, NULL);
	}
}

/* Ends the application. What it used is left to the end of the process: threads that it started may outlive it and
 * still write to the log. */
static void plugin_stop(struct plugin *plugin)
{
	struct message *stop = message_new(MESSAGE_STOP, NULL, 0, NULL, 0, NULL, 0);

	unregister_callbacks(plugin);
	if (stop) {
		queue_push_control(plugin->inbound, stop);
	}
	if (!broker_wait(plugin->broker, MESSAGE_STOPPED, SHUTDOWN_MS) || !interpreter_join(JOIN_MS)) {
		broker_log(MOSQ_LOG_WARNING, "The application did not end within %d seconds; the broker ends without it.",
				SHUTDOWN_MS / 1000);
	}
}

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	int i;

	for (i = 0; i < supported_version_count; i++) {
		if (supported_versions[i] == 5) {
			return 5;
		}
	}
	return -1;
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata,
		struct mosquitto_opt *lines, int line_count)
{
	struct options *options = NULL;
	struct plugin *plugin;
	char *error = NULL;
	int rc;

	rc = options_load(lines, line_count, &options, &error);
	if (rc != MOSQ_ERR_SUCCESS) {
		broker_log(MOSQ_LOG_ERR, "%s", error ? error : "No memory for the options.");
		free(error);
		return rc;
	}
	plugin = plugin_new(identifier, options);
	if (!plugin) {
		broker_log(MOSQ_LOG_ERR, "Cannot set up queues and timer: %s", strerror(errno));
		return MOSQ_ERR_NOMEM;
	}
	if (options->without_effect) {
		broker_log(MOSQ_LOG_NOTICE,
				"These options have no effect yet, because this version has no MQTT session of its own: %s",
				options->without_effect);
	}
	rc = interpreter_start(&plugin->context);
	if (rc != MOSQ_ERR_SUCCESS) {
		plugin_free(plugin);
		return rc;
	}
	rc = wait_for_start(plugin);
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = register_callbacks(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		*userdata = plugin;
	}
	return rc;
}

EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *lines, int line_count)
{
	(void)lines;
	(void)line_count;
	if (userdata) {
		plugin_stop(userdata);
	}
	return MOSQ_ERR_SUCCESS;
}
