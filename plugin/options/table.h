/* Every option of the plugin, once.
 *
 * Whoever includes this says with OPTION() what he wants of a row: options.h the fields of struct options,
 * options.c the table that options_load() goes by. tests/write_options writes from the same rows what is read
 * elsewhere: the tables of docs/options.md, the comments of config/mosquitto.conf, and what the command
 * `mqttasgi` has to know of them. Run it after a change; a test compares them.
 *
 * OPTION(key, environment variable, kind, type, field, default, limits, flags, since, sample, meaning)
 *
 * kind     how a value is written, one of the option_take_ of option_types.h
 * field    of struct options, with its unit where it has one
 * default  as the administrator would write it, or UNSET("what is then")
 * limits   RANGE(least, most) in the field's unit, WORDS(...) in the order of the enum, or NONE
 * flags    or 0:
 *          NOT_IN_DOTENV  names the `.env` file, so it is too late to read it there
 *          SECRET         never in a log line, and blanks around it are its own
 *          AT_ONCE        a number that can change while the broker runs: see broker_adopt(), docs/reload.md
 *          OF_SESSION     about the session: where pages list it
 *          IN_COMMAND     the command `mqttasgi` reads it, too
 *          FOR_PYTHON     the runtime gets it: declared in `Options` of python/mqttasgi/runtime/bridge.py
 * since    the first version that has it
 * sample   the value that config/mosquitto.conf shows; NULL: that does not show it
 * meaning  the page's and the sample's words, in the page's Markdown; links are relative to docs/
 *
 * No include guard: it is included once for each use. */
/* clang-format off */

OPTION(application, "MQTTASGI_APPLICATION", application, char *, application, UNSET("required"), NONE, IN_COMMAND | FOR_PYTHON,
	"0.1.0",
	"mysite.asgi:application",
	"the ASGI application, `package.module:name`. The only option that must be there")

OPTION(host, "MQTT_HOSTNAME", string, char *, host, "localhost", NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"localhost",
	"the listener's name or address, or the path of its unix socket (`/run/mosquitto/hub.sock`)")

OPTION(port, "MQTT_PORT", number, uint16_t, port, "1883", RANGE(0, 65535), OF_SESSION | IN_COMMAND, "0.1.0",
	"1883",
	"its port; none, or 0, with a unix socket")

OPTION(username, "MQTT_USERNAME", string, char *, username, UNSET(""), NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"hub",
	"the user that the session logs in as, who must be allowed to read what consumers subscribe to")

OPTION(password, "MQTT_PASSWORD", secret, char *, password, UNSET(""), NONE, OF_SESSION | IN_COMMAND | SECRET, "0.1.0",
	"secret",
	"that user's password; never in the log")

OPTION(cleansession, "MQTT_CLEAN", boolean, bool, cleansession, "true", NONE, OF_SESSION | IN_COMMAND | FOR_PYTHON, "0.1.0",
	"false",
	"false: QoS 1 and 2 messages wait in the broker while the application is down; over a restart of the broker too where that "
	"has `persistence true`")

OPTION(verbosity, "VERBOSITY", number, int, verbosity, "0", RANGE(0, 2), AT_ONCE | IN_COMMAND | FOR_PYTHON, "0.1.0",
	"1",
	"what Python logs to the broker's log: 0 warnings, 1 information, 2 everything")

OPTION(client_id, "MQTT_CLIENT_ID", string, char *, client_id, UNSET("`mqttasgi-<host name>-<process>-<random>`"), NONE,
	OF_SESSION | IN_COMMAND, "0.1.0",
	"hub",
	"the session's client id. With `cleansession false` it must stay the same, and is `mqttasgi-<host name>` unless given")

OPTION(cert, "TLS_CERT", file, char *, cert, UNSET(""), NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"/etc/mosquitto/certs/hub.crt",
	"client certificate, for a listener that wants one")

OPTION(key, "TLS_KEY", file, char *, key, UNSET(""), NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"/etc/mosquitto/certs/hub.key",
	"that certificate's key")

OPTION(cacert, "TLS_CA", file, char *, cacert, UNSET(""), NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"/etc/mosquitto/certs/ca.crt",
	"connect with TLS; file with the CA that signed the listener's certificate, which must be for `host`")

OPTION(use_ssl, "MQTT_USE_SSL", boolean, bool, use_ssl, "false", NONE, OF_SESSION | IN_COMMAND, "0.1.0",
	"true",
	"true: connect with TLS; without `cacert`, the CAs that the system trusts count")

OPTION(transport, "MQTT_TRANSPORT", choice, enum options_transport, transport, "tcp", WORDS("tcp", "websockets"),
	OF_SESSION | IN_COMMAND, "0.1.0",
	"tcp",
	"`websockets` for such a listener")

