/* DESIGN
 * A message is stored once, with a row for each consumer. Its way to them is as without a durable inbox; what
 * is read from the file is only for those that are behind. A consumer's `position` is the last message that
 * was handed over to it: what is stored above that is still to come. What the session brings has ids of its
 * own kind and goes by the session's way in this life of the process, so reading passes it by. */
#include "broker/keeper.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/burials.h"
#include "broker/byline.h"
#include "broker/deliver.h"
#include "broker/lanes.h"
#include "broker/lanes_message.h"
#include "broker/readers.h"
#include "broker/trouble.h"
#include "durable/dead.h"
#include "durable/schema.h"
#include "durable/store.h"
#include "options/options.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"
#include "shared/stored_ids.h"
#include "shared/text.h"

/* What one turn of the broker's loop hands over from the file, a millisecond's worth. */
#define PORTION 256U
/* What one consumer may have in hand, as a share of the inbound queue's bounds: so none that does not get on
 * takes the others' room. Beyond it, what is stored waits in the file. */
#define SHARE 16U
#define SHARE_MIN 4U
#define TICK_MS 100U
/* Turns of the loop in which a message is tried to be read before it is passed by. */
#define READ_TRIES 64U
/* How many come one by one, each when the one before it was handled, where the process has died of one. */
#define CAREFUL 64U
/* How often a consumer that is there is noted to be, in a share of the time after which it is missed. */
#define ASK_SHARE 4
#define ASKED_AT_ONCE 64U
#define EXPIRE_S 60
#define EXPIRED_AT_ONCE 64U

/* In a stored recipient's options, beside Subscription Options (MQTT 5, 3.8.3.1). */
#define STORED_REDELIVERED 0x10U
#define STORED_RETAINED 0x20U

/* When it was last done, by the clock that nobody sets. */
struct last {
	uint64_t tick_ms;
	time_t measured, expired, asked;
};

struct keeper {
	const struct options *options;
	struct queue *inbound;
	struct lanes *lanes;
	struct statistics *statistics;
	struct store *store;
	struct burials *burials;
	struct stored_ids ids;
	uint64_t first_id;         /* of this life of the process */
	uint64_t given_up;         /* store_figures(), as the log has it */
	struct readers_share most; /* that one consumer may have in hand */
	struct readers readers;

	/* Room for those of one message. */
	struct store_recipient *wanted;
	struct recipient *ready;
	size_t capacity;

	struct byline byline;
	struct last last;
	struct reader *to_ask; /* the next; NULL: all have been */
	struct trouble trouble;
};

/* ---- its life ---- */

static void set_bounds(struct keeper *keeper, const struct options *options)
{
	keeper->trouble.size = options->durable_size;
	keeper->most.messages = options->queue_size < SHARE * SHARE_MIN ? SHARE_MIN : options->queue_size / SHARE;
	keeper->most.bytes = options->queue_bytes / SHARE;
}

static void say_what_waits(const struct keeper *keeper)
{
	struct store_figures figures = store_figures(keeper->store);

	if (figures.messages > 0) {
		log_line(MOSQ_LOG_NOTICE, "The durable inbox %s has %" PRIu64 " messages that were not handled.",
				keeper->trouble.path, figures.messages);
	}
}

struct keeper *keeper_new(const struct options *options, struct queue *inbound, struct lanes *lanes,
		struct statistics *statistics)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	char reason[1200] = "There is no memory for the durable inbox.";

	if (keeper) {
		keeper->store = store_open(options->durable,
				options->durable_sync == OPTIONS_SYNC_FULL ? STORE_SYNC_FULL : STORE_SYNC_PROCESS,
				options->durable_size, reason, sizeof(reason));
	}
	if (keeper && keeper->store) {
		keeper->burials = burials_new(options, keeper->store, statistics, reason, sizeof(reason));
	}
	if (!keeper || !keeper->burials) {
		log_line(MOSQ_LOG_ERR, "%s", reason);
		keeper_free(keeper);
		return NULL;
	}
	keeper->options = options;
	keeper->trouble.path = options->durable;
	keeper->inbound = inbound;
	keeper->lanes = lanes;
	keeper->statistics = statistics;
	set_bounds(keeper, options);
	say_what_waits(keeper);
	stored_ids_init(&keeper->ids, store_newest(keeper->store));
	keeper->first_id = stored_ids_now(&keeper->ids);
	return keeper;
}

