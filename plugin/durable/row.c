#include "durable/row.h"

#include <string.h>

static const void *blob_at(sqlite3_stmt *row, int column, size_t *ret_length, bool *failed)
{
	const void *bytes = sqlite3_column_blob(row, column);

	*ret_length = (size_t)sqlite3_column_bytes(row, column);
	*failed |= !bytes && *ret_length > 0;
	return bytes;
}

enum store_result row_read(sqlite3_stmt *row, uint32_t consumer, struct store_delivery *ret)
{
	struct store_message *message = &ret->message;
	struct message_content *content = &message->content;
	bool failed = false;
	int qos = sqlite3_column_int(row, 2);

	*ret = (struct store_delivery){.recipient.consumer = consumer};
	message->id = (uint64_t)sqlite3_column_int64(row, 0);
	message->time = sqlite3_column_int64(row, 1);
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
	/* Nobody wrote this here. */
	if (qos < 0 || qos > 2 || content->topic_length == 0 || strlen(content->topic) != content->topic_length) {
		return STORE_CORRUPT;
	}
	message->qos = (uint8_t)qos;
	return STORE_OK;
}
