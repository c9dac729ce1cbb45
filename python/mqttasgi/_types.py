"""The shapes that cross the ASGI interface. Names are those of mqttasgi 1.0 and MQTT 5."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable, Optional, TypedDict

from ._properties import Properties

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What every consumer finds in its scope; mqttasgi has the same two versions there.
#: What the scope says of a process that shares messages with no other. What is added to a scope may have the
#: same names, and then counts.
ALONE: dict[str, Any] = {"process": 0, "processes": 1, "is_leader": True}
SCOPE = {"type": "mqtt", "version": "2.4", "spec_version": "0.1"}


class Certificate(TypedDict):
    """What a client's TLS certificate says."""

    #: Distinguished names as RFC 2253 writes them, such as `CN=lamp,O=Example`.
    subject: str
    issuer: str
    #: The subject's, where it has one.
    common_name: Optional[str]
    #: In hexadecimal.
    serial_number: str
    #: (type, value), such as `("DNS", "a.example")`.
    subject_alternative_names: tuple[tuple[str, str], ...]
    #: In hexadecimal.
    fingerprint_sha256: str
    #: Seconds since the epoch, UTC.
    not_before: int
    not_after: int


class Client(TypedDict):
    """A client of the broker."""

    #: The client identifier (MQTT 5, 3.1.3.1).
    id: str
    #: None where it gave none.
    username: Optional[str]
    #: Its IP address; None where the broker does not say.
    address: Optional[str]
    #: "mqtt" or "websockets".
    protocol: str
    #: 3 for MQTT 3.1, 4 for 3.1.1, 5.
    protocol_version: int
    #: None where it has shown none.
    certificate: Optional[Certificate]


class DisconnectReason(TypedDict):
    """Why and how a connection ended."""

    #: The reason code (MQTT 5, 3.14.2.1); None where the broker does not say, as Mosquitto 2.0.
    code: Optional[int]
    #: The specification's name of the code, "unknown" where there is none. "Unspecified error" (0x80) is,
    #: among others, a connection that was lost without a DISCONNECT.
    name: str
    #: True: the session ended with the connection. False: the client is offline, and the broker keeps
    #: messages for it. None: the broker does not say, or another connection of the client took the session
    #: over.
    session_ends: Optional[bool]


class MqttMessage(TypedDict):
    """What a consumer's receive() gets: the `mqtt` part of an `mqtt.msg` event."""

    #: The topic it was published to.
    topic: str
    #: The application message, untouched.
    payload: bytes
    #: 0, 1 or 2: the lower of the publisher's QoS and the subscription's (MQTT 5, 3.8.4).
    qos: int
    #: True for a message that the broker had kept (MQTT 5, 3.3.1.3), and for one that was published so to a
    #: subscription with retain_as_published; otherwise False.
    retain: bool
    #: Empty where the message has none, or came by an older version of MQTT.
    properties: Properties
    #: Who published it; None where the broker does not say.
    client: Optional[Client]
    #: True where this consumer may have been given it before: it failed at it, or the broker ended meanwhile.
    redelivered: bool
