/* What Mosquitto calls: the three entry points, one table of callbacks, the order of start and stop.
 *
 * Start: options, queues, session, loop thread, wait until the master consumer's connect() has returned,
 * callbacks. The broker opens its listeners after that, so no client meets a half-started application; the
 * session connects at the first event. Stop: SIGTERM or SIGINT is kept, consumers disconnect while the
 * broker serves on, the loop thread ends, the broker gets its signal; then callbacks off, session ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/access.h"
#include "broker/broker.h"
#include "broker/clients.h"
#include "broker/keeper.h"
#include "broker/lanes.h"
#include "broker/listener.h"
#include "broker/reload.h"
#include "broker/stop.h"
#include "broker/surroundings.h"
#include "broker/sys_tree.h"
#include "broker/versions.h"
#include "broker/wakeup.h"
#include "options/load.h"
#include "options/options.h"
#include "python/interpreter.h"
#include "session/session.h"
#include "shared/clock.h"
#include "shared/heartbeat.h"
#include "shared/log.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/queue.h"
#include "shared/statistics.h"

#define EXPORT __attribute__((visibility("default")))

/* How long the loop thread has for its last instructions after it said that it ended. */
#define JOIN_MS 1000
/* How much longer than the option `watchdog` Python may be silent. Its own watchdog says more, and comes
 * first where it can. */
#define SILENCE_MS 1000U

/* Whose a callback is: who gets the event as its userdata. */
enum owner { PLUGIN, BROKER, RELOAD };
enum condition { ALWAYS, WHERE_CONNECTS_ARE_TOLD, WHERE_LOGINS_TELL, WHERE_COPIES_ARE_REFUSED };

static int on_tick(int event, void *event_data, void *userdata);

static const struct {
	int event;
	MOSQ_FUNC_generic_callback callback;
	enum owner owner;
	enum condition condition;
} callbacks[] = {
	{MOSQ_EVT_MESSAGE, broker_on_message, BROKER, ALWAYS},
	{MOSQ_EVT_TICK, on_tick, PLUGIN, ALWAYS},
	{MOSQ_EVT_BASIC_AUTH, broker_on_login, BROKER, WHERE_LOGINS_TELL},
	{EVT_CONNECT, broker_on_connect, BROKER, WHERE_CONNECTS_ARE_TOLD},
	{MOSQ_EVT_RELOAD, reload_on_event, RELOAD, ALWAYS},
	{MOSQ_EVT_DISCONNECT, broker_on_disconnect, BROKER, ALWAYS},
	{EVT_CLIENT_OFFLINE, broker_on_disconnect, BROKER, WHERE_CONNECTS_ARE_TOLD},
	{MOSQ_EVT_ACL_CHECK, broker_on_access, BROKER, WHERE_COPIES_ARE_REFUSED},
};
#define CALLBACK_COUNT (sizeof(callbacks) / sizeof(callbacks[0]))

/* What the plugin finds when it comes into the broker. */
struct found {
	char version[VERSIONS_MAX]; /* Mosquitto's; empty: not known */
	bool has_predecessor;
};

struct plugin {
	mosquitto_plugin_id_t *identifier;
	struct options *options;
	const struct versions_traits *traits;
	struct wakeup *wakeup;
	struct queue *inbound;
	struct queue *outbound;
	struct session *session; /* NULL: none */
	struct lanes *lanes;
	struct clients *clients;
	struct statistics *statistics;
	struct keeper *keeper; /* NULL: no durable inbox */
	struct broker *broker;
	struct sys_tree *sys_tree;
	struct reload *reload;
	struct heartbeat heartbeat;
	struct pymodule_context context;
	int notify_fd; /* the other end of context.inbound_fd */
	struct found found;
	bool may_refuse_copies, grants_undecided; /* see access.h */
	bool has_announced;
	bool registered[CALLBACK_COUNT];
	struct stop stop;
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
	reload_free(plugin->reload);
	sys_tree_free(plugin->sys_tree);
	broker_free(plugin->broker);
	keeper_free(plugin->keeper);
	clients_free(plugin->clients);
	statistics_free(plugin->statistics);
	lanes_free(plugin->lanes);
	session_free(plugin->session);
	queue_free(plugin->inbound);
	queue_free(plugin->outbound);
	wakeup_free(plugin->wakeup);
	if (plugin->notify_fd >= 0) {
		(void)close(plugin->context.inbound_fd);
		(void)close(plugin->notify_fd);
	}
	options_free(plugin->options);
	free(plugin);
}

/* ---- start ---- */

