"""MQTT 5: properties both ways, replies, and subscription options, beside clients of MQTT 3.1.1 and 5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.consumers import CallFailed, Recorders
from support.elsewhere import CONNECTS, delivered
from support.packets import (
    DISCONNECT,
    PUBACK,
    PacketClient,
    connect_packet,
    packet,
    publish_packet,
    release_packet,
    shout,
    string,
    variable,
)
from support.processes import wait_until
from support.properties import check_properties, from_paho, to_paho

EVERY: dict[str, Any] = {
    "payload_format_indicator": 1,
    "message_expiry_interval": 3600,
    "content_type": "text/plain; charset=utf-8",
    "response_topic": "answers/to me",
    "correlation_data": b"\x00\xff\r\n",
    "user_property": [("room", "hall"), ("unit", "°C"), ("room", "kitchen"), ("room", "hall")],
}
"""Each property that a PUBLISH may have from its sender (MQTT 5, 3.3.2.3), except the topic alias: that belongs to the
connection."""

V311, V5 = 4, 5


def start(broker: BrokerFactory, **arguments: Any) -> Broker:
    """Starts a broker with `apps.recorder` and waits for its session."""
    started = broker("apps.recorder:application", **arguments)
    started.wait_for_session()
    return started


@pytest.fixture
def started(broker: BrokerFactory) -> Broker:
    return start(broker)


@pytest.fixture
def recorders(started: Broker) -> Recorders:
    return Recorders(started)


@pytest.fixture
def client(started: Broker) -> Client:
    return started.client()


def taken(client: Client) -> None:
    """Returns when the broker has what a client has published, at QoS 0, too."""
    client.publish("elsewhere", qos=1)


def payloads(messages: list[dict[str, Any]]) -> list[bytes]:
    return [message["payload"] for message in messages]


# ---- from clients to consumers ----


@pytest.mark.parametrize("message_expiry", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_from_a_client(broker: BrokerFactory, qos: int, message_expiry: bool) -> None:
    started = start(broker, options={"message_expiry": message_expiry})
    recorders, new, old = Recorders(started), started.client(), started.client(protocol=V311)
    recorders.subscribe("p/#")
    for subscriber in (new, old):
        subscriber.subscribe("p/#", 2)

    new.publish("p/a", "from the new", qos, properties=to_paho(EVERY))
    taken(new)
    old.publish("p/a", "from the old", qos)
    taken(old)
    new.publish("p/a", "without", qos)

    expected = [b"from the new", b"from the old", b"without"]
    for subscriber in (new, old):
        received = [subscriber.wait_for("p/a") for _ in expected]
        assert [(m.payload, m.qos, m.retain) for m in received] == [(p, qos, False) for p in expected]
    mine = [message for message in new.messages if message.topic == "p/a"]
    check_properties(from_paho(mine[0]), EVERY)
    assert from_paho(mine[1]) == from_paho(mine[2]) == {}

    messages = recorders.messages()
    assert payloads(messages) == expected
    assert [message["qos"] for message in messages] == [delivered(qos)] * 3
    # Mosquitto takes the interval out before it asks the plugin, so it is known only of what the session brings.
    check_properties(messages[0]["properties"], EVERY, expiry=CONNECTS or message_expiry or qos == 2)
    assert messages[1]["properties"] == messages[2]["properties"] == {}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_property_alone(recorders: Recorders, client: Client, qos: int) -> None:
    recorders.subscribe("p/#")
    variants = [{name: value} for name, value in EVERY.items()] + [{"payload_format_indicator": 0}]
    for variant in variants:
        client.publish("p/a", "", qos, properties=to_paho(variant))
    taken(client)
    messages = recorders.messages()
    assert len(messages) == len(variants)
    for message, variant in zip(messages, variants):
        check_properties(message["properties"], variant, expiry=CONNECTS or qos == 2)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_in_a_retained_message(started: Broker, recorders: Recorders, client: Client, qos: int) -> None:
    client.publish("p/a", "kept", qos, retain=True, properties=to_paho(EVERY))
    started.client(protocol=V311).publish("p/b", "kept, without", 1, retain=True)
    taken(client)
    recorders.subscribe("p/+")
    messages = sorted(recorders.messages(), key=lambda message: str(message["topic"]))
    assert [(m["payload"], m["retain"]) for m in messages] == [(b"kept", True), (b"kept, without", True)]
    check_properties(messages[0]["properties"], EVERY)
    assert messages[1]["properties"] == {}

    old = started.client(protocol=V311)
    old.subscribe("p/a", 2)
    message = old.wait_for("p/a")
    assert (message.payload, message.qos, message.retain) == (b"kept", qos, True)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_in_a_last_will(
    started: Broker, recorders: Recorders, client: Client, qos: int, retain: bool
) -> None:
    recorders.subscribe("p/+")
    old = started.client(protocol=V311)
    for witness in (client, old):
        witness.subscribe("p/+", 2)
    properties = to_paho(EVERY, PacketTypes.WILLMESSAGE)
    started.client(will=("p/a", "gone", qos, retain, properties)).abort()
    check_properties(from_paho(client.wait_for("p/a")), EVERY)
    assert old.wait_for("p/a").payload == b"gone"
    (message,) = recorders.messages()
    assert (message["payload"], message["qos"], message["retain"]) == (b"gone", delivered(qos), False)
    check_properties(message["properties"], EVERY)


def test_through_a_shared_subscription(recorders: Recorders, client: Client) -> None:
    recorders.subscribe("$share/group/p/#")
    for qos in (0, 1, 2):
        client.publish("p/a", str(qos), qos, properties=to_paho(EVERY))
    taken(client)
    messages = recorders.messages()
    assert sorted(payloads(messages)) == [b"0", b"1", b"2"]
    for message in messages:
        check_properties(message["properties"], EVERY)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_without_a_session(broker: BrokerFactory, qos: int) -> None:
    started = broker("apps.recorder:application", options={"session": "off"})
    recorders, client = Recorders(started), started.client()
    recorders.subscribe("p/#")
    client.publish("p/a", "", qos, properties=to_paho(EVERY))
    taken(client)
    (message,) = recorders.messages()
    check_properties(message["properties"], EVERY, expiry=CONNECTS)


@pytest.mark.parametrize("qos", [1, 2])
def test_in_what_waited_for_the_application(broker: BrokerFactory, tmp_path: Path, qos: int) -> None:
    file = tmp_path / "subscriptions.json"
    file.write_text(json.dumps({"p/#": 2}))
    started = start(
        broker,
        options={"cleansession": False, "retries": 1},
        environment={"TEST_SUBSCRIPTIONS": str(file)},
        persistence=True,
        expect_traceback="as told",
    )
    client = started.client()
    client.publish("do/0/break", "{}", qos=1)
    started.wait_for_failure()
    client.publish("p/a", "waited", qos, properties=to_paho(EVERY))
    started.restart()
    (message,) = Recorders(started).messages()
    assert message["payload"] == b"waited"
    check_properties(message["properties"], EVERY)


# ---- from consumers ----


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_from_a_consumer(
    started: Broker, recorders: Recorders, client: Client, qos: int, retain: bool
) -> None:
    old = started.client(protocol=V311)
    for subscriber in (client, old):
        subscriber.subscribe("p/#", 2)
    recorders.call("publish", topic="p/a", payload="1", qos=qos, retain=retain, properties=EVERY)
    recorders.call("publish", topic="p/b", payload="2", qos=qos, retain=retain)
    old.publish("p/a", "3", qos)

    for subscriber in (client, old):
        received = [subscriber.wait_for("p/#") for _ in range(3)]
        assert sorted((m.topic, m.payload, m.qos, m.retain) for m in received) == [
            ("p/a", b"1", qos, False),
            ("p/a", b"3", qos, False),
            ("p/b", b"2", qos, False),
        ]
    found = {bytes(m.payload): from_paho(m) for m in client.messages}
    check_properties(found[b"1"], EVERY)
    assert found[b"2"] == found[b"3"] == {}

    if retain:
        for protocol in (V311, V5):
            late = started.client(protocol=protocol)
            late.subscribe("p/a", 2)
            message = late.wait_for("p/a")
            assert (message.payload, message.qos, message.retain) == (b"1", qos, True)
            check_properties(from_paho(message), EVERY if protocol == V5 else {})


@pytest.mark.parametrize("name", [*EVERY, "none"])
def test_from_a_consumer_each_property_alone(recorders: Recorders, client: Client, name: str) -> None:
    properties = {key: value for key, value in EVERY.items() if key == name}
    client.subscribe("p/#", 2)
    for qos in (0, 1, 2):
        recorders.call("publish", topic="p/a", payload="", qos=qos, properties=properties)
        message = client.wait_for("p/a")
        assert message.qos == qos
        check_properties(from_paho(message), properties)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_consumers_hear_each_others_and_their_own(recorders: Recorders, qos: int) -> None:
    recorders.spawn(1)
    for app_id in (0, 1):
        recorders.subscribe("p/#", 2, app_id)
    recorders.call("publish", 1, topic="p/a", payload="1", qos=qos, properties=EVERY)
    recorders.call("publish", topic="p/a", payload="2", qos=qos)
    for app_id in (0, 1):
        messages = recorders.messages(app_id)
        assert payloads(messages) == [b"1", b"2"]
        check_properties(messages[0]["properties"], EVERY)
        assert messages[1]["properties"] == {}
        assert [message["client"] for message in messages] == [None, None]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_can_be_passed_on(recorders: Recorders, client: Client, qos: int) -> None:
    """What a consumer has received is what publish() takes."""
    recorders.subscribe("p/in")
    client.subscribe("p/out", 2)
    client.publish("p/in", "", qos, properties=to_paho(EVERY))
    taken(client)
    (message,) = recorders.messages()
    recorders.call("publish", topic="p/out", payload="", qos=qos, properties=message["properties"])
    check_properties(from_paho(client.wait_for("p/out")), EVERY, expiry=CONNECTS or qos == 2)


# ---- expiry ----


def kept(broker: Broker, topic: str) -> list[dict[str, Any]]:
    """The properties of what a new subscriber gets: the retained message, if there still is one."""
    with broker.client() as subscriber:
        subscriber.subscribe(topic, 1)
        subscriber.subscribe("barrier", 1)
        # In the order of QoS 1 behind what was retained.
        subscriber.publish("barrier", qos=1)
        subscriber.wait_for("barrier")
        return [from_paho(message) for message in subscriber.messages if message.topic == topic]


def test_a_retained_message_expires(started: Broker, recorders: Recorders) -> None:
    for topic, interval in (("p/brief", 2), ("p/long", 3600)):
        properties = {"message_expiry_interval": interval, "content_type": "text/plain"}
        recorders.call("publish", topic=topic, payload="1", qos=1, retain=True, properties=properties)
    wait_until(lambda: kept(started, "p/brief") == [], 15, "the end of the retained message")
    (properties,) = kept(started, "p/long")
    # At least the two seconds of the other one have passed.
    assert 0 < properties["message_expiry_interval"] < 3600
    recorders.subscribe("p/+")
    (message,) = recorders.messages()
    assert (message["topic"], message["retain"]) == ("p/long", True)
    assert 0 < message["properties"]["message_expiry_interval"] < 3600


def test_a_brief_message_counts_down(started: Broker, recorders: Recorders) -> None:
    recorders.call(
        "publish", topic="p/a", payload="1", qos=1, retain=True, properties={"message_expiry_interval": 600}
    )
    wait_until(
        lambda: kept(started, "p/a")[0]["message_expiry_interval"] < 600, 10, "a second that has passed"
    )


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_clients_retained_message_expires(
    started: Broker, recorders: Recorders, client: Client, qos: int
) -> None:
    client.publish("p/a", "1", qos, retain=True, properties=to_paho({"message_expiry_interval": 1}))
    taken(client)
    wait_until(lambda: kept(started, "p/a") == [], 15, "the end of the retained message")
    recorders.subscribe("p/+")
    assert recorders.messages() == []


# ---- limits ----

LIMITS: dict[str, dict[str, Any]] = {
    "longest content type": {"content_type": "x" * 65535},
    "longest content type, not ASCII": {"content_type": "€" * 21845},
    "longest response topic": {"response_topic": "t" * 65535},
    "longest correlation data": {"correlation_data": bytes(range(256)) * 255 + bytes(255)},
    "longest user property": {"user_property": [("n" * 65535, "v" * 65535)]},
    "many user properties": {"user_property": [(f"name {n % 7}", f"välue {n}") for n in range(1000)]},
    "empty": {"content_type": "", "correlation_data": b"", "user_property": [("", ""), ("", "")]},
    "not ASCII": {
        "content_type": "ü/€",
        "response_topic": "größe/😀",
        "correlation_data": "ü".encode("latin-1"),
        "user_property": [("größe", "😀"), ("\u00a0", "\u2028")],
    },
    "looks like a format": {
        "content_type": "%s%n{0}",
        "user_property": [("%d", "\\0"), ("'\"", "; DROP TABLE")],
    },
    "all of it": {
        **EVERY,
        "content_type": "x" * 65535,
        "correlation_data": b"\0" * 65535,
        "user_property": [("n" * 65535, "v" * 65535)] * 5,
    },
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_from_a_client(recorders: Recorders, client: Client, name: str) -> None:
    recorders.subscribe("p/#")
    for qos in (0, 1, 2):
        client.publish("p/a", "x", qos, properties=to_paho(LIMITS[name]))
        taken(client)
        (message,) = recorders.messages()
        assert (message["payload"], message["qos"]) == (b"x", delivered(qos))
        check_properties(message["properties"], LIMITS[name], expiry=CONNECTS or qos == 2)


@pytest.mark.parametrize("name", LIMITS)
def test_limits_from_a_consumer(recorders: Recorders, client: Client, name: str) -> None:
    recorders.subscribe("p/#")
    client.subscribe("p/#", 2)
    for qos in (0, 1, 2):
        recorders.call("publish", topic="p/a", payload="x", qos=qos, properties=LIMITS[name])
        message = client.wait_for("p/a")
        assert (message.payload, message.qos) == (b"x", qos)
        check_properties(from_paho(message), LIMITS[name])
        (own,) = recorders.messages()
        check_properties(own["properties"], LIMITS[name])


REFUSED: dict[str, dict[str, Any]] = {
    "content type too long": {"content_type": "x" * 65536},
    "content type too long, not ASCII": {"content_type": "ü" * 32768},
    "content type with NUL": {"content_type": "a\0b"},
    "content type with a control character": {"content_type": "a\x1fb"},
    "content type with a delete": {"content_type": "\x7f"},
    "content type with a control character of Latin-1": {"content_type": "\x9f"},
    "content type with half a character": {"content_type": "\ud83d"},
    "content type with no character": {"content_type": "\uffff"},
    "content type that is bytes": {"content_type": b"text/plain"},
    "response topic with a wildcard": {"response_topic": "a/+"},
    "response topic with a wildcard for the rest": {"response_topic": "#"},
    "empty response topic": {"response_topic": ""},
    "response topic with a control character": {"response_topic": "a\n"},
    "response topic too long": {"response_topic": "t" * 65536},
    "correlation data too long": {"correlation_data": bytes(65536)},
    "correlation data that is a number": {"correlation_data": 5},
    "user property name too long": {"user_property": [("n" * 65536, "v")]},
    "user property value too long": {"user_property": [("n", "v" * 65536)]},
    "user property name with a control character": {"user_property": [("good", "good"), ("a\x01", "v")]},
    "user property value with a control character": {"user_property": [("n", "\x80")]},
    "user property that is no pair": {"user_property": [("a", "b", "c")]},
    "user property that is a number": {"user_property": [("n", 1)]},
    "user properties that are no list": {"user_property": 1},
    "format indicator out of range": {"payload_format_indicator": 2},
    "format indicator that is text": {"payload_format_indicator": "1"},
    "negative expiry": {"message_expiry_interval": -1},
    "expiry out of range": {"message_expiry_interval": 2**32},
    "expiry that is half a number": {"message_expiry_interval": 1.5},
    "unknown": {"contenttype": "text/plain"},
    "of another packet": {"session_expiry_interval": 1},
    "topic alias": {"topic_alias": 1},
}


def test_what_a_consumer_may_not_publish(recorders: Recorders, client: Client) -> None:
    """It is told at the call, nothing of it goes out, and it goes on."""
    client.subscribe("p/#", 2)
    for name, properties in REFUSED.items():
        try:
            recorders.call("publish", topic="p/a", payload=name, qos=1, properties={**EVERY, **properties})
        except CallFailed as failure:
            assert str(failure).startswith(("ValueError: ", "TypeError: ")), (name, failure)
            if properties.keys() & EVERY.keys():
                assert next(iter(properties)) in str(failure), f"{name}: it is not said which"
        else:
            raise AssertionError(f"{name}: nothing was raised")
    recorders.call("publish", topic="p/a", payload="good", qos=1, properties=EVERY)
    message = client.wait_for()
    assert message.payload == b"good"
    check_properties(from_paho(message), EVERY)


def test_the_largest_expiry(recorders: Recorders, client: Client) -> None:
    client.subscribe("p/#", 2)
    for interval in (2**32 - 2, 2**32 - 1):
        properties = {"message_expiry_interval": interval}
        recorders.call("publish", topic="p/a", payload="", qos=1, properties=properties)
        found = from_paho(client.wait_for())
        # Mosquitto 2.1 takes the largest number for "never".
        if interval < 2**32 - 1 or found:
            check_properties(found, properties)


# What a client may not send. Each is the properties of a PUBLISH as they stand in the packet, with their length.

FORMAT, CONTENT_TYPE, RESPONSE_TOPIC, SESSION_EXPIRY, USER_PROPERTY = (
    b"\x01",
    b"\x03",
    b"\x08",
    b"\x11",
    b"\x26",
)


def measured(properties: bytes) -> bytes:
    return variable(len(properties)) + properties


MALFORMED = {
    "the same twice": measured((CONTENT_TYPE + string("text/plain")) * 2),
    "invalid UTF-8": measured(CONTENT_TYPE + b"\x00\x02\xc3\x28"),
    "half a character of UTF-16": measured(CONTENT_TYPE + b"\x00\x03\xed\xa0\x80"),
    "a longer form than needed": measured(CONTENT_TYPE + b"\x00\x02\xc0\xaf"),
    "NUL": measured(CONTENT_TYPE + string("a\0b")),
    "a control character": measured(USER_PROPERTY + string("name") + string("\x07")),
    "of another packet": measured(SESSION_EXPIRY + b"\x00\x00\x00\x01"),
    "unknown": measured(b"\x7d\x00"),
    "a string beyond the properties": measured(CONTENT_TYPE + b"\x00\xff" + b"x" * 10),
    "a string beyond the packet": measured(CONTENT_TYPE + b"\xff\xff"),
    "cut off in a length": measured(CONTENT_TYPE + b"\x00"),
    "cut off in a pair": measured(USER_PROPERTY + string("name")),
    "properties beyond the packet": variable(10000) + CONTENT_TYPE + string("text/plain"),
    "a length that does not end": b"\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_a_client_may_not_publish(
    started: Broker, recorders: Recorders, client: Client, qos: int
) -> None:
    """The broker deals with it; the consumer does not see it, and nobody else is the worse for it."""
    recorders.subscribe("p/#")
    client.subscribe("p/#", 2)
    identifier = b"\x00\x01" if qos else b""
    for name, properties in MALFORMED.items():
        with PacketClient(started.port, "malformed", protocol=V5) as bad:
            bad.publish("p/a", b"before", qos=1, packet=7)
            bad.expect(PUBACK, 7)
            bad.send(packet(0x30 | qos << 1, string("p/a") + identifier + properties + b"malformed"))
            try:
                bad.wait_for_end()
            except TimeoutError:
                raise AssertionError(f"{name}: the broker keeps the connection") from None
        client.publish("p/a", "after", qos=1, properties=to_paho(EVERY))
        assert [client.wait_for().payload for _ in range(2)] == [b"before", b"after"], name
        messages = recorders.messages()
        assert payloads(messages) == [b"before", b"after"], name
        assert messages[0]["properties"] == {}
        check_properties(messages[1]["properties"], EVERY, expiry=CONNECTS)


def test_what_the_broker_lets_through(started: Broker, recorders: Recorders, client: Client) -> None:
    """Values that MQTT 5 does not allow, though the packet can be read: they come as they are, or not at all, and are
    refused where a consumer would use them. The session goes on: it would get such a message again and again."""
    recorders.subscribe("p/#")
    cases = (
        (FORMAT + b"\x02", {"payload_format_indicator": 2}),
        (RESPONSE_TOPIC + string("p/#"), {"response_topic": "p/#"}),
        (RESPONSE_TOPIC + string(""), {"response_topic": ""}),
    )
    for encoded, properties in cases:
        for qos in (0, 1, 2):
            # A broker that minds closes the connection before the end of what is said.
            said = connect_packet("odd", protocol=V5)
            said += publish_packet("p/a", b"odd", qos, min(qos, 1), properties=encoded)
            shout(started.port, said + (release_packet(1) if qos == 2 else b"") + DISCONNECT)
            client.publish("p/a", "even", qos=2)
            messages = recorders.messages()
            assert payloads(messages) in ([b"odd", b"even"], [b"even"])
            for message in messages[:-1]:
                assert message["properties"] == properties
                for method, arguments in (
                    ("publish", {"topic": "p/b", "properties": message["properties"]}),
                    ("reply", {"mqtt_message": message}),
                ):
                    with pytest.raises(CallFailed, match="^ValueError: "):
                        recorders.call(method, payload="x", **arguments)
    assert recorders.messages() == []
    assert "is lost" not in started.log()


def test_a_client_that_sends_a_subscription_identifier(started: Broker, recorders: Recorders) -> None:
    """It may not (MQTT 5, 3.3.4), and whether the broker minds or passes it over: no consumer takes it for its own."""
    recorders.subscribe("p/#")
    packets = [publish_packet("p/a", b"x", qos, qos + 1, properties=b"\x0b\x05") for qos in (0, 1, 2)]
    with PacketClient(started.port, "pretender", protocol=V5) as pretender:
        # All at once: a broker that minds closes the connection at the first.
        pretender.send(b"".join([*packets, release_packet(3), DISCONNECT]))
        pretender.wait_for_end()
    for message in recorders.messages():
        assert message["properties"] == {}


# ---- replies ----


@pytest.fixture
def responder(broker: BrokerFactory) -> Broker:
    started = broker("apps.responder:application")
    started.wait_for_session()
    return started


@pytest.fixture
def asking(responder: Broker) -> Client:
    client = responder.client()
    client.subscribe("answers/#", 2)
    client.subscribe("trouble", 1)
    return client


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_reply(asking: Client, qos: int) -> None:
    for number in range(3):
        correlation = bytes([0, 255, number])
        question = {"response_topic": f"answers/{number}", "correlation_data": correlation}
        asking.publish("ask/plain", f"question {number}", qos, properties=to_paho(question))
        answer = asking.wait_for()
        assert (answer.topic, answer.payload) == (f"answers/{number}", f"QUESTION {number}".encode())
        assert (answer.qos, answer.retain) == (1, False)
        assert from_paho(answer) == {"correlation_data": correlation}


def test_a_reply_brings_nothing_but_the_correlation_data_along(asking: Client) -> None:
    asking.publish("ask/plain", "x", qos=1, properties=to_paho({**EVERY, "response_topic": "answers/x"}))
    assert from_paho(asking.wait_for("answers/x")) == {"correlation_data": EVERY["correlation_data"]}


def test_a_reply_to_a_question_without_correlation_data(asking: Client) -> None:
    asking.publish("ask/plain", "x", qos=1, properties=to_paho({"response_topic": "answers/x"}))
    assert from_paho(asking.wait_for("answers/x")) == {}
    question = {"response_topic": "answers/x", "correlation_data": b""}
    asking.publish("ask/plain", "x", qos=1, properties=to_paho(question))
    assert from_paho(asking.wait_for("answers/x")) == {"correlation_data": b""}


def test_a_retained_reply(responder: Broker, asking: Client) -> None:
    question = {"response_topic": "answers/x", "correlation_data": b"1"}
    asking.publish("ask/kept", "x", qos=1, properties=to_paho(question))
    answer = asking.wait_for("answers/x")
    assert (answer.payload, answer.qos) == (b"X", 2)
    late = responder.client()
    late.subscribe("answers/+", 2)
    answer = late.wait_for("answers/x")
    assert (answer.payload, answer.qos, answer.retain) == (b"X", 2, True)
    assert from_paho(answer) == {"correlation_data": b"1"}


def test_a_reply_with_properties(asking: Client) -> None:
    question = {"response_topic": "answers/x", "correlation_data": b"1"}
    asking.publish("ask/described", "x", qos=1, properties=to_paho(question))
    answer = asking.wait_for("answers/x")
    assert answer.qos == 0
    assert from_paho(answer) == {"content_type": "text/plain", "correlation_data": b"1"}
    asking.publish("ask/wrongly", "x", qos=1, properties=to_paho(question))
    assert asking.wait_for("trouble").payload.startswith(b"ValueError: ")


@pytest.mark.parametrize("protocol", [V311, V5])
def test_there_is_no_reply_without_a_response_topic(responder: Broker, asking: Client, protocol: int) -> None:
    responder.client(protocol=protocol).publish("ask/plain", "x", qos=1)
    assert asking.wait_for().topic == "trouble"
    assert asking.messages[0].payload.startswith(b"ValueError: ")
    asking.publish("ask/plain", "x", qos=1, properties=to_paho({"correlation_data": b"1"}))
    assert asking.wait_for().payload.startswith(b"ValueError: ")
    asking.publish("ask/plain", "still there", qos=1, properties=to_paho({"response_topic": "answers/x"}))
    assert asking.wait_for().payload == b"STILL THERE"


def test_a_reply_of_one_consumer_to_another(recorders: Recorders) -> None:
    recorders.spawn(1)
    recorders.subscribe("answers/0")
    recorders.subscribe("ask", 2, 1)
    question = {"response_topic": "answers/0", "correlation_data": b"7"}
    recorders.call("publish", topic="ask", payload="?", properties=question)
    (asked,) = recorders.messages(1)
    recorders.call("reply", 1, mqtt_message=asked, payload="!")
    (answer,) = recorders.messages()
    assert (answer["topic"], answer["payload"]) == ("answers/0", b"!")
    assert answer["properties"] == {"correlation_data": b"7"}


# ---- subscription options ----

Got = dict[tuple[str, bytes, bool], tuple[int, list[int]]]
"""By topic, payload and retain flag: QoS, and the subscription identifiers."""


class Both:
    """An ordinary client and a consumer, which subscribe alike and must get alike.

    Of overlapping subscriptions the client gets a copy for each (MQTT 5, 3.3.4 lets the broker do that), the consumer
    one with all identifiers; so the client's copies of one message count as one.
    """

    def __init__(self, started: Broker, recorders: Recorders) -> None:
        self.recorders = recorders
        self.client = started.client()
        self.other = started.client()
        self._seen = 0
        self.client.subscribe("barrier", 2)
        self._seen = len(self.client.messages)

    def subscribe(self, topic: str, qos: int = 2, *, identifier: int | None = None, **options: Any) -> None:
        names = {
            "no_local": "noLocal",
            "retain_as_published": "retainAsPublished",
            "retain_handling": "retainHandling",
        }
        properties = None
        if identifier is not None:
            properties = Properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = identifier
        theirs = SubscribeOptions(delivered(qos), **{names[name]: value for name, value in options.items()})
        self.client.subscribe(topic, options=theirs, properties=properties)
        if identifier is not None:
            options["subscription_identifier"] = identifier
        self.recorders.subscribe(topic, qos, **options)

    def unsubscribe(self, topic: str) -> None:
        self.client.unsubscribe(topic)
        self.recorders.unsubscribe(topic)

    def publish(self, topic: str, payload: str, qos: int, retain: bool = False) -> None:
        """Let somebody else publish, and return when the broker has it."""
        self.other.publish(topic, payload, qos, retain)
        taken(self.other)

    def take(self) -> Got:
        """Return what both have got since the last time; it must be the same."""
        ordinary, consumer = self.take_each()
        assert consumer == ordinary
        return ordinary

    def take_each(self) -> tuple[Got, Got]:
        """Return what the client has got since the last time, and what the consumer has."""
        if CONNECTS:
            # Behind what consumers have published at QoS 2, which takes two more packets.
            self.recorders.call("publish", topic="barrier", payload="", qos=2)
            self.client.wait_for("barrier")
        self.client.publish("barrier", qos=2)
        self.client.wait_for("barrier")
        new = self.client.messages[self._seen :]
        self._seen += len(new)
        ordinary: Got = {}
        for message in new:
            if message.topic == "barrier":
                continue
            key = (message.topic, bytes(message.payload), bool(message.retain))
            qos, identifiers = ordinary.get(key, (0, []))
            identifiers = identifiers + from_paho(message).get("subscription_identifier", [])
            ordinary[key] = (max(qos, message.qos), sorted(identifiers))
        consumer: Got = {}
        for heard in self.recorders.messages():
            key = (heard["topic"], heard["payload"], heard["retain"])
            assert key not in consumer, f"twice: {heard}"
            consumer[key] = (heard["qos"], heard["properties"].get("subscription_identifier", []))
            assert consumer[key][1] or "subscription_identifier" not in heard["properties"]
        return ordinary, consumer


@pytest.fixture
def both(started: Broker, recorders: Recorders) -> Both:
    return Both(started, recorders)


def names(got: Mapping[tuple[str, bytes, bool], Any]) -> set[str]:
    return {payload.decode() for _, payload, _ in got}


@pytest.mark.parametrize("no_local", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_local(both: Both, qos: int, no_local: bool) -> None:
    """Each publishes itself; a third one does, too."""
    both.recorders.spawn(1)
    both.subscribe("o/#", no_local=no_local)
    for retain in (False, True):
        both.client.publish("o/client", "the client's", qos, retain)
        taken(both.client)
        both.recorders.call("publish", topic="o/consumer", payload="the consumer's", qos=qos, retain=retain)
        both.recorders.call("publish", 1, topic="o/worker", payload="another's", qos=qos, retain=retain)
        both.publish("o/third", "a third's", qos, retain)
        everything = {"the client's", "the consumer's", "another's", "a third's"}
        ordinary, consumer = both.take_each()
        assert names(ordinary) == everything - ({"the client's"} if no_local else set())
        # Outside the broker, the process is one client.
        own = {"the consumer's", "another's"} if CONNECTS else {"the consumer's"}
        assert names(consumer) == everything - (own if no_local else set())


def test_no_local_is_each_subscriptions_own(both: Both) -> None:
    """A message that also matches a filter without the option comes."""
    both.subscribe("o/#", 2, no_local=True)
    both.recorders.call("publish", topic="o/a", payload="1", qos=1)
    assert both.recorders.messages() == []
    both.subscribe("o/a", 1)
    for qos in (0, 1, 2):
        both.recorders.call("publish", topic="o/a", payload="2", qos=qos)
        (message,) = both.recorders.messages()
        assert message["qos"] == min(qos, 1)
    both.recorders.call("publish", topic="o/b", payload="3", qos=1)
    assert both.recorders.messages() == []
    if CONNECTS:
        return  # Mosquitto 2.0 changes nothing but the QoS of a subscription that is there
    both.subscribe("o/#", 2)
    both.recorders.call("publish", topic="o/b", payload="4", qos=2)
    assert payloads(both.recorders.messages()) == [b"4"]


def test_no_local_and_what_is_retained(both: Both) -> None:
    """The broker does not know of a retained message whose it is; one's own comes as any other."""
    both.recorders.call("publish", topic="o/a", payload="own", qos=1, retain=True)
    both.publish("o/b", "other", 1, retain=True)
    both.subscribe("o/#", no_local=True)
    assert names(both.take()) == {"own", "other"}


