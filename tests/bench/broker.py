"""Processes that a measurement starts: each in a folder of its own, each with its log, each ended with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from settings import BUILD, Failure, Settings

from support.ports import free_port

STARTUP = 60.0  # seconds
BROKER_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 65534
max_queued_messages 0
persistence false
log_dest stdout
log_type error
log_type warning
"""
OURS = ("BENCH_", "DJANGO_", "MQTT", "PYTHON", "TLS_", "VERBOSITY", "VIRTUAL_ENV")


def child_environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment without what would configure the contenders behind our back."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}


class Process:
    """Runs from construction to the end of the ``with`` block."""

    def __init__(self, name: str, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._variables = variables
        self.child = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            try:
                return subprocess.Popen(
                    self._command,
                    cwd=self.log.parent,
                    env=child_environment(self._variables),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            except OSError as error:
                raise Failure(f"{self._command[0]}: {error.strerror}") from error

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.child.terminate()
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def last_words(self, lines: int = 12) -> str:
        """The end of the log, and how the process ended if it has."""
        said = self.log.read_text(errors="replace").splitlines()[-lines:]
        status = self.child.poll()
        ended = "" if status is None else f", which ended with status {status}"
        return "\n".join([f"{self.name}{ended}:", *(f"    {line}" for line in said or ["(said nothing)"])])

    def resident_kib(self) -> int:
        """Resident memory, in KiB."""
        lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def cpu_seconds(self) -> float:
        """User and system time so far, with that of the processes that it has started; 0 once it has ended."""
        return _cpu_seconds(self.child.pid)


def _cpu_seconds(pid: int) -> float:
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        children = (folder / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_seconds(int(child)) for child in children)


class Broker(Process):
    """A fresh Mosquitto on a free loopback port, accepting when the constructor returns.

    lines: for its configuration file; ``{port}`` and ``{folder}``, which is where it runs, are replaced in them.
    """

    def __init__(self, settings: Settings, lines: list[str], variables: dict[str, str]) -> None:
        runs = BUILD / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        self.home = tempfile.TemporaryDirectory(dir=runs)
        folder = Path(self.home.name)
        self.port = free_port()
        text = "\n".join(
            [BROKER_CONFIG, *settings.broker_lines, *lines, *(["user root"] if os.geteuid() == 0 else []), ""]
        )
        (folder / "mosquitto.conf").write_text(
            text.replace("{port}", str(self.port)).replace("{folder}", str(folder))
        )
        super().__init__(
            "broker", [settings.mosquitto, "-c", str(folder / "mosquitto.conf")], folder, variables
        )
        try:
            self.await_port()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.home.cleanup()

    @property
    def folder(self) -> Path:
        """Where it runs; gone after the ``with`` block."""
        return Path(self.home.name)

    def await_port(self) -> None:
        """Raises Failure when the broker ends, or does not accept in time."""
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise Failure(f"The broker did not start.\n{self.last_words()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"The broker did not accept within {STARTUP:.0f} s.\n{self.last_words()}")

    def kill(self) -> None:
        """Ends it as the kernel does when there is no memory."""
        self.child.kill()
        self.child.wait()

    def start_again(self) -> None:
        """Starts what was killed, in the same folder; its log begins anew."""
        self.child = self._start()
        self.await_port()

    @contextmanager
    def loaded(self, mode: str, **options: str | int | float) -> Iterator[None]:
        """Runs the load generator beside what is done meanwhile. Raises Failure when it ended by itself."""
        beside = subprocess.Popen(
            self._load_command(mode, options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield
            if beside.poll() is not None:
                raise Failure(f"The load ended: {beside.communicate()[1].strip()}")
        finally:
            beside.kill()
            beside.communicate()

    def _load_command(self, mode: str, options: dict[str, str | int | float]) -> list[str]:
        words = [
            word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        return [str(BUILD / "load"), mode, "--port", str(self.port), *words]

    def load(self, mode: str, **options: str | int | float) -> dict[str, Any]:
        """Runs the load generator against this broker and returns what it measured."""
        command = self._load_command(mode, options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or f"{' '.join(command)} ended with status {done.returncode}")
        measured: dict[str, Any] = json.loads(done.stdout)
        return measured
