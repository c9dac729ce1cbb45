#include "outlet_ends.h"

#include <string.h>

#include "cmocka_all.h"
#include "scarce_memory.h"
#include "shared/queue.h"
#include "word_number.h"

struct outlet outlet;
int said_up;
char said_log[4096];

static struct queue *inbound, *outbound;
static long blocks;

static void ignore(void *userdata)
{
	(void)userdata;
}

void outlet_ends_open(size_t inbound_size)
{
	blocks = scarce_memory_blocks();
	clock_ms = 1000000;
	inbound = queue_new(inbound_size, 1000000, ignore, NULL);
	outbound = queue_new(1000, 1000000, ignore, NULL);
	outlet_init(&outlet, inbound, outbound);
}

void outlet_ends_close(void)
{
	outlet_clear(&outlet);
	queue_free(inbound);
	queue_free(outbound);
	assert_int_equal(scarce_memory_blocks(), blocks);
}

uint64_t outlet_ends_listen(void)
{
	struct message *message;
	uint64_t fence = 0;

	said_log[0] = '\0';
	said_up = -1;
	while ((message = queue_take(outbound))) {
		if (message->kind == MESSAGE_FENCE) {
			fence = message->as.fence.number;
		} else if (message->kind == MESSAGE_SESSION) {
			said_up = message->as.session.is_up;
		} else {
			assert_int_equal(message->kind, MESSAGE_LOG);
			strncat(said_log, message->topic, sizeof(said_log) - strlen(said_log) - 1);
			queue_release(outbound, message_size(message));
		}
		message_free(message);
	}
	return fence;
}

struct message *outlet_ends_take(enum message_kind kind)
{
	struct message *message = queue_take(inbound);

	assert_non_null(message);
	assert_int_equal(message->kind, kind);
	if (kind == MESSAGE_PUBLISH) {
		queue_release(inbound, message_size(message));
	}
	return message;
}

void outlet_ends_expect(enum message_kind kind, uint64_t which)
{
	struct message *message = outlet_ends_take(kind);

	assert_int_equal(word_number(message), which);
	message_free(message);
}

void outlet_ends_expect_publish(const char *payload, uint64_t consumer)
{
	struct message *message = outlet_ends_take(MESSAGE_PUBLISH);

	assert_int_equal(message->payload_length, strlen(payload));
	assert_memory_equal(message->payload, payload, strlen(payload));
	assert_int_equal(message->recipient_count, 1);
	assert_int_equal(message->recipients[0].consumer, consumer);
	message_free(message);
}

void outlet_ends_expect_nothing(void)
{
	assert_null(queue_take(inbound));
}
