#include "session/subscriptions.h"

#include <string.h>

#include "session/connection.h"
#include "session/fences.h"
#include "session/outlet.h"
#include "shared/clock.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"

/* ---- who waits ---- */

/* Lets a consumer go on. */
static void end_wait(struct subscriptions *subscriptions, struct waiter *waiter)
{
	if (waiter->holds) {
		outlet_release(subscriptions->outlet, waiter->who.consumer);
		waiter->holds = false;
	}
	outlet_answer(subscriptions->outlet, waiter->sequence);
	waiter->sequence = 0;
}

static void forget_waiter(struct subscriptions *subscriptions, struct waiters *waiters, uint64_t consumer)
{
	size_t i;

	for (i = waiters->count; i > 0; i--) {
		if (waiters->items[i - 1].who.consumer == consumer) {
			end_wait(subscriptions, &waiters->items[i - 1]);
			waiters->items[i - 1] = waiters->items[--waiters->count];
		}
	}
}

/* From here on those that waited get what comes. Not before: what the broker sent the session before it knew
 * of their subscription is not for them. */
static bool add_subscribers(struct subscriptions *subscriptions, const struct filter *filter,
		const struct waiters *waiters)
{
	bool done = true;
	size_t i;

	for (i = 0; i < waiters->count; i++) {
		const struct waiter *waiter = &waiters->items[i];

		if (!waiter->gone &&
				topics_add(subscriptions->topics, waiter->who.consumer, filter->name, waiter->options)) {
			done = false;
		}
	}
	return done;
}

/* ---- what is due ---- */

static void make_due(struct subscriptions *subscriptions, struct filter *filter)
{
	/* One in the round is looked at again at its end. */
	if (!filter->is_due && !filter->in_round) {
		filter->is_due = true;
		filter->next = subscriptions->due;
		subscriptions->due = filter;
	}
}

static void unlink_due(struct subscriptions *subscriptions, const struct filter *filter)
{
	struct filter **at = &subscriptions->due;

	while (*at && *at != filter) {
		at = &(*at)->next;
	}
	if (*at) {
		*at = filter->next;
	}
}

/* At which QoS the session subscribes. With cleansession true all filters have one, the highest that any
 * consumer ever asked for: then every copy tells whether its message was published with QoS 2. With
 * cleansession false each has its own, because the broker queues messages by it. */
static uint8_t wanted_qos(const struct subscriptions *subscriptions, const struct filter *filter)
{
	if (subscriptions->has_one_qos) {
		return subscriptions->qos;
	}
	return filter->consumers[2] ? 2 : filter->consumers[1] ? 1 : 0;
}

/* Whether the broker must be told something about it. */
static bool needs_round(const struct subscriptions *subscriptions, const struct filter *filter)
{
	if (!filter_is_served(filter)) {
		return true;
	}
	return filter->waiting.count > 0 || !filter->subscription.may_exist ||
			filter->subscription.asked_qos != wanted_qos(subscriptions, filter) ||
			filter->subscription.asked_retain != subscriptions->retain_as_published;
}

static void make_due_if_changed(void *userdata, struct filter *filter)
{
	struct subscriptions *subscriptions = userdata;

	if (needs_round(subscriptions, filter)) {
		make_due(subscriptions, filter);
	}
}

static void make_due_what_changed(struct subscriptions *subscriptions)
{
	filters_for_each(&subscriptions->filters, make_due_if_changed, subscriptions);
}

/* ---- rounds ---- */

/* Something about the filter has not worked; it is tried again when the others are through, and the log says
 * so once. */
static void fail_filter(struct subscriptions *subscriptions, struct filter *filter, const char *reason)
{
	filter->turn.has_failed = true;
	atomic_fetch_add(&subscriptions->refused_count, 1);
	if (filter->is_told) {
		return;
	}
	filter->is_told = true;
	outlet_log(subscriptions->outlet, MOSQ_LOG_WARNING,
			filter->turn.leaves
					? "The session cannot end its subscription to '%.400s': %s. The broker sends it what nobody wants until "
					  "that works; it is tried again."
					: "The session's subscription to '%.400s' is not in force: %s. Consumers get no retained messages, last "
					  "wills and QoS 2 from it until that works; it is tried again. A max_packet_size in the broker's file "
					  "must leave room for the filter.",
			filter->name, reason);
}

