/* What makes sense for one option alone, and not beside another one or a line; each function adds its sentences.
 *
 * Broker thread only. */
#ifndef MQTTASGI_CHECKS_H
#define MQTTASGI_CHECKS_H

#include "options/loader.h"

/* Takes away options of a TCP connection where the host is a unix socket and they come from another source than it. */
void pass_over_of_tcp(struct loader *loader);

void check_application(struct loader *loader);
void check_address(struct loader *loader);
void check_certificate(struct loader *loader);
void check_message_expiry(struct loader *loader);
void check_keys(struct loader *loader);

#endif
