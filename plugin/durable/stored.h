/* A message in the durable inbox, as store.h takes and gives it. */
#ifndef MQTTASGI_STORED_H
#define MQTTASGI_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/message.h"

/* A consumer that a message is for, and by which subscription. */
struct store_recipient {
	uint32_t consumer;   /* store_consumer() */
	uint32_t identifier; /* of the subscription (MQTT 5, 3.8.2.1.2); 0: none */
	uint8_t options;     /* Subscription Options (MQTT 5, 3.8.3.1) */
};

struct store_message {
	uint64_t id; /* the store's; they rise, from one start to the next too, and none comes twice */
	struct message_content content; /* the topic terminated; properties as in properties.h */
	const void *publisher;          /* whatever the caller knows of who published it; NULL: nothing */
	size_t publisher_length;
	int64_t time; /* when it came */
	uint8_t qos;  /* 1 or 2 */
	bool retain;
};

/* A message for one of its consumers. */
struct store_delivery {
	struct store_message message;
	struct store_recipient recipient;
	uint32_t tries; /* store_failed() */
};

#endif