/* Tells those to hold that are to get what the broker has retained. False: nobody is. */
static bool begin_fetching(struct subscriptions *subscriptions, struct filter *filter)
{
	bool fetches = false;
	size_t i;

	for (i = 0; i < filter->fetching.count; i++) {
		struct waiter *waiter = &filter->fetching.items[i];

		fetches = fetches || waiter->fetches;
		waiter->since = waiter->since ? waiter->since : subscriptions->round.number;
		if (waiter->fetches && !waiter->holds) {
			waiter->holds = true;
			outlet_hold(subscriptions->outlet, waiter->who.consumer, waiter->again);
		}
	}
	return fetches;
}

static bool send_filter(struct subscriptions *subscriptions, struct filter *filter)
{
	uint8_t qos = wanted_qos(subscriptions, filter);
	struct filter_turn *turn = &filter->turn;
	bool fetches;

	turn->sent++;
	turn->is_answered = false;
	turn->leaves = !filter_is_served(filter);
	if (turn->leaves) {
		turn->packet = connection_unsubscribe(subscriptions->connection, filter->name);
	} else {
		fetches = begin_fetching(subscriptions, filter);
		turn->packet = connection_subscribe(subscriptions->connection, filter->name, qos, filter->id, fetches,
				subscriptions->retain_as_published);
	}
	if (turn->packet < 0) {
		fail_filter(subscriptions, filter, connection_reason(subscriptions->connection));
		return false;
	}
	if (!turn->leaves) {
		filter->subscription.asked_qos = qos;
		filter->subscription.asked_retain = subscriptions->retain_as_published;
		filter->subscription.may_exist = true;
	}
	return true;
}

/* Out of those that are due, into the round that begins. False: there is nothing to be done. */
static bool enter_round(struct subscriptions *subscriptions, struct filter *filter)
{
	struct waiters waiting = filter->waiting;

	filter->is_due = false;
	if (!needs_round(subscriptions, filter)) {
		return false;
	}
	if (!filter_is_served(filter) && !filter->subscription.may_exist) {
		filters_remove(&subscriptions->filters, filter);
		return false;
	}
	filter->waiting = filter->fetching; /* empty, but for its room */
	filter->fetching = waiting;
	filter->in_round = true;
	filter->turn.sent = 0;
	filter->next = NULL;
	return true;
}

bool subscriptions_begin_round(struct subscriptions *subscriptions)
{
	struct subscriptions_round *round = &subscriptions->round;
	struct filter *filter = subscriptions->due, *next, **end = &round->first;

	if (round->first) {
		return false;
	}
	subscriptions->due = NULL;
	*round = (struct subscriptions_round){
		.number = round->number + 1, .acknowledge_at = now_ms() + SUBSCRIPTIONS_AGAIN_MS};
	for (; filter; filter = next) {
		next = filter->next;
		if (enter_round(subscriptions, filter)) {
			*end = filter;
			end = &filter->next;
			round->acknowledgements += send_filter(subscriptions, filter);
		}
	}
	round->unacknowledged = round->first;
	if (round->first && round->acknowledgements == 0) {
		round->fence = fences_request(subscriptions->fences);
	}
	return !round->first;
}

/* Lets those that waited go on; come: the retained messages have come, else the next connection asks for them
 * again. */
static void end_fetching(struct subscriptions *subscriptions, struct filter *filter, bool come)
{
	size_t i;

	for (i = 0; i < filter->fetching.count; i++) {
		struct waiter *waiter = &filter->fetching.items[i];

		end_wait(subscriptions, waiter);
		if (!come && !waiter->gone && !waiters_add(&filter->waiting, waiter)) {
			outlet_log(subscriptions->outlet, MOSQ_LOG_ERR,
					"No memory: a consumer does not get the retained messages of '%.400s'.", filter->name);
		}
	}
	filter->fetching.count = 0;
	if (come) {
		fetched_forget(&filter->fetched);
	}
}

/* In a while; sooner where somebody else subscribes to one of them. */
static void come_back_later(struct subscriptions *subscriptions)
{
	unsigned int pause = subscriptions->again_pause;

	if (subscriptions->again_at) {
		return;
	}
	subscriptions->again_at = now_ms() + pause;
	subscriptions->again_pause =
			pause < SUBSCRIPTIONS_AGAIN_MAX_MS / 2 ? pause * 2 : SUBSCRIPTIONS_AGAIN_MAX_MS;
}

