"""A real PostgreSQL server that belongs to one test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .ports import free_port
from .processes import PATIENCE, running, wait_until

USER, PASSWORD = "hub", "a secret"


def program(name: str) -> str:
    """Return the path of one of the server's programs, which Debian keeps out of the way."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
    return str(found[-1])


class PostgresServer:
    """Owns the port, folder, processes and log of one server with one database, which is empty at first.

    Attributes:
        port: A loopback port; the same after `stop()` or `kill()` and `start()`.
    """

    def __init__(self) -> None:
        """Make the database's files. They are the server's user's, who could not enter a test's folder."""
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mqttasgi-postgres-"))
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # whom PostgreSQL refuses
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = [
                "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"
            ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", f"--pgdata={self._data}", f"--username={USER}", f"--pwfile={secret}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def url(self, password: str = PASSWORD) -> str:
        """Return the address, as the hub wants it."""
        return f"postgresql://{USER}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"

    def start(self) -> PostgresServer:
        """Start it, and return when it takes connections."""
        command = [
            *self._as_user, program("postgres"), "-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB", "-c", "max_connections=30",
            # A process that is killed loses nothing by it, and no machine is.
            "-c", "fsync=off",
        ]  # fmt: skip
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )
        wait_until(self._ended_or_answers, 20, "PostgreSQL", self.log)
        if self._process.poll() is not None:
            self._process = None
            raise RuntimeError(f"PostgreSQL ended at start:\n{self.log()}")
        return self

    def stop(self) -> None:
        """Stop it. A stopped one stays stopped."""
        if self._process is None:
            return
        self.go_on()
        self._process.send_signal(signal.SIGINT)  # does not wait for those who are connected
        try:
            self._process.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Send SIGKILL to all of its processes at once, and wait for their end."""
        assert self._process is not None
        # Stopped first, so that none of them still says something when another one has gone.
        self.hang()
        processes = self._processes()
        for pid in processes:
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        wait_until(lambda: not any(map(running, processes)), 10, "the end of PostgreSQL's processes")

    def hang(self) -> None:
        """Stop its processes where they are: connections are taken by the kernel, and nobody answers."""
        for pid in self._processes():
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them go on."""
        for pid in self._processes():
            _signal(pid, signal.SIGCONT)

    def ask(self, query: str, password: str = PASSWORD) -> list[str]:
        """Run SQL, and return the rows, as psql prints them."""
        printed = subprocess.run(
            ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query, self.url(password)],
            check=True, capture_output=True, text=True, env=_environment(), cwd="/", timeout=30 * PATIENCE,
        )  # fmt: skip
        return printed.stdout.splitlines()

    def remove(self) -> None:
        """Stop it, and remove its files."""
        self.stop()
        shutil.rmtree(self.folder)

    def log(self) -> str:
        """Return everything it has said."""
        return self._log_file.read_text(errors="replace")

    @property
    def _log_file(self) -> Path:
        return self.folder / "postgres.log"

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, program(name), *arguments],
            cwd=self.folder, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def _processes(self) -> list[int]:
        """Return the first one, which makes the others, and then those."""
        assert self._process is not None
        first = self._process.pid
        return [first, *_children(first)]

    def _ended_or_answers(self) -> bool:
        assert self._process is not None
        ready = [program("pg_isready"), "--host=127.0.0.1", f"--port={self.port}", "--quiet"]
        return self._process.poll() is not None or subprocess.run(ready, env=_environment()).returncode == 0


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _environment() -> dict[str, str]:
    """Return this process's, without what its own programs would take for theirs or a sanitizer needs."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name not in ("LD_PRELOAD", "LANG") and name[:3] != "LC_"
    }
