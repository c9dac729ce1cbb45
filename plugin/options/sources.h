/* Where values of options come from: lines, environment, `.env` file, defaults, and the first that has one
 * counts.
 *
 * Broker thread only. */
#ifndef MQTTASGI_SOURCES_H
#define MQTTASGI_SOURCES_H

struct loader;

/* Gives each row its value. At start this looks at the environment and into the `.env` file, and keeps in
 * loader->options what it finds there; later both are as they were (loader->first). */
void sources_gather(struct loader *loader);

#endif
