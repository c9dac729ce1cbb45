"""Bounds the lines that an application writes to the broker's log.

The broker writes each line itself, and with `log_dest topic` publishes it, so one that logs without an end
keeps it from its clients and fills disks. Each consumer may write so many lines a second, and all together
five times as many; who has written few may write ten seconds' worth at once, a traceback for example. What is
beyond is left out, counted, and said once a second.

A consumer that reads the broker's log from its topics, and logs what it reads, would read that again and log
it again. Such lines are left out, too, which is said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from contextvars import ContextVar
from typing import Any, Callable, Optional

from . import processes
from .bridge import Bridge

#: Below it the broker publishes its log.
LOG_TOPICS = "$SYS/broker/log/"
#: Seconds' worth of lines that may come at once.
BURST = 10
#: How many times as much as each consumer all may write together.
ALL = 5
#: Characters after which the broker begins another line.
BROKERS_LINE = 960
#: Seconds between two lines about what was left out.
SAY_AFTER = 1.0


class Allowance:
    """How many lines may still be written; more with each second, up to `BURST` seconds' worth."""

    __slots__ = ("_at", "_left", "_rate", "whole")

    def __init__(self, rate: int, whole: Optional[Allowance] = None) -> None:
        self._rate = rate
        #: That of all together, which this one is beside; None: it is that.
        self.whole = whole
        self._left = float(rate * BURST)
        self._at: Optional[float] = None

    def is_there(self, now: float) -> bool:
        """Whether another line may be written now."""
        if self._at is not None:
            self._left = min(self._left + (now - self._at) * self._rate, self._rate * BURST)
        self._at = now
        return self._left > 0

    def use(self, lines: int) -> None:
        """Take them, into the red where one record has more than is left."""
        self._left -= lines


class Source:
    """The consumer that something is logged by; one that takes a failed one's place has the same."""

    __slots__ = ("allowance", "app_id", "consumer", "has_been_told", "kind", "reads_log")

    def __init__(self, consumer: str, app_id: Any, kind: str) -> None:
        #: As applications are named, such as `mysite.consumers.Kitchen`.
        self.consumer = consumer
        self.app_id = app_id
        #: "master" or "worker".
        self.kind = kind
        #: It has subscribed to topics below `$SYS`, the broker's log perhaps among them.
        self.reads_log = False
        #: The log says of it that it logs what it reads there.
        self.has_been_told = False
        self.allowance: Optional[Allowance] = None

    def __str__(self) -> str:
        return f"{self.consumer} ({self.kind}, app_id {self.app_id!r})"


#: Set in each consumer, and so in the tasks and threads that it starts as asyncio does.
source: ContextVar[Optional[Source]] = ContextVar("mqttasgi_source", default=None)
#: Whether a line of the broker's log is being handled: set where one is received.
of_log: ContextVar[bool] = ContextVar("mqttasgi_of_log", default=False)


def say(bridge: Bridge, level: int, lines: list[str]) -> None:
    """Write them to the broker's log, as many as there are.

    A child process writes on standard error: nobody reads its copy of the queue.
    """
    if processes.forked:
        print("\n".join(lines), file=sys.stderr)
        return
    for line in lines:
        bridge.log(level, line)


def _first(lines: list[str], most: int) -> tuple[list[str], int]:
    """Return as many as make at most so many of the broker's, which are shorter, and how many they make."""
    admitted = []
    used = 0
    for line in lines:
        makes = 1 + len(line) // BROKERS_LINE
        if used + makes > most:
            break
        admitted.append(line)
        used += makes
    return admitted, used


class Lines:
    """The way of an application's lines into the broker's log. Any thread."""

    def __init__(self, bridge: Bridge, rate: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        #: Where it is said what was left out; None: with the next line.
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        self._bridge = bridge
        #: Lines a second and consumer; 0: any number.
        self._rate = rate
        self._clock = clock
        # Reentrant: a destructor may log while this thread has the lock.
        self._lock = threading.RLock()
        self._all = Allowance(rate * ALL)
        self._nobody = Source("code outside of consumers", None, "")
        #: What was left out, by whose it was, since it was said; as many as there are consumers at most.
        self._left_out: dict[Source, int] = {}
        self._said_at = 0.0

    def set_rate(self, rate: int) -> None:
        """Let each consumer write so many lines a second from now on; one that had used up its lines, too."""
        with self._lock:
            if rate != self._rate:
                self.say_what_was_left_out()  # it names the rate that was
                self._rate = rate
                self._all = Allowance(rate * ALL)

    def say(self, level: int, lines: list[str], whose: Optional[Source] = None) -> None:
        """Write what is within bounds. `whose` None: of the consumer that runs here."""
        if whose is None:
            whose = source.get()
        if of_log.get():
            self._leave_out_what_was_read(whose or self._nobody, len(lines))
            return
        say(self._bridge, level, self._admitted(whose or self._nobody, lines) if self._rate else lines)

    def _admitted(self, whose: Source, lines: list[str]) -> list[str]:
        with self._lock:
            if not self._rate:
                return lines  # from this moment on
            now = self._clock()
            if self._left_out and now - self._said_at >= 2 * SAY_AFTER:
                self.say_what_was_left_out()  # there is no loop, or it is blocked
            if whose.allowance is None or whose.allowance.whole is not self._all:  # of another rate
                whose.allowance = Allowance(self._rate, self._all)
            admitted: list[str] = []
            if whose.allowance.is_there(now) and self._all.is_there(now):
                # Whole records, but for those that are longer than anything may be.
                admitted, used = _first(lines, self._rate * BURST)
                whose.allowance.use(used)
                self._all.use(used)
            if len(admitted) < len(lines):
                self._leave_out(whose, len(lines) - len(admitted), now)
            return admitted

    def _leave_out(self, whose: Source, count: int, now: float) -> None:
        self._bridge.add("log/dropped", count)
        if not self._left_out:
            self._said_at = now
            if self.loop is not None:
                # A loop that is closed needs nothing said.
                with contextlib.suppress(RuntimeError):
                    self.loop.call_soon_threadsafe(self._say_later, self.loop)
        self._left_out[whose] = self._left_out.get(whose, 0) + count

    def _say_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(SAY_AFTER, self.say_what_was_left_out)

    def say_what_was_left_out(self) -> None:
        """Write one line about it, if there is anything."""
        with self._lock:
            left_out, self._left_out = self._left_out, {}
        if not left_out:
            return
        most = max(left_out, key=lambda whose: left_out[whose])
        others = sum(left_out.values()) - left_out[most]
        say(
            self._bridge,
            self._bridge.LOG_WARNING,
            [
                f"Lines of {most} left out of this log: {left_out[most]}"
                f"{f', and of others: {others}' if others else ''}. Each consumer may write {self._rate} "
                f"lines a second, all together {self._rate * ALL}; plugin_opt_log_lines says how many, 0 any "
                "number."
            ],
        )

    def _leave_out_what_was_read(self, whose: Source, count: int) -> None:
        self._bridge.add("log/dropped", count)
        if whose.has_been_told:
            return
        whose.has_been_told = True
        say(
            self._bridge,
            self._bridge.LOG_WARNING,
            [
                f"Lines of {whose} left out of this log from now on: those that it writes while it handles a "
                f"line of this log, which it gets on {LOG_TOPICS}. It would get them again, without an end."
            ],
        )
