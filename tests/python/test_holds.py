"""What waits for the other lane, and the order in which it goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fake_bridge import FakeClientMessage, FakeMessage

from mqttasgi.runtime.holds import ConsumerHold, GeneralHold


def live(payload: str, topic: str = "t", handle: int = 1, session: bool = False) -> Any:
    return (handle, FakeMessage(topic, payload.encode(), 1, session=session), 1)


def kept(payload: str, topic: str = "t", qos: int = 1, handle: int = 1) -> Any:
    return (handle, FakeMessage(topic, payload.encode(), qos, retain=True, session=True), 2)


def names(deliveries: list[Any]) -> list[str]:
    """`topic payload`, with an R before what is retained."""
    return [f"{'R ' * m.retain}{m.topic} {m.payload.decode()}" for _, m, _ in deliveries]


def ended(*deliveries: Any, again: bool = False, general: Any = None) -> list[str]:
    hold = ConsumerHold()
    hold.again = again
    for delivery in deliveries:
        hold.add(delivery)
    return names(hold.end(general))


def test_what_was_retained_goes_before_what_is_live() -> None:
    assert ended(live("2"), live("3"), kept("1"), live("4")) == ["R t 1", "t 2", "t 3", "t 4"]
    assert ended(live("2"), kept("1"), kept("7", "u")) == ["R t 1", "R u 7", "t 2"]


@pytest.mark.parametrize("when", range(4))
def test_a_retained_message_that_was_published_meanwhile_takes_its_place(when: int) -> None:
    deliveries = [live("2"), live("3"), live("4")]
    deliveries.insert(when, kept("3"))
    assert ended(*deliveries) == ["t 2", "R t 3", "t 4"]


def test_it_is_the_last_of_several_that_look_alike() -> None:
    assert ended(live("1"), live("2"), live("1"), kept("1")) == ["t 1", "t 2", "R t 1"]


def test_topic_and_payload_must_both_be_the_same() -> None:
    assert ended(live("1", "u"), live("11"), kept("1")) == ["R t 1", "u 1", "t 11"]


def test_who_subscribed_again_gets_both() -> None:
    assert ended(live("2"), live("3"), live("4"), kept("3"), again=True) == ["t 2", "t 3", "R t 3", "t 4"]
    assert ended(live("2"), kept("1"), again=True) == ["R t 1", "t 2"]


def test_overlapping_filters_bring_a_retained_message_once_at_the_higher_qos() -> None:
    hold = ConsumerHold()
    for qos in (0, 2, 1):
        hold.add(kept("1", qos=qos))
    ((_, message, _),) = hold.end(None)
    assert message.qos == 2


def test_only_the_qos_of_the_options_counts() -> None:
    """Bit 3 is retain_as_published, which says nothing of which copy is the better one."""
    hold = ConsumerHold()
    hold.add((1, FakeMessage("t", b"1", 2, retain=True, session=True), 8))
    hold.add((1, FakeMessage("t", b"1", 2, retain=True, session=True), 1))
    ((_, _, options),) = hold.end(None)
    assert options == 1


def test_word_of_a_client_waits_with_the_messages() -> None:
    lamp: Any = (1, FakeClientMessage({"id": "lamp"}), 0)
    hold = ConsumerHold()
    for delivery in (live("2"), lamp, kept("1"), live("3")):
        hold.add(delivery)
    first, second, third, fourth = hold.end(None)
    assert third is lamp
    assert names([first, second, fourth]) == ["R t 1", "t 2", "t 3"]


def test_a_second_retained_message_of_a_topic_is_dropped_and_its_live_one_stays() -> None:
    assert ended(live("2"), live("3"), kept("2"), kept("3")) == ["R t 2", "t 3"]


def test_wills_and_qos_2_keep_their_place() -> None:
    deliveries = [live("1"), live("gone", "will", session=True), live("2"), kept("0")]
    assert ended(*deliveries) == ["R t 0", "t 1", "will gone", "t 2"]
    assert ended(live("1"), live("2", session=True), live("3"), kept("2")) == ["t 1", "R t 2", "t 3"]


def test_many_topics_each_keep_their_order() -> None:
    """Against what an ordinary subscriber would get: nothing from before the retained message, no copy of it."""
    draw = random.Random(20)
    for _ in range(300):
        published: dict[str, list[str]] = {topic: [] for topic in "abc"}
        deliveries, expected = [], {}
        for number in range(draw.randrange(12)):
            topic = draw.choice("abc")
            published[topic].append(str(number))
            deliveries.append(live(str(number), topic))
        for topic, payloads in published.items():
            cut = draw.randint(0, len(payloads))
            retained = payloads[cut - 1] if cut else "older"
            before = [f"{topic} {payload}" for payload in payloads[: max(0, cut - 1)]]
            after = [f"{topic} {payload}" for payload in payloads[cut:]]
            expected[topic] = [*before, f"R {topic} {retained}", *after]
            deliveries.insert(draw.randint(0, len(deliveries)), kept(retained, topic))
        got = ended(*deliveries)
        for topic in "abc":
            assert [name for name in got if f"{topic} " in name] == expected[topic]


# ---- everybody's hold ----


def test_a_release_lets_go_what_came_under_its_hold_and_earlier_ones() -> None:
    hold = GeneralHold()
    for number in (1, 2, 3):
        hold.hold(number)
        hold.add(live(str(number)))
        hold.add(live(str(number), handle=2))
    assert names(hold.release(2)) == ["t 1", "t 1", "t 2", "t 2"]
    assert not hold.is_over
    assert names(hold.release(1)) == []
    assert names(hold.release(3)) == ["t 3", "t 3"]
    assert hold.is_over


def test_it_is_not_over_while_the_last_hold_lasts() -> None:
    hold = GeneralHold()
    hold.hold(1)
    hold.hold(2)
    hold.release(1)
    assert not hold.is_over
    hold.add(live("x"))
    assert names(hold.release(2)) == ["t x"]
    assert hold.is_over


def test_what_waits_for_one_consumer_can_be_taken() -> None:
    hold = GeneralHold()
    for number in (1, 2):
        hold.hold(number)
        hold.add(live(f"a{number}"))
        hold.add(live(f"b{number}", handle=2))
    assert names(hold.take(2)) == ["t b1", "t b2"]
    assert hold.take(2) == []
    assert names(hold.release(2)) == ["t a1", "t a2"]
    assert hold.is_over


def test_a_retained_message_takes_its_place_in_everybodys_hold_too() -> None:
    general = GeneralHold()
    for number, payload in enumerate(["2", "3", "3", "4"], 1):
        general.hold(number)
        general.add(live(payload))
        general.add(live(payload, handle=2))
    assert ended(live("1"), live("3"), kept("3"), kept("7", "u"), general=general) == ["R u 7", "t 1", "t 3"]
    released = general.release(4)
    assert names([each for each in released if each[0] == 1]) == ["t 2", "t 3", "R t 3", "t 4"]
    assert names([each for each in released if each[0] == 2]) == ["t 2", "t 3", "t 3", "t 4"]


def test_who_subscribed_again_gets_both_from_everybodys_hold() -> None:
    general = GeneralHold()
    general.hold(1)
    for payload in "234":
        general.add(live(payload))
    assert ended(kept("3"), again=True, general=general) == []
    assert names(general.release(1)) == ["t 2", "t 3", "R t 3", "t 4"]
