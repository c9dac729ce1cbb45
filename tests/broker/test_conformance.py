"""A consumer receives what an ordinary subscriber receives.

A generated script runs against both: an ordinary MQTT 5 client, and a consumer that subscribes to the same. After each
step both have caught up, and what they received is compared: the same messages with the same QoS and retain flag, in
the same order per topic, nothing twice.

Two things are not compared because MQTT does not promise them: an order between messages of different QoS (MQTT 5,
4.6), so a burst has one QoS; and, of overlapping subscriptions, how often the client gets a message (3.3.4 lets the
broker send one copy each, Mosquitto does), so the client's copies of one message count as one, at the highest QoS.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.elsewhere import CONNECTS, delivered
from support.processes import wait_until

TOPICS = ["c/a", "c/b", "c/a/a", "c/a/b", "c/b/b", "c/a/b/c", "c"]
FILTERS = ["c/#", "c/+", "c/a", "c/a/+", "c/+/b", "c/a/#", "+/a/b", "c/b", "c/+/b/c"]

Message = tuple[str, bytes, int, bool]


def once(messages: list[Message]) -> list[Message]:
    """Each message once, at the highest QoS that it came with."""
    found: dict[tuple[str, bytes, bool], int] = {}
    for topic, payload, qos, retain in messages:
        key = (topic, payload, retain)
        found[key] = max(found.get(key, 0), qos)
    return [(topic, payload, qos, retain) for (topic, payload, retain), qos in found.items()]


class Subscriber:
    """The ordinary one, whose session outlives its connections."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.filters: dict[str, int] = {}
        self._barriers = 0
        self._connect()

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0xFFFFFFFF
        self._seen = 0
        # Mosquitto 2.0.11 saves no session that began with Clean Start.
        self.client = self._broker.client(client_id="ordinary", clean=False, connect_properties=properties)
        self.client.subscribe("barrier", 2)

    def go_away(self) -> None:
        self.client.abort()

    def come_back(self) -> None:
        self._connect()
        for topic, qos in self.filters.items():
            self.client.subscribe(topic, delivered(qos))

    def subscribe(self, topic: str, qos: int) -> None:
        self.filters[topic] = qos
        self.client.subscribe(topic, delivered(qos))

    def unsubscribe(self, topic: str) -> None:
        self.filters.pop(topic, None)
        self.client.unsubscribe(topic)

    def take(self, publisher: Client) -> list[Message]:
        """What came since the last time, each message once."""
        # Numbered: one that was not acknowledged when the connection broke comes again.
        self._barriers += 1
        number = str(self._barriers).encode()
        publisher.publish("barrier", number, 2)

        def reached() -> bool:
            return any(m.topic == "barrier" and m.payload == number for m in self.client.messages)

        wait_until(reached, 10, "the barrier")
        new = self.client.messages[self._seen :]
        self._seen += len(new)
        return once([(m.topic, bytes(m.payload), m.qos, bool(m.retain)) for m in new if m.topic != "barrier"])


