/* Reads a `.env` file as python-dotenv (1.2.4) does, so that one file serves both.
 *
 * `export`, quotes and their escapes, values over several lines, comments, names without `=`, `${NAME}` and
 * `${NAME:-default}` (the real environment first, then the lines above, as load_dotenv() resolves them).
 * Different on purpose: a line that makes no sense is a problem, where python-dotenv warns and goes on; so
 * are a NUL byte and a name with `=` in it, which no environment can hold. Only ASCII white space counts as
 * such, and bytes that are not UTF-8 are kept. Any thread; the environment must not change meanwhile. */
#ifndef MQTTASGI_DOTENV_H
#define MQTTASGI_DOTENV_H

#include <stddef.h>

#define DOTENV_BYTES_MAX (1024 * 1024) /* of the file, and of all its values once `${}` is replaced */
#define DOTENV_VARIABLES_MAX 10000

struct dotenv_variable {
	char *name;
	char *value; /* NULL: a name without `=` */
	size_t line;
};

/* Where a name appears twice the later value stands in the place of the first. */
struct dotenv {
	struct dotenv_variable *variables;
	size_t count;
	size_t problem_count;
	size_t problem_line; /* of the first problem, from 1 */
	const char *problem; /* what is wrong there; never any of the file's text */
};

/* MOSQ_ERR_SUCCESS: *ret_dotenv is the caller's, also when there are problems.
 * MOSQ_ERR_ERRNO: the file could not be read, see errno (EFBIG beyond DOTENV_BYTES_MAX).
 * MOSQ_ERR_NOMEM. */
int dotenv_read(const char *path, struct dotenv **ret_dotenv) __attribute__((warn_unused_result));

/* The same for a file's content. MOSQ_ERR_SUCCESS or MOSQ_ERR_NOMEM. */
int dotenv_parse(const char *bytes, size_t length, struct dotenv **ret_dotenv)
		__attribute__((warn_unused_result));

/* Takes NULL. */
void dotenv_free(struct dotenv *dotenv);

#endif
