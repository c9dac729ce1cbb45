/* plugin.c between a stub of Mosquitto, a stub of the session and a stub of the interpreter, which says what the test
 * wants. */
#include "cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interpreter.h"
#include "message.h"
#include "mosquitto_api.h"
#include "queue.h"
#include "stub_broker.h"
#include "stub_session.h"

static struct {
	const struct pymodule_context *context;
	int rc;                 /* of interpreter_start() */
	bool says;              /* whether it says anything at all, */
	enum message_kind kind; /* and what */
	unsigned int starts, joins;
} interpreter;

int interpreter_start(const struct pymodule_context *context)
{
	interpreter.starts++;
	interpreter.context = context;
	if (interpreter.rc == MOSQ_ERR_SUCCESS && interpreter.says) {
		queue_push_control(context->outbound, message_new(interpreter.kind, NULL, 0, NULL, 0, NULL, 0));
	}
	return interpreter.rc;
}

bool interpreter_join(unsigned int milliseconds)
{
	(void)milliseconds;
	interpreter.joins++;
	return true;
}

static int set_up(void **state)
{
	(void)state;
	stub_broker_reset();
	memset(&interpreter, 0, sizeof(interpreter));
	(void)stub_session_reset();
	return 0;
}

static int init(const char *key, const char *value, void **ret_userdata)
{
	struct mosquitto_opt lines[] = {
			{.key = (char *)(uintptr_t)"application", .value = (char *)(uintptr_t)"package.module:name"},
			{.key = (char *)(uintptr_t)key, .value = (char *)(uintptr_t)value},
	};

	*ret_userdata = NULL;
	return mosquitto_plugin_init(NULL, ret_userdata, lines, 2);
}

static void test_version_5_only_when_offered(void **state)
{
	static const int versions[] = {2, 3, 4, 5, 6};

	(void)state;
	assert_int_equal(mosquitto_plugin_version(5, versions), 5);
	assert_int_equal(mosquitto_plugin_version(1, versions + 3), 5);
	assert_int_equal(mosquitto_plugin_version(3, versions), -1);
	assert_int_equal(mosquitto_plugin_version(1, versions + 4), -1);
	assert_int_equal(mosquitto_plugin_version(0, NULL), -1);
}

static void test_start_and_stop(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_non_null(userdata);
	assert_true(stub.callback_count >= 2);
	assert_int_equal(interpreter.joins, 0);

	queue_push_control(interpreter.context->outbound, message_new(MESSAGE_STOPPED, NULL, 0, NULL, 0, NULL, 0));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(interpreter.joins, 1);
	assert_int_equal(stub.log_count, 0);
}

static void test_application_that_ends_before_it_started(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STOPPED;
	assert_int_not_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_null(userdata);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("package.module:name did not start"), 1);
	assert_int_equal(interpreter.joins, 1);
}

static void test_application_that_is_not_ready_in_time(void **state)
{
	void *userdata;

	(void)state;
	assert_int_not_equal(init("startup_timeout", "0.1", &userdata), MOSQ_ERR_SUCCESS);
	assert_null(userdata);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(stub_broker_logged("startup_timeout"), 1);
	assert_int_equal(interpreter.joins, 0);
}

static void test_interpreter_that_does_not_start(void **state)
{
	void *userdata;

	(void)state;
	interpreter.rc = MOSQ_ERR_NOT_SUPPORTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_NOT_SUPPORTED);
	assert_null(userdata);
	assert_int_equal(stub.callback_count, 0);
}

static void test_wrong_option(void **state)
{
	void *userdata;

	(void)state;
	assert_int_not_equal(init("no_such_option", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_null(userdata);
	assert_int_equal(interpreter.starts, 0);
	assert_int_equal(stub_broker_logged("no_such_option"), 1);
}

static void test_cleanup_without_init(void **state)
{
	(void)state;
	assert_int_equal(mosquitto_plugin_cleanup(NULL, NULL, 0), MOSQ_ERR_SUCCESS);
}

/* ---- the session ---- */

static void test_session_starts_after_the_application(void **state)
{
	void *userdata;

	(void)state;
	assert_int_not_equal(init("startup_timeout", "0.1", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.made, 1);
	assert_int_equal(stub_session.started, 0);

	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.made, 2);
	assert_int_equal(stub_session.started, 1);
	assert_int_equal(stub_session.stopped, 0);
	assert_null(stub_session_take()); /* the listeners are not open yet */

	queue_push_control(interpreter.context->outbound, message_new(MESSAGE_STOPPED, NULL, 0, NULL, 0, NULL, 0));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.stopped, 1);
	assert_int_equal(interpreter.joins, 1);
	assert_int_equal(stub.callback_count, 0);
}

static void test_session_off(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "off", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.made, 0);
	assert_int_equal(stub.callback_count, 2);
	queue_push_control(interpreter.context->outbound, message_new(MESSAGE_STOPPED, NULL, 0, NULL, 0, NULL, 0));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.stopped, 0);
	assert_int_equal(stub.callback_count, 0);
}

