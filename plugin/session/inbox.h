/* What the broker thread has for the session's: commands, and a descriptor that tells when there are any.
 *
 * Commands come from consumers' subscriptions and from clients, and wait only for the session's thread, so
 * they need no bound; none is lost. */
#ifndef MQTTASGI_INBOX_H
#define MQTTASGI_INBOX_H

#include <stdbool.h>

struct message;
struct queue;

/* {.read_fd = -1, .write_fd = -1} at first. */
struct inbox {
	struct queue *commands;
	int read_fd;  /* readable when there are commands, for poll() */
	int write_fd; /* its other end */
};

/* False: no memory, or no descriptors; inbox_free() all the same. */
bool inbox_init(struct inbox *inbox) __attribute__((warn_unused_result));

/* Frees what waits. */
void inbox_free(struct inbox *inbox);

/* Broker thread. The command is the session's from here on. Takes NULL. */
void inbox_put(struct inbox *inbox, struct message *command);

/* Session's thread: the next command, which is the caller's. NULL: there is none. */
struct message *inbox_take(struct inbox *inbox) __attribute__((warn_unused_result));

/* Session's thread: the descriptor is not readable any more, but for what is put in from now on. */
void inbox_clear_signal(const struct inbox *inbox);

#endif