static int look_around(const struct options *options, struct found *ret_found)
{
	(void)versions_ask(VERSIONS_THIS_PROGRAM, ret_found->version);
	ret_found->has_predecessor = surroundings_has_predecessor();
	return surroundings_look(&(struct surroundings){
		.version = ret_found->version,
		.traits = versions_traits(),
		.connect_events = options->connect_events,
		.has_predecessor = ret_found->has_predecessor,
	});
}

static int make_session(struct plugin *plugin)
{
	bool can_be;
	int rc = listener_use_settings(plugin->options, &can_be);

	if (rc != MOSQ_ERR_SUCCESS) {
		log_line(MOSQ_LOG_ERR, "No memory for the broker's settings.");
		return rc;
	}
	if (!can_be) {
		return MOSQ_ERR_SUCCESS;
	}
	rc = session_new(plugin->options, plugin->inbound, plugin->outbound, plugin->notify_fd, &plugin->session);
	if (rc == MOSQ_ERR_SUCCESS) {
		plugin->may_refuse_copies = surroundings_let_refuse(plugin->traits, plugin->found.has_predecessor,
				&plugin->grants_undecided);
	} else {
		log_line(MOSQ_LOG_ERR, "No memory for the session.");
	}
	return rc;
}

static int make_queues(struct plugin *plugin)
{
	const struct options *options = plugin->options;
	int ends[2];

	/* A pipe and no eventfd: a write to a pipe tells the scheduler that the writer is about to sleep, so the
	 * loop thread starts on the broker's warm processor, which takes a fraction of the time that waking
	 * another one does. */
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		return MOSQ_ERR_ERRNO;
	}
	plugin->context.inbound_fd = ends[0];
	plugin->notify_fd = ends[1];
	plugin->wakeup = wakeup_new();
	if (!plugin->wakeup) {
		return MOSQ_ERR_ERRNO;
	}
	plugin->inbound = queue_new(options->queue_size, options->queue_bytes, notify_loop_thread, plugin);
	plugin->outbound =
			queue_new(options->queue_size, options->queue_bytes, notify_broker_thread, plugin->wakeup);
	if (plugin->inbound && options->overload == OPTIONS_DROP_OLDEST) {
		queue_allow_dropping(plugin->inbound);
	}
	plugin->context.inbound = plugin->inbound;
	plugin->context.outbound = plugin->outbound;
	return plugin->inbound && plugin->outbound ? MOSQ_ERR_SUCCESS : MOSQ_ERR_NOMEM;
}

static struct sys_tree *make_sys_tree(const struct plugin *plugin)
{
	const struct sys_tree_sources sources = {plugin->statistics, plugin->inbound, plugin->outbound,
		plugin->wakeup, plugin->lanes, plugin->options->session != OPTIONS_SESSION_OFF,
		plugin->options->durable != NULL, plugin->options->http != NULL};

	return sys_tree_new(&sources);
}

/* The durable inbox, where one is asked for. What went wrong is in the log. */
static int open_keeper(struct plugin *plugin)
{
	if (!plugin->options->durable) {
		return MOSQ_ERR_SUCCESS;
	}
	if (plugin->options->check) {
		return keeper_check(plugin->options) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_UNKNOWN;
	}
	plugin->keeper = keeper_new(plugin->options, plugin->inbound, plugin->lanes, plugin->statistics);
	if (!plugin->keeper) {
		return MOSQ_ERR_UNKNOWN;
	}
	broker_use_keeper(plugin->broker, plugin->keeper);
	if (plugin->session) {
		session_use_ids(plugin->session, keeper_ids(plugin->keeper));
	}
	return MOSQ_ERR_SUCCESS;
}

/* What runs on the broker thread. What went wrong is in the log. */
static int make_broker_side(struct plugin *plugin)
{
	const struct options *options = plugin->options;

	plugin->lanes = lanes_new(plugin->session, plugin->inbound, plugin->traits, options->message_expiry);
	plugin->clients =
			clients_new(plugin->context.tells_connects, plugin->session ? options_session_id(options) : NULL);
	if (plugin->lanes && plugin->clients && plugin->statistics) {
		plugin->broker = broker_new(options, plugin->inbound, plugin->outbound, plugin->wakeup, plugin->lanes,
				plugin->clients, plugin->statistics);
	}
	plugin->sys_tree = plugin->broker ? make_sys_tree(plugin) : NULL;
	plugin->reload =
			plugin->sys_tree ? reload_new(options, plugin->traits, plugin->broker, plugin->sys_tree) : NULL;
	if (!plugin->reload) {
		log_line(MOSQ_LOG_ERR, "No memory for the plugin.");
		return MOSQ_ERR_NOMEM;
	}
	broker_set_access(plugin->broker,
			&(struct access){.identifier = plugin->identifier, .grants = plugin->grants_undecided});
	plugin->stop = (struct stop){.options = options,
		.broker = plugin->broker,
		.lanes = plugin->lanes,
		.session = plugin->session,
		.inbound = plugin->inbound,
		.wakeup = plugin->wakeup};
	return MOSQ_ERR_SUCCESS;
}

