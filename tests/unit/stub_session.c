#include "stub_session.h"

#include "cmocka_all.h"

#include <string.h>

#include "marks.h"
#include "message.h"
#include "mosquitto_api.h"
#include "session.h"
#include "text.h"

#define MARKS 64

struct session {
	char unused;
};

struct stub_session stub_session;
static struct session only;

struct session *stub_session_reset(void)
{
	stub_session_end();
	stub_session.client_id = "session";
	stub_session.marks = marks_new(MARKS);
	assert_non_null(stub_session.marks);
	return &only;
}

void stub_session_end(void)
{
	struct message *command;

	while ((command = stub_session_take())) {
		message_free(command);
	}
	marks_free(stub_session.marks);
	memset(&stub_session, 0, sizeof(stub_session));
}

struct message *stub_session_take(void)
{
	struct message *command = stub_session.commands;

	if (command) {
		stub_session.commands = command->next;
		command->next = NULL;
	}
	return command;
}

int session_new(const struct options *options, struct queue *inbound, struct queue *outbound, int inbound_fd,
		struct session **ret_session, struct text *error)
{
	assert_non_null(options);
	assert_non_null(inbound);
	assert_non_null(outbound);
	assert_true(inbound_fd >= 0);
	stub_session.made++;
	if (stub_session.error) {
		text_add(error, stub_session.error, strlen(stub_session.error));
	}
	if (stub_session.new_rc == MOSQ_ERR_SUCCESS) {
		*ret_session = &only;
	}
	return stub_session.new_rc;
}

void session_free(struct session *session)
{
	stub_session.freed += session != NULL;
}

int session_start(struct session *session)
{
	assert_ptr_equal(session, &only);
	stub_session.started++;
	return stub_session.start_rc;
}

bool session_stop(struct session *session, unsigned int milliseconds)
{
	assert_ptr_equal(session, &only);
	assert_true(milliseconds > 0);
	stub_session.stopped++;
	return !stub_session.hangs;
}

void session_command(struct session *session, struct message *command)
{
	struct message **end = &stub_session.commands;

	assert_ptr_equal(session, &only);
	while (*end) {
		end = &(*end)->next;
	}
	command->next = NULL;
	*end = command;
}

struct marks *session_marks(struct session *session)
{
	assert_ptr_equal(session, &only);
	return stub_session.marks;
}

const char *session_client_id(const struct session *session)
{
	assert_ptr_equal(session, &only);
	return stub_session.client_id;
}
