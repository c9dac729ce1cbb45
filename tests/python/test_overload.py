"""Bounds of what waits, in messages and bytes, and which messages make room."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from fake_bridge import FakeBridge, FakeClientMessage, FakeMessage

from mqttasgi.runtime.overload import LOOKED_AT, Overload, drop_oldest


class Crowd:
    """A consumer of which only the queue counts."""

    def __init__(self, *items: Any) -> None:
        self.queue: deque[Any] = deque(items)
        self.queue_bytes = sum(item[1].size for item in items if isinstance(item, tuple))

    def __str__(self) -> str:
        return "Crowd (worker, app_id 1)"

    def payloads(self) -> list[str]:
        return [item[1].payload.decode() for item in self.queue]


def delivery(payload: str, session: bool = False, topic: str = "t") -> Any:
    return (1, FakeMessage(topic, payload.encode(), 0, session=session), 0)


def add(overload: Overload, crowd: Crowd, item: Any, now: float = 0.0) -> bool:
    """As the runtime does."""
    admitted = overload.admit(crowd, item, now)
    if admitted:
        crowd.queue.append(item)
        crowd.queue_bytes += item[1].size
    return admitted


@pytest.fixture
def bridge() -> Any:
    made = FakeBridge()
    yield made
    made.close()


@pytest.mark.parametrize(("policy", "left"), [("drop_newest", "0123"), ("drop_oldest", "6789")])
def test_messages(bridge: FakeBridge, policy: str, left: str) -> None:
    overload, crowd = Overload(bridge, 4, 0, policy), Crowd()
    for number in range(10):
        assert add(overload, crowd, delivery(str(number))) == (number < 4 or policy == "drop_oldest")
    assert "".join(crowd.payloads()) == left
    assert bridge.statistics["messages/dropped/consumer_queue"] == 6


@pytest.mark.parametrize(
    ("policy", "left"), [("drop_newest", ["aaaa", "bb"]), ("drop_oldest", ["ccccc", "dd"])]
)
def test_bytes(bridge: FakeBridge, policy: str, left: list[str]) -> None:
    # Each has a topic of one byte.
    overload, crowd = Overload(bridge, 0, 9, policy), Crowd()
    for payload in ["aaaa", "bb", "ccccc", "dd"]:
        add(overload, crowd, delivery(payload))
    assert crowd.payloads() == left
    assert crowd.queue_bytes == sum(len(payload) + 1 for payload in left)


def test_one_that_is_larger_than_the_bound_passes_alone(bridge: FakeBridge) -> None:
    overload, crowd = Overload(bridge, 0, 9, "drop_oldest"), Crowd()
    assert add(overload, crowd, delivery("x" * 100))
    assert add(overload, crowd, delivery("y" * 100))
    assert crowd.payloads() == ["y" * 100]
    assert not add(Overload(bridge, 0, 9), crowd, delivery("z"))


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_what_may_not_be_dropped_stays_and_comes(bridge: FakeBridge, policy: str) -> None:
    overload = Overload(bridge, 2, 0, policy)
    kept = [
        delivery("session", session=True),
        (1, FakeClientMessage({"id": "c"}), 0),
        delivery("more", session=True),
    ]
    crowd = Crowd()
    for item in kept:
        assert add(overload, crowd, item)
    assert not add(overload, crowd, delivery("live"))
    assert list(crowd.queue) == kept


def test_the_log_says_so_once_a_second(bridge: FakeBridge) -> None:
    overload, crowd = Overload(bridge, 1, 0), Crowd(delivery("first"))
    for hundredth in range(250):
        overload.admit(crowd, delivery("x", topic="a/b"), 100 + hundredth / 100)
    assert [line.split()[0] for _, line in bridge.lines] == ["1", "100", "100"]
    assert "the newest first" in bridge.text() and "topic 'a/b'" in bridge.text()
    assert "Crowd (worker, app_id 1)" in bridge.text() and "consumer_queue_size (1)" in bridge.text()
    assert bridge.statistics["messages/dropped/consumer_queue"] == 250


def test_trimming_takes_from_the_longest(bridge: FakeBridge) -> None:
    bridge.queue_size = 160
    crowds = [Crowd(*(delivery(str(number)) for number in range(count))) for count in (100, 5, 90, 0)]
    bridge.crowd = lambda: sum(len(crowd.queue) for crowd in crowds)
    Overload(bridge, policy="drop_oldest").trim(crowds, 0)
    assert [len(crowd.queue) for crowd in crowds][1] == 5
    assert 160 * 15 // 16 - 64 <= bridge.crowd() <= 160 * 15 // 16
    # The newest are left.
    assert crowds[0].payloads()[-1] == "99" and crowds[2].payloads()[-1] == "89"
    assert bridge.statistics["messages/dropped/queue"] == 195 - bridge.crowd()
    assert "messages for consumers dropped, the oldest first, the last of Crowd" in bridge.text()
    before = bridge.crowd()
    Overload(bridge, policy="drop_oldest").trim(crowds, 0)
    assert bridge.crowd() == before


def test_trimming_ends_where_nothing_may_be_dropped(bridge: FakeBridge) -> None:
    bridge.queue_size = 1
    crowds = [
        Crowd(*(delivery("x", session=True) for _ in range(LOOKED_AT * 2))),
        Crowd(delivery("a"), delivery("b")),
    ]
    bridge.crowd = lambda: sum(len(crowd.queue) for crowd in crowds)
    Overload(bridge, policy="drop_oldest").trim(crowds, 0)
    assert [len(crowd.queue) for crowd in crowds] == [LOOKED_AT * 2, 0]


def test_dropping_where_bytes_are_not_counted() -> None:
    crowd = Crowd(delivery("a"), delivery("b"))
    crowd.queue_bytes = 0
    assert drop_oldest(crowd)
    assert crowd.payloads() == ["b"] and crowd.queue_bytes == 0