bool keeper_check(const struct options *options)
{
	char reason[1200];
	bool is_right = schema_check(options->durable, reason, sizeof(reason));

	if (!is_right) {
		log_line(MOSQ_LOG_ERR, "%s", reason);
	}
	return is_right;
}

void keeper_free(struct keeper *keeper)
{
	if (!keeper) {
		return;
	}
	burials_free(keeper->burials);
	store_close(keeper->store);
	readers_clear(&keeper->readers);
	byline_clear(&keeper->byline);
	free(keeper->wanted);
	free(keeper->ready);
	free(keeper);
}

void keeper_adopt(struct keeper *keeper, const struct options *options)
{
	if (keeper) {
		set_bounds(keeper, options);
		store_set_limit(keeper->store, options->durable_size);
		burials_set_limit(keeper->burials, options->durable_size);
	}
}

struct stored_ids *keeper_ids(struct keeper *keeper)
{
	return keeper ? &keeper->ids : NULL;
}

/* ---- storing ---- */

static bool make_room(struct keeper *keeper, size_t count)
{
	struct store_recipient *wanted;
	struct recipient *ready;

	if (count <= keeper->capacity) {
		return true;
	}
	wanted = realloc(keeper->wanted, count * sizeof(*wanted));
	if (wanted) {
		keeper->wanted = wanted;
	}
	ready = realloc(keeper->ready, count * sizeof(*ready));
	if (ready) {
		keeper->ready = ready;
	}
	if (!wanted || !ready) {
		return false;
	}
	keeper->capacity = count;
	return true;
}

static bool is_durable(const struct recipient *recipient, uint8_t qos)
{
	return recipient->qos > 0 && qos > 0;
}

/* Its number, for which the disk had no room when it came. */
static enum store_result find_number(struct keeper *keeper, struct reader *reader)
{
	if (reader->number) {
		return STORE_OK;
	}
	return store_consumer(keeper->store, reader->name, time_of_day_ms(), &reader->number);
}

/* Those that get it with QoS 1 or 2, each once, into keeper->wanted. */
static enum store_result find_wanted(struct keeper *keeper, const struct recipient *recipients, size_t count,
		uint8_t qos, uint64_t stored, unsigned int flags, size_t *ret_wanted)
{
	enum store_result result;
	struct reader *reader;
	size_t i;

	*ret_wanted = 0;
	for (i = 0; i < count; i++) {
		reader = is_durable(&recipients[i], qos) ? readers_of_handle(&keeper->readers, recipients[i].consumer)
												 : NULL;
		if (!reader || reader->stored == stored) {
			continue;
		}
		result = find_number(keeper, reader);
		if (result != STORE_OK) {
			return result;
		}
		reader->stored = stored;
		keeper->wanted[(*ret_wanted)++] = (struct store_recipient){.consumer = reader->number,
			.identifier = recipients[i].subscription,
			.options = (uint8_t)(recipients[i].qos |
					(recipients[i].retain_as_published ? MQTT_SUB_OPT_RETAIN_AS_PUBLISHED : 0U) | flags)};
	}
	return STORE_OK;
}

/* STORE_NOT_FOUND: nobody gets it with QoS 1 or 2. */
static enum store_result put(struct keeper *keeper, struct store_message *message,
		const struct client *client, const struct recipient *recipients, size_t count, unsigned int flags)
{
	enum store_result result;
	size_t wanted;

	if (!make_room(keeper, count)) {
		return STORE_NO_MEMORY;
	}
	result = find_wanted(keeper, recipients, count, message->qos, message->id, flags, &wanted);
	if (result != STORE_OK || wanted == 0) {
		return result == STORE_OK ? STORE_NOT_FOUND : result;
	}
	message->time = time_of_day_ms();
	byline_of(&keeper->byline, client, &message->publisher, &message->publisher_length);
	return store_put(keeper->store, message, keeper->wanted, wanted, &message->id);
}

