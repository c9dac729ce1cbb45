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
