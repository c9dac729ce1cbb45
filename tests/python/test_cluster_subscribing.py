"""What `--connect` asks a broker, over connections that are lost, without a broker."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from mqttasgi.cluster.log import Log
from mqttasgi.cluster.statistics import Statistics
from mqttasgi.cluster.subscribing import Subscribing
from mqttasgi.runtime.bridge import NOT_SHARED

ME, YOU = 1, 2


class FakeConnection:
    """Remembers what was sent; the numbers of packets count."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[str] = []

    def subscribe(self, topic_filter: str, _options: int, _identifier: int) -> int:
        self.sent.append(f"+{topic_filter}")
        return len(self.sent)

    def unsubscribe(self, topic_filter: str) -> int:
        self.sent.append(f"-{topic_filter}")
        return len(self.sent)


@pytest.fixture
def connection() -> FakeConnection:
    return FakeConnection()


@pytest.fixture
def answers() -> dict[int, int]:
    return {}


@pytest.fixture
def subscribing(connection: FakeConnection, answers: dict[int, int]) -> Subscribing:
    given: Any = connection
    answer: Callable[[int, int], None] = answers.__setitem__
    return Subscribing("", given, answer, Log(0, 1, 0), Statistics())


def test_a_refusal_takes_it_from_nobody_who_had_it(
    subscribing: Subscribing, connection: FakeConnection, answers: dict[int, int]
) -> None:
    """Neither from another consumer, nor for ever after a broker has come back that refuses for a while."""
    subscribing.subscribe(ME, "a", 0, 1)
    subscribing.answered(1, [0])
    subscribing.subscribe(YOU, "a", 1, 2)
    subscribing.answered(2, [0x87])
    assert answers == {1: 0, 2: 0x87}
    assert subscribing.filters.recipients("a", (), False) == [(ME, 0)]
    for number in (3, 4):
        subscribing.down()
        subscribing.up(False)
        subscribing.answered(number, [0x97])
    assert connection.sent == ["+a"] * 4


@pytest.mark.parametrize("session_present", [False, True])
def test_what_nobody_wants_any_more_is_not_asked_again(
    subscribing: Subscribing, connection: FakeConnection, answers: dict[int, int], session_present: bool
) -> None:
    """Who has asked may have ended while there was no connection; others wait for their answers."""
    subscribing.subscribe(ME, "mine", 1, 1)
    connection.is_up = False
    subscribing.down()
    subscribing.unsubscribe(ME, "mine", 2)
    subscribing.subscribe(YOU, "yours", 1, 3)
    connection.is_up = True
    subscribing.up(session_present)
    assert connection.sent == ["+mine", "-mine", "+yours"]
    assert answers == {1: 0}
    for number in (2, 3):
        subscribing.answered(number, [0])
    assert answers[2] == answers[3] == 0
    assert not subscribing.waits


def test_what_is_shared_is_asked_for_over_each_connection(
    connection: FakeConnection, answers: dict[int, int]
) -> None:
    """Mosquitto 2.0.11 forgets it when it is started again, and keeps the session."""
    given: Any = connection
    subscribing = Subscribing("fleet", given, answers.__setitem__, Log(0, 1, 0), Statistics())
    subscribing.subscribe(ME, "a", 1, 1)
    subscribing.subscribe(ME, "b", 1 | NOT_SHARED, 2)
    for number in (1, 2):
        subscribing.answered(number, [0])
    subscribing.down()
    subscribing.up(True)
    assert connection.sent == ["+$share/fleet/a", "+b", "+$share/fleet/a"]
