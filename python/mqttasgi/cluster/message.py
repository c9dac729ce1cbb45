"""A message as the runtime wants it, of what paho has read."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Optional

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .._properties import decode_properties, encode_properties
from .._types import Event
from ..runtime.durable import REDELIVERED
from .dead_letters import Replay

#: Our name of a property -> paho's.
NAMES = {
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "user_property": "UserProperty",
}


class Room:
    """What the messages that live take up, and may. Loop thread only."""

    __slots__ = ("bytes", "messages", "most_bytes", "most_messages")

    def __init__(self, options: dict[str, Any]) -> None:
        """Take the administrator's options."""
        self.most_messages: int = options["queue_size"]
        self.most_bytes: int = options["queue_bytes"]
        self.messages = 0
        self.bytes = 0

    def is_over(self, sixteenths: int) -> bool:
        """Whether more than so many sixteenths are taken up."""
        return (
            self.messages * 16 > self.most_messages * sixteenths
            or self.bytes * 16 > self.most_bytes * sixteenths
        )


class ReceivedMessage:
    """A PUBLISH that has come. It takes up room as long as it lives."""

    __slots__ = ("_message", "_room", "is_redelivered", "payload", "qos", "retain", "size", "stored", "topic")

    def __init__(self, message: paho.MQTTMessage, stored: int, room: Room) -> None:
        """Take the number that it is acknowledged by; 0: it is not."""
        self._message = message
        self.topic: str = message.topic
        self.payload: bytes = message.payload
        self.qos: int = message.qos
        self.retain: bool = message.retain
        #: The broker had sent it before, to this process or to one before it.
        self.is_redelivered: bool = message.dup
        self.stored = stored
        self.size = len(self.topic) + len(self.payload)
        self._room = room
        room.messages += 1
        room.bytes += self.size

    def __del__(self) -> None:
        self._room.messages -= 1
        self._room.bytes -= self.size

    #: What comes by MQTT has one way only.
    session = False
    #: How often its consumer has failed at it: the broker does not say.
    tries = 0

    @property
    def is_droppable(self) -> bool:
        """Whether it may be lost where there is no room."""
        return not self.stored

    @property
    def packet_id(self) -> int:
        """The packet identifier that it came with."""
        return int(self._message.mid)

    @property
    def received_ms(self) -> int:
        """When it came, in milliseconds since 1970."""
        ago = time.monotonic() - self._message.timestamp
        return int(1000 * (time.time() - ago))

    def is_same(self, message: paho.MQTTMessage) -> bool:
        """Whether what has come under the same packet identifier is this message."""
        return bool(self.topic == message.topic and self.payload == message.payload)

    def encoded_properties(self) -> bytes:
        """Return its properties as a dead letter keeps them: as on the wire, without their length.

        Brokers let clients send what we refuse to: that is left out. The payload may not be what they say.
        """
        encoded = b""
        for name, value in _properties(self._message.properties).items():
            with contextlib.suppress(ValueError, TypeError):
                encoded += encode_properties({name: value}, b"")
        return encoded

    def event(self, options: int) -> Event:
        """Return a new event for a consumer."""
        return {
            "type": "mqtt.msg",
            "mqtt": {
                "topic": self.topic,
                "payload": self.payload,
                "qos": min(options & 3, self.qos),
                "retain": self.retain,
                "properties": _properties(self._message.properties),
                "client": None,
                "redelivered": self.is_redelivered or bool(options & REDELIVERED),
            },
        }


def encoded(properties: bytes) -> Properties:
    """Return properties as paho wants them, of those on the wire."""
    found = Properties(PacketTypes.PUBLISH)
    for name, value in decode_properties(properties).items():
        setattr(found, NAMES[name], value)
    return found


def replayed(replay: Replay) -> paho.MQTTMessage:
    """Return a dead letter as the message that it was."""
    message = paho.MQTTMessage(topic=replay.topic.encode())
    message.payload, message.qos, message.retain = replay.payload, replay.qos, replay.retain
    message.properties, message.dup = encoded(replay.properties), True
    return message


def identifiers(message: paho.MQTTMessage) -> tuple[int, ...]:
    """Return the identifiers of the subscriptions that a message came for."""
    found: Optional[list[int]] = getattr(message.properties, "SubscriptionIdentifier", None)
    return tuple(found) if found else ()


def _properties(received: Any) -> Any:
    properties = {ours: getattr(received, name) for ours, name in NAMES.items() if hasattr(received, name)}
    if "user_property" in properties:
        properties["user_property"] = [tuple(pair) for pair in properties["user_property"]]
    return properties
