#include "python/python_api.h"

#include "python/interpreter.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options/options.h"
#include "shared/log.h"
#include "shared/message.h"
#include "shared/mosquitto_api.h"
#include "shared/queue.h"
#include "shared/thread.h"

/* For the command and for what(1): which plugin a file is, without loading it. */
__attribute__((used)) static const char identification[] =
		"@(#)mqttasgi_plugin " MQTTASGI_VERSION " Python " PY_VERSION;

static pthread_t thread;
static bool thread_runs;

/* Whether a folder is the Python package itself. */
static bool is_package(const char *folder)
{
	char path[PATH_MAX];
	int length = snprintf(path, sizeof(path), "%s/runtime/service.py", folder);

	return length > 0 && (size_t)length < sizeof(path) && access(path, F_OK) == 0;
}

/* The folder that holds the Python package which came with this shared object, so that the two are of one
 * version whatever else is installed: `mqttasgi` beside the object. Pip puts that into the package; then it
 * is the folder that the package is in, as are others (*ret_is_shared). */
static bool package_folder(char ret_folder[static PATH_MAX], bool *ret_is_shared)
{
	Dl_info info;
	char own[PATH_MAX];
	const char *slash;
	char *end;
	int length;

	if (!dladdr((const void *)interpreter_start, &info) || !info.dli_fname) {
		return false;
	}
	slash = strrchr(info.dli_fname, '/');
	length = snprintf(own, sizeof(own), "%.*s", slash ? (int)(slash - info.dli_fname) : 1,
			slash ? info.dli_fname : ".");
	if (length < 0 || (size_t)length >= sizeof(own)) {
		return false;
	}
	*ret_is_shared = is_package(own);
	if (*ret_is_shared) {
		end = realpath(own, ret_folder) ? strrchr(ret_folder, '/') : NULL;
		if (end) {
			*(end == ret_folder ? end + 1 : end) = '\0';
		}
		return end != NULL;
	}
	length = snprintf(ret_folder, PATH_MAX, "%s/mqttasgi", own);
	return length > 0 && length < PATH_MAX;
}

/* Mosquitto 2.1 opens plugins with RTLD_LOCAL, under which Python's extension modules do not find
 * libpython. */
static void promote_libpython(void)
{
	Dl_info info;

	if (dladdr((const void *)Py_InitializeFromConfig, &info) && info.dli_fname) {
		(void)dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
	}
}

/* A virtual environment holds packages for one version of Python, which must be ours. */
static bool check_virtualenv(const char *folder)
{
	char path[PATH_MAX], line[PATH_MAX + 256];

	if ((size_t)snprintf(path, sizeof(path), "%s/lib/python%d.%d", folder, PY_MAJOR_VERSION,
				PY_MINOR_VERSION) < sizeof(path) &&
			access(path, F_OK) == 0) {
		return true;
	}
	(void)snprintf(line, sizeof(line),
			"option virtualenv: %s is not for Python %d.%d, which this plugin was built with (there is no %s). Make "
			"one with: %s -m venv FOLDER",
			folder, PY_MAJOR_VERSION, PY_MINOR_VERSION, path, MQTTASGI_PYTHON_EXECUTABLE);
	pymodule_log(MOSQ_LOG_ERR, line);
	return false;
}

static PyStatus initialize(const struct options *options)
{
	char program[PATH_MAX];
	PyPreConfig preconfig;
	PyConfig config;
	PyStatus status;
	char *argv[] = {(char *)(uintptr_t)"mosquitto"};

	PyPreConfig_InitPythonConfig(&preconfig);
	preconfig.utf8_mode = 1;
	preconfig.configure_locale = 0; /* the locale is the broker's */
	preconfig.parse_argv = 0;
	status = Py_PreInitialize(&preconfig);
	if (PyStatus_Exception(status)) {
		return status;
	}

	PyConfig_InitPythonConfig(&config);
	config.install_signal_handlers = 0; /* signals are the broker's */
	config.parse_argv = 0;
	config.buffered_stdio = 0; /* what an application prints is seen when it prints it */
	(void)snprintf(program, sizeof(program), "%s%s",
			options->virtualenv ? options->virtualenv : MQTTASGI_PYTHON_EXECUTABLE,
			options->virtualenv ? "/bin/python3" : "");
	/* pyvenv.cfg beside the program's folder makes it a virtual environment. */
	status = PyConfig_SetBytesString(&config, &config.program_name, program);
	if (!PyStatus_Exception(status)) {
		status = PyConfig_SetBytesString(&config, &config.executable, program);
	}
	if (!PyStatus_Exception(status)) {
		status = PyConfig_SetBytesArgv(&config, 1, argv);
	}
	if (!PyStatus_Exception(status)) {
		status = Py_InitializeFromConfig(&config);
	}
	PyConfig_Clear(&config);
	return status;
}

/* Imports the package from the folder, which comes first in sys.path. One that has other packages, too, does
 * so for that moment only: they would hide what is not theirs, modules of the standard library for one. */
