/* What the log says of the durable inbox's file: a line a second for each kind of trouble. Broker thread
 * only. */
#ifndef MQTTASGI_TROUBLE_H
#define MQTTASGI_TROUBLE_H

#include <stdint.h>

#include "durable/result.h"
#include "shared/log.h"

struct trouble {
	const char *path;
	uint64_t size; /* durable_size */
	struct log_complaint refused, unstored, failing;
};

/* A message on this topic could not be stored; consequence: what the messages of this complaint, one of
 * those above, do instead, as `were refused`. */
void trouble_storing(const struct trouble *trouble, struct log_complaint *complaint, enum store_result result,
		const char *topic, const char *consequence);

/* Something else failed, unless result is STORE_OK or STORE_NOT_FOUND. */
void trouble_failing(struct trouble *trouble, enum store_result result, const char *what);

#endif
