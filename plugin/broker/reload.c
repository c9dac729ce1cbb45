#include "broker/reload.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/sys_tree.h"
#include "broker/versions.h"
#include "options/load.h"
#include "options/mosquitto_conf.h"
#include "options/options.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

struct reload {
	const struct options *first; /* since the start; whatever is not applied at once is compared with these */
	struct options *last;        /* of the last reload, whose values are in force now; NULL: there was none */
	const struct versions_traits *traits;
	struct broker *broker;
	struct sys_tree *sys_tree;
	struct mosquitto_conf_place place;
};

struct reload *reload_new(const struct options *options, const struct versions_traits *traits,
		struct broker *broker, struct sys_tree *sys_tree)
{
	unsigned int sys_interval = MOSQUITTO_CONF_SYS_INTERVAL;
	struct reload *reload = calloc(1, sizeof(*reload));

	if (reload && mosquitto_conf_find(&reload->place) != MOSQ_ERR_SUCCESS) {
		free(reload);
		return NULL;
	}
	if (reload) {
		reload->first = options;
		reload->traits = traits;
		reload->broker = broker;
		reload->sys_tree = sys_tree;
		(void)mosquitto_conf_sys_interval(&reload->place, &sys_interval);
		sys_tree_set_interval(sys_tree, sys_interval);
	}
	return reload;
}

void reload_free(struct reload *reload)
{
	if (!reload) {
		return;
	}
	options_free(reload->last);
	mosquitto_conf_forget(&reload->place);
	free(reload);
}

/* NULL: the log says why. */
static struct options *read_options(const struct reload *reload)
{
	struct options *options = NULL;
	struct mosquitto_conf_lines lines;
	struct text complaint = {0};
	char *error = NULL;
	int rc = mosquitto_conf_read(&reload->place, &lines, &complaint);

	if (rc == MOSQ_ERR_SUCCESS) {
		rc = lines.count > INT_MAX
				? MOSQ_ERR_NOMEM
				: options_load_again(lines.lines, (int)lines.count, reload->first, &options, &error);
		mosquitto_conf_free(&lines);
	} else if (rc == MOSQ_ERR_INVAL) {
		error = text_take(&complaint);
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		log_line(MOSQ_LOG_ERR, "The options stay as they were: %s", error ? error : "no memory");
		options = NULL;
	}
	text_free(&complaint);
	free(error);
	return options;
}

/* Owns options. */
static void change_to(struct reload *reload, struct options *options)
{
	struct text at_once = {0}, later = {0};
	size_t changes = options_changed_at_once(reload->last ? reload->last : reload->first, options, &at_once);
	size_t rest = options_changed_for_later(reload->first, options, &later);

	if (at_once.failed || later.failed || (changes && !broker_adopt(reload->broker, options))) {
		log_line(MOSQ_LOG_ERR, "The options stay as they were: no memory");
		options_free(options);
		goto out;
	}
	options_free(reload->last);
	reload->last = options;
	if (changes) {
		log_line(MOSQ_LOG_NOTICE, "Options changed: %s.", at_once.data);
	}
	if (rest) {
		log_line(MOSQ_LOG_NOTICE, "Option%s %s changed; %s at the next start of the broker.",
				rest > 1 ? "s" : "", later.data, rest > 1 ? "they take effect" : "that takes effect");
	}
	if (!changes && !rest) {
		log_line(MOSQ_LOG_INFO, "No option has changed.");
	}
out:
	text_free(&at_once);
	text_free(&later);
}

int reload_on_event(int event, void *event_data, void *userdata)
{
	struct reload *reload = userdata;
	struct options *options = read_options(reload);
	unsigned int sys_interval;

	(void)event;
	(void)event_data; /* has no options on any version */
	broker_rules_change(reload->broker);
	if (options) {
		change_to(reload, options);
	}
	if (mosquitto_conf_sys_interval(&reload->place, &sys_interval)) {
		sys_tree_set_interval(reload->sys_tree, sys_interval);
	}
	return reload->traits->reload_result;
}
