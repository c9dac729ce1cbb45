"""Which consumers are started again because somebody asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._types import Event
from .consumer import DISCONNECT

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .service import Service


#: Seconds, at least, until what was cancelled and goes on is cancelled again.
AGAIN = 5.0


class Encores:
    """Consumers that are asked to end their run for another one. Loop thread only.

    Such an end is no failure. What waits for the consumer, and comes meanwhile, is for its next run.
    """

    def __init__(self, service: Service, keeps_session: bool = False) -> None:
        """Take whether the session ends when the master is given up, and is kept for the next process."""
        self._service = service
        self._keeps_session = keeps_session
        #: The word to disconnect that a consumer was given, and what cancels one that does not. As many as
        #: there are consumers at most.
        self._asked: dict[HostedConsumer, tuple[Event, asyncio.TimerHandle]] = {}
        #: Those of them that were cancelled and have not ended yet.
        self._cancelled: set[HostedConsumer] = set()

    def ask(self, handle: int) -> bool:
        """Start a consumer again. False: there is none with this handle, or it cannot be started."""
        service = self._service
        consumer = service.roster.by_handle.get(handle)
        if consumer is None:
            return self._revive(handle)
        if not service.lifecycle.may_start(consumer):
            return False
        if self.is_asked(consumer):
            self._ask_again(consumer)
            return True
        self._say(consumer)
        consumer.failures = consumer.failed_starts = 0
        if consumer.restart is not None:
            consumer.restart.cancel()
            consumer.start()
        elif consumer.run is not None and consumer.run.has_begun:
            self._end_run(consumer)
        return True

    def _revive(self, handle: int) -> bool:
        service = self._service
        consumer = service.roster.given_up.get(handle)
        if consumer is None or service.farewell.has_begun or service.stopped:
            return False
        if consumer.is_master and consumer.history.state == "failed" and self._keeps_session:
            return False  # what the broker keeps for it comes with the session, which has ended
        self._say(consumer)
        service.lifecycle.revive(consumer)
        return True

    def _say(self, consumer: HostedConsumer) -> None:
        self._service.log.info(f"Consumer {consumer} is started again, as somebody has asked for.")

    def _end_run(self, consumer: HostedConsumer) -> None:
        word = dict(DISCONNECT)
        seconds = self._service.farewell.seconds
        timer = self._service.loop.call_later(seconds, self._cancel, consumer)
        self._asked[consumer] = word, timer
        consumer.inbox.feed_first(word)

    def _ask_again(self, consumer: HostedConsumer) -> None:
        """Cancel at once what has swallowed that it was cancelled."""
        _, timer = self._asked[consumer]
        if consumer in self._cancelled:
            timer.cancel()
            self._cancel(consumer)

    def _cancel(self, consumer: HostedConsumer) -> None:
        """Cancel a run until it ends: an application may catch CancelledError and go on."""
        seconds = self._service.farewell.seconds
        if consumer in self._cancelled:
            self._service.log.error(
                f"Consumer {consumer}, which is to be started again, was cancelled, "
                "goes on, and is cancelled again."
            )
        else:
            self._service.log.error(
                f"Consumer {consumer}, which is to be started again, did not finish what it is doing and its "
                f"disconnect() within {seconds:g} seconds and is cancelled."
            )
        self._cancelled.add(consumer)
        word, _ = self._asked[consumer]
        timer = self._service.loop.call_later(max(seconds, AGAIN), self._cancel, consumer)
        self._asked[consumer] = word, timer
        if consumer.run is not None:
            consumer.run.task.cancel()

    def is_asked(self, consumer: HostedConsumer) -> bool:
        """Whether it is about to end its run for another one."""
        return consumer in self._asked

    def take(self, consumer: HostedConsumer) -> bool:
        """Return whether it is, and take the word back."""
        word, timer = self._asked.pop(consumer, (None, None))
        if word is None or timer is None:
            return False
        timer.cancel()
        self._cancelled.discard(consumer)
        consumer.inbox.take_out(word)
        return True
