"""When the broker may let clients in, and the session may fetch what the broker has kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import summary
from .bridge import Bridge

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .roster import Roster


class Beginning:
    """Waits for the connect() of the master, and then of every consumer of the start. Loop thread only."""

    def __init__(self, bridge: Bridge, roster: Roster) -> None:
        self._bridge = bridge
        self._roster = roster
        #: The master's connect() has returned, so clients are let in.
        self.has_started = False
        self._has_settled = False
        #: Consumers whose first connect() has not returned.
        self._connecting = 0

    def wait_for(self) -> None:
        """Wait for one more consumer, whose `counted` is False until `wait_no_more`."""
        self._connecting += 1

    def start(self) -> None:
        """Let clients in, unless that has been done."""
        if not self.has_started:
            self.has_started = True
            self._bridge.started()

    def wait_no_more(self, consumer: HostedConsumer) -> None:
        """Count a consumer, once, that has connected, failed or ended."""
        if consumer.counted:
            return
        consumer.counted = True
        self._connecting -= 1
        if self.has_started and not self._connecting and not self._has_settled:
            self._has_settled = True
            self._bridge.settled(summary.text(self._roster.by_handle.values()))
