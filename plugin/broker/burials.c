#include "broker/burials.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "durable/dead.h"
#include "durable/store.h"
#include "options/options.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/statistics.h"
#include "shared/text.h"

/* Replays, and burials that wait, in one turn of the broker's loop. */
#define AT_ONCE 16U

struct waiting {
	struct waiting *next;
	struct burial burial; /* its texts are its own */
};

struct burials {
	char *path;
	struct store *store;
	struct statistics *statistics;
	struct dead *dead;
	struct waiting *first, *last;
	size_t count;
	uint64_t refused_told; /* of dead_figures() */
	struct log_complaint failing, dropped, forgotten, expired;
};

struct burials *burials_new(const struct options *options, struct store *store, struct statistics *statistics,
		char *reason, size_t size)
{
	struct burials *burials = calloc(1, sizeof(*burials));
	struct text path = {0};

	text_addf(&path, "%s" BURIALS_SUFFIX, options->durable);
	if (burials) {
		burials->path = text_take(&path);
		burials->store = store;
		burials->statistics = statistics;
	} else {
		text_free(&path);
	}
	if (burials && burials->path) {
		burials->dead = dead_open(burials->path, options->durable_size,
				options->durable_sync == OPTIONS_SYNC_FULL, reason, size);
	}
	if (!burials || !burials->dead) {
		burials_free(burials);
		return NULL;
	}
	return burials;
}

static void forget(struct waiting *waiting)
{
	free((char *)waiting->burial.name);
	free((char *)waiting->burial.traceback);
	free(waiting);
}

void burials_free(struct burials *burials)
{
	struct waiting *waiting;

	if (!burials) {
		return;
	}
	while ((waiting = burials->first)) {
		burials->first = waiting->next;
		forget(waiting);
	}
	dead_close(burials->dead);
	free(burials->path);
	free(burials);
}

void burials_set_limit(struct burials *burials, uint64_t limit)
{
	dead_set_limit(burials->dead, limit);
}

/* ---- burying ---- */

static void note_dropped(struct burials *burials, size_t dropped)
{
	uint64_t times;

	if (dropped) {
		statistics_add(burials->statistics, STATISTICS_DURABLE_DEAD_DROPPED, dropped);
		if (log_may_complain(&burials->dropped, dropped, &times)) {
			log_line(MOSQ_LOG_WARNING,
					"%" PRIu64
					" dead letters, the oldest, made room for others: %s is as large as durable_size allows. Look at them "
					"with 'mqttasgi dead list', and replay or drop what is there.",
					times, burials->path);
		}
	}
}

static enum store_result add(struct burials *burials, const struct dead_letter *letter)
{
	size_t dropped = 0;
	enum store_result result = dead_add(burials->dead, letter, &dropped);
	uint64_t times;

	if (result == STORE_OK) {
		note_dropped(burials, dropped);
	} else if (log_may_complain(&burials->failing, 1, &times)) {
		log_line(result == STORE_BUSY ? MOSQ_LOG_INFO : MOSQ_LOG_ERR,
				"The dead letters %s cannot be written (%s), %" PRIu64
				" times; the message stays in the inbox, and it is tried again.",
				burials->path, store_result_text(result), times);
	}
	return result;
}

/* Returns whether that is done, or there is nothing to do. */
static bool bury(struct burials *burials, const struct burial *burial)
{
	struct store_delivery delivery;
	struct dead_letter letter;
	enum store_result result = store_next(burials->store, burial->consumer, burial->stored - 1, &delivery);

	if (result == STORE_NOT_FOUND || (result == STORE_OK && delivery.message.id != burial->stored)) {
		return true; /* it is not there any more */
	}
	if (result != STORE_OK) {
		return false;
	}
	letter = (struct dead_letter){.consumer = burial->name,
		.message = delivery.message,
		.identifier = delivery.recipient.identifier,
		.options = delivery.recipient.options,
		.tries = burial->tries,
		.reason = burial->reason,
		.traceback = burial->traceback ? burial->traceback : "",
		.died = time_of_day_ms()};
	if (add(burials, &letter) != STORE_OK) {
		return false;
	}
	if (store_done(burials->store, burial->stored, burial->consumer) != STORE_OK) {
		/* Then it comes again after the next start, and takes its own place among the dead letters. */
	}
	return true;
}

