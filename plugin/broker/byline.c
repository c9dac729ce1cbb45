#include "broker/byline.h"

#include "shared/client.h"
#include "shared/client_form.h"

void byline_clear(struct byline *byline)
{
	text_free(&byline->form);
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
