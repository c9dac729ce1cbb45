"""The options of the command, each said once: a field of `Settings` with its row.

What an option does to the broker is in `configuration.py`. What the plugin has too is said in its table
(plugin/options/table.h), from which `plugin_options.py` is made. `tests/write_options` makes the table of
docs/options.md from this one.
"""

# Each call below returns a field().

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Callable, Optional

from .plugin_options import PLUGIN_OPTIONS
from .values import (
    UsageError,
    check_text,
    take_addresses,
    take_application,
    take_choice,
    take_file,
    take_filter,
    take_folder,
    take_group,
    take_http,
    take_login,
    take_number,
    take_port,
    take_proxies,
    take_topic,
    take_truth,
    take_user_name,
)

#: Options of the plugin alone that the command gives it where nobody else does.
PYTHON_PATH = PLUGIN_OPTIONS["python_path"].variable
ENV_FILE = PLUGIN_OPTIONS["env_file"].variable


@dataclass(frozen=True)
class Option:
    """One option of the command.

    Attributes:
        take: Makes the value of a text, or raises ValueError with the end of a sentence.
        help: What it does, in Markdown.
        more: What the page says besides.
        is_elsewhere: Whether it is about a broker elsewhere, in whose place none is started here.
        is_ours: Whether mqttasgi did not have it. Its own may be abbreviated, by nothing that is ours.
        status: What it means to `mqttasgi status`, which connects to the listener that it describes; empty
            where that has no use for it.
    """

    name: str
    flags: tuple[str, ...]
    variable: str
    default: Any
    take: Callable[[str], Any]
    metavar: str
    help: str
    more: str = ""
    status: str = ""
    secret: bool = False
    is_ours: bool = False
    is_elsewhere: bool = False


def _own(
    name: str,
    variable: str,
    default: object,
    take: Callable[[str], object],
    metavar: str,
    help: str,
    more: str = "",
    secret: bool = False,
    is_elsewhere: bool = False,
) -> Any:
    """Return the field of an option that only the command has."""
    option = Option(
        name,
        (f"--{name.replace('_', '-')}",),
        variable,
        default,
        take,
        metavar,
        help,
        more,
        secret=secret,
        is_ours=True,
        is_elsewhere=is_elsewhere,
    )
    return field(default=default, metadata={"option": option})


#: The same for one about a broker elsewhere.
_elsewhere = partial(_own, is_elsewhere=True)


def _shared(
    name: str,
    flags: tuple[str, ...],
    metavar: str,
    help: str,
    take: Optional[Callable[[str], object]] = None,
    **more: Any,
) -> Any:
    """Return the field of an option that the plugin has too."""
    row = PLUGIN_OPTIONS[name]
    if take is None:
        take = take_choice(row.words) if row.words else take_number(row.least, row.most)
    option = Option(name, flags, row.variable, row.default, take, metavar, help, **more)
    return field(default=row.default, metadata={"option": option})


_PASSWORD = "that user's password; the environment or the `.env` file keeps it out of the list of processes"