static void wait_with(struct burials *burials, const struct burial *burial)
{
	struct waiting *waiting = burials->count < BURIALS_MAX ? calloc(1, sizeof(*waiting)) : NULL;
	uint64_t times;

	if (waiting) {
		waiting->burial = *burial;
		waiting->burial.name = text_copy(burial->name, strlen(burial->name));
		waiting->burial.traceback =
				burial->traceback ? text_copy(burial->traceback, strlen(burial->traceback)) : NULL;
		if (waiting->burial.name) {
			if (burials->last) {
				burials->last->next = waiting;
			} else {
				burials->first = waiting;
			}
			burials->last = waiting;
			burials->count++;
			return;
		}
		forget(waiting);
	}
	if (log_may_complain(&burials->forgotten, 1, &times)) {
		log_line(MOSQ_LOG_WARNING,
				"%" PRIu64
				" messages that consumers failed at stay in the inbox and come again after the next start: the dead letters %s "
				"cannot be written.",
				times, burials->path);
	}
}

void burials_add(struct burials *burials, const struct burial *burial)
{
	if (strcmp(burial->reason, DEAD_BROKER_ENDED) == 0) {
		log_line(MOSQ_LOG_ERR,
				"A stored message for consumer %.200s is a dead letter: %" PRIu32
				" times the broker ended while it was handled, or before. 'mqttasgi dead list' shows it.",
				burial->name, burial->tries);
	}
	/* In their order. */
	if (burials->first || !bury(burials, burial)) {
		wait_with(burials, burial);
	}
}

bool burials_add_expired(struct burials *burials, const char *consumer, const struct store_delivery *delivery)
{
	const struct dead_letter letter = {.consumer = consumer,
		.message = delivery->message,
		.identifier = delivery->recipient.identifier,
		.options = delivery->recipient.options,
		.tries = delivery->tries,
		.reason = DEAD_EXPIRED,
		.traceback = "",
		.died = time_of_day_ms()};
	uint64_t times;

	if (add(burials, &letter) != STORE_OK) {
		return false;
	}
	if (log_may_complain(&burials->expired, 1, &times)) {
		log_line(MOSQ_LOG_WARNING,
				"%" PRIu64
				" stored messages are dead letters, because their consumer was not there within durable_keep; the last is for "
				"%.200s. 'mqttasgi dead list' shows them.",
				times, consumer);
	}
	return true;
}

/* ---- now and then ---- */

static void bury_waiting(struct burials *burials)
{
	struct waiting *waiting;
	size_t i;

	for (i = 0; i < AT_ONCE && (waiting = burials->first) && bury(burials, &waiting->burial); i++) {
		burials->first = waiting->next;
		if (!burials->first) {
			burials->last = NULL;
		}
		burials->count--;
		forget(waiting);
	}
}

void burials_tick(struct burials *burials, bool (*take)(void *userdata, const struct dead_letter *letter),
		void *userdata)
{
	enum store_result result;
	struct dead_figures figures;
	size_t taken = 0;
	uint64_t times;

	bury_waiting(burials);
	result = dead_take_replay(burials->dead, take, userdata, AT_ONCE, &taken);
	if (result != STORE_OK && result != STORE_BUSY && log_may_complain(&burials->failing, 1, &times)) {
		log_line(MOSQ_LOG_ERR,
				"The dead letters %s cannot be read (%s), %" PRIu64
				" times: what is to be handled again is not. It is tried again.",
				burials->path, store_result_text(result), times);
	}
	figures = dead_figures(burials->dead);
	statistics_set(burials->statistics, STATISTICS_DURABLE_DEAD, figures.messages);
	if (figures.refused != burials->refused_told) {
		log_line(MOSQ_LOG_WARNING,
				"%" PRIu64
				" dead letters are not handled again: their rows in %s are no messages. They stay there.",
				figures.refused - burials->refused_told, burials->path);
		burials->refused_told = figures.refused;
	}
}
