"""What `mqttasgi._inside` answers in tests: what the test says."""

from __future__ import annotations

from collections import Counter
from typing import Callable

from ._host import WatchedClients
from ._state import ClientView, ConsumerView, LogLine


class PlayedInside:
    """Plays the inside of the process: a test says what is there, and tells of changes by `change`."""

    def __init__(self) -> None:
        self.statistics: Counter[str] = Counter()
        #: What is there.
        self.consumer_views: list[ConsumerView] = []
        self.client_views: list[ClientView] = []
        self.is_complete = True
        self.lines: list[LogLine] = []
        #: What was asked for: handles, and clients' ids.
        self.restarted: list[int] = []
        self.kicked: list[str] = []
        #: How many are in a block of `clients`.
        self.viewers = 0
        self._watchers: list[Callable[[str], None]] = []

    def consumers(self) -> list[ConsumerView]:
        return list(self.consumer_views)

    def restart(self, handle: int) -> bool:
        """Tell whether there is one of this handle."""
        self.restarted.append(handle)
        return any(view.handle == handle for view in self.consumer_views)

    async def kick(self, client_id: str) -> bool:
        """Tell whether there is one of this id."""
        self.kicked.append(client_id)
        return any(view.id == client_id for view in self.client_views)

    @property
    def total(self) -> int:
        """How many clients there are."""
        return len(self.client_views)

    def all(self) -> list[ClientView]:
        return list(self.client_views)

    async def begin_clients(self) -> WatchedClients:
        self.viewers += 1
        return self

    def end_clients(self) -> None:
        self.viewers -= 1

    def log_lines(self, after: int) -> list[LogLine]:
        return [line for line in self.lines if line.number > after]

    def watch(self, on_change: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(on_change)
        return lambda: self._watchers.remove(on_change)

    def change(self, kind: str) -> None:
        """Tell those who watch, at once, that "consumers", "log" or "clients" have changed."""
        for watcher in list(self._watchers):
            watcher(kind)
