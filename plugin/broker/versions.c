#include "broker/versions.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mosquitto_api.h"
#include "shared/properties.h"

#define WAIT_NS 2000000000U

extern char **environ;

const struct versions_traits versions_2_0 = {
	.reload_result = MOSQ_ERR_PLUGIN_DEFER,
};

const struct versions_traits versions_2_1 = {
	.sends_after_poll = true,
	.tells_connects = true,
	.tells_reasons = true,
	.ends_clients_late = true,
	.always_ticks = true,
	.tells_quota = true,
	.asks_with_properties = true,
	.may_be_ignored = true,
	.reload_result = MOSQ_ERR_SUCCESS,
};

const struct versions_traits *versions_traits(void)
{
	/* A function that 2.1 brought; which headers this was compiled with says nothing about the broker it is
	 * in. */
	return dlsym(RTLD_DEFAULT, "mosquitto_persist_client_add") ? &versions_2_1 : &versions_2_0;
}

/* Mosquitto 2.1 gives one of its own numbers for why a connection ended. Those from 128 on are MQTT's, among
 * them what was 28, 29 and 30 in 2.0, whatever the headers say that this was compiled with. Those without a
 * case have no equivalent. */
int versions_reason(const struct versions_traits *traits, int reason)
{
	if (!traits->tells_reasons) {
		return -1;
	}
	switch (reason) {
	case MOSQ_ERR_SUCCESS:
		return MQTT_RC_NORMAL_DISCONNECTION;
	case MOSQ_ERR_MALFORMED_PACKET:
	case MOSQ_ERR_MALFORMED_UTF8: /* MQTT 5, 1.5.4 */
		return MQTT_RC_MALFORMED_PACKET;
	case MOSQ_ERR_PROTOCOL:
	case MOSQ_ERR_DUPLICATE_PROPERTY:
		return MQTT_RC_PROTOCOL_ERROR;
	case MOSQ_ERR_AUTH:
	case MOSQ_ERR_ACL_DENIED:
		return MQTT_RC_NOT_AUTHORIZED;
	case MOSQ_ERR_KEEPALIVE:
		return MQTT_RC_KEEP_ALIVE_TIMEOUT;
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_PAYLOAD_SIZE:
		return MQTT_RC_PACKET_TOO_LARGE;
	case MOSQ_ERR_QOS_NOT_SUPPORTED:
		return MQTT_RC_QOS_NOT_SUPPORTED;
	case ERR_QUOTA_EXCEEDED:
		return MQTT_RC_QUOTA_EXCEEDED;
	default:
		return reason >= MQTT_RC_UNSPECIFIED && reason < 256 ? reason : MQTT_RC_UNSPECIFIED;
	}
}

int versions_refusal(const struct versions_traits *traits, const struct mosquitto *client)
{
	return traits->tells_quota && client && mosquitto_client_protocol_version(client) == 5
			? ERR_QUOTA_EXCEEDED
			: MOSQ_ERR_NOMEM;
}

enum message_fate versions_fate(const struct versions_traits *traits, const struct mosquitto *client,
		int event, int reason, bool began_clean)
{
	if (reason == MQTT_RC_SESSION_TAKEN_OVER) {
		return MESSAGE_FATE_UNKNOWN; /* the connection that takes over decides */
	}
	if (traits->tells_reasons) {
		return event == MOSQ_EVT_DISCONNECT ? MESSAGE_FATE_ENDS : MESSAGE_FATE_KEPT;
	}
	if (mosquitto_client_protocol_version(client) == 5) {
		return MESSAGE_FATE_UNKNOWN; /* that is the Session Expiry Interval's, which 2.0 does not show */
	}
	if (!mosquitto_client_clean_session(client)) {
		return MESSAGE_FATE_KEPT;
	}
	/* 2.0 says so of every client that is taken over, too, also of one whose session goes on with its
	 * subscriptions. */
	return began_clean || mosquitto_client_sub_count(client) > 0 ? MESSAGE_FATE_ENDS : MESSAGE_FATE_UNKNOWN;
}