OPTION(retries, "MQTT_RETRIES", number, unsigned int, retries, "3", RANGE(0, 1000000), OF_SESSION | IN_COMMAND | FOR_PYTHON,
	"0.1.0",
	"3",
	"failed tries in a row before the session is given up, or a [consumer that cannot start](consumers.md#when-a-consumer-fails); "
	"0 never")

OPTION(python_path, "MQTTASGI_PYTHON_PATH", folders, char *, python_path, UNSET("where the broker was started"), NONE,
	IN_COMMAND | FOR_PYTHON, "0.1.0",
	"/srv/mysite",
	"folders with your code, `:` between them")

OPTION(virtualenv, "MQTTASGI_VIRTUALENV", virtualenv, char *, virtualenv, UNSET(""), NONE, IN_COMMAND, "0.1.0",
	"/srv/mysite/venv",
	"virtual environment with your packages")

OPTION(env_file, "MQTTASGI_ENV_FILE", file, char *, env_file,
	UNSET("`.env` in `python_path`, then where the broker was started, then above these"), NONE, IN_COMMAND | NOT_IN_DOTENV,
	"0.1.0",
	"/srv/mysite/.env",
	"file with further settings; your application sees them too")

OPTION(queue_size, "MQTTASGI_QUEUE_SIZE", number, size_t, queue_size, "100000", RANGE(1, 10000000), AT_ONCE, "0.1.0",
	"100000",
	"messages that may wait for consumers, and as many from them")

OPTION(queue_bytes, "MQTTASGI_QUEUE_BYTES", bytes, size_t, queue_bytes, "64M", RANGE(1024, QUEUE_BYTES_MAX), AT_ONCE, "0.1.0",
	"64M",
	"the bytes of these messages, each way")

OPTION(consumer_queue_size, "MQTTASGI_CONSUMER_QUEUE_SIZE", number, size_t, consumer_queue_size, "0", RANGE(0, 10000000),
	FOR_PYTHON,
	"0.1.0",
	"0",
	"messages that may wait for each single consumer, so that one which does not keep up takes no room from others; 0: as many "
	"as for all")

OPTION(consumer_queue_bytes, "MQTTASGI_CONSUMER_QUEUE_BYTES", bytes, size_t, consumer_queue_bytes, "0",
	RANGE(0, QUEUE_BYTES_MAX), FOR_PYTHON, "0.1.0",
	"0",
	"the bytes of these messages")

OPTION(overload, "MQTTASGI_OVERLOAD", choice, enum options_overload, overload, "drop_newest", WORDS("drop_newest", "drop_oldest"),
	FOR_PYTHON, "0.1.0",
	"drop_newest",
	"which messages are lost beyond those bounds: those that come (`drop_newest`) or those that have waited longest "
	"(`drop_oldest`)")

OPTION(startup_timeout, "MQTTASGI_STARTUP_TIMEOUT", seconds, unsigned int, startup_timeout_ms, "30", RANGE(100, 3600000), 0,
	"0.1.0",
	"30",
	"seconds that import and `connect()` may take")

OPTION(shutdown_timeout, "MQTTASGI_SHUTDOWN_TIMEOUT", seconds, unsigned int, shutdown_timeout_ms, "5", RANGE(100, 3600000),
	FOR_PYTHON,
	"0.1.0",
	"5",
	"seconds that consumers have to [disconnect](consumers.md#when-the-broker-stops) when the broker stops")

OPTION(log_lines, "MQTTASGI_LOG_LINES", number, unsigned int, log_lines, "100", RANGE(0, 1000000), AT_ONCE | FOR_PYTHON,
	"0.1.0",
	"100",
	"lines a second that each consumer may write [to the broker's log](consumers.md#the-log), all together five times as many; "
	"0: any number")

OPTION(watchdog, "MQTTASGI_WATCHDOG", seconds, unsigned int, watchdog_ms, "2", RANGE(0, 3600000), FOR_PYTHON, "0.1.0",
	"2",
	"seconds for which a consumer may [block the others](consumers.md#when-a-consumer-blocks) before the log names it; 0: any "
	"time")

OPTION(session, "MQTTASGI_SESSION", choice, enum options_session, session, "full", WORDS("full", "off"),
	OF_SESSION | FOR_PYTHON, "0.1.0",
	"full",
	"`off`: no session, and none of what it brings")

OPTION(loop, "MQTTASGI_LOOP", choice, enum options_loop, loop, "auto", WORDS("auto", "asyncio", "uvloop"), FOR_PYTHON, "0.1.0",
	"auto",
	"event loop; `auto` is `uvloop` where that is installed, else `asyncio`")

OPTION(spin, "MQTTASGI_SPIN", number, unsigned int, spin_us, "100", RANGE(0, 1000), AT_ONCE, "0.1.0",
	"100",
	"microseconds the broker may wait for the answer to a single message before it sleeps; 0 never")

