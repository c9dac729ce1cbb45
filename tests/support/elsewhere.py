"""`mqttasgi --connect` in tests: ordinary processes with consumers, and a broker without the plugin.

With `MQTTASGI_TEST_CONNECT=1` the fixture `broker` makes an `Elsewhere` of every application, so that the tests of
consumers run there with the expectations that they have inside a broker. What cannot be the same is named below.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mqttasgi.command.plugin_options import PLUGIN_OPTIONS, PROCESS_OPTIONS

from .broker import ROOT, Broker, BrokerFailed, clean_environment
from .processes import PATIENCE, running, wait_until

#: Whether applications run outside the broker.
CONNECTS = os.environ.get("MQTTASGI_TEST_CONNECT") == "1"

#: What docs/scaling.md names, for the mark `inside`: such tests are skipped there.
DIFFERENCES = {
    "clients": "who a client is, and when it comes and goes, only its broker knows",
    "qos": "QoS at most 1 is delivered",
    "no_local": "no_local is of the whole process",
    "retain_as_published": "consumers of a process share a subscription, and its retain_as_published",
    "offline": "QoS 0 publishing waits while the connection is down",
    "broker": "the broker's life, files and listeners are not the command's",
    "unheard": "what no consumer subscribes to does not come",
    "kept": "messages of QoS 1 are always kept until they are handled, and not over an end with a clean session",
    "queue": "messages of QoS 1 are not dropped where consumers are slow: they stay with the broker",
}

#: Options of the plugin that mean nothing where there is none.
_OF_PLUGIN = {"virtualenv", "host", "port", "startup_timeout", "spin", "message_expiry", "session"}


def delivered(qos: int) -> int:
    """Return the QoS at which a consumer gets what is published and subscribed to at this one."""
    return min(qos, 1) if CONNECTS else qos


class Command:
    """Owns the process of one `mqttasgi --connect`, and the file that it writes to."""

    def __init__(
        self,
        log: Path,
        application: str,
        addresses: Iterable[str],
        *,
        arguments: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        python_path: Iterable[str | Path] = (ROOT / "tests" / "broker", ROOT / "python"),
        environment: Mapping[str, str] | None = None,
        processes: int = 1,
        group: str = "",
    ) -> None:
        """Nothing is started yet.

        Args:
            log: May exist; it is appended to.
            application: `package.module:name`.
            addresses: URLs of the broker.
            arguments: Further ones of the command line.
            options: What would be `plugin_opt_<key> <value>` inside a broker.
            python_path: Folders with the application.
            environment: Added to this process's.
            processes: How many of them.
            group: In which they share the messages.
        """
        self._log = log
        self._processes = processes
        self._begin = 0
        words = ["--connect", ",".join(addresses)]
        if group:
            words += ["--group", group, "--processes", str(processes)]
        self._environment = clean_environment()
        for name, value in (options or {}).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if value is None or name in _OF_PLUGIN:
                continue
            if name in PROCESS_OPTIONS:
                words += ["-o", f"{name}={text}"]
            else:
                self._environment[PLUGIN_OPTIONS[name].variable] = text
        words += ["-o", f"python_path={':'.join(map(str, python_path))}", *arguments, application]
        self._words = [sys.executable, "-m", "mqttasgi", *words]
        self._environment.update(environment or {}, PYTHONPATH=str(ROOT / "python"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 60) -> Command:
        """Start it, and return when all of its processes run their consumers.

        Raises:
            BrokerFailed: It ended instead.
        """
        self.spawn()
        wait_until(self._runs, timeout, "the consumers' start", self.log)
        if not self.running:
            status = self.wait()
            raise BrokerFailed("the command ended at start", status, self.log()[self._begin :])
        return self

    def spawn(self) -> Command:
        """Start it, and return at once."""
        assert self._process is None
        self._begin = len(self.log())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        return self

    def _runs(self) -> bool:
        begun = self.log().count("Running: ", self._begin)
        return begun >= self._processes or not self.running

    def tag(self, name: str, value: str) -> None:
        """Have the processes be known by a variable of their environment."""
        self._environment[name] = value

    @property
    def running(self) -> bool:
        """Whether the command lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """Return those of the processes with consumers."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found if running(int(pid))]

    def stop(self, timeout: float = 20) -> int:
        """Send SIGTERM, and return the exit status; 0 where it does not run.

        Raises:
            BrokerFailed: It did not end in time and was killed.
        """
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 20) -> int:
        """Wait for its end, and return the exit status."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed("the command did not end in time", None, self.log()) from None
        self._process = None
        return status

    def kill(self) -> None:
        """Kill it and its processes: a machine that is lost."""
        if self._process is None:
            return
        pids = self.pids() if self.running else []
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(running, pids)), 5, "the end of the processes")

    def log(self) -> str:
        """Return what is in its file."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_for_log(self, pattern: str, timeout: float = 10, *, since: int = 0) -> re.Match[str]:
        """Return the first match of a regular expression in its file, waiting for it to come."""
        expression = re.compile(pattern, re.MULTILINE)
        wait_until(
            lambda: expression.search(self.log(), since) is not None,
            timeout,
            f"log line {pattern!r}",
            self.log,
        )
        found = expression.search(self.log(), since)
        assert found is not None
        return found


class Elsewhere(Broker):
    """A broker without the plugin, and the command that runs the application: for tests, one thing.

    What tests ask of the broker's process (`pid`, its end, its exit status) is the command's. The log is that of both.
    """

    def __init__(self, folder: Path, **arguments: Any) -> None:
        """Arguments are those of `Broker`."""
        application = arguments.pop("application", None)
        plugin = arguments.pop("plugin", "built")
        super().__init__(folder, plugin=None if application else plugin, **arguments)
        self._command_line: Command | None = None
        if application:
            self._command_line = Command(
                folder / "broker.log",
                application,
                [f"mqtt://127.0.0.1:{self.port}"],
                # As inside a broker without an inbox: what a consumer fails at is not tried again.
                options={"durable_tries": 1, **self._options},
                python_path=self._python_path,
                environment=self._environment,
            )
            self.tag_processes(self._command_line)

    def start(self, timeout: float = 60) -> Broker:
        """Start the broker if it does not run, then the command."""
        if not super().running:
            super().start(timeout)
        if self._command_line is not None:
            try:
                self._command_line.start(timeout)
            except BaseException:
                super().kill()
                raise
        return self

    def stop(self, timeout: float = 20) -> int:
        """Stop the command, then the broker; return the first status that is not 0."""
        status = self._command_line.stop(timeout) if self._command_line is not None else 0
        return super().stop(timeout) or status

    def restart(self, timeout: float = 60) -> Broker:
        """Stop and start both."""
        status = self.stop()
        if status != self.expect_status:
            raise BrokerFailed("the broker or the command ended badly", status, self.log())
        return self.start(timeout)

    def wait(self, timeout: float = 20) -> int:
        """Wait for the command's end, which something else brings about; the broker runs on."""
        return self._command_line.wait(timeout) if self._command_line is not None else super().wait(timeout)

    def kill(self) -> None:
        """Kill all."""
        if self._command_line is not None:
            self._command_line.kill()
        super().kill()

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._command_line.pid if self._command_line is not None else super().pid

    def wait_for_session(self, since: int = 0) -> None:
        """Do nothing: `start()` returns when the consumers have subscribed."""

    def wait_for_failure(self, since: int = 0) -> None:
        """Return when the command has ended by itself, which it does when it can do no more."""
        assert self._command_line is not None
        wait_until(lambda: not self._command_line.running, 20, "the end of the command", self.log)  # type: ignore[union-attr]
        assert self._command_line.wait() == 1
