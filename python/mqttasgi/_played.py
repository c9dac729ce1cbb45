"""What `mqttasgi._inside` answers in tests: what the test says."""

from __future__ import annotations

from collections import Counter
from typing import Callable

from ._state import ConsumerView, LogLine


class PlayedInside:
    """Plays the inside of the process: a test says what is there, and tells of changes by `change`."""

    def __init__(self) -> None:
        self.statistics: Counter[str] = Counter()
        #: What is there.
        self.consumer_views: list[ConsumerView] = []
        self.lines: list[LogLine] = []
        self._watchers: list[Callable[[str], None]] = []

    def consumers(self) -> list[ConsumerView]:
        return list(self.consumer_views)

    def log_lines(self, after: int) -> list[LogLine]:
        return [line for line in self.lines if line.number > after]

    def watch(self, on_change: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(on_change)
        return lambda: self._watchers.remove(on_change)

    def change(self, kind: str) -> None:
        """Tell those who watch, at once, that "consumers", "log" or "clients" have changed."""
        for watcher in list(self._watchers):
            watcher(kind)
