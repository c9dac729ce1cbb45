/* A client as bytes, for a file: who published a message is to be known after a restart, too.
 *
 * The form is the plugin's own and has a version; nobody else reads it. Any thread. */
#ifndef MQTTASGI_CLIENT_FORM_H
#define MQTTASGI_CLIENT_FORM_H

#include <stddef.h>

struct client;
struct text;

/* Adds its form. Where memory runs out, bytes->failed says so. */
void client_pack(const struct client *client, struct text *bytes);

/* One reference is the caller's. It is what it was when it was packed: a certificate that was valid then is
 * there, for it tells who published, not who connects now. Its number is new with each call; connections have
 * none of those.
 *
 * NULL: memory ran out, or the bytes are no such form, or one of a newer version. Everything in them is
 * looked at, as they come from a file: texts are UTF-8 without a NUL, a certificate is within the bounds of
 * certificate.h. */
struct client *client_unpack(const void *bytes, size_t length) __attribute__((warn_unused_result));

#endif