bool keeper_keep(struct keeper *keeper, const struct lanes_message *published,
		const struct recipient *recipients, size_t count, bool by_session, uint64_t *ret_stored)
{
	struct store_message message;
	enum store_result result;

	*ret_stored = 0;
	if (!keeper || published->qos == 0) {
		return true;
	}
	message = (struct store_message){.id = stored_ids_take(&keeper->ids, by_session),
		.content = published->content,
		.qos = published->qos,
		.retain = published->retain};
	result = published->is_incomplete ? STORE_NO_MEMORY
									  : put(keeper, &message, published->client, recipients, count, 0);
	if (result == STORE_OK) {
		*ret_stored = message.id;
	} else if (result != STORE_NOT_FOUND) {
		statistics_add(keeper->statistics, STATISTICS_DURABLE_REFUSED, 1);
		trouble_storing(&keeper->trouble, &keeper->trouble.refused, result, published->content.topic,
				"were refused, so their publishers keep them");
		return false;
	}
	return true;
}

/* Returns whether it is stored. */
static bool put_anyway(struct keeper *keeper, struct store_message *message, const struct message *publish,
		const struct recipient *recipients, size_t count, unsigned int flags)
{
	enum store_result result = put(keeper, message, publish->client, recipients, count, flags);

	if (result != STORE_OK && result != STORE_NOT_FOUND) {
		statistics_add(keeper->statistics, STATISTICS_DURABLE_UNSTORED, 1);
		trouble_storing(&keeper->trouble, &keeper->trouble.unstored, result, publish->topic,
				"of consumers or the session go on without being stored");
	}
	return result == STORE_OK;
}

uint64_t keeper_keep_own(struct keeper *keeper, const struct message *publish,
		const struct recipient *recipients, size_t count)
{
	struct store_message message;

	if (!keeper || publish->as.publish.qos == 0) {
		return 0;
	}
	message = (struct store_message){.id = stored_ids_take(&keeper->ids, false),
		.content = message_content(publish),
		.qos = publish->as.publish.qos,
		.retain = publish->as.publish.retain};
	return put_anyway(keeper, &message, publish, recipients, count, 0) ? message.id : 0;
}

void keeper_store(struct keeper *keeper, const struct message *publish)
{
	struct store_message message;

	if (keeper) {
		message = (struct store_message){.id = publish->as.publish.stored,
			.content = message_content(publish),
			.qos = publish->as.publish.qos,
			.retain = publish->as.publish.retain};
		(void)put_anyway(keeper, &message, publish, publish->recipients, publish->recipient_count,
				publish->as.publish.is_retained ? STORED_RETAINED : 0U);
	}
}

/* ---- handing over what has just been stored ---- */

const struct recipient *keeper_ready(struct keeper *keeper, const struct recipient *recipients, size_t *count,
		uint8_t qos)
{
	struct reader *reader;
	size_t ready = 0, i;

	if (!keeper) {
		return recipients;
	}
	/* There is room: the message was stored. */
	for (i = 0; i < *count; i++) {
		reader = is_durable(&recipients[i], qos) ? readers_of_handle(&keeper->readers, recipients[i].consumer)
												 : NULL;
		if (reader && !reader->is_behind && !readers_may_take(reader, &keeper->most)) {
			reader->is_behind = true; /* until it has less in hand */
		}
		if (!reader || (!reader->is_behind && reader_handle(reader) == recipients[i].consumer)) {
			keeper->ready[ready++] = recipients[i];
		}
	}
	*count = ready;
	return keeper->ready;
}

