"""What only the plugin's own MQTT session brings, and that nothing comes twice because it came both ways."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.consumers import CallFailed, Consumers, Heard, Writer
from support.packets import PUBCOMP, PUBREC, PacketClient
from support.processes import wait_until

SUPPORT = Path(__file__).resolve().parents[1] / "support"


def start(broker: BrokerFactory, **arguments: Any) -> Broker:
    """Starts a broker with `apps.listener` and waits for its session."""
    started = broker("apps.listener:application", **arguments)
    started.wait_for_log("Session with the listener")
    return started


@pytest.fixture
def started(broker: BrokerFactory) -> Broker:
    return start(broker)


@pytest.fixture
def consumers(started: Broker) -> Consumers:
    return Consumers(started)


@pytest.fixture
def client(started: Broker) -> Client:
    return started.client()


def retained(messages: list[Heard]) -> list[tuple[str, str]]:
    """Topics and payloads of those with retain true; in the order of topics, for MQTT promises none."""
    return sorted((message.topic, message.payload) for message in messages if message.retain)


def live(messages: list[Heard]) -> list[Heard]:
    return [message for message in messages if not message.retain]


def taken(client: Client) -> None:
    """Returns when the broker has what a client has published, at QoS 0, too."""
    client.publish("elsewhere", qos=1)


def die(client: Client, witness: Client) -> None:
    """Ends a client without a goodbye, and returns when somebody else has its will."""
    client.abort()
    witness.wait_for()


# ---- retained messages ----


def test_retained_messages_reach_the_one_who_subscribes(consumers: Consumers, client: Client) -> None:
    consumers.spawn(1, 2)
    consumers.subscribe("r/#", 2, to=1)
    client.publish("r/a", "1", qos=1, retain=True)
    client.publish("r/b", "2", qos=2, retain=True)
    assert consumers.heard(1) == [Heard("r/a", "1", 1, False), Heard("r/b", "2", 2, False)]

    consumers.subscribe("r/#", 2, to=2)
    assert sorted(consumers.heard(2)) == [Heard("r/a", "1", 1, True), Heard("r/b", "2", 2, True)]
    consumers.subscribe("r/+", 0)
    assert sorted(consumers.heard()) == [Heard("r/a", "1", 0, True), Heard("r/b", "2", 0, True)]
    assert consumers.heard(1) == consumers.heard(2) == []


@pytest.mark.parametrize("publish_qos", [0, 1, 2])
def test_retained_messages_come_each_time_at_the_lower_qos(
    consumers: Consumers, client: Client, publish_qos: int
) -> None:
    client.publish("r/a", "1", publish_qos, retain=True)
    taken(client)
    for subscribe_qos in (2, 1, 0, 2, 2):
        consumers.subscribe("r/a", subscribe_qos)
        assert consumers.heard() == [Heard("r/a", "1", min(publish_qos, subscribe_qos), True)]
    consumers.unsubscribe("r/a")
    consumers.subscribe("r/a", 1)
    assert consumers.heard() == [Heard("r/a", "1", min(publish_qos, 1), True)]


def test_each_of_overlapping_filters_brings_retained_messages(consumers: Consumers, client: Client) -> None:
    client.publish("r/a/b", "1", qos=1, retain=True)
    for topic in ("r/#", "r/+/b", "r/a/b", "+/a/#"):
        consumers.subscribe(topic, 1)
        assert consumers.heard() == [Heard("r/a/b", "1", 1, True)], topic


def test_many_consumers_subscribe_at_once(consumers: Consumers, client: Client) -> None:
    """Each gets what was retained once, whether the plugin asked the broker once for all of them or not."""
    workers = range(1, 9)
    consumers.spawn(*workers)
    for number in range(20):
        client.publish(f"r/{number}", str(number), qos=1, retain=True)
    for worker in workers:
        command = {"number": -worker, "arguments": {"topic": "r/#", "qos": worker % 3}}
        client.publish(f"do/{worker}/subscribe", json.dumps(command), qos=1, wait=False)
    for _ in workers:
        consumers.client.wait_for("did")
    expected = [(f"r/{number}", str(number)) for number in range(20)]
    for worker in workers:
        assert retained(consumers.heard(worker)) == sorted(expected)


def test_a_cleared_message_is_not_retained(consumers: Consumers, client: Client) -> None:
    client.publish("r/a", "1", qos=1, retain=True)
    client.publish("r/b", "2", qos=1, retain=True)
    client.publish("r/a", "", qos=1, retain=True)
    consumers.subscribe("r/#")
    assert consumers.heard() == [Heard("r/b", "2", 1, True)]
    client.publish("r/b", "", qos=1, retain=True)
    assert consumers.heard() == [Heard("r/b", "", 1, False)]
    consumers.subscribe("r/#")
    assert consumers.heard() == []


def test_what_was_retained_before_the_broker_started(broker: BrokerFactory, tmp_path: Path) -> None:
    file = tmp_path / "subscriptions.json"
    file.write_text(json.dumps({"r/#": 1}))
    started = start(broker, persistence=True, environment={"TEST_SUBSCRIPTIONS": str(file)})
    for number in range(50):
        started.client().publish(f"r/{number}", str(number), qos=1, retain=True)
    since = len(started.log())
    started.restart()
    started.wait_for_log("Session with the listener", since=since)
    heard = Consumers(started).heard()
    assert retained(heard) == sorted((f"r/{number}", str(number)) for number in range(50))
    assert live(heard) == []


def check_follow_up(heard: list[Heard], topic: str, at_most: int, *, again: bool = False) -> list[int]:
    """Checks what came from a `Writer` for one subscription: from the beginning on nothing lost, old after new, or
    twice. `at_most` is the highest number that may come first; `again` says that the filter was subscribed already,
    so that the retained message may be one that came before."""
    mine = [message for message in heard if message.topic == topic]
    numbers = [int(message.payload) for message in mine]
    assert numbers and numbers[0] <= at_most, (topic, numbers[:5], at_most)
    for before, after in zip(mine, mine[1:]):
        step = int(after.payload) - int(before.payload)
        repeated = again and step == 0 and after.retain and not before.retain
        assert step == 1 or repeated, (topic, before, after)
    assert sum(message.retain for message in mine) == 1, (topic, [m for m in mine if m.retain])
    return numbers


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_under_a_publisher_that_keeps_writing(consumers: Consumers, client: Client, qos: int) -> None:
    topics = [f"w/{number}" for number in range(4)]
    with Writer(client, topics, qos, retain=True) as writer:
        for _ in range(15):
            consumers.subscribe("w/+", 2)
            at_most = writer.taken + 1
            writer.advance(20)
            consumers.unsubscribe("w/+")
            heard = consumers.heard()
            for topic in topics:
                check_follow_up(heard, topic, at_most)
        consumers.subscribe("w/+", 2)
        at_most = writer.taken + 1
        writer.advance(50)
    heard = consumers.heard()
    for topic in topics:
        assert check_follow_up(heard, topic, at_most)[-1] == writer.taken


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscribing_again_under_a_publisher_that_keeps_writing(
    consumers: Consumers, client: Client, qos: int
) -> None:
    """Nothing that the first subscription brings is lost or doubled, and the retained message comes in its place."""
    consumers.spawn(1)
    consumers.subscribe("w/+", 2, to=1)
    consumers.subscribe("w/+", 2)
    times = 15
    with Writer(client, ["w/x", "w/y"], qos, retain=True) as writer:
        for _ in range(times):
            writer.advance(10)
            consumers.subscribe("w/+", 2)
    heard, undisturbed = consumers.heard(), consumers.heard(1)
    for topic in writer.topics:
        expected = list(range(1, writer.taken + 1))
        assert [int(m.payload) for m in live(heard) if m.topic == topic] == expected
        assert [int(m.payload) for m in undisturbed if m.topic == topic] == expected
        numbers = [int(message.payload) for message in heard if message.topic == topic]
        assert numbers == sorted(numbers)
        assert sum(m.topic == topic and m.retain for m in heard) == times
    assert retained(undisturbed) == []


# ---- last wills ----


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_a_last_will(started: Broker, consumers: Consumers, client: Client, qos: int, retain: bool) -> None:
    client.subscribe("dying/+")
    consumers.subscribe("dying/+", 2)
    die(started.client(will=("dying/lamp", "offline", qos, retain)), client)
    assert consumers.heard() == [Heard("dying/lamp", "offline", qos, False)]
    consumers.subscribe("dying/lamp", 1)
    assert consumers.heard() == ([Heard("dying/lamp", "offline", min(qos, 1), True)] if retain else [])


def test_only_who_vanishes_has_a_last_will(started: Broker, consumers: Consumers, client: Client) -> None:
    client.subscribe("dying/#")
    consumers.subscribe("dying/#", 2)
    polite = started.client(will=("dying/polite", "gone", 1, False))
    polite.close()
    asking = started.client(will=("dying/asking", "gone", 1, False))
    asking.paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    assert client.wait_for().topic == "dying/asking"
    assert consumers.heard() == [Heard("dying/asking", "gone", 1, False)]


def test_a_client_that_is_taken_over(started: Broker, consumers: Consumers, client: Client) -> None:
    client.subscribe("dying/#")
    consumers.subscribe("dying/#", 2)
    started.client(client_id="twin", will=("dying/first", "gone", 1, False))
    started.client(client_id="twin", will=("dying/second", "gone", 1, False))
    assert client.wait_for().topic == "dying/first"
    assert consumers.heard() == [Heard("dying/first", "gone", 1, False)]


def mortal(started: Broker, name: str, delay: int) -> Client:
    """A client whose will is sent when it has been away for some seconds."""
    connect, will = Properties(PacketTypes.CONNECT), Properties(PacketTypes.WILLMESSAGE)
    connect.SessionExpiryInterval = 60
    will.WillDelayInterval = delay
    return started.client(
        client_id=name, will=(f"dying/{name}", "gone", 1, False, will), connect_properties=connect
    )


def test_delayed_wills(started: Broker, consumers: Consumers, client: Client) -> None:
    client.subscribe("dying/#")
    consumers.subscribe("dying/#", 2)
    mortal(started, "a", 1).abort()
    mortal(started, "returning", 1).abort()
    started.client(client_id="returning", clean=False)
    mortal(started, "b", 2).abort()
    # When the later one has come, the one that was called off would have come too.
    assert [client.wait_for(timeout=10).topic for _ in range(2)] == ["dying/a", "dying/b"]
    assert consumers.heard() == [Heard("dying/a", "gone", 1, False), Heard("dying/b", "gone", 1, False)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_like_the_last_live_message(
    started: Broker, consumers: Consumers, client: Client, qos: int
) -> None:
    client.subscribe("dying/+", qos=2)
    consumers.subscribe("dying/+", 2)
    for _ in range(10):
        victim = started.client(will=("dying/lamp", "same", qos, False))
        victim.publish("dying/lamp", "same", qos)
        client.wait_for()
        die(victim, client)
    assert consumers.heard() == [Heard("dying/lamp", "same", qos, False)] * 20


def test_a_will_comes_after_what_its_client_said(
    started: Broker, consumers: Consumers, client: Client
) -> None:
    """And before what is said after it, though one comes the direct lane and the other does not."""
    client.subscribe("dying/+", qos=2)
    consumers.subscribe("dying/+", 2)
    expected = []
    for number in range(30):
        victim = started.client(will=("dying/lamp", f"gone {number}", 1, False))
        victim.publish("dying/lamp", f"here {number}", 1)
        client.wait_for()
        die(victim, client)
        client.publish("dying/lamp", f"again {number}", 1)
        client.wait_for()
        expected += [f"here {number}", f"gone {number}", f"again {number}"]
    assert [message.payload for message in consumers.heard()] == expected


# ---- $SYS and other plugins ----


def test_the_brokers_own_topics(broker: BrokerFactory) -> None:
    started = start(broker, lines=["sys_interval 1"])
    consumers, client = Consumers(started), started.client()
    consumers.subscribe("#", 0)
    # Comes once, at start, and stays: there since the first interval.
    client.subscribe("$SYS/broker/version")
    version = client.wait_for(timeout=10)
    heard = consumers.heard()
    assert not [message for message in heard if message.topic.startswith("$")], (
        "a wildcard matches no $ topics"
    )
    consumers.unsubscribe("#")
    consumers.heard()
    consumers.subscribe("$SYS/#", 0)
    first = consumers.heard()
    assert [m.payload for m in first if m.topic == version.topic and m.retain] == [version.payload.decode()]
    assert sum(message.retain for message in first) > 10
    # Later values are live ones.
    client.subscribe("$SYS/broker/uptime")
    seen = [client.wait_for("$SYS/broker/uptime", timeout=10).payload.decode() for _ in range(4)]
    later = [m for m in live(first + consumers.heard()) if m.topic == "$SYS/broker/uptime"]
    payloads = [message.payload for message in later]
    assert set(seen[1:]) <= set(payloads)
    assert len(payloads) == len(set(payloads))


@pytest.fixture(scope="module")
def speaking_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin that publishes on `said/<qos>` what comes on `ask/<qos>`."""
    plugin = tmp_path_factory.mktemp("plugin") / "speaking_plugin.so"
    compiler = os.environ.get("CC", "gcc")
    source = SUPPORT / "speaking_plugin.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-g", "-O1", "-o", plugin, source], check=True)
    return plugin


