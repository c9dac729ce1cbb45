/* Which Mosquitto this is. It tells no plugin, and no function of 2.0 came between its releases, so the program is asked as
 * its user would: `mosquitto -h`. Any thread, but not beside one that waits for all of this process's children. */
#ifndef MQTTASGI_VERSIONS_H
#define MQTTASGI_VERSIONS_H

#include <stdbool.h>

#define VERSIONS_MAX 32
/* The program that this process runs. */
#define VERSIONS_THIS_PROGRAM "/proc/self/exe"

/* Whether it is 2.1 or later. */
bool versions_is_2_1(void);

/* Writes `2.0.11`; false: program does not say, within two seconds, which is then written as an empty string. */
bool versions_ask(const char *program, char ret_version[VERSIONS_MAX]);

/* Whether version is known, and of an earlier release. */
bool versions_is_before(const char *version, unsigned int major, unsigned int minor, unsigned int patch);

#endif