void keeper_note(struct keeper *keeper, uint64_t stored, uint8_t qos, size_t size,
		const struct recipient *recipients, size_t count, bool was_handed_over)
{
	struct reader *reader;
	size_t i;

	for (i = 0; keeper && stored && i < count; i++) {
		reader = is_durable(&recipients[i], qos) ? readers_of_handle(&keeper->readers, recipients[i].consumer)
												 : NULL;
		if (reader && was_handed_over) {
			reader->position = stored;
			readers_hand_over(reader, size);
		} else if (reader) {
			readers_fall_behind(&keeper->readers, reader);
		}
	}
}

/* ---- reading ---- */

/* Whether this delivery is what the last life of the process may have died of, too often. Otherwise a try is
 * counted: if the process dies of it once more, that is in the file already. */
static bool is_fatal(struct keeper *keeper, struct reader *reader, const struct store_delivery *delivery)
{
	uint64_t id = delivery->message.id;
	uint32_t tries = delivery->tries;

	if (!reader->has_suspect || id >= keeper->first_id || id == reader->suspect) {
		return false;
	}
	if (tries >= keeper->options->durable_tries) {
		return true;
	}
	/* It may have been handled, and the process have died of one behind it before that was in the file. The
	 * second time they come one by one. */
	if (reader->careful > 0) {
		reader->careful--;
	} else if (tries > 0 || keeper->options->durable_tries == 1) {
		reader->careful = CAREFUL;
	}
	reader->has_suspect = reader->careful > 0;
	reader->suspect = id;
	trouble_failing(&keeper->trouble, store_failed(keeper->store, id, reader->number, &tries),
			"counting a try");
	return false;
}

/* See lanes_recalls(). */
static void recall(const struct keeper *keeper, const struct store_delivery *delivery)
{
	if (delivery->message.id < keeper->first_id) {
		lanes_recalls(keeper->lanes,
				&(struct lanes_message){.content = delivery->message.content,
					.qos = delivery->message.qos,
					.retain = delivery->message.retain});
	}
}

static struct message *make_message(struct keeper *keeper, const struct reader *reader,
		const struct store_delivery *delivery)
{
	unsigned int options = delivery->recipient.options;
	const struct recipient recipient = {.consumer = reader_handle(reader),
		.subscription = delivery->recipient.identifier,
		.qos = options & TOPICS_QOS,
		.own_qos = -1,
		.retain_as_published = options & MQTT_SUB_OPT_RETAIN_AS_PUBLISHED};
	struct message *message = message_publish(&delivery->message.content, &recipient, 1);

	if (message) {
		message->as.publish = (struct message_of_publish){.stored = delivery->message.id,
			.tries = delivery->tries,
			.qos = delivery->message.qos,
			.retain = delivery->message.retain,
			.is_retained = options & STORED_RETAINED,
			.is_redelivered = options & STORED_REDELIVERED || delivery->message.id <= reader->came_at};
		message->client =
				byline_read(&keeper->byline, delivery->message.publisher, delivery->message.publisher_length);
	}
	return message;
}

/* Whether a message that cannot be read is left where it is, so that those behind it come: at once where it
 * is damaged, and after some tries where the disk fails. */
static bool pass_by(struct reader *reader, uint64_t id, enum store_result result)
{
	if (id == 0 || (result != STORE_CORRUPT && result != STORE_FAILED)) {
		return false;
	}
	if (result == STORE_FAILED && ++reader->unreadable < READ_TRIES) {
		return false;
	}
	log_line(MOSQ_LOG_ERR,
			"A message for consumer %.200s cannot be read in the durable inbox (%s) and is left there; the others come. "
			"'sqlite3 FILE .recover' may get it back while the broker does not run.",
			reader->name, store_result_text(result));
	reader->unreadable = 0;
	readers_advance(reader, id);
	return true;
}

/* The next that its predecessor has left; the reader has lost nothing any more: there is none. */
static enum store_result find_lost(struct keeper *keeper, struct reader *reader,
		struct store_delivery *ret_delivery)
{
	enum store_result result = store_next(keeper->store, reader->number, reader->lost, ret_delivery);

