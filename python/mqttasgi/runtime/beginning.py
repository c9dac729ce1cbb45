"""When the broker may let clients in, and the session may fetch what the broker has kept.

Clients are let in when the master's connect() has returned. Where messages are kept until they have been
handled, clients wait for the workers of the start as well: what the broker acknowledges before a worker has
subscribed would not be kept for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import summary
from .bridge import Bridge

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .roster import Roster


class Beginning:
    """Waits for the connect() of the master, and then of every consumer of the start. Loop thread only."""

    def __init__(self, bridge: Bridge, roster: Roster, waits_for_workers: bool = False) -> None:
        """Take whether clients are let in only when all consumers of the start have connected."""
        self._bridge = bridge
        self._roster = roster
        self._waits_for_workers = waits_for_workers
        #: The master's connect() has returned.
        self.has_started = False
        #: Clients are let in.
        self._has_opened = False
        self._has_settled = False
        #: Consumers whose first connect() has not returned.
        self._connecting = 0

    def wait_for(self) -> None:
        """Wait for one more consumer, whose `counted` is False until `wait_no_more`."""
        self._connecting += 1

    def start(self) -> None:
        """Note that the master's connect() has returned, and let clients in if only that was waited for."""
        self.has_started = True
        if not self._waits_for_workers:
            self._open()

    def _open(self) -> None:
        if not self._has_opened:
            self._has_opened = True
            self._bridge.started()

    def wait_no_more(self, consumer: HostedConsumer) -> None:
        """Count a consumer, once, that has connected, failed or ended."""
        if consumer.counted:
            return
        consumer.counted = True
        self._connecting -= 1
        if self.has_started and not self._connecting and not self._has_settled:
            self._has_settled = True
            self._open()
            self._bridge.settled(summary.text(self._roster.by_handle.values()))
