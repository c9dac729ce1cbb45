#include "options/load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "options/checks.h"
#include "options/loader.h"
#include "options/sources.h"
#include "shared/mosquitto_api.h"

/* ---- the rest of the struct ---- */

/* What nobody can guess: MQTT gives a client id to whoever connects with it last, and with it the session.
 * The process id will do where the system has no such number. */
static uint32_t secret_number(void)
{
	uint32_t number;

	return getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number ? number
																					  : (uint32_t)getpid();
}

/* With the process id, by which people know it, and a number that others do not know; without both, where the
 * session is to outlive the process. */
static void make_client_id(struct loader *loader)
{
	struct text id = {0};
	char host[256];

	if (loader->options->client_id) {
		return;
	}
	if (gethostname(host, sizeof host) != 0) {
		host[0] = '\0';
	}
	host[sizeof host - 1] = '\0';
	text_addf(&id, "mqttasgi-%s", host);
	if (loader->options->cleansession) {
		text_addf(&id, "-%ld-%08" PRIx32, (long)getpid(), secret_number());
	}
	loader->options->client_id = text_take(&id);
	loader->options->client_id_is_made = true;
	loader->out_of_memory |= !loader->options->client_id;
}

/* ---- the whole ---- */

static void load(struct loader *loader)
{
	size_t row;

	sources_gather(loader);
	loader_take(loader, ROW_host);
	checks_drop_tcp_options(loader);
	for (row = 0; row < OPTION_COUNT; row++) {
		loader_take(loader, row);
	}
	checks_run(loader);
	/* The broker is to keep for the session what it has not acknowledged. */
	loader->options->cleansession &= !loader->options->durable;
	make_client_id(loader);
}

int options_load(const struct mosquitto_opt *lines, int line_count, struct options **ret_options,
		char **ret_error)
{
	return options_load_again(lines, line_count, NULL, ret_options, ret_error);
}

int options_load_again(const struct mosquitto_opt *lines, int line_count, const struct options *first,
		struct options **ret_options, char **ret_error)
{
	struct loader loader = {.lines = lines, .line_count = line_count};
	int rc = MOSQ_ERR_NOMEM;
	size_t row;

	loader.options = calloc(1, sizeof *loader.options);
	if (!loader.options) {
		*ret_error = NULL;
		return MOSQ_ERR_NOMEM;
	}
	loader.first = first ? first : loader.options;
	load(&loader);
	if (loader.out_of_memory || loader.errors.failed) {
		*ret_error = NULL;
	} else if (loader.errors.length > 0) {
		*ret_error = text_take(&loader.errors);
		rc = MOSQ_ERR_INVAL;
	} else {
		*ret_options = loader.options;
		loader.options = NULL;
		rc = MOSQ_ERR_SUCCESS;
	}
	for (row = 0; row < OPTION_COUNT; row++) {
		free(loader.given[row].owned);
	}
	text_free(&loader.errors);
	options_free(loader.options);
	return rc;
}