	reader->has_lost = result != STORE_NOT_FOUND && ret_delivery->message.id <= reader->predecessors;
	return result == STORE_NOT_FOUND ? STORE_OK : result;
}

/* The next for the reader, unless the inbound queue has no room. STORE_NOT_FOUND: it has caught up. */
static enum store_result hand_over_next(struct keeper *keeper, struct reader *reader, bool *ret_has_room)
{
	struct store_delivery delivery = {0};
	struct message *message;
	enum store_result result = find_number(keeper, reader);
	bool is_redelivered;
	uint64_t id;
	size_t size;

	if (result == STORE_OK && reader->has_lost) {
		result = find_lost(keeper, reader, &delivery);
	}
	if (result == STORE_OK && !reader->has_lost) {
		result = store_next(keeper->store, reader->number, reader->position, &delivery);
	}
	id = delivery.message.id;
	if (result != STORE_OK) {
		return pass_by(reader, id, result) ? STORE_OK : result;
	}
	if (stored_ids_is_of_session(id) && id > reader->came_at) {
		readers_advance(reader, id);
		return STORE_OK;
	}
	message = make_message(keeper, reader, &delivery);
	if (!message) {
		return STORE_NO_MEMORY;
	}
	recall(keeper, &delivery);
	/* From here on the delivery is not to be read any more. */
	if (is_fatal(keeper, reader, &delivery)) {
		burials_add(keeper->burials,
				&(struct burial){.consumer = reader->number,
					.name = reader->name,
					.stored = id,
					.tries = message->as.publish.tries,
					.reason = DEAD_BROKER_ENDED});
		readers_advance(reader, id);
		message_free(message);
		return STORE_OK;
	}
	is_redelivered = message->as.publish.is_redelivered;
	size = message_size(message);
	*ret_has_room = queue_push(keeper->inbound, message);
	if (!*ret_has_room) {
		message_free(message);
		return STORE_OK;
	}
	reader->unreadable = 0;
	readers_advance(reader, id);
	readers_hand_over(reader, size);
	statistics_add(keeper->statistics, STATISTICS_RECEIVED, 1);
	statistics_add(keeper->statistics, STATISTICS_DURABLE_REDELIVERED, is_redelivered);
	return STORE_OK;
}

/* Returns how much of the portion was used. */
static size_t read_for(struct keeper *keeper, struct reader *reader, size_t portion, bool *ret_has_room)
{
	enum store_result result = STORE_OK;
	size_t done;

	for (done = 0; done < portion && result == STORE_OK && *ret_has_room; done++) {
		if (!readers_may_take(reader, &keeper->most)) {
			return done + 1; /* take_done() lists it again */
		}
		result = hand_over_next(keeper, reader, ret_has_room);
	}
	if (result == STORE_NOT_FOUND) {
		reader->is_behind = false;
		return done;
	}
	if (result != STORE_OK) {
		trouble_failing(&keeper->trouble, result, "reading what waits");
		*ret_has_room = false; /* until the next tick */
	}
	readers_fall_behind(&keeper->readers, reader);
	return done;
}

/* Returns whether there is more, and room for it. */
static bool read_portion(struct keeper *keeper, size_t portion)
{
	struct reader *reader;
	bool has_room = true;

	while (portion > 0 && has_room && (reader = readers_take(&keeper->readers))) {
		/* One that has gone meanwhile is not there to be read for. */
		portion -= reader->current && reader->is_behind ? read_for(keeper, reader, portion, &has_room) : 1;
	}
	return has_room && keeper->readers.first_listed;
}

/* ---- what the loop thread says ---- */

static void add_consumer(struct keeper *keeper, const struct message *word)
{
	struct reader *reader = readers_add(&keeper->readers, word->topic, word->as.consumer.handle);

	if (!reader) {
		log_line(MOSQ_LOG_ERR,
				"No memory: nothing is stored in the durable inbox for consumer %.200s until the broker is started again.",
				word->topic);
		return;
	}
	/* If that cannot be, what comes for it is refused until it can. */
	trouble_failing(&keeper->trouble, find_number(keeper, reader), "noting who is there");
	reader->came_at = stored_ids_now(&keeper->ids);
	if (reader->handles == 1) {
		/* What its predecessor had not handled comes again. */
		reader->position = 0;
	} else {
		/* That is still at it. */
		reader->predecessors = reader->position;
	}
	readers_fall_behind(&keeper->readers, reader);
	(void)read_portion(keeper, reader->handles == 1 && !keeper->last.tick_ms ? SIZE_MAX : PORTION);
}

