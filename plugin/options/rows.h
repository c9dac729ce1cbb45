/* The table of options as C sees it: one struct option for each row. */
#ifndef MQTTASGI_ROWS_H
#define MQTTASGI_ROWS_H

#include <stddef.h>

#include "options/option_types.h"

#define NOT_IN_DOTENV 1u /* names the `.env` file: too late to read it there */
#define SECRET 2u
#define AT_ONCE 4u /* a number that can change while the broker runs; see broker_adopt() */

#define TABLE_LENGTH 33

extern const struct option table[TABLE_LENGTH];

/* TABLE_LENGTH where no option is called key. */
size_t row_of(const char *key);

#endif