def test_a_shared_subscription_cannot_be_no_local(recorders: Recorders) -> None:
    """MQTT 5, 3.8.3.1: that is a protocol error."""
    with pytest.raises(CallFailed, match="^ValueError: "):
        recorders.subscribe("$share/group/o/#", no_local=True)
    recorders.subscribe("$share/group/o/#")


@pytest.mark.parametrize("retain_as_published", [False, True])
@pytest.mark.parametrize("subscribed_at", [0, 1, 2])
def test_retain_as_published(both: Both, subscribed_at: int, retain_as_published: bool) -> None:
    both.subscribe("o/#", subscribed_at, retain_as_published=retain_as_published)
    for qos in (0, 1, 2):
        both.publish(f"o/{qos}", "retained", qos, retain=True)
        both.publish(f"o/{qos}", "not retained", qos)
        assert both.take() == {
            (f"o/{qos}", b"retained", retain_as_published): (delivered(min(qos, subscribed_at)), []),
            (f"o/{qos}", b"not retained", False): (delivered(min(qos, subscribed_at)), []),
        }
        both.recorders.call("publish", topic=f"o/{qos}", payload="own", qos=qos, retain=True)
        assert both.take() == {
            (f"o/{qos}", b"own", retain_as_published): (delivered(min(qos, subscribed_at)), [])
        }
    if CONNECTS and retain_as_published:
        return  # what is retained cannot be told from what is published, and has come by the other filter
    # Whatever the option: what comes because one subscribes, comes as retained.
    both.subscribe("o/+", subscribed_at, retain_as_published=retain_as_published)
    assert both.take() == {
        (f"o/{qos}", b"own", True): (delivered(min(qos, subscribed_at)), []) for qos in (0, 1, 2)
    }


