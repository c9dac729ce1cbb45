/* The table of options (table.h) as the functions of options_load() see it: one struct option for each row.
 * It is in options.c, which frees by it, and says by it what has changed. */
#ifndef MQTTASGI_ROWS_H
#define MQTTASGI_ROWS_H

#include <stddef.h>

#include "options/option_types.h"

#define NOT_IN_DOTENV 1u
#define SECRET 2u
#define AT_ONCE 4u
#define OF_SESSION 8u
#define IN_COMMAND 16u
#define FOR_PYTHON 32u

/* Where a row is in the table: ROW_host and so on. */
enum {
#define OPTION(key, ...) ROW_##key,
#include "options/table.h"
	OPTION_COUNT
};

extern const struct option option_table[OPTION_COUNT];

/* OPTION_COUNT where no option is called key. */
size_t option_row(const char *key);

#endif
