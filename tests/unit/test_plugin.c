/* plugin.c between a stub of Mosquitto and a stub of the interpreter, which says what the test wants. */
#include "cmocka_all.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/versions.h"
#include "python/interpreter.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "stub_broker.h"
#include "stub_session.h"

#ifdef STUB_BROKER_2_1
#define IS_2_1 1
#else
#define IS_2_1 0
#endif

/* How many lines of the start are about copies for the session: it has no file of the broker's to read
 * that 2.0 may refuse them. */
#define LINES_ABOUT_COPIES (!IS_2_1)

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
		assert_true(queue_tell(context->outbound,
				message_copy(&(const struct message){.kind = interpreter.kind})));
	}
	return interpreter.rc;
}

void interpreter_guard_child_signals(void)
{
}

bool interpreter_join(unsigned int milliseconds)
{
	(void)milliseconds;
	interpreter.joins++;
	return true;
}

/* Functions that read properties are in this program, as in a Mosquitto 2.1, unless they are hidden: then
 * they may be in the client library. */
static struct {
	bool hidden;
	bool wrong;    /* one of them reads something else */
	void *library; /* what dlopen() returns */
	unsigned int asked;
} readers;

void *__real_dlsym(void *handle, const char *name);
void *__wrap_dlsym(void *handle, const char *name);

static const mosquitto_property *read_zero(const mosquitto_property *list, int identifier, uint8_t *value,
		bool next)
{
	list = mosquitto_property_read_byte(list, identifier, value, next);
	*value = 0;
	return list;
}

void *__wrap_dlsym(void *handle, const char *name)
{
	if (readers.hidden && handle == RTLD_DEFAULT && strncmp(name, "mosquitto_property_", 19) == 0) {
		return NULL;
	}
	if (readers.wrong && strcmp(name, "mosquitto_property_read_byte") == 0) {
		return (void *)(uintptr_t)read_zero;
	}
	return __real_dlsym(handle, name);
}

void *__real_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags);

void *__wrap_dlopen(const char *name, int flags)
{
	if (!name || strcmp(name, "libmosquitto.so.1") != 0) {
		return __real_dlopen(name, flags);
	}
	readers.asked++;
#ifdef RTLD_DEEPBIND
	assert_false(flags & RTLD_DEEPBIND);
#endif
	return readers.library ? __real_dlopen(name, flags) : __real_dlopen("/there is none", flags);
}

bool __wrap_versions_ask(const char *program, char ret_version[VERSIONS_MAX]);

/* This program is no broker that could be asked. */
bool __wrap_versions_ask(const char *program, char ret_version[VERSIONS_MAX])
{
	(void)program;
	strcpy(ret_version, IS_2_1 ? "2.1.2" : "2.0.11");
	return true;
}

static int set_up(void **state)
{
	(void)state;
	stub_broker_reset();
	stub_session_reset();
	memset(&interpreter, 0, sizeof(interpreter));
	memset(&readers, 0, sizeof(readers));
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

	assert_true(queue_tell(interpreter.context->outbound, message_stopped()));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(interpreter.joins, 1);
	assert_int_equal(stub.log_count, LINES_ABOUT_COPIES);
	assert_int_equal(stub_broker_logged("The session gets a copy"), LINES_ABOUT_COPIES);
}

static bool listens_to(int event)
{
	size_t i;

	for (i = 0; i < stub.callback_count && stub.callbacks[i].event != event; i++) {
	}
	return i < stub.callback_count;
}

static void test_session_on_and_off(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "full", &userdata), MOSQ_ERR_SUCCESS);
	assert_true(stub_session.started);
	assert_true(listens_to(MOSQ_EVT_DISCONNECT));
	/* On 2.0 this would turn what nobody objects to into a denial. */
	assert_int_equal(listens_to(MOSQ_EVT_ACL_CHECK), IS_2_1);
	assert_int_equal(listens_to(EVT_CLIENT_OFFLINE), IS_2_1);
	assert_int_equal(stub_session.command_count, 0); /* the listeners are not open yet */
	assert_true(queue_tell(interpreter.context->outbound, message_stopped()));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_true(stub_session.stopped);

	set_up(NULL);
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "off", &userdata), MOSQ_ERR_SUCCESS);
	assert_false(stub_session.started);
	assert_true(listens_to(MOSQ_EVT_DISCONNECT)); /* consumers may want to know */
	assert_false(listens_to(MOSQ_EVT_ACL_CHECK));
	assert_true(queue_tell(interpreter.context->outbound, message_stopped()));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
}

static void start(const char *key, const char *value, void **ret_userdata)
{
	set_up(NULL);
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init(key, value, ret_userdata), MOSQ_ERR_SUCCESS);
}