@pytest.mark.parametrize("retain_as_published", [False, True])
def test_retain_as_published_and_a_last_will(started: Broker, both: Both, retain_as_published: bool) -> None:
    both.subscribe("o/#", retain_as_published=retain_as_published)
    both.other.subscribe("o/#")
    for retain in (False, True):
        started.client(will=("o/a", "gone", 1, retain)).abort()
        both.other.wait_for("o/a")
        assert both.take() == {("o/a", b"gone", retain and retain_as_published): (1, [])}


@pytest.mark.inside("retain_as_published")
def test_retain_as_published_is_each_consumers_own(recorders: Recorders, client: Client) -> None:
    recorders.spawn(1)
    recorders.subscribe("o/#", 2, retain_as_published=True)
    recorders.subscribe("o/#", 2, 1)
    for qos in (0, 1, 2):
        client.publish("o/a", str(qos), qos, retain=True)
        taken(client)
    assert [m["retain"] for m in recorders.messages()] == [True] * 3
    assert [m["retain"] for m in recorders.messages(1)] == [False] * 3
    # The options are those of the last subscribe().
    recorders.subscribe("o/#", 2, retain_handling=2)
    recorders.subscribe("o/#", 2, 1, retain_as_published=True, retain_handling=2)
    for qos in (0, 1, 2):
        client.publish("o/a", str(qos), qos, retain=True)
        taken(client)
    assert [m["retain"] for m in recorders.messages()] == [False] * 3
    assert [m["retain"] for m in recorders.messages(1)] == [True] * 3