static bool import_package(const char *folder, bool is_shared)
{
	PyObject *path = PySys_GetObject("path"); /* borrowed */
	PyObject *entry = PyUnicode_DecodeFSDefault(folder), *package = NULL;
	bool good = entry && path && PyList_Insert(path, 0, entry) == 0;

	if (good && is_shared) {
		package = PyImport_ImportModule("mqttasgi");
		good = package && PySequence_DelItem(path, 0) == 0 && PyList_Append(path, entry) == 0;
	}
	Py_XDECREF(package);
	Py_XDECREF(entry);
	return good;
}

/* import mqttasgi.runtime.service; mqttasgi.runtime.service.run() */
static void run(void)
{
	char folder[PATH_MAX] = "";
	bool is_shared;
	PyObject *runtime = NULL, *result = NULL;

	if (!package_folder(folder, &is_shared) || !import_package(folder, is_shared)) {
		pymodule_log_exception("Cannot find the folder of the mqttasgi Python package.");
		goto out;
	}
	runtime = PyImport_ImportModule("mqttasgi.runtime.service");
	if (!runtime) {
		char line[PATH_MAX + 160];

		(void)snprintf(line, sizeof(line),
				"Cannot import the Python package mqttasgi, which belongs in %s beside the plugin; is the folder there, "
				"and may the broker's user read it?",
				folder);
		pymodule_log_exception(line);
		goto out;
	}
	result = PyObject_CallMethod(runtime, "run", NULL);
	if (!result) {
		pymodule_log_exception("The event loop ended with an error.");
	}
out:
	Py_XDECREF(result);
	Py_XDECREF(runtime);
}

/* SIGCHLD is the application's, on its own threads. libuv's handler writes to a descriptor, which is another
 * one, or nobody's, in the broker thread's table. */
static void take_child_signals(int how)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)pthread_sigmask(how, &set, NULL);
}

static void (*_Atomic child_signals_handler)(int signal);

/* Mosquitto unblocks it while it waits for its clients, and the broker thread gets it if the one that has
 * started the child is gone. */
static void pass_child_signal(int signal)
{
	void (*handler)(int signal) = atomic_load(&child_signals_handler);
	int before = errno;

	if (!thread_has_signals()) {
		handler(signal);
	} else if (thread_runs) {
		(void)pthread_kill(thread, signal);
	}
	errno = before;
}

void interpreter_guard_child_signals(void)
{
	struct sigaction action;

	if (sigaction(SIGCHLD, NULL, &action) || (action.sa_flags & SA_SIGINFO) || action.sa_handler == SIG_DFL ||
			action.sa_handler == SIG_IGN || action.sa_handler == pass_child_signal) {
		return;
	}
	atomic_store(&child_signals_handler, action.sa_handler);
	action.sa_handler = pass_child_signal;
	(void)sigaction(SIGCHLD, &action, NULL);
}

/* The broker thread keeps the locale that it has now, whatever the application sets for the process: it
 * writes numbers into $SYS topics. */
static void keep_locale(void)
{
	static locale_t kept;

	if (!kept) {
		kept = duplocale(LC_GLOBAL_LOCALE);
	}
	if (kept) {
		(void)uselocale(kept);
	}
}

static void *loop_thread(void *argument)
{
	const struct pymodule_context *context = argument;
	struct message *stopped = message_stopped();
	PyStatus status;

	thread_take_own_descriptors(&context->inbound_fd, 1);
	thread_take_own_folder();
	take_child_signals(SIG_UNBLOCK);
	if (!context->options->virtualenv || check_virtualenv(context->options->virtualenv)) {
		promote_libpython();
		status = initialize(context->options);
		if (PyStatus_Exception(status)) {
			char line[512];

			(void)snprintf(line, sizeof(line), "Python %d.%d does not start: %s", PY_MAJOR_VERSION,
					PY_MINOR_VERSION, status.err_msg ? status.err_msg : "it asked to exit");
			pymodule_log(MOSQ_LOG_ERR, line);
		} else {
			run();
			/* Threads of the application may go on until the process ends. */
			(void)PyEval_SaveThread();
		}
	}
	(void)queue_tell(context->outbound, stopped);
	return NULL;
}

int interpreter_start(const struct pymodule_context *context)
{
	int rc;

	if (Py_IsInitialized()) {
		log_line(MOSQ_LOG_ERR,
				"Python already runs in this broker, started by another plugin or another `plugin` "
				"line; only one can have it.");
		return MOSQ_ERR_NOT_SUPPORTED;
	}
	if (pymodule_register(context)) {
		log_line(MOSQ_LOG_ERR, "No memory for the Python module _mqttasgi.");
		return MOSQ_ERR_NOMEM;
	}
	keep_locale();
	thread_give_children_signals();
	take_child_signals(SIG_BLOCK);
	rc = thread_start(&thread, "mqttasgi", loop_thread, (void *)(uintptr_t)context);
	if (rc) {
		log_line(MOSQ_LOG_ERR, "Cannot start the thread for Python: %s", strerror(rc));
		return MOSQ_ERR_UNKNOWN;
	}
	thread_runs = true;
	return MOSQ_ERR_SUCCESS;
}

bool interpreter_join(unsigned int milliseconds)
{
	if (thread_runs) {
		thread_runs = !thread_join(thread, milliseconds);
	}
	return !thread_runs;
}
