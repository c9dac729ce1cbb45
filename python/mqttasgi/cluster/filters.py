"""Whom a message is for: the filters of all consumers of this process, each subscribed to once."""

from __future__ import annotations

import itertools
import random
from itertools import zip_longest
from typing import Optional

from .._mqtt import topic_matches

#: Topics whose recipients are remembered.
REMEMBERED = 4096
#: Identifiers of one filter that are remembered: what is under way may still come with an earlier one.
IDENTIFIERS = 16
#: The least and the most of the first identifier. The broker may have messages with those of a process before
#: this one, which had others.
FIRST_LEAST, FIRST_MOST = 1, 200_000_000
#: Subscription Options (MQTT 5, 3.8.3.1).
QOS, NO_LOCAL, RETAIN_AS_PUBLISHED, RETAIN_HANDLING = 0x03, 0x04, 0x08, 0x30
#: Retain Handling (MQTT 5, 3.8.3.1): when what is retained comes.
ALWAYS, ONLY_NEW, NEVER = 0x00, 0x10, 0x20
#: What a subscription identifier of the consumer's own is shifted by in the options.
IDENTIFIER_SHIFT = 8


class Subscribed:
    """A filter, as the broker knows it."""

    __slots__ = ("identifiers", "is_confirmed", "is_raised", "is_shared", "options", "sent", "topic_filter")

    def __init__(self, topic_filter: str, sent: str) -> None:
        self.topic_filter = topic_filter
        #: As it is sent: in a group it begins with $share/.
        self.sent = sent
        self.is_shared = sent.startswith("$share/")
        #: Handle of a consumer -> Subscription Options that it asked for.
        self.options: dict[int, int] = {}
        #: Each SUBSCRIBE has one of its own, which the retained messages that it brings come with ->
        #: the handle of who asked; 0: all.
        self.identifiers: dict[int, int] = {}
        #: The broker has accepted it.
        self.is_confirmed = False
        #: Subscribed at QoS 1 for the sake of another filter (`Filters.raised_by`).
        self.is_raised = False

    def merged(self, handle: int = 0) -> int:
        """Return the options of a SUBSCRIBE for all who have it.

        What is retained it brings to one of them, or with 0 to all.
        """
        handling = self.options.get(handle)
        if handling is None:
            handling = min((options & RETAIN_HANDLING for options in self.options.values()), default=0)
        qos = max(options & QOS for options in self.options.values())
        as_published = max(options & RETAIN_AS_PUBLISHED for options in self.options.values())
        no_local = min(options & NO_LOCAL for options in self.options.values())
        # paho acknowledges what comes at QoS 2 before it is handled.
        return (
            min(max(qos, self.is_raised), 1)
            | as_published
            | (0 if self.is_shared else no_local)
            | (handling & RETAIN_HANDLING)
        )

    def delivered(self, handle: int) -> int:
        """Return the options of a delivery to a consumer (runtime/bridge.py)."""
        options = self.options[handle]
        return options & (QOS | RETAIN_AS_PUBLISHED) | options >> IDENTIFIER_SHIFT << IDENTIFIER_SHIFT


