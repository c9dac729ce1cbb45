"""The properties of a PUBLISH: what MQTT 5 allows in them, and how they look on the wire (3.3.2.3)."""

from __future__ import annotations

import struct
from typing import Any, Callable, TypedDict

from ._mqtt import MAX_BYTES, MAX_PAYLOAD, check_int, check_text, check_topic


class Properties(TypedDict, total=False):
    """What accompanies a message (MQTT 5, 3.3.2.3). Only those that are there have a key."""

    #: 1: the payload is UTF-8 text; 0: it is not said what it is (3.3.2.3.2).
    payload_format_indicator: int
    #: Seconds that the broker keeps the message for who is offline, 0 to 4,294,967,295; in a received message
    #: those that are left (3.3.2.3.3).
    message_expiry_interval: int
    #: What the payload is, often a MIME type (3.3.2.3.9).
    content_type: str
    #: Where an answer is to be published (3.3.2.3.5).
    response_topic: str
    #: What tells the requester which request an answer is to (3.3.2.3.6).
    correlation_data: bytes
    #: (name, value); a name may occur several times, and the order is kept (3.3.2.3.7).
    user_property: list[tuple[str, str]]
    #: In received messages only: the identifiers of the subscriptions that match, in ascending order
    #: (3.3.2.3.8).
    subscription_identifier: list[int]


# Values have the types of `Properties`, but are checked as if they had any: they come from applications.


def encode_properties(properties: object, payload: bytes) -> bytes:
    """Return the properties as on the wire (MQTT 5, 2.2.2.2): identifier and value, one after the other.

    The length is not in front. User properties come last.

    `properties` is a `Properties` or None, `payload` what they accompany. Raises `TypeError` for a value of a
    wrong type, and `ValueError` for an unknown name, for a value that MQTT does not allow or the broker
    refuses, and for a payload that they do not fit.
    """
    if properties is None:
        return b""
    if not isinstance(properties, dict):
        raise TypeError(f"properties must be a dict, not {type(properties).__name__}: {properties!r:.80}")
    for name in properties:
        if name not in _ENCODERS:
            _refuse(name, properties[name])
    encoded = b"".join(encode(properties[name]) for name, encode in _ENCODERS.items() if name in properties)
    if len(payload) + len(encoded) > MAX_PAYLOAD:
        raise ValueError(
            f"payload and properties have {len(payload)} and {len(encoded)} bytes, MQTT carries at most "
            f"{MAX_PAYLOAD} in a message"
        )
    if properties.get("payload_format_indicator") == 1:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"payload_format_indicator is 1, but the payload {payload[:40]!r}... is not UTF-8: "
                f"{error.reason} at byte {error.start}"
            ) from None
    return encoded


def received_properties(properties: object, payload: bytes) -> Properties:
    """Return the properties as who receives the message gets them: a copy in the types of `Properties`.

    Raises like `encode_properties`.
    """
    encode_properties(properties, payload)
    received: Any = dict(properties or {})  # type: ignore[call-overload]
    if "correlation_data" in received:
        received["correlation_data"] = bytes(received["correlation_data"])
    if "user_property" in received:
        received["user_property"] = [(name, value) for name, value in received["user_property"]]
    checked: Properties = received
    return checked


def decode_properties(encoded: bytes) -> Properties:
    """Return the properties of which `encode_properties` has made these bytes.

    Raises `ValueError` where they are no properties of a PUBLISH.
    """
    found: Any = {}
    rest = memoryview(encoded)
    try:
        while rest:
            name, decode = _DECODERS[rest[0]]
            value, rest = decode(rest[1:])
            if name == "user_property":
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
    except (KeyError, struct.error, UnicodeDecodeError):
        raise ValueError(f"not the properties of a message: {encoded[:40].hex(' ')}") from None
    properties: Properties = found
    return properties


