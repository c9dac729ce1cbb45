"""An MQTT client that sends what it is told to, also what no library would send; and the packets it is made of."""

from __future__ import annotations

import socket
import ssl
import struct
from types import TracebackType
from typing import Optional

from .processes import PATIENCE

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
_CONNECT, _CONNACK, _PUBLISH = 1, 2, 3

DISCONNECT = b"\xe0\x00"
"""The packet that says goodbye: with MQTT 5, normal disconnection."""


class PacketClient:
    """One connection. A context manager; its end closes the connection without DISCONNECT."""

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        clean: bool = True,
        protocol: int = 4,
        keepalive: int = 60,
        username: str | None = None,
        password: str | None = None,
        will: tuple[str, bytes, int] | None = None,
        properties: bytes = b"",
    ) -> None:
        """Connect, and return after the CONNACK.

        Args:
            protocol: The protocol version in the CONNECT: 3 (MQTT 3.1), 4 (3.1.1) or 5.
            keepalive: In seconds. Nothing is sent to keep it.
            will: Topic, payload and QoS of the last will.
            properties: Of the CONNECT, encoded; MQTT 5 only.

        Raises:
            ConnectionError: The broker refused, or closed the connection.
        """
        self.protocol = protocol
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(
            connect_packet(
                client_id,
                clean=clean,
                protocol=protocol,
                keepalive=keepalive,
                username=username,
                password=password,
                will=will,
                properties=properties,
            )
        )
        try:
            answer = self.expect(_CONNACK)
            if answer[1] != 0:
                raise ConnectionError(f"the broker refused the connection: return code {answer[1]}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PacketClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        packet: int = 0,
        *,
        dup: bool = False,
        properties: bytes = b"",
    ) -> None:
        """Send a PUBLISH; nothing is waited for.

        Args:
            packet: The packet identifier, for QoS 1 and 2.
            dup: Say that it was sent before.
            properties: Encoded, without their length; MQTT 5 only.
        """
        made = publish_packet(
            topic, payload, qos, packet, dup=dup, properties=properties if self.protocol == 5 else None
        )
        self.send(made)

    def release(self, packet: int) -> None:
        """Send a PUBREL: the broker may pass the QoS 2 message on."""
        self.send(release_packet(packet))

    def disconnect(self) -> None:
        """Say DISCONNECT, and close the connection when the broker has."""
        self.send(DISCONNECT)
        self.wait_for_end()

    def expect(self, kind: int, packet: int | None = None) -> bytes:
        """Read one packet, which must be of that kind and, where given, have that identifier; returns its body."""
        first, body = self.read()
        if first >> 4 != kind:
            raise AssertionError(f"a packet of kind {kind} was expected, not {first >> 4}: {body!r}")
        if packet is not None and struct.unpack("!H", body[:2])[0] != packet:
            raise AssertionError(f"packet identifier {packet} was expected: {body!r}")
        return body

    def read(self) -> tuple[int, bytes]:
        """Read one packet; returns its first byte and its body."""
        first = self._read(1)[0]
        return first, self._read(self._length())

    def wait_for_end(self) -> bytes:
        """Read until the broker closes the connection, close it too, and return what came.

        Raises:
            TimeoutError: The broker did not close it.
        """
        received = read_to_end(self._socket)
        self.close()
        return received

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

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


def shout(port: int, data: bytes, tls: Optional[ssl.SSLContext] = None) -> bytes:
    """Connect, send everything at once, and return what the broker says until it closes the connection.

    Raises:
        TimeoutError: The broker did not close it.
        ssl.SSLError: The handshake failed.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE) as plain:
        connection = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        with connection:
            connection.sendall(data)
            return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes the connection, or breaks it."""
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
    except (ConnectionError, ssl.SSLError):
        pass
    return received


# ---- packets ----


def connect_packet(
    client_id: str,
    *,
    clean: bool = True,
    protocol: int = 4,
    keepalive: int = 60,
    username: str | None = None,
    password: str | None = None,
    will: tuple[str, bytes, int] | None = None,
    properties: bytes = b"",
) -> bytes:
    """Build a CONNECT; arguments as of `PacketClient`."""
    flags = clean << 1 | (username is not None) << 7 | (password is not None) << 6
    if will is not None:
        flags |= 1 << 2 | will[2] << 3
    # MQTT 3.1.1 and 5, 3.1.2: protocol name and level, connect flags, keep alive.
    body = string("MQIsdp" if protocol == 3 else "MQTT") + struct.pack("!BBH", protocol, flags, keepalive)
    if protocol == 5:
        body += variable(len(properties)) + properties
    body += string(client_id)
    if will is not None:
        topic, payload, _ = will
        body += (b"\0" if protocol == 5 else b"") + string(topic) + struct.pack("!H", len(payload)) + payload
    for text in (username, password):
        if text is not None:
            body += string(text)
    return packet(_CONNECT << 4, body)


def publish_packet(
    topic: str,
    payload: bytes,
    qos: int,
    identifier: int = 0,
    *,
    dup: bool = False,
    retain: bool = False,
    properties: bytes | None = None,
) -> bytes:
    """Build a PUBLISH: of MQTT 5 with encoded `properties`, of an older one with None."""
    body = string(topic) + (struct.pack("!H", identifier) if qos else b"")
    if properties is not None:
        body += variable(len(properties)) + properties
    return packet(_PUBLISH << 4 | dup << 3 | qos << 1 | retain, body + payload)


def release_packet(identifier: int) -> bytes:
    """Build a PUBREL."""
    return packet(PUBREL << 4 | 2, struct.pack("!H", identifier))


def packet(first: int, body: bytes) -> bytes:
    """Build a packet from its first byte and what follows the length."""
    return bytes([first]) + variable(len(body)) + body


def variable(number: int) -> bytes:
    """Encode a variable byte integer (MQTT 5, 1.5.5)."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def string(text: str) -> bytes:
    """Encode a string with its length."""
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded
