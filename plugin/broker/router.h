/* Who hears a message: from the filters of the consumers, by the lane that it takes, into the inbound queue.
 * Owns the trie of filters. Broker thread only. */
#ifndef MQTTASGI_ROUTER_H
#define MQTTASGI_ROUTER_H

#include <stdbool.h>

struct clients;
struct keeper;
struct lanes;
struct message;
struct mosquitto_evt_acl_check;
struct mosquitto_evt_message;
struct options;
struct properties_reader;
struct queue;
struct router;
struct statistics;

/* Borrows inbound, lanes, clients and statistics, which must outlive it. NULL when memory ran out. */
struct router *router_new(const struct options *options, struct queue *inbound, struct lanes *lanes,
		struct clients *clients, struct statistics *statistics);

/* Takes NULL. */
void router_free(struct router *router);

/* The options that can change have. */
void router_adopt(struct router *router, const struct options *options);

/* Without this, consumers get clients' live messages without their properties. The reader is copied. */
void router_use_reader(struct router *router, const struct properties_reader *reader);

/* There is a durable inbox, which is borrowed. NULL: there is none any more. */
void router_use_keeper(struct router *router, struct keeper *keeper);

/* A MESSAGE_SUBSCRIBE or MESSAGE_UNSUBSCRIBE, of which the session is told. *ret_answers: it will answer;
 * otherwise what is returned is the answer: MOSQ_ERR_SUCCESS, MOSQ_ERR_NOMEM, MOSQ_ERR_INVAL (too many
 * levels), MOSQ_ERR_NOT_FOUND (no such subscription). */
int router_subscribe(struct router *router, const struct message *message, bool *ret_answers)
		__attribute__((warn_unused_result));
int router_unsubscribe(struct router *router, const struct message *message, bool *ret_answers)
		__attribute__((warn_unused_result));

/* What became of a client's message. */
enum route {
	ROUTE_NONE,    /* nobody gets it by the direct lane now */
	ROUTE_DIRECT,  /* somebody does */
	ROUTE_REFUSED, /* it could not be stored: its publisher must not take it for delivered */
};

/* Hands a client's message to every consumer that asked for it. */
enum route router_route(struct router *router, const struct mosquitto_evt_message *event);

/* Hands what a consumer has published to all, itself included. */
void router_route_own(struct router *router, const struct message *publish);

/* An empty message with the RETAIN flag was published that is not for consumers: the copy that the session
 * gets is not, either. */
void router_hide(struct router *router, const char *topic);

/* Tells consumers that watch clients what there is to tell. */
void router_tell_of_clients(struct router *router);

/* Whether what the broker is about to send to the session went the direct lane. */
bool router_is_copy(struct router *router, const struct mosquitto_evt_acl_check *access);

/* From now on nothing goes the direct lane. */
void router_close(struct router *router);

#endif