static void end_round(struct subscriptions *subscriptions, bool come)
{
	struct filter *filter = subscriptions->round.first, *next;
	bool any_failed = false;

	subscriptions->round.first = NULL;
	subscriptions->round.unacknowledged = NULL;
	subscriptions->round.acknowledgements = 0;
	subscriptions->round.probe = 0;
	for (; filter; filter = next) {
		bool done = come && !filter->turn.has_failed;

		next = filter->next;
		filter->in_round = false;
		end_fetching(subscriptions, filter, done);
		filter->turn.leaves = false;
		if (!done) {
			filter->subscription.asked_qos =
					UINT8_MAX; /* asked for again, whether the broker has it or not */
		}
		any_failed |= filter->turn.has_failed;
		if (needs_round(subscriptions, filter) && !filter->turn.has_failed) {
			make_due(subscriptions, filter);
		}
		filter->turn.has_failed = false;
	}
	if (any_failed) {
		come_back_later(subscriptions);
	} else if (!subscriptions->again_at) {
		subscriptions->again_pause = SUBSCRIPTIONS_AGAIN_MS;
	}
}

/* ---- acknowledgements ---- */

static void on_granted(struct subscriptions *subscriptions, struct filter *filter, uint8_t qos)
{
	filter->subscription.shows_retain = filter->subscription.asked_retain;
	filter->subscription.granted_qos = qos;
	if (!filters_enter_force(&subscriptions->filters, filter) ||
			!add_subscribers(subscriptions, filter, &filter->fetching)) {
		fail_filter(subscriptions, filter, "there is no memory for it");
	} else if (filter->is_told) {
		filter->is_told = false;
		outlet_log(subscriptions->outlet, MOSQ_LOG_NOTICE,
				"The session's subscription to '%.400s' is in force now.", filter->name);
	}
}

/* What the round waits for. */
static void count_answer(struct subscriptions *subscriptions)
{
	if (--subscriptions->round.acknowledgements == 0) {
		subscriptions->round.fence = fences_request(subscriptions->fences);
	}
}

/* The broker has sent what came after these acknowledgements: it had no room for them. */
static void send_unanswered(struct subscriptions *subscriptions)
{
	struct subscriptions_round *round = &subscriptions->round;
	struct filter *filter;

	round->probe = 0;
	round->acknowledge_at = now_ms() + SUBSCRIPTIONS_AGAIN_MS;
	round->unacknowledged = round->first;
	for (filter = round->first; filter; filter = filter->next) {
		if (filter->turn.is_answered || filter->turn.has_failed) {
			continue;
		}
		if (filter->turn.sent >= SUBSCRIPTIONS_SEND_MAX) {
			fail_filter(subscriptions, filter, "the broker does not acknowledge it");
		} else {
			(void)send_filter(subscriptions, filter);
		}
		if (filter->turn.has_failed) {
			count_answer(subscriptions);
		}
	}
}

void subscriptions_acknowledge(struct subscriptions *subscriptions, int packet, int code)
{
	struct filter *filter = subscriptions->round.unacknowledged;

	/* They come in the order in which they were asked for. */
	while (filter && filter->turn.packet != packet) {
		filter = filter->next;
	}
	if (!filter || !subscriptions->round.acknowledgements) {
		return;
	}
	subscriptions->round.unacknowledged = filter->next;
	filter->turn.is_answered = true;
	if (filter->turn.leaves) {
		filter->subscription.may_exist = false;
		filter->is_told = false;
		filters_leave_force(&subscriptions->filters, filter);
	} else if (code < 128) {
		on_granted(subscriptions, filter, (uint8_t)code);
	} else {
		atomic_fetch_add(&subscriptions->refused_count, 1);
		outlet_log(subscriptions->outlet, MOSQ_LOG_WARNING,
				"The broker refuses the session's subscription to '%.400s' (reason code %d): consumers get no retained "
				"messages, last wills and QoS 2 from it. Allow it to the session's user (plugin_opt_username).",
				filter->name, code);
	}
	count_answer(subscriptions);
}

bool subscriptions_probe(struct subscriptions *subscriptions, uint64_t now)
{
	struct subscriptions_round *round = &subscriptions->round;

	if (!round->acknowledgements || round->probe || now < round->acknowledge_at) {
		return false;
	}
	round->probe = fences_request(subscriptions->fences);
	return true;
}

bool subscriptions_pass(struct subscriptions *subscriptions, uint64_t fence)
{
	struct subscriptions_round *round = &subscriptions->round;

	if (round->acknowledgements && round->probe && fence >= round->probe) {
		send_unanswered(subscriptions);
	} else if (round->first && subscriptions_are_behind(subscriptions, fence)) {
		end_round(subscriptions, true);
		return true;
	}
	return false;
}

void subscriptions_try_again(struct subscriptions *subscriptions, uint64_t now)
{
	if (subscriptions->again_at && now >= subscriptions->again_at) {
		subscriptions->again_at = 0;
		make_due_what_changed(subscriptions);
	}
}