@dataclass
class Settings:
    """What is to be run. Options have their Python types; files and folders are absolute."""

    application: str = _shared(
        "application", (), "APPLICATION", "the ASGI application, `package.module:name`", take_application
    )
    # mqttasgi's thirteen parameters, in its order.
    host: str = _shared(
        "host",
        ("-H", "--host"),
        "HOST",
        "where the broker listens: `localhost`, an address of this machine, `0.0.0.0` for all of them, or a "
        "unix socket's path. The name of another machine: [that machine's broker is mirrored "
        "here](command.md#a-broker-on-another-machine)",
        check_text,
        status="where the broker listens; `0.0.0.0` stands for this machine, a path for a unix socket",
    )
    port: int = _shared(
        "port", ("-p", "--port"), "PORT", "the port there", take_port, status="the port there"
    )
    username: Optional[str] = _shared(
        "username",
        ("-U", "--username"),
        "NAME",
        "clients must log in as this user (with another machine: we do)",
        take_user_name,
        more="Needs a password",
        status="log in as this user",
    )
    password: Optional[str] = _shared(
        "password",
        ("-P", "--password"),
        "PASSWORD",
        _PASSWORD,
        take_login,
        status=_PASSWORD,
        secret=True,
    )
    cleansession: bool = _shared(
        "cleansession",
        ("-c", "--cleansession"),
        "BOOL",
        "false: what arrives at QoS 1 and 2 while the application is down waits for it",
        take_truth,
        more="With `--persistence` over a restart of the broker, too",
    )
    verbosity: int = _shared(
        "verbosity",
        ("-v", "--verbosity"),
        "0-2",
        "what is logged: 0 warnings, 1 information, 2 everything",
        more="From 1 on also who connects; what the broker notes about itself in any case",
    )
    client_id: Optional[str] = _shared(
        "client_id",
        ("-i", "--id"),
        "ID",
        "the application's client id, towards another machine's broker too",
        check_text,
        more="Where none is given and `cleansession` is false, `mqttasgi-<host name>`",
    )
    cert: Optional[str] = _shared(
        "cert",
        ("-C", "--cert"),
        "FILE",
        "the listener speaks TLS with this certificate",
        take_file,
        status="on this machine the listener's certificate, which is trusted; shown where one is wanted",
    )
    key: Optional[str] = _shared(
        "key",
        ("-K", "--key"),
        "FILE",
        "the certificate's key",
        take_file,
        status="the certificate's key",
    )
    cacert: Optional[str] = _shared(
        "cacert",
        ("-S", "--cacert"),
        "FILE",
        "clients must show a certificate that this CA signed (with another machine: its broker must)",
        take_file,
        status="connect with TLS; the CA that signed the listener's certificate",
    )
    use_ssl: bool = _shared(
        "use_ssl",
        ("-SSL", "--use-ssl"),
        "BOOL",
        "true: TLS without client certificates, with cert and key (with another machine: trust the system's "
        "CAs)",
        take_truth,
        status="true: connect with TLS, and trust the system's CAs where there is no cacert",
    )
    transport: str = _shared(
        "transport",
        ("-T", "--transport"),
        "TRANSPORT",
        "what the listener speaks: `tcp` or `websockets`",
        status="what the listener speaks: `tcp` or `websockets`",
    )
    retries: int = _shared(
        "retries",
        ("-r", "--retries"),
        "N",
        "failed tries in a row before the application's [session](session.md) is given up; 0 never",
        more="The same for a [consumer that cannot start](consumers.md#when-a-consumer-fails)",
    )
    # What mqttasgi had no need of.
    http: Optional[str] = _shared(
        "http",
        ("--http",),
        "ADDRESS",
        "also serve the application's [HTTP and WebSockets](web.md), at `127.0.0.1:8000`, `[::1]:8000` or "
        "the path of a unix socket",
        take_http,
        is_ours=True,
    )
    http_cert: Optional[str] = _shared(
        "http_cert",
        ("--http-cert",),
        "FILE",
        "serve them with TLS, with this certificate and the chain that belongs to it",
        take_file,
        is_ours=True,
    )
    http_key: Optional[str] = _shared(
        "http_key", ("--http-key",), "FILE", "that certificate's key", take_file, is_ours=True
    )
    http_proxies: Optional[str] = _shared(
        "http_proxies",
        ("--http-proxies",),
        "LIST",
        "the proxies whose `X-Forwarded-` headers are believed: addresses and networks, separated by commas; "
        "`unix` is whoever connects through the unix socket",
        take_proxies,
        is_ours=True,
    )
    #: A list of `Address`.
    connect: Any = _elsewhere(  # noqa: RUF009
        "connect",
        "MQTTASGI_CONNECT",
        None,
        take_addresses,
        "URL",
        "start no broker, and connect to the one at `mqtt://`, `mqtts://`, `ws://` or `wss://host:port`, as "
        "[one process or several](scaling.md)",
        "Several URLs, separated by commas, are tried in turn. What a URL leaves out comes from `--host`, "
        "`--port`, `--username`, `--password`, `--transport` and `--use-ssl`",
        secret=True,
    )
    group: Optional[str] = _elsewhere(
        "group",
        "MQTTASGI_GROUP",
        None,
        take_group,
        "NAME",
        "with `--connect`: processes with the same group, on any machine, share the messages between them",
    )
    processes: int = _elsewhere(
        "processes",
        "MQTTASGI_PROCESSES",
        1,
        take_number(1, 1000),
        "N",
        "with `--connect`: how many processes run the application here",
        "More than one needs a group",
    )
    leader: Optional[str] = _elsewhere(
        "leader",
        "MQTTASGI_LEADER",
        None,
        check_text,
        "WHERE",
        "with `--group`: where the processes agree on their leader, `database`, `database:ALIAS` or "
        "`redis://host:6379/0`",
    )
    keepalive: int = _elsewhere(
        "keepalive",
        "MQTTASGI_KEEPALIVE",
        60,
        take_number(5, 65535),
        "SECONDS",
        "with `--connect`: after so many seconds without a packet the connection is tested",
    )
    will_topic: Optional[str] = _elsewhere(
        "will_topic",
        "MQTTASGI_WILL_TOPIC",
        None,
        take_topic,
        "TOPIC",
        "with `--connect`: what the broker publishes there when a process is gone without a word",
        "`{id}` in it stands for the process's client id",
    )
    will_payload: Optional[str] = _elsewhere(
        "will_payload", "MQTTASGI_WILL_PAYLOAD", None, check_text, "TEXT", "that message's payload"
    )
    will_qos: int = _elsewhere("will_qos", "MQTTASGI_WILL_QOS", 0, take_number(0, 2), "0-2", "its QoS")
    will_retain: bool = _elsewhere(
        "will_retain", "MQTTASGI_WILL_RETAIN", False, take_truth, "BOOL", "true: the broker keeps it"
    )
    bridge: bool = _own(
        "bridge",
        "MQTTASGI_BRIDGE",
        False,
        take_truth,
        "BOOL",
        "true: host is a broker to mirror, though it is on this machine",
    )
    topic: str = _own(
        "topic", "MQTTASGI_TOPIC", "#", take_filter, "FILTER", "what to mirror from another machine's broker"
    )
    persistence: Optional[str] = _own(
        "persistence",
        "MQTTASGI_PERSISTENCE",
        None,
        take_folder,
        "FOLDER",
        "keep retained messages and sessions there over a restart",
        "The folder is made if it is not there; one that is keeps its owner, and the broker's user must be "
        "able to write to it",
    )
    include: Optional[str] = _own(
        "include",
        "MQTTASGI_INCLUDE",
        None,
        take_file,
        "FILE",
        "further lines of mosquitto.conf, put at the end",
        "A second listener, an `acl_file`, limits",
    )
    user: Optional[str] = _own(
        "user",
        "MQTTASGI_USER",
        None,
        check_text,
        "NAME",
        "who the broker becomes when root starts it (default: mosquitto)",
        "That comes before it writes or reads anything more, so that user must be able to read the project, "
        "certificates and `--include`, and to write the database",
    )

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


OPTIONS: tuple[Option, ...] = tuple(
    each.metadata["option"] for each in fields(Settings) if "option" in each.metadata
)
APPLICATION = OPTIONS[0]
#: mqttasgi's thirteen.
PARAMETERS = tuple(option for option in OPTIONS[1:] if not option.is_ours)
#: Ours that the plugin has too, and those that only the command has.
WEB = tuple(option for option in OPTIONS if option.is_ours and option.name in PLUGIN_OPTIONS)
EXTRAS = tuple(option for option in OPTIONS if option.name not in PLUGIN_OPTIONS and not option.is_elsewhere)
#: Those about a broker elsewhere, which `--connect` is the first of.
CONNECT = tuple(option for option in OPTIONS if option.is_elsewhere)
#: What `status` takes of them.
STATUS = tuple(option for option in PARAMETERS if option.status)
