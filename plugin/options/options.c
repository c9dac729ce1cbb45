#include "options/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "options/rows.h"
#include "shared/text.h"

/* ---- the table ---- */

/* clang-format off */
#define RANGE(least, most) least, most, NULL
#define WORDS(...) 0, 0, (const char *const[]){__VA_ARGS__, NULL}
#define NONE 0, 0, NULL
#define UNSET(text) NULL
/* clang-format on */

#define QUEUE_BYTES_MAX (SIZE_MAX > UINT32_MAX ? (uint64_t)64 << 30 : (uint64_t)1 << 30)

const struct option option_table[OPTION_COUNT] = {
#define OPTION(key, variable, kind, type, field, fallback, limits, flags, since, sample, meaning)            \
	{#key, variable, option_take_##kind, fallback, offsetof(struct options, field),                          \
		sizeof(((struct options *)NULL)->field), _Generic((type){0}, char *: true, default: false), limits,  \
		flags},
#include "options/table.h"
};

size_t option_row(const char *key)
{
	size_t row;

	for (row = 0; row < OPTION_COUNT && strcmp(option_table[row].key, key) != 0; row++) {
	}
	return row;
}

/* ---- values ---- */

/* Of a field of any width but a string's. */
static uint64_t number_of(size_t row, const struct options *options)
{
	const char *field = (const char *)options + option_table[row].offset;

	switch (option_table[row].size) {
	case sizeof(uint8_t):
		return *(const uint8_t *)field;
	case sizeof(uint16_t):
		return *(const uint16_t *)field;
	case sizeof(uint32_t):
		return *(const uint32_t *)field;
	default:
		return *(const uint64_t *)field;
	}
}

static struct options_value value_of(size_t row, const struct options *options)
{
	const struct option *option = &option_table[row];
	struct options_value value = {.key = option->key};
	const char *string;

	if (option->is_string) {
		string = *(char *const *)((const char *)options + option->offset);
		value.kind = OPTIONS_TEXT;
		value.text = string ? string : "";
		return value;
	}
	value.number = number_of(row, options);
	if (option->choices) {
		value.kind = OPTIONS_TEXT;
		value.text = option->choices[value.number];
	} else if (option->take == option_take_boolean) {
		value.kind = OPTIONS_TRUTH;
	} else if (option->take == option_take_seconds) {
		value.kind = OPTIONS_MILLISECONDS;
	} else {
		value.kind = OPTIONS_NUMBER;
	}
	return value;
}

bool options_next_for_python(const struct options *options, size_t *row, struct options_value *ret_value)
{
	while (*row < OPTION_COUNT && !(option_table[*row].flags & FOR_PYTHON)) {
		(*row)++;
	}
	if (*row == OPTION_COUNT) {
		return false;
	}
	*ret_value = value_of((*row)++, options);
	return true;
}

/* ---- what has changed ---- */

static bool differs(size_t row, const struct options *before, const struct options *now)
{
	const char *field = (const char *)before + option_table[row].offset,
			   *other = (const char *)now + option_table[row].offset;

	if (row == ROW_client_id && before->client_id_is_made && now->client_id_is_made) {
		return false; /* it follows from others, or from the machine's name */
	}
	return option_table[row].is_string ? !text_equal(*(char *const *)field, *(char *const *)other)
									   : memcmp(field, other, option_table[row].size) != 0;
}

size_t options_changed_at_once(const struct options *before, const struct options *now, struct text *ret_text)
{
	size_t count = 0, row;

	for (row = 0; row < OPTION_COUNT; row++) {
		if ((option_table[row].flags & AT_ONCE) && differs(row, before, now)) {
			text_addf(ret_text, "%s%s is %" PRIu64 " now", count ? ", " : "", option_table[row].key,
					number_of(row, now));
			count++;
		}
	}
	return count;
}

size_t options_changed_for_later(const struct options *before, const struct options *now,
		struct text *ret_text)
{
	size_t count = 0, last = OPTION_COUNT, row;

	for (row = 0; row < OPTION_COUNT; row++) {
		if (!(option_table[row].flags & AT_ONCE) && differs(row, before, now)) {
			if (count) {
				text_addf(ret_text, "%s%s", count > 1 ? ", " : "", option_table[last].key);
			}
			last = row;
			count++;
		}
	}
	if (count) {
		text_addf(ret_text, "%s%s", count > 1 ? " and " : "", option_table[last].key);
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
	for (i = 0; i < OPTION_COUNT; i++) {
		if (option_table[i].is_string) {
			free(*(char **)((char *)options + option_table[i].offset));
		}
	}
	free_variables(options->variables, options->variable_count);
	free_variables(options->environment, options->environment_count);
	free(options->session_id);
	free(options->advice);
	free(options);
}
