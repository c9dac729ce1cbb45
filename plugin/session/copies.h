/* Which of what comes are copies of what consumers have from the direct lane.
 *
 * The broker thread marks what goes the direct lane (marks.h); the session's thread takes the mark when the
 * copy comes. Marks whose copies do not come end with a fence. Those of QoS 2 live longer, because the broker
 * makes the copies when the publisher releases the message. The session's thread, but where it says
 * otherwise. */
#ifndef MQTTASGI_COPIES_H
#define MQTTASGI_COPIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection_message;
struct fingerprint_copies;
struct marks;
struct outlet;

/* Copies that may be on their way, of either kind; 16 bytes each, touched only when used. */
#define COPIES_MAX (1U << 16)
/* How often marks whose copies do not come are looked for. */
#define COPIES_FENCE_MS 200U
/* How long a publisher may take to release a QoS 2 message that consumers got the direct lane: the copy of
 * one that takes longer comes as another message. It may be twice that. */
#define COPIES_LATE_MS 10000U
/* How long it is believed that upgrade_outgoing_qos is false after that has shown. */
#define COPIES_LOWERED_MS 10000U
/* Between two log lines about what may come twice. */
#define COPIES_MISSING_MS 1000U

struct copies {
	struct outlet *outlet;
	struct marks *marks;
	struct marks *late_marks; /* of QoS 2 */
	atomic_bool are_expected; /* any thread's */
	bool ignore_properties;   /* what the broker thread marks has none */
	bool is_fresh;            /* the broker had no session when this connection was made */
	size_t late_place;        /* late marks before it end */
	uint64_t late_until;      /* then; UINT64_MAX: not while the session does not run */
	uint64_t fence_at;        /* not before that is a fence sent for the marks */
	uint64_t lowered_at;      /* when a copy last had a lower QoS than its subscription; 0: never */
	uint64_t missing_told, missing_told_at; /* marks_missing() as the log has it */
};

/* Borrows outlet. False: no memory; copies_free() all the same. */
bool copies_init(struct copies *copies, struct outlet *outlet) __attribute__((warn_unused_result));
void copies_free(struct copies *copies);

/* Where the broker thread marks what goes the direct lane; late: with QoS 2. NULL: no copies can come any
 * more. */
struct marks *copies_marks(struct copies *copies, bool late);

/* No connection will be made any more. */
void copies_give_up(struct copies *copies);

/* ---- the connection ---- */

/* session_present: the broker had the session, and so copies of what came while the connection was lost. */
void copies_connected(struct copies *copies, bool session_present);

/* Of what was released while the connection was lost all copies have come. */
void copies_caught_up(struct copies *copies, uint64_t now);

/* The connection is lost: no copy can come, so late marks do not end. */
void copies_lose(struct copies *copies);

/* A fence has come, with all copies that the broker made before. is_in_force: the subscriptions of the last
 * round are. */
void copies_pass(struct copies *copies, uint64_t fence, bool is_in_force, uint64_t now);

/* Ends late marks whose time is over. */
void copies_end_late(struct copies *copies, uint64_t now);

/* Whether marks may have to be cleared, or their lack be told. */
bool copies_want_fence(const struct copies *copies);

/* The same, once each COPIES_FENCE_MS. */
bool copies_want_fence_now(struct copies *copies, uint64_t now);

/* Whether there are marks of a QoS below 2: what went the direct lane has not come yet. */
bool copies_are_under_way(const struct copies *copies);

/* ---- what comes ---- */

/* Of its content: what a copy and the message that it is one of have in common. */
uint64_t copies_fingerprint(const struct copies *copies, const struct connection_message *event);

/* Whether consumers have one of these from the direct lane; it is told once of each. */
bool copies_take(struct copies *copies, const struct fingerprint_copies *published);

/* Whether consumers have this from the direct lane, which comes for a subscription at this QoS; shows_retain:
 * it would have the RETAIN flag that it was published with. ret_published: what it may have been published
 * as. */
bool copies_recognise(struct copies *copies, const struct connection_message *event, uint8_t granted_qos,
		bool shows_retain, struct fingerprint_copies *ret_published);

#endif
