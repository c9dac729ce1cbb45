"""What `--connect` keeps in mind of filters and messages, without a broker."""

from __future__ import annotations

import time
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqttasgi._properties import decode_properties
from mqttasgi._reasons import about_code
from mqttasgi.cluster.address import parse
from mqttasgi.cluster.filters import Filters
from mqttasgi.cluster.limits import Limits
from mqttasgi.cluster.message import NAMES, ReceivedMessage, Room, identifiers
from mqttasgi.cluster.settings import FOR_EVER, Settings
from mqttasgi.cluster.statistics import Statistics
from mqttasgi.cluster.unhandled import Unhandled

QOS_1, NO_LOCAL, AS_PUBLISHED = 1, 4, 8


def published(
    packet_id: int = 7, topic: str = "a/b", payload: bytes = b"1", **properties: Any
) -> paho.MQTTMessage:
    message = paho.MQTTMessage(packet_id, topic.encode())
    message.qos, message.payload, message.retain = 1, payload, False
    message.properties = Properties(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(message.properties, name, value)
    return message


# ---- addresses and settings ----


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://host", "mqtt://host:1883"),
        ("mqtts://ann:secret@host:8884/", "mqtts://ann@host:8884"),
        ("ws://[::1]/path", "ws://[::1]:80/path"),
        ("wss://host", "wss://host:443/mqtt"),
        ("mqtt://", "mqtt://:1883"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert str(parse(url)) == shown


def test_settings_come_through_a_pipe() -> None:
    settings = Settings(
        "a:b", [parse("mqtt://ann@host")], "id", group="fleet", options={"queue_size": 3, "http": ""}
    )
    assert Settings.from_json(settings.as_json()) == settings


def test_what_the_broker_says_in_its_own_words() -> None:
    assert about_code(0x97, "too many") == "a quota of the broker is exceeded (it says 'too many')"
    assert about_code(0x77) == "reason code 0x77"


# ---- whom a message is for ----


@pytest.fixture
def filters() -> Filters:
    return Filters("")


def test_a_copy_for_each_subscription_comes_once(filters: Filters) -> None:
    """Brokers send one copy for each filter that matches, or one with all identifiers (MQTT 5, 3.3.4)."""
    first, second = (filters.add(1, each, QOS_1, True) for each in ("a/#", "a/b"))
    one, two = filters.ask(first), filters.ask(second)
    first.is_confirmed = second.is_confirmed = True
    assert filters.recipients("a/b", (one,), False) == [(1, 1)]
    assert filters.recipients("a/b", (two,), False) == []
    assert filters.recipients("a/b", (one, two), False) == [(1, 1)]


def test_an_identifier_from_before_is_no_reason(filters: Filters) -> None:
    """The process before this one had others: what comes with one of those is for all whose filters match."""
    filters.ask(filters.add(1, "a/#", QOS_1, True))
    assert filters.recipients("a/b", (3,), False) == [(1, 1)]
    other = filters.ask(filters.add(2, "other", QOS_1, True))
    assert filters.recipients("a/b", (other,), False) == [(1, 1)]


def test_retained_messages_are_for_whoever_has_asked(filters: Filters) -> None:
    subscribed = filters.add(1, "a/b", QOS_1, True)
    filters.ask(subscribed, 1)
    filters.add(2, "a/b", QOS_1 | 42 << 8, True)
    asked = filters.ask(subscribed, 2)
    assert filters.recipients("a/b", (asked,), True) == [(2, QOS_1 | 42 << 8)]
    assert sorted(filters.recipients("a/b", (asked,), False)) == [(1, 1), (2, QOS_1 | 42 << 8)]


def test_identifiers_of_one_filter_do_not_pile_up(filters: Filters) -> None:
    subscribed = filters.add(1, "a", QOS_1, True)
    for _ in range(100):
        last = filters.ask(subscribed, 1)
    assert len(subscribed.identifiers) == 16
    assert filters.recipients("a", (last,), False) == [(1, 1)]


def test_the_last_who_has_a_filter_ends_it(filters: Filters) -> None:
    for handle in (1, 2):
        filters.add(handle, "a", QOS_1, True)
    assert filters.remove(1, "a") is None
    left = filters.remove(2, "a")
    assert left is not None
    assert left.sent == "a"
    assert filters.remove(2, "a") is None
    assert filters.recipients("a", (), False) == []


def test_a_group_shares() -> None:
    filters = Filters("fleet")
    shared = filters.add(1, "a/+", QOS_1 | NO_LOCAL, True)
    own = filters.add(1, "b", QOS_1 | NO_LOCAL, False)
    system = filters.add(1, "$SYS/broker/version", QOS_1, True)
    assert [each.sent for each in (shared, own, system)] == ["$share/fleet/a/+", "b", "$SYS/broker/version"]
    # MQTT 5, 3.8.3.1: no_local with a shared subscription is a protocol error.
    assert (shared.merged() & NO_LOCAL, own.merged() & NO_LOCAL) == (0, NO_LOCAL)
    assert filters.recipients("a/b", (filters.ask(shared),), False) == [(1, 1)]
    assert filters.remove(1, "b") is own


def test_a_filter_is_shared_or_not() -> None:
    filters = Filters("fleet")
    shared = filters.add(1, "a", QOS_1, True)
    assert filters.replaced(1, "a", False) is shared
    filters.add(1, "a", QOS_1, False)
    assert list(filters.by_sent) == ["a"]
    assert filters.replaced(1, "a", False) is None


def test_nothing_is_asked_at_qos_2(filters: Filters) -> None:
    assert filters.add(1, "a", 2, True).merged() & 3 == 1


# ---- what is not acknowledged ----


@pytest.fixture
def acknowledged() -> list[int]:
    return []


@pytest.fixture
def unhandled(acknowledged: list[int]) -> Unhandled:
    return Unhandled(acknowledged.append)


ROOM = Room({"queue_size": 10, "queue_bytes": 1000})


def received(message: paho.MQTTMessage, number: int) -> ReceivedMessage:
    return ReceivedMessage(message, number, ROOM)


def test_acknowledged_when_all_have_handled_it(unhandled: Unhandled, acknowledged: list[int]) -> None:
    unhandled.add(received(published(), 1), {1, 2})
    unhandled.done(1, 1)
    unhandled.done(1, 1)
    assert not acknowledged
    unhandled.done(2, 1)
    assert acknowledged == [7]
    assert len(unhandled) == 0


def test_acknowledged_at_once_where_nobody_is_there(unhandled: Unhandled, acknowledged: list[int]) -> None:
    unhandled.add(received(published(), 1), set())
    assert acknowledged == [7]


def again(message: paho.MQTTMessage) -> paho.MQTTMessage:
    message.dup = True
    return message


def test_what_comes_again_is_not_handled_again(unhandled: Unhandled, acknowledged: list[int]) -> None:
    """After the connection was lost: still being handled, or handled meanwhile (MQTT 5, 4.4)."""
    unhandled.add(received(published(7), 1), {1})
    unhandled.add(received(published(8, payload=b"2"), 2), {1})
    unhandled.down()
    unhandled.done(1, 2)
    assert not acknowledged
    assert unhandled.is_known(again(published(7)))
    assert unhandled.is_known(again(published(8, payload=b"2")))
    assert acknowledged == [8]
    unhandled.done(1, 1)
    assert acknowledged == [8, 7]
    assert not unhandled.is_known(published(7))


def test_another_message_with_its_identifier_is_another(
    unhandled: Unhandled, acknowledged: list[int]
) -> None:
    unhandled.add(received(published(7), 1), {1})
    unhandled.down()
    other = published(7, payload=b"other")
    assert not unhandled.is_known(again(other))
    unhandled.add(received(other, 2), {1})
    unhandled.done(1, 1)
    assert not acknowledged
    unhandled.done(1, 2)
    assert acknowledged == [7]


def test_a_session_that_is_gone_wants_nothing(unhandled: Unhandled, acknowledged: list[int]) -> None:
    unhandled.add(received(published(7), 1), {1})
    unhandled.down()
    unhandled.session_ended()
    unhandled.done(1, 1)
    assert not acknowledged
    assert not unhandled.is_known(again(published(7)))


def test_what_waits_for_a_consumer(unhandled: Unhandled) -> None:
    for number in (1, 2):
        unhandled.add(received(published(number, payload=b"%d" % number), number), {number, 3})
    assert [message.stored for message in unhandled.of(3)] == [1, 2]
    assert [message.stored for message in unhandled.of(1)] == [1]


# ---- messages ----


def test_room_is_taken_as_long_as_a_message_lives() -> None:
    room = Room({"queue_size": 2, "queue_bytes": 1000})
    messages = [ReceivedMessage(published(), number, room) for number in range(3)]
    assert (room.messages, room.bytes, room.is_over(16)) == (3, 12, True)
    messages.clear()
    assert (room.messages, room.bytes, room.is_over(0)) == (0, 0, False)


def test_every_property_comes() -> None:
    message = published(
        PayloadFormatIndicator=1,
        MessageExpiryInterval=9,
        ContentType="text/plain",
        ResponseTopic="r",
        CorrelationData=b"\0",
        UserProperty=[("a", "1"), ("a", "2")],
        SubscriptionIdentifier=[5, 6],
    )
    event: Any = received(message, 1).event(2)
    assert event["mqtt"]["properties"] == {
        "payload_format_indicator": 1,
        "message_expiry_interval": 9,
        "content_type": "text/plain",
        "response_topic": "r",
        "correlation_data": b"\0",
        "user_property": [("a", "1"), ("a", "2")],
    }
    assert event["mqtt"]["qos"] == 1
    assert set(event["mqtt"]["properties"]) == set(NAMES)
    assert identifiers(message) == (5, 6)


def test_a_dead_letter_leaves_out_what_we_refuse() -> None:
    """Clients may say that a payload is text which is none, and brokers pass it on."""
    message = published(payload=b"\xff", PayloadFormatIndicator=1, ResponseTopic="a/#", ContentType="text")
    encoded = received(message, 1).encoded_properties()
    assert decode_properties(encoded) == {"payload_format_indicator": 1, "content_type": "text"}


def test_when_a_message_came() -> None:
    came = published()
    came.timestamp = time.monotonic() - 60
    assert abs(ReceivedMessage(came, 1, ROOM).received_ms - 1000 * (time.time() - 60)) < 10_000


# ---- what a broker can do ----


def connack(**properties: Any) -> Properties:
    made = Properties(PacketTypes.CONNACK)
    for name, value in properties.items():
        setattr(made, name, value)
    return made


def test_limits_of_a_broker() -> None:
    assert Limits().allowed("a", 10**6, 2, True) == (2, True)
    small = Limits(connack(MaximumQoS=1, RetainAvailable=0, MaximumPacketSize=100))
    assert small.allowed("a", 50, 2, True) == (1, False)
    with pytest.raises(
        ValueError, match=r"the message on topic 'a' has 117 bytes, and the broker takes at most 100"
    ):
        small.allowed("a", 100, 0, False)


def test_what_a_broker_lowers_is_told() -> None:
    assert Limits().lowered(300) == Limits(connack(MaximumQoS=2, RetainAvailable=1)).lowered(300) == ""
    assert Limits(connack(SessionExpiryInterval=300)).lowered(300) == ""
    small = Limits(connack(MaximumQoS=1, RetainAvailable=0, SessionExpiryInterval=60))
    assert small.lowered(300) == (
        "what is published at a higher QoS than 1 goes out at that; nothing is retained that is published with "
        "retain; messages for a process that is away are kept for 60 s instead of 300 s"
    )
    assert small.lowered(FOR_EVER).endswith("for 60 s instead of for ever")


def test_statistics_have_the_plugins_names() -> None:
    statistics = Statistics()
    statistics.handled(statistics.handled(0))
    statistics.raise_to("loop/longest_block", 5)
    statistics.raise_to("loop/longest_block", 3)
    values = statistics.values()
    assert values["loop/longest_block"] == 5
    assert values["memory"] > 0
    assert values["handling/p50"] <= values["handling/p99"]
