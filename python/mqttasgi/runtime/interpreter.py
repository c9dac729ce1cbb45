"""Prepares this interpreter for its life inside the broker's process."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import Any, Callable

from . import logs, processes, system_log
from .bridge import Bridge, Options
from .lines import Lines


def prepare(bridge: Bridge, options: Options) -> Lines:
    """Prepare environment, import path and logging, before the application is imported.

    Returns:
        The way of the application's lines into the broker's log.
    """
    for name, value in options["variables"]:
        os.environ.setdefault(name, value)
    folders = [folder for folder in options["python_path"].split(":") if folder]
    # Without python_path, modules are looked for where the broker was started, as mqttasgi does.
    sys.path[0:0] = folders or [os.getcwd()]
    lines = Lines(bridge, options["log_lines"])
    logs.prepare(bridge, options["verbosity"], lines)
    sys.stdout = _lasting(bridge, sys.stdout, "output")
    sys.stderr = _lasting(bridge, sys.stderr, "error")
    # Before signals are refused: a child may have its own.
    processes.prepare()
    system_log.prepare()
    return lines


class _LastingFile(io.FileIO):
    """A file that takes what is written also when it cannot be written any more."""

    def __init__(self, descriptor: int, name: str, lost: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self._lost = lost

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._lost(error)
            return memoryview(data).nbytes


class _LastingText(io.TextIOWrapper):
    """A stream of the whole process, which no part of the application can close for the others."""

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.flush()


def _lasting(bridge: Bridge, stream: Any, name: str) -> Any:
    """Return a stream in whose place nothing fails: nobody may read any more what an application prints."""
    if stream is None:
        return None  # print() then does nothing
    said = False

    def lost(error: OSError) -> None:
        nonlocal said
        if not said:
            said = True
            bridge.log(
                bridge.LOG_WARNING,
                f"Standard {name} cannot be written ({error.strerror}): what is printed there is lost.",
            )

    return _LastingText(
        _LastingFile(stream.fileno(), stream.name, lost),
        encoding=stream.encoding,
        errors=stream.errors,
        # Whole lines: the broker's own come between two writes.
        line_buffering=True,
    )


def leave_signals_to_broker(bridge: Bridge, lines: Lines) -> None:
    """Refuse the application's handlers: SIGTERM, SIGHUP and the rest are the broker's.

    A Python handler would take the signal from the broker, which then could not be stopped.
    """

    def refuse(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*arguments: Any) -> Any:
            said = (
                f"signal.{name}{arguments!r} has no effect: inside the broker, signals are the broker's. Use "
                "disconnect() for what must be done at the end."
            )
            lines.say(bridge.LOG_WARNING, [said])
            return result(*arguments)

        return refused

    signal.signal = refuse("signal", lambda number, handler: signal.getsignal(number))
    # The default action of these two signals ends the process.
    signal.alarm = refuse("alarm", lambda seconds: 0)
    signal.setitimer = refuse("setitimer", lambda which, seconds, interval=0.0: (0.0, 0.0))
    signal.pthread_sigmask = _never_unblocking(signal.pthread_sigmask)


def _never_unblocking(sigmask: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the broker's signals blocked in the application's threads, without a word.

    multiprocessing, for one, unblocks SIGINT and SIGTERM after it has blocked them. SIGCHLD is not the
    broker's.
    """
    free = {signal.SIGCHLD}

    def pthread_sigmask(how: int, mask: Any) -> Any:
        if how == signal.SIG_UNBLOCK:
            mask = free.intersection(mask)
        elif how == signal.SIG_SETMASK:
            mask = {*mask, *sigmask(signal.SIG_BLOCK, ())} - (free - {*mask})
        return sigmask(how, mask)

    return pthread_sigmask