/* The broker runs without a session, and says once what that means. */
static void test_no_client_library(void **state)
{
	void *userdata;

	(void)state;
	stub_session.new_rc = MOSQ_ERR_NOT_FOUND;
	stub_session.error = "the library is not there";
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_WARNING);
	assert_int_equal(stub_broker_logged("No session: the library is not there."), 1);
	assert_int_equal(stub_broker_logged("plugin_opt_session off"), 1);
	assert_int_equal(stub.callback_count, 2);
	assert_int_equal(stub_session.started, 0);
	queue_push_control(interpreter.context->outbound, message_new(MESSAGE_STOPPED, NULL, 0, NULL, 0, NULL, 0));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.stopped, 0);
}

static void test_session_that_cannot_be_made(void **state)
{
	void *userdata;

	(void)state;
	stub_session.new_rc = MOSQ_ERR_INVAL;
	stub_session.error = "option transport: not this one";
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_INVAL);
	assert_null(userdata);
	assert_int_equal(interpreter.starts, 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_ERR);
	assert_int_equal(stub_broker_logged("option transport: not this one"), 1);
	assert_int_equal(stub_session.freed, 0);
	stub_broker_reset();

	stub_session.new_rc = MOSQ_ERR_NOMEM;
	stub_session.error = NULL;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_NOMEM);
	assert_int_equal(stub_broker_logged("No memory for the session."), 1);
}

static void test_session_whose_thread_does_not_start(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	stub_session.start_rc = EAGAIN;
	assert_int_not_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_null(userdata);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(stub.log_count, 1);
	assert_int_equal(stub_broker_logged("Cannot start the thread for the session"), 1);
}

/* The name server holds it up: the broker ends without it, and nothing that it uses is freed. */
static void test_session_that_does_not_end(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	stub_session.hangs = true;
	queue_push_control(interpreter.context->outbound, message_new(MESSAGE_STOPPED, NULL, 0, NULL, 0, NULL, 0));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_session.freed, 0);
	assert_int_equal(interpreter.joins, 1);
}

/* With a session the broker is asked for what a session needs, and for nothing that changes what clients may do. */
static void test_callbacks_on_2_0(void **state)
{
	void *userdata;
	size_t i;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.callback_count, 3);
	for (i = 0; i < stub.callback_count; i++) {
		assert_true(stub.callbacks[i].event == MOSQ_EVT_MESSAGE || stub.callbacks[i].event == MOSQ_EVT_TICK ||
				stub.callbacks[i].event == MOSQ_EVT_DISCONNECT);
	}
}

static void test_a_callback_that_the_broker_refuses(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	stub.register_rc = MOSQ_ERR_NOMEM;
	stub.register_rc_after = 1;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_NOMEM);
	assert_null(userdata);
}

/* plugin.c leaves what Python may still use to the end of the process. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
	return "leak:mosquitto_plugin_init\n";
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup(test_version_5_only_when_offered, set_up),
			cmocka_unit_test_setup(test_start_and_stop, set_up),
			cmocka_unit_test_setup(test_application_that_ends_before_it_started, set_up),
			cmocka_unit_test_setup(test_application_that_is_not_ready_in_time, set_up),
			cmocka_unit_test_setup(test_interpreter_that_does_not_start, set_up),
			cmocka_unit_test_setup(test_wrong_option, set_up),
			cmocka_unit_test_setup(test_cleanup_without_init, set_up),
			cmocka_unit_test_setup(test_session_starts_after_the_application, set_up),
			cmocka_unit_test_setup(test_session_off, set_up),
			cmocka_unit_test_setup(test_no_client_library, set_up),
			cmocka_unit_test_setup(test_session_that_cannot_be_made, set_up),
			cmocka_unit_test_setup(test_session_whose_thread_does_not_start, set_up),
			cmocka_unit_test_setup(test_session_that_does_not_end, set_up),
			cmocka_unit_test_setup(test_callbacks_on_2_0, set_up),
			cmocka_unit_test_setup(test_a_callback_that_the_broker_refuses, set_up),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	stub_broker_reset();
	stub_session_end();
	return failed;
}
