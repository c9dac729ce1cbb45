"""A system log of a test's own: `/dev/log` for one broker, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from .broker import mosquitto_program
from .processes import wait_until

#: A /dev with what a program needs, and our log. `$1` is an empty folder, `$2` the log's socket.
_SCRIPT = """
set -e
d=$1 log=$2
shift 2
mount --make-rprivate /
mount -t tmpfs none "$d"
for name in null zero full random urandom tty; do
	: >"$d/$name"
	mount --bind "/dev/$name" "$d/$name"
done
ln -s /proc/self/fd "$d/fd"
mkdir -m 1777 "$d/shm"
ln -s "$log" "$d/log"
mount --rbind "$d" /dev
exec "$@"
"""


def reason_not() -> str:
    """Why there can be none here; empty: there can."""
    if os.geteuid() != 0:
        return "only root can have a /dev/log of its own"
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs none /mnt"],
        capture_output=True,
    )
    return "" if tried.returncode == 0 else "this machine lets nobody mount"


class SystemLog:
    """What is written to it, by `log_dest syslog` and by syslog()."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="log-", dir="/tmp"))
        self._folder.chmod(0o755)
        (self._folder / "dev").mkdir()
        self._path = self._folder / "log"
        self._text = ""

    def __enter__(self) -> SystemLog:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        # At once: few lines may wait in the socket, and who writes one more waits, too.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while record := self._socket.recv(65536):
            self._text += record.decode(errors="replace") + "\n"

    def _end(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._socket.close()
        self._path.unlink()

    def restart(self) -> None:
        """As a restart of syslogd: who was connected has to connect anew."""
        self._end()
        self._listen()

    def text(self) -> str:
        """Return all that was written so far, a line each."""
        return self._text

    def wait_for(self, text: str) -> None:
        """Return when this has been written."""
        wait_until(lambda: text in self.text(), 10, f"{text!r} in the system's log", self.text)

    def command(self, configuration: Path) -> list[str]:
        """Return what starts a broker that has it."""
        places = [str(self._folder / "dev"), str(self._path)]
        return [
            "unshare",
            "-m",
            "sh",
            "-c",
            _SCRIPT,
            "sh",
            *places,
            mosquitto_program(),
            "-c",
            str(configuration),
        ]