OPTION(message_expiry, "MQTTASGI_MESSAGE_EXPIRY", boolean, bool, message_expiry, "false", NONE, 0, "0.1.0",
	"false",
	"true: what MQTT 5 clients publish comes through the session, with its `message_expiry_interval`, which Mosquitto does not "
	"show a plugin")

OPTION(connect_events, "MQTTASGI_CONNECT_EVENTS", boolean, bool, connect_events, "false", NONE, 0, "0.1.0",
	"false",
	"true: consumers are told who connects, also on Mosquitto 2.0. There a client that sends a user name is then refused unless "
	"a `password_file` or another plugin accepts it ([why](consumers.md#clients-that-come-and-go)). Mosquitto 2.1 does without")

OPTION(mirror, "MQTTASGI_MIRROR", string, char *, mirror, UNSET(""), NONE, 0, "0.1.0",
	"main-broker-mirror",
	"where a bridge mirrors another broker: its client id here (`local_clientid`). What is retained here is forgotten when the "
	"link is lost, and comes again from there; else Mosquitto would send older values back")

OPTION(durable, "MQTTASGI_DURABLE", string, char *, durable, UNSET("off"), NONE, FOR_PYTHON, "0.1.0",
	"/var/lib/mosquitto/inbox.db",
	"[durable inbox](durable.md): the file that has each QoS 1 or 2 message for a consumer before the broker acknowledges it. "
	"Implies `cleansession false`")

OPTION(durable_sync, "MQTTASGI_DURABLE_SYNC", choice, enum options_durable_sync, durable_sync, "process",
	WORDS("process", "full"), 0, "0.1.0",
	"process",
	"what stored messages survive: the death of the broker's `process`, or with `full` that of the machine, for which the "
	"broker waits for the disk with each message")

OPTION(durable_size, "MQTTASGI_DURABLE_SIZE", bytes, uint64_t, durable_size, "256M", RANGE(65536, 1099511627776), AT_ONCE, "0.1.0",
	"256M",
	"the bytes of the messages that may be stored; beyond them the broker refuses what clients publish to consumers with QoS 1 "
	"or 2. Dead letters may be as many bytes again")

OPTION(durable_keep, "MQTTASGI_DURABLE_KEEP", seconds, uint64_t, durable_keep_ms, "604800", RANGE(1000, 31536000000), 0,
	"0.1.0",
	"604800",
	"seconds that stored messages wait for a consumer that is not there before they become dead letters; the default is seven "
	"days")

OPTION(durable_tries, "MQTTASGI_DURABLE_TRIES", number, unsigned int, durable_tries, "5", RANGE(1, 1000000), FOR_PYTHON, "0.1.0",
	"5",
	"how often a consumer may fail at a stored message before that becomes a dead letter")

OPTION(http, "MQTTASGI_HTTP", string, char *, http, UNSET("off"), NONE, IN_COMMAND | FOR_PYTHON, "0.1.0",
	"127.0.0.1:8000",
	"where the application's [HTTP and WebSockets](web.md) are served: `127.0.0.1:8000`, `[::1]:8000`, or the path of a unix "
	"socket")

OPTION(http_cert, "MQTTASGI_HTTP_CERT", file, char *, http_cert, UNSET(""), NONE, IN_COMMAND | FOR_PYTHON, "0.1.0",
	"/etc/mosquitto/certs/web.crt",
	"serve them with TLS; the certificate, and the chain that belongs to it")

OPTION(http_key, "MQTTASGI_HTTP_KEY", file, char *, http_key, UNSET(""), NONE, IN_COMMAND | FOR_PYTHON, "0.1.0",
	"/etc/mosquitto/certs/web.key",
	"that certificate's key")

OPTION(http_proxies, "MQTTASGI_HTTP_PROXIES", string, char *, http_proxies, UNSET("nobody"), NONE, IN_COMMAND | FOR_PYTHON, "0.1.0",
	"127.0.0.1,::1",
	"the proxies whose `X-Forwarded-` headers are believed: addresses and networks (`10.0.0.0/8`), separated by commas; `unix` is "
	"whoever connects through the unix socket")

OPTION(http_connections, "MQTTASGI_HTTP_CONNECTIONS", number, unsigned int, http_connections, "500", RANGE(1, 100000), FOR_PYTHON,
	"0.1.0",
	"500",
	"connections for HTTP and WebSockets that may be open; beyond them new ones are closed")

OPTION(http_body, "MQTTASGI_HTTP_BODY", bytes, uint64_t, http_body, "10M", RANGE(0, 1099511627776), FOR_PYTHON, "0.1.0",
	"10M",
	"bytes that a request's body may have; a longer one gets status 413")

OPTION(check, "MQTTASGI_CHECK", boolean, bool, check, "false", NONE, FOR_PYTHON, "0.1.0",
	"false",
	"true: import the application, say in the log whether that went well, and end the broker before it opens a listener")

/* clang-format on */
#undef OPTION
