#include "session/inbox.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "shared/queue.h"

static void notify(void *userdata)
{
	const struct inbox *inbox = userdata;

	/* Fails only when it is full, and so readable already. */
	if (write(inbox->write_fd, "", 1) < 0) {
		return;
	}
}

bool inbox_init(struct inbox *inbox)
{
	int ends[2];

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		return false;
	}
	inbox->read_fd = ends[0];
	inbox->write_fd = ends[1];
	inbox->commands = queue_new(SIZE_MAX, SIZE_MAX, notify, inbox);
	return inbox->commands != NULL;
}

void inbox_free(struct inbox *inbox)
{
	queue_free(inbox->commands);
	if (inbox->read_fd >= 0) {
		(void)close(inbox->read_fd);
		(void)close(inbox->write_fd);
	}
}

void inbox_put(struct inbox *inbox, struct message *command)
{
	(void)queue_tell(inbox->commands, command);
}

struct message *inbox_take(struct inbox *inbox)
{
	return queue_take(inbox->commands);
}

void inbox_clear_signal(const struct inbox *inbox)
{
	char ignored[64];

	while (read(inbox->read_fd, ignored, sizeof(ignored)) > 0) {
	}
}
