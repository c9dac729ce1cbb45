"""What MQTT allows in a topic, a filter, a QoS and a payload.

The functions raise `ValueError` or `TypeError` with the offending value, and return nothing or what to send.
"""

from __future__ import annotations

import re

from ._types import Payload

#: MQTT 5, 1.5.4: a string's length in bytes is a two byte integer.
_MAX_BYTES = 65_535
#: The broker refuses topics and filters with more separators than this.
_MAX_SEPARATORS = 200
#: MQTT 5, 2.1.4: what a Remaining Length can say, less the largest possible topic.
_MAX_PAYLOAD = 268_435_455 - _MAX_BYTES - 16

# MQTT 5, 1.5.4: U+0000 and surrogates must not, control and non-characters should not occur; the broker
# refuses them all in what clients send, so consumers are held to the same.
_FORBIDDEN = "\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_not_in_topic = re.compile(f"[+#{_FORBIDDEN}]").search
_not_in_filter = re.compile(f"[{_FORBIDDEN}]").search


def check_topic(topic: str) -> None:
    """Refuses what is not a topic name to publish to (MQTT 5, 4.7.1 and 4.7.3)."""
    if not isinstance(topic, str):
        raise TypeError(f"topic must be a str, not {topic!r}")
    found = _not_in_topic(topic)
    if found:
        character = found.group()
        if character in "+#":
            raise ValueError(f"topic {topic!r} contains the wildcard {character!r}, which only filters may")
        raise ValueError(f"topic {topic!r} contains the character {character!r}, which the broker refuses")
    _check_length("topic", topic)


def check_filter(topic_filter: str) -> None:
    """Refuses what is not a topic filter to subscribe to (MQTT 5, 4.7.1 and 4.7.3)."""
    if not isinstance(topic_filter, str):
        raise TypeError(f"filter must be a str, not {topic_filter!r}")
    found = _not_in_filter(topic_filter)
    if found:
        raise ValueError(
            f"filter {topic_filter!r} contains the character {found.group()!r}, which the broker refuses"
        )
    _check_length("filter", topic_filter)
    levels = topic_filter.split("/")
    if levels[0] == "$share":
        _check_group(topic_filter, levels)
        levels = levels[2:]
    for position, level in enumerate(levels):
        if ("+" in level or "#" in level) and len(level) > 1:
            raise ValueError(
                f"filter {topic_filter!r}: a wildcard must be a whole level, not part of {level!r}"
            )
        if level == "#" and position != len(levels) - 1:
            raise ValueError(f"filter {topic_filter!r}: '#' must be the last level")


def _check_group(topic_filter: str, levels: list[str]) -> None:
    """Refuses what is not $share/group/filter, but for the filter itself (MQTT 5, 4.8.2)."""
    group = levels[1] if len(levels) > 1 else ""
    if not group:
        wrong = "the group has no name"
    elif "+" in group or "#" in group:
        wrong = f"the name of the group, {group!r}, contains a wildcard"
    elif len(levels) == 2 or levels[2:] == [""]:
        wrong = "there is no filter after the group"
    else:
        return
    raise ValueError(f"filter {topic_filter!r}: {wrong}; a shared subscription is $share/<group>/<filter>")


def _check_length(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"{what} {text!r} is empty")
    # A character has at most four bytes: short texts need no counting.
    if len(text) > _MAX_BYTES // 4 and len(text.encode()) > _MAX_BYTES:
        raise ValueError(
            f"{what} {text[:40]!r}... is longer than {_MAX_BYTES} bytes, the most MQTT can carry"
        )
    if len(text) > _MAX_SEPARATORS and text.count("/") > _MAX_SEPARATORS:
        raise ValueError(
            f"{what} {text[:40]!r}... has more than {_MAX_SEPARATORS} separators, which the broker refuses"
        )


def check_qos(qos: int) -> None:
    """Refuses what is not a quality of service (MQTT 5, 4.3)."""
    if isinstance(qos, bool) or not isinstance(qos, int):
        raise TypeError(f"qos must be 0, 1 or 2, not {qos!r}")
    if qos not in (0, 1, 2):
        raise ValueError(f"qos must be 0, 1 or 2, not {qos!r}")


def encode_payload(payload: Payload) -> bytes:
    """The bytes to send for what publish() was given."""
    if isinstance(payload, bytes):
        encoded = payload
    elif isinstance(payload, str):
        encoded = payload.encode()
    elif isinstance(payload, (bytearray, memoryview)):
        encoded = bytes(payload)
    elif isinstance(payload, (int, float)):
        encoded = str(payload).encode()
    elif payload is None:
        encoded = b""
    else:
        raise TypeError(
            "payload must be bytes, bytearray, memoryview, str, int, float or None, "
            f"not {type(payload).__name__}: {payload!r:.80}"
        )
    if len(encoded) > _MAX_PAYLOAD:
        raise ValueError(
            f"payload has {len(encoded)} bytes, MQTT carries at most {_MAX_PAYLOAD} in a message"
        )
    return encoded


def check_event(event: object) -> None:
    """Refuses what an application must not send, whichever event it is."""
    if not isinstance(event, dict) or "type" not in event:
        raise ValueError(f"an event must be a dict with a 'type', not {event!r:.120}")
    kind = event["type"]
    if kind == "mqtt.pub":
        check_topic(event["mqtt"]["topic"])
        check_qos(event["mqtt"].get("qos", 1))
        encode_payload(event["mqtt"]["payload"])
    elif kind == "mqtt.sub":
        check_filter(event["mqtt"]["topic"])
        check_qos(event["mqtt"]["qos"])
    elif kind == "mqtt.usub":
        check_filter(event["mqtt"]["topic"])
    elif kind not in ("mqttasgi.worker.spawn", "mqttasgi.worker.kill"):
        raise ValueError(
            f"unknown event type {kind!r}; an application may send mqtt.pub, mqtt.sub, mqtt.usub, "
            "mqttasgi.worker.spawn and mqttasgi.worker.kill"
        )
