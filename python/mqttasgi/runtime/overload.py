"""What becomes of messages where more wait than may.

The plugin bounds what waits for all consumers together (queue_size, queue_bytes). Here is the bound of each
single consumer, so that one which does not keep up takes no room from the others; and, for `drop_oldest`,
which of the messages that consumers have waiting make room for new ones. What comes through the session is
never dropped: the session waits instead, and the broker with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol, Union

from .._types import Event
from .bridge import Bridge, Delivery

#: Waiting items that are looked at for one that may be dropped.
LOOKED_AT = 64
#: Messages that one consumer loses before it is seen whether that was enough.
PORTION = 64
#: Sixteenths of the plugin's bounds: dropping begins above the first and ends below the second.
FULL, LESS = 16, 15


class Waiting(Protocol):
    """What is to be known of an inbox, which says as text whose it is."""

    queue: deque[Union[Delivery, Event]]
    #: Bytes of the deliveries in it; 0 where consumers have no bounds of their own.
    queue_bytes: int


class Overload:
    """The bounds and the policy. Loop thread only."""

    def __init__(
        self, bridge: Bridge, size: int = 0, max_bytes: int = 0, policy: str = "drop_newest"
    ) -> None:
        """Bound what waits for one consumer by `size` and `max_bytes`; 0: nothing of its own does."""
        self._bridge = bridge
        self._size = size
        self._max_bytes = max_bytes
        #: Whether consumers have bounds of their own.
        self.bounds_consumers = bool(size or max_bytes)
        self.drops_oldest = policy == "drop_oldest"
        self._of_one = Complaint()
        self._of_all = Complaint()

    def admit(self, inbox: Waiting, delivery: Delivery, now: float) -> bool:
        """Whether a delivery may wait in this inbox. Older ones may have made room for it.

        `now` is the loop's time in seconds.
        """
        size = delivery[1].size
        if self._has_room(inbox, size) or not delivery[1].is_droppable:
            return True
        dropped = 0
        if self.drops_oldest:
            while not self._has_room(inbox, size) and drop_oldest(inbox):
                dropped += 1
        admitted = self._has_room(inbox, size)
        dropped += not admitted
        self._bridge.add("messages/dropped/consumer_queue", dropped)
        times = self._of_one.times_to_say(dropped, now)
        if times:
            self._bridge.log(
                self._bridge.LOG_WARNING,
                f"{times} messages for single consumers dropped, the "
                f"{'oldest' if self.drops_oldest else 'newest'} first. The last that came was on topic "
                f"{delivery[1].topic!r:.400} for {inbox}, which is slower than its messages; "
                f"consumer_queue_size ({self._size}) and consumer_queue_bytes ({self._max_bytes}) bound what "
                "may wait for each.",
            )
        return admitted

    def _has_room(self, inbox: Waiting, size: int) -> bool:
        if not inbox.queue:
            return True  # one that is larger than the bound passes when it is alone
        if self._size and len(inbox.queue) >= self._size:
            return False
        return not self._max_bytes or inbox.queue_bytes + size <= self._max_bytes

    def trim(self, inboxes: Iterable[Waiting], now: float) -> None:
        """Let those for whom most is waiting lose their oldest messages, for `drop_oldest`.

        That goes on until the plugin's bounds hold for what waits here too.
        """
        if not self._bridge.is_over(FULL):
            return
        crowded = list(inboxes)
        dropped = 0
        while crowded and self._bridge.is_over(LESS):
            longest = max(crowded, key=lambda inbox: len(inbox.queue))
            for _ in range(max(1, min(PORTION, len(longest.queue) // 2))):
                if not drop_oldest(longest):
                    crowded.remove(longest)
                    break
                dropped += 1
                last = longest
        if not dropped:
            return
        self._bridge.add("messages/dropped/queue", dropped)
        times = self._of_all.times_to_say(dropped, now)
        if times:
            self._bridge.log(
                self._bridge.LOG_WARNING,
                f"{times} messages for consumers dropped, the oldest first, the last of {last}: more than "
                "queue_size or queue_bytes wait. The application is slower than its messages.",
            )


class Complaint:
    """What is said at most once a second."""

    def __init__(self) -> None:
        self._times = 0
        self._said_at = float("-inf")

    def times_to_say(self, times: int, now: float) -> int:
        """Return how often it has happened since it was said, with these times; 0: it has just been said."""
        self._times += times
        if now - self._said_at < 1:
            return 0
        self._said_at = now
        times, self._times = self._times, 0
        return times


def drop_oldest(inbox: Waiting) -> bool:
    """Drop what has waited longest of what may be dropped.

    False: there is nothing, or it is behind much that may not be.
    """
    for index, item in enumerate(inbox.queue):
        if index == LOOKED_AT:
            return False
        if isinstance(item, tuple) and item[1].is_droppable:
            if inbox.queue_bytes:
                inbox.queue_bytes -= item[1].size
            del inbox.queue[index]
            return True
    return False