void subscriptions_release_stuck(struct subscriptions *subscriptions)
{
	struct filter *filter;
	size_t i;

	for (filter = subscriptions->round.first; filter; filter = filter->next) {
		for (i = 0; i < filter->fetching.count; i++) {
			struct waiter *waiter = &filter->fetching.items[i];

			if (waiter->holds && outlet_release_at_once(subscriptions->outlet, waiter->who.consumer)) {
				waiter->holds = false;
			}
		}
	}
	outlet_release_all_at_once(subscriptions->outlet);
}

/* ---- what consumers want ---- */

/* The QoS at which consumer subscribed to filter; -1: it has not. */
static int subscribed_qos(struct subscriptions *subscriptions, struct filter *filter, uint64_t consumer)
{
	const struct waiter *waiter = waiters_find(&filter->waiting, consumer);

	if (!waiter) {
		waiter = waiters_find(&filter->fetching, consumer);
	}
	return waiter ? waiter->who.qos : topics_qos(subscriptions->topics, consumer, filter->name);
}

static bool is_guest(uint64_t consumer)
{
	return (consumer & MESSAGE_GUEST) != 0;
}

static void remove_subscriber(struct subscriptions *subscriptions, const struct message *command)
{
	uint64_t consumer = command->as.request.consumer;
	struct filter *filter = filters_find(&subscriptions->filters, command->topic);
	int before = filter ? subscribed_qos(subscriptions, filter, consumer) : -1;
	struct waiter *fetching;

	if (before < 0) {
		return;
	}
	(void)topics_remove(subscriptions->topics, consumer, command->topic);
	filter->consumers[before]--;
	filter->guests -= is_guest(consumer);
	forget_waiter(subscriptions, &filter->waiting, consumer);
	while ((fetching = waiters_find(&filter->fetching, consumer))) {
		fetching->gone = true;
	}
	if (filter_is_served(filter)) {
		make_due_if_changed(subscriptions, filter);
	} else if (filter->subscription.may_exist || filter->in_round) {
		make_due(subscriptions, filter);
	} else {
		unlink_due(subscriptions, filter);
		filters_remove(&subscriptions->filters, filter);
	}
}

void subscriptions_unsubscribe(struct subscriptions *subscriptions, const struct message *command)
{
	remove_subscriber(subscriptions, command);
	outlet_answer(subscriptions->outlet, command->as.request.sequence);
}

void subscriptions_unsubscribe_until(struct subscriptions *subscriptions, uint64_t fence)
{
	struct message *command;

	while ((command = subscriptions->leaving.first) && command->as.request.fence <= fence) {
		(void)message_list_take(&subscriptions->leaving);
		subscriptions_unsubscribe(subscriptions, command);
		message_free(command);
	}
}

bool subscriptions_unsubscribe_later(struct subscriptions *subscriptions, struct message *command)
{
	struct filter *filter;

	if (!subscriptions->is_running) {
		return false;
	}
	filter = filters_find(&subscriptions->filters, command->topic);
	if (!filter || subscribed_qos(subscriptions, filter, command->as.request.consumer) != 2) {
		return false;
	}
	command->as.request.fence = subscriptions->fences->asked + 1;
	message_list_append(&subscriptions->leaving, command);
	return true;
}

/* It does not get what is sent between its UNSUBSCRIBE and this SUBSCRIBE. */
static void unsubscribe_before(struct subscriptions *subscriptions, const struct message *command)
{
	const struct message *leaving;

	for (leaving = subscriptions->leaving.first; leaving; leaving = leaving->next) {
		if (leaving->as.request.consumer == command->as.request.consumer &&
				strcmp(leaving->topic, command->topic) == 0) {
			subscriptions_unsubscribe_until(subscriptions, leaving->as.request.fence);
			break;
		}
	}
}

/* All filters get what one consumer wants. */
static void raise_wants(struct subscriptions *subscriptions, const struct recipient *who)
{
	if (subscriptions->qos >= who->qos && subscriptions->retain_as_published >= who->retain_as_published) {
		return;
	}
	subscriptions->qos = subscriptions->qos < who->qos ? who->qos : subscriptions->qos;
	subscriptions->retain_as_published = subscriptions->retain_as_published || who->retain_as_published;
	if (subscriptions->is_running) {
		make_due_what_changed(subscriptions);
	}
}

static struct waiter make_waiter(const struct message_request *request, const char *filter, bool again)
{
	uint8_t qos = request->options & TOPICS_QOS;