static void end_plugin(void *userdata)
{
	assert_true(queue_tell(interpreter.context->outbound, message_stopped()));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.callback_count, 0);
}

/* On 2.0 the question whether a client may log in is all that tells of it, and to ask it changes who may. */
static void test_what_is_listened_to(void **state)
{
	void *userdata;

	(void)state;
	start("connect_events", "true", &userdata);
	assert_true(listens_to(MOSQ_EVT_MESSAGE));
	assert_true(listens_to(MOSQ_EVT_TICK));
	assert_true(listens_to(MOSQ_EVT_RELOAD));
	assert_true(listens_to(MOSQ_EVT_DISCONNECT));
	assert_int_equal(listens_to(EVT_CONNECT), IS_2_1);
	assert_int_equal(listens_to(EVT_CLIENT_OFFLINE), IS_2_1);
	assert_int_equal(listens_to(MOSQ_EVT_BASIC_AUTH), !IS_2_1);
	assert_int_equal(stub_broker_logged("allow_anonymous"), !IS_2_1);
	assert_int_equal(stub.log_count, !IS_2_1 + LINES_ABOUT_COPIES);
	assert_int_equal(listens_to(MOSQ_EVT_ACL_CHECK), IS_2_1);
	if (!IS_2_1) {
		assert_int_equal(stub.logs[stub.log_count - 1].level, MOSQ_LOG_NOTICE);
	}
	end_plugin(userdata);

	start("startup_timeout", "60", &userdata);
	assert_true(listens_to(MOSQ_EVT_DISCONNECT));
	assert_int_equal(listens_to(EVT_CONNECT), IS_2_1);
	assert_false(listens_to(MOSQ_EVT_BASIC_AUTH));
	assert_int_equal(stub.log_count, LINES_ABOUT_COPIES);
	end_plugin(userdata);

	assert_int_equal(setenv("MQTTASGI_MARK_COPIES", "1", 1), 0);
	start("startup_timeout", "60", &userdata);
	assert_int_equal(unsetenv("MQTTASGI_MARK_COPIES"), 0);
	assert_false(listens_to(MOSQ_EVT_ACL_CHECK));
	end_plugin(userdata);
}

/* The application is imported, and the broker told to stop, with a line that says that this is no failure. */
static void test_check(void **state)
{
	void *userdata = NULL;

	(void)state;
	set_up(NULL);
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_not_equal(init("check", "true", &userdata), MOSQ_ERR_SUCCESS);
	assert_null(userdata);
	assert_int_equal(stub.callback_count, 0);
	assert_false(stub_session.started);
	assert_true(stub_broker_logged("Check passed"));

	set_up(NULL);
	interpreter.says = true;
	interpreter.kind = MESSAGE_STOPPED;
	assert_int_not_equal(init("check", "true", &userdata), MOSQ_ERR_SUCCESS);
	assert_false(stub_broker_logged("Check passed"));
}

/* Each callback gets what it expects: this one complains, because this program was started without -c. */
static void test_reload(void **state)
{
	void *userdata;
	size_t i;

	(void)state;
	start("startup_timeout", "60", &userdata);
	for (i = 0; stub.callbacks[i].event != MOSQ_EVT_RELOAD; i++) {
	}
	assert_int_equal(stub.callbacks[i].callback(MOSQ_EVT_RELOAD, NULL, stub.callbacks[i].userdata),
			IS_2_1 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER);
	assert_int_equal(stub_broker_logged("The options stay as they were: the broker's command line"), 1);
	end_plugin(userdata);
}

static void tick(void)
{
	size_t i;

	for (i = 0; stub.callbacks[i].event != MOSQ_EVT_TICK; i++) {
	}
	assert_int_equal(stub.callbacks[i].callback(MOSQ_EVT_TICK, NULL, stub.callbacks[i].userdata),
			MOSQ_ERR_SUCCESS);
}

/* One line, when there is all that it says. */
static void test_what_runs_is_said_once(void **state)
{
	static const struct {
		const char *option;
		int session_is_up[3]; /* -1: the end */
		const char *said;
	} cases[] = {
		{"full", {1, 0, -1}, ", session up: 1 consumer."},
		{"full", {0, 1, -1}, ", session down: 1 consumer."},
		{"off", {-1}, ", without a session: 1 consumer."},
	};
	void *userdata;
	size_t i, j;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start("session", cases[i].option, &userdata);
		tick();
		assert_int_equal(stub_broker_logged("runs in Mosquitto"), 0);
		assert_true(queue_tell(interpreter.context->outbound, message_settled("1 consumer.", 11)));
		tick();
		assert_int_equal(stub_broker_logged("runs in Mosquitto"), cases[i].session_is_up[0] < 0);
		for (j = 0; cases[i].session_is_up[j] >= 0; j++) {
			assert_true(queue_tell(interpreter.context->outbound,
					message_copy(&(struct message){
						.kind = MESSAGE_SESSION, .as.session.is_up = cases[i].session_is_up[j]})));
			tick();
		}
		assert_int_equal(stub_broker_logged("package.module:name runs in Mosquitto 2."), 1);
		assert_int_equal(stub_broker_logged(cases[i].said), 1);
		end_plugin(userdata);
	}
}