/* Before the session is started. */
static void find_reader(struct plugin *plugin)
{
	struct properties_reader reader;

	if (versions_find_reader(&reader)) {
		broker_use_reader(plugin->broker, &reader);
	} else {
		lanes_ignore_properties(plugin->lanes);
	}
}

/* Owns options. What went wrong is in the log. */
static int plugin_new(mosquitto_plugin_id_t *identifier, struct options *options, const struct found *found,
		struct plugin **ret_plugin)
{
	struct plugin *plugin = calloc(1, sizeof(*plugin));
	int rc;

	if (!plugin) {
		options_free(options);
		return MOSQ_ERR_NOMEM;
	}
	plugin->identifier = identifier;
	plugin->options = options;
	plugin->found = *found;
	plugin->traits = versions_traits();
	plugin->context.options = options;
	plugin->context.tells_connects = plugin->traits->tells_connects || options->connect_events;
	plugin->context.heartbeat = &plugin->heartbeat;
	plugin->notify_fd = -1;
	plugin->statistics = plugin->context.statistics = statistics_new();
	rc = make_queues(plugin);
	if (rc != MOSQ_ERR_SUCCESS) {
		log_line(MOSQ_LOG_ERR, "Cannot set up queues and timer: %s", strerror(errno));
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = make_session(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = make_broker_side(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = open_keeper(plugin);
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		plugin_free(plugin);
		return rc;
	}
	find_reader(plugin);
	*ret_plugin = plugin;
	return MOSQ_ERR_SUCCESS;
}

/* The broker waits here, before it opens its listeners, until the master consumer's connect() has
 * returned. */
static int wait_for_start(struct plugin *plugin)
{
	const struct options *options = plugin->options;

	if (broker_wait(plugin->broker, MESSAGE_STARTED, options->startup_timeout_ms)) {
		return MOSQ_ERR_SUCCESS;
	}
	if (broker_has_stopped(plugin->broker)) {
		log_line(MOSQ_LOG_ERR, "The application %s did not start; the lines above say why.",
				options->application);
		(void)interpreter_join(JOIN_MS);
	} else {
		log_line(MOSQ_LOG_ERR,
				"The application %s was not ready within startup_timeout (%g s): importing it, or the master consumer's "
				"connect(), takes longer or waits for something. Raise plugin_opt_startup_timeout or look there. The broker lets "
				"nobody in before that, a client of the application's own included.",
				options->application, options->startup_timeout_ms / 1000.0);
	}
	return MOSQ_ERR_UNKNOWN;
}

/* The application was imported and no consumer of it started. Returned to the broker, which stops at what is
 * not success. */
static int end_check(const struct plugin *plugin)
{
	log_line(MOSQ_LOG_NOTICE,
			"Check passed: the options are right and the application %s can be imported. The broker ends here, before it "
			"opens a listener.",
			plugin->options->application);
	(void)interpreter_join(JOIN_MS);
	return MOSQ_ERR_UNKNOWN;
}

static bool applies(const struct plugin *plugin, enum condition condition)
{
	switch (condition) {
	case WHERE_CONNECTS_ARE_TOLD:
		return plugin->traits->tells_connects;
	case WHERE_LOGINS_TELL:
		return plugin->options->connect_events && !plugin->traits->tells_connects;
	case WHERE_COPIES_ARE_REFUSED:
		return plugin->may_refuse_copies;
	default:
		return true;
	}
}

/* What registering a callback changes for clients is not to come as a surprise. */
static void warn_of_logins(void)
{
	log_line(MOSQ_LOG_NOTICE,
			"connect_events: on this version of Mosquitto, a client that sends a user name is refused unless a password_file "
			"or another plugin accepts it; allow_anonymous lets in only those that send none.");
}

static int register_callbacks(struct plugin *plugin)
{
	void *const owners[] = {[PLUGIN] = plugin, [BROKER] = plugin->broker, [RELOAD] = plugin->reload};
	size_t i;
	int rc;

	for (i = 0; i < CALLBACK_COUNT; i++) {
		if (!applies(plugin, callbacks[i].condition)) {
			continue;
		}
		rc = mosquitto_callback_register(plugin->identifier, callbacks[i].event, callbacks[i].callback, NULL,
				owners[callbacks[i].owner]);
		if (rc != MOSQ_ERR_SUCCESS) {
			return rc;
		}
		plugin->registered[i] = true;
		if (callbacks[i].condition == WHERE_LOGINS_TELL) {
			warn_of_logins();
		}
	}
	return MOSQ_ERR_SUCCESS;
}

static void unregister_callbacks(struct plugin *plugin)
{
	size_t i;

	for (i = 0; i < CALLBACK_COUNT; i++) {
		if (plugin->registered[i]) {
			(void)mosquitto_callback_unregister(plugin->identifier, callbacks[i].event, callbacks[i].callback,
					NULL);
			plugin->registered[i] = false;
		}
	}
}

static int start_session(struct plugin *plugin)
{
	int error = plugin->session ? session_start(plugin->session) : 0;

	if (error) {
		log_line(MOSQ_LOG_ERR, "Cannot start the thread for the session: %s", strerror(error));
		return MOSQ_ERR_UNKNOWN;
	}
	return MOSQ_ERR_SUCCESS;
}

/* ---- while it runs ---- */

/* Says so, once each time, when Python does not run. */
static void look_at_python(struct plugin *plugin)
{
	uint64_t limit_ns = (plugin->options->watchdog_ms + SILENCE_MS) * (uint64_t)1000000U;
	uint64_t silent_ns = heartbeat_look(&plugin->heartbeat, limit_ns);

	if (silent_ns) {
		log_line(MOSQ_LOG_ERR,
				"Python has not run for %.1f s: something holds its global lock, most likely a C extension that a consumer "
				"called, or the garbage collector with very many objects. No consumer gets anything meanwhile; the broker and "
				"its clients go on. Where it was is said here when Python runs again.",
				(double)silent_ns / 1e9);
	}
}

/* Says once what there is, when it is known whether there is a session. */
static void announce(struct plugin *plugin)
{
	const char *summary = broker_summary(plugin->broker), *session = "without a session";

	if (plugin->has_announced || !summary || (plugin->session && !broker_knows_session(plugin->broker))) {
		return;
	}
	if (plugin->session) {
		session = lanes_has_session(plugin->lanes) ? "session up" : "session down";
	}
	plugin->has_announced = true;
	log_line(MOSQ_LOG_NOTICE, "%s runs in Mosquitto%s%s, %s: %s", plugin->options->application,
			*plugin->found.version ? " " : "", plugin->found.version, session, summary);
}

static int on_tick(int event, void *event_data, void *userdata)
{
	struct plugin *plugin = userdata;
	int rc = broker_on_tick(event, event_data, plugin->broker);

	look_at_python(plugin);
	announce(plugin);
	interpreter_guard_child_signals();
	sys_tree_tick(plugin->sys_tree);
	stop_tick(&plugin->stop);
	return rc;
}

/* What the application used is left to the end of the process: threads that it started may outlive it and
 * still write to the log. */
static void plugin_stop(struct plugin *plugin)
{
	unregister_callbacks(plugin);
	if (stop_now(&plugin->stop)) {
		(void)interpreter_join(JOIN_MS);
	}
	broker_use_keeper(plugin->broker, NULL);
	keeper_free(plugin->keeper);
	plugin->keeper = NULL;
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
	struct found found;
	char *error = NULL;
	int rc;

	rc = options_load(lines, line_count, &options, &error);
	if (rc != MOSQ_ERR_SUCCESS) {
		log_line(MOSQ_LOG_ERR, "%s", error ? error : "No memory for the options.");
		free(error);
		return rc;
	}
	rc = look_around(options, &found);
	if (rc != MOSQ_ERR_SUCCESS) {
		options_free(options);
		return rc;
	}
	rc = plugin_new(identifier, options, &found, &plugin);
	if (rc != MOSQ_ERR_SUCCESS) {
		return rc;
	}
	rc = interpreter_start(&plugin->context);
	if (rc != MOSQ_ERR_SUCCESS) {
		plugin_free(plugin);
		return rc;
	}
	rc = wait_for_start(plugin);
	if (rc == MOSQ_ERR_SUCCESS && options->check) {
		rc = end_check(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = start_session(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = register_callbacks(plugin);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		wakeup_insist(plugin->wakeup); /* the session waits for the first TICK */
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
