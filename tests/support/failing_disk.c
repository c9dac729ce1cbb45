/* A disk that fails when a test says so: to be preloaded into a program, or linked into one.
 *
 *     FAILING_DISK=CONTROL FAILING_DISK_FILES=WORDS LD_PRELOAD=failing_disk.so PROGRAM
 *
 * Files whose path has the words are on that disk. CONTROL is a file that is looked at again with each call,
 * with a line for each kind of call that fails: which, the first one that does (1: the next) since the file
 * was written, as all after it do, and with what:
 *
 *     write 3 EIO
 *     sync 1 ENOSPC
 *     read 1 EIO 8192
 *
 * The number at the end is where in the file; without it, wherever.
 *
 * What stdio reads and writes does not come by here.
 *
 * Calls: read, write, sync, truncate, allocate. Errors: EIO, ENOSPC, EROFS. With no line, or without the
 * file, all is well. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READ, WRITE, SYNC, TRUNCATE, ALLOCATE, KINDS };

static const char *const KIND_NAMES[KINDS] = {"read", "write", "sync", "truncate", "allocate"};
static const struct {
	const char *name;
	int number;
} ERRORS[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}};

/* Of a call that does not say where. */
#define NOWHERE (-1)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Under the lock: what CONTROL last had, and how many calls there were since. */
static char control[256];
static unsigned long calls[KINDS];

/* The system is called by hand: the functions here are what everybody else calls. */
static bool is_on_disk(int descriptor)
{
	const char *words = getenv("FAILING_DISK_FILES");
	char link[64], path[4096];
	long length;

	if (!words || !getenv("FAILING_DISK")) {
		return false;
	}
	/* The plugin's threads have tables of their own, where the same number is another file. */
	(void)snprintf(link, sizeof link, "/proc/thread-self/fd/%d", descriptor);
	length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
	path[length > 0 ? length : 0] = '\0';
	return strstr(path, words) != NULL;
}

static void read_control(void)
{
	char now[sizeof control] = "";
	long descriptor = syscall(SYS_openat, AT_FDCWD, getenv("FAILING_DISK"), O_RDONLY | O_CLOEXEC);

	if (descriptor >= 0) {
		(void)syscall(SYS_read, descriptor, now, sizeof now - 1);
		(void)syscall(SYS_close, descriptor);
	}
	if (strcmp(now, control) != 0) {
		memcpy(control, now, sizeof control);
		memset(calls, 0, sizeof calls);
	}
}

/* 0: the call does not fail. */
static int error_of(int kind, off64_t offset)
{
	const char *line = control;
	unsigned long first;
	long long place;
	int words;
	char name[16], error[16];
	size_t i;

	for (; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		words = sscanf(line, "%15s %lu %15s%*[ ]%lld", name, &first, error, &place);
		if (words < 3 || strcmp(name, KIND_NAMES[kind]) != 0 || calls[kind] < first ||
				(words == 4 && place != offset)) {
			continue;
		}
		for (i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) {
			if (strcmp(error, ERRORS[i].name) == 0) {
				return ERRORS[i].number;
			}
		}
	}
	return 0;
}

/* What a call is to fail with. Leaves errno alone. */
static int fault(int kind, int descriptor, off64_t offset)
{
	int before = errno, error = 0;

	if (is_on_disk(descriptor)) {
		(void)pthread_mutex_lock(&lock);
		read_control();
		calls[kind]++;
		error = error_of(kind, offset);
		(void)pthread_mutex_unlock(&lock);
	}
	errno = before;
	return error;
}

static bool fails(int kind, int descriptor, off64_t offset)
{
	int error = fault(kind, descriptor, offset);

	if (error != 0) {
		errno = error;
	}
	return error != 0;
}

ssize_t read(int descriptor, void *bytes, size_t size)
{
	return fails(READ, descriptor, NOWHERE) ? -1 : syscall(SYS_read, descriptor, bytes, size);
}

ssize_t pread(int descriptor, void *bytes, size_t size, off_t offset)
{
	return fails(READ, descriptor, offset) ? -1 : syscall(SYS_pread64, descriptor, bytes, size, offset);
}

ssize_t pread64(int descriptor, void *bytes, size_t size, off64_t offset)
{
	return fails(READ, descriptor, offset) ? -1 : syscall(SYS_pread64, descriptor, bytes, size, offset);
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
	return fails(WRITE, descriptor, NOWHERE) ? -1 : syscall(SYS_write, descriptor, bytes, size);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset)
{
	return fails(WRITE, descriptor, offset) ? -1 : syscall(SYS_pwrite64, descriptor, bytes, size, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t offset)
{
	return fails(WRITE, descriptor, offset) ? -1 : syscall(SYS_pwrite64, descriptor, bytes, size, offset);
}

int fsync(int descriptor)
{
	return fails(SYNC, descriptor, NOWHERE) ? -1 : (int)syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
	return fails(SYNC, descriptor, NOWHERE) ? -1 : (int)syscall(SYS_fdatasync, descriptor);
}

int ftruncate(int descriptor, off_t size)
{
	return fails(TRUNCATE, descriptor, NOWHERE) ? -1 : (int)syscall(SYS_ftruncate, descriptor, size);
}

int ftruncate64(int descriptor, off64_t size)
{
	return fails(TRUNCATE, descriptor, NOWHERE) ? -1 : (int)syscall(SYS_ftruncate, descriptor, size);
}

int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
	return fails(ALLOCATE, descriptor, offset) ? -1
											   : (int)syscall(SYS_fallocate, descriptor, mode, offset, size);
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t size)
{
	return fails(ALLOCATE, descriptor, offset) ? -1
											   : (int)syscall(SYS_fallocate, descriptor, mode, offset, size);
}

/* These return the error. */
static int allocate(int descriptor, off_t offset, off_t size)
{
	int before = errno, error = fault(ALLOCATE, descriptor, offset);

	if (error == 0 && syscall(SYS_fallocate, descriptor, 0, offset, size) != 0) {
		error = errno;
	}
	errno = before;
	return error;
}

int posix_fallocate(int descriptor, off_t offset, off_t size)
{
	return allocate(descriptor, offset, size);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t size)
{
	return allocate(descriptor, offset, size);
}
