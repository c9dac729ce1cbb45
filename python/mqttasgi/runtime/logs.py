"""What leaves for the broker's log, and for whoever else listens to `logging`.

There are two ways in. Records of `logging` come through `BrokerLogHandler`. Errors that nobody has caught
come through `report()`: they reach the broker's log whatever the application has done to `logging`, and then
go through `logging` as well, so that every handler learns of them that the application has: an error
tracker, Django's mail to ADMINS, a file. A record is written to the broker's log once, however many of its
handlers see it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from typing import Any, Callable, Optional

from . import advice
from .bridge import Bridge
from .lines import Lines, Source, say, source

#: The logger of errors that end a consumer, and of those that concern none.
CONSUMER, APPLICATION = "mqttasgi.consumer", "mqttasgi.application"

#: Loggers that are there before the application is, which its `LOGGING` is not to turn off by not
#: mentioning them: `disable_existing_loggers` is true where it does not say otherwise.
_KEPT = ("asyncio", "concurrent.futures", "mqttasgi", "py.warnings")

#: Says of a record that the broker's log has it.
_WRITTEN = "in_broker_log"


class BrokerLogHandler(logging.Handler):
    """Writes records to the broker's log, line by line. Any thread."""

    def __init__(self, bridge: Bridge, lines: Optional[Lines] = None) -> None:
        super().__init__()
        self._bridge = bridge
        self._lines = lines or Lines(bridge)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, _WRITTEN, False):
            return
        setattr(record, _WRITTEN, True)
        try:
            level = broker_level(self._bridge, record.levelno)
            self._lines.say(level, self.format(record).splitlines())
        except Exception:
            self.handleError(record)


def broker_level(bridge: Bridge, level: int) -> int:
    """Return Mosquitto's name for one of logging's levels."""
    if level >= logging.ERROR:
        return bridge.LOG_ERR
    if level >= logging.WARNING:
        return bridge.LOG_WARNING
    if level >= logging.INFO:
        return bridge.LOG_INFO
    return bridge.LOG_DEBUG


# ---- what is logged ----

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
#: What the root logger's level was made by the option.
_level = logging.WARNING


def prepare(bridge: Bridge, verbosity: int, lines: Lines) -> None:
    """Lead `logging`, warnings and what nobody catches to the broker's log."""
    root = logging.getLogger()
    handler = BrokerLogHandler(bridge, lines)
    root.addHandler(handler)
    # Ours also where the application's LOGGING gives the root logger other handlers.
    logging.getLogger("mqttasgi").addHandler(handler)
    root.setLevel(_level)
    set_verbosity(verbosity)
    # A coroutine that was never awaited is said by a warning.
    logging.captureWarnings(True)
    _report_what_nobody_catches(bridge, lines)


def set_verbosity(verbosity: int) -> None:
    """Log to the broker what the option of this name says.

    An application that has set the root logger's level itself keeps it, as it does after a start.
    """
    global _level
    root = logging.getLogger()
    if root.level == _level:
        _level = _LEVELS[verbosity]
        root.setLevel(_level)


