"""The last message of each topic, as many as there is room for.

Filled by the observer while somebody looks at topics, bounded by topics and bytes, and dropped when nobody
looks any more. Topics that find no room are not kept; how many messages they had is counted, and the page
says so.
"""

from __future__ import annotations

import math
from array import array
from typing import Optional

from .trees import Trees
from .values import number_of

#: Topics; bytes of topics, payloads and numbers; bytes of one payload; numbers of one topic.
TOPICS, BYTES, PAYLOAD, NUMBERS = 20_000, 16 * 1024 * 1024, 4096, 60
#: Seconds over which the rate is taken.
_SPAN = 20.0


class Topic:
    """One topic, and what came last."""

    __slots__ = (
        "_began",
        "_rate",
        "key",
        "messages",
        "name",
        "numbers",
        "payload",
        "retained",
        "size",
        "time",
    )

    def __init__(self, key: int, name: str) -> None:
        #: Names it in the page: short, and nobody else's choice.
        self.key = key
        self.name = name
        #: The beginning of the last payload, and how many bytes it had.
        self.payload = b""
        self.size = 0
        #: Whether the broker keeps a message for it, as far as one has seen.
        self.retained = False
        #: When the last message came, by the loop's clock.
        self.time = 0.0
        self.messages = 0
        #: The last ones; None: the payloads are no numbers.
        self.numbers: Optional[array[float]] = None
        #: What is counted fades with time; what is missing of the span is made up for by `rate`.
        self._rate = self._began = 0.0

    def cost(self) -> int:
        """Return the bytes that it counts."""
        return len(self.name) + len(self.payload) + (8 * len(self.numbers) if self.numbers else 0)

    def rate(self, now: float) -> float:
        """Return the messages a second, of late."""
        passed = max(now - self._began, 1.0)
        return self._rate * math.exp((self.time - now) / _SPAN) / (1 - math.exp(-passed / _SPAN))

    def note(self, now: float) -> None:
        """Count a message."""
        if not self.messages:
            self._began = now
        else:
            self._rate = self._rate * math.exp((self.time - now) / _SPAN) + 1 / _SPAN
        self.time = now
        self.messages += 1


class Topics:
    """All of them. Loop thread only."""

    def __init__(self, topics: int = TOPICS, most_bytes: int = BYTES) -> None:
        """Take the bounds."""
        self._most, self._most_bytes = topics, most_bytes
        self.by_name: dict[str, Topic] = {}
        self.bytes = 0
        #: Rises when there are other topics than before.
        self.generation = 0
        #: What the pages show of them.
        self.trees = Trees()
        self.messages = 0
        #: Messages of topics that found no room, and values that found none.
        self.unkept = 0
        self.unkept_values = 0

    def put(self, name: str, payload: bytes, retain: bool, now: float) -> None:
        """Take a message. A live one with `retain` is one that the broker keeps, or with which it forgets."""
        self.messages += 1
        topic = self.by_name.get(name)
        if topic is None:
            topic = self._add(name)
            if topic is None:
                self.unkept += 1
                return
        topic.note(now)
        before = topic.cost()
        topic.size = len(payload)
        topic.payload = payload[:PAYLOAD]
        if retain:
            topic.retained = bool(payload)
        self._note_number(topic)
        self.bytes += topic.cost() - before
        if self.bytes > self._most_bytes:
            self._shorten(topic)

    def _add(self, name: str) -> Optional[Topic]:
        if len(self.by_name) >= self._most or self.bytes + len(name) > self._most_bytes:
            return None
        self.generation += 1
        topic = self.by_name[name] = Topic(len(self.by_name) + 1, name)
        self.bytes += topic.cost()
        return topic

    def _note_number(self, topic: Topic) -> None:
        number = number_of(topic.payload) if topic.size <= PAYLOAD else None
        if number is None:
            topic.numbers = None
            return
        if topic.numbers is None:
            topic.numbers = array("d")
        elif len(topic.numbers) >= NUMBERS:
            del topic.numbers[0]
        topic.numbers.append(number)

    def _shorten(self, topic: Topic) -> None:
        """Keep of a value that finds no room only how large it was."""
        self.unkept_values += 1
        before = topic.cost()
        topic.payload, topic.numbers = b"", None
        self.bytes += topic.cost() - before
