"""What waits for code that reads messages with `async for`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Optional

from ._mqtt import topic_matches
from ._types import MqttMessage

#: Messages that are taken in a row without others on the event loop getting a turn.
TURN = 32


class Mailbox:
    """The messages of one `broker.subscribe`, as many as may wait. One event loop only.

    The newest stay: where there is no room, the oldest are lost and counted, so that nobody has to wait for a
    slow reader.
    """

    __slots__ = (
        "_bytes",
        "_queue",
        "_taken",
        "_waiter",
        "filters",
        "has_ended",
        "lost",
        "max_bytes",
        "options",
        "size",
    )

    def __init__(self, filters: tuple[str, ...], options: int, size: int, max_bytes: int) -> None:
        """Take the filters, which have the same Subscription Options (MQTT 5, 3.8.3.1), and the bounds."""
        self.filters = filters
        self.options = options
        self.size = size
        self.max_bytes = max_bytes
        #: How many messages have found no room.
        self.lost = 0
        #: Nothing comes any more.
        self.has_ended = False
        #: With the bytes that each counts.
        self._queue: deque[tuple[MqttMessage, int]] = deque()
        self._bytes = 0
        self._taken = 0
        #: What wakes those who have found it empty; None: nobody has.
        self._waiter: Optional[asyncio.Future[None]] = None

    def __str__(self) -> str:
        return f"broker.subscribe({', '.join(map(repr, self.filters)):.400})"

    def hears(self, topic: str) -> bool:
        """Whether one of the filters matches."""
        return any(topic_matches(topic_filter, topic) for topic_filter in self.filters)

    def put(self, message: MqttMessage, size: int) -> int:
        """Add a message that counts so many bytes. Return how many others were lost by that.

        One that is larger than the bound has room when it is alone.
        """
        if self.has_ended:
            return 0
        lost = 0
        while self._queue and (len(self._queue) >= self.size or self._bytes + size > self.max_bytes):
            self._bytes -= self._queue.popleft()[1]
            lost += 1
        self.lost += lost
        self._queue.append((message, size))
        self._bytes += size
        self._wake()
        return lost

    async def get(self) -> Optional[MqttMessage]:
        """Return the oldest message, and wait for one if there is none. None: nothing comes any more."""
        self._taken += 1
        if self._taken % TURN == 0:
            await asyncio.sleep(0)
        while not self._queue:
            if self.has_ended:
                return None
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            # Several may wait for it; one that is cancelled must not take it from the others.
            await asyncio.shield(self._waiter)
        message, size = self._queue.popleft()
        self._bytes -= size
        return message

    def end(self) -> None:
        """Take nothing more. What waits can still be read."""
        self.has_ended = True
        self._wake()

    def clear(self) -> None:
        """Drop what waits."""
        self._queue.clear()
        self._bytes = 0

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
