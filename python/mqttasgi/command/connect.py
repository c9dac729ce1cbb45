"""Starts the processes that run the application against a broker elsewhere, and starts them again.

They read what they are to do from their standard input, which says by its end that this process has ended.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from .._backoff import pause
from ..cluster.address import Address
from ..cluster.deaths import Deaths
from ..cluster.log import Log
from ..cluster.settings import FAILED, FOR_EVER
from ..cluster.settings import Settings as ProcessSettings
from .configuration import python_path
from .launch import version_of
from .option_table import Settings
from .plugin_options import PROCESS_OPTIONS, ProcessOption
from .values import UsageError, quote, take_choice, take_number

#: Seconds before a process that has ended is started again: at first, and at most after doubling with each
#: time in a row that it has not got to run.
DELAY, DELAY_MAX = 1.0, 30.0
#: Seconds after which a signal to end counts as another: Ctrl-C reaches whoever has started this, too, and is
#: passed on.
AGAIN_AFTER = 1.0
#: Seconds that nothing is due for.
LONG = 3600.0

#: What of the command is about a broker of its own. So is `persistence`, which the container image sets.
_OF_BROKER = ("bridge", "topic", "include", "user")
#: One of the processes. Python looks for modules in the working directory first; a project's are not its.
_CHILD = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder] + [sys.argv[1]]; "
    "from mqttasgi.cluster.process import main; main()"
)
_PACKAGE = str(Path(__file__).absolute().parents[2])
#: Beside the processes' own lines.
_LOG = Log(0, 1, 0)
_SIGNALS = {
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


def run(settings: Settings, environment: Mapping[str, str], project: Path, *, check: bool = False) -> int:
    """Run the processes until a signal, or until one of them cannot go on.

    Args:
        settings: What is to be run.
        environment: `os.environ`.
        project: The project's folder.
        check: Whether to import the application and to connect, and no more.

    Returns:
        The exit status: 0 after SIGTERM or SIGINT; with `check` where all is well.

    Raises:
        UsageError: An option makes no sense here, or something is not installed.
    """
    made = process_settings(settings, environment, project)
    _check_paho()
    if check:
        print(f"{'ok':<8}options", flush=True)
        made = replace(made, processes=1, retries=1, options={**made.options, "check": True, "http": ""})
    return Processes(made, project).run()


def _check_paho() -> None:
    """Raise `UsageError` without a paho-mqtt whose methods `Client` knows."""
    version = version_of("paho-mqtt")
    if version is None or not version.startswith("2.2."):
        found = "is not installed" if version is None else f"is installed as {version}"
        raise UsageError(
            f"--connect needs version 2.2 of the Python package paho-mqtt, which {found}; "
            "run pip install 'paho-mqtt>=2.2,<2.3'"
        )


# ---- what the processes are told ----


def process_settings(settings: Settings, environment: Mapping[str, str], project: Path) -> ProcessSettings:
    """Return what the first process is told. Raises `UsageError` for what makes no sense with `--connect`."""
    _check(settings)
    addresses = [_completed(address, settings) for address in settings.connect or ()]
    user = next((address for address in addresses if address.username is not None), None)
    if user is not None and user.password is None and settings.password is None:
        user = None if settings.username else user._replace(password=None)
    client_id = settings.client_id
    if client_id is None:
        client_id = f"mqttasgi-{socket.gethostname()}"
        if settings.cleansession:
            client_id += f"-{secrets.token_hex(4)}"
    return ProcessSettings(
        application=settings.application,
        addresses=addresses,
        client_id=client_id,
        group=settings.group or "",
        processes=settings.processes,
        username=settings.username if user is None else user.username,
        password=settings.password if user is None or user.password is None else user.password,
        cacert=settings.cacert,
        cert=settings.cert,
        key=settings.key,
        # A name that is new has no session to end, and Mosquitto 2.0 saves none that began with Clean Start.
        clean_start=settings.cleansession and settings.client_id is not None,
        ends_session=settings.cleansession,
        session_expiry=ProcessSettings.session_expiry if settings.cleansession else FOR_EVER,
        keepalive=settings.keepalive,
        retries=settings.retries,
        will_topic=settings.will_topic or "",
        will_payload=settings.will_payload or "",
        will_qos=settings.will_qos,
        will_retain=settings.will_retain,
        leader=settings.leader or "",
        dead_letters=str(_take(settings, "durable", environment) or ""),
        options=_options(settings, environment, project),
    )


def _check(settings: Settings) -> None:
    for name in _OF_BROKER:
        if name in settings.sources:
            raise settings.complain(
                name, "it is about a broker here, and --connect starts none; leave it out"
            )
    for name in settings.plugin_options:
        if name not in PROCESS_OPTIONS and name != "python_path":
            raise UsageError(
                f"argument -o/--option: there is no {name} with --connect, which starts no broker here; "
                f"leave it out. With --connect there are {', '.join(sorted(PROCESS_OPTIONS))}"
            )
    if settings.processes > 1 and not settings.group:
        raise settings.complain(
            "processes",
            f"{settings.processes} processes without a group would each get every message; name a group "
            "(--group)",
        )
    if settings.leader and not settings.group:
        raise settings.complain("leader", "without a group there is nobody to lead; name one (--group)")
    for name in ("will_payload", "will_qos", "will_retain"):
        if name in settings.sources and not settings.will_topic:
            raise settings.complain(name, "there is no topic that it goes to; give one (--will-topic)")


def _completed(address: Address, settings: Settings) -> Address:
    """Return an address with what the URL leaves out."""
    had_host = bool(address.host)
    if not had_host:
        if settings.host.startswith("/"):
            raise settings.complain("host", "a unix socket is not possible with --connect; name a host")
        address = address._replace(host=settings.host)
    if address.tls is False and (settings.use_ssl or settings.cacert or settings.cert):
        address = address._replace(tls=True)
    if settings.transport == "websockets":
        address = address._replace(websockets=True)
    if not address.port:
        # MQTT_PORT may be there for the host that is there, too.
        is_meant = not had_host or settings.sources.get("port", "").startswith("argument")
        port = settings.port if is_meant and "port" in settings.sources else address.usual_port
        address = address._replace(port=port)
    return address


def _options(settings: Settings, environment: Mapping[str, str], project: Path) -> dict[str, Any]:
    """Return the runtime's options (runtime/bridge.py)."""
    found: dict[str, Any] = {
        name: _take(settings, name, environment) for name in PROCESS_OPTIONS if name != "durable"
    }
    folders = [os.path.abspath(folder) for folder in python_path(settings, str(project))]
    return {
        **found,
        "application": settings.application,
        "python_path": ":".join(folders),
        "verbosity": settings.verbosity,
        "session": "full",
        "cleansession": settings.cleansession,
        "retries": settings.retries,
        # What is not handled is not acknowledged.
        "durable": "the broker",
        "http": settings.http or "",
        "http_cert": settings.http_cert or "",
        "http_key": settings.http_key or "",
        "http_proxies": settings.http_proxies or "",
        "check": False,
        "variables": [(name, value) for name, value in settings.variables.items() if value is not None],
    }


