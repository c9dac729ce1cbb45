/* DESIGN
 * docs/architecture.md, "The order of messages", says what could overtake what, and what is held back for
 * that. The event that a client is gone is held back with the rest, so that what it left to the session comes
 * first. The clients and topics of QoS 2 messages are told apart by a hash alone; two with one hash share the
 * delay. */
#include "broker/lanes.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/publish.h"
#include "broker/refused.h"
#include "session/session.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/fingerprint.h"
#include "shared/hash.h"
#include "shared/marks.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/topics.h"

/* Seconds after a QoS 2 message in which it may still be released. */
#define QOS_2_S 10
/* The longest that consumers wait at the start for what the broker kept. */
#define FIRST_HOLD_S 12
#define SLOTS 1024U /* a power of two */
/* How many fences of holds may be under way to the session, and how many words without a bound of their own
 * to the loop thread, before one hold serves for all that asks for one. Clients that come and go would else
 * fill both queues. */
#define FENCES_MAX 16
#define CONTROLS_MAX 256U
/* The longest pause, in seconds, before a fence that has not come is sent again. */
#define ASK_PAUSE_MAX_S 32

/* What is held, and the fences that end it. */
struct holds {
	int last;           /* number of the last; see session.h */
	int fenced;         /* the last whose fence was sent */
	int written_off;    /* the last that the session will not bring any more */
	time_t first_until; /* 0: the first is over */
	time_t fenced_at;
	int ask_pause;   /* in seconds */
	bool has_fenced; /* since the last tick */
};

/* What was left to the session lately. */
struct left {
	time_t until;          /* 0: nothing was lately, */
	time_t by_slot[SLOTS]; /* by this client, or to this topic */
};

struct lanes {
	struct session *session;
	struct queue *inbound;
	bool leaves_v5;
	bool ignores_properties;
	bool refuses_copies;
	bool is_open;
	bool is_up, was_up;
	struct holds holds;
	struct left left;

	/* What $share/group/filter stands for, by its filter: the session gets these messages as a member of the
	 * group, which cannot be told from their copies when the broker asks. */
	struct topics *shares;

	struct refused refused;
};

struct lanes *lanes_new(struct session *session, struct queue *inbound, const struct versions_traits *traits,
		bool leaves_v5)
{
	struct lanes *lanes = calloc(1, sizeof(*lanes));

	if (!lanes) {
		return NULL;
	}
	lanes->shares = topics_new();
	if (!lanes->shares) {
		free(lanes);
		return NULL;
	}
	lanes->session = session;
	lanes->inbound = inbound;
	lanes->leaves_v5 = leaves_v5;
	refused_init(&lanes->refused, traits);
	return lanes;
}

void lanes_free(struct lanes *lanes)
{
	if (!lanes) {
		return;
	}
	topics_free(lanes->shares);
	refused_end(&lanes->refused);
	free(lanes);
}

static void send_number(struct lanes *lanes, uint64_t number)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	const struct message_content fence = {.topic = SESSION_FENCE_TOPIC,
		.topic_length = sizeof(SESSION_FENCE_TOPIC) - 1,
		.payload = digits,
		.payload_length = (size_t)length};

	if (publish_message(session_client_id(lanes->session), &fence, 1, false)) {
		/* What is not sent for want of memory is asked for again, or made good by the next. */
	}
}

static int last_released(const struct lanes *lanes)
{
	int released = session_released(lanes->session);

	return released < lanes->holds.written_off ? lanes->holds.written_off : released;
}

/* Whether no more fences are to be under way, and words for the loop thread. One a second goes all the same,
 * because one may have got lost; with it, those before it are of no account. */
static bool has_enough_fences(const struct lanes *lanes)
{
	int released = last_released(lanes);

	return lanes->holds.fenced_at == now_s() &&
			(lanes->holds.fenced - released >= FENCES_MAX || queue_controls(lanes->inbound) >= CONTROLS_MAX);
}

static void send_fence(struct lanes *lanes)
{
	if (has_enough_fences(lanes)) {
		return; /* a tick sends it later, for all that comes until then: what the session has read brings
				 * one */
	}
	lanes->holds.fenced = lanes->holds.last;
	lanes->holds.fenced_at = now_s();
	lanes->holds.ask_pause = 1;
	lanes->holds.has_fenced = true;
	send_number(lanes, SESSION_HOLD_FENCE | (uint64_t)lanes->holds.last);
}

/* A fence that does not come was dropped, with others, from a full queue of the session's. Returns whether it
 * was sent again. */
