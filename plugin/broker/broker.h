/* The broker thread's side: Mosquitto's events in, the application's wishes out.
 *
 * Everything here runs on the broker thread (Mosquitto has only that one), never takes the GIL and never
 * waits for Python once broker_wait() of the start-up has returned; the one exception is the bounded spin of
 * the `spin` option. */
#ifndef MQTTASGI_BROKER_H
#define MQTTASGI_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/message.h"

struct access;
struct broker;
struct clients;
struct keeper;
struct lanes;
struct options;
struct properties_reader;
struct queue;
struct statistics;
struct wakeup;

/* Borrows all seven, which must outlive it. NULL when memory ran out. */
struct broker *broker_new(const struct options *options, struct queue *inbound, struct queue *outbound,
		struct wakeup *wakeup, struct lanes *lanes, struct clients *clients, struct statistics *statistics);

/* Takes NULL. */
void broker_free(struct broker *broker);

/* Before broker_on_access() is registered. It is copied. */
void broker_set_access(struct broker *broker, const struct access *access);

/* The RELOAD event: the broker reads its rules for access again. */
void broker_rules_change(struct broker *broker);

/* There is a durable inbox, which is borrowed. NULL: there is none any more. */
void broker_use_keeper(struct broker *broker, struct keeper *keeper);

/* Without this, consumers get clients' live messages without their properties. The reader is copied. */
void broker_use_reader(struct broker *broker, const struct properties_reader *reader);

/* Makes those options that can change while the broker runs what options says; the struct is not kept.
 * Messages that wait stay where they are. False when memory ran out, and then nothing has changed. */
bool broker_adopt(struct broker *broker, const struct options *options) __attribute__((warn_unused_result));

/* Callbacks for mosquitto_callback_register(); userdata is the struct broker. All return MOSQ_ERR_SUCCESS
 * whatever happens (an application's trouble is never a client's), but for three. broker_on_message() refuses
 * a message that the durable inbox cannot store. broker_on_login() leaves the
 * decision to others, who on Mosquitto 2.0 then have to take one (see the option connect_events).
 * broker_on_access() keeps from the session what went the direct lane, and is as good as not there for
 * everybody else. It can be so only before all other plugins that have a say in access: on 2.1, what an
 * earlier one left undecided counts as granted after it; and on 2.0 only where it is known who has one (see
 * access.h). */
int broker_on_message(int event, void *event_data, void *userdata);
int broker_on_tick(int event, void *event_data, void *userdata);
int broker_on_login(int event, void *event_data, void *userdata);
int broker_on_connect(int event, void *event_data, void *userdata);
int broker_on_disconnect(int event, void *event_data, void *userdata);
int broker_on_access(int event, void *event_data, void *userdata);

/* Before the application ends: where cleansession is false, lets the session end while it keeps its
 * subscriptions. Until then, which is as long as broker_is_suspending() says so, it brings everything,
 * nothing goes the direct lane; after that what clients publish waits in the broker for the application's
 * next start. So each message is handled once. With a durable inbox what clients publish is stored, and goes
 * the direct lane to the end. */
void broker_suspend(struct broker *broker);
bool broker_is_suspending(const struct broker *broker);

/* The broker has left its loop: its clients are freed, and it sends nothing any more. From now on only the
 * application's log lines, what it says of stored messages, and its end are carried out; who subscribes is
 * told that it has, and what is published is counted. */
void broker_end(struct broker *broker);
uint64_t broker_unsent(const struct broker *broker);

/* What the application says of itself since the consumers of the start have subscribed; NULL: they have not.
 * And whether it is known since then, or before, that the session is up or cannot be yet. */
const char *broker_summary(const struct broker *broker);
bool broker_knows_session(const struct broker *broker);

/* Does what the application asks for until it says kind (MESSAGE_STARTED or MESSAGE_STOPPED) or the time is
 * over. MESSAGE_STOPPED ends every wait. Returns whether kind came. */
bool broker_wait(struct broker *broker, enum message_kind kind, unsigned int milliseconds);

/* Whether MESSAGE_STOPPED came. */
bool broker_has_stopped(const struct broker *broker);

#endif
