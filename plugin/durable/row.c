#include "durable/row.h"

#include <string.h>

/* MQTT 5, 1.5.4 and 3.8.2.1.2. */
#define TOPIC_MAX 65535U
#define IDENTIFIER_MAX 268435455

static const void *blob_at(sqlite3_stmt *row, int column, size_t *ret_length, bool *failed)
{
	const void *bytes = sqlite3_column_blob(row, column);

	*ret_length = (size_t)sqlite3_column_bytes(row, column);
	*failed |= !bytes && *ret_length > 0;
	return bytes;
}

/* Nobody writes anything else here. */
static bool is_possible(sqlite3_stmt *row, const struct message_content *content)
{
	const char *topic = content->topic;
	sqlite3_int64 qos = sqlite3_column_int64(row, 2), options = sqlite3_column_int64(row, 8),
				  identifier = sqlite3_column_int64(row, 9), tries = sqlite3_column_int64(row, 10);

	return content->topic_length > 0 && content->topic_length <= TOPIC_MAX &&
			strlen(topic) == content->topic_length && !strpbrk(topic, "+#") && qos >= 1 && qos <= 2 &&
			options >= 0 && options <= UINT8_MAX && identifier >= 0 && identifier <= IDENTIFIER_MAX &&
			tries >= 0 && tries <= UINT32_MAX;
}

enum store_result row_read(sqlite3_stmt *row, uint32_t consumer, struct store_delivery *ret)
{
	struct store_message *message = &ret->message;
	struct message_content *content = &message->content;
	bool failed = false;

	*ret = (struct store_delivery){.recipient.consumer = consumer};
	message->id = (uint64_t)sqlite3_column_int64(row, 0);
	message->time = sqlite3_column_int64(row, 1);
	message->qos = (uint8_t)sqlite3_column_int(row, 2);
	message->retain = sqlite3_column_int(row, 3) != 0;
	content->topic = (const char *)sqlite3_column_text(row, 4);
	content->topic_length = (size_t)sqlite3_column_bytes(row, 4);
	content->properties = blob_at(row, 5, &content->properties_length, &failed);
	message->publisher = blob_at(row, 6, &message->publisher_length, &failed);
	content->payload = blob_at(row, 7, &content->payload_length, &failed);
	ret->recipient.options = (uint8_t)sqlite3_column_int(row, 8);
	ret->recipient.identifier = (uint32_t)sqlite3_column_int64(row, 9);
	ret->tries = (uint32_t)sqlite3_column_int64(row, 10);
	if (failed || !content->topic) {
		return STORE_NO_MEMORY;
	}
	return is_possible(row, content) ? STORE_OK : STORE_CORRUPT;
}
