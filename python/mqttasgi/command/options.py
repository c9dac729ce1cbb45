"""What the command line, the environment and the `.env` file say, checked.

The first that has a value wins: argument, environment variable, `.env` file, default. A new option is a row
of the tables and a field of `Settings`; what it does to the broker is in `configuration.py`. The plugin reads
the same variables by the same rules (plugin/options), and checks the options that only it knows.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional

#: Spellings of a truth value, as the plugin takes them, in any case.
_TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class UsageError(Exception):
    """Something that was asked for makes no sense; the text is a sentence for who asked."""


# ---- values: each takes the text and returns the value, or raises ValueError with the end of a sentence ----


def check_text(value: str) -> str:
    """Return the value, if a line of `mosquitto.conf` can hold it; else raise ValueError."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("has a control character in it, which mosquitto.conf cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not text in UTF-8, which mosquitto.conf must be") from None
    return value


def _login(value: str) -> str:
    if check_text(value) != value.strip():
        raise ValueError("begins or ends with a blank, which mosquitto.conf cannot hold")
    if len(value.encode()) > 65535:
        raise ValueError("is longer than the 65535 bytes that MQTT can carry")
    return value


def _user_name(value: str) -> str:
    # A line of the password file is name:hash, and a comment where it begins with #.
    if ":" in _login(value) or value.startswith("#"):
        raise ValueError("has a colon or begins with #, which a password file cannot hold")
    return value


def _number(minimum: int, maximum: int) -> Callable[[str], int]:
    def take(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value.strip()) or not minimum <= int(value) <= maximum:
            raise ValueError(f"is not a number from {minimum} to {maximum}")
        return int(value)

    return take


def _port(value: str) -> int:
    try:
        return _number(0, 65535)(value)  # 0 goes with a unix socket, as in the plugin's options
    except ValueError:
        raise ValueError("is not a number from 1 to 65535") from None


