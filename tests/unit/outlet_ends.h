/* The other ends of an outlet: what a piece of the session says to the other threads, and the clock
 * (stub_clock.h). One outlet at a time. */
#ifndef OUTLET_ENDS_H
#define OUTLET_ENDS_H

#include <stddef.h>
#include <stdint.h>

#include "session/outlet.h"
#include "shared/message.h"
#include "stub_clock.h"

extern struct outlet outlet;

/* What outlet_ends_listen() has heard last. */
extern int said_up; /* -1: nothing */
extern char said_log[4096];

/* inbound_size: messages that the inbound queue takes. */
void outlet_ends_open(size_t inbound_size);

/* Fails the test where memory is lost. */
void outlet_ends_close(void);

/* Takes what was said to the broker thread. Returns the last fence that was asked for, 0 for none. */
uint64_t outlet_ends_listen(void);

/* The next message or word for the loop thread, which must be of this kind; the caller frees it. */
struct message *outlet_ends_take(enum message_kind kind);

/* The same, freed. which: the consumer's number, the answer's or the hold's. */
void outlet_ends_expect(enum message_kind kind, uint64_t which);

/* A publish for one consumer. */
void outlet_ends_expect_publish(const char *payload, uint64_t consumer);

void outlet_ends_expect_nothing(void);

#endif
