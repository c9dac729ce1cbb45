#include "shared/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VISIBLE_CHARACTERS_MAX 80

/* Room for length more bytes and the terminator. */
static bool reserve(struct text *text, size_t length)
{
	size_t capacity = text->capacity > 0 ? text->capacity : 64;
	char *data;

	if (text->failed || length >= SIZE_MAX / 2 - text->length) {
		text->failed = true;
		return false;
	}
	while (capacity <= text->length + length) {
		capacity *= 2;
	}
	if (capacity == text->capacity) {
		return true;
	}
	data = realloc(text->data, capacity);
	if (!data) {
		text->failed = true;
		return false;
	}
	text->data = data;
	text->capacity = capacity;
	return true;
}

void text_add(struct text *text, const char *bytes, size_t length)
{
	if (!reserve(text, length)) {
		return;
	}
	if (length > 0) {
		memcpy(text->data + text->length, bytes, length);
	}
	text->length += length;
	text->data[text->length] = '\0';
}

void text_addf(struct text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || !reserve(text, (size_t)length)) {
		text->failed = true;
		return;
	}
	va_start(arguments, format);
	vsnprintf(text->data + text->length, (size_t)length + 1, format, arguments);
	va_end(arguments);
	text->length += (size_t)length;
}

/* Bytes of the printable UTF-8 character at s; 0 where there is none (control characters included). */
static size_t printable_length(const unsigned char *s)
{
	size_t length, i;

	if (s[0] < 0x80) {
		return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
	}
	/* c2 80 to c2 9f are control characters too; some terminals obey them. */
	if (s[0] < 0xc2 || s[0] > 0xf4 || (s[0] == 0xc2 && s[1] < 0xa0)) {
		return 0;
	}
	length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	for (i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	return length;
}

void text_add_visible(struct text *text, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;
	unsigned int characters;
	size_t length;

	for (characters = 0; *s && characters < VISIBLE_CHARACTERS_MAX; characters++) {
		length = printable_length(s);
		if (length == 0) {
			text_addf(text, "\\x%02x", *s);
			s++;
			continue;
		}
		if (*s == '"' || *s == '\\') {
			text_add(text, "\\", 1);
		}
		text_add(text, (const char *)s, length);
		s += length;
	}
	text_addf(text, "%s", *s ? "..." : "");
}

void text_add_quoted(struct text *text, const char *value)
{
	text_add(text, "\"", 1);
	text_add_visible(text, value);
	text_add(text, "\"", 1);
}

/* Bytes of the character at s, of which there are rest (more than 0), by the table in RFC 3629, section 4; 0
 * where there is none, or NUL. */
static size_t character_length(const unsigned char *s, size_t rest)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4, i;

	if (s[0] == 0 || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4 || length > rest) {
		return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
			(s[0] == 0xf4 && s[1] > 0x8f)) {
		return 0; /* in more bytes than it takes, a surrogate, or beyond the last */
	}
	for (i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	return length;
}

bool text_is_utf8(const char *bytes, size_t length)
{
	const unsigned char *at = (const unsigned char *)bytes;
	size_t found;

	for (; length > 0; at += found, length -= found) {
		found = character_length(at, length);
		if (found == 0) {
			return false;
		}
	}
	return true;
}

char *text_take(struct text *text)
{
	char *data;

	text_add(text, "", 0); /* an empty text is a string too */
	if (text->failed) {
		text_free(text);
		return NULL;
	}
	data = text->data;
	*text = (struct text){0};
	return data;
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}

char *text_copy(const char *bytes, size_t length)
{
	char *copy = malloc(length + 1);

	if (copy) {
		memcpy(copy, bytes, length);
		copy[length] = '\0';
	}
	return copy;
}

bool text_equal(const char *text, const char *other)
{
	return text && other ? strcmp(text, other) == 0 : text == other;
}
