#include "options/dotenv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/mosquitto_api.h"
#include "shared/text.h"

/* The file with every line end made "\n", and where we are in it. */
struct reader {
	const char *at;
	const char *end;
	size_t line;
};

struct span {
	const char *start;
	size_t length;
};

/* One `NAME=value` before escapes and `${}`. */
struct statement {
	struct span name; /* length 0: a comment */
	struct span value;
	char quote; /* '\'', '"' or '\0' */
	bool has_value;
	size_t line;
};

/* ---- reading ---- */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

static bool is_blank(char c)
{
	return is_space(c) && c != '\n';
}

static char peek(const struct reader *reader)
{
	return reader->at < reader->end ? *reader->at : '\0';
}

static struct span read_bytes(struct reader *reader, size_t length)
{
	struct span span = {reader->at, length};
	size_t i;

	for (i = 0; i < length; i++) {
		reader->line += span.start[i] == '\n';
	}
	reader->at += length;
	return span;
}

static size_t count_while(const struct reader *reader, bool (*wanted)(char c))
{
	const char *at = reader->at;

	while (at < reader->end && wanted(*at)) {
		at++;
	}
	return (size_t)(at - reader->at);
}

static bool is_in_line(char c)
{
	return c != '\n';
}

static bool is_in_name(char c)
{
	return c != '=' && c != '#' && !is_space(c);
}

static void skip_export(struct reader *reader)
{
	static const char word[] = "export";
	size_t length = sizeof word - 1;

	if ((size_t)(reader->end - reader->at) > length && memcmp(reader->at, word, length) == 0 &&
			is_blank(reader->at[length])) {
		read_bytes(reader, length);
		read_bytes(reader, count_while(reader, is_blank));
	}
}

/* The readers below return what is wrong, or NULL, and then reader stands after what they read. */

static const char *read_name(struct reader *reader, struct span *ret_name)
{
	const char *close;
	size_t length;

	if (peek(reader) == '\'') {
		close = memchr(reader->at + 1, '\'', (size_t)(reader->end - reader->at - 1));
		if (!close || close == reader->at + 1) {
			return "the quoted name is empty or not closed";
		}
		read_bytes(reader, 1);
		*ret_name = read_bytes(reader, (size_t)(close - reader->at));
		read_bytes(reader, 1);
		if (memchr(ret_name->start, '=', ret_name->length)) {
			return "a name cannot contain =";
		}
		return NULL;
	}
	length = count_while(reader, is_in_name);
	if (length == 0) {
		return "there is no name before =";
	}
	*ret_name = read_bytes(reader, length);
	return NULL;
}

static const char *read_quoted(struct reader *reader, struct statement *statement)
{
	const char *at = reader->at + 1;

	statement->quote = *reader->at;
	while (at < reader->end && *at != statement->quote) {
		/* A backslash takes the next character with it, whether or not the two are an escape. */
		at += *at == '\\' ? 2 : 1;
	}
	if (at >= reader->end) {
		return "the quote is never closed";
	}
	read_bytes(reader, 1);
	statement->value = read_bytes(reader, (size_t)(at - reader->at));
	read_bytes(reader, 1);
	return NULL;
}

static void read_unquoted(struct reader *reader, struct statement *statement)
{
	struct span line = read_bytes(reader, count_while(reader, is_in_line));
	size_t i;

	for (i = 1; i < line.length; i++) {
		if (line.start[i] == '#' && is_blank(line.start[i - 1])) {
			line.length = i;
		}
	}
	while (line.length > 0 && is_space(line.start[line.length - 1])) {
		line.length--;
	}
	statement->value = line;
}

static const char *read_value(struct reader *reader, struct statement *statement)
{
	size_t blanks;

	read_bytes(reader, 1);
	statement->has_value = true;
	blanks = count_while(reader, is_blank);
	read_bytes(reader, blanks);
	statement->value = (struct span){reader->at, 0};
	switch (peek(reader)) {
	case '\'':
	case '"':
		return read_quoted(reader, statement);
	case '#':
		if (blanks == 0) {
			read_unquoted(reader, statement); /* `A=#b` is a value, `A= #b` has a comment */
		}
		return NULL;
	default:
		read_unquoted(reader, statement);
		return NULL;
	}
}

static bool holds_nul(struct span span)
{
	return span.length > 0 && memchr(span.start, '\0', span.length);
}