static bool repeat_fence(struct lanes *lanes)
{
	if (!lanes->is_up || last_released(lanes) >= lanes->holds.fenced ||
			now_s() <= lanes->holds.fenced_at + lanes->holds.ask_pause) {
		return false;
	}
	lanes->holds.fenced_at = now_s();
	lanes->holds.ask_pause =
			lanes->holds.ask_pause < ASK_PAUSE_MAX_S ? lanes->holds.ask_pause * 2 : ASK_PAUSE_MAX_S;
	send_number(lanes, SESSION_HOLD_FENCE | (uint64_t)lanes->holds.fenced);
	return true;
}

/* What comes the direct lane from now on is kept back until everything that the broker has sent to the
 * session, the rest of this turn included, has come. One hold is enough while its fence has not left, and
 * that is so until the turn's end; is_late: it may have left before that. */
static void hold(struct lanes *lanes, bool is_late)
{
	if (lanes->holds.last != lanes->holds.fenced || (lanes->holds.has_fenced && !is_late)) {
		return;
	}
	lanes->holds.last = lanes->holds.last % INT_MAX + 1;
	/* Without memory for it a message may be overtaken. */
	(void)queue_tell(lanes->inbound, message_hold(lanes->holds.last));
	if (!lanes->holds.has_fenced) {
		send_fence(lanes);
	}
}

void lanes_open(struct lanes *lanes)
{
	struct message *listening;

	if (lanes->is_open || !lanes->session) {
		return;
	}
	lanes->is_open = true;
	listening = message_listening();
	if (listening) {
		lanes->holds.last = lanes->holds.fenced = lanes->holds.written_off = SESSION_FIRST_HOLD;
		lanes->holds.first_until = now_s() + FIRST_HOLD_S;
		(void)queue_tell(lanes->inbound, message_hold(lanes->holds.last));
		session_command(lanes->session, listening);
	}
}

static time_t *slot_of(struct lanes *lanes, uint64_t hash)
{
	return &lanes->left.by_slot[(hash ^ (hash >> 20)) & (SLOTS - 1)];
}

static time_t *slot_of_client(struct lanes *lanes, const void *connection)
{
	return slot_of(lanes, (uint64_t)(uintptr_t)connection >> 4);
}

void lanes_ignore_properties(struct lanes *lanes)
{
	lanes->ignores_properties = true;
	refused_ignore_properties(&lanes->refused);
	if (lanes->session) {
		session_ignore_properties(lanes->session);
	}
}

static uint64_t fingerprint(const struct lanes *lanes, const struct lanes_message *message,
		enum fingerprint_retain retain)
{
	return fingerprint_published(fingerprint_of(&message->content, !lanes->ignores_properties), message->qos,
			retain);
}

static uint64_t fingerprint_of_clients(const struct lanes *lanes, const struct lanes_message *message)
{
	return fingerprint(lanes, message, message->retain ? FINGERPRINT_RETAIN : FINGERPRINT_LIVE);
}

static void tell_publisher(struct lanes *lanes, const struct lanes_message *published)
{
	/* Without it, consumers do not learn who published. */
	if (published->client) {
		(void)lanes_tell_session(lanes,
				message_publisher(published->client, fingerprint_of_clients(lanes, published),
						published->stored));
	}
}

/* Whether a client's message is left to the session. */
static bool leaves(const struct lanes *lanes, const struct lanes_message *published)
{
	return published->qos == 2 ||
			(lanes->leaves_v5 && published->client &&
					client_description(published->client)->protocol_version == 5);
}

bool lanes_leaves(const struct lanes *lanes, const struct lanes_message *published)
{
	return lanes->is_up && leaves(lanes, published);
}

/* Whether it is, while the session is up and something is left to it now, or was lately. What goes the direct
 * lane does not overtake that. */
static bool leave_or_hold(struct lanes *lanes, const struct lanes_message *published, bool leaves_now)
{
	time_t now = now_s(), *of_client = slot_of_client(lanes, published->connection);
	time_t *of_topic = slot_of(lanes, hash_text(published->content.topic));

	if (leaves_now) {
		*of_client = *of_topic = lanes->left.until = now + QOS_2_S;
		tell_publisher(lanes, published);
	} else if (now >= lanes->left.until) {
		lanes->left.until = 0;
	} else if (now < *of_client || now < *of_topic) {
		hold(lanes, false);
	}
	return leaves_now;
}

