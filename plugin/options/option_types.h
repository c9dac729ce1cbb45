/* What an option's value may look like.
 *
 * One function per kind of value. It parses value into the field, or says in complaint what is wrong with it,
 * as the end of a sentence that begins with the option's name. Broker thread only, at start. */
#ifndef MQTTASGI_OPTION_TYPES_H
#define MQTTASGI_OPTION_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/text.h"

struct option;

/* MOSQ_ERR_SUCCESS, MOSQ_ERR_INVAL with a complaint, or MOSQ_ERR_NOMEM. */
typedef int option_take(const struct option *option, const char *value, void *field, struct text *complaint);

/* One row of the table, see table.h. */
struct option {
	const char *key;            /* after `plugin_opt_` */
	const char *variable;       /* in the environment and in `.env` */
	option_take *take;          /* its type, one of those below */
	const char *fallback;       /* the default, written as the administrator would; NULL: none */
	size_t offset;              /* of the field in struct options */
	size_t size;                /* of the field */
	bool is_string;             /* the field is a char *, which options_free() frees */
	uint64_t min, max;          /* of numbers, in the field's unit */
	const char *const *choices; /* names in the order of the enum, NULL at the end */
	unsigned int flags;
};

option_take option_take_number;      /* min to max; field of any width */
option_take option_take_bytes;       /* the same with k, M or G after it */
option_take option_take_seconds;     /* with a fraction, into milliseconds */
option_take option_take_boolean;     /* true, yes, on, 1 and their opposites */
option_take option_take_choice;      /* into an enum */
option_take option_take_string;      /* without control characters */
option_take option_take_secret;      /* anything; never quoted in a complaint */
option_take option_take_application; /* package.module:name */
option_take option_take_file;        /* can be read */
option_take option_take_folders;     /* with ':' between them, can be read */
option_take option_take_virtualenv;  /* folder with bin/python3 or bin/python in it */

/* Adds `"/root/cert.pem" cannot be read by user mosquitto: Permission denied`. */
void option_cannot_read(struct text *complaint, const char *path, int error);

#endif
