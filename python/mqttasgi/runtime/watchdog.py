"""Says in the broker's log who blocks the event loop, for how long, and where.

A thread of its own asks the loop to answer, again and again, and looks at what the loop's thread does where
the answer does not come. It also tells the plugin that Python runs at all; while something holds Python's
global lock, this thread cannot say anything, and the plugin does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Optional

from .sight import Sight, look_at

if TYPE_CHECKING:
    from .service import Service

#: Seconds between two questions to the loop, at most and at least; between these, a quarter of the limit.
INTERVAL_MAX, INTERVAL_MIN = 1.0, 0.01
#: Where the watchdog itself was late by more seconds than this, either something held Python's global lock,
#: or the whole process was stopped: the plugin knows.
LATE = 1.0


class Watchdog:
    """Watches the loop of a service while it is entered, which is done on the loop's thread."""

    def __init__(self, service: Service, limit: float) -> None:
        """Take the service whose loop, consumers and log it is about.

        `limit` is for how many seconds the loop may be blocked before the log says so; 0: any time.
        """
        self._service = service
        self._bridge = service.bridge
        self._limit = limit
        self._interval = min(INTERVAL_MAX, max(INTERVAL_MIN, limit / 4))
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._loop_thread = threading.get_ident()
        #: When the loop was asked; None: no question is open.
        self._asked: Optional[float] = None
        #: When it answered that; None: it has not.
        self._answered: Optional[float] = None
        #: The log knows that the loop is blocked.
        self._is_told = False

    def __enter__(self) -> None:
        if self._limit <= 0:
            return
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="mqttasgi-watchdog", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self._service.log.warning(
                f"No watchdog: {error}. Nothing else depends on it (plugin_opt_watchdog).",
            )

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        where: Optional[TracebackType],
    ) -> None:
        """End the thread without waiting for it: nothing may hold up the broker's end."""
        self._ended.set()

    # ---- the watchdog's thread ----

    def _watch(self) -> None:
        try:
            due = time.monotonic()
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                now = time.monotonic()
                self.look(now, now - due)
                due = time.monotonic() + self._pause()
        except Exception as error:
            if not self._ended.is_set():
                self._service.log.exception("The watchdog ends with an error; consumers go on.", error)
        finally:
            self._bridge.rest()

    def _pause(self) -> float:
        """Return the seconds until the next look is due."""
        if self._asked is None or self._is_told:
            return self._interval
        return min(self._interval, max(0.0, self._asked + self._limit - time.monotonic()))

    def look(self, now: float, late: float) -> None:
        """Compare the loop's answer with the question, and ask anew.

        Args:
            now: What the clock says.
            late: For how many seconds the watchdog was kept from looking.
        """
        # First of all: whatever gives up the global lock lets the loop go on, and then there is less to see.
        sight = look_at(self._loop_thread, self._service.roster) if self._is_news(now, late) else None
        silence = self._bridge.beat()
        stopped, kept = 0.0, 0.0
        if late > LATE:
            stopped = max(0.0, late - silence)
            kept = late - stopped
        held = kept >= self._limit
        if self._asked is not None:
            self._asked += stopped
            answered = self._answered
            if answered is None:
                self._judge(now, sight, held)
                return
            self._judge(answered, None, held)
            kept = min(kept, now - answered)
            self._is_told = False
        # While the watchdog was kept away, so was the loop.
        self._asked, self._answered = now - kept, None
        self._judge(now, sight, held)
        self._ask()

    def _is_news(self, now: float, late: float) -> bool:
        """Whether it may turn out that the loop is blocked, and the log does not know yet.

        Frames are not looked at without need: what is held here a moment longer than by its owner is freed
        here, by a thread that it does not expect.
        """
        if self._answered is None and self._is_told:
            return False
        if late > LATE and late >= self._limit:
            return True
        return self._asked is not None and self._answered is None and now - self._asked >= self._limit

    def _ask(self) -> None:
        # The loop may be closed, by an application that does that.
        with contextlib.suppress(RuntimeError):
            self._service.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """Note the time. On the loop's thread."""
        self._answered = time.monotonic()

    def _judge(self, until: float, sight: Optional[Sight], held: bool) -> None:
        """Tell of the time from the question until then, if there is something to tell.

        Args:
            until: When the loop answered; if it has not, what the clock says.
            sight: What its thread did; None where nobody looked, because it had answered, for one.
            held: Python did not run at all, so that was the moment after.
        """
        assert self._asked is not None
        waited = max(0.0, until - self._asked)
        self._bridge.raise_to("loop/longest_block", int(waited * 1000))
        if self._is_told:
            if self._answered is not None:
                self._service.log.warning(f"The event loop reacts again, after {waited:.1f} s.")
        elif waited >= self._limit:
            self._is_told = True
            if sight is not None:
                self._service.log.error("\n".join(sight.report(waited, held)))
            else:
                self._service.log.warning(
                    f"The event loop did not react for {waited:.1f} s. What blocked it ended before it could "
                    "be seen.",
                )
