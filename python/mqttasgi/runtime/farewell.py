"""The end: every consumer disconnects, for a bounded time."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .service import Service

#: Of the time for the whole end, when HTTP requests must have ended, when consumers must have disconnected,
#: and when processes must have ended.
WEB, CONSUMERS, PROCESSES = 0.6, 0.8, 0.9
#: Seconds for which guests are waited for where consumers have disconnected sooner: time for the code behind
#: their loops, and little for one that hangs.
GUESTS = 1.0


class Farewell:
    """Lets consumers disconnect and then ends the service. Loop thread only.

    No task waits for that: an application that cancels all tasks would end it.
    """

    def __init__(self, service: Service, seconds: float) -> None:
        """Take the `seconds` that the whole end may take."""
        self._service = service
        self._whole = seconds
        #: Of them, consumers have so many: the rest is for processes that they leave, and for the log.
        self.seconds = CONSUMERS * seconds
        #: When such processes are to have ended, of `time.monotonic()`; long ago before the end has begun.
        self.until = 0.0
        #: Those whose disconnect() is waited for; None: it has not begun.
        self._waits_for: Optional[set[HostedConsumer]] = None
        #: Guests are waited for as well.
        self._waits_for_guests = True

    @property
    def has_begun(self) -> bool:
        """Whether the broker stops."""
        return self._waits_for is not None

    def begin(self) -> None:
        """Tell every consumer to disconnect, after what waits for it."""
        self._waits_for = set()
        self.until = time.monotonic() + PROCESSES * self._whole
        roster = self._service.roster
        for consumer in list(roster.by_handle.values()):
            if consumer.restart is not None:
                self._service.lifecycle.forget(consumer)
        consumers = list(roster.by_handle.values())
        self._service.release(sys.maxsize)
        self._service.guests.end()
        for consumer in consumers:
            self._service.encores.take(consumer)  # there is no next run for what waits
            if roster.has_app_id(consumer):  # the others have been told
                consumer.disconnect(self._service.leaves_what_waits)
        self._waits_for.update(consumers)
        if self._service.site is not None:
            self._service.site.stop(WEB * self._whole)
        self._service.loop.call_later(self.seconds, self._end_late, consumers)
        self._service.loop.call_later(min(GUESTS, self.seconds), self._leave_guests)
        self.look()

    def _leave_guests(self) -> None:
        self._waits_for_guests = False
        self.look()

    def _end_late(self, consumers: list[HostedConsumer]) -> None:
        for consumer in consumers:
            if consumer.run is not None and not consumer.run.task.done():
                self._service.log.error(
                    f"Consumer {consumer} did not finish its disconnect() within "
                    f"{self.seconds:g} seconds and is cancelled."
                )
                consumer.run.task.cancel()
        if self._service.site is not None:
            self._service.site.give_up()
        self._service.finish()

    def ended(self, consumer: HostedConsumer) -> None:
        """Wait for this one no more."""
        if self._waits_for is not None:
            self._waits_for.discard(consumer)
            self.look()

    def look(self) -> None:
        """End the service where nobody is waited for any more."""
        site = self._service.site
        if self._waits_for is None or self._waits_for or self._service.stopped:
            return
        if site is not None and not site.has_ended:
            return
        if not self._waits_for_guests or not self._service.guests.are_there:
            self._service.finish()
