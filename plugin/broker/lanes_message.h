/* What the broker thread knows of a message that may go the direct lane. */
#ifndef MQTTASGI_LANES_MESSAGE_H
#define MQTTASGI_LANES_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/message.h"

struct client;

/* A message as it was published. */
struct lanes_message {
	struct message_content content;
	uint8_t qos;
	bool retain;
	const void *list;       /* the broker's of its properties; compared only */
	const void *connection; /* a client's; compared only */
	struct client *client;  /* borrowed; NULL: not known */
	uint64_t stored;        /* its id in the durable inbox; 0: it is not there */
	bool is_incomplete;     /* there was no memory for its properties */
};

#endif
