/* How Mosquitto reads its file (conf.c, the same in 2.0 and 2.1 unless said otherwise): a word ends at a
 * space, a value at the end of the line; `plugin`, or one of its other names, begins a plugin's section,
 * which goes on until the next such line; each file has its own sections, and an include_dir only counts in
 * the main file. */
#include "options/mosquitto_conf.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options/option_types.h"
#include "shared/mosquitto_api.h"

struct reader {
	const struct mosquitto_conf_place *place;
	struct mosquitto_conf_lines *lines;
	struct text *error;
	struct text name; /* that a `plugin_load` line gave to this plugin (2.1); empty: none */
	size_t sections;  /* lines that load this plugin */
	bool no_memory;
	mosquitto_conf_visit *visit; /* NULL: nobody else looks */
	void *userdata;
	unsigned int files; /* begun so far */
};

/* One file of those that are read. */
struct file {
	unsigned int number;
	bool is_main;
	bool is_ours; /* the section that the next line belongs to */
};

/* ---- the place ---- */

const char *mosquitto_conf_file_of(const char *arguments, size_t length)
{
	const char *end = arguments + length, *at = arguments, *file = NULL;
	bool is_next = false;

	/* Mosquitto reads again the last of several. */
	for (; at < end; at += strlen(at) + 1) {
		if (is_next) {
			file = at;
		}
		is_next = !is_next && (strcmp(at, "-c") == 0 || strcmp(at, "--config-file") == 0);
	}
	return file;
}

static int read_all(int fd, struct text *content)
{
	char bytes[4096];
	ssize_t length;

	while ((length = read(fd, bytes, sizeof bytes)) != 0) {
		if (length > 0) {
			text_add(content, bytes, (size_t)length);
		} else if (errno != EINTR) {
			return MOSQ_ERR_ERRNO;
		}
	}
	text_add(content, "", 0);
	return content->failed ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS;
}

/* MOSQ_ERR_SUCCESS, MOSQ_ERR_NOMEM, or MOSQ_ERR_ERRNO, see errno (ESPIPE: what is no file, and may not
 * end). */
static int read_file(const char *path, struct text *content)
{
	struct stat status;
	int error, rc = MOSQ_ERR_ERRNO, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		return MOSQ_ERR_ERRNO;
	}
	if (fstat(fd, &status) != 0) {
		error = errno;
	} else if (S_ISDIR(status.st_mode)) {
		error = EISDIR;
	} else if (!S_ISREG(status.st_mode)) {
		error = ESPIPE;
	} else {
		rc = read_all(fd, content);
		error = errno;
	}
	(void)close(fd);
	errno = error;
	return rc;
}

static char *copy(const char *string)
{
	return string ? text_copy(string, strlen(string)) : NULL;
}

