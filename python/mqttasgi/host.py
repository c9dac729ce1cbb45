"""Prepares this interpreter for its life inside the broker's process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from typing import Any, Callable, Optional

from . import children
from ._bridge import Bridge, Options


def prepare(bridge: Bridge, options: Options) -> None:
    """Environment, import path, logging and signals, before the application is imported."""
    for name, value in options["variables"]:
        os.environ.setdefault(name, value)
    folders = [folder for folder in options["python_path"].split(":") if folder]
    # Without python_path, modules are looked for where the broker was started, as mqttasgi does.
    sys.path[0:0] = folders or [os.getcwd()]
    _log_to_broker(bridge, options["verbosity"])
    sys.stdout = _lasting(bridge, sys.stdout, "output")
    sys.stderr = _lasting(bridge, sys.stderr, "error")
    _log_what_nobody_catches(bridge)
    # Before signals are refused: a child may have its own.
    children.prepare()
    _leave_signals_to_broker(bridge)


def error_lines(error: BaseException) -> list[str]:
    """A traceback's lines, whatever the error's own methods do."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    except BaseException as other:
        return [f"{type(error).__name__} (its traceback cannot be shown: {type(other).__name__})"]


class BrokerLogHandler(logging.Handler):
    """Writes records to the broker's log, line by line. Any thread."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(self._bridge, broker_level(self._bridge, record.levelno), self.format(record).splitlines())
        except Exception:
            self.handleError(record)


def say(bridge: Bridge, level: int, lines: list[str]) -> None:
    """Into the broker's log or, in a child process, on standard error: nobody reads its copy of the queue."""
    if children.forked:
        print("\n".join(lines), file=sys.stderr)
        return
    for line in lines:
        bridge.log(level, line)


def broker_level(bridge: Bridge, level: int) -> int:
    """Mosquitto's name for one of logging's levels."""
    if level >= logging.ERROR:
        return bridge.LOG_ERR
    if level >= logging.WARNING:
        return bridge.LOG_WARNING
    if level >= logging.INFO:
        return bridge.LOG_INFO
    return bridge.LOG_DEBUG


_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
#: What the root logger's level was made by the option.
_level = logging.WARNING


def _log_to_broker(bridge: Bridge, verbosity: int) -> None:
    root = logging.getLogger()
    root.addHandler(BrokerLogHandler(bridge))
    root.setLevel(_level)
    set_verbosity(verbosity)
    # A coroutine that was never awaited is said by a warning.
    logging.captureWarnings(True)


def set_verbosity(verbosity: int) -> None:
    """Logs to the broker what the option of this name says.

    An application that has set the root logger's level itself keeps it, as it does after a start.
    """
    global _level
    root = logging.getLogger()
    if root.level == _level:
        _level = _LEVELS[verbosity]
        root.setLevel(_level)


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
    """What an application prints is no reason for it to fail, also where nobody reads it any more."""
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


def _log_what_nobody_catches(bridge: Bridge) -> None:
    """Standard error, where Python writes it, may be nowhere."""

    def log(text: str, error: Optional[BaseException]) -> None:
        say(bridge, bridge.LOG_ERR, [text, *(error_lines(error) if error is not None else ())])

    def in_thread(arguments: Any) -> None:
        if arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else "of no name"
            log(f"Thread {name} of the application ended with an error:", arguments.exc_value)

    def unraisable(arguments: Any) -> None:
        what = arguments.err_msg or "Exception ignored in"
        log(f"{what}: {_described(arguments.object)}", arguments.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def _described(thing: object) -> str:
    try:
        return repr(thing)
    except BaseException:
        return f"an object of type {type(thing).__name__}"


def _leave_signals_to_broker(bridge: Bridge) -> None:
    """SIGTERM, SIGHUP and the rest are the broker's: handlers that the application sets are not installed.

    A Python handler would take the signal from the broker, which then could not be stopped.
    """

    def refuse(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*arguments: Any) -> Any:
            bridge.log(
                bridge.LOG_WARNING,
                f"signal.{name}{arguments!r} has no effect: inside the broker, signals are the broker's. Use "
                "disconnect() for what must be done at the end.",
            )
            return result(*arguments)

        return refused

    signal.signal = refuse("signal", lambda number, handler: signal.getsignal(number))
    # The default action of these two signals ends the process.
    signal.alarm = refuse("alarm", lambda seconds: 0)
    signal.setitimer = refuse("setitimer", lambda which, seconds, interval=0.0: (0.0, 0.0))
    signal.pthread_sigmask = _never_unblocking(signal.pthread_sigmask)


def _never_unblocking(sigmask: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps the broker's signals blocked in the application's threads, without a word: multiprocessing, for
    one, unblocks SIGINT and SIGTERM after it has blocked them. SIGCHLD is not the broker's.
    """
    free = {signal.SIGCHLD}

    def pthread_sigmask(how: int, mask: Any) -> Any:
        if how == signal.SIG_UNBLOCK:
            mask = free.intersection(mask)
        elif how == signal.SIG_SETMASK:
            mask = {*mask, *sigmask(signal.SIG_BLOCK, ())} - (free - {*mask})
        return sigmask(how, mask)

    return pthread_sigmask


def new_event_loop(loop: str) -> asyncio.AbstractEventLoop:
    """An event loop of the kind the option `loop` names: `auto` is uvloop where it is installed."""
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                raise
        else:
            made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return made
    return asyncio.new_event_loop()
