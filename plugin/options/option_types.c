#include "options/option_types.h"
#include "shared/mosquitto_api.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static int complain(struct text *complaint, const char *value, const char *what)
{
	text_add_quoted(complaint, value);
	text_addf(complaint, " %s", what);
	return MOSQ_ERR_INVAL;
}

static int store_string(const char *value, void *field)
{
	char *copy = text_copy(value, strlen(value));

	if (!copy) {
		return MOSQ_ERR_NOMEM;
	}
	*(char **)field = copy;
	return MOSQ_ERR_SUCCESS;
}

/* ---- numbers ---- */

/* Digits only: strtoull() alone would take blanks, signs and an empty string. */
static bool parse_digits(const char *value, uint64_t *ret_number, const char **ret_end)
{
	char *end;

	if (*value < '0' || *value > '9') {
		return false;
	}
	errno = 0;
	*ret_number = strtoull(value, &end, 10);
	*ret_end = end;
	return errno == 0;
}

static void store_number(const struct option *option, uint64_t number, void *field)
{
	switch (option->size) {
	case sizeof(uint16_t):
		*(uint16_t *)field = (uint16_t)number;
		break;
	case sizeof(uint32_t):
		/* int, unsigned int or enum: min and max keep it where they agree */
		*(uint32_t *)field = (uint32_t)number;
		break;
	default:
		*(uint64_t *)field = number;
		break;
	}
}

int option_take_number(const struct option *option, const char *value, void *field, struct text *complaint)
{
	const char *end;
	uint64_t number;

	if (!parse_digits(value, &number, &end) || *end || number < option->min || number > option->max) {
		text_add_quoted(complaint, value);
		text_addf(complaint, " is not a number from %" PRIu64 " to %" PRIu64, option->min, option->max);
		return MOSQ_ERR_INVAL;
	}
	store_number(option, number, field);
	return MOSQ_ERR_SUCCESS;
}

static bool parse_bytes(const char *value, uint64_t *ret_bytes)
{
	static const char suffixes[] = "kKmMgG";
	const char *end, *suffix;
	unsigned int shift = 0;

	if (!parse_digits(value, ret_bytes, &end)) {
		return false;
	}
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1]) {
			return false;
		}
		shift = 10 * ((unsigned int)(suffix - suffixes) / 2 + 1);
	}
	if (*ret_bytes > UINT64_MAX >> shift) {
		return false;
	}
	*ret_bytes <<= shift;
	return true;
}

int option_take_bytes(const struct option *option, const char *value, void *field, struct text *complaint)
{
	uint64_t bytes;

	if (!parse_bytes(value, &bytes) || bytes < option->min || bytes > option->max) {
		text_add_quoted(complaint, value);
		text_addf(complaint,
				" is not a number of bytes from %" PRIu64 " to %" PRIu64 " (k, M or G may follow the number)",
				option->min, option->max);
		return MOSQ_ERR_INVAL;
	}
	store_number(option, bytes, field);
	return MOSQ_ERR_SUCCESS;
}

/* Not strtod(): it would want a comma where the broker's locale has one. */
static bool parse_seconds(const char *value, uint64_t *ret_milliseconds)
{
	uint64_t seconds, unit = 100;
	const char *end;

	if (!parse_digits(value, &seconds, &end) || seconds > UINT32_MAX) {
		return false;
	}
	*ret_milliseconds = seconds * 1000;
	if (*end == '.' && end[1]) {
		for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10) {
			*ret_milliseconds += (uint64_t)(*end - '0') * unit;
		}
	}
	return *end == '\0';
}

int option_take_seconds(const struct option *option, const char *value, void *field, struct text *complaint)
{
	uint64_t milliseconds;

	if (!parse_seconds(value, &milliseconds) || milliseconds < option->min || milliseconds > option->max) {
		text_add_quoted(complaint, value);
		text_addf(complaint, " is not a number of seconds from %" PRIu64 ".%" PRIu64 " to %" PRIu64,
				option->min / 1000, option->min % 1000 / 100, option->max / 1000);
		return MOSQ_ERR_INVAL;
	}
	store_number(option, milliseconds, field);
	return MOSQ_ERR_SUCCESS;
}

/* ---- words ---- */

int option_take_boolean(const struct option *option, const char *value, void *field, struct text *complaint)
{
	static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on"};
	size_t i;

	(void)option;
	for (i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strcasecmp(value, words[i]) == 0) {
			*(bool *)field = i % 2 == 1;
			return MOSQ_ERR_SUCCESS;
		}
	}
	return complain(complaint, value, "is neither true nor false");
}

int option_take_choice(const struct option *option, const char *value, void *field, struct text *complaint)
{
	size_t i;

	for (i = 0; option->choices[i]; i++) {
		if (strcasecmp(value, option->choices[i]) == 0) {
			store_number(option, i, field);
			return MOSQ_ERR_SUCCESS;
		}
	}
	complain(complaint, value, "is not one of");
	for (i = 0; option->choices[i]; i++) {
		text_addf(complaint, "%s %s", i > 0 ? "," : "", option->choices[i]);
	}
	return MOSQ_ERR_INVAL;
}

