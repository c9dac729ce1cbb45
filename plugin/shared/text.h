/* A string that grows.
 *
 * For sentences put together from parts. Memory that runs out is remembered instead of returned, so that a
 * sentence is written without a check after every word: text_take() tells in the end. Any thread may use its
 * own text; start from `struct text t = {0}` and end with text_take() or text_free(). */
#ifndef MQTTASGI_TEXT_H
#define MQTTASGI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *data; /* NULL or terminated by '\0' */
	size_t length;
	size_t capacity;
	bool failed; /* memory ran out: nothing can be added any more */
};

void text_add(struct text *text, const char *bytes, size_t length);
void text_addf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a value for a log line: control characters and what is not UTF-8 are escaped, and beyond 80 characters
 * it is cut and ends in `...`. The second puts double quotes around it. */
void text_add_visible(struct text *text, const char *value);
void text_add_quoted(struct text *text, const char *value);

/* Returns the string, which the caller frees with free(), and leaves an empty text. NULL when memory ran
 * out. */
char *text_take(struct text *text) __attribute__((warn_unused_result));
void text_free(struct text *text);

/* Whether bytes are UTF-8 (RFC 3629) without a NUL. */
bool text_is_utf8(const char *bytes, size_t length);

/* Whether both are NULL, or the same string. */
bool text_equal(const char *text, const char *other);

/* Copy of a part of a string; NULL when memory ran out. */
char *text_copy(const char *bytes, size_t length) __attribute__((warn_unused_result));

#endif