static bool is_shared(struct lanes *lanes, const char *topic)
{
	const struct recipient *recipients;
	size_t count;

	if (topics_count(lanes->shares) == 0) {
		return false;
	}
	topics_match(lanes->shares, topic, &recipients, &count);
	return count > 0;
}

/* So that the copy which the broker sends to the session is known for one. */
static void mark_copy(struct lanes *lanes, const struct lanes_message *message)
{
	struct marks *marks = lanes->session ? session_marks(lanes->session, message->qos == 2) : NULL;

	if (!marks) {
		return;
	}
	/* With QoS 2 the broker asks when it releases the message, which is not now. */
	if (lanes->refuses_copies && message->qos < 2 && !is_shared(lanes, message->content.topic)) {
		refused_note_direct(&lanes->refused, message);
	} else {
		marks_add(marks, fingerprint_of_clients(lanes, message));
	}
}

enum lane lanes_choose(struct lanes *lanes, const struct lanes_message *published,
		const struct recipient *recipients, size_t recipient_count, struct message **ret_message)
{
	bool leaves_now = leaves(lanes, published);
	struct message *message;

	*ret_message = NULL;
	if (lanes->is_up && (leaves_now || lanes->left.until) && leave_or_hold(lanes, published, leaves_now)) {
		return LANE_SESSION;
	}
	message = published->is_incomplete ? NULL
									   : message_publish(&published->content, recipients, recipient_count);
	if (message) {
		message->as.publish.stored = published->stored;
		message->as.publish.qos = published->qos;
		message->as.publish.retain = published->retain;
		mark_copy(lanes, published);
	}
	*ret_message = message;
	return LANE_DIRECT;
}

/* Whether the broker asks about the copy of what the application publishes just before it sends that. Not a
 * QoS 2 message's: a client's of the same content, which the broker may release before, must not be taken for
 * it. The session takes either for this one and brings the other. And not while the session is down: when it
 * comes back, the broker asks about all that it has kept for it. */
static bool can_refuse_own(struct lanes *lanes, const struct lanes_message *message)
{
	return lanes->refuses_copies && lanes->is_up && message->qos < 2 &&
			!is_shared(lanes, message->content.topic);
}

void lanes_publishes(struct lanes *lanes, const struct lanes_message *message)
{
	struct marks *marks = lanes->session ? session_marks(lanes->session, false) : NULL;
	bool is_refused = marks && can_refuse_own(lanes, message) && refused_note_own(&lanes->refused, message);

	if (marks && !is_refused) {
		marks_add(marks,
				fingerprint(lanes, message, message->retain ? FINGERPRINT_OWN_RETAIN : FINGERPRINT_LIVE));
	}
}

void lanes_recalls(struct lanes *lanes, const struct lanes_message *message)
{
	struct marks *marks = lanes->session ? session_marks(lanes->session, false) : NULL;

	if (marks && !lanes->was_up && message->qos < 2) {
		marks_add(marks, fingerprint_of_clients(lanes, message));
	}
}

bool lanes_refuse_copies(struct lanes *lanes)
{
	bool is_new = !lanes->refuses_copies;

	lanes->refuses_copies = true;
	return is_new;
}

bool lanes_is_copy(const struct lanes *lanes, const struct lanes_message *message)
{
	return refused_is_copy(&lanes->refused, message);
}

bool lanes_has_published(const struct lanes *lanes)
{
	return refused_has_own(&lanes->refused);
}

bool lanes_is_own_copy(struct lanes *lanes, const struct lanes_message *message)
{
	return refused_is_own_copy(&lanes->refused, message);
}

void lanes_next_message(struct lanes *lanes)
{
	refused_next_message(&lanes->refused);
}

bool lanes_tick(struct lanes *lanes)
{
	bool owes = lanes->holds.last != lanes->holds.fenced, repeats = false;

	lanes->holds.has_fenced = false;
	if (owes) {
		send_fence(lanes);
		lanes->holds.has_fenced = false; /* on 2.0 it leaves before the next turn's events */
	} else if (lanes->session) {
		repeats = repeat_fence(lanes);
	}
	/* The session's thread ends it, unless the system holds that up, with a name server or a connection. */
	if (lanes->holds.first_until && now_s() >= lanes->holds.first_until &&
			queue_tell(lanes->inbound, message_release(SESSION_FIRST_HOLD))) {
		lanes->holds.first_until = 0;
	}
	refused_tick(&lanes->refused);
	return repeats || (owes && lanes->holds.last == lanes->holds.fenced);
}

