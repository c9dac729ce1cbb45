#include "session/deliveries.h"

#include <stdlib.h>
#include <string.h>

#include "session/backlog.h"
#include "session/connection.h"
#include "session/copies.h"
#include "session/fetched.h"
#include "session/outlet.h"
#include "session/publishers.h"
#include "session/subscriptions.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/fingerprint.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/stored_ids.h"
#include "shared/topics.h"

bool deliveries_init(struct deliveries *deliveries, struct outlet *outlet, struct copies *copies,
		struct subscriptions *subscriptions)
{
	*deliveries = (struct deliveries){.outlet = outlet, .copies = copies, .subscriptions = subscriptions};
	deliveries->publishers = publishers_new(DELIVERIES_PUBLISHERS_MS);
	deliveries->backlog = backlog_new();
	return deliveries->publishers && deliveries->backlog;
}

void deliveries_free(struct deliveries *deliveries)
{
	announced_clear(&deliveries->announced);
	backlog_free(deliveries->backlog);
	publishers_free(deliveries->publishers);
	free(deliveries->recipients);
}

/* ---- who published it ---- */

void deliveries_announce(struct deliveries *deliveries, uint64_t fingerprint, struct client *client,
		uint64_t stored)
{
	publishers_add(deliveries->publishers, fingerprint, client, now_ms());
	if (stored) {
		announced_add(&deliveries->announced, fingerprint, stored);
	}
}

uint64_t deliveries_unnamed(const struct deliveries *deliveries)
{
	return publishers_forgotten(deliveries->publishers);
}

void deliveries_tell_unnamed(struct deliveries *deliveries, uint64_t now)
{
	uint64_t count = deliveries_unnamed(deliveries);

	if (count == deliveries->unnamed_told || now < deliveries->unnamed_told_at + DELIVERIES_UNNAMED_MS) {
		return;
	}
	outlet_log(deliveries->outlet, MOSQ_LOG_WARNING,
			"%llu messages of clients, if they still come, come to consumers without their sender (client is None): more than "
			"%u of one connection or %u of all, or of clients whose ids, user names and certificates take more than %u MB, were "
			"announced with QoS 2, or otherwise left to the session, and have not come.",
			(unsigned long long)(count - deliveries->unnamed_told), PUBLISHERS_PER_CLIENT, PUBLISHERS_MAX,
			PUBLISHERS_BYTES_MAX >> 20);
	deliveries->unnamed_told = count;
	deliveries->unnamed_told_at = now;
}

/* ---- what nobody can read ---- */

void deliveries_pass_over(struct deliveries *deliveries, const char *wrong, uint64_t now)
{
	atomic_fetch_add(&deliveries->passed_over, 1);
	if (deliveries->passed_over_told_at &&
			now < deliveries->passed_over_told_at + DELIVERIES_PASSED_OVER_MS) {
		return;
	}
	deliveries->passed_over_told_at = now;
	outlet_log(deliveries->outlet, MOSQ_LOG_WARNING,
			"The broker has sent the session what MQTT 5 does not allow: %s. Consumers do not get that message. A client or "
			"another plugin has published it, and the broker has let it through.",
			wrong);
}

uint64_t deliveries_passed_over(const struct deliveries *deliveries)
{
	return atomic_load(&deliveries->passed_over);
}

/* ---- messages ---- */

static struct message *make_message(struct deliveries *deliveries, const struct connection_message *event,
		const struct recipient *recipients, size_t count)
{
	const struct message_content content = {event->topic, strlen(event->topic), event->payload,
		event->payload_length, event->properties, event->properties_length};
	struct message *message = message_publish(&content, recipients, count);

	if (!message) {
		outlet_log(deliveries->outlet, MOSQ_LOG_WARNING,
				"No memory: a message for consumers on topic '%.400s' is lost.", event->topic);
		return NULL;
	}
	message->as.publish.qos = event->qos;
	message->as.publish.retain = event->retain;
	message->as.publish.by_session = true;
	message->as.publish.is_redelivered = event->is_again && event->qos > 0;
	return message;
}

/* Hands over a message, and has it stored where that is wanted and has not been done. stored: its id in the
 * durable inbox; 0: it is not there. Takes NULL. */
static void deliver(struct deliveries *deliveries, struct message *message, uint64_t stored)
{
	if (!message || !deliveries->ids || message->as.publish.qos == 0) {
		outlet_deliver(deliveries->outlet, message);
		return;
	}
	message->as.publish.stored = stored ? stored : stored_ids_take(deliveries->ids, true);
	if (stored) {
		outlet_deliver(deliveries->outlet, message);
	} else {
		outlet_store(deliveries->outlet, message);
	}
}

/* published: what the message may be, as it was published. */
static void deliver_to_subscribers(struct deliveries *deliveries, const struct connection_message *event,
		const struct fingerprint_copies *published)
{
	struct client *publisher =
			publishers_take(deliveries->publishers, published->values, published->count, now_ms());
	uint64_t stored = announced_take(&deliveries->announced, published->values, published->count);
	const struct recipient *recipients;
	struct message *message;
	size_t count;

	topics_match(deliveries->subscriptions->topics, event->topic, &recipients, &count);
	message = count ? make_message(deliveries, event, recipients, count) : NULL;
	if (message) {
		message->client = publisher;
	} else {
		client_release(publisher);
	}
	deliver(deliveries, message, stored);
}

