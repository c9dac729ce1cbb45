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

#define WAIT_NS 2000000000U

extern char **environ;

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

bool versions_is_2_1(void)
{
	/* A function that 2.1 brought; which headers this was compiled with says nothing about the broker it is in. */
	return dlsym(RTLD_DEFAULT, "mosquitto_persist_client_add") != NULL;
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
