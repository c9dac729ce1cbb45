"""What crosses the ASGI interface: checks what applications send, and completes what they receive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ._mqtt import check_filter, check_int, check_qos, check_topic, encode_payload, topic_matches
from ._properties import encode_properties
from ._types import DisconnectReason

#: The largest Variable Byte Integer (MQTT 5, 1.5.5).
_MAX_IDENTIFIER = 268_435_455

#: MQTT 5, 3.14.2.1, and from 2.4 the one that only that table gives to DISCONNECT, 0x8C.
DISCONNECT_REASONS = {
    0x00: "Normal disconnection",
    0x04: "Disconnect with Will Message",
    0x80: "Unspecified error",
    0x81: "Malformed Packet",
    0x82: "Protocol Error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x89: "Server busy",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep Alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic Filter invalid",
    0x90: "Topic Name invalid",
    0x93: "Receive Maximum exceeded",
    0x94: "Topic Alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared Subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription Identifiers not supported",
    0xA2: "Wildcard Subscriptions not supported",
}


# ---- what applications send ----


def check_event(event: object) -> None:
    """Refuse what an application must not send, whichever event it is.

    Raises `ValueError` or `TypeError` with the offending value, `KeyError` for a part that is missing.
    """
    if not isinstance(event, dict) or "type" not in event:
        raise ValueError(f"an event must be a dict with a 'type', not {event!r:.120}")
    kind = event["type"]
    if kind == "mqtt.pub":
        mqtt = event["mqtt"]
        check_topic(mqtt["topic"])
        check_qos(mqtt.get("qos", 1))
        encode_properties(mqtt.get("properties"), encode_payload(mqtt["payload"]))
    elif kind == "mqtt.sub":
        subscription_options(event["mqtt"])
    elif kind == "mqtt.usub":
        check_filter(event["mqtt"]["topic"])
    elif kind not in ("mqtt.client.watch", "mqttasgi.worker.spawn", "mqttasgi.worker.kill"):
        raise ValueError(
            f"unknown event type {kind!r}; an application may send mqtt.pub, mqtt.sub, mqtt.usub, "
            "mqtt.client.watch, mqttasgi.worker.spawn and mqttasgi.worker.kill"
        )


def subscription_options(mqtt: Mapping[str, Any]) -> int:
    """Return the Subscription Options byte (MQTT 5, 3.8.3.1) for the `mqtt` part of an `mqtt.sub` event.

    Raises `ValueError` or `TypeError` for anything in it, its filter and identifier included, that MQTT does
    not allow.
    """
    topic_filter = mqtt["topic"]
    check_filter(topic_filter)
    check_qos(mqtt["qos"])
    no_local = _flag(mqtt, "no_local")
    if no_local and topic_filter.startswith("$share/"):
        raise ValueError(
            f"filter {topic_filter!r} with no_local: MQTT does not allow it for shared subscriptions "
            "(MQTT 5, 3.8.3.1)"
        )
    retain_as_published = _flag(mqtt, "retain_as_published")
    _flag(mqtt, "shared", True)
    retain_handling = mqtt.get("retain_handling", 0)
    check_int("retain_handling", retain_handling, 0, 2)
    identifier = mqtt.get("subscription_identifier")
    if identifier is not None:
        check_int("subscription_identifier", identifier, 1, _MAX_IDENTIFIER)
    options: int = mqtt["qos"] | no_local << 2 | retain_as_published << 3 | retain_handling << 4
    return options


def _flag(mqtt: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = mqtt.get(name, default)
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


# ---- what applications receive ----


def keep_identifier(identifiers: dict[str, int], mqtt: Mapping[str, Any]) -> None:
    """Note what an `mqtt.sub` event says about the identifier of its filter.

    A subscription replaces the one before it, with what that had (MQTT 5, 3.8.4).
    """
    identifier = mqtt.get("subscription_identifier")
    if identifier is None:
        identifiers.pop(mqtt["topic"], None)
    else:
        identifiers[mqtt["topic"]] = identifier


def matching_identifiers(topic: str, identifiers: Mapping[str, int]) -> list[int]:
    """Return those of a consumer's identifiers, by filter, that a live message on this topic comes with.

    The consumer gets it once, so they are those of all filters that match; filters of the same identifier
    each count (MQTT 5, 3.3.4).
    """
    return sorted(
        identifier for topic_filter, identifier in identifiers.items() if topic_matches(topic_filter, topic)
    )


def add_identifiers(mqtt: dict[str, Any], found: list[int]) -> None:
    """Add `subscription_identifier` to the properties of a received message, where there are any."""
    if found:
        # Not into the dict itself, which other consumers may have as well.
        mqtt["properties"] = {**mqtt["properties"], "subscription_identifier": found}


def disconnect_reason(code: Optional[int], session_ends: Optional[bool]) -> DisconnectReason:
    """Return a `DisconnectReason` with the code's name, "unknown" for None and what MQTT 5 does not know."""
    name = "unknown" if code is None else DISCONNECT_REASONS.get(code, "unknown")
    return {"code": code, "name": name, "session_ends": session_ends}


def complete_client_event(mqtt: dict[str, Any]) -> None:
    """Add what the plugin leaves out of an event about a client: the name of its reason."""
    if "reason" in mqtt:
        mqtt["reason"] = disconnect_reason(**mqtt["reason"])
