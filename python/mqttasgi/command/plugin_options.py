"""What the command knows of the plugin's options; written by tests/write_options."""

from __future__ import annotations

from typing import NamedTuple, Union


class PluginOption(NamedTuple):
    """One row of plugin/options/table.h."""

    variable: str
    default: Union[str, int, bool, None] = None
    #: Of numbers.
    least: int = 0
    most: int = 0
    #: Of what is one of several words.
    words: tuple[str, ...] = ()


class ProcessOption(NamedTuple):
    """One of them that the processes of `--connect` have too, by its `kind` there."""

    variable: str
    kind: str
    default: Union[str, int, float, bool]
    least: int = 0
    most: int = 0
    words: tuple[str, ...] = ()


PLUGIN_OPTIONS = {
    "application": PluginOption("MQTTASGI_APPLICATION"),
    "host": PluginOption("MQTT_HOSTNAME", "localhost"),
    "port": PluginOption("MQTT_PORT", 1883, least=0, most=65535),
    "username": PluginOption("MQTT_USERNAME"),
    "password": PluginOption("MQTT_PASSWORD"),
    "cleansession": PluginOption("MQTT_CLEAN", True),
    "verbosity": PluginOption("VERBOSITY", 0, least=0, most=2),
    "client_id": PluginOption("MQTT_CLIENT_ID"),
    "cert": PluginOption("TLS_CERT"),
    "key": PluginOption("TLS_KEY"),
    "cacert": PluginOption("TLS_CA"),
    "use_ssl": PluginOption("MQTT_USE_SSL", False),
    "transport": PluginOption("MQTT_TRANSPORT", "tcp", words=("tcp", "websockets")),
    "retries": PluginOption("MQTT_RETRIES", 3, least=0, most=1000000),
    "python_path": PluginOption("MQTTASGI_PYTHON_PATH"),
    "virtualenv": PluginOption("MQTTASGI_VIRTUALENV"),
    "env_file": PluginOption("MQTTASGI_ENV_FILE"),
    "http": PluginOption("MQTTASGI_HTTP"),
    "http_cert": PluginOption("MQTTASGI_HTTP_CERT"),
    "http_key": PluginOption("MQTTASGI_HTTP_KEY"),
    "http_proxies": PluginOption("MQTTASGI_HTTP_PROXIES"),
}

PROCESS_OPTIONS = {
    "queue_size": ProcessOption("MQTTASGI_QUEUE_SIZE", "number", 100000, least=1, most=10000000),
    "queue_bytes": ProcessOption("MQTTASGI_QUEUE_BYTES", "bytes", 67108864, least=1024, most=68719476736),
    "consumer_queue_size": ProcessOption("MQTTASGI_CONSUMER_QUEUE_SIZE", "number", 0, least=0, most=10000000),
    "consumer_queue_bytes": ProcessOption(
        "MQTTASGI_CONSUMER_QUEUE_BYTES", "bytes", 0, least=0, most=68719476736
    ),
    "overload": ProcessOption(
        "MQTTASGI_OVERLOAD", "choice", "drop_newest", words=("drop_newest", "drop_oldest")
    ),
    "shutdown_timeout": ProcessOption("MQTTASGI_SHUTDOWN_TIMEOUT", "seconds", 5.0, least=100, most=3600000),
    "log_lines": ProcessOption("MQTTASGI_LOG_LINES", "number", 100, least=0, most=1000000),
    "watchdog": ProcessOption("MQTTASGI_WATCHDOG", "seconds", 2.0, least=0, most=3600000),
    "loop": ProcessOption("MQTTASGI_LOOP", "choice", "auto", words=("auto", "asyncio", "uvloop")),
    "durable": ProcessOption("MQTTASGI_DURABLE", "string", ""),
    "durable_tries": ProcessOption("MQTTASGI_DURABLE_TRIES", "number", 5, least=1, most=1000000),
    "http_connections": ProcessOption("MQTTASGI_HTTP_CONNECTIONS", "number", 500, least=1, most=100000),
    "http_body": ProcessOption("MQTTASGI_HTTP_BODY", "bytes", 10485760, least=0, most=1099511627776),
}
