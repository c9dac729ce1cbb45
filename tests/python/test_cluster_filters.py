"""Whom a message from a broker elsewhere is for."""

from __future__ import annotations

import pytest

from mqttasgi.cluster.filters import NEVER, NO_LOCAL, ONLY_NEW, RETAIN_HANDLING, Filters, Subscribed

ME, YOU = 1, 2


def add(filters: Filters, handle: int, topic_filter: str, options: int) -> tuple[Subscribed, int]:
    """Subscribe as the bridge does, and have the broker accept it; with the identifier."""
    added = filters.add(handle, topic_filter, options, is_shared=True)
    filters.raised_by(handle, added)
    identifier = filters.ask(added, handle)
    added.is_confirmed = True
    return added, identifier


def test_overlapping_filters_bring_a_message_once_by_the_oldest() -> None:
    filters = Filters("")
    _, first = add(filters, ME, "a/#", 1)
    _, second = add(filters, ME, "a/b", 1)
    assert filters.recipients("a/b", (first,), False) == [(ME, 1)]
    assert filters.recipients("a/b", (second,), False) == []
    assert filters.recipients("a/b", (first, second), False) == [(ME, 1)]


@pytest.mark.parametrize(
    ("low", "high", "overlap"),
    [
        ("a/#", "a/b", True),
        ("a/#", "a", True),
        ("+/b", "a/+", True),
        ("a/b", "a/#", True),
        ("a/+", "a/b/c", False),
        ("a/b", "a/c", False),
        ("a", "a/b", False),
    ],
)
def test_an_older_filter_is_raised_to_the_qos_of_a_newer(low: str, high: str, overlap: bool) -> None:
    """Else its copy, which is the one that counts, came at QoS 0."""
    filters = Filters("")
    older, _ = add(filters, ME, low, 0)
    newer = filters.add(ME, high, 2, is_shared=True)
    assert filters.raised_by(ME, newer) == ([older] if overlap else [])
    assert older.merged() & 3 == overlap
    assert filters.raised_by(ME, newer) == []


def test_a_raised_filter_brings_to_others_what_they_asked_for() -> None:
    filters = Filters("")
    _, first = add(filters, ME, "a/#", 0)
    add(filters, YOU, "a/#", 0)
    add(filters, ME, "a/b", 1)
    assert sorted(filters.recipients("a/b", (first,), False)) == [(ME, 1), (YOU, 0)]


def test_nothing_is_raised_for_another_consumer_or_in_a_group() -> None:
    for group, who in (("", YOU), ("fleet", ME)):
        filters = Filters(group)
        add(filters, ME, "a/#", 0)
        assert filters.raised_by(who, filters.add(who, "a/b", 1, is_shared=True)) == []


def test_ones_own_message_comes_for_the_filter_without_no_local() -> None:
    filters = Filters("")
    _, first = add(filters, ME, "a/#", 1 | NO_LOCAL)
    second = filters.add(ME, "a/b", 1, is_shared=True)
    identifier = filters.ask(second, ME)
    # The broker has not answered: what comes may be from before.
    assert filters.recipients("a/b", (first,), False) == [(ME, 1)]
    filters = Filters("")
    _, first = add(filters, ME, "a/#", 1 | NO_LOCAL)
    _, identifier = add(filters, ME, "a/b", 1)
    assert filters.recipients("a/b", (identifier,), False) == [(ME, 1)]
    assert filters.recipients("a/b", (first,), False) == []


def test_whether_a_subscription_is_new_is_each_consumers_own() -> None:
    filters = Filters("")
    add(filters, ME, "a", 1)
    added, _ = add(filters, YOU, "a", 1 | ONLY_NEW)
    assert added.merged(YOU) & RETAIN_HANDLING == 0
    added, _ = add(filters, YOU, "a", 1 | ONLY_NEW)
    assert added.merged(YOU) & RETAIN_HANDLING == NEVER