def _truth(value: str) -> bool:
    try:
        return _TRUTHS[value.strip().lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def _transport(value: str) -> str:
    if value.strip().lower() not in ("tcp", "websockets"):
        raise ValueError("is neither tcp nor websockets")
    return value.strip().lower()


def _path(value: str) -> Path:
    return Path(os.path.expanduser(check_text(value))).absolute()


def _file(value: str) -> str:
    path = _path(value)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is not a file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return str(path)


def _folder(value: str) -> str:
    path = _path(value)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError("is not a folder")
    return str(path)


def _application(value: str) -> str:
    value = value.strip()
    if value == "status":
        raise ValueError("is no application; it comes first, as in: mqttasgi status --watch")
    if value == "startproject":
        raise ValueError("is no application; it comes first, as in: mqttasgi startproject mysite")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", value):
        hint = ""
        module = re.sub(r"\.py$", "", value).strip("/").replace("/", ".")
        if ":" not in value and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
            *package, name = module.split(".")
            hint = (
                f", such as {module}:application"
                if value != module or not package or name == "asgi"
                else (f", such as {'.'.join(package)}:{name}")
            )
        raise ValueError(f"must look like package.module:name{hint}")
    return value


def _filter(value: str) -> str:
    # MQTT 5, 4.7.1: wildcards stand for whole levels, and # for the last.
    levels = check_text(value).split("/")
    for number, level in enumerate(levels):
        if ("+" in level and level != "+") or ("#" in level and (level != "#" or number != len(levels) - 1)):
            raise ValueError("is not a topic filter: + and # stand for whole levels, and # comes last")
    if not value or " " in value:
        raise ValueError("cannot stand in a topic line of mosquitto.conf")
    return value


# ---- the options ----


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


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence, and which takes mqttasgi's parameters abbreviated."""

    def parse_known_args(  # type: ignore[override]
        self, args: Optional[Sequence[str]] = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._written_out(word) for word in words], namespace)

    def _written_out(self, word: str) -> str:
        """As mqttasgi takes it: by its parameters alone, so that a new one of ours makes none ambiguous."""
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"--[a-z][a-z-]*", name) or name in self._option_string_actions:
            return word
        meant = [
            flag
            for option in PARAMETERS
            for flag in option.flags
            if flag.startswith(name) and flag in self._option_string_actions
        ]
        return f"{meant[0]}{equals}{value}" if len(meant) == 1 else word

    def error(self, message: str) -> NoReturn:
        raise UsageError(self._sentence(message))

    def _sentence(self, message: str) -> str:
        missing = re.fullmatch(r"argument (\S+): expected one argument", message)
        if missing:
            flag = missing[1].split("/")[-1]
            return f"argument {missing[1]}: has no value; one that begins with - is written {flag}=VALUE"
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message)
        if unknown:
            word = unknown[1].split()[0].partition("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            longer = [flag for flag in known if word.startswith("--") and flag.startswith(word)]
            if len(longer) > 1:
                return f"{word} may be {' or '.join(longer)}; write it out"
            names = {flag.lstrip("-"): flag for flag in known}
            close = difflib.get_close_matches(word.lstrip("-"), names, 1) if word.startswith("-") else []
            if longer or close:
                return f"unknown argument {word}, did you mean {longer[0] if longer else names[close[0]]}?"
            if word.startswith("-"):
                return f"unknown argument {word}; --help lists all"
            is_start = any(action.dest == "application" for action in self._actions)
            return f"{word} is one word too many" + (" after the application" if is_start else "")
        return message


def parser(prog: str) -> Parser:
    """Return the parser of the command line; texts are checked later, with those from elsewhere."""
    made = Parser(
        prog=prog,
        usage=f"{prog} [option ...] [package.module:name]\n       {prog} status [option ...]\n"
        f"       {prog} startproject NAME",
        description="Starts Mosquitto with an ASGI application inside: Django Channels consumers that hear "
        "and publish MQTT messages without a connection in between.",
        epilog="Every option can also come from an environment variable (in brackets) or from a line in a "
        ".env file in this folder; the first of argument, environment and .env wins. "
        f"{prog} status prints the numbers of a broker that runs: {prog} status --help. "
        f"{prog} startproject NAME makes a Django project that runs as it is.",
        formatter_class=_formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("application", nargs="?", metavar="package.module:name", help=_help(APPLICATION))
    group = made.add_argument_group("broker and application, as with mqttasgi")
    for option in PARAMETERS:
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=_help(option))
    group = made.add_argument_group("more about the broker")
    for option in EXTRAS:
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=_help(option))
    group.add_argument(
        "-o",
        "--option",
        dest="plugin_options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a plugin_opt_ line for the plugin, such as spin=0; may be repeated",
    )
    group = made.add_argument_group("instead of starting the broker")
    actions = group.add_mutually_exclusive_group()
    for name, text in (
        ("print-config", "print the mosquitto.conf that does the same in a system service"),
        ("check", "import the application, check every option and the broker's configuration; exit 0 or 1"),
        ("reload", "for development: start the broker, and again whenever a Python file changes"),
        ("version", "print the versions of plugin, Mosquitto, Python, Django and Channels"),
        ("help", "print this"),
    ):
        flags = ("-h", "--help") if name == "help" else (f"--{name}",)
        actions.add_argument(*flags, dest="action", action="store_const", const=name, help=text)
    return made


def status_parser(prog: str) -> Parser:
    """Return the parser of `status` and what follows it."""
    made = Parser(
        prog=prog,
        usage=f"{prog} status [option ...]",
        description="Connects to a broker with the plugin and prints what the plugin counts: messages, "
        "queues, consumers, times.",
        epilog="Where an option is not given, the environment variable and the .env file say where the "
        "broker is, as they do when it is started. Exit status 1 where there is nothing to print.",
        formatter_class=_formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("command", choices=["status"], metavar="status", help=argparse.SUPPRESS)
    group = made.add_argument_group("the broker")
    for option in STATUS:
        text = _help(option, STATUS_HELP[option.name])
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=text)
    group = made.add_argument_group("what is printed")
    group.add_argument("--json", action="store_true", help="one JSON object, by the names of the topics")
    group.add_argument("--watch", action="store_true", help="again whenever there is news, until Ctrl-C")
    group.add_argument("-h", "--help", dest="help", action="store_true", help="print this")
    return made


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=30, width=100)


