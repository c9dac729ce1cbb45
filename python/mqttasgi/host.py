"""Prepares this interpreter for its life inside the broker's process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any, Callable

from ._bridge import Bridge, Options


def prepare(bridge: Bridge, options: Options) -> None:
    """Environment, import path, logging and signals, before the application is imported."""
    for name, value in options["variables"]:
        os.environ.setdefault(name, value)
    folders = [folder for folder in options["python_path"].split(":") if folder]
    # Without python_path, modules are looked for where the broker was started, as mqttasgi does.
    sys.path[0:0] = folders or [os.getcwd()]
    _log_to_broker(bridge, options["verbosity"])
    _leave_signals_to_broker()


class BrokerLogHandler(logging.Handler):
    """Writes records to the broker's log, line by line. Any thread."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = broker_level(self._bridge, record.levelno)
            for line in self.format(record).splitlines():
                self._bridge.log(level, line)
        except Exception:
            self.handleError(record)


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


def set_verbosity(verbosity: int) -> None:
    """Logs to the broker what the option of this name says.

    An application that has set the root logger's level itself keeps it, as it does after a start.
    """
    global _level
    root = logging.getLogger()
    if root.level == _level:
        _level = _LEVELS[verbosity]
        root.setLevel(_level)


def _leave_signals_to_broker() -> None:
    """SIGTERM, SIGHUP and the rest are the broker's: handlers that the application sets are not installed.

    A Python handler would take the signal from the broker, which then could not be stopped.
    """
    logger = logging.getLogger(__name__)

    def refuse(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*arguments: Any) -> Any:
            logger.warning(
                "signal.%s%r has no effect: inside the broker, signals are the broker's. Use disconnect() "
                "for what must be done at the end.",
                name,
                arguments,
            )
            return result(*arguments)

        return refused

    signal.signal = refuse("signal", lambda number, handler: signal.getsignal(number))
    # The default action of these two signals ends the process.
    signal.alarm = refuse("alarm", lambda seconds: 0)
    signal.setitimer = refuse("setitimer", lambda which, seconds, interval=0.0: (0.0, 0.0))


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