int mosquitto_conf_find(struct mosquitto_conf_place *ret_place)
{
	struct text arguments = {0};
	char working[PATH_MAX];
	const char *file = NULL, *folder = getcwd(working, sizeof working);
	Dl_info info = {0};
	int rc = read_file("/proc/self/cmdline", &arguments);

	if (rc == MOSQ_ERR_SUCCESS) {
		file = mosquitto_conf_file_of(arguments.data, arguments.length);
	}
	(void)dladdr((void *)(uintptr_t)mosquitto_conf_find, &info);
	ret_place->file = copy(file);
	ret_place->folder = copy(folder);
	ret_place->plugin = copy(info.dli_fname ? info.dli_fname : "");
	text_free(&arguments);
	if (rc == MOSQ_ERR_NOMEM || (file && !ret_place->file) || (folder && !ret_place->folder) ||
			!ret_place->plugin) {
		mosquitto_conf_forget(ret_place);
		return MOSQ_ERR_NOMEM;
	}
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_conf_forget(struct mosquitto_conf_place *place)
{
	free(place->file);
	free(place->folder);
	free(place->plugin);
	*place = (struct mosquitto_conf_place){0};
}

/* path as it was meant where the broker was started; NULL when memory ran out. */
static char *whole_path(const struct reader *reader, const char *path)
{
	struct text whole = {0};

	if (*path != '/' && reader->place->folder) {
		text_addf(&whole, "%s/", reader->place->folder);
	}
	text_add(&whole, path, strlen(path));
	return text_take(&whole);
}

/* ---- lines ---- */

static char *trim(char *string)
{
	size_t length;

	while (isspace((unsigned char)*string)) {
		string++;
	}
	for (length = strlen(string); length > 0 && isspace((unsigned char)string[length - 1]); length--) {
		string[length - 1] = '\0';
	}
	return string;
}

/* Whether a `plugin` line's path leads to this plugin's file. One without a slash was searched for by
 * dlopen(). */
static bool is_this_plugin(struct reader *reader, const char *path)
{
	const char *own = reader->place->plugin, *base = strrchr(own, '/');
	struct stat status, own_status;
	char *whole, *whole_own;
	bool same;

	if (strcmp(path, own) == 0 || (!strchr(path, '/') && base && strcmp(path, base + 1) == 0)) {
		return true;
	}
	whole = whole_path(reader, path);
	whole_own = whole_path(reader, own);
	reader->no_memory |= !whole || !whole_own;
	same = whole && whole_own && stat(whole, &status) == 0 && stat(whole_own, &own_status) == 0 &&
			status.st_dev == own_status.st_dev && status.st_ino == own_status.st_ino;
	free(whole);
	free(whole_own);
	return same;
}

static int add_line(struct mosquitto_conf_lines *lines, const char *key, const char *value)
{
	size_t capacity = lines->capacity ? 2 * lines->capacity : 16;
	struct mosquitto_opt *more;

	if (lines->count == lines->capacity) {
		more = realloc(lines->lines, capacity * sizeof *more);
		if (!more) {
			return MOSQ_ERR_NOMEM;
		}
		lines->lines = more;
		lines->capacity = capacity;
	}
	more = &lines->lines[lines->count];
	more->key = copy(key);
	more->value = copy(value);
	if (!more->key || !more->value) {
		free(more->key);
		free(more->value);
		return MOSQ_ERR_NOMEM;
	}
	lines->count++;
	return MOSQ_ERR_SUCCESS;
}

static bool is_one_of(const char *word, const char *const *names)
{
	while (*names && strcmp(word, *names) != 0) {
		names++;
	}
	return *names != NULL;
}

static int read_folder(struct reader *reader, const char *name);

static int read_line(struct reader *reader, struct file *file, char *line)
{
	static const char *const begins_section[] = {"plugin", "auth_plugin", "global_plugin", NULL};
	static const char *const prefixes[] = {"plugin_opt_", "auth_opt_", NULL};
	char *rest = NULL, *word = strtok_r(line, " ", &rest), *name, *value;
	size_t i;

	if (!word) {
		return MOSQ_ERR_SUCCESS;
	}
	rest = rest ? rest : word + strlen(word);
	if (reader->visit) {
		value = copy(rest);
		reader->no_memory |= !value;
		if (value) {
			reader->visit(reader->userdata, file->number, word, trim(value));
		}
		free(value);
	}
	for (i = 0; prefixes[i]; i++) {
		if (file->is_ours && strncmp(word, prefixes[i], strlen(prefixes[i])) == 0) {
			return add_line(reader->lines, word + strlen(prefixes[i]), rest + strspn(rest, " \t"));
		}
	}
	if (is_one_of(word, begins_section)) {
		file->is_ours = is_this_plugin(reader, trim(rest));
		reader->sections += file->is_ours;
	} else if (strcmp(word, "plugin_load") == 0) {
		name = strtok_r(NULL, " ", &rest);
		file->is_ours = name && rest && is_this_plugin(reader, trim(rest));
		reader->sections += file->is_ours;
		if (file->is_ours) {
			text_free(&reader->name);
			text_add(&reader->name, name, strlen(name));
			reader->no_memory |= reader->name.failed;
		}
	} else if (strcmp(word, "plugin_use") == 0) {
		file->is_ours = reader->name.data && strcmp(trim(rest), reader->name.data) == 0;
	} else if (strcmp(word, "include_dir") == 0 && *rest && file->is_main) {
		return read_folder(reader, rest);
	}
	return reader->no_memory ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS;
}

/* ---- files ---- */

static int cannot_read(struct reader *reader, const char *path, int error)
{
	if (error == ESPIPE) {
		text_add_quoted(reader->error, path);
		text_addf(reader->error, " is no file that can be read again; restart the broker");
		return MOSQ_ERR_INVAL;
	}
	option_cannot_read(reader->error, path, error);
	if (error == EACCES) {
		text_addf(reader->error, "; let that user read it and send SIGHUP again, or restart the broker");
	}
	return MOSQ_ERR_INVAL;
}

/* `#` is only looked for in the first column: to Mosquitto, `plugin_opt_spin 1 # one` has the value `1 #
 * one`. */
static int read_lines(struct reader *reader, bool is_main, char *line)
{
	struct file file = {.number = reader->files++, .is_main = is_main};
	char *next;
	size_t length;
	int rc = MOSQ_ERR_SUCCESS;

	for (; line && rc == MOSQ_ERR_SUCCESS; line = next) {
		next = strchr(line, '\n');
		if (next) {
			*next++ = '\0';
		}
		for (length = strlen(line); length > 0 && line[length - 1] == '\r'; length--) {
			line[length - 1] = '\0';
		}
		if (*line != '#' && *line != '\r') {
			rc = read_line(reader, &file, line);
		}
	}
	return rc;
}

static int read_path(struct reader *reader, bool is_main, const char *path)
{
	struct text content = {0};
	int rc = read_file(path, &content);

	if (rc == MOSQ_ERR_ERRNO) {
		rc = cannot_read(reader, path, errno);
	} else if (rc == MOSQ_ERR_SUCCESS) {
		/* In a file that is text there is no NUL; where there is one, what follows is not text. */
		rc = read_lines(reader, is_main, content.data);
	}
	text_free(&content);
	return rc;
}

/* Mosquitto's order: as if there were no capitals, and capitals first where that makes no difference. */
static int compare_names(const void *left, const void *right)
{
	const unsigned char *a = *(unsigned char *const *)left, *b = *(unsigned char *const *)right;

	for (; *a && *b; a++, b++) {
		if (toupper(*a) != toupper(*b)) {
			return toupper(*a) - toupper(*b);
		}
		if (*a != *b) {
			return *a - *b;
		}
	}
	return *a - *b;
}

static bool is_conf_file(const char *name)
{
	size_t length = strlen(name);

	return length > strlen(".conf") && strcmp(name + length - strlen(".conf"), ".conf") == 0;
}

/* Adds the paths of the folder's files to paths, each with its NUL. Returns how many. */
static size_t list_folder(DIR *folder, const char *path, struct text *paths)
{
	const struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(folder))) {
		if (is_conf_file(entry->d_name)) {
			text_addf(paths, "%s/%s", path, entry->d_name);
			text_add(paths, "", 1);
			count++;
		}
	}
	return count;
}

