/* Which Mosquitto this is. It tells no plugin, and no function of 2.0 came between its releases, so the program is asked as
 * its user would: `mosquitto -h`. Any thread, but not beside one that waits for all of this process's children. */
#ifndef MQTTASGI_VERSIONS_H
#define MQTTASGI_VERSIONS_H

#include <stdbool.h>

#define VERSION_MAX 32
/* The program that this process runs. */
#define VERSION_OF_THIS "/proc/self/exe"

/* Writes `2.0.11`; false: program does not say, within two seconds, which is then written as an empty string. */
bool version_ask(const char *program, char ret_version[VERSION_MAX]);

/* Whether version is known, and of an earlier release. */
bool version_is_before(const char *version, unsigned int major, unsigned int minor, unsigned int patch);

#endif
