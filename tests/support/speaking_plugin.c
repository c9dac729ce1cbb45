/* Another plugin beside ours: what clients publish to `ask/<qos>` it publishes to `said/<qos>`, as plugins
 * do. */
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

static int on_message(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *message = event_data;
	char topic[] = "said/0";

	(void)event;
	(void)userdata;
	if (strncmp(message->topic, "ask/", 4) == 0) {
		topic[5] = message->topic[4];
		(void)mosquitto_broker_publish_copy(NULL, topic, (int)message->payloadlen, message->payload,
				topic[5] - '0', message->retain, NULL);
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *own, void **userdata, struct mosquitto_opt *options,
		int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	identifier = own;
	return mosquitto_callback_register(identifier, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_unregister(identifier, MOSQ_EVT_MESSAGE, on_message, NULL);
}
