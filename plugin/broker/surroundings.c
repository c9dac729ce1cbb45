#include "broker/surroundings.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "broker/versions.h"
#include "options/mosquitto_conf.h"
#include "options/settings.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* For tests: where it is in the environment, nothing is refused, whatever else there is. */
#define MARKS_VARIABLE "MQTTASGI_MARK_COPIES"

enum setting { PER_LISTENER, RETAIN, MESSAGE_SIZE, PACKET_SIZE, UPGRADE_QOS, SETTING_COUNT };

/* As conf.c of Mosquitto reads them: the first word counts. */
static bool is_true(const struct mosquitto_conf_setting *setting)
{
	size_t length = setting->value ? strcspn(setting->value, " ") : 0;

	return (length == 4 && memcmp(setting->value, "true", 4) == 0) || (length == 1 && *setting->value == '1');
}

static bool is_false(const struct mosquitto_conf_setting *setting)
{
	size_t length = setting->value ? strcspn(setting->value, " ") : 0;

	return (length == 5 && memcmp(setting->value, "false", 5) == 0) ||
			(length == 1 && *setting->value == '0');
}

static void say_size(const struct mosquitto_conf_setting *setting)
{
	int size = setting->value ? atoi(setting->value) : 0;

	if (size > 0) {
		log_line(MOSQ_LOG_NOTICE,
				"%s %d binds clients, not consumers: what they publish may be larger, and goes to everybody who has subscribed.",
				setting->name, size);
	}
}

/* Mosquitto's plugin__handle_tick() has no line for this setting before 2.0.15, so nothing brings what
 * consumers publish out of their queue but the next packet of a client, and nothing waits for them at the
 * end. */
static int look_for_ticks(const struct surroundings *surroundings,
		const struct mosquitto_conf_setting *setting)
{
	if (!is_true(setting) || surroundings->traits->always_ticks) {
		return MOSQ_ERR_SUCCESS;
	}
	if (!*surroundings->version) {
		log_line(MOSQ_LOG_WARNING,
				"per_listener_settings true: with a Mosquitto before 2.0.15 (`mosquitto -h` did not tell which this is) consumers' "
				"answers would be late; there, remove that line.");
		return MOSQ_ERR_SUCCESS;
	}
	if (!versions_is_before(surroundings->version, 2, 0, 15)) {
		return MOSQ_ERR_SUCCESS;
	}
	log_line(MOSQ_LOG_ERR,
			"per_listener_settings true: Mosquitto %s then never calls a plugin but for a client's packet, so what consumers publish "
			"would wait for the next one, and nobody for consumers at the end. Remove that line (allow_anonymous, password_file and "
			"the like then count for all listeners), or take Mosquitto 2.0.15 or later.",
			surroundings->version);
	return MOSQ_ERR_NOT_SUPPORTED;
}

static void look_for_others(const struct surroundings *surroundings)
{
	if (surroundings->connect_events && surroundings->has_predecessor &&
			!surroundings->traits->tells_connects) {
		log_line(MOSQ_LOG_WARNING,
				"connect_events: another plugin is loaded before this one. Where it decides about a login by itself, as the dynamic "
				"security plugin does, this one is not asked, and consumers that watch clients hear of none that connects. Put this "
				"plugin's lines before the other's.");
	}
}

static int add_name(struct dl_phdr_info *info, size_t size, void *userdata)
{
	(void)size;
	if (info->dlpi_name && info->dlpi_name[0]) {
		text_add(userdata, info->dlpi_name, strlen(info->dlpi_name) + 1);
	}
	return 0;
}

static bool is_plugin(const char *name)
{
	static const char *const entries[] = {"mosquitto_plugin_version", "mosquitto_auth_plugin_version"};
	void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD), *entry;
	bool found = false;
	size_t i;

	for (i = 0; handle && i < sizeof(entries) / sizeof(entries[0]); i++) {
		entry = dlsym(handle, entries[i]);
		found = found || (entry && entry != (void *)mosquitto_plugin_version);
	}
	if (handle) {
		(void)dlclose(handle);
	}
	return found;
}

bool surroundings_has_predecessor(void)
{
	struct text names = {0};
	bool found;
	size_t at;

	/* Names first: the library list is locked while it is walked. */
	(void)dl_iterate_phdr(add_name, &names);
	found = names.failed;
	for (at = 0; at < names.length && !found; at += strlen(names.data + at) + 1) {
		found = is_plugin(names.data + at);
	}
	text_free(&names);
	return found;
}

static enum settings_company look_for_company(void)
{
	enum settings_company company = SETTINGS_NOT_KNOWN;
	struct mosquitto_conf_place place;
	struct settings settings;

	if (mosquitto_conf_find(&place) == MOSQ_ERR_SUCCESS) {
		settings_read(&place, &settings);
		company = settings_company(&settings);
		settings_free(&settings);
		mosquitto_conf_forget(&place);
	}
	return company;
}

bool surroundings_let_refuse(const struct versions_traits *traits, bool has_predecessor, bool *ret_alone)
{
	/* The plugins that the broker has loaded stay, whatever its file says later. */
	enum settings_company company = traits->may_be_ignored ? SETTINGS_NOT_KNOWN : look_for_company();
	const char *why = NULL;

	if (getenv(MARKS_VARIABLE)) {
		why = MARKS_VARIABLE " is set";
	} else if (has_predecessor) {
		why = "another plugin is loaded before this one";
	} else if (!traits->may_be_ignored && company == SETTINGS_NOT_KNOWN) {
		why = "with another plugin or per_listener_settings, this version of Mosquitto does not let it be refused";
	}
	*ret_alone = company == SETTINGS_ALONE;
	if (why) {
		log_line(MOSQ_LOG_INFO,
				"The session gets a copy of what consumers hear without it, and sorts that out: %s.", why);
	}
	return !why;
}

int surroundings_look(const struct surroundings *surroundings)
{
	struct mosquitto_conf_setting settings[SETTING_COUNT] = {
		[PER_LISTENER] = {.name = "per_listener_settings"},
		[RETAIN] = {.name = "retain_available"},
		[MESSAGE_SIZE] = {.name = "message_size_limit"},
		[PACKET_SIZE] = {.name = "max_packet_size"},
		[UPGRADE_QOS] = {.name = "upgrade_outgoing_qos"},
	};
	struct mosquitto_conf_place place;
	int i, rc = mosquitto_conf_find(&place);

	if (rc != MOSQ_ERR_SUCCESS) {
		return rc;
	}
	/* A file that this user cannot read says nothing; the broker has read it as another. */
	(void)mosquitto_conf_settings(&place, settings, SETTING_COUNT);
	rc = look_for_ticks(surroundings, &settings[PER_LISTENER]);
	if (rc == MOSQ_ERR_SUCCESS) {
		look_for_others(surroundings);
		if (is_false(&settings[RETAIN])) {
			log_line(MOSQ_LOG_NOTICE,
					"retain_available false: what consumers publish with retain=True goes to everybody who has subscribed, and is not kept.");
		}
		say_size(&settings[MESSAGE_SIZE]);
		say_size(&settings[PACKET_SIZE]);
		if (is_true(&settings[UPGRADE_QOS])) {
			log_line(MOSQ_LOG_NOTICE,
					"upgrade_outgoing_qos is for clients: a consumer's message has the lower of the QoS it was published with and that of "
					"the subscription.");
		}
	}
	for (i = 0; i < SETTING_COUNT; i++) {
		free(settings[i].value);
	}
	mosquitto_conf_forget(&place);
	return rc;
}
