#include "options/loader.h"

#include <stdlib.h>

#include "shared/mosquitto_api.h"

/* ---- sentences ---- */

void loader_begin_sentence(struct loader *loader)
{
	if (loader->errors.length > 0) {
		text_add(&loader->errors, "; ", 2);
	}
}

/* Begins a sentence about row with where its value came from. */
void loader_begin_sentence_about(struct loader *loader, size_t row)
{
	const struct given *given = &loader->given[row];

	loader_begin_sentence(loader);
	switch (given->source) {
	case SOURCE_ENVIRONMENT:
		text_addf(&loader->errors, "environment variable %s: ", option_table[row].variable);
		break;
	case SOURCE_DOTENV:
		text_add_visible(&loader->errors, loader->first->env_file);
		text_addf(&loader->errors, " line %zu, %s: ", given->line, option_table[row].variable);
		break;
	default:
		text_addf(&loader->errors, "option %s: ", option_table[row].key);
		break;
	}
}

/* ---- taking values ---- */

void loader_take(struct loader *loader, size_t row)
{
	struct given *given = &loader->given[row];
	void *field = (char *)loader->options + option_table[row].offset;
	struct text complaint = {0};
	int rc;

	if (given->done || !given->value) {
		return;
	}
	given->done = true;
	if (*given->value) {
		rc = option_table[row].take(&option_table[row], given->value, field, &complaint);
	} else {
		text_addf(&complaint, "has no value");
		rc = MOSQ_ERR_INVAL;
	}
	given->valid = rc == MOSQ_ERR_SUCCESS;
	if (rc == MOSQ_ERR_INVAL && !complaint.failed) {
		loader_begin_sentence_about(loader, row);
		text_add(&loader->errors, complaint.data, complaint.length);
	}
	loader->out_of_memory |= rc == MOSQ_ERR_NOMEM || complaint.failed;
	text_free(&complaint);
}
