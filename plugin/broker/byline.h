/* Who published a message, as bytes for the durable inbox's file. Broker thread only. */
#ifndef MQTTASGI_BYLINE_H
#define MQTTASGI_BYLINE_H

#include <stddef.h>
#include <stdint.h>

#include "shared/text.h"

struct client;

/* That of who published last, who often publishes next: written and read. All zeros at first. */
struct byline {
	struct text form;
	uint64_t number; /* of the connection */
	struct {
		struct text form;
		struct client *client;
	} read;
};

void byline_clear(struct byline *byline);

/* The bytes are valid until the next call. None for NULL, and where there is no memory: then consumers do not
 * learn who published it, should it come from the file. */
void byline_of(struct byline *byline, const struct client *client, const void **ret_bytes,
		size_t *ret_length);

/* Who published a message that was read from the file; the reference is the caller's. NULL: that is not
 * known. */
struct client *byline_read(struct byline *byline, const void *bytes, size_t length)
		__attribute__((warn_unused_result));

#endif
