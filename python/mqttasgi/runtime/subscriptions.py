"""What one consumer subscribes to, which stays in force while it fails and is started again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._events import keep_identifier, matching_identifiers, subscription_options
from .bridge import NOT_SHARED, Delivery


class Subscriptions:
    """A consumer's filters, with their options and identifiers. Loop thread only."""

    __slots__ = ("identifiers", "options", "stale")

    def __init__(self) -> None:
        #: Filter -> Subscription Options (MQTT 5, 3.8.3.1).
        self.options: dict[str, int] = {}
        #: Filter -> subscription identifier, of those that have one; for what comes live.
        self.identifiers: dict[str, int] = {}
        #: Filters of the run that failed, which end if connect() does not subscribe to them again.
        self.stale: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the filters."""
        return iter(self.options)

    def add(self, mqtt: dict[str, Any]) -> int:
        """Add what an event `mqtt.sub` asks for, and return what `Bridge.subscribe` takes as its options."""
        topic_filter = mqtt["topic"]
        options = subscription_options(mqtt)
        self.options[topic_filter] = options
        self.stale.discard(topic_filter)
        keep_identifier(self.identifiers, mqtt)
        shared = 0 if mqtt.get("shared", True) else NOT_SHARED
        return options | shared | self.identifiers.get(topic_filter, 0) << 8

    def remove(self, topic_filter: str) -> bool:
        """Remove a filter. Return False where it is none of these."""
        if self.options.pop(topic_filter, None) is None:
            return False
        self.identifiers.pop(topic_filter, None)
        self.stale.discard(topic_filter)
        return True

    def clear(self) -> list[str]:
        """Remove and return all of them. Identifiers stay, for messages that wait already."""
        filters = list(self.options)
        self.options.clear()
        self.stale.clear()
        return filters

    def doubt(self) -> None:
        """Keep all of them until `take_stale`: the run that made them has failed."""
        self.stale = set(self.options)

    def take_stale(self) -> set[str]:
        """Remove and return what the new run's connect(), which has returned, did not subscribe to."""
        stale, self.stale = self.stale, set()
        for topic_filter in stale:
            del self.options[topic_filter]
            self.identifiers.pop(topic_filter, None)
        return stale

    def identifiers_of(self, delivery: Delivery) -> list[int]:
        """Return the subscription identifiers that a message comes with.

        A retained one comes for one subscription, whose identifier is in the options.
        """
        _, message, options = delivery
        if message.retain:
            return [options >> 8] if options >> 8 else []
        return matching_identifiers(message.topic, self.identifiers)
