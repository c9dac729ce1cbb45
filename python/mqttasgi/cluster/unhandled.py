"""Messages of QoS 1 that have come and are not acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, Optional

import paho.mqtt.client as paho

from .message import ReceivedMessage


class _Entry:
    __slots__ = ("is_current", "message", "packet_id", "waits_for")

    def __init__(self, message: ReceivedMessage, packet_id: int, waits_for: set[int]) -> None:
        self.message = message
        #: 0: it cannot be acknowledged, for the session that it came in has ended, or it was a dead letter.
        self.packet_id = packet_id
        #: It came by the connection that is up.
        self.is_current = True
        #: Handles of the consumers that have not handled it.
        self.waits_for = waits_for


class Unhandled:
    """Knows whom each message waits for, and acknowledges it when that is nobody. Loop thread only.

    The broker fills it, and Receive Maximum bounds it. A message that was under way when the connection was
    lost comes again with its packet identifier (MQTT 5, 4.4). Where it is still being handled, that is no
    other message; where it has been handled meanwhile, it only wants its acknowledgement.
    """

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        """Take what sends the PUBACK with a packet identifier."""
        self._acknowledge = acknowledge
        self._entries: dict[int, _Entry] = {}
        #: Packet identifier -> number, of what is still known by it.
        self._by_packet: dict[int, int] = {}
        #: Packet identifier -> what was handled while it could not be acknowledged.
        self._late: dict[int, ReceivedMessage] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def is_known(self, message: paho.MQTTMessage) -> bool:
        """Whether a message is one from before that has come again; then it needs nothing more."""
        packet_id = message.mid
        number = self._by_packet.get(packet_id)
        if number is not None:
            entry = self._entries[number]
            if message.dup and entry.message.is_same(message):
                entry.is_current = True
                return True
            entry.packet_id = 0  # the broker has given it to another message
            del self._by_packet[packet_id]
        late = self._late.pop(packet_id, None)
        if late is not None and message.dup and late.is_same(message):
            self._acknowledge(packet_id)
            return True
        return False

    def add(self, message: ReceivedMessage, waits_for: set[int]) -> None:
        """Add a message, or acknowledge it at once where nobody has to handle it."""
        packet_id = message.packet_id
        if not waits_for:
            self._acknowledge(packet_id)
            return
        self._entries[message.stored] = _Entry(message, packet_id, waits_for)
        if packet_id:
            self._by_packet[packet_id] = message.stored

    def message(self, number: int) -> Optional[ReceivedMessage]:
        """Return the message with a number; None: it waits for nobody any more."""
        entry = self._entries.get(number)
        return entry.message if entry is not None else None

    def done(self, handle: int, number: int) -> None:
        """Note that a consumer has handled a message, or never will."""
        entry = self._entries.get(number)
        if entry is None:
            return
        entry.waits_for.discard(handle)
        if entry.waits_for:
            return
        del self._entries[number]
        packet_id = entry.packet_id
        if not packet_id:
            return
        del self._by_packet[packet_id]
        if entry.is_current:
            self._acknowledge(packet_id)
        else:
            self._late[packet_id] = entry.message

    def of(self, handle: int) -> Iterator[ReceivedMessage]:
        """Iterate over what waits for a consumer."""
        return (entry.message for entry in list(self._entries.values()) if handle in entry.waits_for)

    def down(self) -> None:
        """Note that the connection is lost."""
        for entry in self._entries.values():
            entry.is_current = False

    def session_ended(self) -> None:
        """Note that the broker knows nothing any more of what it has sent."""
        for entry in self._entries.values():
            entry.packet_id = 0
        self._by_packet.clear()
        self._late.clear()
