#include "database_folder.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

char folder[64], path[96], beside_path[112], newest_path[112], reason[1024];

int database_folder_make(const char *name, const char *beside)
{
	(void)snprintf(folder, sizeof folder, "/tmp/test_database.XXXXXX");
	if (!mkdtemp(folder)) {
		return -1;
	}
	(void)snprintf(path, sizeof path, "%s/%s", folder, name);
	(void)snprintf(beside_path, sizeof beside_path, "%s%s", path, beside);
	(void)snprintf(newest_path, sizeof newest_path, "%s-newest", path);
	return 0;
}

void forget_files(void)
{
	(void)unlink(path);
	(void)unlink(beside_path);
	(void)unlink(newest_path);
}

int database_folder_remove(void **state)
{
	(void)state;
	forget_files();
	return rmdir(folder);
}

off_t size_of(const char *file)
{
	struct stat status;

	return stat(file, &status) == 0 ? status.st_size : -1;
}

char *read_file(const char *file, size_t *ret_size)
{
	FILE *in = fopen(file, "r");
	size_t size = (size_t)size_of(file);
	char *bytes = malloc(size + 1);

	assert_true(in && bytes);
	assert_int_equal(fread(bytes, 1, size, in), size);
	assert_int_equal(fclose(in), 0);
	*ret_size = size;
	return bytes;
}

void write_file(const char *file, const void *bytes, size_t size)
{
	FILE *out = fopen(file, "w");

	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, size, out), size);
	assert_int_equal(fclose(out), 0);
}

void limit_files(off_t size)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size < 0 ? limit.rlim_max : (rlim_t)size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

void assert_reason(const char *file, const char *words)
{
	char expected[200];

	(void)snprintf(expected, sizeof expected, "The durable inbox %s cannot be used: ", file);
	assert_memory_equal(reason, expected, strlen(expected));
	if (!strstr(reason, words)) {
		fail_msg("%s", reason);
	}
	assert_int_equal(reason[strlen(reason) - 1], '.');
}
