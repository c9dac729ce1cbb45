/* Threads of our own inside the broker's process. */
#ifndef MQTTASGI_THREAD_H
#define MQTTASGI_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* Starts a thread that receives no signal (they stay the broker's) and has a stack like a program's main
 * thread, also on musl, which would give it 128 KiB. name has at most 15 bytes. Returns 0 or an errno. Any
 * thread. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *argument)
		__attribute__((warn_unused_result));

/* Lets what threads other than the calling one fork from now on have signals as a program has them when it
 * starts: none blocked, and the broker's handlers not installed. In the child only: a signal that is pending
 * for the thread that forks stays blocked there. What they start by vfork() or posix_spawn() has the thread's
 * mask, as ever. */
void thread_give_children_signals(void);

/* Whether the calling thread is the one that called that: it has the broker's signals. In a signal's handler,
 * too. */
bool thread_has_signals(void);

/* Waits for the end of a thread. False: it still runs when the time is over. */
bool thread_join(pthread_t thread, unsigned int milliseconds);

/* Gives the calling thread, and those that it will start, a table of file descriptors of their own, with
 * nothing in it but standard input, output, error and keep[], in ascending order. And the C library's for
 * syslog(), if the broker uses that: it keeps one number for the process, which would be some other socket in
 * this table.
 *
 * While the broker's table is shared, the kernel counts references in each of the broker's system calls,
 * which costs ordinary traffic some 4 % (tests/bench/run idle-traffic). And what is not in the table cannot
 * be closed, kept open after a log rotation or handed to a child process by the application. Where the system
 * refuses (Docker's default does), all of that is as usual. */
void thread_take_own_descriptors(const int *keep, size_t count);

/* Gives the calling thread, and those that it will start, a working directory and a umask of their own: the
 * broker finds its files by relative names. Where the system refuses, they stay the process's. */
void thread_take_own_folder(void);

#endif
