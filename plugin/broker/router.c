#include "broker/router.h"

#include <stdlib.h>
#include <string.h>

#include "broker/clients.h"
#include "broker/deliver.h"
#include "broker/keeper.h"
#include "broker/lanes.h"
#include "options/options.h"
#include "shared/client.h"
#include "shared/log.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"
#include "shared/text.h"
#include "shared/topics.h"

struct router {
	struct topics *topics;
	struct lanes *lanes;
	struct clients *clients;
	struct keeper *keeper;
	struct delivery delivery;
	struct {
		struct properties_reader reader;
		bool is_readable; /* there is that */
		struct text text; /* of the message that is being dealt with */
	} properties;
	bool may_hint;  /* see hint_about_slash() */
	bool is_closed; /* see router_close() */
};

struct router *router_new(const struct options *options, struct queue *inbound, struct lanes *lanes,
		struct clients *clients, struct statistics *statistics)
{
	struct router *router = calloc(1, sizeof(*router));

	if (!router) {
		return NULL;
	}
	router->topics = topics_new();
	if (!router->topics) {
		free(router);
		return NULL;
	}
	router->lanes = lanes;
	router->clients = clients;
	deliver_init(&router->delivery, options, inbound, statistics);
	router->may_hint = options->verbosity > 0;
	return router;
}

void router_free(struct router *router)
{
	if (!router) {
		return;
	}
	topics_free(router->topics);
	text_free(&router->properties.text);
	free(router);
}

void router_adopt(struct router *router, const struct options *options)
{
	deliver_adopt(&router->delivery, options);
	router->may_hint = options->verbosity > 0;
}

void router_use_reader(struct router *router, const struct properties_reader *reader)
{
	router->properties.reader = *reader;
	router->properties.is_readable = true;
}

void router_use_keeper(struct router *router, struct keeper *keeper)
{
	router->keeper = keeper;
}

void router_close(struct router *router)
{
	router->is_closed = true;
}

void router_tell_of_clients(struct router *router)
{
	struct message *message;

	while ((message = clients_take(router->clients))) {
		(void)deliver(&router->delivery, message, NULL);
	}
}

/* Reads the broker's list for a content, which is valid until end_properties(). False: no memory. */
static bool read_properties(struct router *router, const mosquitto_property *list,
		struct message_content *content)
{
	if (list && router->properties.is_readable) {
		properties_read(&router->properties.reader, list, &router->properties.text);
		content->properties = router->properties.text.data;
		content->properties_length = router->properties.text.length;
	}
	return !router->properties.text.failed;
}

static void end_properties(struct router *router)
{
	router->properties.text.length = 0;
	if (router->properties.text.failed || router->properties.text.capacity > PROPERTIES_ROOM) {
		text_free(&router->properties.text);
	}
}

/* To these recipients, by the direct lane: message is for them, and owned; NULL: there was no memory for it.
 * topic is in the caller's memory. Returns whether they get it now. */
static bool hand_over(struct router *router, struct message *message, const char *topic, uint64_t stored,
		uint8_t qos, const struct recipient *recipients, size_t count)
{
	size_t size = stored && message ? message_size(message) : 0; /* the loop thread may soon have freed it */
	bool is_done;

	if (count == 0) {
		message_free(message);
		return false;
	}
	is_done = deliver(&router->delivery, message, topic);
	keeper_note(router->keeper, stored, qos, size, recipients, count, is_done);
	return is_done;
}

/* By the lane that it takes. Owns the client of published. */
static bool hand_over_clients(struct router *router, const struct lanes_message *published,
		const struct recipient *recipients, size_t count)
{
	struct message *message;
	enum lane lane;

	if (published->stored) {
		recipients = keeper_ready(router->keeper, recipients, &count, published->qos);
	}
	lane = lanes_choose(router->lanes, published, recipients, count, &message);
	if (message) {
		message->client = published->client;
	} else {
		client_release(published->client);
	}
	return lane == LANE_DIRECT &&
			hand_over(router, message, published->content.topic, published->stored, published->qos,
					recipients, count);
}

/* Hands a client's message to those who hear it, unless it is left to the session. */
static enum route hand_over_direct(struct router *router, const struct mosquitto_evt_message *event,
		const struct recipient *recipients, size_t count)
{
	struct lanes_message published = {
		.content = {event->topic, strlen(event->topic), event->payload, event->payloadlen, NULL, 0},
		.qos = event->qos,
		.retain = event->retain,
		.list = event->properties,
		.connection = event->client,
		.client = clients_publisher(router->clients, event->client)};
	enum route route = ROUTE_REFUSED;

	published.is_incomplete = !read_properties(router, event->properties, &published.content);
	router_tell_of_clients(router);
	if (router->keeper &&
			!keeper_keep(router->keeper, &published, recipients, count,
					lanes_leaves(router->lanes, &published), &published.stored)) {
		client_release(published.client);
	} else {
		route = hand_over_clients(router, &published, recipients, count) ? ROUTE_DIRECT : ROUTE_NONE;
	}
	end_properties(router);
	return route;
}

/* A slash too many at the beginning is a frequent mistake, and silent: `/kitchen` and `kitchen` are two
 * topics (MQTT 5, 4.7.3). Said once, at verbosity 1, and only as long as no topic with such a slash has been
 * heard: then it is meant. */