def _take(settings: Settings, name: str, environment: Mapping[str, str]) -> Union[str, int, float, bool]:
    """Return the value of an option that the plugin has too, by its rules."""
    option = PROCESS_OPTIONS[name]
    text, source = settings.plugin_options.get(name), f"argument -o/--option, {name}"
    if text is None:
        text = environment.get(option.variable) or settings.variables.get(option.variable)
        source = option.variable
    if not text:
        return option.default
    try:
        return _value(option, text)
    except ValueError as error:
        raise UsageError(f"{source}: {quote(text)} {error}") from None


def _value(option: ProcessOption, text: str) -> Union[str, int, float, bool]:
    if option.kind == "number":
        return take_number(option.least, option.most)(text)
    if option.kind == "choice":
        return take_choice(option.words)(text)
    if option.kind == "seconds":
        return _seconds(option, text)
    return _bytes(option, text) if option.kind == "bytes" else os.path.abspath(os.path.expanduser(text))


def _seconds(option: ProcessOption, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not option.least <= seconds * 1000 <= option.most:
        raise ValueError(f"is not a number of seconds from {option.least / 1000:g} to {option.most / 1000:g}")
    return seconds


def _bytes(option: ProcessOption, text: str) -> int:
    digits, suffix = (text[:-1], text[-1]) if text[-1:] in "kMG" else (text, "")
    number = int(digits) << {"": 0, "k": 10, "M": 20, "G": 30}[suffix] if digits.isdecimal() else -1
    if not option.least <= number <= option.most:
        raise ValueError(f"is not a number of bytes from {option.least} to {option.most}, such as 64M")
    return number


# ---- the processes ----


@dataclass
class _Process:
    """One of the processes; `popen` is None while it waits to be started again."""

    settings: ProcessSettings
    popen: Optional[subprocess.Popen[bytes]] = None
    #: Where it says that it runs; -1: it has not been started.
    ready: int = -1
    #: How often in a row it has ended before it ran.
    ends: int = 0
    starts_at: float = 0.0
    #: It was killed from here.
    is_killed: bool = False


class Processes:
    """All of them, from their start to their end."""

    def __init__(self, settings: ProcessSettings, project: Path) -> None:
        """Take what the first is told, and where they work."""
        self._project = project
        self._several = settings.processes > 1
        self._deaths = Deaths(settings.processes)
        settings = replace(settings, memory=self._deaths.memory)
        self._processes = [_Process(_numbered(settings, number)) for number in range(settings.processes)]
        self._patience = settings.patience
        #: The exit status that this ends with; None: it goes on.
        self._status: Optional[int] = None
        #: When they were told to end.
        self._asked_at = 0.0
        #: When those that have not ended are killed.
        self._kills_at = 0.0
        self._why_killed = f"within {self._patience:g} s"

    def run(self) -> int:
        """Run them, and return the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while self._status is None or any(process.popen for process in self._processes):
                self._start_due()
                self._wait()
                self._look()
        finally:
            for process in self._processes:
                if process.popen is not None:
                    process.popen.kill()
                    process.popen.wait()
            self._deaths.close()
        return self._status

    def _start_due(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if self._status is None and process.popen is None and now >= process.starts_at:
                try:
                    self._start(process)
                except OSError as error:  # no memory, or no more processes or files: the others go on
                    self._start_later(process, f"cannot be started ({error.strerror})", has_run=False)

    def _start(self, process: _Process) -> None:
        readable, ready = os.pipe()
        try:
            os.set_blocking(readable, False)
            process.popen = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _CHILD,
                    str(Path(__file__).absolute().parents[2]),
                    process.settings.client_id,
                ],
                stdin=subprocess.PIPE,
                bufsize=0,
                cwd=self._project,
                pass_fds=(ready, process.settings.memory),
            )
        except OSError:
            os.close(readable)
            raise
        finally:
            os.close(ready)
        process.ready = readable
        assert process.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which shows in a moment
            process.popen.stdin.write(replace(process.settings, ready=ready).as_json().encode() + b"\n")

    def _wait(self) -> None:
        """Wait for a signal, or until something is due."""
        now = time.monotonic()
        due = [process.starts_at - now for process in self._processes if process.popen is None]
        if self._status is not None:
            due = [self._kills_at - now]
        found = signal.sigtimedwait(_SIGNALS, max(0.0, min([*due, LONG])))
        if found is None or found.si_signo == signal.SIGCHLD:
            return
        number = found.si_signo
        if number == signal.SIGUSR1:
            self._tell(signal.SIGUSR1)
        elif number == signal.SIGUSR2 and self._status is None:
            self._end(0, signal.SIGUSR2, float("inf"))
        elif number in (signal.SIGINT, signal.SIGTERM):
            if self._status is None or self._kills_at == float("inf"):
                self._end(0, signal.SIGTERM, self._patience)
            elif time.monotonic() >= self._asked_at + AGAIN_AFTER:
                self._kills_at, self._why_killed = 0.0, "before it was asked again"

    def _look(self) -> None:
        """Note which have ended, and kill what has not in time."""
        for process in self._processes:
            status = process.popen.poll() if process.popen is not None else None
            if status is not None:
                self._ended(process, status)
        if self._status is not None and time.monotonic() >= self._kills_at:
            self._kills_at = float("inf")
            for process in self._processes:
                if process.popen is not None and process.popen.poll() is None:
                    number = process.settings.process
                    _say(f"process {number} did not end {self._why_killed}: killed")
                    process.is_killed = True
                    process.popen.kill()

    def _ended(self, process: _Process, status: int) -> None:
        assert process.popen is not None and process.popen.stdin is not None
        process.popen.stdin.close()
        process.popen = None
        has_run = _has_run(process.ready)
        self._deaths.died(process.settings.process)
        # Whoever starts from now on goes on with the session of the one before.
        process.settings = replace(process.settings, clean_start=False)
        if self._status is not None:
            if status < 0 and status != -signal.SIGTERM and not process.is_killed:
                _say(
                    f"process {process.settings.process} was killed by signal {-status} before it was done: "
                    "the broker may still have messages for it"
                )
            return
        if process.settings.options["check"]:
            self._end(status, signal.SIGTERM, self._patience)
        elif status == FAILED:
            others = "; the others end too" if self._several else ""
            _say(f"process {process.settings.process} cannot go on, as the log says above{others}")
            self._end(FAILED, signal.SIGTERM, self._patience)
        else:
            how = f"was killed by signal {-status}" if status < 0 else f"has ended with status {status}"
            self._start_later(process, how, has_run)

    def _start_later(self, process: _Process, why: str, has_run: bool) -> None:
        process.ends = 1 if has_run else process.ends + 1
        delay = pause(process.ends, DELAY, DELAY_MAX)
        process.starts_at = time.monotonic() + delay
        _say(f"process {process.settings.process} {why}; it is started again in {delay:g} s")

    def _end(self, status: int, how: signal.Signals, patience: float) -> None:
        self._status = status
        self._asked_at = time.monotonic()
        self._kills_at = time.monotonic() + patience
        self._tell(how)

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.popen is not None and process.popen.poll() is None:
                process.popen.send_signal(number)


def _numbered(settings: ProcessSettings, number: int) -> ProcessSettings:
    client_id = settings.client_id if settings.processes == 1 else f"{settings.client_id}-{number}"
    options = settings.options if number == 0 else {**settings.options, "http": ""}
    return replace(
        settings,
        process=number,
        client_id=client_id,
        will_topic=settings.will_topic.replace("{id}", client_id),
        options=options,
    )


def _has_run(ready: int) -> bool:
    """Whether a process that has ended had said that it runs."""
    try:
        return bool(os.read(ready, 1))
    except BlockingIOError:
        return False  # a child of it has its end still
    finally:
        os.close(ready)


def _say(text: str) -> None:
    _LOG.notice(f"{text[0].upper()}{text[1:]}.")
