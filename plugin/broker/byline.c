#include "broker/byline.h"

#include <string.h>

#include "shared/client.h"
#include "shared/client_form.h"

void byline_clear(struct byline *byline)
{
	text_free(&byline->form);
	text_free(&byline->read.form);
	client_release(byline->read.client);
	byline->read.client = NULL;
}

void byline_of(struct byline *byline, const struct client *client, const void **ret_bytes, size_t *ret_length)
{
	if (client && (!byline->form.length || byline->number != client_description(client)->number)) {
		text_free(&byline->form);
		client_pack(client, &byline->form);
		if (byline->form.failed) {
			text_free(&byline->form);
		}
		byline->number = client_description(client)->number;
	}
	*ret_bytes = client ? byline->form.data : NULL;
	*ret_length = client ? byline->form.length : 0;
}

struct client *byline_read(struct byline *byline, const void *bytes, size_t length)
{
	struct text *form = &byline->read.form;

	if (!length) {
		return NULL;
	}
	if (!byline->read.client || form->length != length || memcmp(form->data, bytes, length) != 0) {
		client_release(byline->read.client);
		byline->read.client = client_unpack(bytes, length);
		text_free(form);
		text_add(form, bytes, length);
		if (form->failed) {
			text_free(form);
		}
	}
	return byline->read.client ? client_hold(byline->read.client) : NULL;
}
