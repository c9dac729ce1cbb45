"""A real Mosquitto, with or without the plugin, that belongs to one test."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .client import Client
from .ports import free_port
from .processes import PATIENCE, SANITIZER, running, tagged, wait_until

ROOT = Path(__file__).resolve().parents[2]
SUPPRESSIONS = Path(__file__).with_name("tsan.supp")
TAG = "MQTTASGI_TEST_BROKER"
MARKS = "MQTTASGI_MARK_COPIES"

_REPORT = re.compile(
    r"(ERROR|WARNING): (Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer"
    r"|SUMMARY: \w+Sanitizer"
    r"|\w+Sanitizer(:DEADLYSIGNAL| CHECK failed)"
    r"|: runtime error: "
    r"|^==\d+==",
    re.MULTILINE,
)
_RUNNING = re.compile(r"mosquitto version \S+ running")
_TRACEBACK = "Traceback (most recent call last)"


def plugin_path() -> Path:
    """Return the plugin under test: `MQTTASGI_PLUGIN`, or `build/mqttasgi_plugin.so` of this checkout."""
    return Path(os.environ.get("MQTTASGI_PLUGIN") or ROOT / "build" / "mqttasgi_plugin.so").resolve()


def virtualenv() -> Path | None:
    """Return the virtual environment for applications: `MQTTASGI_VIRTUALENV`, or the one this Python runs in."""
    named = os.environ.get("MQTTASGI_VIRTUALENV")
    if named:
        return Path(named).resolve()
    return Path(sys.prefix) if sys.prefix != sys.base_prefix else None


def mosquitto_program() -> str:
    """Return the path of `mosquitto`: `MQTTASGI_MOSQUITTO`, or the installed one (Debian keeps it in /usr/sbin)."""
    named = os.environ.get("MQTTASGI_MOSQUITTO")
    found = named or shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
    return found


def mosquitto_version() -> tuple[int, int, int]:
    """Return the installed Mosquitto's version, for what differs between 2.0 and 2.1."""
    text = subprocess.run([mosquitto_program(), "-h"], capture_output=True, text=True).stdout
    found = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        raise RuntimeError(f"mosquitto -h does not say its version: {text[:200]!r}")
    return int(found[1]), int(found[2]), int(found[3])


