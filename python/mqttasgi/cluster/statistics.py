"""What a process counts, by the names of the plugin's statistics (plugin/shared/statistics.h)."""

from __future__ import annotations

import os
import time
from collections import Counter, deque

#: Handling times that percentiles are of.
TIMES = 2048


class Statistics:
    """Numbers by their names. Any thread."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter(
            {
                "messages/received": 0,
                "messages/sent": 0,
                "messages/refused": 0,
                "messages/dropped/queue": 0,
                "messages/dropped/consumer_queue": 0,
                "messages/dropped/consumer_ended": 0,
                "consumers/failed": 0,
                "consumers/restarted": 0,
                "loop/longest_block": 0,
                "log/dropped": 0,
                "session/refused": 0,
                "durable/redelivered": 0,
            }
        )
        self._times: deque[int] = deque(maxlen=TIMES)
        self._began = time.monotonic()

    def add(self, name: str, by: int) -> None:
        """Add to a statistic."""
        self._values[name] += by

    def set(self, name: str, value: int) -> None:
        """Set a statistic."""
        self._values[name] = value

    def raise_to(self, name: str, value: int) -> None:
        """Set a statistic, unless it is more already."""
        self._values[name] = max(self._values[name], value)

    def handled(self, since: int) -> int:
        """Count a message that was handled since then, as `Bridge.handled` does."""
        now = time.monotonic_ns()
        if since:
            self._times.append(now - since)
        return now

    def values(self) -> dict[str, int]:
        """Return all of them, as they are now."""
        times = sorted(self._times)
        found = dict(self._values)
        if times:
            found["handling/p50"] = times[len(times) // 2] // 1000
            found["handling/p99"] = times[len(times) * 99 // 100] // 1000
        found["memory"] = _memory()
        found["uptime"] = int(time.monotonic() - self._began)
        found["time"] = int(time.time())
        return found


def _memory() -> int:
    """Return the bytes of memory that this process has (proc(5))."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
