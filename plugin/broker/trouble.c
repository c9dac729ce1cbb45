#include "broker/trouble.h"

#include <inttypes.h>

#include "broker/deliver.h"
#include "shared/mosquitto_api.h"

void trouble_storing(const struct trouble *trouble, struct log_complaint *complaint, enum store_result result,
		const char *topic, const char *consequence)
{
	uint64_t times;

	if (!log_may_complain(complaint, 1, &times)) {
		return;
	}
	if (result == STORE_FULL) {
		log_line(MOSQ_LOG_ERR,
				"The durable inbox %s is full (durable_size, %" PRIu64
				" bytes): consumers handle less than comes, or are not there. %" PRIu64
				" messages %s, the last on topic '" DELIVER_TOPIC
				"'. Raise durable_size, or see which consumer lags.",
				trouble->path, trouble->size, times, consequence, topic);
	} else {
		log_line(MOSQ_LOG_ERR,
				"The durable inbox %s cannot be written (%s): %" PRIu64
				" messages %s, the last on topic '" DELIVER_TOPIC
				"'. It goes on when it can be written again.",
				trouble->path, store_result_text(result), times, consequence, topic);
	}
}

void trouble_failing(struct trouble *trouble, enum store_result result, const char *what)
{
	uint64_t times;

	if (result != STORE_OK && result != STORE_NOT_FOUND && log_may_complain(&trouble->failing, 1, &times)) {
		log_line(MOSQ_LOG_ERR, "The durable inbox %s: %s failed (%s), %" PRIu64 " times. It is tried again.",
				trouble->path, what, store_result_text(result), times);
	}
}
