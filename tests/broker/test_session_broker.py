"""A broker that misbehaves towards the session at each step of a delivery: nothing is lost, nothing comes twice.

It is the real one, behind a proxy that knows packets: it loses connections where it is told to, and changes what goes
through.
"""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.consumers import Consumers, Heard
from support.listeners import Cut, Packet, PacketProxy
from support.packets import PUBACK, PUBCOMP, PUBREC, PUBREL, PacketClient
from support.processes import wait_until

PUBLISH = 3
LOST = "The session with the listener at .* is lost"
BACK = "The session with the listener at .* is back"
#: QoS 1 answers a PUBLISH with PUBACK; each step is before a packet goes on, or after.
STEPS = {
    1: [(PUBLISH, False), (PUBLISH, True), (PUBACK, False), (PUBACK, True)],
    2: [
        *[(PUBLISH, False), (PUBLISH, True), (PUBREC, False), (PUBREC, True)],
        *[(PUBREL, False), (PUBREL, True), (PUBCOMP, False), (PUBCOMP, True)],
    ],
}


class Behind:
    """A broker whose session goes through a proxy, and a consumer that hears `w/+` at QoS 2."""

    def __init__(self, broker: BrokerFactory, **arguments: Any) -> None:
        self.proxy = PacketProxy(0)
        options = {"port": self.proxy.port, "retries": 0, "client_id": "hub", **arguments.pop("options", {})}
        self.broker: Broker = broker("apps.listener:application", start=False, options=options, **arguments)
        self.proxy.target = self.broker.port
        self.proxy.start()
        self.broker.start()
        self.broker.wait_for_log("(Session|The session) with the listener at", timeout=20)
        self.consumers = Consumers(self.broker)
        self.consumers.subscribe("w/+", 2)
        self.client: Client = self.broker.client()
        self._since = 0

    def payloads(self, topic: str = "w/x") -> list[str]:
        return [message.payload for message in self.consumers.heard() if message.topic == topic]

    def cut_at(self, kind: int, after: bool, payload: bytes = b"cut here") -> None:
        """Break the connection at a step of the delivery of that message, once."""
        numbers: list[int] = []
        done = threading.Event()

        def rule(packet: Packet) -> bytes:
            if packet.kind == PUBLISH and packet.payload == payload and not packet.upwards:
                numbers.append(packet.packet)
            belongs = packet.packet in numbers if packet.kind != PUBLISH else packet.payload == payload
            if belongs and packet.kind == kind and not done.is_set():
                done.set()
                raise Cut(packet.raw if after else b"")
            return packet.raw

        self._since = len(self.broker.log())
        self.proxy.rule = rule

    def wait_until_back(self) -> None:
        self.broker.wait_for_log(BACK, timeout=40, since=self._since)


@pytest.fixture
def behind(broker: BrokerFactory) -> Iterator[Behind]:
    made = Behind(broker)
    yield made
    made.proxy.stop()


@pytest.mark.parametrize("others", [0, 8])
@pytest.mark.parametrize(
    ("qos", "kind", "after"), [(q, *step) for q, steps in STEPS.items() for step in steps]
)
def test_a_cut_at_each_step(behind: Behind, qos: int, kind: int, after: bool, others: int) -> None:
    """Alone, and among others that are in flight.

    A retained message is what the session brings with QoS 1; at QoS 1, one that the broker has not got acknowledged may
    come twice (MQTT 5, 4.3.2), but no other is lost or doubled.
    """
    behind.cut_at(kind, after)
    lane = {"retain": qos == 1}
    if qos == 1:
        # It is fetched while the consumer subscribes.
        behind.client.publish("kept/x", b"cut here", 1, **lane)
        behind.consumers.call("subscribe", topic="kept/+", qos=1)
        behind.wait_until_back()
        assert set(behind.payloads("kept/x")) == {"cut here"}
        return
    for number in range(others):
        behind.client.publish("w/x", str(number), qos, wait=False)
    behind.client.publish("w/x", b"cut here", qos, wait=False)
    for number in range(others, 2 * others):
        behind.client.publish("w/x", str(number), qos, wait=False)
    behind.wait_until_back()
    behind.client.publish("w/x", b"last", qos)
    came = Counter(behind.payloads())
    expected = [*[str(number) for number in range(2 * others)], "cut here", "last"]
    assert came == Counter(expected)


def test_a_publish_that_comes_again(behind: Behind) -> None:
    """With DUP, in the same connection; the broker knows nothing of it."""
    repeated: list[int] = []

    def rule(packet: Packet) -> bytes:
        if packet.kind == PUBLISH and packet.topic == "w/x" and not packet.upwards:
            repeated.append(packet.packet)
            return packet.raw + packet.again()
        if packet.kind == PUBREC and packet.packet in repeated and packet.upwards:
            repeated.remove(packet.packet)
            return b""
        return packet.raw

    behind.proxy.rule = rule
    for number in range(100):
        behind.client.publish("w/x", str(number), 2, wait=number % 15 == 14)
    behind.client.publish("w/y", b"", 2)
    assert behind.payloads() == [str(number) for number in range(100)]
    # A message is handed over before its PUBREC goes out.
    wait_until(lambda: not repeated, 5, "the last acknowledgement")


def test_packet_identifiers_that_mean_nothing(behind: Behind) -> None:
    answers: list[bytes] = []

    def rule(packet: Packet) -> bytes:
        if packet.kind == PUBLISH and packet.topic == "w/x" and not packet.upwards:
            return b"\x62\x02\xff\x01" + packet.raw + b"\x62\x02\xff\x02"
        if packet.kind == PUBCOMP and packet.packet > 0xFF00:
            answers.append(packet.raw)
            return b""
        return packet.raw

    behind.proxy.rule = rule
    for number in range(10):
        behind.client.publish("w/x", str(number), 2)
    assert behind.payloads() == [str(number) for number in range(10)]
    assert answers == [b"\x70\x03\xff\x01\x92", b"\x70\x03\xff\x02\x92"] * 10


