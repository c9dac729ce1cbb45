#include "options/sources.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options/dotenv.h"
#include "options/loader.h"
#include "shared/mosquitto_api.h"

/* ---- where values come from ---- */

/* A copy of the line's value without blanks at its ends: a value runs to the end of the line in
 * mosquitto.conf, and blanks there cannot be seen. A password may want them. */
static char *copy_line_value(const struct option *option, const char *value)
{
	size_t length = strlen(value);

	if (!(option->flags & SECRET)) {
		value += strspn(value, " \t");
		length = strlen(value);
		while (length > 0 && strchr(" \t\r", value[length - 1])) {
			length--;
		}
	}
	return text_copy(value, length);
}

static void gather_lines(struct loader *loader)
{
	size_t row;
	int i;

	for (i = 0; i < loader->line_count; i++) {
		row = option_row(loader->lines[i].key);
		if (row == OPTION_COUNT || loader->given[row].owned) {
			continue; /* check_keys() says so */
		}
		loader->given[row].owned =
				copy_line_value(&option_table[row], loader->lines[i].value ? loader->lines[i].value : "");
		loader->given[row].value = loader->given[row].owned;
		loader->given[row].source = SOURCE_LINE;
		loader->out_of_memory |= !loader->given[row].owned;
	}
}

/* Keeps of the environment what are options. */
static void keep_environment(struct loader *loader)
{
	struct options *options = loader->options;
	struct options_variable *variable;
	const char *value;
	size_t row;

	options->environment = calloc(OPTION_COUNT, sizeof *options->environment);
	for (row = 0; options->environment && row < OPTION_COUNT; row++) {
		value = getenv(option_table[row].variable);
		if (value && *value) {
			variable = &options->environment[options->environment_count++];
			variable->name = text_copy(option_table[row].variable, strlen(option_table[row].variable));
			variable->value = text_copy(value, strlen(value));
			loader->out_of_memory |= !variable->name || !variable->value;
		}
	}
	loader->out_of_memory |= !options->environment;
}

/* Gives the rows that have no value yet those of the variables. */
static void gather_variables(struct loader *loader, enum source source,
		const struct options_variable *variables, size_t count)
{
	const struct options_variable *variable;
	size_t row, i;

	for (row = 0; row < OPTION_COUNT; row++) {
		if (loader->given[row].source != SOURCE_DEFAULT ||
				(source == SOURCE_DOTENV && (option_table[row].flags & NOT_IN_DOTENV))) {
			continue;
		}
		for (i = 0; i < count; i++) {
			variable = &variables[i];
			if (text_equal(variable->name, option_table[row].variable) && variable->value &&
					*variable->value) {
				loader->given[row].value = variable->value;
				loader->given[row].line = variable->line;
				loader->given[row].source = source;
			}
		}
	}
}

/* ---- the `.env` file ---- */

/* Moves the variables that have a value; one without is not set by python-dotenv either. */
static void keep_variables(struct loader *loader, struct dotenv *dotenv)
{
	struct options *options = loader->options;
	struct dotenv_variable *variable;
	size_t i;

	options->variables = dotenv->count ? calloc(dotenv->count, sizeof *options->variables) : NULL;
	if (!options->variables) {
		loader->out_of_memory |= dotenv->count > 0;
		return;
	}
	for (i = 0; i < dotenv->count; i++) {
		variable = &dotenv->variables[i];
		if (variable->value) {
			options->variables[options->variable_count++] =
					(struct options_variable){variable->name, variable->value, variable->line};
			variable->name = variable->value = NULL;
		}
	}
}

/* Reads options->env_file. */
static void read_dotenv(struct loader *loader)
{
	const char *path = loader->options->env_file;
	struct dotenv *dotenv = NULL;
	int rc = dotenv_read(path, &dotenv);
	int error = errno;

	if (rc == MOSQ_ERR_NOMEM) {
		loader->out_of_memory = true;
	} else if (rc != MOSQ_ERR_SUCCESS) {
		loader_begin_sentence(loader);
		option_cannot_read(&loader->errors, path, error);
	} else if (dotenv->problem_count > 0) {
		loader_begin_sentence(loader);
		text_add_visible(&loader->errors, path);
		text_addf(&loader->errors, " line %zu: %s", dotenv->problem_line, dotenv->problem);
		if (dotenv->problem_count > 1) {
			text_addf(&loader->errors, " (and %zu more below)", dotenv->problem_count - 1);
		}
	}
	if (dotenv) {
		keep_variables(loader, dotenv);
	}
	dotenv_free(dotenv);
}

