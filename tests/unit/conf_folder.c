#include "conf_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

char folder[64];
struct mosquitto_conf_place place;

int conf_folder_make(void)
{
	strcpy(folder, "/tmp/conf-XXXXXX");
	if (!mkdtemp(folder)) {
		return -1;
	}
	place = (struct mosquitto_conf_place){
		(char *)(uintptr_t)"main.conf", folder, (char *)(uintptr_t)"/usr/lib/ours.so"};
	return 0;
}

int conf_folder_remove(void)
{
	char command[128];

	(void)snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) == 0 ? 0 : -1;
}

char *path_of(const char *name)
{
	static char path[128];

	(void)snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

void write_file(const char *name, const char *content)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}