class Filters:
    """Filters and who has asked for them. Loop thread only."""

    def __init__(self, group: str) -> None:
        """Take the group in which filters are shared; empty: none are."""
        self._group = group
        self._numbers = itertools.count(random.randint(FIRST_LEAST, FIRST_MOST))
        self.by_sent: dict[str, Subscribed] = {}
        #: Handle of a consumer -> its filters, the oldest first.
        self._of: dict[int, list[Subscribed]] = {}
        self._by_identifier: dict[int, Subscribed] = {}
        self._recipients: dict[tuple[str, tuple[int, ...], bool], list[tuple[int, int]]] = {}

    def sent_as(self, topic_filter: str, is_shared: bool = True) -> str:
        """Return a consumer's filter as it is sent to the broker."""
        if not self._group or not is_shared or topic_filter.startswith("$"):
            return topic_filter
        return f"$share/{self._group}/{topic_filter}"

    def add(self, handle: int, topic_filter: str, options: int, is_shared: bool) -> Subscribed:
        """Add a consumer's filter, or change its options, and return it."""
        sent = self.sent_as(topic_filter, is_shared)
        found = self.by_sent.get(sent)
        if found is None:
            plain = topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
            found = self.by_sent[sent] = Subscribed(plain, sent)
        if options & RETAIN_HANDLING == ONLY_NEW:
            # The broker knows one subscription of all consumers here; whether it is new is each one's own.
            is_new = handle not in found.options
            options = options & ~RETAIN_HANDLING | (ALWAYS if is_new else NEVER)
        if handle not in found.options:
            self._of.setdefault(handle, []).append(found)
        found.options[handle] = options
        self._recipients.clear()
        return found

    def ask(self, subscribed: Subscribed, handle: int = 0) -> int:
        """Return a new identifier for a filter, whose retained messages are for this consumer; 0: for all."""
        identifier = next(self._numbers)
        subscribed.identifiers[identifier] = handle
        if len(subscribed.identifiers) > IDENTIFIERS:
            oldest = next(iter(subscribed.identifiers))
            del subscribed.identifiers[oldest], self._by_identifier[oldest]
        self._by_identifier[identifier] = subscribed
        self._recipients.clear()
        return identifier

    def replaced(self, handle: int, topic_filter: str, is_shared: bool) -> Optional[Subscribed]:
        """Remove a consumer's filter that it had otherwise: shared or not. Return it if nobody has it now."""
        other = self.sent_as(topic_filter, not is_shared)
        return None if other == self.sent_as(topic_filter, is_shared) else self._remove(handle, other)

    def raised_by(self, handle: int, new: Subscribed) -> list[Subscribed]:
        """Return what a consumer's new filter wants to be subscribed again, at QoS 1.

        What matches several filters comes by its first, and at the QoS of the highest.
        """
        is_low = not new.options[handle] & QOS
        others = [
            each
            for each in self._of[handle]
            if is_low != (not each.options[handle] & QOS)
            and not (each.is_shared or new.is_shared)
            and _overlap(each.topic_filter, new.topic_filter)
        ]
        new.is_raised = new.is_raised or (is_low and bool(others))
        low = [each for each in others if not each.merged() & QOS]
        for each in low:
            each.is_raised = True
        return low

    def remove(self, handle: int, topic_filter: str) -> Optional[Subscribed]:
        """Remove a consumer's filter, and return it if nobody has it any more."""
        shared, own = (self.sent_as(topic_filter, is_shared) for is_shared in (True, False))
        return self._remove(handle, shared) or (self._remove(handle, own) if own != shared else None)

    def remove_all(self, handle: int) -> list[Subscribed]:
        """Remove all filters of a consumer, and return what nobody has any more."""
        own = list(self._of.get(handle, ()))
        return [found for each in own if (found := self._remove(handle, each.sent)) is not None]

    def forget(self, subscribed: Subscribed, handle: int) -> None:
        """Remove a filter that the broker has refused: for who has asked, where others have had it before.

        Theirs may be in force as it was; where it is not, it is asked for again in the next session.
        """
        for each in [handle] if subscribed.is_confirmed else list(subscribed.options):
            self._remove(each, subscribed.sent)

    def _remove(self, handle: int, sent: str) -> Optional[Subscribed]:
        found = self.by_sent.get(sent)
        if found is None or found.options.pop(handle, None) is None:
            return None
        self._recipients.clear()
        self._of[handle].remove(found)
        if not self._of[handle]:
            del self._of[handle]
        if found.options:
            return None
        del self.by_sent[sent]
        for identifier in found.identifiers:
            del self._by_identifier[identifier]
        return found

    def recipients(self, topic: str, identifiers: tuple[int, ...], retain: bool) -> list[tuple[int, int]]:
        """Return (handle, options) of each consumer that a copy of a message is for.

        A broker sends one copy for each subscription that matches, or one with the identifiers of all (MQTT
        5, 3.3.4). A consumer gets the one of its first matching filter, so that it gets the message once.
        What has no identifier that is known is for all whose filters match.
        """
        key = topic, identifiers, retain
        found = self._recipients.get(key)
        if found is None:
            if len(self._recipients) >= REMEMBERED:
                self._recipients.clear()
            found = self._recipients[key] = self._find(topic, identifiers, retain)
        return found

    def _find(self, topic: str, identifiers: tuple[int, ...], retain: bool) -> list[tuple[int, int]]:
        came_for = [(number, self._by_identifier.get(number)) for number in identifiers]
        # One with an identifier from before may be another's.
        known = [
            (number, each) for number, each in came_for if each and topic_matches(each.topic_filter, topic)
        ]
        found: dict[int, int] = {}
        for number, each in known:
            only = each.identifiers[number] if retain and not each.merged() & RETAIN_AS_PUBLISHED else 0
            for handle in each.options:
                if only or each.is_shared:
                    delivered = each.delivered(handle) if only in (0, handle) else None
                else:
                    delivered = self._once(handle, each, topic)
                if delivered is not None:
                    found[handle] = _higher(found.get(handle, 0), delivered)
        if not known:
            for each in self.by_sent.values():
                if topic_matches(each.topic_filter, topic):
                    for handle in each.options:
                        found[handle] = _higher(found.get(handle, 0), each.delivered(handle))
        return list(found.items())

    def _once(self, handle: int, subscribed: Subscribed, topic: str) -> Optional[int]:
        """Return the options with which a consumer gets a copy for this filter; None: it gets another copy.

        It gets that of its oldest filter, which the broker has known for longest: newer ones may not have
        been there when the broker took the message. But one's own does not come for a filter with no_local.
        """
        own = [
            each
            for each in self._of[handle]
            if not each.is_shared and (each is subscribed or topic_matches(each.topic_filter, topic))
        ]
        certain = [each for each in own if each.is_confirmed and not each.merged() & NO_LOCAL]
        if subscribed is not (certain or own)[0]:
            return None
        return subscribed.delivered(handle) & ~QOS | max(each.options[handle] & QOS for each in own)


def _higher(one: int, other: int) -> int:
    return max(one, other, key=lambda options: options & QOS)


def _overlap(one: str, other: str) -> bool:
    """Whether there are topics that match both filters."""
    for mine, theirs in zip_longest(one.split("/"), other.split("/")):
        if "#" in (mine, theirs):
            return True
        if mine is None or theirs is None or (mine != theirs and "+" not in (mine, theirs)):
            return False
    return True
