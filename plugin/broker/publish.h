/* The way to mosquitto_broker_publish(): whatever this plugin publishes is checked here, and nowhere else in
 * C. The broker takes nearly anything, and sends it to clients, who would close the connection over it.
 * Broker thread only. */
#ifndef MQTTASGI_PUBLISH_H
#define MQTTASGI_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

struct message_content;

/* Publishes for everybody who has subscribed; client_id: for this client alone, subscribed or not. The broker
 * sends it when it has dealt with what it is at. Everything is copied. MOSQ_ERR_INVAL: no topic, a wildcard
 * in it, or no QoS; MOSQ_ERR_PAYLOAD_SIZE; MOSQ_ERR_NOMEM; or what the broker, or the making of the
 * properties, returned: nobody gets it. */
int publish_message(const char *client_id, const struct message_content *content, uint8_t qos, bool retain)
		__attribute__((warn_unused_result));

#endif
