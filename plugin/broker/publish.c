#include "broker/publish.h"

#include <string.h>

#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"

/* A string of MQTT (MQTT 5, 1.5.4). */
#define TOPIC_MAX 65535U

static int check(const struct message_content *content, uint8_t qos)
{
	/* This finds a NUL within it, too. */
	if (content->topic_length == 0 || content->topic_length > TOPIC_MAX ||
			strcspn(content->topic, "+#") != content->topic_length || qos > 2) {
		return MOSQ_ERR_INVAL;
	}
	return content->payload_length > MQTT_MAX_PAYLOAD ? MOSQ_ERR_PAYLOAD_SIZE : MOSQ_ERR_SUCCESS;
}

/* Mosquitto counts its heap, so what it will free must come from its allocator: not from
 * mosquitto_broker_publish_copy(), which on 2.0 takes it elsewhere. The extra byte is the NUL that its
 * loggers expect. */
static int copy_payload(const struct message_content *content, char **ret_payload)
{
	*ret_payload = NULL;
	if (content->payload_length == 0) {
		return MOSQ_ERR_SUCCESS;
	}
	*ret_payload = mosquitto_calloc(1, content->payload_length + 1);
	if (!*ret_payload) {
		return MOSQ_ERR_NOMEM;
	}
	memcpy(*ret_payload, content->payload, content->payload_length);
	return MOSQ_ERR_SUCCESS;
}

int publish_message(const char *client_id, const struct message_content *content, uint8_t qos, bool retain)
{
	mosquitto_property *properties = NULL;
	char *payload = NULL;
	int rc = check(content, qos);

	if (rc == MOSQ_ERR_SUCCESS) {
		rc = copy_payload(content, &payload);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = properties_make(content->properties, content->properties_length, &properties);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = mosquitto_broker_publish(client_id, content->topic, (int)content->payload_length, payload, qos,
				retain, properties);
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		mosquitto_free(payload);
		mosquitto_property_free_all(&properties);
	}
	return rc;
}
