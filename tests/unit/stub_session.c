#include "stub_session.h"

#include <string.h>

#include "session/session.h"
#include "shared/mosquitto_api.h"

struct stub_session stub_session;

struct session *stub_session_get(void)
{
	return (struct session *)&stub_session;
}

void stub_session_reset(void)
{
	size_t i;

	for (i = 0; i < stub_session.command_count; i++) {
		message_free(stub_session.commands[i]);
	}
	memset(&stub_session, 0, sizeof(stub_session));
}

int session_new(const struct options *options, struct queue *inbound, struct queue *outbound, int inbound_fd,
		struct session **ret_session)
{
	(void)options;
	(void)inbound;
	(void)outbound;
	(void)inbound_fd;
	if (stub_session.new_rc != MOSQ_ERR_SUCCESS) {
		return stub_session.new_rc;
	}
	*ret_session = stub_session_get();
	return MOSQ_ERR_SUCCESS;
}

void session_free(struct session *session)
{
	stub_session.freed = session != NULL;
}

int session_start(struct session *session)
{
	(void)session;
	stub_session.started = true;
	return stub_session.start_rc;
}

bool session_stop(struct session *session, unsigned int milliseconds)
{
	(void)session;
	(void)milliseconds;
	stub_session.stopped = true;
	return !stub_session.hangs;
}

void session_command(struct session *session, struct message *command)
{
	(void)session;
	if (stub_session.command_count < sizeof(stub_session.commands) / sizeof(stub_session.commands[0])) {
		stub_session.commands[stub_session.command_count++] = command;
	} else {
		message_free(command);
	}
}

struct marks *session_marks(struct session *session, bool late)
{
	(void)session;
	(void)late;
	return stub_session.marks;
}

int session_released(const struct session *session)
{
	(void)session;
	return stub_session.released;
}

void session_use_ids(struct session *session, struct stored_ids *ids)
{
	(void)session;
	(void)ids;
}

void session_ignore_properties(struct session *session)
{
	(void)session;
	stub_session.ignores_properties = true;
}

uint64_t session_forgotten(const struct session *session)
{
	(void)session;
	return 0;
}

uint64_t session_left_out(const struct session *session)
{
	(void)session;
	return 0;
}

uint64_t session_passed_over(const struct session *session)
{
	(void)session;
	return 0;
}

uint64_t session_refused(const struct session *session)
{
	(void)session;
	return 0;
}

const char *session_client_id(const struct session *session)
{
	(void)session;
	return "the-session";
}
