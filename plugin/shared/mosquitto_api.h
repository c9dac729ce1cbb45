/* Mosquitto's plugin interface: one header since 2.1, three before. */
#ifndef MQTTASGI_MOSQUITTO_API_H
#define MQTTASGI_MOSQUITTO_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>
#if !__has_include(<mosquitto/broker.h>)
#include <mosquitto_broker.h>
#include <mqtt_protocol.h>
#include <mosquitto_plugin.h>
#endif

/* Names that the headers of 2.0 do not have. */
#define EVT_CONNECT 11
#define EVT_CLIENT_OFFLINE 28 /* its data begins like that of MOSQ_EVT_DISCONNECT */

#define ERR_QUOTA_EXCEEDED (-6)

/* MOSQ_ERR_PLUGIN_IGNORE: as if this plugin were not there. */
#define PLUGIN_IGNORE 32

struct evt_connect {
	void *future;
	struct mosquitto *client;
	void *future2[4];
};

#endif
