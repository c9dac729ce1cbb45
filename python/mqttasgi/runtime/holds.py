"""Keeps two lanes in one order: what comes the direct lane waits here from a "hold" until its "release".

docs/architecture.md, "The order of messages", says when the plugin asks for which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from .bridge import Delivery
from .durable import is_stored


class ConsumerHold:
    """What waits while the retained messages for a consumer's new subscription are on their way."""

    def __init__(self) -> None:
        #: Holds that have not been released; a consumer may subscribe to several filters at once.
        self.depth = 0
        #: One of the subscriptions was not new: then a message that is also retained is received as both.
        self.again = False
        self._waiting: list[Delivery] = []
        #: By topic.
        self._retained: dict[str, Delivery] = {}
        #: Those in whose place the same message is received; only what the broker has stored.
        self.merged: list[Delivery] = []

    def __iter__(self) -> Iterator[Delivery]:
        """Iterate over what waits."""
        yield from self._retained.values()
        yield from self._waiting

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery back."""
        message = delivery[1]
        if message.retain:
            # Overlapping filters bring it once for each, at the QoS of each.
            before = self._retained.setdefault(message.topic, delivery)
            if _qos(before) < _qos(delivery):
                self._retained[message.topic] = delivery
                self._merge([before])
            elif before is not delivery:
                self._merge([delivery])
        else:
            self._waiting.append(delivery)

    def add_placed(self, delivery: Delivery) -> None:
        """Keep a delivery back whose place is behind all that waits, also if it is a retained message."""
        self._waiting.append(delivery)

    def end(self, general: Optional[GeneralHold]) -> list[Delivery]:
        """Return everything in the order in which the broker had it: first what it had retained.

        A retained message may have been published after the hold began, and come the direct lane as well. It
        then stands in the place of that one, not before older ones; where that one waits in the general
        hold, which is for what came last, it is put there and not returned.
        """
        if general is not None:
            self._merge(general.place(self._retained, self.again))
        self._merge(_place(self._retained, self._waiting, self.again))
        return [*self._retained.values(), *self._waiting]

    def _merge(self, deliveries: list[Delivery]) -> None:
        self.merged += [delivery for delivery in deliveries if is_stored(delivery)]


class GeneralHold:
    """What waits, whomever it is for, while a last will may be on its way.

    Holds are numbered; a release ends those up to its number. What came under a later one goes on waiting.
    """

    def __init__(self) -> None:
        self._current = 0
        self._released = 0
        #: (number of the hold, what came under it), the oldest first.
        self._waiting: list[tuple[int, list[Delivery]]] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing has to."""
        return self._released >= self._current and not self._waiting

    def hold(self, number: int) -> None:
        """Keep back what comes from now on."""
        self._current = number

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery back."""
        if not self._waiting or self._waiting[-1][0] != self._current:
            self._waiting.append((self._current, []))
        self._waiting[-1][1].append(delivery)

    def release(self, number: int) -> list[Delivery]:
        """Return what may go on."""
        self._released = max(self._released, number)
        released: list[Delivery] = []
        while self._waiting and self._waiting[0][0] <= number:
            released += self._waiting.pop(0)[1]
        return released

    def take(self, handle: int) -> list[Delivery]:
        """Return what waits for one consumer, which is about to end."""
        taken: list[Delivery] = []
        for _, deliveries in self._waiting:
            taken += [delivery for delivery in deliveries if delivery[0] == handle]
            deliveries[:] = [delivery for delivery in deliveries if delivery[0] != handle]
        return taken

    def place(self, retained: dict[str, Delivery], again: bool) -> list[Delivery]:
        """Move retained messages of one consumer to where they wait as they were published.

        Returns:
            The deliveries in whose place they are received.
        """
        replaced: list[Delivery] = []
        for _, deliveries in reversed(self._waiting):
            replaced += _place(retained, deliveries, again)
        return replaced


def _qos(delivery: Delivery) -> int:
    # The lowest two bits of the options are the subscription's QoS.
    return min(delivery[1].qos, delivery[2] & 3)


def _place(retained: dict[str, Delivery], waiting: list[Delivery], again: bool) -> list[Delivery]:
    """Move retained messages to where they were published among those that wait.

    The last one with the topic and the payload is the same message. It makes room, except for `again`: who
    subscribes again to what he has gets both. So does whose copy is not stored, as the other one is.

    Returns:
        Those that have made room.
    """
    replaced: list[Delivery] = []
    if not retained:
        return replaced
    for index in range(len(waiting) - 1, -1, -1):
        handle, message, _ = waiting[index]
        kept = retained.get(message.topic)
        if kept is not None and kept[0] == handle and kept[1].payload == message.payload:
            del retained[message.topic]
            if again or (is_stored(waiting[index]) and not is_stored(kept)):
                waiting.insert(index + 1, kept)
            else:
                replaced.append(waiting[index])
                waiting[index] = kept
    return replaced
