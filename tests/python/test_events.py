"""What applications may send, and what is added to what they receive."""

from __future__ import annotations

from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqttasgi._events import (
    DISCONNECT_REASONS,
    add_identifiers,
    check_event,
    disconnect_reason,
    keep_identifier,
    matching_identifiers,
    subscription_options,
)


def sub(**mqtt: Any) -> dict[str, Any]:
    return {"topic": "a/#", "qos": 1, **mqtt}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "mqtt.pub", "mqtt": {"topic": "a", "payload": 1}},
        {"type": "mqtt.pub", "mqtt": {"topic": "a", "payload": "ü", "properties": None}},
        {
            "type": "mqtt.pub",
            "mqtt": {"topic": "a", "payload": "ü", "properties": {"payload_format_indicator": 1}},
        },
        {"type": "mqtt.sub", "mqtt": sub()},
        {"type": "mqtt.sub", "mqtt": sub(subscription_identifier=None)},
        {"type": "mqtt.usub", "mqtt": {"topic": "a/#"}},
        {"type": "mqtt.client.watch"},
        {"type": "mqttasgi.worker.spawn"},
        {"type": "mqttasgi.worker.kill"},
    ],
)
def test_events_that_applications_send(event: Any) -> None:
    check_event(event)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "mqtt.pub", "mqtt": {"topic": "a", "payload": b"", "properties": []}}, TypeError),
        ({"type": "mqtt.pub", "mqtt": {"topic": "a", "payload": b"", "properties": {"x": 1}}}, ValueError),
        (
            {
                "type": "mqtt.pub",
                "mqtt": {"topic": "a", "payload": b"\xff", "properties": {"payload_format_indicator": 1}},
            },
            ValueError,
        ),
        ({"type": "mqtt.sub", "mqtt": sub(no_local=1)}, TypeError),
        ({"type": "mqtt.client.connect", "mqtt": {}}, ValueError),
    ],
)
def test_events_with_something_wrong_in_them(event: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_event(event)


# ---- subscriptions ----


def test_subscription_options_are_encoded_as_paho_does() -> None:
    for qos in range(3):
        for no_local in (False, True):
            for retain_as_published in (False, True):
                for retain_handling in range(3):
                    theirs = SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
                    mqtt = sub(
                        qos=qos,
                        no_local=no_local,
                        retain_as_published=retain_as_published,
                        retain_handling=retain_handling,
                    )
                    assert subscription_options(mqtt) == theirs.pack()[0]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_options_that_are_not_given_are_nought(qos: int) -> None:
    assert subscription_options(sub(qos=qos)) == qos
    assert subscription_options(sub(qos=qos, subscription_identifier=5)) == qos


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_local", 1),
        ("no_local", None),
        ("retain_as_published", 0),
        ("retain_as_published", "yes"),
        ("retain_handling", True),
        ("retain_handling", False),
        ("retain_handling", 1.0),
        ("retain_handling", None),
        ("subscription_identifier", True),
        ("subscription_identifier", "7"),
        ("subscription_identifier", [7]),
        ("qos", True),
    ],
)
def test_an_option_of_a_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be") as caught:
        subscription_options(sub(**{name: value}))
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retain_handling", -1),
        ("retain_handling", 3),
        ("subscription_identifier", 0),
        ("subscription_identifier", -1),
        ("subscription_identifier", 268_435_456),
        ("qos", 3),
    ],
)
def test_an_option_out_of_range(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .* not {value}"):
        subscription_options(sub(**{name: value}))


@pytest.mark.parametrize("value", [1, 268_435_455])
def test_identifiers_at_the_ends_of_their_range(value: int) -> None:
    subscription_options(sub(subscription_identifier=value))


def test_who_shares_cannot_leave_out_his_own() -> None:
    with pytest.raises(ValueError, match=r"'\$share/g/a' with no_local"):
        subscription_options(sub(topic="$share/g/a", no_local=True))
    assert subscription_options(sub(topic="$share/g/a", retain_as_published=True, retain_handling=2)) == 0x29
    # This one only looks alike.
    assert subscription_options(sub(topic="$shared/a", no_local=True)) == 0x05


# ---- subscription identifiers ----


def with_identifiers(topic: str, identifiers: dict[str, int]) -> Any:
    mqtt = {"topic": topic, "properties": {"content_type": "x"}}
    add_identifiers(mqtt, matching_identifiers(topic, identifiers))
    return mqtt["properties"]


def test_all_filters_that_match_have_their_identifier_in_the_message() -> None:
    identifiers = {"a/#": 9, "a/b": 3, "+/b": 9, "$share/g/a/+": 5, "b": 1}
    assert with_identifiers("a/b", identifiers) == {
        "content_type": "x",
        "subscription_identifier": [3, 5, 9, 9],
    }
    assert with_identifiers("b", identifiers)["subscription_identifier"] == [1]


def test_no_filter_no_identifier() -> None:
    assert with_identifiers("c", {"a/#": 9}) == {"content_type": "x"}
    assert with_identifiers("$SYS/c", {"#": 9}) == {"content_type": "x"}


def test_the_properties_of_others_are_left_alone() -> None:
    shared: dict[str, Any] = {}
    mqtt = {"topic": "a", "properties": shared}
    add_identifiers(mqtt, [1])
    assert mqtt["properties"] == {"subscription_identifier": [1]}
    assert shared == {}


def test_a_subscription_replaces_the_identifier_of_the_one_before() -> None:
    identifiers: dict[str, int] = {}
    keep_identifier(identifiers, sub())
    assert identifiers == {}
    for identifier in (7, 8):
        keep_identifier(identifiers, sub(subscription_identifier=identifier))
        assert identifiers == {"a/#": identifier}
    keep_identifier(identifiers, sub(topic="b", subscription_identifier=1))
    keep_identifier(identifiers, sub())
    assert identifiers == {"b": 1}


# ---- reasons ----


def test_reasons_are_the_ones_that_paho_knows() -> None:
    theirs = {}
    for code in range(256):
        try:
            theirs[code] = ReasonCode(PacketTypes.DISCONNECT, identifier=code).getName()
        except (KeyError, ValueError):
            continue
    # It spells some of them otherwise, and two in the singular.
    singular = {0x9E: "shared subscription not supported", 0xA2: "wildcard subscription not supported"}
    ours = {code: name.lower() for code, name in DISCONNECT_REASONS.items()}
    assert {**ours, **singular} == {code: name.lower() for code, name in theirs.items()}


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "Normal disconnection"), (0x80, "Unspecified error"), (None, "unknown"), (0x01, "unknown")],
)
def test_a_reason_has_the_name_of_its_code(code: Any, name: str) -> None:
    for session_ends in (True, False, None):
        expected = {"code": code, "name": name, "session_ends": session_ends}
        assert disconnect_reason(code, session_ends) == expected
