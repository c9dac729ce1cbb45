"""The `mosquitto.conf` that does what the settings say.

`lines()` is the whole of it, each line with what it is for. The same text starts the broker here and is
printed for a system service, with other places of files.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .holder import holder_of
from .option_table import Settings
from .plugin_options import PLUGIN_OPTIONS
from .values import UsageError, check_text

#: The heading of `--include`'s lines.
INCLUDED_FROM = "from {}"

#: Client id of the bridge in the broker here.
_BRIDGE = "mqttasgi-mirror"


@dataclass(frozen=True)
class Places:
    """Where things are on the machine that runs the broker."""

    plugin: str
    #: For the session's unix socket; the broker's user must be able to write there.
    sockets: str
    #: For user and password; None where no login is asked for.
    passwords: str
    #: The project's folder.
    project: str


@dataclass(frozen=True)
class Line:
    """One line of the file; without `text`, `why` is a heading."""

    text: str
    why: str = ""


def lines(settings: Settings, places: Places, *, as_root: bool, check: bool = False) -> list[Line]:
    """Return the configuration.

    Args:
        settings: What is to be run.
        places: Where that finds things.
        as_root: Whether root starts the broker, which then becomes another user.
        check: For a broker that only checks and ends: keeps nothing, and does not open its listeners.
    """
    mirrors = is_elsewhere(settings)
    made = _general(settings, as_root, check, mirrors)
    session = _session_address(settings, places, mirrors)
    made += _listeners(settings, session, mirrors)
    if settings.username is not None and settings.password is None and not mirrors:
        raise settings.complain(
            "username",
            f'"{settings.username}" has no password, so everybody could be that user; set one (-P, '
            "MQTT_PASSWORD or the .env file)",
        )
    if has_login(settings):
        made.append(Line("allow_anonymous false", "Clients must log in."))
        made.append(
            Line(
                f"password_file {places.passwords}",
                f"Who may: {settings.username}, with the password in this file.",
            )
        )
    else:
        made.append(
            Line(
                "allow_anonymous true",
                "Clients need not log in."
                if not settings.cacert or mirrors
                else "Their certificate lets clients in.",
            )
        )
    if mirrors:
        made += _bridge(settings)
    made += _plugin(settings, places, session, mirrors, check)
    if settings.include:
        made.append(Line("", INCLUDED_FROM.format(settings.include)))
        made += [Line(text) for text in _included(settings)]
    return made


def text_of(made: list[Line]) -> str:
    """Return the file's text."""
    parts = []
    for line in made:
        if line.why and not line.text:
            parts.append(f"\n# ---- {line.why} ----\n")
        else:
            parts.append((f"\n# {line.why}\n" if line.why else "") + f"{line.text}\n")
    return "".join(parts).lstrip("\n")


def has_login(settings: Settings) -> bool:
    """Whether clients of this broker must log in."""
    return settings.username is not None and settings.password is not None


# ---- this machine or another ----


def is_elsewhere(settings: Settings) -> bool:
    """Whether `host` is a broker to mirror, not the place for a listener.

    Raises:
        UsageError: There is no such host.
    """
    return settings.bridge or not _is_here(settings)


