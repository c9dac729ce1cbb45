/* The durable inbox: what is stored before it is acknowledged, and which consumer has yet to get what.
 *
 * A message that a consumer is to get with QoS 1 or 2 is in the file before anybody hears that it was taken,
 * and leaves it when all of those consumers have handled it. Consumers are known by names that stay the same
 * over restarts. One that is *behind* gets what is stored for it from the file, in order, as the inbound
 * queue has room, and what comes is only stored until it has caught up: after its start, and when a message
 * found no room in the queue. What the session brings does not wait for that.
 *
 * What consumers fail at for good, and what nobody asks for in time, goes into a second file (dead.h). Broker
 * thread only; every function but keeper_new() takes NULL, for which there is no durable inbox, and then does
 * nothing. */
#ifndef MQTTASGI_KEEPER_H
#define MQTTASGI_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keeper;
struct lanes;
struct lanes_message;
struct message;
struct options;
struct queue;
struct recipient;
struct statistics;
struct stored_ids;

/* Opens the file that the option `durable` names. Borrows all. NULL: the log says why. */
struct keeper *keeper_new(const struct options *options, struct queue *inbound, struct lanes *lanes,
		struct statistics *statistics) __attribute__((warn_unused_result));

/* Whether it could be opened, as far as can be told without doing so. False: the log says why. */
bool keeper_check(const struct options *options);

/* Carries out what waits, and closes the file. */
void keeper_free(struct keeper *keeper);

/* Other bounds from now on. */
void keeper_adopt(struct keeper *keeper, const struct options *options);

/* Where the ids come from, for the session. NULL without a durable inbox. */
struct stored_ids *keeper_ids(struct keeper *keeper);

/* ---- what is published ---- */

/* Stores a message for those of its recipients that get it with QoS 1 or 2; by_session: the session will
 * bring it. *ret_stored is its id; 0: nobody gets it so. False: it could not be stored, and must not be
 * acknowledged. */
bool keeper_keep(struct keeper *keeper, const struct lanes_message *published,
		const struct recipient *recipients, size_t count, bool by_session, uint64_t *ret_stored);

/* The same for what a consumer has published, or the session has brought (MESSAGE_STORE): nobody can refuse
 * it, so what could not be stored is counted and said, and comes all the same. Returns its id, or 0. */
uint64_t keeper_keep_own(struct keeper *keeper, const struct message *publish,
		const struct recipient *recipients, size_t count);
void keeper_store(struct keeper *keeper, const struct message *message);

/* Those of a stored message's recipients that get it at once: the others are behind. What is returned is
 * valid until the next call. */
const struct recipient *keeper_ready(struct keeper *keeper, const struct recipient *recipients, size_t *count,
		uint8_t qos);

/* Whether it, of so many bytes, was handed over to those. Otherwise they are behind now. */
void keeper_note(struct keeper *keeper, uint64_t stored, uint8_t qos, size_t size,
		const struct recipient *recipients, size_t count, bool was_handed_over);

/* ---- what the loop thread says ---- */

/* MESSAGE_CONSUMER, MESSAGE_CONSUMER_GONE, MESSAGE_DONE, MESSAGE_FAILED. */
void keeper_carry_out(struct keeper *keeper, const struct message *word);

/* ---- now and then ---- */

/* Hands over what is stored for those that are behind, and looks after the files. Returns whether there is
 * more to hand over at once. */
bool keeper_tick(struct keeper *keeper);

#endif