	return (struct waiter){.who = {request->consumer, request->identifier, qos, (int8_t)qos,
							   (request->options & MQTT_SUB_OPT_RETAIN_AS_PUBLISHED) != 0},
		.options = request->options,
		.sequence = request->sequence,
		.again = again,
		.holds = request->is_held,
		.fetches = topics_brings_retained(filter, request->options, !again)};
}

void subscriptions_subscribe(struct subscriptions *subscriptions, const struct message *command)
{
	struct filter *filter;
	struct waiter waiter;
	int before = -1;

	unsubscribe_before(subscriptions, command);
	filter = filters_find(&subscriptions->filters, command->topic);
	if (filter) {
		before = subscribed_qos(subscriptions, filter, command->as.request.consumer);
	} else {
		filter = filters_add(&subscriptions->filters, command->topic);
	}
	waiter = make_waiter(&command->as.request, command->topic, before >= 0);
	if (!filter || !waiters_add(&filter->waiting, &waiter)) {
		outlet_log(subscriptions->outlet, MOSQ_LOG_ERR,
				"No memory: a subscription to '%.400s' is incomplete.", command->topic);
		end_wait(subscriptions, &waiter);
		return;
	}
	if (before >= 0) {
		filter->consumers[before]--;
	} else {
		filter->guests += is_guest(waiter.who.consumer);
	}
	filter->consumers[waiter.who.qos]++;
	raise_wants(subscriptions, &waiter.who);
	make_due(subscriptions, filter);
	if (!subscriptions->is_running) {
		end_wait(subscriptions, &filter->waiting.items[filter->waiting.count - 1]);
	}
}

/* ---- the connection ---- */

bool subscriptions_init(struct subscriptions *subscriptions, struct outlet *outlet, struct fences *fences,
		struct connection *connection, bool has_one_qos)
{
	bool ok;

	*subscriptions = (struct subscriptions){.outlet = outlet,
		.fences = fences,
		.connection = connection,
		.has_one_qos = has_one_qos,
		.again_pause = SUBSCRIPTIONS_AGAIN_MS};
	atomic_init(&subscriptions->refused_count, 0);
	subscriptions->topics = topics_new();
	ok = filters_init(&subscriptions->filters);
	return ok && subscriptions->topics;
}

void subscriptions_free(struct subscriptions *subscriptions)
{
	filters_free(&subscriptions->filters);
	message_list_clear(&subscriptions->leaving);
	topics_free(subscriptions->topics);
}

static void forget(void *userdata, struct filter *filter)
{
	struct subscriptions *subscriptions = userdata;

	filter->subscription.may_exist = false;
	filter->subscription.shows_retain = false;
	filters_leave_force(&subscriptions->filters, filter);
}

void subscriptions_forget(struct subscriptions *subscriptions)
{
	filters_for_each(&subscriptions->filters, forget, subscriptions);
}

static void assume(void *userdata, struct filter *filter)
{
	struct subscriptions *subscriptions = userdata;

	(void)add_subscribers(subscriptions, filter, &filter->waiting); /* the first round does it again */
	/* As of now; what the broker had queued says no more. */
	filter->subscription.shows_retain = subscriptions->retain_as_published;
}

void subscriptions_assume(struct subscriptions *subscriptions)
{
	filters_for_each(&subscriptions->filters, assume, subscriptions);
}

void subscriptions_run(struct subscriptions *subscriptions)
{
	subscriptions->is_running = true;
	make_due_what_changed(subscriptions);
}

static void leave_unless_kept(void *userdata, struct filter *filter)
{
	struct subscriptions *subscriptions = userdata;

	if (filter->subscription.may_exist && !filter_is_to_be_kept(filter)) {
		/* Nobody is left to hear of a failure; the next application does not want it either. */
		(void)connection_unsubscribe(subscriptions->connection, filter->name);
	}
}

void subscriptions_keep(struct subscriptions *subscriptions)
{
	if (subscriptions->is_running) {
		filters_for_each(&subscriptions->filters, leave_unless_kept, subscriptions);
	}
}

static void end_waits(void *userdata, struct filter *filter)
{
	struct subscriptions *subscriptions = userdata;
	size_t i;

	for (i = 0; i < filter->waiting.count; i++) {
		end_wait(subscriptions, &filter->waiting.items[i]);
	}
}

void subscriptions_lose(struct subscriptions *subscriptions)
{
	end_round(subscriptions, false);
	subscriptions_unsubscribe_until(subscriptions, UINT64_MAX);
	filters_for_each(&subscriptions->filters, end_waits, subscriptions);
	subscriptions->is_running = false;
}
