/* What the parts of options_load() share: the values found so far, where they come from, and what is wrong
 * with them.
 *
 * Broker thread only. */
#ifndef MQTTASGI_LOADER_H
#define MQTTASGI_LOADER_H

#include <stdbool.h>
#include <stddef.h>

#include "options/options.h"
#include "options/rows.h"
#include "shared/text.h"

struct mosquitto_opt;

enum source { SOURCE_DEFAULT, SOURCE_LINE, SOURCE_ENVIRONMENT, SOURCE_DOTENV };

/* Where the value of a row comes from. */
struct given {
	enum source source;
	const char *value; /* NULL: none. Borrowed from loader.first, or it is `owned` */
	char *owned;
	size_t line; /* in the `.env` file */
	bool done;   /* it is in the struct now, or a sentence says why not */
	bool valid;  /* it is in the struct now */
};

struct loader {
	const struct mosquitto_opt *lines;
	int line_count;
	struct options *options;
	const struct options *first;      /* whose environment and `.env` file count: options itself at start */
	struct given given[OPTION_COUNT]; /* one per row of the table */
	struct text errors;               /* the sentences so far, "; " between */
	bool out_of_memory;
};

void loader_begin_sentence(struct loader *loader);

/* Begins a sentence about row with where its value came from. */
void loader_begin_sentence_about(struct loader *loader, size_t row);

/* Puts the row's value into the struct, once, or says what is wrong with it. */
void loader_take(struct loader *loader, size_t row);

#endif
