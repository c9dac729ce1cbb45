"""Our `syslog` against the standard library's: the same calls, the same lines."""

from __future__ import annotations

import os
import re
import socket
import syslog
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqttasgi.runtime.system_log import SystemLog


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "log"


def listen(path: Path, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    made.settimeout(10)
    return made


def line(listener: socket.socket) -> str:
    """A line without its time, which comes in the form of RFC 3164, 4.1.2."""
    found = re.fullmatch(
        r"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (.*)", listener.recv(9000).decode(), re.DOTALL
    )
    assert found
    return f"{found[1]} {found[2]}"


def test_what_is_written(path: Path) -> None:
    log = SystemLog(str(path))
    with listen(path) as listener:
        log.openlog("lamp", syslog.LOG_PID, facility=syslog.LOG_DAEMON)
        log.syslog("on %s")
        assert line(listener) == f"{syslog.LOG_DAEMON | syslog.LOG_INFO} lamp[{os.getpid()}]: on %s"
        log.syslog(syslog.LOG_ERR, "größer")
        assert line(listener) == f"{syslog.LOG_DAEMON | syslog.LOG_ERR} lamp[{os.getpid()}]: größer"
        log.syslog(syslog.LOG_MAIL | syslog.LOG_WARNING, "post")
        assert line(listener) == f"{syslog.LOG_MAIL | syslog.LOG_WARNING} lamp[{os.getpid()}]: post"
        assert log.setlogmask(syslog.LOG_UPTO(syslog.LOG_ERR)) == 0xFF
        assert log.setlogmask(0) == syslog.LOG_UPTO(syslog.LOG_ERR)
        log.syslog(syslog.LOG_WARNING, "not this")
        log.syslog(syslog.LOG_ERR, "but this")
        assert line(listener).endswith("but this")
        log.closelog()
        log.openlog(ident="other")
        log.syslog(syslog.LOG_ERR, "last")
        assert line(listener).endswith(" other: last")
        log.closelog()


@pytest.mark.parametrize("arguments", [(), ("a", "b"), (1, 2), (1, "a", "b"), (b"a",)])
def test_wrong_arguments(path: Path, arguments: tuple[object, ...]) -> None:
    for function in (SystemLog(str(path)).syslog, syslog.syslog):
        with pytest.raises(TypeError):
            function(*arguments)


def test_nobody_listens_and_somebody_again(path: Path) -> None:
    log = SystemLog(str(path))
    log.syslog("lost")
    with listen(path) as listener:
        log.syslog("first")
        assert line(listener).endswith(": first")
    with listen(path) as listener:
        log.syslog("second")
        assert line(listener).endswith(": second")
        log.syslog("x" * 1_000_000)  # longer than a datagram may be
        log.syslog("third")
        assert line(listener).endswith(": third")
        log.closelog()


def test_a_stream(path: Path) -> None:
    log = SystemLog(str(path))
    with listen(path, socket.SOCK_STREAM) as listener:
        listener.listen()
        log.syslog("one")
        connection, _ = listener.accept()
        with connection:
            log.syslog("two")
            log.closelog()
            said = b""
            while part := connection.recv(9000):
                said += part
    assert [text.rpartition(b": ")[2] for text in said.split(b"\0")] == [b"one", b"two", b""]