def passwords(folder: Path, **users: str) -> str:
    """Return a configuration line that lets these users in, with these passwords."""
    file = folder / "passwords"
    file.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
    subprocess.run(["mosquitto_passwd", "-U", file], check=True, capture_output=True)
    return f"password_file {file}"


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would tell the plugin, the command or a Python something.

    But for what has the plugin mark copies for its session where it could refuse them: all tests can run so.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == MARKS or not name.startswith(("MQTT", "TLS_", "PYTHON", "XDG_RUNTIME"))
    }
    environment.pop("VERBOSITY", None)
    # This process may run in an activated virtual environment; the plugin gets its own by option.
    environment.pop("VIRTUAL_ENV", None)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def sanitizer_environment() -> dict[str, str]:
    """Return what a program that loads the sanitized plugin needs: the run-time library comes before all others."""
    if not SANITIZER:
        return {}
    names = {"address": "libasan.so", "thread": "libtsan.so"}
    if SANITIZER not in names:
        raise ValueError(f"MQTTASGI_SANITIZER is {SANITIZER!r}: address or thread expected")
    library = subprocess.run(
        ["gcc", f"-print-file-name={names[SANITIZER]}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(library):
        raise FileNotFoundError(f"gcc has no {names[SANITIZER]}")
    common = "exitcode=66:halt_on_error=0:log_path=stderr"
    return {
        "LD_PRELOAD": os.path.realpath(library),
        "ASAN_OPTIONS": f"{common}:detect_leaks=0:abort_on_error=0:handle_segv=1",
        "TSAN_OPTIONS": f"{common}:second_deadlock_stack=1:suppressions={_without_space(SUPPRESSIONS)}",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=0:log_path=stderr",
    }


def _fixed_addresses(environment: dict[str, str]) -> list[str]:
    # ThreadSanitizer cannot place its shadow memory where a kernel randomises addresses widely (vm.mmap_rnd_bits above
    # 28). The library must not be loaded into setarch itself, which still runs randomised.
    if SANITIZER != "thread" or "LD_PRELOAD" not in environment:
        return []
    if subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode != 0:
        return []
    return ["setarch", "-R", "env", f"LD_PRELOAD={environment.pop('LD_PRELOAD')}"]


def _without_space(path: Path) -> str:
    # Options of the sanitizers end at a space or a colon; quotes keep the path together.
    return f"'{path}'"


class BrokerFailed(Exception):
    """The broker ended, or would not start.

    Attributes:
        status: Its exit status, negative for the signal that ended it; None while it runs.
        log: Everything it said.
    """

    def __init__(self, message: str, status: int | None, log: str) -> None:
        super().__init__(f"{message} (exit status {status}); its log:\n{log}")
        self.status = status
        self.log = log


class Broker:
    """Owns the port, folder, configuration file, process and log of one Mosquitto.

    Attributes:
        port: Loopback port of its listener; chosen anew by each `start()` unless it was given.
        folder: Its own folder, with `mosquitto.conf`, `broker.log` and whatever it persists.
        expect_traceback: What tracebacks `check_log()` allows: True for any; a regular expression that each one's
            text up to its last line must contain; False for none.
        expect_report: True when the test provokes a sanitizer's report.
    """

    def __init__(
        self,
        folder: Path,
        *,
        application: str | None = None,
        python_path: Iterable[str | Path] = (),
        options: Mapping[str, object] | None = None,
        lines: Iterable[str] = (),
        lines_after: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        plugin: Path | str | None = "built",
        user: str | None = None,
        port: int | None = None,
        listener: bool = True,
        anonymous: bool = True,
        persistence: bool = False,
        log_types: Iterable[str] = ("all",),
        configuration: str | None = None,
        command: Sequence[str] | None = None,
        expect_traceback: bool | str = False,
    ) -> None:
        """Nothing is started and no file is written yet.

        Args:
            folder: Exists already, and belongs to this broker alone.
            application: `package.module:name`, for `plugin_opt_application`.
            python_path: Folders for `plugin_opt_python_path`.
            options: Further `plugin_opt_<key> <value>` lines; a value of None leaves the line out, also one that
                would otherwise be written (`virtualenv`, `port`). Booleans become `true` and `false`.
            lines: Further lines of the configuration file, before the plugin's.
            lines_after: The same, after the plugin's.
            environment: Added to this process's environment; an empty value stays an empty value.
            plugin: The plugin's file; None for a plain Mosquitto; left alone, what `plugin_path()` names.
            user: Whom the broker becomes when it is started as root. Left alone, it stays root: user `mosquitto`
                could not read the test's folder (mode 0700).
            port: Left alone, a free one.
            listener: False writes no listener line (`lines` may bring their own).
            anonymous: The value of `allow_anonymous`.
            persistence: True keeps retained messages and sessions in `folder` over a restart.
            log_types: What the log has; all that it can have slows the broker down.
            configuration: The whole configuration file, in place of what the arguments above would make; `port` is
                then one that it listens on.
            command: What is started in place of `mosquitto -c FILE`, and becomes the broker; `port` is then one that
                it listens on.
            expect_traceback: See the attribute.
        """
        self.folder = folder
        self.port = port if port is not None else free_port()
        self.expect_traceback = expect_traceback
        self.expect_report = False
        self.expect_status = 0
        self._application = application
        self._python_path = [str(path) for path in python_path]
        self._options = dict(options or {})
        self._lines = list(lines)
        self._lines_after = list(lines_after)
        self._environment = dict(environment or {})
        self._plugin = plugin_path() if plugin == "built" else (Path(plugin) if plugin is not None else None)
        self._user = user
        self._listener = listener
        self._anonymous = anonymous
        self._persistence = persistence
        self._log_types = list(log_types)
        self._text = configuration
        self._command = list(command) if command is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        self._tag = uuid.uuid4().hex
        self._begin = 0  # the log of this run begins here
        self._checked = 0  # the log has been checked up to here

    # Life

    def start(self, timeout: float = 60) -> Broker:
        """Write the configuration file, start Mosquitto, and return when its listener accepts a connection.

        The log goes on where an earlier run ended.

        Args:
            timeout: Seconds, before `PATIENCE`; the application is imported in that time.

        Raises:
            BrokerFailed: It ended instead, or did not listen in time.
        """
        if self._process is not None:
            raise RuntimeError("this broker is running")
        if self._plugin is not None and not self._plugin.exists():
            raise FileNotFoundError(f"{self._plugin} is missing: cmake -S . -B build && cmake --build build")
        begin = len(self.log())
        self._spawn()
        try:
            wait_until(self._started, timeout, "the broker's listener")
        except AssertionError:
            self._kill()
            raise BrokerFailed("the broker did not listen in time", None, self.log()[begin:]) from None
        if self._process is None or self._process.poll() is not None:
            status = self._reap()
            self._checked = len(self.log())
            raise BrokerFailed("the broker ended at start", status, self.log()[begin:])
        return self

    def stop(self, timeout: float = 20) -> int:
        """Send SIGTERM, and return the exit status. A stopped broker returns 0 at once.

        Raises:
            BrokerFailed: It did not end in time and was killed.
        """
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
            raise BrokerFailed(
                f"the broker did not stop within {timeout * PATIENCE:.0f} s", None, self.log()
            ) from None
        return self._reap()

    def wait(self, timeout: float = 20) -> int:
        """Wait for an end that something else brings about, and return the exit status."""
        assert self._process is not None
        self._process.wait(timeout * PATIENCE)
        return self._reap()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end: a crash, as far as everybody else can see."""
        self._kill()

    def reload(self, options: Mapping[str, object] | None = None) -> None:
        """Send SIGHUP: Mosquitto reads its configuration file again.

        Args:
            options: Changes of the plugin's, from now on; as for a new broker.
        """
        if options is not None:
            self._options.update(options)
            self.rewrite(self.configuration())
        os.kill(self.pid, signal.SIGHUP)

    def rewrite(self, configuration: str) -> None:
        """Replace the configuration file; nobody sees half of it."""
        new = self.folder / "mosquitto.conf.new"
        new.write_text(configuration)
        new.replace(self.folder / "mosquitto.conf")

    def restart(self, timeout: float = 60) -> Broker:
        """Stop and start with the same folder, and the same port."""
        status = self.stop()
        if status != self.expect_status:
            raise BrokerFailed("the broker ended badly", status, self.log())
        return self.start(timeout)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        if self._process is None:
            raise RuntimeError("this broker is not running")
        return self._process.pid

    # What it says

    def log(self) -> str:
        """Return everything it has written so far, by log line or on standard output and error."""
        try:
            return (self.folder / "broker.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_log(self, pattern: str, timeout: float = 5, *, since: int = 0) -> re.Match[str]:
        """Return the first match of a regular expression in the log, waiting for it to come.

        Args:
            pattern: `^` and `$` match at lines.
            timeout: Seconds, before `PATIENCE`.
            since: Position in the log to search from; `len(broker.log())` before what should cause the line.

        Raises:
            AssertionError: It did not come.
            BrokerFailed: The broker has ended without saying it.
        """
        expression = re.compile(pattern, re.MULTILINE)
        found: re.Match[str] | None = None

        def look() -> bool:
            nonlocal found
            ended = self._process is not None and self._process.poll() is not None
            found = expression.search(self.log(), since)
            if found is None and ended:
                raise BrokerFailed(
                    f"the broker ended without saying {pattern!r}", self._reap(), self.log()[since:]
                )
            return found is not None

        wait_until(look, timeout, f"log line {pattern!r}", lambda: f"the log:\n{self.log()[since:]}")
        assert found is not None
        return found

    def wait_for_session(self, since: int = 0) -> None:
        """Return when the plugin's session is there; `since` as for `wait_for_log()`."""
        self.wait_for_log("Session with the listener", since=since)

    def wait_for_failure(self, since: int = 0) -> None:
        """Return when the application is given up; `since` as for `wait_for_log()`."""
        self.wait_for_log("The application has failed", since=since, timeout=20)

    def tag_processes(self, other: Any) -> None:
        """Let processes of somebody else count as this broker's children."""
        other.tag(TAG, self._tag)

    def check_log(self) -> None:
        """Fail when the log has a sanitizer's report, a traceback nobody expected, or a library's fatal error.

        Looks at what was written since the last call.
        """
        log = self.log()
        new = log[self._checked :]
        self._checked = len(log)
        report = _REPORT.search(new)
        if report and not self.expect_report:
            raise AssertionError(
                f"the broker's log has a sanitizer's report:\n{new[report.start() :][:8000]}"
            )
        if "Fatal Python error" in new and not self.expect_report:
            raise AssertionError(f"the interpreter died:\n{new}")
        if self.expect_traceback is True:
            return
        # Another thread's lines may stand between those of a traceback, thousands with `log_type all`.
        plain = re.sub(r"^(?:Sending|Received) [A-Z]+ .*\n", "", new, flags=re.MULTILINE)
        for start in re.finditer(re.escape(_TRACEBACK), plain):
            text = plain[start.start() :][:4000]
            if not self.expect_traceback or not re.search(self.expect_traceback, text):
                raise AssertionError(
                    f"the broker's log has a traceback that the test does not expect:\n{text}"
                )

    def finish(self) -> None:
        """End the test's part: close the clients, stop the broker, check exit status, log and children left behind."""
        for client in self._clients:
            client.close()
        was_running = self._process is not None
        status = self.stop()
        try:
            if was_running and status != self.expect_status:
                raise BrokerFailed("the broker ended badly", status, self.log())
            self.check_log()
            wait_until(
                lambda: not self.children(),
                2,
                "the end of the broker's child processes",
                lambda: f"left behind: {', '.join(map(_command, self.children()))}",
            )
        finally:
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)

    # Who talks to it

    def client(self, **arguments: Any) -> Client:
        """Return a new client that is connected; it is closed when the test ends. Arguments as of `Client`."""
        arguments.setdefault("port", self.port)
        client = Client(**arguments)
        self._clients.append(client)
        return client

    # What it costs

    def rss(self) -> int:
        """Return the resident memory of the process, in bytes."""
        return int(self._status("VmRSS")) * 1024

    def threads(self) -> int:
        """Return how many threads the process has."""
        return int(self._status("Threads"))

    def descriptors(self) -> int:
        """Return how many file descriptors are open: the broker's, and those of the plugin's threads."""
        return len(self.descriptor_targets())

    def descriptor_targets(self) -> list[str]:
        """Return what the open descriptors point to, sorted; to name the one that leaked."""
        found = []
        # The plugin's threads have tables of their own where the system lets them.
        tables = [Path(f"/proc/{self.pid}/fd")]
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread of Python's may end meanwhile
                if (task / "comm").read_text().strip() in ("mqttasgi", "mqttasgi-mqtt"):
                    tables.append(task / "fd")
        for table in tables:
            with contextlib.suppress(OSError):
                for name in os.listdir(table):
                    with contextlib.suppress(OSError):
                        found.append(os.readlink(table / name))
        return sorted(found)

    def cpu_seconds(self) -> float:
        """Return the processor time the process has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self) -> list[int]:
        """Return the processes that this broker started, directly or not, and that still run."""
        own = self._process.pid if self._process is not None else 0
        return [pid for pid in tagged(TAG, self._tag) if pid != own]

    # Inside

    def configuration(self) -> str:
        """Return the text of the configuration file."""
        if self._text is not None:
            return self._text
        text = [
            "log_dest stderr",
            *(f"log_type {kind}" for kind in self._log_types),
            "log_timestamp false",
            "connection_messages true",
            "set_tcp_nodelay true",
            f"persistence {_value(self._persistence)}",
        ]
        if self._persistence:
            text.append(f"persistence_location {self.folder}/")
        if self._user is not None or os.geteuid() == 0:
            text.append(f"user {self._user or 'root'}")
        text.append(f"allow_anonymous {_value(self._anonymous)}")
        if self._listener:
            text.append(f"listener {self.port} 127.0.0.1")
        text += self._lines
        if self._plugin is not None:
            options: dict[str, object] = {}
            if self._application is not None:
                options["application"] = self._application
            if self._python_path:
                options["python_path"] = ":".join(self._python_path)
            options["virtualenv"] = virtualenv()
            options["host"] = "127.0.0.1"
            options["port"] = self.port
            # A busy machine takes half a minute for the imports now and then.
            options["startup_timeout"] = int(40 * PATIENCE)
            options.update(self._options)
            text.append(f"plugin {self._plugin}")
            text += [
                f"plugin_opt_{key} {_value(value)}" for key, value in options.items() if value is not None
            ]
        text += self._lines_after
        return "\n".join(text) + "\n"

    def _spawn(self) -> None:
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(self.configuration())
        environment = clean_environment()
        if self._plugin is not None:
            environment.update(sanitizer_environment())
        environment.update(self._environment)
        command = self._command or [mosquitto_program(), "-c", str(configuration)]
        self._run(command, environment, self.folder)

    def _run(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        environment[TAG] = self._tag
        self._begin = len(self.log())
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_fixed_addresses(environment), *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def _started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        if not self._listener:
            return _RUNNING.search(self.log(), self._begin) is not None
        return _listens(self._process.pid, self.port)

    def _reap(self) -> int:
        assert self._process is not None
        status = self._process.wait()
        self._process = None
        return status

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.split()[1]
        raise RuntimeError(f"/proc has no {name}")


def finish_all(brokers: Iterable[Broker]) -> None:
    """End the test's part for all of them, whatever becomes of one; what failed is raised then."""
    failures: list[Exception] = []
    for broker in brokers:
        try:
            broker.finish()
        except Exception as failure:
            failures.append(failure)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        # One text: tests/run looks in it for what is never tried again.
        raise AssertionError("\n\n".join(str(failure) for failure in failures))


def _listens(pid: int, port: int) -> bool:
    # Asked of the kernel, without a connection: a connection would be the first line of every test's log, and would
    # fire the plugin's callbacks. Sockets are compared by inode, so another process's listener does not count.
    wanted = f":{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            fields = row.split()
            if fields[1].endswith(wanted) and fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return False
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{name}") in inodes:
                return True
    except OSError:
        # A process that gave up root may keep its descriptors from an ordinary user's eyes; trust the port then.
        return running(pid) and not os.access(f"/proc/{pid}/fd", os.R_OK)
    return False


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        words = "gone"
    return f"{pid} ({words.strip()})"
