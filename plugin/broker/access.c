#include "broker/access.h"

#include <stddef.h>

#include "broker/versions.h"

/* Asked last. */
static int on_undecided(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data;
	(void)userdata;
	return MOSQ_ERR_SUCCESS;
}

int access_undecided(struct access *access, const struct versions_traits *traits)
{
	if (traits->may_be_ignored) {
		return PLUGIN_IGNORE;
	}
	if (access->grants && !access->is_last) {
		/* The broker goes on with the row, and comes to this at its end. Without memory for it, it denies,
		 * and the next question tries again. */
		access->is_last = mosquitto_callback_register(access->identifier, MOSQ_EVT_ACL_CHECK, on_undecided,
								  NULL, NULL) == MOSQ_ERR_SUCCESS;
	}
	return MOSQ_ERR_PLUGIN_DEFER;
}

void access_rules_change(struct access *access)
{
	if (access->is_last) {
		(void)mosquitto_callback_unregister(access->identifier, MOSQ_EVT_ACL_CHECK, on_undecided, NULL);
		access->is_last = false;
	}
}