def _help(option: Option, text: str = "") -> str:
    default = "" if option.default in (None, False, "") else f", default {str(option.default).lower()}"
    return f"{text or option.help} [{option.variable}{default}]".replace("%", "%%")


# ---- from texts to settings ----


def resolve(
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    folder: Path,
    application: Optional[str] = None,
) -> Settings:
    """Return what is to be run.

    Args:
        arguments: As `parser()` returns them.
        environment: `os.environ`.
        folder: The project: where `.env` is looked for, and modules.
        application: The default of `APPLICATION`.

    Raises:
        UsageError: A value makes no sense, or two do not go together.
    """
    settings = Settings()
    settings.plugin_options = _plugin_options(arguments.plugin_options)
    _take_values(settings, OPTIONS, arguments, environment, folder)
    settings.application = settings.application or application or ""
    check_together(settings)
    return settings


def resolve_status(arguments: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> Settings:
    """Return which broker is asked, as `resolve` does; what `status` has no use for has its default.

    Raises:
        UsageError: A value makes no sense, or two do not go together.
    """
    settings = Settings()
    _take_values(settings, STATUS, arguments, environment, folder)
    _check_connection(settings)
    return settings


def _take_values(
    settings: Settings,
    options: Sequence[Option],
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    folder: Path,
) -> None:
    settings.variables = _read_dotenv(settings, environment, folder)
    for option in options:
        text, source = _find(option, arguments, environment, settings)
        if text is None:
            setattr(settings, option.name, option.default)
            continue
        settings.sources[option.name] = source
        try:
            if not text:
                raise ValueError("has no value")
            value = option.take(text)
        except ValueError as error:
            shown = "" if option.secret or not text else f"{_quote(text)} "
            raise settings.complain(option.name, f"{shown}{error}") from None
        setattr(settings, option.name, value)


def _find(
    option: Option,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    settings: Settings,
) -> tuple[Optional[str], str]:
    given: Optional[str] = getattr(arguments, option.name)
    if given is not None:
        return given, f"argument {'/'.join(option.flags) or option.metavar}"
    if environment.get(option.variable):
        return environment[option.variable], f"environment variable {option.variable}"
    if settings.variables.get(option.variable):
        return settings.variables[option.variable], f"{settings.env_file}, {option.variable}"
    return None, ""


def _read_dotenv(
    settings: Settings, environment: Mapping[str, str], folder: Path
) -> Mapping[str, Optional[str]]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise UsageError("python-dotenv is not installed in this Python: pip install python-dotenv") from None
    given = settings.plugin_options
    path = given.get("env_file") or environment.get(ENV_FILE)
    if path:
        file: Optional[Path] = Path(os.path.expanduser(path)).absolute()
    else:
        # The plugin would find those beside the code, too.
        code = (given.get("python_path") or environment.get(PYTHON_PATH) or "").split(":")
        file = find_dotenv([place.absolute() for place in (folder, *map(Path, filter(None, code)))])
    if file is None:
        return {}
    settings.env_file = str(file)
    # It warns of lines that it passes over; the plugin names the first of them, and stops.
    logging.getLogger("dotenv").setLevel(logging.ERROR)
    try:
        with file.open(encoding="utf-8") as stream:
            values: dict[str, Optional[str]] = dotenv_values(stream=stream)
            return values
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not text in UTF-8; save it as that") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def find_dotenv(folders: Sequence[Path]) -> Optional[Path]:
    """Return the `.env` file of the first folder that has one, else the nearest above one of them, as
    python-dotenv looks upwards (and so mqttasgi). The plugin does the same.

    Above, a folder may be everybody's, as /tmp is: only a file counts that belongs to root, to this user or
    to whom the folder belongs.
    """
    for folder in folders:
        if os.path.isfile(folder / ".env"):
            return folder / ".env"
    for folder in folders:
        trusted = {0, os.geteuid(), _owner(folder)}
        for parent in folder.parents:
            if os.path.isfile(parent / ".env") and _owner(parent / ".env") in trusted:
                return parent / ".env"
    return None


def _owner(path: Path) -> Optional[int]:
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def _plugin_options(texts: Sequence[str]) -> dict[str, str]:
    taken = {option.name: option for option in OPTIONS}
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]+", key) or not value:
            raise UsageError(f"argument -o/--option: {_quote(text)} must look like key=value, such as spin=0")
        if key in taken:
            flag = taken[key].flags[-1] if taken[key].flags else "the last argument"
            raise UsageError(f"argument -o/--option: {key} is set with {flag}")
        if key == "check":
            raise UsageError("argument -o/--option: check is done with --check")
        if key in found:
            raise UsageError(f"argument -o/--option: {key} is given twice")
        try:
            found[key] = check_text(value)
        except ValueError as error:
            raise UsageError(f"argument -o/--option: {key} {error}") from None
    return found


