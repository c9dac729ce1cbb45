#include "stub_broker.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

struct stub_broker stub;

/* The stub's own memory is never scarce (scarce_memory.h). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *block);

/* Blocks begin with this much of our own, so that free() of one does not go unnoticed. */
#define HEADER 16

void stub_broker_reset(void)
{
	size_t i;

	for (i = 0; i < stub.publish_count; i++) {
		__real_free(stub.publishes[i].client_id);
		__real_free(stub.publishes[i].topic);
		__real_free(stub.publishes[i].payload);
		mosquitto_property_free_all(&stub.publishes[i].properties);
	}
	for (i = 0; i < stub.log_count; i++) {
		__real_free(stub.logs[i].line);
	}
	assert_int_equal(stub.blocks, 0);
	memset(&stub, 0, sizeof(stub));
}

void stub_broker_send(void)
{
	stub.sent_count = stub.publish_count;
}

size_t stub_broker_logged(const char *text)
{
	size_t i, found = 0;

	for (i = 0; i < stub.log_count; i++) {
		found += strstr(stub.logs[i].line, text) != NULL;
	}
	return found;
}

static void *copy(const void *bytes, size_t length)
{
	void *result = __real_malloc(length + 1);

	assert_non_null(result);
	memcpy(result, bytes, length);
	((char *)result)[length] = '\0';
	return result;
}

void *mosquitto_calloc(size_t count, size_t size)
{
	char *block;

	if (stub.no_memory) {
		return NULL;
	}
	block = __real_calloc(1, count * size + HEADER);
	assert_non_null(block);
	stub.blocks++;
	return block + HEADER;
}

void mosquitto_free(void *block)
{
	if (block) {
		stub.blocks--;
		__real_free((char *)block - HEADER);
	}
}

int mosquitto_broker_publish(const char *client_id, const char *topic, int payload_length, void *payload,
		int qos, bool retain, mosquitto_property *properties)
{
	struct stub_publish *publish = &stub.publishes[stub.publish_count];

	assert_true(payload_length >= 0 && qos >= 0 && qos <= 2);
	if (stub.on_publish) {
		stub.on_publish();
	}
	if (stub.publish_rc != MOSQ_ERR_SUCCESS) {
		return stub.publish_rc;
	}
	if (stub.publish_count == STUB_RECORDS) {
		mosquitto_free(payload);
		mosquitto_property_free_all(&properties);
		return MOSQ_ERR_SUCCESS;
	}
	publish->properties = properties;
	publish->client_id = client_id ? copy(client_id, strlen(client_id)) : NULL;
	publish->topic = copy(topic, strlen(topic));
	publish->payload = payload_length ? copy(payload, (size_t)payload_length) : NULL;
	publish->payload_length = payload_length;
	publish->qos = qos;
	publish->retain = retain;
	stub.publish_count++;
	mosquitto_free(payload);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_kick_client_by_clientid(const char *client_id, bool with_will)
{
	assert_non_null(client_id); /* that would be everybody */
	assert_true(with_will);
	stub.kick_count++;
	if (stub.on_kick) {
		stub.on_kick(client_id);
	}
	return stub.kick_rc;
}

static const struct stub_client *known(const struct mosquitto *client)
{
	const struct stub_client *stub_client = (const void *)client;

	return stub_client && stub_client->mark == STUB_CLIENT_MARK ? stub_client : NULL;
}

const char *mosquitto_client_id(const struct mosquitto *client)
{
	return known(client) ? known(client)->id : (const char *)client;
}

const char *mosquitto_client_username(const struct mosquitto *client)
{
	return known(client) ? known(client)->username : NULL;
}

const char *mosquitto_client_address(const struct mosquitto *client)
{
	return known(client) ? known(client)->address : NULL;
}

int mosquitto_client_protocol(const struct mosquitto *client)
{
	return known(client) && known(client)->websockets ? mp_websockets : mp_mqtt;
}

int mosquitto_client_protocol_version(const struct mosquitto *client)
{
	return known(client) ? known(client)->protocol_version : 4;
}

bool mosquitto_client_clean_session(const struct mosquitto *client)
{
	return known(client) && known(client)->clean_session;
}

int mosquitto_client_sub_count(const struct mosquitto *client)
{
	return known(client) ? known(client)->sub_count : 0;
}

void *mosquitto_client_certificate(const struct mosquitto *client)
{
	X509 *certificate = known(client) ? known(client)->certificate : NULL;

	if (certificate) {
		X509_up_ref(certificate);
	}
	return certificate;
}

void mosquitto_log_printf(int level, const char *format, ...)
{
	char line[STUB_LOG_LINE];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (stub.log_count < STUB_RECORDS) {
		stub.logs[stub.log_count].level = level;
		stub.logs[stub.log_count].line = copy(line, strlen(line));
		stub.log_count++;
	}
}

int mosquitto_callback_register(mosquitto_plugin_id_t *identifier, int event,
		MOSQ_FUNC_generic_callback callback, const void *event_data, void *userdata)
{
	(void)identifier;
	assert_null(event_data);
	if (stub.register_rc != MOSQ_ERR_SUCCESS && stub.callback_count == stub.register_rc_after) {
		return stub.register_rc;
	}
	assert_true(stub.callback_count < sizeof(stub.callbacks) / sizeof(stub.callbacks[0]));
	stub.callbacks[stub.callback_count].event = event;
	stub.callbacks[stub.callback_count].callback = callback;
	stub.callbacks[stub.callback_count].userdata = userdata;
	stub.callback_count++;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *identifier, int event,
		MOSQ_FUNC_generic_callback callback, const void *event_data)
{
	size_t i;

	(void)identifier;
	(void)event_data;
	for (i = 0; i < stub.callback_count; i++) {
		if (stub.callbacks[i].event == event && stub.callbacks[i].callback == callback) {
			stub.callbacks[i] = stub.callbacks[--stub.callback_count];
			return MOSQ_ERR_SUCCESS;
		}
	}
	return MOSQ_ERR_NOT_FOUND;
}
