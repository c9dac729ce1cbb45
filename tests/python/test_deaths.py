"""What consumers were at when their process died, as its parent finds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mqttasgi.cluster import deaths
from mqttasgi.cluster.deaths import AtWork, Deaths

ANN, BOB = 1, 2


@dataclass
class Message:
    payload: bytes
    topic: str = "a"


class Life:
    """Two processes, of which one dies again and again, and their parent."""

    def __init__(self) -> None:
        self.parent = Deaths(2)
        self.other = AtWork(self.parent.memory, 0)
        self.other.consumer(ANN, "ann")
        self.begin()

    def begin(self) -> None:
        self.process = AtWork(self.parent.memory, 1)
        self.process.consumer(ANN, "ann")
        self.process.consumer(BOB, "bob")

    def begins(self, handle: int, payload: bytes) -> int:
        times = self.process.times(handle, Message(payload))
        self.process.begins(handle, Message(payload))
        return times

    def handles(self, handle: int, payload: bytes) -> int:
        times = self.begins(handle, payload)
        self.process.ends(handle)
        self.process.over(handle, Message(payload))
        return times

    def dies(self) -> None:
        self.parent.died(1)
        self.begin()


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    yield life
    life.parent.close()


def test_what_is_handled_counts(life: Life) -> None:
    """Not what was before, nor the same for another consumer."""
    life.handles(ANN, b"1")
    life.begins(ANN, b"2")
    life.begins(BOB, b"1")
    life.dies()
    assert [life.handles(ANN, b"1"), life.handles(BOB, b"1"), life.begins(ANN, b"2")] == [0, 1, 1]
    life.dies()
    assert [life.begins(ANN, b"1"), life.begins(BOB, b"1"), life.begins(ANN, b"2")] == [0, 0, 2]


def test_a_consumer_that_has_failed_handles_nothing(life: Life) -> None:
    life.begins(ANN, b"1")
    life.process.ends(ANN)
    life.process.ends(ANN)
    life.dies()
    assert life.begins(ANN, b"1") == 0


def test_in_a_row(life: Life) -> None:
    """What was handled begins anew, in all processes."""
    for times in range(4):
        assert life.begins(ANN, b"1") == life.other.times(ANN, Message(b"1")) == times
        life.dies()
    life.other.over(ANN, Message(b"1"))
    assert life.begins(ANN, b"1") == 0
    life.dies()
    assert life.begins(ANN, b"1") == life.other.times(ANN, Message(b"1")) == 1


def test_who_dies_without_work_is_nobodys(life: Life) -> None:
    life.other.begins(ANN, Message(b"1"))
    life.dies()
    assert life.begins(ANN, b"1") == 0


def test_more_consumers_than_there_is_room_for(life: Life) -> None:
    for handle in range(deaths._SLOTS + 1):
        life.begins(handle, b"")
        life.begins(handle, b"%d" % handle)
    for handle in (deaths._SLOTS, 0):
        life.process.ends(handle)
    life.begins(9999, b"9999")
    life.dies()
    found = [life.begins(handle, b"%d" % handle) for handle in (0, 3, deaths._SLOTS, 9999)]
    assert found == [0, 1, 0, 1]


def test_the_oldest_are_forgotten(life: Life) -> None:
    for number in range(deaths._MOST + 1):
        life.begins(ANN, b"%d" % number)
        life.dies()
    assert [life.begins(ANN, b"%d" % number) for number in (0, 1, deaths._MOST)] == [0, 1, 1]


def test_without_a_parent() -> None:
    process = AtWork(-1, 3)
    process.begins(ANN, Message(b""))
    process.over(ANN, Message(b""))
    process.ends(ANN)
    assert process.times(ANN, Message(b"")) == 0