/* The broker's own functions for reading properties where it has them, else those of the client library. That
 * is opened as any other, not with RTLD_DEEPBIND: with that it would call glibc's malloc(), and what it
 * returns would go to the free() of an allocator that somebody has preloaded. */
bool versions_find_reader(struct properties_reader *ret_reader)
{
	const char *error = NULL;
	void *library;
	bool found = properties_find_reader(ret_reader, RTLD_DEFAULT);

	if (!found) {
		library = dlopen("libmosquitto.so.1", RTLD_NOW | RTLD_LOCAL);
		error = library ? NULL : dlerror();
		found = library && properties_find_reader(ret_reader, library);
	}
	if (found && properties_reader_agrees(ret_reader)) {
		return true;
	}
	log_line(MOSQ_LOG_WARNING,
			"Consumers get clients' messages without their MQTT 5 properties: %s. Mosquitto 2.0 needs its own client "
			"library to read them; install libmosquitto1 in the version of the broker.",
			error ? error : "the client library libmosquitto.so.1 is of another version than the broker");
	return false;
}

/* ---- the version ---- */

static bool start(const char *program, int output, pid_t *ret_pid)
{
	char name[] = "mosquitto", help[] = "-h";
	char *arguments[] = {name, help, NULL};
	posix_spawn_file_actions_t actions;
	bool done;

	if (posix_spawn_file_actions_init(&actions)) {
		return false;
	}
	done = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
			posix_spawn_file_actions_adddup2(&actions, output, 1) == 0 &&
			posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0 &&
			posix_spawn(ret_pid, program, &actions, NULL, arguments, environ) == 0;
	(void)posix_spawn_file_actions_destroy(&actions);
	return done;
}

/* Reads the beginning of what it says, until its end, or the end of the time. */
static void read_beginning(int fd, char *text, size_t size)
{
	uint64_t deadline = now_ns() + WAIT_NS, now;
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	size_t length = 0;
	ssize_t more;

	while (length < size - 1 && (now = now_ns()) < deadline) {
		if (poll(&readable, 1, (int)((deadline - now) / 1000000U) + 1) <= 0) {
			continue;
		}
		more = read(fd, text + length, size - 1 - length);
		if (more == 0 || (more < 0 && errno != EINTR)) {
			break;
		}
		length += more > 0 ? (size_t)more : 0;
	}
	text[length] = '\0';
}

static bool find_version(const char *text, char ret_version[VERSIONS_MAX])
{
	static const char before[] = "mosquitto version ";
	const char *at = strstr(text, before);
	size_t length;

	at = at ? at + sizeof(before) - 1 : "";
	length = strcspn(at, " \r\n");
	if (*at < '0' || *at > '9' || length >= VERSIONS_MAX) {
		return false;
	}
	memcpy(ret_version, at, length);
	ret_version[length] = '\0';
	return true;
}

bool versions_ask(const char *program, char ret_version[VERSIONS_MAX])
{
	char text[256];
	int ends[2];
	pid_t pid;
	bool started;

	ret_version[0] = '\0';
	if (pipe2(ends, O_CLOEXEC)) {
		return false;
	}
	started = start(program, ends[1], &pid);
	(void)close(ends[1]);
	if (started) {
		read_beginning(ends[0], text, sizeof(text));
	}
	(void)close(ends[0]);
	if (!started) {
		return false;
	}
	/* It has said what it had to say. */
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
	return find_version(text, ret_version);
}

bool versions_is_before(const char *version, unsigned int major, unsigned int minor, unsigned int patch)
{
	const unsigned int wanted[] = {major, minor, patch};
	unsigned int found[3], i;

	if (sscanf(version, "%u.%u.%u", &found[0], &found[1], &found[2]) != 3) {
		return false;
	}
	for (i = 0; i < 3 && found[i] == wanted[i]; i++) {
	}
	return i < 3 && found[i] < wanted[i];
}
