/* Where values of options come from: lines, environment, `.env` file, defaults.
 *
 * Each function gives the rows that have no value yet what its source says of them. Broker thread only. */
#ifndef MQTTASGI_SOURCES_H
#define MQTTASGI_SOURCES_H

#include "options/loader.h"

void gather_lines(struct loader *loader);

/* Keeps of the environment what are options. */
void keep_environment(struct loader *loader);

/* Gives the rows that have no value yet those of the variables. */
void gather_variables(
		struct loader *loader, enum source source, const struct options_variable *variables, size_t count);

/* Finds the `.env` file, and reads it if this is the start. */
void load_dotenv(struct loader *loader);

void gather_defaults(struct loader *loader);

#endif
