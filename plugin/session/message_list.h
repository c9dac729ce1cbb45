/* Messages of one owner, first in, first out. What bounds it is its owner's business. */
#ifndef MQTTASGI_MESSAGE_LIST_H
#define MQTTASGI_MESSAGE_LIST_H

#include <stddef.h>

#include "shared/message.h"

/* All zero at first. */
struct message_list {
	struct message *first, *last;
};

static inline void message_list_append(struct message_list *list, struct message *message)
{
	message->next = NULL;
	if (list->first) {
		list->last->next = message;
	} else {
		list->first = message;
	}
	list->last = message;
}

/* The first, which is now the caller's; NULL: it is empty. */
static inline struct message *message_list_take(struct message_list *list)
{
	struct message *message = list->first;

	if (message) {
		list->first = message->next;
	}
	return message;
}

static inline void message_list_clear(struct message_list *list)
{
	struct message *message;

	while ((message = message_list_take(list))) {
		message_free(message);
	}
}

#endif
