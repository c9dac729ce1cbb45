"""The standard library's `syslog`, through a socket of Python's own.

The C library keeps one descriptor a process for its syslog(), and the broker may use that too (`log_dest
syslog`). The application's threads have a table of descriptors of their own (plugin/shared/thread.h), where
that number is no socket, or another one: a line would go into it, or the C library close it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import syslog as standard
import threading
import time
from typing import Any, Optional

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_PRIORITIES, _FACILITIES = 0x07, 0x3F8


def prepare() -> None:
    """Replace the functions of the module `syslog` by ones that do the same."""
    log = SystemLog()
    for name in ("openlog", "syslog", "closelog", "setlogmask"):
        setattr(standard, name, getattr(log, name))
    os.register_at_fork(after_in_child=log.renew)


class SystemLog:
    """One connection to the system's log, made when it is wanted, and anew when it is lost. Any thread."""

    def __init__(self, path: str = "/dev/log") -> None:
        self._path = path
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._opened = False
        self._ident: Optional[str] = None
        self._options = 0
        self._facility = standard.LOG_USER
        self._mask = 0xFF

    def renew(self) -> None:
        """Start anew in a child process: another thread may have had the lock."""
        self._lock = threading.Lock()

    def openlog(
        self, ident: Optional[str] = None, logoption: int = 0, facility: int = standard.LOG_USER
    ) -> None:
        """Do what syslog.openlog() does."""
        if ident is None:
            ident = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else None
        sys.audit("syslog.openlog", ident, logoption, facility)
        with self._lock:
            self._ident, self._options = ident, logoption
            self._facility = facility & _FACILITIES or self._facility
            self._opened = True

    def closelog(self) -> None:
        """Do what syslog.closelog() does."""
        sys.audit("syslog.closelog")
        with self._lock:
            self._opened = False
            self._ident, self._options = None, 0
            self._close()

    def setlogmask(self, maskpri: int, /) -> int:
        """Do what syslog.setlogmask() does."""
        sys.audit("syslog.setlogmask", maskpri)
        before = self._mask
        self._mask = maskpri or before
        return before

    def syslog(self, *arguments: Any) -> None:
        """Do what syslog.syslog([priority, ]message) does."""
        if not 1 <= len(arguments) <= 2:
            raise TypeError("syslog.syslog([priority, ]message) takes one or two arguments")
        priority, message = (standard.LOG_INFO, *arguments)[-2:]
        if not isinstance(priority, int) or not isinstance(message, str):
            raise TypeError("syslog.syslog([priority, ]message) takes a number and a string")
        sys.audit("syslog.syslog", priority, message)
        if not self._opened:
            self.openlog()
        if not self._mask & 1 << (priority & _PRIORITIES):
            return
        priority &= _PRIORITIES | _FACILITIES
        self._write(priority if priority & _FACILITIES else priority | self._facility, message)

    def _write(self, priority: int, message: str) -> None:
        process = f"[{os.getpid()}]" if self._options & standard.LOG_PID else ""
        line = f"{self._ident or 'mosquitto'}{process}: {message}"
        now = time.localtime()
        when = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        if self._options & standard.LOG_PERROR:
            with contextlib.suppress(Exception):
                print(line, file=sys.stderr)
        with self._lock:
            self._send(f"<{priority}>{when} {line}".encode(errors="replace"))

    def _send(self, record: bytes) -> None:
        """Send it, or lose it, as syslog() does, when nobody takes it after another try."""
        for _ in range(2):
            try:
                if self._socket is None:
                    self._socket = self._connected()
                stream = self._socket.type == socket.SOCK_STREAM
                self._socket.sendall(record + b"\0" * stream)
                return
            except OSError:
                self._close()

    def _connected(self) -> socket.socket:
        try:
            return self._connected_by(socket.SOCK_DGRAM)
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
            return self._connected_by(socket.SOCK_STREAM)

    def _connected_by(self, kind: socket.SocketKind) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, kind)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
