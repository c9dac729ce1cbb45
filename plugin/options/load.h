/* Makes struct options of what the administrator has written: lines, environment, `.env` file.
 *
 * Broker thread only: it reads the environment. */
#ifndef MQTTASGI_LOAD_H
#define MQTTASGI_LOAD_H

#include "options/options.h"

struct mosquitto_opt;

/* Reads, validates and returns all options.
 * MOSQ_ERR_SUCCESS: *ret_options is the caller's, to be given to options_free().
 * MOSQ_ERR_INVAL or MOSQ_ERR_NOMEM: *ret_error is one line that names every wrong key, its value (never a
 * password) and what is allowed; the caller frees it with free(); NULL when memory ran out.
 * It may be longer than the 1,000 bytes of a line in the broker's log. */
int options_load(const struct mosquitto_opt *lines, int line_count, struct options **ret_options,
		char **ret_error) __attribute__((warn_unused_result));

/* The same with other lines, and what first, which options_load() made, found in the environment and in the
 * `.env` file: both have become the application's since, which may change the one, and which would know
 * nothing of a change of the other. The new struct has no variables. */
int options_load_again(const struct mosquitto_opt *lines, int line_count, const struct options *first,
		struct options **ret_options, char **ret_error) __attribute__((warn_unused_result));

#endif
