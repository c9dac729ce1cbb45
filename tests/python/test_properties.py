"""The properties of a PUBLISH: what is refused, with which error, and how the rest looks on the wire."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from mqttasgi._mqtt import MAX_PAYLOAD
from mqttasgi._properties import Properties, decode_properties, encode_properties, received_properties

#: Names of what a sender may give, and paho's for them.
PAHO_NAMES = {
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "user_property": "UserProperty",
}


def test_the_plugin_has_the_same() -> None:
    header = Path(__file__).parents[2] / "plugin" / "shared" / "properties.h"
    rows = re.findall(r'PROPERTY\((\w+), (\w+), "(\w+)", \w+\)', header.read_text())
    assert [name for _, _, name in rows] == [name for name in PAHO_NAMES if name != "user_property"]
    assert all(identifier.lower() == name for identifier, _, name in rows)
    assert {*PAHO_NAMES, "subscription_identifier"} == set(Properties.__annotations__)


def by_paho(properties: dict[str, Any]) -> bytes:
    """The same properties as another implementation encodes them, without the length in front."""
    theirs = PahoProperties(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(theirs, PAHO_NAMES[name], value)
    packed: bytes = theirs.pack()
    length = 1
    while packed[length - 1] & 0x80:
        length += 1
    return packed[length:]


GOOD: list[tuple[str, Any]] = [
    ("payload_format_indicator", 0),
    ("payload_format_indicator", 1),
    ("message_expiry_interval", 0),
    ("message_expiry_interval", 3600),
    ("message_expiry_interval", 0xFFFF_FFFF),
    ("content_type", ""),
    ("content_type", "application/json"),
    ("content_type", "x" * 65_535),
    ("content_type", "日" * 21_845),
    ("content_type", "a+b/#"),
    ("response_topic", "answers/ü"),
    ("response_topic", "/"),
    ("response_topic", "x" * 65_535),
    ("correlation_data", b""),
    ("correlation_data", b"\x00\xff"),
    ("correlation_data", bytes(65_535)),
    ("user_property", []),
    ("user_property", [("name", "value")]),
    ("user_property", [("", "")]),
    ("user_property", [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1")]),
    ("user_property", [("n" * 65_535, "v" * 65_535), ("ü", "日本")]),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_each_is_encoded_as_paho_does(name: str, value: Any) -> None:
    assert encode_properties({name: value}, b"") == by_paho({name: value})
    assert decode_properties(by_paho({name: value})) == ({name: value} if value != [] else {})


def test_the_bytes_of_the_specification() -> None:
    """MQTT 5, 2.2.2.2, by hand; the order is one of names, not of what was given first."""
    properties = {
        "user_property": [("b", "1"), ("a", "2")],
        "correlation_data": b"\x07",
        "response_topic": "r",
        "content_type": "c",
        "message_expiry_interval": 258,
        "payload_format_indicator": 1,
    }
    assert encode_properties(properties, b"text") == (
        b"\x01\x01"
        b"\x02\x00\x00\x01\x02"
        b"\x03\x00\x01c"
        b"\x08\x00\x01r"
        b"\x09\x00\x01\x07"
        b"\x26\x00\x01b\x00\x011"
        b"\x26\x00\x01a\x00\x012"
    )


def test_any_of_them_together_are_encoded_as_paho_does() -> None:
    values: dict[str, list[Any]] = {name: [] for name in PAHO_NAMES}
    for name, value in GOOD:
        values[name].append(value)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(100):
        names = chance.sample(list(PAHO_NAMES), chance.randrange(7))
        properties = {name: chance.choice(values[name]) for name in names}
        assert encode_properties(properties, b"text") == by_paho(properties)


@pytest.mark.parametrize("properties", [None, {}])
def test_none_are_nothing(properties: Any) -> None:
    assert encode_properties(properties, b"\xff") == b""
    assert received_properties(properties, b"\xff") == {}


@pytest.mark.parametrize("data", [b"\x01\x02", bytearray(b"\x01\x02"), memoryview(b"\x01\x00\x02")[::2]])
def test_correlation_data_is_whatever_holds_bytes(data: Any) -> None:
    assert encode_properties({"correlation_data": data}, b"") == b"\x09\x00\x02\x01\x02"


@pytest.mark.parametrize("pairs", [[["a", "b"]], (("a", "b"),), [("a", "b")]])
def test_a_pair_is_a_tuple_or_what_json_makes_of_it(pairs: Any) -> None:
    assert encode_properties({"user_property": pairs}, b"") == b"\x26\x00\x01a\x00\x01b"


# ---- what is refused ----


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("payload_format_indicator", True, "an int, not True"),
        ("payload_format_indicator", "1", "an int, not '1'"),
        ("payload_format_indicator", 1.0, "an int, not 1.0"),
        ("payload_format_indicator", None, "an int, not None"),
        ("message_expiry_interval", False, "an int, not False"),
        ("message_expiry_interval", 60.0, "an int, not 60.0"),
        ("message_expiry_interval", "60", "an int, not '60'"),
        ("message_expiry_interval", None, "an int, not None"),
        ("content_type", b"text/plain", "a str, not b'text/plain'"),
        ("content_type", None, "a str, not None"),
        ("response_topic", b"a", "a str, not b'a'"),
        ("response_topic", None, "a str, not None"),
        ("correlation_data", "text", "bytes, bytearray or memoryview, not str: 'text'"),
        ("correlation_data", 7, "not int: 7"),
        ("correlation_data", [1, 2], r"not list: \[1, 2\]"),
        ("correlation_data", None, "not NoneType: None"),
        ("user_property", {"a": "b"}, r"a list of \(name, value\) pairs, .* not dict: {'a': 'b'}"),
        ("user_property", "ab", "not str: 'ab'"),
        ("user_property", None, "not NoneType: None"),
        ("user_property", ["ab"], "'ab' is not one"),
        ("user_property", ("a", "b"), "'a' is not one"),
        ("user_property", [("a",)], r"\('a',\) is not one"),
        ("user_property", [("a", "b", "c")], r"\('a', 'b', 'c'\) is not one"),
        ("user_property", [("a", "b"), None], "None is not one"),
        ("user_property", [(1, "b")], "name of a user_property must be a str, not 1"),
        ("user_property", [("a", 2)], "value of user_property 'a' must be a str, not 2"),
        ("user_property", [("a", b"b")], "value of user_property 'a' must be a str, not b'b'"),
    ],
)
def test_a_wrong_type(name: str, value: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        encode_properties({name: value}, b"")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("payload_format_indicator", 2, "from 0 to 1, not 2"),
        ("payload_format_indicator", -1, "from 0 to 1, not -1"),
        ("message_expiry_interval", -1, "from 0 to 4294967295, not -1"),
        ("message_expiry_interval", 0x1_0000_0000, "from 0 to 4294967295, not 4294967296"),
        ("content_type", "x" * 65_536, "'x{40}'... is longer than 65535 bytes"),
        ("content_type", "日" * 21_846, "is longer than 65535 bytes"),
        ("content_type", "a\x00", r"'a\\x00' contains the character '\\x00'"),
        ("content_type", "\ud800", r"the character '\\ud800'"),
        ("response_topic", "", "'' is empty"),
        ("response_topic", "a/+", r"'a/\+' contains the wildcard '\+'"),
        ("response_topic", "#", "'#' contains the wildcard '#'"),
        ("response_topic", "a\n", r"'a\\n' contains the character '\\n'"),
        ("response_topic", "x" * 65_536, "is longer than 65535 bytes"),
        ("response_topic", "/" * 201, "more than 200 separators"),
        ("correlation_data", bytes(65_536), "is longer than 65535 bytes"),
        ("user_property", [("x" * 65_536, "")], "name of a user_property .* is longer than 65535 bytes"),
        ("user_property", [("a", "x" * 65_536)], "value of user_property 'a' .* is longer than 65535 bytes"),
        ("user_property", [("\ufffe", "")], r"name of a user_property '\\ufffe' contains the character"),
        ("user_property", [("a", "\x7f")], r"value of user_property 'a' '\\x7f' contains the character"),
    ],
)
def test_a_wrong_value(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        encode_properties({name: value}, b"")
    assert name in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["ContentType", "content-type", "retain", 3, None])
def test_an_unknown_name_is_answered_with_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError) as caught:
        encode_properties({"content_type": "a", name: "b"}, b"")
    assert f"unknown property {name!r}" in str(caught.value)
    for known in PAHO_NAMES:
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("subscription_identifier", [7], r"\[7\] cannot be published: the broker gives it"),
        ("topic_alias", 3, "3 cannot be published: an alias is for one connection"),
    ],
)
def test_what_is_not_the_senders_to_give(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode_properties({name: value}, b"")


@pytest.mark.parametrize("properties", [[], [("content_type", "a")], "content_type", 0, False])
def test_properties_are_a_dict(properties: Any) -> None:
    with pytest.raises(TypeError, match=f"must be a dict, not {type(properties).__name__}"):
        encode_properties(properties, b"")


def test_a_payload_that_is_said_to_be_text_is() -> None:
    for payload in ("日本".encode(), b"", b"\x00"):
        assert encode_properties({"payload_format_indicator": 1}, payload) == b"\x01\x01"
    for payload in (b"ok \xff", b"\xed\xa0\x80", "ü".encode("latin-1")):
        assert encode_properties({"payload_format_indicator": 0}, payload) == b"\x01\x00"
        with pytest.raises(ValueError, match="is not UTF-8") as caught:
            encode_properties({"payload_format_indicator": 1}, payload)
        assert repr(payload) in str(caught.value)


def test_payload_and_properties_fit_a_packet_together() -> None:
    payload = bytes(MAX_PAYLOAD - 4)
    assert encode_properties({"content_type": "a"}, payload) == b"\x03\x00\x01a"
    with pytest.raises(ValueError, match=f"{MAX_PAYLOAD - 4} and 5 bytes, .* at most {MAX_PAYLOAD}"):
        encode_properties({"content_type": "ab"}, payload)


# ---- as they are received ----


def test_received_they_are_a_copy_in_the_types_that_are_promised() -> None:
    data, pairs = bytearray(b"1"), [["a", "b"], ("a", "c")]
    given = {"content_type": "text/plain", "correlation_data": data, "user_property": pairs}
    received = received_properties(given, b"")
    data[:] = b"changed"
    pairs.clear()
    assert received == {
        "content_type": "text/plain",
        "correlation_data": b"1",
        "user_property": [("a", "b"), ("a", "c")],
    }
    assert type(received["correlation_data"]) is bytes
    assert type(received["user_property"][0]) is tuple


def test_received_they_are_checked_as_well() -> None:
    with pytest.raises(ValueError, match="subscription_identifier"):
        received_properties({"subscription_identifier": [1]}, b"")
    with pytest.raises(TypeError, match="must be a dict"):
        received_properties([], b"")


@pytest.mark.parametrize(
    "encoded",
    [b"\x0b\x01", b"\x01", b"\x02\x00\x00\x00", b"\x03\x00\x02a", b"\x03\x00\x01\xff", b"\x26\x00\x00"],
)
def test_what_are_no_properties_is_not_decoded(encoded: bytes) -> None:
    with pytest.raises(ValueError, match=f"not the properties of a message: {encoded.hex(' ')}"):
        decode_properties(encoded)