def keep_loggers() -> None:
    """Turn on again what the application's LOGGING has turned off without mentioning it."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (name in _KEPT or name.startswith("mqttasgi.")):
            logger.disabled = False


# ---- errors that nobody has caught ----

#: Whether this thread is in the middle of telling logging's handlers.
_telling = threading.local()


def report(
    bridge: Bridge,
    text: str,
    error: Optional[BaseException],
    logger: str = APPLICATION,
    whose: Optional[Source] = None,
    topic: Optional[str] = None,
    lines: Optional[Lines] = None,
) -> None:
    """Write an error with its traceback to the broker's log, and give it to `logging`.

    Where there is something to do about it that everybody should know, a sentence says that before the
    traceback.

    The record has `exc_info`, and as its attributes the name of the `consumer`, its `app_id` and the `topic`
    of the message, each None where there is none. `lines` bounds what is written of errors that may come at
    any rate. Any thread; raises nothing.
    """
    sentence = advice.about(error)
    if sentence is not None:
        text += f" {sentence}" if text.endswith(":") else f"\n{sentence}"
    written = [*text.splitlines(), *(error_lines(error) if error is not None else ())]
    if lines is not None:
        lines.say(bridge.LOG_ERR, written, whose)
    else:
        say(bridge, bridge.LOG_ERR, written)
    if getattr(_telling, "now", False):
        return  # by one of the handlers, which would be told of its own error for ever
    _telling.now = True
    consumer, app_id = (whose.consumer, whose.app_id) if whose is not None else (None, None)
    try:
        found = logging.getLogger(logger)
        found.disabled = False
        found.error(
            text.rstrip(":"),
            exc_info=error,
            extra={"consumer": consumer, "app_id": app_id, "topic": topic, _WRITTEN: True},
        )
    except BaseException as other:
        text = "A handler of the application's logging has failed, so this error may not be everywhere:"
        say(bridge, bridge.LOG_ERR, [text, *error_lines(other)])
    finally:
        _telling.now = False


class BrokerLog:
    """What the runtime itself has to say in the broker's log, whatever the application has done to `logging`.

    Any thread.
    """

    def __init__(self, bridge: Bridge, lines: Lines) -> None:
        self._bridge = bridge
        self._lines = lines

    def info(self, text: str) -> None:
        """Write a line that tells of nothing wrong."""
        self._bridge.log(self._bridge.LOG_INFO, text)

    def warning(self, text: str) -> None:
        """Write a line."""
        self._bridge.log(self._bridge.LOG_WARNING, text)

    def error(self, text: str) -> None:
        """Write an error, of one line or several."""
        for line in text.splitlines():
            self._bridge.log(self._bridge.LOG_ERR, line)

    def exception(self, text: str, error: BaseException) -> None:
        """Write an error with its traceback, and give it to `logging` as well."""
        report(self._bridge, text, error, lines=self._lines)

    def failure(self, consumer: Source, topic: Optional[str], error: BaseException) -> None:
        """Do the same for what has ended a consumer, perhaps while it handled a message on a topic."""
        where = f" handling a message on topic {topic!r}" if topic else ""
        report(
            self._bridge, f"Consumer {consumer} ended with an error{where}:", error, CONSUMER, consumer, topic
        )


def error_lines(error: BaseException) -> list[str]:
    """Return a traceback's lines, whatever the error's own methods do."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    except BaseException as other:
        return [f"{type(error).__name__} (its traceback cannot be shown: {type(other).__name__})"]


def loop_exception_handler(
    bridge: Bridge, lines: Optional[Lines] = None
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return what an event loop is to do with errors of tasks and callbacks.

    asyncio's own logs them, too, but not where the application's LOGGING does not mention asyncio.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        text = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context.keys() - {"message", "exception"}):
            value = context[key]
            if key in ("source_traceback", "handle_traceback"):
                text += [f"{key}:", *"".join(traceback.format_list(value)).splitlines()]
            else:
                text.append(f"{key}: {_described(value)}")
        error = context.get("exception")
        report(bridge, "\n".join(text), error, "asyncio", _whose(context), lines=lines)

    return handle


def _whose(context: dict[str, Any]) -> Optional[Source]:
    """Return the consumer that has started what failed, where Python says so (3.12)."""
    for key in ("task", "future", "handle"):
        get_context = getattr(context.get(key), "get_context", None)
        if get_context is not None:
            found: Optional[Source] = get_context().get(source)
            return found
    return None


def _report_what_nobody_catches(bridge: Bridge, lines: Lines) -> None:
    """Write it to the log, too: standard error, where Python writes it, may be nowhere."""

    def in_thread(arguments: Any) -> None:
        if arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else "of no name"
            text = f"Thread {name} of the application ended with an error:"
            report(bridge, text, arguments.exc_value, lines=lines)

    def unraisable(arguments: Any) -> None:
        what = arguments.err_msg or "Exception ignored in"
        # From Python 3.14 on, the text may name the object.
        whose = "" if arguments.object is None else f": {_described(arguments.object)}"
        report(bridge, f"{what}{whose}", arguments.exc_value, lines=lines)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def _described(thing: object) -> str:
    try:
        return repr(thing)
    except BaseException:
        return f"an object of type {type(thing).__name__}"