def _refuse(name: object, value: object) -> None:
    if name == "subscription_identifier":
        raise ValueError(
            f"subscription_identifier {value!r} cannot be published: the broker gives it to those who "
            "subscribed with one (MQTT 5, 3.3.4)"
        )
    if name == "topic_alias":
        raise ValueError(
            f"topic_alias {value!r} cannot be published: an alias is for one connection, and consumers have "
            "none (MQTT 5, 3.3.2.3.4)"
        )
    raise ValueError(f"unknown property {name!r}; a message may have {', '.join(map(str, _ENCODERS))}")


# ---- one function for each property ----


def _payload_format_indicator(value: Any) -> bytes:
    check_int("payload_format_indicator", value, 0, 1)
    return struct.pack("!BB", 0x01, value)


def _message_expiry_interval(value: Any) -> bytes:
    check_int("message_expiry_interval", value, 0, 0xFFFF_FFFF)
    return struct.pack("!BI", 0x02, value)


def _content_type(value: Any) -> bytes:
    check_text("content_type", value)
    return b"\x03" + _with_length(value.encode())


def _response_topic(value: Any) -> bytes:
    # The broker refuses to publish an answer to what is no topic.
    check_topic(value, "response_topic")
    return b"\x08" + _with_length(value.encode())


def _correlation_data(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(
            "correlation_data must be bytes, bytearray or memoryview, not "
            f"{type(value).__name__}: {value!r:.80}"
        )
    data = bytes(value)
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"correlation_data {data[:40]!r}... is longer than {MAX_BYTES} bytes, the most MQTT can carry"
        )
    return b"\x09" + _with_length(data)


def _user_property(value: Any) -> bytes:
    if not isinstance(value, (list, tuple)):
        # A dict is what one thinks of first.
        raise TypeError(
            "user_property must be a list of (name, value) pairs, because a name may occur several times, "
            f"not {type(value).__name__}: {value!r:.80}"
        )
    return b"".join(map(_user_pair, value))


def _user_pair(pair: Any) -> bytes:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TypeError(f"user_property must be a list of (name, value) pairs; {pair!r:.80} is not one")
    name, value = pair
    check_text("name of a user_property", name)
    check_text(f"value of user_property {name[:40]!r}", value)
    return b"\x26" + _with_length(name.encode()) + _with_length(value.encode())


def _with_length(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


#: Name -> what checks and encodes the value, in the order on the wire.
_ENCODERS: dict[object, Callable[[Any], bytes]] = {
    "payload_format_indicator": _payload_format_indicator,
    "message_expiry_interval": _message_expiry_interval,
    "content_type": _content_type,
    "response_topic": _response_topic,
    "correlation_data": _correlation_data,
    "user_property": _user_property,
}


# ---- and back: each takes the bytes behind the identifier, and returns the value and what is left ----


def _read(form: str, data: memoryview) -> tuple[Any, memoryview]:
    (value,) = struct.unpack_from(form, data)
    return value, data[struct.calcsize(form) :]


def _read_bytes(data: memoryview) -> tuple[bytes, memoryview]:
    length, rest = _read("!H", data)
    (value,) = struct.unpack_from(f"{length}s", rest)
    return value, rest[length:]


def _read_text(data: memoryview) -> tuple[str, memoryview]:
    value, rest = _read_bytes(data)
    return value.decode(), rest


def _read_pair(data: memoryview) -> tuple[tuple[str, str], memoryview]:
    name, rest = _read_text(data)
    value, rest = _read_text(rest)
    return (name, value), rest


#: Identifier -> name, and what decodes the value.
_DECODERS: dict[int, tuple[str, Callable[[memoryview], tuple[Any, memoryview]]]] = {
    0x01: ("payload_format_indicator", lambda data: _read("!B", data)),
    0x02: ("message_expiry_interval", lambda data: _read("!I", data)),
    0x03: ("content_type", _read_text),
    0x08: ("response_topic", _read_text),
    0x09: ("correlation_data", _read_bytes),
    0x26: ("user_property", _read_pair),
}
