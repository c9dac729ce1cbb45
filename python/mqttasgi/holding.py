"""Keeps two lanes in one order.

Most messages come straight from the broker's event, the direct lane; what that event does not show comes
through the plugin's MQTT session and takes longer. Where the session is known to have something older under
way, the plugin says "hold": what comes the direct lane from then on waits here until "release".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ._bridge import Delivery


class ConsumerHold:
    """What waits while the retained messages for a consumer's new subscription are on their way."""

    def __init__(self) -> None:
        #: Holds that have not been released; a consumer may subscribe to several filters at once.
        self.depth = 0
        #: One of the subscriptions was not new: then a message that is also retained is received as both.
        self.again = False
        self._waiting: list[Delivery] = []
        self._retained: dict[str, Delivery] = {}

    def add(self, delivery: Delivery) -> None:
        """Keeps a delivery back."""
        message = delivery[1]
        if message.retain:
            # Overlapping filters bring it once for each, at the QoS of each.
            before = self._retained.get(message.topic)
            if before is None or _qos(before) < _qos(delivery):
                self._retained[message.topic] = delivery
        else:
            self._waiting.append(delivery)

    def merged(self) -> Iterator[Delivery]:
        """Everything in the order in which the broker had it: first what it had retained.

        A retained message may have been published after the hold began, and come the direct lane as well. It
        then stands in the place of that one, not before older ones.
        """
        places = self._places()
        for topic, delivery in self._retained.items():
            if topic not in places:
                yield delivery
        for index, delivery in enumerate(self._waiting):
            if not places or places.get(delivery[1].topic) != index:
                yield delivery
                continue
            if self.again:
                yield delivery
            yield self._retained[delivery[1].topic]

    def _places(self) -> dict[str, int]:
        """Where among those that wait the retained messages were published, by topic."""
        places = {}
        if self._retained:
            for index, (_, message, _) in enumerate(self._waiting):
                kept = self._retained.get(message.topic)
                if kept is not None and kept[1].payload == message.payload:
                    places[message.topic] = index
        return places


def _qos(delivery: Delivery) -> int:
    return min(delivery[1].qos, delivery[2])


class GeneralHold:
    """What waits, whomever it is for, while a last will may be on its way.

    Holds are numbered; a release ends those up to its number. What came under a later one goes on waiting.
    """

    def __init__(self) -> None:
        self._current = 0
        self._released = 0
        self._waiting: deque[tuple[int, Delivery]] = deque()

    def hold(self, number: int) -> None:
        """Keeps back what comes from now on."""
        self._current = number

    def release(self, number: int) -> Iterator[Delivery]:
        """What may go on."""
        self._released = max(self._released, number)
        while self._waiting and self._waiting[0][0] <= number:
            yield self._waiting.popleft()[1]

    def take(self, handle: int) -> list[Delivery]:
        """What waits for one consumer, which is about to end."""
        taken = [delivery for _, delivery in self._waiting if delivery[0] == handle]
        self._waiting = deque(entry for entry in self._waiting if entry[1][0] != handle)
        return taken

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing has to."""
        return self._released >= self._current and not self._waiting

    def add(self, delivery: Delivery) -> None:
        """Keeps a delivery back."""
        self._waiting.append((self._current, delivery))