static void hint_about_slash(struct router *router, const char *topic)
{
	const struct recipient *recipients;
	size_t count = 0;

	if (*topic == '/' && topic[1]) {
		topics_match(router->topics, topic + 1, &recipients, &count);
	}
	if (count > 0) {
		log_line(MOSQ_LOG_INFO,
				"No consumer hears the topic '" DELIVER_TOPIC
				"', but one would without the slash at its beginning: "
				"with it, it is another topic. Publish without it, or subscribe with it.",
				topic);
	} else if (*topic != '/' && *topic != '$' && topics_would_hear_with_slash(router->topics, topic)) {
		log_line(MOSQ_LOG_INFO,
				"No consumer hears the topic '" DELIVER_TOPIC
				"', but one has a filter that begins with a slash and would "
				"hear '/" DELIVER_TOPIC "', which is another topic. Subscribe without the slash.",
				topic, topic);
	} else {
		return;
	}
	router->may_hint = false;
}

enum route router_route(struct router *router, const struct mosquitto_evt_message *event)
{
	const struct recipient *recipients;
	size_t count;

	topics_match(router->topics, event->topic, &recipients, &count);
	if (router->may_hint && count > 0 && *event->topic == '/') {
		router->may_hint = false;
	} else if (router->may_hint && count == 0) {
		hint_about_slash(router, event->topic);
	}
	return count > 0 && !router->is_closed ? hand_over_direct(router, event, recipients, count) : ROUTE_NONE;
}

/* What a consumer has published, for those who hear it: message, which has them, is owned. */
static void hand_over_own(struct router *router, struct message *message, const struct message *publish)
{
	const struct recipient *recipients = message->recipients;
	size_t count = message->recipient_count;
	uint64_t stored = keeper_keep_own(router->keeper, publish, recipients, count);
	uint8_t qos = publish->as.publish.qos;

	message->as.publish.stored = stored;
	if (stored) {
		recipients = keeper_ready(router->keeper, recipients, &count, qos);
		message_keep_recipients(message, recipients, count);
	}
	(void)hand_over(router, message, publish->topic, stored, qos, recipients, count);
}

void router_route_own(struct router *router, const struct message *publish)
{
	const struct lanes_message published = {.content = message_content(publish),
		.qos = publish->as.publish.qos,
		.retain = publish->as.publish.retain};
	const struct recipient *recipients;
	struct message *message;
	size_t count;

	topics_match(router->topics, publish->topic, &recipients, &count);
	if (count == 0 || router->is_closed) {
		return;
	}
	lanes_publishes(router->lanes, &published);
	message = message_publish(&published.content, recipients, count);
	if (!message) {
		(void)deliver(&router->delivery, NULL, publish->topic);
		return;
	}
	message->as.publish.qos = publish->as.publish.qos;
	message->as.publish.retain = publish->as.publish.retain;
	message_leave_out(message, publish->as.publish.publisher);
	hand_over_own(router, message, publish);
}

int router_unsubscribe(struct router *router, const struct message *message, bool *ret_answers)
{
	int rc = MOSQ_ERR_SUCCESS, of_session;

	if (!topics_is_shared(message->topic)) {
		rc = topics_remove(router->topics, message->as.request.consumer, message->topic);
	}
	of_session = lanes_command(router->lanes, message, false, ret_answers);
	return rc != MOSQ_ERR_SUCCESS ? rc : of_session;
}

int router_subscribe(struct router *router, const struct message *message, bool *ret_answers)
{
	bool is_new = topics_qos(router->topics, message->as.request.consumer, message->topic) < 0;
	int rc = MOSQ_ERR_SUCCESS;

	*ret_answers = false;
	/* Those that share come through the session alone: the broker decides who gets which message. */
	if (!topics_is_shared(message->topic)) {
		rc = topics_add(router->topics, message->as.request.consumer, message->topic,
				message->as.request.options);
	}
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = lanes_command(router->lanes, message, is_new, ret_answers);
		if (rc != MOSQ_ERR_SUCCESS && is_new && !topics_is_shared(message->topic)) {
			(void)topics_remove(router->topics, message->as.request.consumer, message->topic);
		}
	}
	return rc;
}

bool router_is_copy(struct router *router, const struct mosquitto_evt_acl_check *access)
{
	struct lanes_message message = {
		.content = {access->topic, strlen(access->topic), access->payload, access->payloadlen, NULL, 0},
		.qos = access->qos,
		.retain = access->retain,
		.list = access->properties};
	bool is_own;

	if (lanes_is_copy(router->lanes, &message)) {
		return true;
	}
	if (!lanes_has_published(router->lanes)) {
		return false;
	}
	is_own = read_properties(router, access->properties, &message.content) &&
			lanes_is_own_copy(router->lanes, &message);
	end_properties(router);
	return is_own;
}

void router_hide(struct router *router, const char *topic)
{
	const struct lanes_message published = {
		.content = {.topic = topic, .topic_length = strlen(topic)}, .retain = true};
	const struct recipient *recipients;
	size_t count;

	topics_match(router->topics, topic, &recipients, &count);
	if (count) {
		lanes_publishes(router->lanes, &published);
	}
}
