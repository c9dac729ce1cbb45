/* Another plugin beside ours, loaded before it: at a message to `end` the broker leaves its loop, as it does
 * when something other than a signal ends it. What its own handler of SIGTERM does is all that takes. */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <mosquitto.h>
#if !__has_include(<mosquitto/broker.h>)
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif

#include "plugin_version.h"

static mosquitto_plugin_id_t *identifier;
static struct sigaction brokers_own;
static bool is_known, is_asked_for;

static int on_message(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *message = event_data;

	(void)event;
	(void)userdata;
	is_asked_for = is_asked_for || strcmp(message->topic, "end") == 0;
	return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data;
	(void)userdata;
	if (!is_known) {
		is_known = sigaction(SIGTERM, NULL, &brokers_own) == 0;
	}
	if (is_asked_for) {
		is_asked_for = false;
		brokers_own.sa_handler(SIGTERM);
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *own, void **userdata, struct mosquitto_opt *options,
		int count)
{
	int result;

	(void)userdata;
	(void)options;
	(void)count;
	identifier = own;
	result = mosquitto_callback_register(identifier, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);
	if (result == MOSQ_ERR_SUCCESS) {
		result = mosquitto_callback_register(identifier, MOSQ_EVT_TICK, on_tick, NULL, NULL);
	}
	return result;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	(void)mosquitto_callback_unregister(identifier, MOSQ_EVT_TICK, on_tick, NULL);
	return mosquitto_callback_unregister(identifier, MOSQ_EVT_MESSAGE, on_message, NULL);
}