static void test_readers_of_properties(void **state)
{
	void *library = __real_dlopen("libmosquitto.so.1", RTLD_NOW), *userdata;

	(void)state;
	assert_non_null(library);
	start("session", "off", &userdata);
	assert_int_equal(readers.asked, 0); /* the broker's own */
	assert_int_equal(stub.log_count, 0);
	end_plugin(userdata);

	set_up(NULL);
	readers.hidden = true;
	readers.library = library;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "off", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(readers.asked, 1);
	assert_int_equal(stub.log_count, 0);
	end_plugin(userdata);

	set_up(NULL);
	readers.hidden = true;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "off", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_broker_logged("without their MQTT 5 properties: /there is none: "), 1);
	assert_int_equal(stub.logs[0].level, MOSQ_LOG_WARNING);
	end_plugin(userdata);

	set_up(NULL);
	readers.wrong = true;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("session", "off", &userdata), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub_broker_logged("of another version than the broker"), 1);
	end_plugin(userdata);
	set_up(NULL);
	dlclose(library);
}

static void test_session_that_cannot_be(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	stub_session.new_rc = MOSQ_ERR_NOMEM;
	assert_int_equal(init("session", "full", &userdata), MOSQ_ERR_NOMEM);
	assert_int_equal(interpreter.starts, 0);
	assert_int_equal(stub_broker_logged("No memory for the session"), 1);
	assert_int_equal(stub.log_count, 1);
}

static void test_session_waits_for_the_application(void **state)
{
	void *userdata;

	(void)state;
	assert_int_not_equal(init("startup_timeout", "0.1", &userdata), MOSQ_ERR_SUCCESS);
	assert_false(stub_session.started);
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
	assert_int_equal(stub.log_count, 1 + LINES_ABOUT_COPIES);
	assert_int_equal(stub_broker_logged("Cannot start the thread for the session"), 1);
}

/* The name server holds it up: the broker ends without it, and what it uses stays. */
static void test_session_that_does_not_end(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_SUCCESS);
	stub_session.hangs = true;
	assert_true(queue_tell(interpreter.context->outbound, message_stopped()));
	assert_int_equal(mosquitto_plugin_cleanup(userdata, NULL, 0), MOSQ_ERR_SUCCESS);
	assert_true(stub_session.stopped);
	assert_false(stub_session.freed);
	assert_int_equal(stub.callback_count, 0);
	assert_int_equal(interpreter.joins, 1);
}

static void test_a_callback_that_the_broker_refuses(void **state)
{
	void *userdata;

	(void)state;
	interpreter.says = true;
	interpreter.kind = MESSAGE_STARTED;
	stub.register_rc = MOSQ_ERR_NOMEM;
	stub.register_rc_after = 2;
	assert_int_equal(init("startup_timeout", "60", &userdata), MOSQ_ERR_NOMEM);
	assert_null(userdata);
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
	assert_int_equal(stub.log_count, 1 + LINES_ABOUT_COPIES);
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
		cmocka_unit_test_setup(test_session_on_and_off, set_up),
		cmocka_unit_test_setup(test_what_is_listened_to, set_up),
		cmocka_unit_test_setup(test_check, set_up),
		cmocka_unit_test_setup(test_reload, set_up),
		cmocka_unit_test_setup(test_what_runs_is_said_once, set_up),
		cmocka_unit_test_setup(test_readers_of_properties, set_up),
		cmocka_unit_test_setup(test_session_that_cannot_be, set_up),
		cmocka_unit_test_setup(test_session_waits_for_the_application, set_up),
		cmocka_unit_test_setup(test_session_whose_thread_does_not_start, set_up),
		cmocka_unit_test_setup(test_session_that_does_not_end, set_up),
		cmocka_unit_test_setup(test_a_callback_that_the_broker_refuses, set_up),
		cmocka_unit_test_setup(test_application_that_ends_before_it_started, set_up),
		cmocka_unit_test_setup(test_application_that_is_not_ready_in_time, set_up),
		cmocka_unit_test_setup(test_interpreter_that_does_not_start, set_up),
		cmocka_unit_test_setup(test_wrong_option, set_up),
		cmocka_unit_test_setup(test_cleanup_without_init, set_up),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	stub_broker_reset();
	stub_session_reset();
	return failed;
}