int option_take_string(const struct option *option, const char *value, void *field, struct text *complaint)
{
	const char *at;

	(void)option;
	for (at = value; *at; at++) {
		if ((unsigned char)*at < 0x20 || *at == 0x7f) {
			return complain(complaint, value, "contains a control character");
		}
	}
	return store_string(value, field);
}

int option_take_secret(const struct option *option, const char *value, void *field, struct text *complaint)
{
	(void)option;
	(void)complaint;
	return store_string(value, field);
}

/* After a Python name with dots in it; NULL where there is none. Python's names may contain letters beyond
 * ASCII: those are left for Python to judge. */
static const char *skip_dotted_name(const char *at)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	bool first = true;

	for (;; at++) {
		bool letter = *at && (strchr(letters, *at) || (unsigned char)*at >= 0x80);

		if (letter || (!first && *at >= '0' && *at <= '9')) {
			first = false;
		} else if (first) {
			return NULL;
		} else if (*at == '.') {
			first = true;
		} else {
			return at;
		}
	}
}

int option_take_application(const struct option *option, const char *value, void *field,
		struct text *complaint)
{
	const char *end = skip_dotted_name(value);

	(void)option;
	end = end && *end == ':' ? skip_dotted_name(end + 1) : NULL;
	if (!end || *end) {
		return complain(complaint, value, "is not of the form package.module:name");
	}
	return store_string(value, field);
}

/* ---- paths ---- */

static void add_user(struct text *complaint, const char *preposition)
{
	uid_t uid = geteuid();
	const struct passwd *user;

	/* Started as root, the broker is another user by now; who starts it does not expect that. */
	if (uid == 0) {
		return;
	}
	user = getpwuid(uid);
	if (user) {
		text_addf(complaint, " %s user %s", preposition, user->pw_name);
	} else {
		text_addf(complaint, " %s user %lu", preposition, (unsigned long)uid);
	}
}

void option_cannot_read(struct text *complaint, const char *path, int error)
{
	text_add_quoted(complaint, path);
	text_addf(complaint, " cannot be read");
	add_user(complaint, "by");
	text_addf(complaint, ": %s", strerror(error));
}

/* errno of what hinders from using path in the given way; 0: nothing. */
static int find_hindrance(const char *path, bool folder)
{
	struct stat status;

	if (stat(path, &status) != 0) {
		return errno;
	}
	if (S_ISDIR(status.st_mode) != folder) {
		return folder ? ENOTDIR : EISDIR;
	}
	return faccessat(AT_FDCWD, path, folder ? R_OK | X_OK : R_OK, AT_EACCESS) == 0 ? 0 : errno;
}

static int check_readable(const char *path, bool folder, struct text *complaint)
{
	int error = find_hindrance(path, folder);

	if (error != 0) {
		option_cannot_read(complaint, path, error);
		return MOSQ_ERR_INVAL;
	}
	return MOSQ_ERR_SUCCESS;
}

int option_take_file(const struct option *option, const char *value, void *field, struct text *complaint)
{
	int rc = check_readable(value, false, complaint);

	(void)option;
	return rc == MOSQ_ERR_SUCCESS ? store_string(value, field) : rc;
}

int option_take_folders(const struct option *option, const char *value, void *field, struct text *complaint)
{
	const char *at = value;
	size_t length;
	char *folder;
	int rc;

	(void)option;
	for (;; at += length + 1) {
		length = strcspn(at, ":");
		if (length == 0) {
			return complain(complaint, value, "has an empty folder name before or after a colon");
		}
		folder = text_copy(at, length);
		if (!folder) {
			return MOSQ_ERR_NOMEM;
		}
		rc = check_readable(folder, true, complaint);
		free(folder);
		if (rc != MOSQ_ERR_SUCCESS) {
			return rc;
		}
		if (!at[length]) {
			return store_string(value, field);
		}
	}
}

/* MOSQ_ERR_SUCCESS where folder/name can be run; otherwise errno says why not. */
static int check_program(const char *folder, const char *name)
{
	struct text path = {0};
	int rc, error;

	text_addf(&path, "%s/%s", folder, name);
	if (path.failed) {
		text_free(&path);
		return MOSQ_ERR_NOMEM;
	}
	rc = faccessat(AT_FDCWD, path.data, X_OK, AT_EACCESS) == 0 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ERRNO;
	error = errno;
	text_free(&path);
	errno = error;
	return rc;
}

int option_take_virtualenv(const struct option *option, const char *value, void *field,
		struct text *complaint)
{
	int rc = check_readable(value, true, complaint);

	(void)option;
	if (rc != MOSQ_ERR_SUCCESS) {
		return rc;
	}
	rc = check_program(value, "bin/python3");
	if (rc == MOSQ_ERR_ERRNO) {
		rc = check_program(value, "bin/python");
	}
	if (rc == MOSQ_ERR_ERRNO) {
		const char *reason = strerror(errno);

		complain(complaint, value,
				"is no virtual environment: neither bin/python3 nor bin/python in it can be run");
		add_user(complaint, "by");
		text_addf(complaint, " (%s)", reason);
		return MOSQ_ERR_INVAL;
	}
	return rc == MOSQ_ERR_SUCCESS ? store_string(value, field) : rc;
}