@pytest.mark.parametrize("retain_handling", [0, 1, 2])
def test_retain_handling(both: Both, retain_handling: int) -> None:
    retained: Got = {("o/a", b"1", True): (1, []), ("o/b", b"2", True): (1, [])}
    first = retained if retain_handling < 2 else {}
    again = retained if retain_handling == 0 else {}
    both.publish("o/a", "1", 1, retain=True)
    both.publish("o/b", "2", 1, retain=True)

    both.subscribe("o/+", 2, retain_handling=retain_handling)
    assert both.take() == first
    both.subscribe("o/+", 1, retain_handling=retain_handling)
    assert both.take() == again
    # An overlapping filter is another subscription.
    both.subscribe("o/a", 2, retain_handling=retain_handling)
    assert both.take() == {key: value for key, value in first.items() if key[0] == "o/a"}
    both.unsubscribe("o/+")
    both.subscribe("o/+", 2, retain_handling=retain_handling)
    assert both.take() == first
    # Live messages come as ever.
    both.publish("o/b", "3", 1, retain=True)
    assert both.take() == {("o/b", b"3", False): (1, [])}


def test_retain_handling_is_each_consumers_own(recorders: Recorders, client: Client) -> None:
    """The filter is new for one, while another has it already: the plugin has one subscription for both."""
    client.publish("o/a", "1", qos=1, retain=True)
    recorders.spawn(1, 2)
    recorders.subscribe("o/+", 2, 1)
    assert payloads(recorders.messages(1)) == [b"1"]
    recorders.subscribe("o/+", 2, 2, retain_handling=1)
    assert payloads(recorders.messages(2)) == [b"1"]
    recorders.subscribe("o/+", retain_handling=2)
    assert recorders.messages() == []
    recorders.subscribe("o/+", retain_handling=1)
    assert recorders.messages() == []
    recorders.subscribe("o/+", retain_handling=0)
    assert payloads(recorders.messages()) == [b"1"]
    assert recorders.messages(1) == recorders.messages(2) == []