@pytest.mark.parametrize("place", ["lines", "lines_after"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_another_plugin_publishes(
    broker: BrokerFactory, speaking_plugin: Path, place: str, qos: int
) -> None:
    started = start(broker, **{place: [f"plugin {speaking_plugin}"]})
    consumers, client, witness = Consumers(started), started.client(), started.client()
    consumers.subscribe("said/#", 2)
    consumers.subscribe("ask/#", 2)
    witness.subscribe("said/#", qos=2)
    for number in range(20):
        client.publish(f"ask/{qos}", str(number // 2), qos=1, retain=number == 19)
        witness.wait_for()
    heard = consumers.heard()
    numbers = [str(number // 2) for number in range(20)]
    assert [m.payload for m in heard if m.topic == f"said/{qos}" and m.qos == qos] == numbers
    assert [m.payload for m in heard if m.topic == f"ask/{qos}"] == numbers
    assert len(heard) == 40
    consumers.subscribe("said/+", 2)
    assert consumers.heard() == [Heard(f"said/{qos}", "9", qos, True)]


# ---- shared subscriptions ----


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_sharing_with_an_ordinary_client(
    started: Broker, consumers: Consumers, client: Client, qos: int
) -> None:
    other = started.client()
    other.subscribe("$share/group/s/#", qos=2)
    other.subscribe("barrier", qos=qos)
    consumers.subscribe("$share/group/s/#", 2)
    for number in range(100):
        client.publish("s/x", str(number), qos)
    client.publish("barrier", b"", qos)
    other.wait_for("barrier")
    heard = consumers.heard()
    beside = [message.payload.decode() for message in other.messages if message.topic == "s/x"]
    assert Counter(m.payload for m in heard) + Counter(beside) == Counter(str(n) for n in range(100))
    assert len(heard) > 20 and len(beside) > 20
    assert {(message.qos, message.retain) for message in heard} == {(qos, False)}
    numbers = [int(message.payload) for message in heard]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_consumers_of_one_application_share(consumers: Consumers, client: Client, qos: int) -> None:
    consumers.spawn(1)
    for app_id in (0, 1):
        consumers.subscribe("$share/group/s/+", 2, to=app_id)
    for _ in range(100):
        client.publish("s/x", "all the same", qos)
    taken(client)
    shares = [consumers.heard(app_id) for app_id in (0, 1)]
    assert sorted(map(len, shares)) == [50, 50]
    assert {(m.payload, m.qos, m.retain) for share in shares for m in share} == {("all the same", qos, False)}
    consumers.unsubscribe("$share/group/s/+", to=1)
    for number in range(10):
        client.publish("s/x", str(number), qos)
    taken(client)
    assert [message.payload for message in consumers.heard()] == [str(number) for number in range(10)]
    assert consumers.heard(1) == []
    consumers.unsubscribe("$share/group/s/+")
    client.publish("s/x", "nobody", qos)
    taken(client)
    assert consumers.heard() == []


def test_two_groups_get_everything_each(consumers: Consumers, client: Client) -> None:
    consumers.spawn(1)
    consumers.subscribe("$share/a/s/+", 1)
    consumers.subscribe("$share/b/s/+", 1, to=1)
    consumers.spawn(2)
    consumers.subscribe("s/+", 1, to=2)
    for number in range(20):
        client.publish("s/x", str(number), qos=1)
    expected = [Heard("s/x", str(number), 1, False) for number in range(20)]
    assert consumers.heard(0) == consumers.heard(1) == consumers.heard(2) == expected


def test_nothing_retained_comes_for_a_shared_subscription(consumers: Consumers, client: Client) -> None:
    """MQTT 5, 4.8.2: retained messages are not sent when it is made."""
    client.publish("s/x", "kept", qos=1, retain=True)
    consumers.subscribe("$share/group/s/+", 1)
    assert consumers.heard() == []


@pytest.mark.parametrize(
    "topic", ["$share/group", "$share//x", "$share/+/x", "$share/group/", "$share/g/x/#/y"]
)
def test_shared_filters_that_are_none(consumers: Consumers, topic: str) -> None:
    with pytest.raises(CallFailed, match="^ValueError: filter "):
        consumers.subscribe(topic, 1)


# ---- QoS 2 ----


def test_qos_2_is_received_when_it_is_released(started: Broker, consumers: Consumers) -> None:
    consumers.subscribe("q/+", 2)
    with PacketClient(started.port, "careful") as client:
        client.publish("q/x", b"1", 2, packet=1)
        client.expect(PUBREC, 1)
        client.publish("q/x", b"2", 2, packet=2)
        client.expect(PUBREC, 2)
        assert consumers.heard() == []
        client.release(1)
        client.expect(PUBCOMP, 1)
        assert consumers.heard() == [Heard("q/x", "1", 2, False)]
    # The second is never released.
    assert consumers.heard() == []


def test_qos_2_sent_again_is_received_once(started: Broker, consumers: Consumers) -> None:
    consumers.subscribe("q/+", 2)
    with PacketClient(started.port, "insistent") as client:
        for _ in range(3):
            client.publish("q/x", b"same", 2, packet=7)
            client.expect(PUBREC, 7)
            # Only once: Mosquitto 2.0.11 takes a second one for an error.
            client.publish("q/x", b"same", 2, packet=7, dup=True)
            client.expect(PUBREC, 7)
            for _ in range(2):
                client.release(7)
                client.expect(PUBCOMP, 7)
    # A packet identifier that is free again belongs to a new message.
    assert consumers.heard() == [Heard("q/x", "same", 2, False)] * 3


def test_qos_2_sent_again_over_a_new_connection_is_received_once(
    started: Broker, consumers: Consumers
) -> None:
    consumers.subscribe("q/+", 2)
    with PacketClient(started.port, "insistent", clean=False) as client:
        client.publish("q/x", b"1", 2, packet=1)
        client.expect(PUBREC, 1)
        client.publish("q/x", b"2", 2, packet=2)
        client.expect(PUBREC, 2)
        client.release(2)
        client.expect(PUBCOMP, 2)
    with PacketClient(started.port, "insistent", clean=False) as client:
        client.publish("q/x", b"1", 2, packet=1, dup=True)
        client.expect(PUBREC, 1)
        for _ in range(2):
            client.release(1)
            client.expect(PUBCOMP, 1)
    assert sorted(consumers.heard()) == [Heard("q/x", "1", 2, False), Heard("q/x", "2", 2, False)]


def test_both_qos_on_one_topic(consumers: Consumers, client: Client) -> None:
    """Each keeps its order. Between them MQTT promises none (MQTT 5, 4.6): the end of QoS 2 takes longer to reach any
    subscriber."""
    consumers.subscribe("q/+", 2)
    for number in range(200):
        client.publish("q/x", str(number), qos=1 + number % 2)
    heard = consumers.heard()
    for qos in (1, 2):
        assert [int(m.payload) for m in heard if m.qos == qos] == list(range(qos - 1, 200, 2))
    assert len(heard) == 200


# ---- once, although there are two ways ----


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("subscribe_qos", [0, 2])
def test_the_same_payload_many_times(
    consumers: Consumers, client: Client, qos: int, subscribe_qos: int
) -> None:
    consumers.subscribe("same/#", subscribe_qos)
    consumers.subscribe("same/+", subscribe_qos)
    for _ in range(500):
        client.publish("same/x", "same", qos)
    taken(client)
    assert consumers.heard() == [Heard("same/x", "same", min(qos, subscribe_qos), False)] * 500


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_consumers_publish_themselves(consumers: Consumers, qos: int) -> None:
    consumers.spawn(1)
    consumers.subscribe("own/#", 2)
    consumers.subscribe("own/x", 2, to=1)
    for app_id in (0, 1):
        consumers.call("publish_often", app_id, topic="own/x", payload="same", qos=qos, times=100)
    for app_id in (0, 1):
        assert consumers.heard(app_id) == [Heard("own/x", "same", qos, False)] * 200


def test_the_same_from_everywhere(broker: BrokerFactory, speaking_plugin: Path) -> None:
    """A client, a consumer, another plugin and a last will say the same on one topic, over and over."""
    started = start(broker, lines=[f"plugin {speaking_plugin}"])
    consumers, client, witness = Consumers(started), started.client(), started.client()
    witness.subscribe("said/1", qos=2)
    consumers.subscribe("said/+", 2)
    for _ in range(10):
        victim = started.client(will=("said/1", "same", 1, False))
        for qos in (0, 1, 2):
            client.publish("said/1", "same", qos)
            witness.wait_for()
        consumers.call("publish", topic="said/1", payload="same", qos=1)
        witness.wait_for()
        client.publish("ask/1", "same", qos=1)
        witness.wait_for()
        die(victim, witness)
    heard = consumers.heard()
    # Not by their QoS: of two that are alike and under way at once, nobody can tell which is the copy of which.
    assert {(message.topic, message.payload, message.retain) for message in heard} == {
        ("said/1", "same", False)
    }
    assert len(heard) == 60


def test_copies_that_never_come_swallow_nothing(broker: BrokerFactory, tmp_path: Path) -> None:
    """The broker may drop what it has for the session, here because an ACL forbids it: later messages with the same
    content, which only the session brings, are others."""
    rules = tmp_path / "acl"
    forbidden = "topic readwrite #\ntopic deny dying/lamp\n"
    rules.write_text(f"{forbidden}user test\ntopic readwrite #\n")
    started = start(broker, lines=[f"acl_file {rules}"])
    consumers = Consumers(started, username="test")
    client = started.client(username="test")
    client.subscribe("dying/#", qos=2)
    consumers.subscribe("dying/#", 2)
    for _ in range(100):
        client.publish("dying/lamp", "same", qos=1)
        client.wait_for()
    # Through the direct lane, to which the session's rights do not matter.
    assert consumers.heard() == [Heard("dying/lamp", "same", 1, False)] * 100
    rules.write_text("topic readwrite #\nuser test\ntopic readwrite #\n")
    since = len(started.log())
    started.reload()
    started.wait_for_log("Reloading config", since=since)

    def allowed() -> bool:
        # One after the other, each with the same content.
        die(started.client(username="test", will=("dying/lamp", "same", 1, False)), client)
        return consumers.heard() != []

    wait_until(allowed, 10, "a will that nothing swallows")
    for _ in range(5):
        die(started.client(username="test", will=("dying/lamp", "same", 1, False)), client)
    assert consumers.heard() == [Heard("dying/lamp", "same", 1, False)] * 5


# ---- filters ----


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "filters", [{"f/#": 0, "f/+": 2}, {"f/#": 1, "f/x": 0, "+/x": 1}, {"f/x": 0, "#": 0}]
)
def test_overlapping_filters(consumers: Consumers, client: Client, qos: int, filters: dict[str, int]) -> None:
    for topic, subscribe_qos in filters.items():
        consumers.subscribe(topic, subscribe_qos)
    for number in range(50):
        client.publish("f/x", str(number), qos)
    taken(client)
    heard = [message for message in consumers.heard() if message.topic == "f/x"]
    lower = min(qos, max(filters.values()))
    assert heard == [Heard("f/x", str(number), lower, False) for number in range(50)]


def test_a_filter_of_many_consumers(consumers: Consumers, client: Client) -> None:
    qos_of = {0: 0, 1: 2, 2: 1, 3: 0, 4: 2}
    consumers.spawn(*range(1, 5))
    for app_id, qos in qos_of.items():
        consumers.subscribe("f/+", qos, to=app_id)
    for qos in (0, 1, 2):
        for number in range(20):
            client.publish("f/x", str(number), qos)
        taken(client)
        for app_id, own in qos_of.items():
            expected = [Heard("f/x", str(number), min(qos, own), False) for number in range(20)]
            assert consumers.heard(app_id) == expected
    # Whoever leaves does so alone.
    for app_id in (1, 4, 0):
        consumers.unsubscribe("f/+", to=app_id)
        client.publish("f/x", "still here", qos=2)
        del qos_of[app_id]
        for other, own in qos_of.items():
            assert consumers.heard(other) == [Heard("f/x", "still here", own, False)]
        assert consumers.heard(app_id) == []


def check_complete(numbers: list[int], writer: Writer, qos: int) -> None:
    """Everything that was written came, once; in order, unless the subscription's QoS made two QoS of one, between
    which MQTT promises none (MQTT 5, 4.6): the end of QoS 2 takes longer than QoS 1."""
    expected = range(1, writer.taken + 1)
    times = Counter(numbers)
    assert set(expected) - set(numbers) == set(), "lost"
    assert [number for number in times if times[number] > 1] == [], "doubled"
    assert qos == 2 or numbers == list(expected)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscribing_at_another_qos_with_messages_under_way(
    consumers: Consumers, client: Client, qos: int
) -> None:
    consumers.subscribe("f/+", 2)
    with Writer(client, ["f/x"], qos) as writer:
        for number in range(20):
            consumers.subscribe("f/+", number % 3)
            writer.advance(5)
        consumers.subscribe("f/+", 1)
        settled = writer.taken + 1
        writer.advance(20)
    heard = consumers.heard()
    check_complete([int(message.payload) for message in heard], writer, qos)
    assert all(message.qos <= qos for message in heard)
    # The writer may have been between two messages when the last subscribe() returned.
    assert {message.qos for message in heard if int(message.payload) > settled} == {min(qos, 1)}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_unsubscribing_with_messages_under_way(consumers: Consumers, client: Client, qos: int) -> None:
    """Who unsubscribes gets what came before, without a gap; who stays misses nothing."""
    consumers.spawn(1)
    consumers.subscribe("f/+", 2, to=1)
    with Writer(client, ["f/x"], qos) as writer:
        for _ in range(15):
            consumers.subscribe("f/+", 2)
            first = writer.taken + 1
            writer.advance(10)
            last = writer.taken
            consumers.unsubscribe("f/+")
            numbers = [int(message.payload) for message in consumers.heard()]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert numbers[0] <= first + 1
            assert numbers[-1] >= last
            writer.advance(5)
            assert consumers.heard() == []
    numbers = [int(message.payload) for message in consumers.heard(1)]
    assert numbers == list(range(1, writer.taken + 1))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_overlapping_filters_that_come_and_go(consumers: Consumers, client: Client, qos: int) -> None:
    """One filter stays in force all the time; others come and go beside it."""
    consumers.subscribe("f/#", 1)
    with Writer(client, ["f/x", "f/y"], qos) as writer:
        for _ in range(10):
            for topic, other in (("f/+", 2), ("f/x", 0), ("+/y", 2)):
                consumers.subscribe(topic, other)
                writer.advance(3)
            for topic in ("f/x", "+/y", "f/+"):
                consumers.unsubscribe(topic)
                writer.advance(3)
    heard = consumers.heard()
    for topic in writer.topics:
        check_complete([int(m.payload) for m in heard if m.topic == topic], writer, qos)


# ---- cleansession false ----


class Kept:
    """A broker that is restarted with what it kept, and whose application fails in between."""

    def __init__(self, broker: BrokerFactory, folder: Path, *, clean: bool = False) -> None:
        self.file = folder / "subscriptions.json"
        self.subscribe({"k/#": 2})
        self.broker = start(
            broker,
            persistence=True,
            options={"cleansession": clean, "retries": 1},
            environment={"TEST_SUBSCRIPTIONS": str(self.file)},
            expect_traceback="RuntimeError: as told",
        )
        self.clean = clean

    def subscribe(self, filters: dict[str, int]) -> None:
        """What the application subscribes to when it is started the next time."""
        self.file.write_text(json.dumps(filters))

    def fail(self) -> None:
        """Let the master fail until it is given up, and return when the plugin has drawn its conclusions."""
        since = len(self.broker.log())
        with self.broker.client() as client:
            client.publish("do/0/break", "{}", qos=1)
        said = "is given up" if self.clean else "The application has failed: the broker keeps"
        self.broker.wait_for_log(said, since=since, timeout=20)

    def restart(self) -> None:
        self.broker.restart()


@pytest.fixture
def kept(broker: BrokerFactory, tmp_path: Path) -> Kept:
    return Kept(broker, tmp_path)


def test_what_comes_while_the_application_has_failed_is_kept(kept: Kept) -> None:
    kept.fail()
    client = kept.broker.client()
    for number in range(100):
        for qos in (0, 1, 2):
            client.publish(f"k/{qos}", str(number), qos)
    kept.restart()
    heard = Consumers(kept.broker).heard()
    for qos in (1, 2):
        expected = [Heard(f"k/{qos}", str(number), qos, False) for number in range(100)]
        assert [message for message in heard if message.topic == f"k/{qos}"] == expected
    # MQTT 5, 3.1.2.11.2: QoS 0 need not be kept, and Mosquitto does not.
    assert [message for message in heard if message.topic == "k/0"] == []


def test_kept_messages_come_once(kept: Kept) -> None:
    """Not again after the next restart, and none of those that had been handled before the failure."""
    client = kept.broker.client()
    for number in range(50):
        client.publish("k/x", f"before {number}", qos=1)
    before = Consumers(kept.broker).heard()
    assert [message.payload for message in before] == [f"before {number}" for number in range(50)]
    for round_number in range(3):
        kept.fail()
        client = kept.broker.client()
        for number in range(20):
            client.publish("k/x", f"{round_number} {number}", qos=1)
        kept.restart()
        heard = Consumers(kept.broker).heard()
        assert [m.payload for m in heard] == [f"{round_number} {number}" for number in range(20)]
        kept.restart()
        assert Consumers(kept.broker).heard() == []


def test_live_messages_come_after_the_kept_ones(kept: Kept) -> None:
    kept.fail()
    client = kept.broker.client()
    for number in range(200):
        client.publish("k/x", str(number), qos=1)
    kept.restart()
    # At once: the session may not be there yet.
    client = kept.broker.client()
    for number in range(200, 300):
        client.publish("k/x", str(number), qos=1)
    assert [int(m.payload) for m in Consumers(kept.broker).heard()] == list(range(300))


def test_wills_and_identical_messages_are_kept(kept: Kept) -> None:
    witness = kept.broker.client()
    witness.subscribe("k/#", qos=1)
    kept.fail()
    for _ in range(5):
        victim = kept.broker.client(will=("k/x", "same", 1, False))
        victim.publish("k/x", "same", qos=1)
        witness.wait_for()
        die(victim, witness)
    kept.restart()
    assert Consumers(kept.broker).heard() == [Heard("k/x", "same", 1, False)] * 10


def test_overlapping_filters_bring_a_kept_message_once(broker: BrokerFactory, tmp_path: Path) -> None:
    kept = Kept(broker, tmp_path)
    kept.subscribe({"k/#": 1, "k/+": 2, "k/x": 0})
    kept.restart()
    Consumers(kept.broker)
    kept.broker.wait_for_log("(?s)Session with the listener.*Session with the listener")
    kept.fail()
    client = kept.broker.client()
    for number in range(50):
        client.publish("k/x", str(number // 2), qos=1 + number % 2)
    kept.restart()
    heard = Consumers(kept.broker).heard()
    # Between the two QoS MQTT promises no order.
    for qos in (1, 2):
        assert [m.payload for m in heard if m.qos == qos] == [str(number) for number in range(25)]
    assert len(heard) == 50


def test_an_application_that_no_longer_wants_them(kept: Kept) -> None:
    kept.fail()
    client = kept.broker.client()
    client.publish("k/old", "1", qos=1)
    client.publish("k/new", "2", qos=1)
    kept.subscribe({"k/new": 1})
    kept.restart()
    consumers = Consumers(kept.broker)
    assert [message.payload for message in consumers.heard()] == ["2"]
    kept.broker.client().publish("k/old", "3", qos=1)
    assert consumers.heard() == []


def test_with_cleansession_nothing_is_kept(broker: BrokerFactory, tmp_path: Path) -> None:
    kept = Kept(broker, tmp_path, clean=True)
    kept.fail()
    client = kept.broker.client()
    client.publish("k/x", "lost", qos=1)
    client.publish("k/y", "retained", qos=1, retain=True)
    kept.restart()
    kept.broker.wait_for_log("(?s)Session with the listener.*Session with the listener")
    assert Consumers(kept.broker).heard() == [Heard("k/y", "retained", 1, True)]


# ---- volume ----


class Traffic:
    """Publishes so many messages a second at QoS 0 until the `with` block ends."""

    def __init__(self, client: Client, topics: list[str], rate: int) -> None:
        self.sent = 0
        self._client = client
        self._topics = topics
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        # The broker has them all when it has acknowledged this.
        self._client.publish("elsewhere", qos=1)

    def _run(self) -> None:
        pause = 0.01
        while not self._stop.wait(pause):
            for _ in range(int(self._rate * pause)):
                self._client.publish(self._topics[self.sent % len(self._topics)], str(self.sent))
                self.sent += 1


@pytest.mark.parametrize("qos", [0, 1])
def test_5000_retained_topics_beside_live_traffic(
    started: Broker, consumers: Consumers, client: Client, qos: int
) -> None:
    """Mosquitto drops what a client does not read in time (max_queued_messages); the session must be in time."""
    expected = [(f"many/{number}", f"value {number}") for number in range(5000)]
    for topic, payload in expected:
        client.publish(topic, payload, qos, retain=True, wait=False)
    taken(client)
    consumers.spawn(1)
    consumers.subscribe("live/+", 2)
    with Traffic(started.client(), ["live/a", "live/b"], 2000) as traffic:
        wait_until(lambda: traffic.sent > 1000, 10, "the traffic")
        for _ in range(3):
            consumers.subscribe("many/+", 1, to=1)
            before = traffic.sent
            wait_until(lambda: traffic.sent > before + 1000, 10, "more traffic")  # noqa: B023
            heard = consumers.heard(1)
            assert retained(heard) == sorted(expected)
            assert live(heard) == []
    assert [int(message.payload) for message in consumers.heard()] == list(range(traffic.sent))
    assert "dropped" not in started.log()
