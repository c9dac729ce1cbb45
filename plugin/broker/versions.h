/* Which Mosquitto this is, and everything in which 2.0 and 2.1 differ, but for the names in mosquitto_api.h.
 *
 * It tells no plugin its version, and no function of 2.0 came between its releases, so the program is asked
 * as its user would: `mosquitto -h`. Any thread, but that not beside one that waits for all of this process's
 * children. */
#ifndef MQTTASGI_VERSIONS_H
#define MQTTASGI_VERSIONS_H

#include <stdbool.h>

#include "shared/message.h"

struct mosquitto;
struct properties_reader;

/* How a Mosquitto behaves. */
struct versions_traits {
	bool sends_after_poll; /* TICK comes before the poll, and what it has published is sent only after that */
	bool tells_connects;   /* EVT_CONNECT; without it the question whether a client may log in has to do */
	bool tells_reasons;    /* why a connection has ended; and EVT_CLIENT_OFFLINE where its session is kept */
	bool ends_clients_late; /* some clients are found to be gone between the sending of what was published and
							   the TICK */
	bool always_ticks;      /* on 2.0 with per_listener_settings not before 2.0.15 */
	bool tells_quota;       /* a MESSAGE event may refuse a message as beyond a quota */
	bool asks_with_properties; /* asked about access to a message, plugins are shown those, too */
	bool may_be_ignored;       /* what the first plugin leaves undecided about access is as if that were not
								* there */
	int reload_result; /* what lets the plugins after this one have the RELOAD event, too: on 2.0 success
						  would end the round, and 2.1 takes anything else for an error and ends */
};

extern const struct versions_traits versions_2_0, versions_2_1;

/* Those of the Mosquitto that this process is; all after 2.1 count as that. */
const struct versions_traits *versions_traits(void);

/* The reason code (MQTT 5, 3.14.2.1) of what the broker gives as the reason for which a connection ended; -1:
 * not known. */
int versions_reason(const struct versions_traits *traits, int reason);

/* What becomes of the session of a client that is gone. reason: what versions_reason() said; began_clean: it
 * is known to have asked for a clean session when it connected. */
enum message_fate versions_fate(const struct versions_traits *traits, const struct mosquitto *client,
		int event, int reason, bool began_clean);

/* What a MESSAGE event returns for a client whose message is not to be acknowledged. With MQTT 5 on 2.1 the
 * client is told `Quota exceeded` (0x97); otherwise it is disconnected, and has the message yet: for 2.0
 * there is only `Not authorized`, and for MQTT 3 no acknowledgement that refuses. */
int versions_refusal(const struct versions_traits *traits, const struct mosquitto *client);

/* Finds what reads the properties of a message, which 2.0 does not export. False: nothing does, as the log
 * says. */
bool versions_find_reader(struct properties_reader *ret_reader) __attribute__((warn_unused_result));

#define VERSIONS_MAX 32
/* The program that this process runs. */
#define VERSIONS_THIS_PROGRAM "/proc/self/exe"

/* Writes `2.0.11`; false: program does not say, within two seconds, which is then written as an empty
 * string. */
bool versions_ask(const char *program, char ret_version[VERSIONS_MAX]);

/* Whether version is known, and of an earlier release. */
bool versions_is_before(const char *version, unsigned int major, unsigned int minor, unsigned int patch);

#endif
