"""An MQTT 3.1.1 client that sends what it is told to, also what no library would send."""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from .processes import PATIENCE

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
_CONNECT, _CONNACK, _PUBLISH = 1, 2, 3


class PacketClient:
    """One connection. A context manager; its end closes the connection without DISCONNECT."""

    def __init__(self, port: int, client_id: str, *, clean: bool = True) -> None:
        """Connect, and return after the CONNACK."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 2 if clean else 0
        # MQTT 3.1.1, 3.1.2: protocol name and level, connect flags, keep alive.
        self._send(_CONNECT << 4, _string("MQTT") + struct.pack("!BBH", 4, flags, 60) + _string(client_id))
        answer = self.expect(_CONNACK)
        if answer[1] != 0:
            raise ConnectionError(f"the broker refused the connection: return code {answer[1]}")

    def __enter__(self) -> PacketClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, topic: str, payload: bytes, qos: int, packet: int = 0, *, dup: bool = False) -> None:
        """Send a PUBLISH; nothing is waited for.

        Args:
            packet: The packet identifier, for QoS 1 and 2.
            dup: Say that it was sent before.
        """
        body = _string(topic) + (struct.pack("!H", packet) if qos else b"") + payload
        self._send(_PUBLISH << 4 | dup << 3 | qos << 1, body)

    def release(self, packet: int) -> None:
        """Send a PUBREL: the broker may pass the QoS 2 message on."""
        self._send(PUBREL << 4 | 2, struct.pack("!H", packet))

    def expect(self, kind: int, packet: int | None = None) -> bytes:
        """Read one packet, which must be of that kind and, where given, have that identifier; returns its body."""
        first = self._read(1)[0]
        body = self._read(self._length())
        if first >> 4 != kind:
            raise AssertionError(f"a packet of kind {kind} was expected, not {first >> 4}: {body!r}")
        if packet is not None and struct.unpack("!H", body[:2])[0] != packet:
            raise AssertionError(f"packet identifier {packet} was expected: {body!r}")
        return body

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def _send(self, first: int, body: bytes) -> None:
        length = len(body)
        head = bytearray([first])
        while True:
            length, digit = divmod(length, 128)
            head.append(digit | (0x80 if length else 0))
            if not length:
                break
        self._socket.sendall(bytes(head) + body)

    def _length(self) -> int:
        length = shift = 0
        while True:
            digit = self._read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return length

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker has closed the connection")
            data += more
        return data


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded
