"""The properties of a PUBLISH as a consumer has them, and as paho does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_PAHO_NAMES = {
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "user_property": "UserProperty",
    "subscription_identifier": "SubscriptionIdentifier",
}


def to_paho(properties: Mapping[str, Any], packet: int = PacketTypes.PUBLISH) -> Properties:
    """Return what paho's `publish()` or, with `PacketTypes.WILLMESSAGE`, its `will_set()` takes."""
    made = Properties(packet)
    for name, value in properties.items():
        setattr(made, _PAHO_NAMES[name], value)
    return made


def from_paho(message: MQTTMessage) -> dict[str, Any]:
    """Return the properties of a message that paho received, in the order of MQTT 5's table of them."""
    found = {}
    for name, theirs in _PAHO_NAMES.items():
        if message.properties is not None and hasattr(message.properties, theirs):
            found[name] = getattr(message.properties, theirs)
    return found


def check_properties(found: Mapping[str, Any], given: Mapping[str, Any], *, expiry: bool = True) -> None:
    """Compare what arrived with what was sent.

    Args:
        expiry: Whether the message expiry interval is shown: as what is left of the one given (MQTT 5, 3.3.2.3.3).
            Otherwise it must be missing.
    """
    rest, expected = dict(found), dict(given)
    left, whole = rest.pop("message_expiry_interval", None), expected.pop("message_expiry_interval", None)
    assert rest == expected
    if expiry and whole is not None:
        assert isinstance(left, int) and whole - 600 < left <= whole, (left, whole)
    else:
        assert left is None