def _is_here(settings: Settings) -> bool:
    """Whether this machine can listen at `host`; a name server that is out of reach says no."""
    if settings.host.startswith("/"):
        return True
    try:
        found = socket.getaddrinfo(settings.host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            return False
        name, colon, port = settings.host.rpartition(":")
        hint = "name localhost, an address of this machine, or another machine"
        if colon and name and port.isdecimal():
            hint = f"the port is an option of its own: -H {name} -p {port}"
        raise settings.complain("host", f'there is no host "{settings.host}"; {hint}') from None
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: object, port: int = 0) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address[0], port, *address[2:]))  # type: ignore[index]
    except OSError as error:
        if port:
            raise
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def check_port(settings: Settings) -> None:
    """Raise `UsageError` where the listener's port or unix socket cannot be had."""
    if settings.host.startswith("/"):
        _check_socket_path(settings)
        return
    if is_elsewhere(settings):
        return
    for family, _, _, _, address in socket.getaddrinfo(settings.host, None, type=socket.SOCK_STREAM):
        try:
            _can_bind(family, address, settings.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                holder = holder_of(settings.port, str(address[0]))
                who = f" by {holder.who}" if holder else ""
                how = f" (sudo systemctl disable --now {holder.service})" if holder and holder.service else ""
                raise settings.complain(
                    "port",
                    f"{settings.port} at {settings.host} is taken{who}. This command is a broker itself: "
                    f"stop the other{how}, take another port (-p), or mirror the other (--bridge true)",
                ) from None
            if error.errno == errno.EACCES:
                raise settings.complain(
                    "port",
                    f"{settings.port}: the broker's user may not listen on ports below 1024; choose a higher "
                    "one",
                ) from None


def _check_socket_path(settings: Settings) -> None:
    """Mosquitto removes whatever has that name, and makes its socket there."""
    try:
        mode = os.lstat(settings.host).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise settings.complain(
            "host", f"{settings.host} is there already and is no socket; name a path where nothing is"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(settings.host) == 0:
            raise settings.complain(
                "host",
                f"{settings.host} is taken, by another broker perhaps; stop that, or name another path",
            )


# ---- the parts ----


def _general(settings: Settings, as_root: bool, check: bool, mirrors: bool) -> list[Line]:
    made = [
        Line("", "the broker"),
        Line(
            "set_tcp_nodelay true",
            "Small messages are sent at once; Mosquitto's default may hold them up for 40 ms.",
        ),
        Line(
            "log_dest stderr",
            "The log goes to standard error: a terminal, or the journal of a system service.",
        ),
        Line("log_timestamp_format %Y-%m-%dT%H:%M:%S"),
        Line(
            "max_queued_messages 100000",
            "So many messages may wait for a client, the application too; what is retained comes at once.",
        ),
    ]
    if settings.verbosity == 2:
        made.append(Line("log_type all", "verbosity 2: everything."))
    elif settings.verbosity == 0:
        made.append(Line("connection_messages false", "verbosity 0: nothing about clients that come and go."))
    if as_root and settings.user:
        made.append(Line(f"user {settings.user}", "Who the broker becomes when root starts it."))
    if mirrors:
        made += [
            Line("persistence false", "What is to be kept over a restart, the other broker keeps."),
        ]
    elif settings.persistence and not check:
        made += [
            Line("persistence true", "Retained messages and sessions are kept over a restart."),
            Line(f"persistence_location {settings.persistence.rstrip('/')}/"),
            Line("autosave_interval 60", "Written at the end, and every 60 seconds in case there is none."),
        ]
    elif not settings.persistence:
        made.append(
            Line("persistence false", "Nothing is kept over a restart; --persistence FOLDER does that.")
        )
    return made


def _session_address(settings: Settings, places: Places, mirrors: bool) -> tuple[str, int]:
    """Where the plugin's own connection goes: to the listener if that is plain, else to a unix socket."""
    if settings.host.startswith("/"):
        return settings.host, 0
    if mirrors or settings.cert or settings.transport == "websockets":
        return f"{places.sockets}/session.sock", 0
    return loopback(settings.host), settings.port


def loopback(host: str) -> str:
    """Where a listener at all addresses is reached from here."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _listeners(settings: Settings, session: tuple[str, int], mirrors: bool) -> list[Line]:
    made = [Line("", "who may connect")]
    if settings.host.startswith("/"):
        return [*made, Line(f"listener 0 {settings.host}", "Clients connect through this unix socket.")]
    if session[1] == 0:
        made.append(
            Line(
                f"listener 0 {session[0]}",
                "The plugin's own connection, for retained messages, last wills and QoS 2.",
            )
        )
    if mirrors:
        return made
    made.append(Line(f"listener {settings.port} {settings.host}", "Clients connect here."))
    if settings.transport == "websockets":
        made.append(Line("protocol websockets", "They speak MQTT over websockets."))
    if settings.cert:
        check_certificate(settings)
        made.append(
            Line(f"certfile {settings.cert}", "With TLS; the broker's user must be able to read these files.")
        )
        made.append(Line(f"keyfile {settings.key}"))
        if settings.cacert:
            made.append(
                Line(f"cafile {settings.cacert}", "Clients must show a certificate that this CA signed.")
            )
            made.append(Line("require_certificate true"))
    elif settings.cacert or settings.use_ssl:
        name = "cacert" if settings.cacert else "use_ssl"
        raise settings.complain(
            name,
            f"a listener at {settings.host} with TLS needs a certificate of its own: give cert and key too "
            "(-C and -K)",
        )
    return made


def check_certificate(settings: Settings) -> None:
    """Raise `UsageError` where cert, key or cacert are not what they should be."""
    import ssl

    def no_passphrase() -> str:
        raise settings.complain(
            "key", f"{settings.key} is locked with a passphrase, which nobody could type; unlock it"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key, no_passphrase)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise settings.complain("key", f"{settings.key} is not the key of {settings.cert}") from None
        raise settings.complain(
            "cert",
            f"{settings.cert} and {settings.key} are not a certificate and its key; give both in PEM form",
        ) from None
    except OSError as error:
        raise settings.complain(
            "cert",
            f"{settings.cert} and {settings.key} cannot be read by the broker's user: {error.strerror}",
        ) from None
    if settings.cacert:
        try:
            context.load_verify_locations(settings.cacert)
        except ssl.SSLError:
            raise settings.complain(
                "cacert", f"{settings.cacert} is not a CA's certificate in PEM form"
            ) from None
        except OSError as error:
            raise settings.complain(
                "cacert", f"{settings.cacert} cannot be read by the broker's user: {error.strerror}"
            ) from None


def _bridge(settings: Settings) -> list[Line]:
    if settings.transport == "websockets":
        raise settings.complain(
            "transport",
            f"Mosquitto mirrors another broker over tcp only; name the tcp port of {settings.host}",
        )
    check_certificate(settings)
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    made = [
        Line("", "the broker that is mirrored"),
        Line(
            "connection mqttasgi", "What is published there is heard here, and what is published here, there."
        ),
        Line(f"address {address}:{settings.port}"),
        Line(f"topic {settings.topic} both 2", "Which topics, both ways, at up to QoS 2."),
        Line(
            f"bridge_protocol_version {'mqttv50' if settings.cleansession else 'mqttv311'}",
            "MQTT 5, or 3.1.1 where that broker has no other. It sends nothing back of what comes from here."
            if settings.cleansession
            else "With MQTT 5, this bridge could not ask for a session that outlasts its connection.",
        ),
        Line("notifications false"),
        Line(
            "restart_timeout 1 30",
            "A lost connection is tried again, after 1 second at first and 30 in the end.",
        ),
        Line(
            f"cleansession {str(settings.cleansession).lower()}",
            "It keeps nothing for this broker while that is down."
            if settings.cleansession
            else "It keeps QoS 1 and 2 messages for this broker while that is down.",
        ),
        Line("local_cleansession false", "What is published here while it cannot be reached waits for it."),
        Line(f"remote_clientid {settings.client_id or _own_id(settings)}", "Who we are there."),
        Line(f"local_clientid {_BRIDGE}", "Who it is here."),
    ]
    if settings.username is not None:
        made.append(Line(f"remote_username {settings.username}"))
    if settings.password is not None:
        made.append(Line(f"remote_password {settings.password}"))
    if settings.cacert:
        made.append(
            Line(
                f"bridge_cafile {settings.cacert}", "With TLS; this CA signed the other broker's certificate."
            )
        )
    elif settings.use_ssl or settings.cert:
        made.append(
            Line(
                "bridge_capath /etc/ssl/certs",
                "With TLS; a CA that this system trusts signed its certificate.",
            )
        )
    if settings.cert:
        made.append(Line(f"bridge_certfile {settings.cert}", "Our own certificate there."))
        made.append(Line(f"bridge_keyfile {settings.key}"))
    return made


def _own_id(settings: Settings) -> str:
    # As the plugin makes its own: a client that guessed it could take our place there. Where that broker
    # keeps a session, it must know us again.
    name = f"mqttasgi-{socket.gethostname()}"
    return f"{name}-{os.getpid()}-{secrets.token_hex(4)}" if settings.cleansession else name


def _plugin(
    settings: Settings, places: Places, session: tuple[str, int], mirrors: bool, check: bool
) -> list[Line]:
    # Mirrored, cleansession and client id are the bridge's; the session here is with this broker alone.
    own_id = None if mirrors else settings.client_id
    options: list[tuple[str, object, str]] = [
        ("application", settings.application, "What runs inside the broker."),
        *_python(settings, places),
        ("verbosity", settings.verbosity, "What Python logs: 0 warnings, 1 information, 2 everything."),
        ("host", session[0], "Where the plugin's own connection goes: to a listener above."),
        ("port", session[1] or None, ""),
        ("username", settings.username if has_login(settings) else None, ""),
        ("password", settings.password if has_login(settings) else None, ""),
        (
            "cleansession",
            mirrors or settings.cleansession,
            "false: QoS 1 and 2 messages wait while the application is down.",
        ),
        ("client_id", own_id, ""),
        ("retries", settings.retries, "Failed tries in a row before it is given up; 0 never."),
    ]
    options += [
        ("http", settings.http, "Where HTTP and WebSockets of the application are served."),
        ("http_cert", settings.http_cert, ""),
        ("http_key", settings.http_key, ""),
        ("http_proxies", settings.http_proxies, "Whose X-Forwarded- headers are believed."),
    ]
    if mirrors:
        options.append(("mirror", _BRIDGE, "What is retained here is not sent to it again."))
    options += [
        (key, value, "")
        for key, value in settings.plugin_options.items()
        if key not in {o[0] for o in options}
    ]
    if check:
        options.append(("check", True, "Import the application, then end."))
    made = [Line("", "the application"), Line(f"plugin {places.plugin}")]
    for key, value, why in options:
        if value is not None:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            try:
                check_text(shown)
            except ValueError as error:
                raise UsageError(f"{key} {error}") from None
            made.append(Line(f"plugin_opt_{key} {shown}", why))
    return made


def python_path(settings: Settings, project: str) -> list[str]:
    """Return the folders of the application's code."""
    return (_given(settings, "python_path") or project).split(":")


def _python(settings: Settings, places: Places) -> list[tuple[str, object, str]]:
    """Return what mqttasgi has from the shell that starts it, unless -o or the environment says otherwise."""
    virtualenv = _given(settings, "virtualenv")
    if not virtualenv and sys.prefix != sys.base_prefix:
        virtualenv = sys.prefix
    # As absolute paths: the broker of a system service is started elsewhere. An empty name is for the plugin
    # to refuse.
    folders = [os.path.abspath(name) if name else "" for name in python_path(settings, places.project)]
    return [
        ("python_path", ":".join(folders), "Where its code is."),
        ("virtualenv", os.path.abspath(virtualenv) if virtualenv else None, "Where its packages are."),
        (
            "env_file",
            settings.env_file,
            "Further settings, and what the application finds in its environment.",
        ),
    ]


def _given(settings: Settings, key: str) -> Optional[str]:
    """Return what -o, the environment or the `.env` file says of an option that only the plugin has."""
    variable = PLUGIN_OPTIONS[key].variable
    return settings.plugin_options.get(key) or os.environ.get(variable) or settings.variables.get(variable)


def _included(settings: Settings) -> list[str]:
    try:
        return Path(settings.include or "").read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise settings.complain(
            "include", f"{settings.include} is not text in UTF-8; save it as that"
        ) from None
    except OSError as error:
        raise settings.complain("include", f"{settings.include} cannot be read: {error.strerror}") from None