def test_retain_handling_in_a_worker_that_is_new_again(recorders: Recorders, client: Client) -> None:
    client.publish("o/a", "1", qos=1, retain=True)
    for _ in range(2):
        recorders.spawn(1)
        for expected in ([b"1"], []):
            recorders.subscribe("o/+", 2, 1, retain_handling=1)
            assert payloads(recorders.messages(1)) == expected
        recorders.call("kill_worker", app_id=1)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscription_identifiers(both: Both, qos: int) -> None:
    both.subscribe("o/#", 2, identifier=7)
    both.subscribe("o/+", 1, identifier=268_435_455)
    both.subscribe("o/a", 0, identifier=1)
    both.subscribe("+/a", 2)
    for topic, identifiers in (("o/a", [1, 7, 268_435_455]), ("o/b", [7, 268_435_455]), ("o/b/c", [7])):
        both.publish(topic, "1", qos)
        assert both.take() == {(topic, b"1", False): (delivered(qos), identifiers)}
    both.publish("x/a", "1", qos)
    assert both.take() == {("x/a", b"1", False): (delivered(qos), [])}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscription_identifiers_after_subscribing_again(both: Both, qos: int) -> None:
    """Another one takes the place of the first; none takes it away; one filter's is not another's."""
    both.subscribe("o/#", 2, identifier=7)
    both.subscribe("o/+", 2, identifier=9)
    for identifier, expected in ((8, [8, 9]), (None, [9]), (9, [9, 9]), (7, [7, 9])):
        both.subscribe("o/#", 2, identifier=identifier)
        both.publish("o/a", f"with {identifier}", qos)
        assert both.take() == {("o/a", f"with {identifier}".encode(), False): (delivered(qos), expected)}
    both.unsubscribe("o/+")
    both.publish("o/a", "2", qos)
    assert both.take() == {("o/a", b"2", False): (delivered(qos), [7])}


