"""A real Redis server that belongs to one test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from .ports import free_port
from .processes import PATIENCE, wait_until


class RedisServer:
    """Owns the port, folder, process and log of one redis-server.

    Attributes:
        port: A loopback port; the same after `stop()` and `start()`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, as channels_redis wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it, and return when it answers PING."""
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not installed: apt-get install redis-server")
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its allocator and a sanitizer's do not go together.
                env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
            )
        wait_until(self._ended_or_answers, 10, "redis-server", self.log)
        if self._process.poll() is None:
            return self
        self._process = None
        raise RuntimeError(f"redis-server ended at start:\n{self.log()}")

    def stop(self) -> None:
        """Stop it. A stopped one stays stopped."""
        if self._process is None:
            return
        self.go_on()
        self._process.terminate()
        try:
            self._process.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def hang(self) -> None:
        """Stop it where it is: connections are taken by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def log(self) -> str:
        """Return everything it has said."""
        return (self.folder / "redis.log").read_text(errors="replace")

    def _ended_or_answers(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self._answers()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
