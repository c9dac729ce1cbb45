/* Another plugin beside ours: sends away the client that a message to `kick` names, as an administrator's
 * tool does. */
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
static char victim[64];

static int on_message(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *message = event_data;

	(void)event;
	(void)userdata;
	if (strcmp(message->topic, "kick") == 0 && message->payloadlen < sizeof(victim)) {
		memcpy(victim, message->payload, message->payloadlen);
		victim[message->payloadlen] = '\0';
	}
	return MOSQ_ERR_SUCCESS;
}

/* Not from within a message's event: the broker may be dealing with the very client. */
static int on_tick(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data;
	(void)userdata;
	if (victim[0] != '\0') {
		(void)mosquitto_kick_client_by_clientid(victim, false);
		victim[0] = '\0';
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
