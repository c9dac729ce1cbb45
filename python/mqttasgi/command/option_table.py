"""The options of the command, and what they come to.

A new option is a row of the tables and a field of `Settings`; what it does to the broker is in
`configuration.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .values import (
    UsageError,
    _application,
    _file,
    _filter,
    _folder,
    _login,
    _number,
    _port,
    _transport,
    _truth,
    _user_name,
    check_text,
)


@dataclass(frozen=True)
class Option:
    """One option of the command."""

    name: str
    flags: tuple[str, ...]
    variable: str
    default: Any
    take: Callable[[str], Any]
    metavar: str
    help: str
    secret: bool = False


#: mqttasgi's thirteen parameters, in its order.
PARAMETERS = (
    Option(
        "host",
        ("-H", "--host"),
        "MQTT_HOSTNAME",
        "localhost",
        check_text,
        "HOST",
        "where the broker listens: localhost, an address of this machine, 0.0.0.0 for all of them, or a unix "
        "socket's path. The name of another machine: that machine's broker is mirrored here",
    ),
    Option("port", ("-p", "--port"), "MQTT_PORT", 1883, _port, "PORT", "the port there"),
    Option(
        "username",
        ("-U", "--username"),
        "MQTT_USERNAME",
        None,
        _user_name,
        "NAME",
        "clients must log in as this user (with another machine: we do)",
    ),
    Option(
        "password",
        ("-P", "--password"),
        "MQTT_PASSWORD",
        None,
        _login,
        "PASSWORD",
        "that user's password; the environment or the .env file keeps it out of the list of processes",
        secret=True,
    ),
    Option(
        "cleansession",
        ("-c", "--cleansession"),
        "MQTT_CLEAN",
        True,
        _truth,
        "BOOL",
        "false: what arrives at QoS 1 and 2 while the application is down waits for it",
    ),
    Option(
        "verbosity",
        ("-v", "--verbosity"),
        "VERBOSITY",
        0,
        _number(0, 2),
        "0-2",
        "what is logged: 0 warnings, 1 information, 2 everything",
    ),
    Option(
        "client_id",
        ("-i", "--id"),
        "MQTT_CLIENT_ID",
        None,
        check_text,
        "ID",
        "the application's client id, towards another machine's broker too",
    ),
    Option(
        "cert",
        ("-C", "--cert"),
        "TLS_CERT",
        None,
        _file,
        "FILE",
        "the listener speaks TLS with this certificate",
    ),
    Option("key", ("-K", "--key"), "TLS_KEY", None, _file, "FILE", "the certificate's key"),
    Option(
        "cacert",
        ("-S", "--cacert"),
        "TLS_CA",
        None,
        _file,
        "FILE",
        "clients must show a certificate that this CA signed (with another machine: its broker must)",
    ),
    Option(
        "use_ssl",
        ("-SSL", "--use-ssl"),
        "MQTT_USE_SSL",
        False,
        _truth,
        "BOOL",
        "true: TLS without client certificates, with cert and key (with another machine: trust the system's "
        "CAs)",
    ),
    Option(
        "transport",
        ("-T", "--transport"),
        "MQTT_TRANSPORT",
        "tcp",
        _transport,
        "TRANSPORT",
        "what the listener speaks: tcp or websockets",
    ),
    Option(
        "retries",
        ("-r", "--retries"),
        "MQTT_RETRIES",
        3,
        _number(0, 1000000),
        "N",
        "failed tries in a row before the application's session is given up; 0 never",
    ),
)

#: What mqttasgi had no need of.
EXTRAS = (
    Option(
        "bridge",
        ("--bridge",),
        "MQTTASGI_BRIDGE",
        False,
        _truth,
        "BOOL",
        "true: host is a broker to mirror, though it is on this machine",
    ),
    Option(
        "topic",
        ("--topic",),
        "MQTTASGI_TOPIC",
        "#",
        _filter,
        "FILTER",
        "what to mirror from another machine's broker",
    ),
    Option(
        "persistence",
        ("--persistence",),
        "MQTTASGI_PERSISTENCE",
        None,
        _folder,
        "FOLDER",
        "keep retained messages and sessions there over a restart",
    ),
    Option(
        "include",
        ("--include",),
        "MQTTASGI_INCLUDE",
        None,
        _file,
        "FILE",
        "further lines of mosquitto.conf, put at the end",
    ),
    Option(
        "user",
        ("--user",),
        "MQTTASGI_USER",
        None,
        check_text,
        "NAME",
        "who the broker becomes when root starts it (default: mosquitto)",
    ),
)

APPLICATION = Option(
    "application",
    (),
    "MQTTASGI_APPLICATION",
    None,
    _application,
    "APPLICATION",
    "the ASGI application, package.module:name",
)

OPTIONS = (APPLICATION, *PARAMETERS, *EXTRAS)

#: What `status` takes of them, with what they mean to it: it connects to the listener that they describe.
STATUS_HELP = {
    "host": "where the broker listens; 0.0.0.0 stands for this machine, a path for a unix socket",
    "port": "the port there",
    "username": "log in as this user",
    "password": PARAMETERS[3].help,
    "cert": "on this machine the listener's certificate, which is trusted; shown where one is wanted",
    "key": "the certificate's key",
    "cacert": "connect with TLS; the CA that signed the listener's certificate",
    "use_ssl": "true: connect with TLS, and trust the system's CAs where there is no cacert",
    "transport": "what the listener speaks: tcp or websockets",
}
STATUS = tuple(option for option in PARAMETERS if option.name in STATUS_HELP)

#: Options of the plugin alone that the command gives it where nobody else does.
PYTHON_PATH, VIRTUALENV, ENV_FILE = "MQTTASGI_PYTHON_PATH", "MQTTASGI_VIRTUALENV", "MQTTASGI_ENV_FILE"


@dataclass
class Settings:
    """What is to be run. Values of `OPTIONS` have their Python types; files and folders are absolute."""

    application: str = ""
    host: str = "localhost"
    port: int = 1883
    username: Optional[str] = None
    password: Optional[str] = None
    cleansession: bool = True
    verbosity: int = 0
    client_id: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None
    cacert: Optional[str] = None
    use_ssl: bool = False
    transport: str = "tcp"
    retries: int = 3
    bridge: bool = False
    topic: str = "#"
    persistence: Optional[str] = None
    include: Optional[str] = None
    user: Optional[str] = None
    #: Lines `plugin_opt_<key> <value>` for the plugin alone.
    plugin_options: dict[str, str] = field(default_factory=dict)
    #: The `.env` file that was read; None where there is none.
    env_file: Optional[str] = None
    #: What is in it.
    variables: Mapping[str, Optional[str]] = field(default_factory=dict)
    #: Where each value that is not a default comes from, to begin a sentence with.
    sources: dict[str, str] = field(default_factory=dict)

    def complain(self, name: str, text: str) -> UsageError:
        """Return the error for option `name`, whose value is wrong as `text` says."""
        return UsageError(f"{self.sources.get(name) or name}: {text}")