/* Reads the next statement; a comment or the end of the file is one without a name. */
static const char *read_statement(struct reader *reader, struct statement *statement)
{
	const char *problem = NULL;

	read_bytes(reader, count_while(reader, is_space));
	*statement = (struct statement){.line = reader->line};
	if (reader->at == reader->end) {
		return NULL;
	}
	skip_export(reader);
	if (peek(reader) != '#') {
		problem = read_name(reader, &statement->name);
	}
	if (!problem) {
		read_bytes(reader, count_while(reader, is_blank));
		if (peek(reader) == '=') {
			problem = read_value(reader, statement);
		}
	}
	if (!problem) {
		read_bytes(reader, count_while(reader, is_blank));
		if (peek(reader) != '#' && reader->at < reader->end && *reader->at != '\n') {
			problem = statement->has_value ? "something follows the closing quote"
										   : "there is no = after the name";
		}
	}
	read_bytes(reader, count_while(reader, is_in_line));
	if (!problem && (holds_nul(statement->name) || holds_nul(statement->value))) {
		problem = "there is a NUL byte in it";
	}
	return problem;
}

/* ---- values ---- */

static char unescape(char c, char quote)
{
	static const char letters[] = "abfnrtv";
	static const char meaning[] = "\a\b\f\n\r\t\v";
	const char *letter;

	if (c == '\\' || c == '\'') {
		return c;
	}
	if (quote != '"') {
		return '\0';
	}
	letter = strchr(letters, c);
	return c == '"' ? c : letter && c ? meaning[letter - letters] : '\0';
}

static void add_unescaped(struct text *text, const struct statement *statement)
{
	struct span value = statement->value;
	size_t i;
	char c;

	text_add(text, "", 0);
	for (i = 0; i < value.length; i++) {
		c = value.start[i];
		if (statement->quote && c == '\\' && i + 1 < value.length) {
			c = unescape(value.start[i + 1], statement->quote);
			i += c ? 1 : 0;
			c = c ? c : '\\';
		}
		text_add(text, &c, 1);
	}
}

static struct dotenv_variable *find(const struct dotenv *dotenv, const char *name)
{
	size_t i;

	for (i = 0; i < dotenv->count; i++) {
		if (strcmp(dotenv->variables[i].name, name) == 0) {
			return &dotenv->variables[i];
		}
	}
	return NULL;
}

/* What `${name:-fallback}` stands for. */
static const char *look_up(const struct dotenv *dotenv, const char *name, const char *fallback)
{
	const struct dotenv_variable *variable = find(dotenv, name);
	/* getenv("A=b") would find a variable A whose value begins with "b=". */
	const char *value = strchr(name, '=') ? NULL : getenv(name);

	if (value) {
		return value;
	}
	if (variable) {
		return variable->value ? variable->value : "";
	}
	return fallback;
}

/* Adds raw with every `${}` replaced, until out is longer than max. raw is taken to pieces. */
static void add_expanded(const struct dotenv *dotenv, char *raw, struct text *out, size_t max)
{
	char *start, *name_end, *close;
	const char *fallback, *value;

	while ((start = strstr(raw, "${")) && out->length <= max && !out->failed) {
		name_end = start + 2 + strcspn(start + 2, "}:");
		close = strchr(name_end, '}');
		if (!close || (*name_end == ':' && name_end[1] != '-')) {
			text_add(out, raw, (size_t)(start + 2 - raw));
			raw = start + 2;
			continue;
		}
		fallback = *name_end == ':' ? name_end + 2 : "";
		*name_end = *close = '\0';
		text_add(out, raw, (size_t)(start - raw));
		value = look_up(dotenv, start + 2, fallback);
		text_add(out, value, strlen(value));
		raw = close + 1;
	}
	text_add(out, raw, strlen(raw));
}

/* ---- the whole ---- */

static void note_problem(struct dotenv *dotenv, size_t line, const char *problem)
{
	if (dotenv->problem_count++ == 0) {
		dotenv->problem_line = line;
		dotenv->problem = problem;
	}
}

/* Room for one more variable, doubling at powers of two. */
static int grow(struct dotenv *dotenv)
{
	struct dotenv_variable *variables;
	size_t count = dotenv->count;

	if ((count & (count - 1)) != 0) {
		return MOSQ_ERR_SUCCESS;
	}
	variables = realloc(dotenv->variables, (count > 0 ? count * 2 : 1) * sizeof *variables);
	if (!variables) {
		return MOSQ_ERR_NOMEM;
	}
	dotenv->variables = variables;
	return MOSQ_ERR_SUCCESS;
}

/* Takes name and value, also on failure. */
static int put(struct dotenv *dotenv, char *name, char *value, size_t line)
{
	struct dotenv_variable *variable = find(dotenv, name);

	if (!variable) {
		if (grow(dotenv) != MOSQ_ERR_SUCCESS) {
			free(name);
			free(value);
			return MOSQ_ERR_NOMEM;
		}
		variable = &dotenv->variables[dotenv->count++];
	} else {
		free(variable->name);
		free(variable->value);
	}
	*variable = (struct dotenv_variable){name, value, line};
	return MOSQ_ERR_SUCCESS;
}

