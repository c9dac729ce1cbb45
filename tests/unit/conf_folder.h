/* An empty folder for one test, where the broker was started with -c main.conf; the program runs elsewhere.
 */
#ifndef CONF_FOLDER_H
#define CONF_FOLDER_H

#include "options/mosquitto_conf.h"

extern char folder[64];
extern struct mosquitto_conf_place place; /* of main.conf there, with a plugin /usr/lib/ours.so */

/* Both return 0, or -1, as cmocka's fixtures do. */
int conf_folder_make(void);
int conf_folder_remove(void);

/* The path of something in it; valid until the next call. */
char *path_of(const char *name);

void write_file(const char *name, const char *content);

#endif
