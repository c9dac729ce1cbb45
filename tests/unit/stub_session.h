/* Stands for session.c where its thread is not the subject: there is one session, and it records what the broker thread
 * tells it. For one thread. */
#ifndef STUB_SESSION_H
#define STUB_SESSION_H

#include <stdbool.h>
#include <stddef.h>

struct marks;
struct message;
struct session;

struct stub_session {
	const char *client_id;    /* of session_client_id() */
	struct marks *marks;      /* of session_marks(); NULL: it expects no copies */
	int new_rc;               /* of session_new(), */
	const char *error;        /* with this sentence; NULL: none */
	int start_rc;             /* of session_start() */
	bool hangs;               /* session_stop() waits in vain */
	unsigned int made, started, stopped, freed;
	struct message *commands; /* not taken yet, in order */
};

extern struct stub_session stub_session;

/* Forgets everything, and is there: a session with a client id, and marks. */
struct session *stub_session_reset(void);

/* Frees what stub_session_reset() made. */
void stub_session_end(void);

/* The oldest command, which is now the caller's, or NULL. */
struct message *stub_session_take(void);

#endif
