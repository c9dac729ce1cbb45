"""Which consumers there are."""

from __future__ import annotations

import itertools
from types import FrameType
from typing import Any, Optional

from .bridge import Bridge
from .consumer import HostedConsumer
from .inbox import Holding
from .run import RUN_CODE

#: Consumers that have ended and are remembered; the oldest are forgotten.
GIVEN_UP = 100


class Roster:
    """Every consumer that has not ended. Loop thread only, but for what says otherwise."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._handles = itertools.count(1)
        #: Those that were killed included.
        self.by_handle: dict[int, HostedConsumer] = {}
        #: Where their deliveries go, and those of guests (guests.py).
        self.inboxes: dict[int, Holding] = {}
        #: Those that have an app_id, which is what can be killed.
        self.by_app_id: dict[Any, HostedConsumer] = {}
        #: The last that ended for good and could be started again, by the handles that they had.
        self.given_up: dict[int, HostedConsumer] = {}
        #: How many have failed and wait for their next start.
        self._restarting = 0

    def new_handle(self) -> int:
        """Return a handle that no consumer has had."""
        return next(self._handles)

    def add(self, consumer: HostedConsumer) -> None:
        """Add a consumer, whose app_id is free."""
        self.by_handle[consumer.handle] = consumer
        self.inboxes[consumer.handle] = consumer.inbox
        self.by_app_id[consumer.app_id] = consumer
        for handle, other in list(self.given_up.items()):
            if other.app_id == consumer.app_id:
                del self.given_up[handle]  # it has a successor
        self._tell_numbers()

    def free_app_id(self, consumer: HostedConsumer) -> None:
        """Let another one have its app_id, if it still has it."""
        if self.has_app_id(consumer):
            del self.by_app_id[consumer.app_id]

    def has_app_id(self, consumer: HostedConsumer) -> bool:
        """Whether it has not been killed."""
        return self.by_app_id.get(consumer.app_id) is consumer

    def remove(self, consumer: HostedConsumer) -> None:
        """Remove one that has ended, or will not be started again."""
        if consumer.restart is not None:
            consumer.restart.cancel()
            self._restarting -= 1
        del self.by_handle[consumer.handle]
        del self.inboxes[consumer.handle]
        self._tell_numbers()
        self.free_app_id(consumer)

    def give_up(self, consumer: HostedConsumer) -> None:
        """Remember one that was removed, so that it can be started again."""
        self.given_up[consumer.handle] = consumer
        if len(self.given_up) > GIVEN_UP:
            del self.given_up[next(iter(self.given_up))]

    def failed(self) -> None:
        """Count one that waits to be started again."""
        self._restarting += 1
        self._tell_numbers()

    def restarted(self) -> None:
        """Count one that has waited for that and is started."""
        self._restarting -= 1
        self._bridge.add("consumers/restarted", 1)
        self._tell_numbers()

    def _tell_numbers(self) -> None:
        self._bridge.set("consumers/running", len(self.by_handle) - self._restarting)
        self._bridge.set("consumers/restarting", self._restarting)

    # ---- for the watchdog: any thread, so no code of the application's is run ----

    def find(self, app_id: Any) -> Optional[HostedConsumer]:
        """Return the consumer that has this very object as its app_id, whose __eq__() is not called."""
        for consumer in list(self.by_handle.values()):
            if consumer.app_id is app_id:
                return consumer
        return None

    def run_in(self, frame: FrameType) -> Optional[HostedConsumer]:
        """Return the consumer whose application is called in this frame."""
        if frame.f_code is not RUN_CODE:
            return None  # of most frames, and there may be many consumers
        for consumer in list(self.by_handle.values()):
            run = consumer.run
            if run is not None and run.is_in(frame):
                return consumer
        return None
