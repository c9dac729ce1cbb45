"""More messages than are handled: which are dropped, who loses them, and that the broker does not grow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.processes import SANITIZER, wait_until


def start(
    broker: BrokerFactory, folder: Path, *, blocks: bool = False, **options: Any
) -> tuple[Broker, Client, Path]:
    """Start `apps.crowded`; return it, a client that hears both consumers, and the file that lets the slow one go."""
    go = folder / "go"
    environment = {"TEST_GO": str(go)}
    if blocks:
        environment["TEST_BLOCKS"] = "1"
    started = broker("apps.crowded:application", options=options, environment=environment)
    # Until then messages are kept back.
    started.wait_for_log("Session with the listener")
    client = started.client()
    for topic in ("ready", "taken", "by/quick", "by/slow"):
        client.subscribe(topic, qos=1)
    client.wait_for("ready")
    return started, client, go


def numbers(client: Client, topic: str, count: int) -> list[int]:
    return [int(client.wait_for(topic, timeout=20).payload) for _ in range(count)]


def publish(client: Client, topic: str, count: int, payload: str = "") -> None:
    """Publish numbers, the second when the slow consumer has the first in hand."""
    for number in range(count):
        client.publish(topic, f"{number}{payload}", qos=1)
        if number == 0:
            client.wait_for("taken")


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_one_that_is_stuck_takes_no_room_from_others(
    broker: BrokerFactory, tmp_path: Path, policy: str
) -> None:
    started, client, go = start(broker, tmp_path, queue_size=100, consumer_queue_size=10, overload=policy)
    client.publish("both/x", "0", qos=1)
    assert {client.wait_for().topic, client.wait_for().topic} == {"by/quick", "taken"}
    for number in range(1, 500):
        client.publish("both/x", str(number), qos=1)
        assert numbers(client, "by/quick", 1) == [number]
    started.wait_for_log(
        r"messages for single consumers dropped, the (newest|oldest) first. The last that came was on topic 'both/x' "
        r"for apps\.crowded\.Slow \(worker, app_id 1\).*consumer_queue_size \(10\)"
    )
    go.touch()
    # It has had the first in hand all the time.
    left = range(1, 11) if policy == "drop_newest" else range(490, 500)
    assert numbers(client, "by/slow", 11) == [0, *left]
    client.publish("both/x", "1000", qos=1)
    assert numbers(client, "by/slow", 1) == [1000]


def test_bytes_for_one(broker: BrokerFactory, tmp_path: Path) -> None:
    started, client, go = start(broker, tmp_path, consumer_queue_bytes="20k", overload="drop_oldest")
    publish(client, "slow/x", 100, "." * 3000)
    started.wait_for_log(r"consumer_queue_bytes \(20480\)")
    client.publish("quick/x", "0", qos=1)
    numbers(client, "by/quick", 1)
    go.touch()
    handled = [int(client.wait_for("by/slow").payload.rstrip(b".")) for _ in range(7)]
    assert handled == [0, *range(94, 100)]
    client.publish("slow/x", "1000", qos=1)
    assert numbers(client, "by/slow", 1) == [1000]


@pytest.mark.parametrize("blocks", [False, True])
def test_the_oldest_of_all_make_room(broker: BrokerFactory, tmp_path: Path, blocks: bool) -> None:
    """Whether they wait for a consumer, or, while the loop is blocked, for the loop."""
    started, client, go = start(
        broker, tmp_path, blocks=blocks, queue_size=16, overload="drop_oldest", watchdog=0
    )
    publish(client, "slow/x", 500)
    started.wait_for_log("messages for consumers dropped, the oldest first")
    if not blocks:
        client.publish("quick/x", "500", qos=1)
        assert numbers(client, "by/quick", 1) == [500]
    go.touch()
    handled = [int(client.wait_for("by/slow").payload)]
    while handled[-1] != 499:
        handled += numbers(client, "by/slow", 1)
    assert handled[0] == 0 and handled == sorted(handled)
    # At least half of what may wait has waited to the end; a burst finds as much again in the loop's hands.
    assert handled[-8:] == list(range(492, 500)) and len(handled) <= 34


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_the_session_waits_instead(broker: BrokerFactory, tmp_path: Path, policy: str) -> None:
    """What comes through the session is never dropped, whatever the bounds."""
    started, client, go = start(broker, tmp_path, queue_size=20, consumer_queue_size=5, overload=policy)
    for number in range(300):
        client.publish("slow/x", str(number), qos=2)
    go.touch()
    assert numbers(client, "by/slow", 300) == list(range(300))
    assert "dropped" not in started.log()


def resident(started: Broker) -> int:
    """Bytes of the broker that are in memory."""
    fields = Path(f"/proc/{started.pid}/statm").read_text().split()
    return int(fields[1]) * 4096


def publish_many(client: Client) -> None:
    payload = b"x" * 500
    for _ in range(500):
        client.publish("slow/x", payload, qos=0)
    client.publish("elsewhere", qos=1)


def flood(started: Broker, client: Client, seconds: float) -> tuple[int, int]:
    """Publish until the queue is full and then for so long; return the memory then, and the most since."""

    def full() -> bool:
        publish_many(client)
        return "messages for consumers dropped" in started.log()

    wait_until(full, 60, "the first dropped message")
    at_first = most = resident(started)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        publish_many(client)
        most = max(most, resident(started))
    return at_first, most


def check_flood(broker: BrokerFactory, folder: Path, policy: str, blocks: bool, seconds: float) -> None:
    started, client, go = start(
        broker, folder, blocks=blocks, queue_bytes="8M", overload=policy, watchdog=0, shutdown_timeout=60
    )
    begin = time.monotonic()
    full, most = flood(started, client, seconds)
    # With drop_oldest as much again for a moment, and Python's own objects for each message. A sanitizer keeps what is
    # freed.
    assert SANITIZER or most - full < 24_000_000, f"{full / 1e6:.1f} MB when full, {most / 1e6:.1f} MB since"
    # One a second of the broker's thread, and one of the loop's.
    lines = started.log().count("messages for consumers dropped")
    assert lines <= 2 * (time.monotonic() - begin + 2)
    go.touch()
    # While it is full, this one may be among the newest.
    answers = 0
    while not answers:
        client.publish("quick/x", "7", qos=1)
        client.wait_for(timeout=30)
        answers = sum(message.topic == "by/quick" for message in client.messages)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_flood_does_not_make_the_broker_grow(
    broker: BrokerFactory, tmp_path: Path, policy: str, blocks: bool
) -> None:
    check_flood(broker, tmp_path, policy, blocks, 3)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_minute_of_flood(broker: BrokerFactory, tmp_path: Path, policy: str, blocks: bool) -> None:
    check_flood(broker, tmp_path, policy, blocks, 60)
