"""What the broker holds ready for the session, and what becomes of what finds no room there or on the way."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.consumers import Consumers, Heard

APPLICATION = "apps.listener:application"
UP = "Session with the listener at"


def test_a_filter_that_does_not_go_through(broker: BrokerFactory) -> None:
    """It is said, no consumer waits for it, and the others are in force."""
    started = broker("apps.long_filter:application", lines=["max_packet_size 300"])
    started.wait_for_log(UP)
    started.wait_for_log("The session's subscription to 'long/y+' is not in force: ")
    client = started.client()
    client.subscribe("heard", qos=1)
    for topic in ("kept/x", "again"):
        client.publish(topic, "1", qos=1)
        assert client.wait_for("heard").payload == topic.encode()
    assert started.log().count("The session's subscription to") == 1


def retain(started: Broker, count: int, size: int, qos: int) -> list[str]:
    """Let the broker keep so many messages; return their payloads."""
    client = started.client(client_id="publisher")
    payloads = [f"{number} ".ljust(size, "x") for number in range(count)]
    for number, payload in enumerate(payloads):
        client.publish(f"many/{number}", payload, qos, retain=True, wait=number % 500 == 499)
    client.publish("elsewhere", qos=1)
    return payloads


def all_heard(consumers: Consumers) -> list[Heard]:
    """What a consumer has received. The broker may drop what is asked by the session, too: until that gets through."""
    for _ in range(20):
        with contextlib.suppress(AssertionError):
            consumers.finish(consumers.begin("nothing", over=2), timeout=1)
            break
    else:
        pytest.fail("the session brings nothing")
    return [Heard(*message) for message in consumers.call("report")]


def check_use(started: Broker, consumers: Consumers) -> None:
    """The session brings a last will still."""
    victim = started.client(will=("will/x", "gone", 1, False))
    watcher = started.client()
    watcher.subscribe("will/x")
    consumers.subscribe("will/+", 1)
    victim.abort()
    watcher.wait_for("will/x")
    assert Heard("will/x", "gone", 1, False) in all_heard(consumers)


def fetch_many(
    broker: BrokerFactory, folder: Path, way: str, qos: int, *, max_queued_messages: int
) -> tuple[Broker, Consumers, list[str], list[Heard]]:
    """Subscribe to 10,000 retained messages; return the broker, its consumers, what was retained and what came."""
    started = broker(
        APPLICATION,
        lines=[f"max_queued_messages {max_queued_messages}", f"listener 0 {folder / 's'}"],
        options={"host": folder / "s", "port": 0} if way == "unix" else {},
        log_types=("error", "warning", "notice", "information"),
    )
    started.wait_for_log(UP)
    expected = retain(started, 10000, 1000, qos)
    consumers = Consumers(started)
    consumers.subscribe("many/+", 1)
    heard = [message for message in all_heard(consumers) if message.topic.startswith("many/")]
    return started, consumers, expected, heard


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_more_retained_messages_than_the_broker_holds_ready(
    broker: BrokerFactory, tmp_path: Path, way: str, qos: int
) -> None:
    """Some may be missing, none comes twice, and the session does without a new connection that it says nothing of."""
    started, consumers, expected, heard = fetch_many(broker, tmp_path, way, qos, max_queued_messages=20)
    if "has left out some" in started.log():
        started.wait_for_log("is back", timeout=30)
    assert heard
    assert max(Counter(heard).values()) == 1
    assert {message.payload for message in heard} <= set(expected)
    check_use(started, consumers)
    assert "is lost" not in started.log()
    assert "does not answer" not in started.log()


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_many_retained_messages(broker: BrokerFactory, tmp_path: Path, way: str, qos: int) -> None:
    started, consumers, expected, heard = fetch_many(broker, tmp_path, way, qos, max_queued_messages=100000)
    assert sorted(message.payload for message in heard) == sorted(expected)
    assert "being dropped" not in started.log()
    check_use(started, consumers)