def test_the_identifier_of_retained_messages(both: Both) -> None:
    """They come for the subscription that has just been made."""
    both.publish("o/a", "1", 1, retain=True)
    both.subscribe("o/#", 2, identifier=7)
    assert both.take() == {("o/a", b"1", True): (1, [7])}
    both.subscribe("o/a", 2, identifier=8)
    assert both.take() == {("o/a", b"1", True): (1, [8])}
    both.subscribe("o/+", 2)
    assert both.take() == {("o/a", b"1", True): (1, [])}


def test_the_identifier_of_last_wills(started: Broker, both: Both) -> None:
    both.subscribe("o/#", 2, identifier=7)
    both.subscribe("o/a", 2, identifier=8)
    both.other.subscribe("o/#")
    started.client(will=("o/a", "gone", 1, False)).abort()
    both.other.wait_for("o/a")
    assert both.take() == {("o/a", b"gone", False): (1, [7, 8])}


def test_identifiers_are_each_consumers_own(recorders: Recorders, client: Client) -> None:
    recorders.spawn(1, 2)
    recorders.subscribe("o/#", 2, 0, subscription_identifier=5)
    recorders.subscribe("o/#", 2, 1, subscription_identifier=6)
    recorders.subscribe("o/#", 2, 2)
    for qos in (0, 1, 2):
        client.publish("o/a", "", qos, properties=to_paho({"content_type": "x"}))
    identifiers: dict[int, dict[str, Any]] = {
        0: {"subscription_identifier": [5]},
        1: {"subscription_identifier": [6]},
        2: {},
    }
    for app_id, of_filter in identifiers.items():
        found = [message["properties"] for message in recorders.messages(app_id)]
        assert found == [{"content_type": "x", **of_filter}] * 3
    # What a consumer publishes may overtake a client's QoS 2 messages, so it comes after these.
    recorders.call("publish", 2, topic="o/a", payload="")
    for app_id, of_filter in identifiers.items():
        assert [message["properties"] for message in recorders.messages(app_id)] == [of_filter]


def test_the_identifier_of_messages_of_older_clients(started: Broker, recorders: Recorders) -> None:
    recorders.subscribe("o/#", 2, subscription_identifier=5)
    old = started.client(protocol=V311)
    for qos in (0, 1, 2):
        old.publish("o/a", "", qos)
    taken(old)
    assert [m["properties"] for m in recorders.messages()] == [{"subscription_identifier": [5]}] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"subscription_identifier": 0},
        {"subscription_identifier": 268_435_456},
        {"subscription_identifier": -1},
        {"subscription_identifier": "1"},
        {"retain_handling": 3},
        {"retain_handling": -1},
        {"retain_handling": None},
    ],
    ids=str,
)
def test_options_that_make_no_sense(recorders: Recorders, client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(CallFailed, match="^(ValueError|TypeError): ") as failure:
        recorders.subscribe("o/#", **options)
    assert next(iter(options)) in str(failure.value)
    client.publish("o/a", "", qos=1)
    assert recorders.messages() == []
    recorders.subscribe("o/#")
    client.publish("o/a", "", qos=1)
    assert len(recorders.messages()) == 1
