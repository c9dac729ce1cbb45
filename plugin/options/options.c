#include "options/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "options/checks.h"
#include "options/loader.h"
#include "options/sources.h"
#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* ---- the rest of the struct ---- */

/* What nobody can guess: MQTT gives a client id to whoever connects with it last, and with it the session. The process
 * id will do where the system has no such number. */
static uint32_t secret_number(void)
{
	uint32_t number;

	return getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number ? number : (uint32_t)getpid();
}

/* With the process id, by which people know it, and a number that others do not know; without both, where the session is to
 * outlive the process. */
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

	gather_lines(loader);
	if (loader->first == loader->options) {
		keep_environment(loader);
	}
	gather_variables(loader, SOURCE_ENVIRONMENT, loader->first->environment, loader->first->environment_count);
	load_dotenv(loader);
	gather_defaults(loader);
	take_value(loader, row_of("host"));
	pass_over_of_tcp(loader);
	for (row = 0; row < TABLE_LENGTH; row++) {
		take_value(loader, row);
	}
	check_application(loader);
	check_address(loader);
	check_certificate(loader);
	check_message_expiry(loader);
	check_keys(loader);
	make_client_id(loader);
}

int options_load(
		const struct mosquitto_opt *lines, int line_count, struct options **ret_options, char **ret_error)
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
	for (row = 0; row < TABLE_LENGTH; row++) {
		free(loader.given[row].owned);
	}
	text_free(&loader.errors);
	options_free(loader.options);
	return rc;
}

/* ---- what has changed ---- */

static bool differs(size_t row, const struct options *before, const struct options *now)
{
	const char *field = (const char *)before + table[row].offset, *other = (const char *)now + table[row].offset;

	if (row == row_of("client_id") && before->client_id_is_made && now->client_id_is_made) {
		return false; /* it follows from others, or from the machine's name */
	}
	return table[row].is_string ? !text_equal(*(char *const *)field, *(char *const *)other)
								: memcmp(field, other, table[row].size) != 0;
}

static uint64_t number_of(size_t row, const struct options *options)
{
	const char *field = (const char *)options + table[row].offset;
	uint32_t narrow;
	uint64_t number;

	if (table[row].size == sizeof narrow) {
		memcpy(&narrow, field, sizeof narrow);
		return narrow;
	}
	memcpy(&number, field, sizeof number);
	return number;
}

size_t options_changed_at_once(const struct options *before, const struct options *now, struct text *ret_text)
{
	size_t count = 0, row;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if ((table[row].flags & AT_ONCE) && differs(row, before, now)) {
			text_addf(ret_text, "%s%s is %" PRIu64 " now", count ? ", " : "", table[row].key, number_of(row, now));
			count++;
		}
	}
	return count;
}

size_t options_changed_for_later(const struct options *before, const struct options *now, struct text *ret_text)
{
	size_t count = 0, last = TABLE_LENGTH, row;

	for (row = 0; row < TABLE_LENGTH; row++) {
		if (!(table[row].flags & AT_ONCE) && differs(row, before, now)) {
			if (count) {
				text_addf(ret_text, "%s%s", count > 1 ? ", " : "", table[last].key);
			}
			last = row;
			count++;
		}
	}
	if (count) {
		text_addf(ret_text, "%s%s", count > 1 ? " and " : "", table[last].key);
	}
	return count;
}

static void free_variables(struct options_variable *variables, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		free(variables[i].name);
		free(variables[i].value);
	}
	free(variables);
}

void options_free(struct options *options)
{
	size_t i;

	if (!options) {
		return;
	}
	for (i = 0; i < TABLE_LENGTH; i++) {
		if (table[i].is_string) {
			free(*(char **)((char *)options + table[i].offset));
		}
	}
	free_variables(options->variables, options->variable_count);
	free_variables(options->environment, options->environment_count);
	free(options->session_id);
	free(options->advice);
	free(options);
}
