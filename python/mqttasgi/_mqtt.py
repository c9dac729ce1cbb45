"""What MQTT allows in a topic, a filter, a QoS and a payload, and which filters match a topic.

The functions that check raise `ValueError` or `TypeError` with the offending value, and return nothing or
what to send.
"""

from __future__ import annotations

import re
from typing import Union

#: What publish() takes, as paho's does: text is sent as UTF-8, numbers as their decimal text, None as
#: nothing.
Payload = Union[bytes, bytearray, memoryview, str, int, float, None]

#: MQTT 5, 1.5.4: a string's length in bytes is a two byte integer.
MAX_BYTES = 65_535
#: The broker refuses topics and filters with more separators than this.
_MAX_SEPARATORS = 200
#: MQTT 5, 2.1.4: what a Remaining Length can say, less the largest possible topic. Properties count, too.
MAX_PAYLOAD = 268_435_455 - MAX_BYTES - 16

# MQTT 5, 1.5.4: U+0000 and surrogates must not, control and non-characters should not occur; the broker
# refuses them all in what clients send, so consumers are held to the same.
_FORBIDDEN = "\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_not_in_topic = re.compile(f"[+#{_FORBIDDEN}]").search
_not_in_text = re.compile(f"[{_FORBIDDEN}]").search


def check_topic(topic: str, what: str = "topic") -> None:
    """Refuse what is not a topic name to publish to (MQTT 5, 4.7.1 and 4.7.3); `what` errors call it."""
    if not isinstance(topic, str):
        raise TypeError(f"{what} must be a str, not {topic!r}")
    found = _not_in_topic(topic)
    if found:
        character = found.group()
        if character in "+#":
            raise ValueError(f"{what} {topic!r} contains the wildcard {character!r}, which only filters may")
        raise ValueError(f"{what} {topic!r} contains the character {character!r}, which the broker refuses")
    _check_levels(what, topic)


def check_filter(topic_filter: str) -> None:
    """Refuse what is not a topic filter to subscribe to (MQTT 5, 4.7.1 and 4.7.3)."""
    check_text("filter", topic_filter)
    _check_levels("filter", topic_filter)
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
    """Refuse what is not $share/group/filter, but for the filter itself (MQTT 5, 4.8.2)."""
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


def check_text(what: str, text: str) -> None:
    """Refuse what is not a UTF-8 string (MQTT 5, 1.5.4); `what` errors call it."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {text!r}")
    found = _not_in_text(text)
    if found:
        raise ValueError(
            f"{what} {text!r:.120} contains the character {found.group()!r}, which the broker refuses"
        )
    _check_length(what, text)


def _check_length(what: str, text: str) -> None:
    # A character has at most four bytes: short texts need no counting.
    if len(text) > MAX_BYTES // 4 and len(text.encode()) > MAX_BYTES:
        raise ValueError(f"{what} {text[:40]!r}... is longer than {MAX_BYTES} bytes, the most MQTT can carry")


def _check_levels(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"{what} {text!r} is empty")
    # Short texts need a look neither at their length nor at their separators.
    if len(text) > _MAX_SEPARATORS:
        _check_length(what, text)
        if text.count("/") > _MAX_SEPARATORS:
            raise ValueError(
                f"{what} {text[:40]!r}... has more than {_MAX_SEPARATORS} separators, which the broker "
                "refuses"
            )


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic (MQTT 5, 4.7), both of which are valid.

    A shared subscription matches by the filter behind its group (MQTT 5, 4.8.2).
    """
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    if topic_filter == topic:
        return True
    # MQTT 5, 4.7.2: a wildcard in the first place is not for the broker's own topics.
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    if wanted[-1] == "#":
        # It stands for any number of levels, none included (MQTT 5, 4.7.1.2).
        del wanted[-1]
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    # Where there are more levels than are wanted, '#' matches the rest.
    return all(want in ("+", level) for want, level in zip(wanted, levels))


def check_qos(qos: int) -> None:
    """Refuse what is not a quality of service (MQTT 5, 4.3)."""
    if isinstance(qos, bool) or not isinstance(qos, int):
        raise TypeError(f"qos must be 0, 1 or 2, not {qos!r}")
    if qos not in (0, 1, 2):
        raise ValueError(f"qos must be 0, 1 or 2, not {qos!r}")


def check_int(what: str, value: int, least: int, most: int) -> None:
    """Refuse what is not an int of a range; `what` errors call it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be from {least} to {most}, not {value!r}")


def encode_payload(payload: Payload) -> bytes:
    """Return the bytes to send for what publish() was given."""
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
    if len(encoded) > MAX_PAYLOAD:
        raise ValueError(f"payload has {len(encoded)} bytes, MQTT carries at most {MAX_PAYLOAD} in a message")
    return encoded
