/* Another plugin beside ours, which decides about access, or does not. Built with -DINTERFACE=4 it is one as
 * they were before Mosquitto 2.0, which always decides.
 *
 * plugin_opt_decides true: it registers ACL_CHECK. What user `hub` does is granted, what is on `foreign/yes`
 * as well, and what is on `foreign/no` denied. plugin_opt_otherwise grant: the rest is granted; else it
 * defers. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <mosquitto.h>
#if !__has_include(<mosquitto/broker.h>)
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif

static bool decides, grants;

static void read_options(const struct mosquitto_opt *options, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		decides |= strcmp(options[i].key, "decides") == 0 && strcmp(options[i].value, "true") == 0;
		grants |= strcmp(options[i].key, "otherwise") == 0 && strcmp(options[i].value, "grant") == 0;
	}
}

static int decide(const struct mosquitto *client, const char *topic)
{
	const char *name = mosquitto_client_username(client);

	if (strcmp(topic, "foreign/yes") == 0 || (name && strcmp(name, "hub") == 0)) {
		return MOSQ_ERR_SUCCESS;
	}
	if (strcmp(topic, "foreign/no") == 0) {
		return MOSQ_ERR_ACL_DENIED;
	}
	return grants ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
}

#if INTERFACE == 4

int mosquitto_auth_plugin_version(void)
{
	return 4;
}

int mosquitto_auth_plugin_init(void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	read_options(options, count);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_security_init(void *userdata, struct mosquitto_opt *options, int count, bool reload)
{
	(void)userdata;
	(void)options;
	(void)count;
	(void)reload;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_security_cleanup(void *userdata, struct mosquitto_opt *options, int count, bool reload)
{
	(void)userdata;
	(void)options;
	(void)count;
	(void)reload;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_acl_check(void *userdata, int access, struct mosquitto *client,
		const struct mosquitto_acl_msg *message)
{
	(void)userdata;
	(void)access;
	return decide(client, message->topic);
}

int mosquitto_auth_unpwd_check(void *userdata, struct mosquitto *client, const char *name,
		const char *password)
{
	(void)userdata;
	(void)client;
	(void)name;
	(void)password;
	return MOSQ_ERR_SUCCESS;
}

#else

#include "plugin_version.h"

static mosquitto_plugin_id_t *identifier;

static int on_access(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *access = event_data;

	(void)event;
	(void)userdata;
	return decide(access->client, access->topic);
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *own, void **userdata, struct mosquitto_opt *options,
		int count)
{
	(void)userdata;
	read_options(options, count);
	identifier = own;
	return decides ? mosquitto_callback_register(identifier, MOSQ_EVT_ACL_CHECK, on_access, NULL, NULL)
				   : MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return decides ? mosquitto_callback_unregister(identifier, MOSQ_EVT_ACL_CHECK, on_access, NULL)
				   : MOSQ_ERR_SUCCESS;
}

#endif