/* A consumer is done with something that it had in hand. */
static void note_done(struct keeper *keeper, uint64_t handle, struct reader *reader)
{
	readers_done(&keeper->readers, handle);
	if (reader->is_behind && readers_may_take(reader, &keeper->most)) {
		readers_fall_behind(&keeper->readers, reader);
	}
}

static void take_done(struct keeper *keeper, const struct message *word)
{
	const char *at = word->payload, *end = at + word->payload_length;
	struct message_handled handled;
	struct reader *reader;

	for (; at && at < end; at += sizeof(handled)) {
		memcpy(&handled, at, sizeof(handled));
		reader = readers_of_handle(&keeper->readers, handled.consumer);
		if (reader) {
			trouble_failing(&keeper->trouble, store_done(keeper->store, handled.stored, reader->number),
					"taking out what was handled");
			note_done(keeper, handled.consumer, reader);
		}
	}
}

static void take_failed(struct keeper *keeper, const struct message *word)
{
	const struct message_of_failed *failed = &word->as.failed;
	struct reader *reader = readers_of_handle(&keeper->readers, failed->consumer);
	uint32_t tries;

	if (!reader) {
		return;
	}
	if (failed->is_dead) {
		note_done(keeper, failed->consumer, reader);
		burials_add(keeper->burials,
				&(struct burial){.consumer = reader->number,
					.name = reader->name,
					.stored = failed->stored,
					.tries = failed->tries,
					.reason = DEAD_FAILED,
					.traceback = word->topic});
	} else if (failed->stored == reader->suspect) {
		reader->suspect = 0; /* counted already */
	} else {
		trouble_failing(&keeper->trouble, store_failed(keeper->store, failed->stored, reader->number, &tries),
				"counting a try");
	}
}

void keeper_carry_out(struct keeper *keeper, const struct message *word)
{
	if (!keeper) {
		return;
	}
	switch (word->kind) {
	case MESSAGE_CONSUMER:
		add_consumer(keeper, word);
		break;
	case MESSAGE_CONSUMER_GONE:
		readers_remove(&keeper->readers, word->as.consumer.handle, word->as.consumer.keeps);
		break;
	case MESSAGE_DONE:
		take_done(keeper, word);
		break;
	default: /* MESSAGE_FAILED */
		take_failed(keeper, word);
		break;
	}
}

/* ---- now and then ---- */

static void measure(struct keeper *keeper)
{
	struct store_figures figures = store_figures(keeper->store);
	int64_t age = figures.oldest ? time_of_day_ms() - figures.oldest : 0;

	statistics_set(keeper->statistics, STATISTICS_DURABLE_MESSAGES, figures.messages);
	statistics_set(keeper->statistics, STATISTICS_DURABLE_BYTES, figures.bytes);
	statistics_set(keeper->statistics, STATISTICS_DURABLE_OLDEST, age > 0 ? (uint64_t)age / 1000U : 0);
	if (figures.given_up != keeper->given_up) {
		log_line(MOSQ_LOG_ERR,
				"%" PRIu64
				" stored messages are in damaged places of %s, and may come again after each start. Look after the disk; to "
				"start with an empty inbox, move the file away while the broker does not run.",
				figures.given_up - keeper->given_up, keeper->options->durable);
		keeper->given_up = figures.given_up;
	}
}

static time_t keep_s(const struct keeper *keeper)
{
	return (time_t)(keeper->options->durable_keep_ms / 1000U);
}