/* Room for that many. False: no memory. */
static bool make_room(struct deliveries *deliveries, size_t count)
{
	struct recipient *recipients;

	if (count > deliveries->recipient_capacity) {
		recipients = realloc(deliveries->recipients, count * sizeof(*recipients));
		if (!recipients) {
			return false;
		}
		deliveries->recipients = recipients;
		deliveries->recipient_capacity = count;
	}
	return true;
}

/* Only to those that subscribed just now; others had it long ago. */
static void deliver_retained(struct deliveries *deliveries, const struct connection_message *event,
		struct filter *filter)
{
	uint32_t round = deliveries->subscriptions->round.number, before;
	struct message *message;
	size_t count = 0, i;

	if (!filter || filter->fetching.count == 0) {
		return;
	}
	if (!make_room(deliveries, filter->fetching.count)) {
		outlet_log(deliveries->outlet, MOSQ_LOG_WARNING,
				"No memory: a retained message on topic '%.400s' is lost.", event->topic);
		return;
	}
	before = fetched_note(&filter->fetched, copies_fingerprint(deliveries->copies, event), round);
	for (i = 0; i < filter->fetching.count; i++) {
		const struct waiter *waiter = &filter->fetching.items[i];

		if (waiter->fetches && !waiter->gone && (!before || before < waiter->since)) {
			deliveries->recipients[count++] = waiter->who;
		}
	}
	message = count ? make_message(deliveries, event, deliveries->recipients, count) : NULL;
	if (message) {
		message->as.publish.is_retained = true;
	}
	deliver(deliveries, message, 0);
}

static void deliver_shared(struct deliveries *deliveries, struct filter *filter,
		const struct connection_message *event)
{
	const struct recipient *recipients;
	size_t count;

	topics_subscribers(deliveries->subscriptions->topics, filter->name, &recipients, &count);
	if (count > 0) {
		deliver(deliveries, make_message(deliveries, event, &recipients[filter->shared++ % count], 1), 0);
	}
}

/* ---- what the broker had queued ---- */

/* Collects it until all has come: which filters these copies are for is from another time, and so is what is
 * in force. */
static void add_to_backlog(struct deliveries *deliveries, const struct connection_message *event)
{
	uint64_t hash = copies_fingerprint(deliveries->copies, event);
	struct message *message = backlog_find(deliveries->backlog, hash, event->subscription);

	if (message) {
		if (message->as.publish.qos < event->qos) {
			message->as.publish.qos = event->qos;
		}
		return;
	}
	message = make_message(deliveries, event, NULL, 0);
	if (message && !backlog_add(deliveries->backlog, hash, event->subscription, message)) {
		outlet_log(deliveries->outlet, MOSQ_LOG_WARNING,
				"No memory: a message for consumers on topic '%.400s' is lost.", event->topic);
		message_free(message);
	}
}

void deliveries_deliver_backlog(struct deliveries *deliveries)
{
	struct message *message;
	uint64_t hash;

	while ((message = backlog_take(deliveries->backlog, &hash))) {
		const struct connection_message event = {
			.topic = message->topic,
			.payload = message->payload,
			.payload_length = message->payload_length,
			.properties = message->properties,
			.properties_length = message->properties_length,
			.qos = message->as.publish.qos,
			.retain = message->as.publish.retain,
			/* In an earlier life of the process it may have been stored, and come. */
			.is_again = message->as.publish.is_redelivered || deliveries->ids,
		};
		/* It had at least this QoS and the flag, if it has it now: more the broker may have taken off. */
		const struct fingerprint_copies published = fingerprint_copies(hash, message->as.publish.qos, 2,
				message->as.publish.retain, message->as.publish.retain);

		if (!copies_take(deliveries->copies, &published)) {
			deliver_to_subscribers(deliveries, &event, &published);
		}
		message_free(message);
	}
}

/* ---- what comes ---- */

static void deliver_live(struct deliveries *deliveries, const struct connection_message *event,
		const struct filter *filter)
{
	struct fingerprint_copies published;

	if (!filter || !filters_decide(&deliveries->subscriptions->filters, event->topic, event->subscription) ||
			copies_recognise(deliveries->copies, event, filter->subscription.granted_qos,
					filter->subscription.shows_retain, &published)) {
		deliveries->brought_copies = true;
		return;
	}
	deliver_to_subscribers(deliveries, event, &published);
}

void deliveries_receive(struct deliveries *deliveries, const struct connection_message *event, bool collect)
{
	struct filter *filter = filters_of_id(&deliveries->subscriptions->filters, event->subscription);

	if (event->is_fetched || (event->retain && (!filter || !filter->subscription.shows_retain))) {
		deliver_retained(deliveries, event, filter);
	} else if (filter && filter->is_shared) {
		deliver_shared(deliveries, filter, event);
	} else if (collect) {
		add_to_backlog(deliveries, event);
	} else {
		deliver_live(deliveries, event, filter);
	}
}