static int store(struct dotenv *dotenv, const struct statement *statement, size_t *bytes_left)
{
	struct text raw = {0}, expanded = {0};
	char *name = NULL, *value = NULL;
	int rc = MOSQ_ERR_NOMEM;

	if (statement->has_value) {
		add_unescaped(&raw, statement);
		if (raw.failed) {
			goto out;
		}
		add_expanded(dotenv, raw.data, &expanded, *bytes_left);
		if (expanded.length > *bytes_left || dotenv->count >= DOTENV_VARIABLES_MAX) {
			note_problem(dotenv, statement->line, "there are too many or too long values up to here");
			rc = expanded.failed ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS;
			goto out;
		}
		*bytes_left -= expanded.length;
		value = text_take(&expanded);
		if (!value) {
			goto out;
		}
	}
	name = text_copy(statement->name.start, statement->name.length);
	if (!name) {
		goto out;
	}
	rc = put(dotenv, name, value, statement->line);
	value = NULL;
out:
	free(value);
	text_free(&raw);
	text_free(&expanded);
	return rc;
}

/* Python opens text files with universal newlines: "\r\n" and a lone "\r" are "\n", in quotes too. */
static char *copy_with_newlines(const char *bytes, size_t length, size_t *ret_length)
{
	char *copy = malloc(length + 1);
	size_t i, n = 0;

	if (!copy) {
		return NULL;
	}
	for (i = 0; i < length; i++) {
		if (bytes[i] == '\r' && i + 1 < length && bytes[i + 1] == '\n') {
			continue;
		}
		copy[n++] = bytes[i] == '\r' ? '\n' : bytes[i];
	}
	*ret_length = n;
	return copy;
}

int dotenv_parse(const char *bytes, size_t length, struct dotenv **ret_dotenv)
{
	struct reader reader = {.line = 1};
	struct dotenv *dotenv = NULL;
	struct statement statement;
	size_t bytes_left = DOTENV_BYTES_MAX;
	const char *problem;
	char *copy;
	int rc = MOSQ_ERR_NOMEM;

	if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
		bytes += 3; /* byte order mark */
		length -= 3;
	}
	copy = copy_with_newlines(bytes, length, &length);
	dotenv = calloc(1, sizeof *dotenv);
	if (!copy || !dotenv) {
		goto out;
	}
	reader.at = copy;
	reader.end = copy + length;
	rc = MOSQ_ERR_SUCCESS;
	while (reader.at < reader.end && rc == MOSQ_ERR_SUCCESS) {
		problem = read_statement(&reader, &statement);
		if (problem) {
			note_problem(dotenv, statement.line, problem);
		} else if (statement.name.length > 0) {
			rc = store(dotenv, &statement, &bytes_left);
		}
	}
out:
	free(copy);
	if (rc == MOSQ_ERR_SUCCESS) {
		*ret_dotenv = dotenv;
	} else {
		dotenv_free(dotenv);
	}
	return rc;
}

/* Reads up to size bytes; -1 and errno on failure. */
static ssize_t read_fully(int fd, char *buffer, size_t size)
{
	size_t length = 0;
	ssize_t n;

	while (length < size) {
		n = read(fd, buffer + length, size - length);
		if (n < 0 && errno != EINTR) {
			return -1;
		}
		if (n == 0) {
			break;
		}
		length += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)length;
}

int dotenv_read(const char *path, struct dotenv **ret_dotenv)
{
	char *buffer = NULL;
	ssize_t length;
	int error = 0;
	int rc = MOSQ_ERR_ERRNO;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		return MOSQ_ERR_ERRNO;
	}
	buffer = malloc(DOTENV_BYTES_MAX + 1);
	if (!buffer) {
		rc = MOSQ_ERR_NOMEM;
		goto out;
	}
	length = read_fully(fd, buffer, DOTENV_BYTES_MAX + 1);
	if (length < 0 || length > DOTENV_BYTES_MAX) {
		error = length < 0 ? errno : EFBIG;
		goto out;
	}
	rc = dotenv_parse(buffer, (size_t)length, ret_dotenv);
out:
	free(buffer);
	close(fd);
	errno = error;
	return rc;
}

void dotenv_free(struct dotenv *dotenv)
{
	size_t i;

	if (!dotenv) {
		return;
	}
	for (i = 0; i < dotenv->count; i++) {
		free(dotenv->variables[i].name);
		free(dotenv->variables[i].value);
	}
	free(dotenv->variables);
	free(dotenv);
}