class Mirror:
    """The consumer, by remote control."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._number = 0
        client.subscribe("did", 1)

    def call(self, method: str, to_qos: int = 1, /, **arguments: Any) -> Any:
        self._number += 1
        self._client.publish(f"do/0/{method}", json.dumps({"number": self._number, **arguments}), qos=to_qos)
        while True:
            answer = json.loads(self._client.wait_for("did", timeout=10).payload)
            if answer["number"] == self._number:
                return answer["result"]

    def take(self) -> list[Message]:
        # Behind everything that comes through the session, then behind what comes directly.
        self.call("ping", 2)
        received = self.call("report", 1)
        return [(topic, base64.b64decode(payload), qos, retain) for topic, payload, qos, retain in received]


def by_topic(messages: list[Message]) -> dict[tuple[str, int], list[bytes]]:
    """In the order that MQTT promises (MQTT 5, 4.6): that of each topic and QoS.

    The ordinary subscriber hands a message of QoS 2 over when the broker releases it, and so behind later ones.
    """
    found: dict[tuple[str, int], list[bytes]] = {}
    for topic, payload, qos, retain in messages:
        if not retain:
            found.setdefault((topic, qos), []).append(payload)
    return found


def in_order(messages: list[Message]) -> bool:
    """Whether those of each topic come as they were published, whatever their QoS."""
    numbers: dict[str, list[int]] = {}
    for topic, payload, _, retain in messages:
        if not retain:
            numbers.setdefault(topic, []).append(int(payload))
    return all(found == sorted(found) for found in numbers.values())


def kept(messages: list[Message]) -> list[tuple[str, bytes, int]]:
    return sorted((topic, payload, qos) for topic, payload, qos, retain in messages if retain)


class Script:
    """One run: chooses steps, carries them out on both sides, compares."""

    def __init__(self, broker: Broker, seed: int) -> None:
        self.broker = broker
        self.random = random.Random(seed)
        self.seed = seed
        self.number = 0
        self.log: list[str] = []
        #: Whether each message was with the broker before the next was published.
        self.one_by_one = False
        self.subscriber = Subscriber(broker)
        self._connect()

    def _connect(self) -> None:
        self.publisher = self.broker.client()
        self.others = [self.broker.client() for _ in range(2)]
        self.mirror = Mirror(self.broker.client())

    def payload(self) -> bytes:
        self.number += 1
        return str(self.number).encode()

    def note(self, text: str) -> None:
        self.log.append(text)

    def compare(self) -> None:
        ordinary = self.subscriber.take(self.publisher)
        consumer = self.mirror.take()
        text = f"seed {self.seed}, step {len(self.log)}; the last steps:\n" + "\n".join(self.log[-12:])
        if self.one_by_one:
            assert in_order(consumer), f"{text}\nout of order: {consumer}"
        if self.one_by_one and CONNECTS:
            # What the session has kept comes for subscriptions that the new process does not know, and so for all; what
            # was retained and not handled comes again.
            assert {message[:2] for message in ordinary} <= {message[:2] for message in consumer}, text
        else:
            assert by_topic(consumer) == by_topic(ordinary), text
            # Overlapping filters that are subscribed to at once bring a retained message once for each of them.
            assert kept(once(consumer) if CONNECTS else consumer) == kept(ordinary), text
        self.one_by_one = False

    # ---- steps ----

    def subscribe(self) -> None:
        topic, qos = self.random.choice(FILTERS), self.random.randrange(3)
        self.note(f"subscribe {topic} at {qos}")
        self.subscriber.subscribe(topic, qos)
        self.mirror.call("subscribe", topic=topic, qos=qos)

    def unsubscribe(self) -> None:
        if not self.subscriber.filters:
            return
        topic = self.random.choice(sorted(self.subscriber.filters))
        self.note(f"unsubscribe {topic}")
        self.subscriber.unsubscribe(topic)
        self.mirror.call("unsubscribe", topic=topic)

    def publish(self) -> None:
        topic, qos = self.random.choice(TOPICS), self.random.randrange(3)
        retain = self.random.random() < 0.4
        payload = b"" if retain and self.random.random() < 0.2 else self.payload()
        self.note(f"publish {topic} {payload!r} qos {qos} retain {retain}")
        self.publisher.publish(topic, payload, qos, retain)

    def publish_in_turn(self) -> None:
        """Each QoS after the other, as soon as the broker has taken the one before."""
        topic = self.random.choice(TOPICS)
        self.note(f"publish to {topic} at 1, 2, 1, 0")
        for qos in (1, 2, 1, 0):
            self.publisher.publish(topic, self.payload(), qos)
            # MQTT promises no order between them, so each has to have arrived.
            self.compare()

    def burst(self) -> None:
        """Of several clients at once, each with its topics."""
        qos = self.random.randrange(3)
        self.note(f"burst at qos {qos}")
        shares = [TOPICS[index :: len(self.others)] for index in range(len(self.others))]
        for _ in range(15):
            for client, topics in zip(self.others, shares):
                client.publish(self.random.choice(topics), self.payload(), qos, wait=False)
        for client in self.others:
            client.publish("elsewhere", b"", 2)

    def die(self) -> None:
        topic, qos = self.random.choice(TOPICS), self.random.randrange(3)
        retain = self.random.random() < 0.4
        self.note(f"last will on {topic} qos {qos} retain {retain}")
        gone = self.broker.client(will=(topic, self.payload(), qos, retain))
        gone.publish(topic, self.payload(), 1)
        gone.abort()
        # Its will is out when others have seen the client go.
        self.broker.wait_for_log(
            rf"Client {gone.client_id}.* (closed its connection|disconnected: connection closed)"
        )

    def restart(self) -> None:
        """The broker comes back with what it had; meanwhile nobody can publish."""
        self.note("restart")
        self.subscriber.go_away()
        self.broker.restart()
        self._connect()
        self.subscriber.come_back()

    def fail(self) -> None:
        """The application fails and is given up, messages come, and a restart brings it back."""
        self.note("fail, publish, restart")
        position = len(self.broker.log())
        self.publisher.publish("do/0/fail", json.dumps({"number": 0}), 1)
        self.broker.wait_for_failure(position)
        self.subscriber.go_away()
        self.broker.wait_for_log("Client ordinary", since=position)
        for _ in range(self.random.randrange(1, 8)):
            topic, qos = self.random.choice(TOPICS), self.random.randrange(3)
            self.publisher.publish(topic, self.payload(), qos, self.random.random() < 0.2)
        self.one_by_one = True
        self.broker.restart()
        self._connect()
        self.subscriber.come_back()

    def run(self, steps: int) -> None:
        common: list[Callable[[], None]] = [
            *[self.subscribe] * 5,
            *[self.unsubscribe] * 2,
            *[self.publish] * 10,
            self.publish_in_turn,
            *[self.burst] * 2,
            *[self.die] * 2,
        ]
        rare = [self.restart, self.fail]
        for step in range(steps):
            choices = rare if step % 75 == 74 else common
            self.random.choice(choices)()
            self.compare()


@pytest.mark.parametrize(
    ("seed", "steps"),
    [
        (1, 300),
        (2, 300),
        *[pytest.param(seed, 1000, marks=pytest.mark.long) for seed in range(3, 13)],
    ],
)
def test_a_consumer_receives_what_an_ordinary_subscriber_does(
    broker: BrokerFactory, tmp_path: Path, seed: int, steps: int
) -> None:
    started = broker(
        "apps.mirror:application",
        environment={"TEST_FILTERS": str(tmp_path / "filters")},
        options={"cleansession": False, "retries": 1},
        persistence=True,
        expect_traceback="as told",
    )
    started.wait_for_session()
    Script(started, seed).run(steps)