def test_out_of_order(behind: Behind) -> None:
    """Each second PUBLISH changes places with the one before."""
    held: list[bytes] = []

    def rule(packet: Packet) -> bytes:
        if packet.kind == PUBLISH and packet.topic == "w/x" and not packet.upwards:
            if not held:
                held.append(packet.raw)
                return b""
            return packet.raw + held.pop()
        return packet.raw

    behind.proxy.rule = rule
    for number in range(100):
        behind.client.publish("w/x", str(number), 2, wait=number % 14 == 13)
    behind.client.publish("w/y", b"", 2)
    assert behind.payloads() == [str(number ^ 1) for number in range(100)]


def test_a_message_that_cannot_be_read(behind: Behind) -> None:
    """It is passed over: a broker that lets one through sends it again to each new connection."""
    done = threading.Event()

    def rule(packet: Packet) -> bytes:
        if packet.kind == PUBLISH and packet.payload == b"5" and not done.is_set():
            done.set()
            return b"\x30\x03\x00\x01+" + packet.raw
        return packet.raw

    since = len(behind.broker.log())
    behind.proxy.rule = rule
    for number in range(10):
        behind.client.publish("w/x", str(number), 2, wait=False)
    behind.broker.wait_for_log(
        "sent the session what MQTT 5 does not allow: a PUBLISH whose topic is none", since=since
    )
    behind.client.publish("w/y", b"", 2)
    assert behind.payloads() == [str(number) for number in range(10)]
    assert "is lost" not in behind.broker.log()[since:]


@pytest.mark.parametrize("nonsense", [b"\x36\x00", b"\xf0\x00", b"\x30\xff\xff\xff\xff"])
def test_what_is_not_mqtt(behind: Behind, nonsense: bytes) -> None:
    """The session says it, comes back, and nothing is lost."""
    done = threading.Event()

    def rule(packet: Packet) -> bytes:
        if packet.kind == PUBLISH and packet.payload == b"5" and not done.is_set():
            done.set()
            return nonsense + packet.raw
        return packet.raw

    since = len(behind.broker.log())
    behind.proxy.rule = rule
    for number in range(10):
        behind.client.publish("w/x", str(number), 2, wait=False)
    behind.broker.wait_for_log("is lost: it sent what MQTT 5 does not allow", since=since)
    behind.broker.wait_for_log(BACK, since=since)
    behind.client.publish("w/y", b"", 2)
    assert sorted(behind.payloads()) == [str(number) for number in range(10)]


def test_a_session_that_the_broker_has_forgotten(behind: Behind) -> None:
    """Packet identifiers begin anew; that of a message whose delivery broke off is another one's."""
    behind.client.publish("w/x", b"before", 2)
    since = len(behind.broker.log())
    behind.cut_at(PUBREC, False)
    behind.proxy.target = 0
    behind.client.publish("w/x", b"cut here", 2, wait=False)
    behind.broker.wait_for_log(LOST, since=since)
    # Somebody else ends the session.
    with PacketClient(behind.broker.port, "hub", clean=True) as thief:
        thief.disconnect()
    behind.proxy.target = behind.broker.port
    behind.wait_until_back()
    for number in range(300):
        behind.client.publish("w/x", str(number), 2, wait=number % 15 == 14)
    behind.client.publish("w/y", b"", 2)
    came = behind.payloads()
    assert came[0] == "before"
    assert [p for p in came if p.isdigit()] == [str(number) for number in range(300)]
    assert came.count("cut here") == 1, "it was handed over before"


def flood(port: int, topic: str, lines: int) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(port), "-t", topic, "-l", "-q", "2"],
        input="".join(f"{number}\n" for number in range(lines)),
        text=True,
        check=True,
        timeout=300,
    )


@pytest.mark.long
def test_packet_identifiers_that_come_round_again(broker: BrokerFactory) -> None:
    """What was under way when a connection broke has nothing to do with what has its number 65,535 messages later."""
    behind = Behind(broker, lines=["max_queued_messages 100000"])
    for turn in range(3):
        behind.cut_at(PUBREC, False, f"unlock {turn}".encode())
        behind.client.publish("w/x", f"unlock {turn}", 2)
        behind.wait_until_back()
        behind.proxy.rule = None
        assert behind.payloads() == [f"unlock {turn}"]
        for _ in range(7):
            flood(behind.broker.port, "w/x", 9500)
            assert behind.payloads() == [str(number) for number in range(9500)]
    behind.proxy.stop()


@pytest.mark.long
def test_a_consumer_that_is_stuck(broker: BrokerFactory) -> None:
    """For longer than the broker waits for a sign of life, and its queue is full.

    The session reads nothing meanwhile, and stays all the same.
    """
    started = broker(
        "apps.listener:application",
        lines=["max_keepalive 10", "max_queued_messages 100000"],
        options={"queue_size": 200, "watchdog": 60, "retries": 0},
    )
    started.wait_for_log("Session with the listener")
    consumers = Consumers(started, keepalive=10)
    consumers.subscribe("w/+", 2)
    since = len(started.log())
    blocking = consumers.begin("block", seconds=35)
    flood(started.port, "w/x", 3000)
    # Its answer comes when it is no longer stuck.
    consumers.finish(blocking, timeout=90)
    assert consumers.heard() == [Heard("w/x", str(number), 2, False) for number in range(3000)]
    log = started.log()[since:]
    assert log.count("Received PINGREQ from mqttasgi-") >= 3
    assert "is lost" not in log and "exceeded timeout" not in log
