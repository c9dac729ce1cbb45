#include "broker/deliver.h"

#include "options/options.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/statistics.h"

void deliver_init(struct delivery *delivery, const struct options *options, struct queue *inbound,
		struct statistics *statistics)
{
	*delivery = (struct delivery){.options = options, .inbound = inbound, .statistics = statistics};
	deliver_adopt(delivery, options);
}

void deliver_adopt(struct delivery *delivery, const struct options *options)
{
	delivery->queue_size = options->queue_size;
	delivery->queue_bytes = options->queue_bytes;
}

/* Puts a message into the inbound queue, or not; adds to *dropped how many others made room for it. */
static bool push(struct delivery *delivery, struct message *message, size_t *dropped)
{
	if (delivery->options->overload == OPTIONS_DROP_OLDEST) {
		return queue_push_dropping(delivery->inbound, message, dropped);
	}
	return queue_push(delivery->inbound, message);
}

static void complain_of_overload(struct delivery *delivery, size_t dropped, const char *topic)
{
	const char *which = delivery->options->overload == OPTIONS_DROP_OLDEST ? "oldest" : "newest";
	uint64_t times;

	if (log_may_complain(&delivery->full, dropped, &times)) {
		log_line(MOSQ_LOG_WARNING,
				"%llu messages for consumers dropped, the %s first: the queue is full. The last that came was %s" DELIVER_TOPIC
				"%s. The application is slower than its messages; queue_size (%zu) and queue_bytes (%zu) bound what may wait.",
				(unsigned long long)times, which, topic ? "on topic '" : "about a client that came or went",
				topic ? topic : "", topic ? "'" : "", delivery->queue_size, delivery->queue_bytes);
	}
}

bool deliver(struct delivery *delivery, struct message *message, const char *topic)
{
	bool is_stored = message && message->kind == MESSAGE_PUBLISH && message->as.publish.stored;
	uint64_t times;
	size_t dropped = 0;

	if (!message) {
		statistics_add(delivery->statistics, STATISTICS_DROPPED_MEMORY, 1);
		if (log_may_complain(&delivery->no_memory, 1, &times)) {
			log_line(MOSQ_LOG_WARNING, "%llu messages for consumers dropped: no memory.",
					(unsigned long long)times);
		}
		return false;
	}
	if (push(delivery, message, &dropped)) {
		message = NULL;
		statistics_add(delivery->statistics, STATISTICS_RECEIVED, 1);
	} else {
		dropped += !is_stored; /* that comes later */
	}
	if (dropped) {
		statistics_add(delivery->statistics, STATISTICS_DROPPED_QUEUE, dropped);
		complain_of_overload(delivery, dropped, topic);
	}
	if (message) {
		message_free(message);
		return false;
	}
	return true;
}
