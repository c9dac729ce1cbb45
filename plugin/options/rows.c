#include "options/rows.h"

#include <stdlib.h>
#include <string.h>

#include "options/options.h"

/* A new option is a field in struct options and a row here; its row frees it, too, where it is a string. */

#define FIELD(name)                                                                                          \
	offsetof(struct options, name), sizeof(((struct options *)NULL)->name),                                    \
			_Generic(((struct options *)NULL)->name, char * : true, default : false)
#define NO_RANGE 0, 0, NULL

#define QUEUE_BYTES_MAX (SIZE_MAX > UINT32_MAX ? (uint64_t)64 << 30 : (uint64_t)1 << 30)

static const char *const transports[] = {"tcp", "websockets", NULL};
static const char *const sessions[] = {"full", "off", NULL};
static const char *const overloads[] = {"drop_newest", "drop_oldest", NULL};
static const char *const loops[] = {"auto", "asyncio", "uvloop", NULL};

/* clang-format off */
const struct option table[TABLE_LENGTH] = {
	/* key, environment, type, default, field, minimum, maximum, choices, flags */
	{"application", "MQTTASGI_APPLICATION", option_take_application, NULL, FIELD(application), NO_RANGE, 0},
	{"host", "MQTT_HOSTNAME", option_take_string, "localhost", FIELD(host), NO_RANGE, 0},
	{"port", "MQTT_PORT", option_take_number, "1883", FIELD(port), 0, 65535, NULL, 0},
	{"username", "MQTT_USERNAME", option_take_string, NULL, FIELD(username), NO_RANGE, 0},
	{"password", "MQTT_PASSWORD", option_take_secret, NULL, FIELD(password), NO_RANGE, SECRET},
	{"cleansession", "MQTT_CLEAN", option_take_boolean, "true", FIELD(cleansession), NO_RANGE, 0},
	{"verbosity", "VERBOSITY", option_take_number, "0", FIELD(verbosity), 0, 2, NULL, AT_ONCE},
	{"client_id", "MQTT_CLIENT_ID", option_take_string, NULL, FIELD(client_id), NO_RANGE, 0},
	{"cert", "TLS_CERT", option_take_file, NULL, FIELD(cert), NO_RANGE, 0},
	{"key", "TLS_KEY", option_take_file, NULL, FIELD(key), NO_RANGE, 0},
	{"cacert", "TLS_CA", option_take_file, NULL, FIELD(cacert), NO_RANGE, 0},
	{"use_ssl", "MQTT_USE_SSL", option_take_boolean, "false", FIELD(use_ssl), NO_RANGE, 0},
	{"transport", "MQTT_TRANSPORT", option_take_choice, "tcp", FIELD(transport), 0, 0, transports, 0},
	{"retries", "MQTT_RETRIES", option_take_number, "3", FIELD(retries), 0, 1000000, NULL, 0},
	{"python_path", "MQTTASGI_PYTHON_PATH", option_take_folders, NULL, FIELD(python_path), NO_RANGE, 0},
	{"virtualenv", "MQTTASGI_VIRTUALENV", option_take_virtualenv, NULL, FIELD(virtualenv), NO_RANGE, 0},
	{"env_file", "MQTTASGI_ENV_FILE", option_take_file, NULL, FIELD(env_file), NO_RANGE, NOT_IN_DOTENV},
	{"queue_size", "MQTTASGI_QUEUE_SIZE", option_take_number, "100000", FIELD(queue_size), 1, 10000000, NULL, AT_ONCE},
	{"queue_bytes", "MQTTASGI_QUEUE_BYTES", option_take_bytes, "64M", FIELD(queue_bytes), 1024, QUEUE_BYTES_MAX, NULL, AT_ONCE},
	{"consumer_queue_size", "MQTTASGI_CONSUMER_QUEUE_SIZE", option_take_number, "0", FIELD(consumer_queue_size), 0, 10000000, NULL, 0},
	{"consumer_queue_bytes", "MQTTASGI_CONSUMER_QUEUE_BYTES", option_take_bytes, "0", FIELD(consumer_queue_bytes), 0, QUEUE_BYTES_MAX, NULL, 0},
	{"overload", "MQTTASGI_OVERLOAD", option_take_choice, "drop_newest", FIELD(overload), 0, 0, overloads, 0},
	{"startup_timeout", "MQTTASGI_STARTUP_TIMEOUT", option_take_seconds, "30", FIELD(startup_timeout_ms), 100, 3600000, NULL, 0},
	{"shutdown_timeout", "MQTTASGI_SHUTDOWN_TIMEOUT", option_take_seconds, "5", FIELD(shutdown_timeout_ms), 100, 3600000, NULL, 0},
	{"log_lines", "MQTTASGI_LOG_LINES", option_take_number, "100", FIELD(log_lines), 0, 1000000, NULL, 0},
	{"watchdog", "MQTTASGI_WATCHDOG", option_take_seconds, "2", FIELD(watchdog_ms), 0, 3600000, NULL, 0},
	{"session", "MQTTASGI_SESSION", option_take_choice, "full", FIELD(session), 0, 0, sessions, 0},
	{"loop", "MQTTASGI_LOOP", option_take_choice, "auto", FIELD(loop), 0, 0, loops, 0},
	{"spin", "MQTTASGI_SPIN", option_take_number, "100", FIELD(spin_us), 0, 1000, NULL, AT_ONCE},
	{"message_expiry", "MQTTASGI_MESSAGE_EXPIRY", option_take_boolean, "false", FIELD(message_expiry), NO_RANGE, 0},
	{"connect_events", "MQTTASGI_CONNECT_EVENTS", option_take_boolean, "false", FIELD(connect_events), NO_RANGE, 0},
	{"mirror", "MQTTASGI_MIRROR", option_take_string, NULL, FIELD(mirror), NO_RANGE, 0},
	{"check", "MQTTASGI_CHECK", option_take_boolean, "false", FIELD(check), NO_RANGE, 0},
};
/* clang-format on */

size_t row_of(const char *key)
{
	size_t row;

	for (row = 0; row < TABLE_LENGTH && strcmp(table[row].key, key) != 0; row++) {
	}
	return row;
}
