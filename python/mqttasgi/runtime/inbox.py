"""What waits for one consumer: its queue, and what is held back from that until something older has come."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Optional, Union

from .._types import Event
from .bridge import Delivery
from .durable import is_stored
from .holds import ConsumerHold
from .lines import Source

if TYPE_CHECKING:
    from .service import Service


class Holding:
    """Keeps back what may not come yet. Loop thread only."""

    __slots__ = ("_hold", "_service")

    def __init__(self, service: Service) -> None:
        self._service = service
        #: What waits for retained messages to come first; None: nothing does.
        self._hold: Optional[ConsumerHold] = None

    def feed(self, delivery: Delivery) -> None:
        """Take a delivery, and keep it back while there is a hold."""
        raise NotImplementedError

    def settle(self, delivery: Delivery) -> None:
        """Forget a delivery in whose place the same message is received."""

    def hold(self, again: bool) -> None:
        """Keep back what comes until `release`, except retained messages, which are to go first."""
        if self._hold is None:
            self._hold = ConsumerHold()
        self._hold.depth += 1
        self._hold.again = self._hold.again or again

    def release(self) -> None:
        """End a hold: the retained messages have come."""
        if self._hold is not None:
            self._hold.depth -= 1
            if self._hold.depth == 0:
                self._end_hold()

    def _end_hold(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            for delivery in hold.end(self._service.general_hold):
                self.feed(delivery)
            for delivery in hold.merged:
                self.settle(delivery)

    def go_on(self, delivery: Delivery) -> None:
        """Feed what has waited in the general hold."""
        if self._hold is not None:
            self._hold.add_placed(delivery)
        else:
            self.feed(delivery)


class Inbox(Holding):
    """Deliveries and events that wait for `receive()`, also while no run is there to call it.

    The inbound queue counts deliveries until they have been received, which bounds this too; so may bounds of
    the consumer's own (`overload.py`). Loop thread only.
    """

    __slots__ = ("_overload", "_source", "queue", "queue_bytes", "waiter")

    def __init__(self, service: Service, source: Source) -> None:
        super().__init__(service)
        self._overload = service.overload
        self._source = source
        self.queue: deque[Union[Delivery, Event]] = deque()
        #: Bytes of the deliveries in it; only where consumers have bounds of their own.
        self.queue_bytes = 0
        #: What wakes the run that has found the queue empty; None: none has.
        self.waiter: Optional[asyncio.Future[None]] = None

    def __str__(self) -> str:
        return str(self._source)

    def feed(self, item: Union[Delivery, Event]) -> None:
        """Put something into the queue, or behind what that waits for."""
        if self._hold is not None:
            if isinstance(item, tuple):
                self._hold.add(item)
                return
            # The word to disconnect: nothing comes after it.
            self._end_hold()
        overload = self._overload
        if overload.bounds_consumers and isinstance(item, tuple):
            if not overload.admit(self, item, self._service.loop.time()):
                return
            self.queue_bytes += item[1].size
        self.queue.append(item)
        # Not by a function: this is done for every message.
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def feed_first(self, event: Event) -> None:
        """Put an event of the consumer's own life before everything that waits."""
        self.queue.appendleft(event)
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take_out(self, event: Event) -> None:
        """Remove such an event, if it still waits."""
        for index, item in enumerate(self.queue):
            if item is event:
                del self.queue[index]
                return

    def settle(self, delivery: Delivery) -> None:
        """Say that a delivery was handled in whose place the same message is received."""
        self._service.durable.done(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """Put a delivery that a run has received before everything else, for the next run."""
        if self._overload.bounds_consumers:
            self.queue_bytes += delivery[1].size
        self.queue.appendleft(delivery)

    def empty(self) -> int:
        """Drop all that waits, for a consumer that has ended, and return how many messages are lost by that.

        They count towards the inbound queue's bound while they live. What the broker has stored is not lost.
        """
        # A message that was given back is an event; those of the consumer's own life are empty.
        dropped = sum(
            not is_stored(item) if isinstance(item, tuple) else bool(item["mqtt"]) for item in self.queue
        )
        if self._hold is not None:
            dropped += sum(not is_stored(delivery) for delivery in self._hold)
        self.queue.clear()
        self.queue_bytes = 0
        self._hold = None
        return dropped