void lanes_hold_for_client(struct lanes *lanes, const void *connection, bool is_late)
{
	if (lanes->is_up && lanes->left.until && now_s() < *slot_of_client(lanes, connection)) {
		hold(lanes, is_late);
	}
}

/* A will that is equal to what the application has just published, and that the broker sends before it, must
 * not be taken for it. The session takes either for that and brings the other. */
static void mark_own(struct lanes *lanes)
{
	struct marks *marks = lanes->session ? session_marks(lanes->session, false) : NULL;
	const uint64_t *own;
	size_t i, count = refused_give_up_own(&lanes->refused, &own);

	for (i = 0; marks && i < count; i++) {
		marks_add(marks, own[i]);
	}
}

void lanes_hold_for_will(struct lanes *lanes, bool is_late)
{
	mark_own(lanes);
	if (lanes->is_up) {
		hold(lanes, is_late);
	}
}

void lanes_set_session(struct lanes *lanes, bool is_up)
{
	if (lanes->is_up && !is_up) {
		(void)queue_tell(lanes->inbound, message_release(lanes->holds.last));
		lanes->holds.fenced = lanes->holds.written_off = lanes->holds.last;
	}
	lanes->is_up = is_up;
	lanes->was_up |= is_up;
}

bool lanes_has_session(const struct lanes *lanes)
{
	return lanes->is_up;
}

uint64_t lanes_missing(const struct lanes *lanes)
{
	struct marks *marks = lanes->session ? session_marks(lanes->session, false) : NULL;
	struct marks *late = lanes->session ? session_marks(lanes->session, true) : NULL;

	return marks && late ? marks_missing(marks) + marks_missing(late) : 0;
}

uint64_t lanes_forgotten(const struct lanes *lanes)
{
	return lanes->session ? session_forgotten(lanes->session) : 0;
}

uint64_t lanes_left_out(const struct lanes *lanes)
{
	return lanes->session ? session_left_out(lanes->session) : 0;
}

uint64_t lanes_passed_over(const struct lanes *lanes)
{
	return lanes->session ? session_passed_over(lanes->session) : 0;
}

uint64_t lanes_refused(const struct lanes *lanes)
{
	return lanes->session ? session_refused(lanes->session) : 0;
}

void lanes_fence(struct lanes *lanes, uint64_t fence)
{
	struct marks *marks = session_marks(lanes->session, false), *late = session_marks(lanes->session, true);

	if (marks && late) {
		marks_fence(marks, fence);
		marks_fence(late, fence);
	}
	send_number(lanes, fence);
}

bool lanes_tell_session(struct lanes *lanes, struct message *word)
{
	if (word && lanes->session) {
		session_command(lanes->session, word); /* the session's now */
	} else {
		message_free(word);
	}
	return word != NULL;
}

/* Counts $share/group/filter as a subscription to its filter, apart from another group's. */
static void count_share(struct lanes *lanes, const struct message *command)
{
	const char *filter = strchr(command->topic + strlen("$share/"), '/');
	uint64_t who = command->as.request.consumer ^ hash_text(command->topic);

	if (!filter) {
		return;
	}
	if (command->kind == MESSAGE_UNSUBSCRIBE) {
		(void)topics_remove(lanes->shares, who, filter + 1);
	} else if (topics_add(lanes->shares, who, filter + 1, 0)) {
		/* Without memory for it the broker is told to keep messages from the session that were for the group;
		 * the group subscription's own trouble is reported by the session. */
	}
}

int lanes_command(struct lanes *lanes, const struct message *command, bool is_new, bool *ret_answers)
{
	struct message_request *request;
	struct message *copy;

	*ret_answers = false;
	if (!lanes->session) {
		return MOSQ_ERR_SUCCESS;
	}
	copy = message_copy(command);
	if (!copy) {
		return MOSQ_ERR_NOMEM;
	}
	if (topics_is_shared(command->topic)) {
		count_share(lanes, command);
	}
	request = &copy->as.request;
	/* While there is no session the direct lane is all there is to wait for. */
	if (!lanes->is_up) {
		request->sequence = 0;
	}
	*ret_answers = request->sequence != 0;
	if (*ret_answers && command->kind == MESSAGE_SUBSCRIBE &&
			topics_brings_retained(command->topic, request->options, is_new)) {
		(void)queue_tell(lanes->inbound, message_hold_consumer(request->consumer, !is_new));
		request->is_held = true;
	}
	session_command(lanes->session, copy); /* copy is the session's now */
	return MOSQ_ERR_SUCCESS;
}