def check_together(settings: Settings) -> None:
    """Raise `UsageError` for what does not go together on any machine."""
    if not settings.application:
        raise UsageError(
            "no application: name it as the last argument, package.module:name, or in MQTTASGI_APPLICATION"
        )
    _check_connection(settings)
    if settings.user is not None and os.geteuid() != 0:
        raise settings.complain(
            "user",
            "only root can become another user; start the command as that user instead. The name that "
            "clients log in with is --username (-U)",
        )


def _check_connection(settings: Settings) -> None:
    if bool(settings.cert) != bool(settings.key):
        has, lacks = ("cert", "key") if settings.cert else ("key", "cert")
        raise settings.complain(
            has, f"a certificate and its key belong together, and {lacks} is missing; give both (-C and -K)"
        )
    if settings.password is not None and settings.username is None:
        hint = "; --user is who the broker becomes, not who logs in" if settings.user is not None else ""
        raise settings.complain(
            "password", f"there is no username that it belongs to; give one too (-U){hint}"
        )
    if settings.host.startswith("/"):
        _check_socket(settings)
    elif "://" in settings.host:
        raise settings.complain(
            "host",
            f"{_quote(settings.host)} is no host; write its name alone, and the port as its own option (-p)",
        )
    elif "/" in settings.host or " " in settings.host:
        raise settings.complain(
            "host",
            f"{_quote(settings.host)} is neither a host's name or address nor a unix socket's path, which "
            "begins with /",
        )
    elif settings.port == 0:
        raise settings.complain("port", "0 is no port; a port is a number from 1 to 65535")


def _check_socket(settings: Settings) -> None:
    if settings.bridge:
        raise settings.complain(
            "bridge", "Mosquitto cannot mirror a broker through a unix socket; name its host and port"
        )
    if re.search(r"\s", settings.host):
        raise settings.complain(
            "host",
            f"{_quote(settings.host)} has a blank, which mosquitto.conf has no place for in an address",
        )
    if len(os.fsencode(settings.host)) > 107:
        raise settings.complain("host", f"{_quote(settings.host)} is too long for a unix socket's path")
    if not os.path.isdir(os.path.dirname(settings.host)):
        raise settings.complain("host", f"the folder of {settings.host} does not exist; make it first")
    for name in ("cert", "key", "cacert", "use_ssl", "transport"):
        if name in settings.sources and getattr(settings, name) not in (False, "tcp"):
            raise settings.complain(
                name, f"a unix socket ({settings.host}) has neither TLS nor websockets; leave it out"
            )


def _quote(text: str) -> str:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return (
        '"' + shown.encode("unicode_escape").decode().replace("\\\\", "\\") + '"'
        if not shown.isprintable()
        else f'"{shown}"'
    )