static int read_paths(struct reader *reader, char *path, size_t count)
{
	char **sorted = calloc(count ? count : 1, sizeof *sorted);
	int rc = MOSQ_ERR_SUCCESS;
	size_t i;

	if (!sorted) {
		return MOSQ_ERR_NOMEM;
	}
	for (i = 0; i < count; i++, path += strlen(path) + 1) {
		sorted[i] = path;
	}
	qsort(sorted, count, sizeof *sorted, compare_names);
	for (i = 0; i < count && rc == MOSQ_ERR_SUCCESS; i++) {
		rc = read_path(reader, false, sorted[i]);
	}
	free(sorted);
	return rc;
}

static int read_folder(struct reader *reader, const char *name)
{
	char *path = whole_path(reader, name);
	struct text paths = {0};
	size_t count;
	DIR *folder;
	int rc;

	if (!path) {
		return MOSQ_ERR_NOMEM;
	}
	folder = opendir(path);
	if (!folder) {
		rc = cannot_read(reader, path, errno);
	} else {
		count = list_folder(folder, path, &paths);
		(void)closedir(folder);
		rc = paths.failed ? MOSQ_ERR_NOMEM : read_paths(reader, paths.data, count);
	}
	text_free(&paths);
	free(path);
	return rc;
}

/* ---- the whole ---- */

