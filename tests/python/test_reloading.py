"""What `mqttasgi --reload` does where files cannot be watched."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from mqttasgi.command import reload
from mqttasgi.command.launch import LaunchError

FOR_EVER = [sys.executable, "-c", "import time; time.sleep(3600)"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, handlers):
        signal.signal(number, handler)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """What is started."""
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return started


@pytest.mark.parametrize(
    "error", [OSError("OS file watch limit reached"), RuntimeError("Too many open files")]
)
def test_the_broker_ends_where_nothing_can_be_watched(
    error: Exception, started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*_: object, **__: object) -> Iterator[set[Any]]:
        yield set()
        raise error

    monkeypatch.setattr(watchfiles, "watch", watch)
    with pytest.raises(LaunchError, match=rf"^--reload cannot watch {tmp_path}: {error}. Keep virtual env"):
        reload.run(FOR_EVER, [str(tmp_path)], None)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_folders_that_may_not_be_read_are_passed_over(
    started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*_: object, ignore_permission_denied: bool, **__: object) -> Iterator[set[Any]]:
        if not ignore_permission_denied:
            raise PermissionError
        yield {(watchfiles.Change.modified, str(tmp_path / "code.py"))}

    monkeypatch.setattr(watchfiles, "watch", watch)
    assert reload.run(FOR_EVER, [str(tmp_path)], None) == -signal.SIGTERM
    assert [process.returncode for process in started] == [-signal.SIGTERM, -signal.SIGTERM]
