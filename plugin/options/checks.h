/* What makes sense for one option alone, but not beside another one: each finding is a sentence of the
 * loader's.
 *
 * Broker thread only. */
#ifndef MQTTASGI_CHECKS_H
#define MQTTASGI_CHECKS_H

struct loader;

/* Takes away options of a TCP connection where the host, which has been taken, is a unix socket's path and
 * comes from another source than they. */
void checks_drop_tcp_options(struct loader *loader);

/* When all values have been taken: compares them with each other, and looks for lines that are no
 * option's. */
void checks_run(struct loader *loader);

#endif