static int read_main(struct reader *reader)
{
	char *path;
	int rc;

	if (!reader->place->file) {
		text_addf(reader->error, "the broker's command line does not tell which file it read (-c FILE)");
		return MOSQ_ERR_INVAL;
	}
	path = whole_path(reader, reader->place->file);
	if (!path) {
		return MOSQ_ERR_NOMEM;
	}
	rc = read_path(reader, true, path);
	if (rc == MOSQ_ERR_SUCCESS && reader->sections != 1) {
		text_add_quoted(reader->error, path);
		text_addf(reader->error,
				reader->sections ? " has more than one plugin line for " : " has no plugin line for ");
		text_add_visible(reader->error, reader->place->plugin);
		rc = MOSQ_ERR_INVAL;
	}
	free(path);
	return rc;
}

int mosquitto_conf_read(const struct mosquitto_conf_place *place, struct mosquitto_conf_lines *ret_lines,
		struct text *error)
{
	struct reader reader = {.place = place, .lines = ret_lines, .error = error};
	int rc;

	*ret_lines = (struct mosquitto_conf_lines){0};
	rc = read_main(&reader);
	text_free(&reader.name);
	if (error->failed) {
		rc = MOSQ_ERR_NOMEM;
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		mosquitto_conf_free(ret_lines);
	}
	return rc;
}

void mosquitto_conf_free(struct mosquitto_conf_lines *lines)
{
	size_t i;

	for (i = 0; i < lines->count; i++) {
		free(lines->lines[i].key);
		free(lines->lines[i].value);
	}
	free(lines->lines);
	*lines = (struct mosquitto_conf_lines){0};
}

/* ---- what is not the plugin's ---- */

bool mosquitto_conf_each_line(const struct mosquitto_conf_place *place, mosquitto_conf_visit *visit,
		void *userdata)
{
	struct mosquitto_conf_lines lines = {0};
	struct text error = {0};
	struct reader reader = {
		.place = place, .lines = &lines, .error = &error, .visit = visit, .userdata = userdata};
	char *path = place->file ? whole_path(&reader, place->file) : NULL;
	bool done = path && read_path(&reader, true, path) == MOSQ_ERR_SUCCESS && !reader.no_memory;

	free(path);
	text_free(&reader.name);
	text_free(&error);
	mosquitto_conf_free(&lines);
	return done;
}

/* userdata: the seconds; -1: a line has no number that Mosquitto takes. Mosquitto 2.0 takes a word for 0,
 * which 2.1 refuses. */
static void note_sys_interval(void *userdata, unsigned int file, const char *word, const char *value)
{
	long *seconds = userdata;

	(void)file;
	if (strcmp(word, "sys_interval") == 0 && *seconds >= 0) {
		*seconds = *value ? strtol(value, NULL, 10) : -1;
		*seconds = *seconds <= 65535 ? *seconds : -1;
	}
}

bool mosquitto_conf_sys_interval(const struct mosquitto_conf_place *place, unsigned int *ret_seconds)
{
	long seconds = MOSQUITTO_CONF_SYS_INTERVAL;

	if (!mosquitto_conf_each_line(place, note_sys_interval, &seconds) || seconds < 0) {
		return false;
	}
	*ret_seconds = (unsigned int)seconds;
	return true;
}

struct search {
	struct mosquitto_conf_setting *settings;
	size_t count;
	bool no_memory;
};

static void note_setting(void *userdata, unsigned int file, const char *word, const char *value)
{
	struct search *search = userdata;
	size_t i;

	(void)file;
	for (i = 0; i < search->count; i++) {
		if (strcmp(word, search->settings[i].name) == 0) {
			free(search->settings[i].value);
			search->settings[i].value = copy(value);
			search->no_memory |= !search->settings[i].value;
		}
	}
}

bool mosquitto_conf_settings(const struct mosquitto_conf_place *place,
		struct mosquitto_conf_setting *settings, size_t count)
{
	struct search search = {.settings = settings, .count = count};

	return mosquitto_conf_each_line(place, note_setting, &search) && !search.no_memory;
}
