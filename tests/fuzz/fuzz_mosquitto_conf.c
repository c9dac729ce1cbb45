/* Bytes → the broker's configuration file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options/mosquitto_conf.h"
#include "shared/mosquitto_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	struct mosquitto_conf_place place = {path, (char *)(uintptr_t)"/nowhere", (char *)(uintptr_t)"/p.so"};
	struct mosquitto_conf_lines lines;
	struct text error = {0};
	const char *key, *value;
	size_t i;
	int fd = memfd_create("conf", MFD_CLOEXEC), rc;

	require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "no place for the file");
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	rc = mosquitto_conf_read(&place, &lines, &error);
	if (rc == MOSQ_ERR_SUCCESS) {
		require(error.length == 0, "success with a sentence");
		for (i = 0; i < lines.count; i++) {
			key = lines.lines[i].key;
			value = lines.lines[i].value;
			require(!strpbrk(key, " \n"), "a key of several words");
			require(!strchr(value, '\n') && *value != ' ' && *value != '\t', "a value that is not one");
			require(memmem(data, size, value, strlen(value)) != NULL, "a value that the file does not have");
		}
	} else {
		require(rc == MOSQ_ERR_INVAL && error.length > 0 && lines.count == 0, "failure without a sentence");
	}
	mosquitto_conf_free(&lines);
	text_free(&error);
	(void)close(fd);
	return 0;
}
