/* Bytes → plugin_opt lines, environment and `.env`.
 *
 * Lines of the input up to a line `---`: `key value` is a plugin_opt line, `$NAME value` an environment
 * variable. What follows is the `.env` file. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options/load.h"
#include "shared/mosquitto_api.h"

#define LINES_MAX 16
#define SECRET "hUsHhUsH"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* Only names that the options read, so that nothing else in this process changes. */
static int may_be_set(const char *name)
{
	return strncmp(name, "MQTT", 4) == 0 || strncmp(name, "TLS_", 4) == 0 || strcmp(name, "VERBOSITY") == 0;
}

static char *cut(char *text, const char *separator)
{
	char *at = strstr(text, separator);

	if (!at) {
		return NULL;
	}
	*at = '\0';
	return at + strlen(separator);
}

/* Puts the file where options_load() finds it by its name. */
static int write_dotenv(const char *bytes, size_t length, char *path, size_t path_size)
{
	int fd = memfd_create("env", MFD_CLOEXEC);

	require(fd >= 0 && write(fd, bytes, length) == (ssize_t)length, "no place for the file");
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	return fd;
}

static void check(const struct mosquitto_opt *lines, int count, int secret_elsewhere)
{
	struct options *options = NULL;
	char *error = NULL;
	const char *at;
	int rc = options_load(lines, count, &options, &error);

	if (rc == MOSQ_ERR_SUCCESS) {
		require(options && !error, "success without options");
		require(options->application && options->host && options->client_id, "something is missing");
		require(options->queue_size > 0 && options->queue_bytes > 0 && options->spin_us <= 1000,
				"out of range");
		require(options->port > 0 || *options->host == '/', "no port");
		require(!options->cert == !options->key, "half a certificate");
	} else {
		require(rc == MOSQ_ERR_INVAL && !options && error && *error, "failure without a sentence");
		require(secret_elsewhere || !strstr(error, SECRET), "the password is in the sentence");
		for (at = error; *at; at++) {
			require((unsigned char)*at >= 0x20 && *at != 0x7f, "the sentence is not one line");
		}
	}
	options_free(options);
	free(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mosquitto_opt lines[LINES_MAX];
	char *names[LINES_MAX];
	char path[64], *head, *line, *next, *value;
	const uint8_t *separator = size > 0 ? memmem(data, size, "---\n", 4) : NULL;
	size_t head_length = separator ? (size_t)(separator - data) : size;
	int count = 0, name_count = 0, fd = -1;

	head = strndup((const char *)data, head_length);
	require(head != NULL, "no memory");
	if (separator) {
		fd = write_dotenv((const char *)separator + 4, size - head_length - 4, path, sizeof path);
		lines[count].key = (char *)(uintptr_t)"env_file";
		lines[count++].value = path;
	}
	lines[count].key = (char *)(uintptr_t)"password";
	lines[count++].value = (char *)(uintptr_t)SECRET;
	for (line = head; line; line = next) {
		next = cut(line, "\n");
		value = cut(line, " ");
		if (*line == '$') {
			if (value && name_count < LINES_MAX && may_be_set(line + 1) && !strchr(line, '=')) {
				setenv(line + 1, value, 1);
				names[name_count++] = line + 1;
			}
		} else if (*line && count < LINES_MAX) {
			lines[count].key = line;
			lines[count++].value = value;
		}
	}
	/* libFuzzer finds the word in the comparisons and puts it where it may be shown. */
	check(lines, count, size > 0 && memmem(data, size, SECRET, strlen(SECRET)) != NULL);
	while (name_count > 0) {
		unsetenv(names[--name_count]);
	}
	if (fd >= 0) {
		close(fd);
	}
	free(head);
	return 0;
}
