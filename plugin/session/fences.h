/* Fences: messages that the broker thread sends through the session, by which it learns how far it has got.
 *
 * They have numbers that rise. The broker sends them in order, behind all that it had for the session before;
 * one that it has no room for it leaves out, so a fence does as well as those before it that have not come.
 * One that does not come is asked for again. The session's thread. */
#ifndef MQTTASGI_FENCES_H
#define MQTTASGI_FENCES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outlet;

/* So long the broker may be silent while one is on its way. */
#define FENCES_ANSWER_MS 5000U
/* A fence that has not come after this is asked for again, with pauses that double up to FENCES_ASK_MAX_MS:
 * the broker drops what it has no room for in the session's queue, fences included. */
#define FENCES_ASK_MS 1000U
#define FENCES_ASK_MAX_MS 30000U
/* How often the log says, at most, that the broker has dropped some of it, and the connection is made anew
 * for that. */
#define FENCES_LEFT_OUT_MS 60000U

struct fences {
	struct outlet *outlet;
	uint64_t asked;        /* the last one asked for */
	uint64_t passed;       /* the last one that has come, or is lost */
	uint64_t deadline;     /* without a byte from the broker */
	uint64_t deadline_max; /* whatever it sends; 0: none */
	uint64_t ask_at;       /* when it is asked for again */
	unsigned int ask_pause;
	atomic_ullong left_out_count; /* any thread's: how many have not come, as far as that was noticed */
	uint64_t left_out_told_at;    /* 0: the log has not said it */
};

/* Borrows outlet. The first number is behind last. */
void fences_init(struct fences *fences, struct outlet *outlet, uint64_t last);

/* Asks for one. Returns its number. */
uint64_t fences_request(struct fences *fences);

/* The number that one has for its payload, in decimal; what is none is 0 or the largest. */
uint64_t fences_read(const void *payload, size_t length);

/* Whether one is on its way. */
static inline bool fences_are_under_way(const struct fences *fences)
{
	return fences->passed < fences->asked;
}

/* Asks again for what is on its way, if it is time for that. True: it was. */
bool fences_ask_again(struct fences *fences, uint64_t now);

/* This one has come. False: it is of an earlier connection. ret_left_out: how many before it have not
 * come. */
bool fences_come(struct fences *fences, uint64_t number, uint64_t now, uint64_t *ret_left_out)
		__attribute__((warn_unused_result));

/* So many have not come, and with them whatever else the broker had no room for. filter: one whose retained
 * messages are under way; NULL: none are. What the broker drops of QoS 1 and 2 from its socket's queue it
 * sends again on the next connection only. True: the log says so, and it is time for that. */
bool fences_tell_left_out(struct fences *fences, uint64_t count, const char *filter, uint64_t now);

/* Those on their way are lost with the connection. */
void fences_lose(struct fences *fences);

/* ---- whether the broker lives ---- */

/* Something has come from it. */
void fences_hear(struct fences *fences, uint64_t now);

/* What comes is read again, after a while in which nothing was. */
void fences_read_again(struct fences *fences, uint64_t now);

/* Another broker may have something to say all the time: from now on, whatever comes is no sign of life after
 * this moment. 0: it is. fences_lose() ends it. */
void fences_set_limit(struct fences *fences, uint64_t at);

/* A fence is on its way, and nothing has come for too long. */
bool fences_are_overdue(const struct fences *fences, uint64_t now);

#endif