/* Makes folder's `.env` options->env_file if there is one. A folder of that name is a virtual environment;
 * and what cannot even be looked at is passed over, for the broker's user often may not enter the working
 * directory. */
static bool try_folder(struct loader *loader, const char *folder, size_t length)
{
	struct text path = {0};
	struct stat status;
	char *name;

	text_add(&path, folder, length);
	text_addf(&path, "/.env");
	name = text_take(&path);
	if (!name) {
		loader->out_of_memory = true;
		return false;
	}
	if (stat(name, &status) != 0 || !S_ISREG(status.st_mode)) {
		free(name);
		return false;
	}
	loader->options->env_file = name;
	return true;
}

/* Whether folder's `.env` belongs to root, to this user or to owner. */
static bool has_trusted_dotenv(struct loader *loader, const char *folder, uid_t owner)
{
	struct text path = {0};
	struct stat status;
	char *name;
	bool trusted;

	text_addf(&path, "%s/.env", folder);
	name = text_take(&path);
	if (!name) {
		loader->out_of_memory = true;
		return false;
	}
	trusted = lstat(name, &status) == 0 &&
			(status.st_uid == 0 || status.st_uid == geteuid() || status.st_uid == owner);
	free(name);
	return trusted;
}

/* Looks in the folders above folder, the nearest first, as python-dotenv does. One of them may be
 * everybody's, as /tmp is: there only a file counts that belongs to root, to this user or to whom folder
 * belongs. */
static bool try_above(struct loader *loader, const char *working, const char *folder, size_t length)
{
	struct text text = {0};
	struct stat status;
	char *path, *slash;
	bool found = false;

	if (*folder != '/') {
		text_addf(&text, "%s/", working);
	}
	text_add(&text, folder, length);
	path = text_take(&text);
	if (!path) {
		loader->out_of_memory = true;
		return false;
	}
	if (stat(path, &status) == 0) {
		while (!found && (slash = strrchr(path, '/'))) {
			*slash = '\0';
			found = has_trusted_dotenv(loader, path, status.st_uid) && try_folder(loader, path, strlen(path));
		}
	}
	free(path);
	return found;
}

/* The first of the folders of python_path and of the working directory that has a `.env`, else the nearest
 * above one of them. */
static void search_dotenv(struct loader *loader)
{
	const char *const folders = loader->given[ROW_python_path].value;
	const char *at;
	char working[PATH_MAX];
	size_t length;
	bool above;
	int i;

	if (!getcwd(working, sizeof working)) {
		*working = '\0';
	}
	for (i = 0; i < 2; i++) {
		above = i > 0;
		for (at = folders; at && *at; at += length + (at[length] == ':')) {
			length = strcspn(at, ":");
			if (length > 0 &&
					(above ? try_above(loader, working, at, length) : try_folder(loader, at, length))) {
				return;
			}
		}
		length = strlen(working);
		if (length > 0 &&
				(above ? try_above(loader, working, working, length) : try_folder(loader, working, length))) {
			return;
		}
	}
}

static void load_dotenv(struct loader *loader)
{
	size_t row = ROW_env_file;

	loader_take(loader, row);
	if (!loader->given[row].value) {
		search_dotenv(loader);
	}
	if (loader->options->env_file && loader->first == loader->options) {
		read_dotenv(loader);
	}
	gather_variables(loader, SOURCE_DOTENV, loader->first->variables, loader->first->variable_count);
}

/* ---- the whole ---- */

static void gather_defaults(struct loader *loader)
{
	size_t row;

	for (row = 0; row < OPTION_COUNT; row++) {
		if (loader->given[row].source == SOURCE_DEFAULT) {
			loader->given[row].value = option_table[row].fallback;
		}
	}
}

void sources_gather(struct loader *loader)
{
	gather_lines(loader);
	if (loader->first == loader->options) {
		keep_environment(loader);
	}
	gather_variables(loader, SOURCE_ENVIRONMENT, loader->first->environment,
			loader->first->environment_count);
	load_dotenv(loader);
	gather_defaults(loader);
}
