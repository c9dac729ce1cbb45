"""The shapes that cross the ASGI interface. Names are those of mqttasgi 1.0 and MQTT 5."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable, TypedDict, Union

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What publish() takes, as paho's does: text is sent as UTF-8, numbers as their decimal text, None as
#: nothing.
Payload = Union[bytes, bytearray, memoryview, str, int, float, None]


class MqttMessage(TypedDict):
    """What a consumer's receive() gets: the `mqtt` part of an `mqtt.msg` event."""

    #: The topic it was published to.
    topic: str
    #: The application message, untouched.
    payload: bytes
    #: 0, 1 or 2: the lower of the publisher's QoS and the subscription's (MQTT 5, 3.8.4).
    qos: int
    #: True only for a message that the broker had kept (MQTT 5, 3.3.1.3).
    retain: bool
