#include "broker/listener.h"

#include <string.h>

#include "options/mosquitto_conf.h"
#include "options/options.h"
#include "options/settings.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* A listener that moves topics elsewhere is none for the session. Mosquitto 2.0 lets it connect and sends it
 * other topics than it asked for. */
static bool listener_will_do(const struct settings *settings, const struct options *options)
{
	const struct settings_listener *listener = settings_listener(settings, options);

	if (listener && listener->mount_point) {
		log_line(MOSQ_LOG_WARNING,
				"No session with the listener at %s%s%.0u: it has mount_point %.200s, which changes all topics. Consumers hear what "
				"clients publish, but no retained messages, last wills, $SYS topics and shared subscriptions. Name a listener "
				"without mount_point (plugin_opt_host, plugin_opt_port); it may be one that only the plugin uses.",
				options->host, options->port ? ":" : "", options->port, listener->mount_point);
		return false;
	}
	if (options->session_id && !options->client_id_is_made &&
			strcmp(options->session_id, options->client_id) != 0) {
		log_line(MOSQ_LOG_NOTICE,
				"plugin_opt_client_id %.200s does not count: the listener at %s%s%.0u has use_username_as_clientid true, and so "
				"the session's client id is its user name, '%.200s'.",
				options->client_id, options->host, options->port ? ":" : "", options->port,
				options->session_id);
	}
	return true;
}

int listener_use_settings(struct options *options, bool *ret_can_be)
{
	struct mosquitto_conf_place place;
	struct settings settings;
	struct text limits = {0};
	int rc;

	*ret_can_be = options->session != OPTIONS_SESSION_OFF;
	if (!*ret_can_be) {
		return MOSQ_ERR_SUCCESS;
	}
	rc = mosquitto_conf_find(&place);
	if (rc != MOSQ_ERR_SUCCESS) {
		return rc;
	}
	settings_read(&place, &settings);
	settings_judge_limits(&settings, &limits);
	if (limits.length) {
		log_line(MOSQ_LOG_NOTICE, "%s", limits.data);
	}
	text_free(&limits);
	rc = settings_apply(&settings, options);
	*ret_can_be = rc == MOSQ_ERR_SUCCESS && listener_will_do(&settings, options);
	settings_free(&settings);
	mosquitto_conf_forget(&place);
	return rc;
}
