/* Stands for session.c, and records the commands that it is given. One session at a time. */
#ifndef STUB_SESSION_H
#define STUB_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/message.h"

struct marks;
struct session;

extern struct stub_session {
	struct message *commands[64]; /* owned */
	size_t command_count;
	struct marks *marks; /* what session_marks() returns */
	int released;        /* what session_released() returns */
	int new_rc;          /* what session_new() returns, */
	int start_rc;        /* and session_start() */
	bool hangs;          /* session_stop() waits in vain */
	bool started, stopped, freed, ignores_properties;
} stub_session;

/* A session to give to lanes_new(). */
struct session *stub_session_get(void);

/* Forgets everything. */
void stub_session_reset(void);

#endif