/* Notes of consumers that are there that they are, so many of them. */
static void ask(struct keeper *keeper, size_t most)
{
	for (; keeper->to_ask && most > 0; keeper->to_ask = keeper->to_ask->next) {
		if (keeper->to_ask->current && keeper->to_ask->number) {
			trouble_failing(&keeper->trouble,
					store_asked(keeper->store, keeper->to_ask->number, time_of_day_ms()),
					"noting who is there");
			most--;
		}
	}
}

/* Some at a time, long before they would be missed. */
static void ask_some(struct keeper *keeper, time_t now)
{
	if (!keeper->to_ask && now - keeper->last.asked > keep_s(keeper) / ASK_SHARE) {
		keeper->to_ask = keeper->readers.all;
		keeper->last.asked = now;
	}
	ask(keeper, ASKED_AT_ONCE);
}

/* The store forgets those that are gone with their last message; what still comes for them needs a number. */
static void renew_gone(struct keeper *keeper, time_t now)
{
	struct reader *reader;

	for (reader = keeper->readers.all; reader; reader = reader->next) {
		if (!reader->current && now - reader->gone_at > keep_s(keeper)) {
			reader->gone_at = now;
			reader->number = 0;
		}
	}
}

static bool bury_expired(void *userdata, const char *consumer, const struct store_delivery *delivery)
{
	struct keeper *keeper = userdata;

	return burials_add_expired(keeper->burials, consumer, delivery);
}

static void expire(struct keeper *keeper, time_t now)
{
	size_t taken = 0;
	enum store_result result;

	if (keep_s(keeper) < ASK_SHARE * EXPIRE_S) {
		/* What is asked now and then would be too seldom. */
		keeper->to_ask = keeper->readers.all;
		ask(keeper, SIZE_MAX);
	}
	result = store_expire(keeper->store, time_of_day_ms() - (int64_t)keeper->options->durable_keep_ms,
			EXPIRED_AT_ONCE, bury_expired, keeper, &taken);
	trouble_failing(&keeper->trouble, result, "looking for what nobody asks for");
	if (taken < EXPIRED_AT_ONCE) {
		keeper->last.expired = now;
		renew_gone(keeper, now);
		keeper->to_ask = NULL;
		readers_sweep(&keeper->readers);
	}
}

/* What somebody wants to have handled again. */
static bool replay(void *userdata, const struct dead_letter *letter)
{
	struct keeper *keeper = userdata;
	struct store_message message = letter->message;
	struct store_recipient recipient = {
		.identifier = letter->identifier, .options = letter->options | STORED_REDELIVERED};
	struct reader *reader;
	enum store_result result =
			store_consumer(keeper->store, letter->consumer, time_of_day_ms(), &recipient.consumer);

	message.id = stored_ids_take(&keeper->ids, false);
	if (result == STORE_OK) {
		result = store_put(keeper->store, &message, &recipient, 1, &message.id);
	}
	if (result != STORE_OK) {
		trouble_failing(&keeper->trouble, result, "taking a dead letter back");
		return false;
	}
	reader = readers_of_name(&keeper->readers, letter->consumer);
	if (reader) {
		readers_fall_behind(&keeper->readers, reader);
	}
	return true;
}

bool keeper_tick(struct keeper *keeper)
{
	uint64_t now;
	time_t now_coarse;
	bool has_more;

	if (!keeper) {
		return false;
	}
	has_more = read_portion(keeper, PORTION);
	now = now_ms();
	if (now - keeper->last.tick_ms < TICK_MS) {
		return has_more;
	}
	keeper->last.tick_ms = now;
	trouble_failing(&keeper->trouble, store_tick(keeper->store), "writing");
	now_coarse = now_s();
	ask_some(keeper, now_coarse);
	if (now_coarse != keeper->last.measured) {
		keeper->last.measured = now_coarse;
		measure(keeper);
		burials_tick(keeper->burials, replay, keeper);
	}
	if (now_coarse - keeper->last.expired >= EXPIRE_S || keeper->last.expired == 0) {
		expire(keeper, now_coarse);
	}
	return has_more;
}
