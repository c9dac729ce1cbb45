"""Clients that write down everything the broker answers, so that two brokers can be compared.

Nothing here waits for time to pass: a broker answers a PINGREQ after all that it had for the client before.
"""

from __future__ import annotations

import struct

from .packets import PUBACK, PUBCOMP, PUBREC, PUBREL, PacketClient, packet, publish_packet, string, variable

PUBLISH, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 3, 9, 11, 13, 14
_SUBSCRIBE, _UNSUBSCRIBE, _PINGREQ = 0x82, 0xA2, b"\xc0\x00"
_FAILED = 0x80
_KEEP_SESSION = b"\x11" + struct.pack("!I", 3600)


class Gone(Exception):
    """The broker has closed the connection."""


class Talker:
    """A client by name; what happens to it goes into `transcript`.

    Attributes:
        name: In the transcript, and its client id.
        protocol: 4 is MQTT 3.1.1, 5 is MQTT 5.
        heard: Topic, payload, QoS and RETAIN flag of all that came.
        connected: Whether the broker let it in, and keeps it.
    """

    def __init__(
        self, transcript: list[str], name: str, username: str | None, password: str | None, protocol: int
    ) -> None:
        """Nothing is connected yet."""
        self.transcript = transcript
        self.name = name
        self.protocol = protocol
        self.heard: list[tuple[str, str, int, bool]] = []
        self.connected = False
        self._username = username
        self._password = password
        self._numbers = 0
        self._told = 0  # how much of `heard` is in the transcript

    def connect(
        self, port: int, *, will: tuple[str, bytes, int] | None = None, kept: bool = False, as_user: str = ""
    ) -> bool:
        """Connect; returns whether the broker lets it in.

        Args:
            kept: Take up the session of that name, and let it stay.
            as_user: With this user name and its password, in place of its own.
        """
        try:
            self._client = PacketClient(
                port,
                self.name,
                clean=not kept,
                protocol=self.protocol,
                username=as_user or self._username,
                password=f"of {as_user}" if as_user else self._password,
                will=will,
                properties=_KEEP_SESSION if kept and self.protocol == 5 else b"",
            )
        except ConnectionError as refusal:
            self._say(f"is not let in: {refusal}")
            return False
        self.connected = True
        self._say("is let in")
        return True

    def subscribe(self, filter: str, qos: int) -> None:
        """Subscribe."""
        body = self._identifier() + self._no_properties() + string(filter) + bytes([qos])
        code = self._ask(packet(_SUBSCRIBE, body), SUBACK)[-1]
        self._say(f"subscribes to {filter} at QoS {qos}: {code}")

    def unsubscribe(self, filter: str) -> None:
        """Unsubscribe."""
        body = self._identifier() + self._no_properties() + string(filter)
        answer = self._ask(packet(_UNSUBSCRIBE, body), UNSUBACK)
        self._say(f"unsubscribes from {filter}: {answer[-1] if self.protocol == 5 else 'done'}")

    def publish(self, topic: str, payload: str, qos: int, retain: bool = False) -> None:
        """Publish, and return when the broker has dealt with it."""
        number = struct.unpack("!H", self._identifier())[0]
        properties = b"" if self.protocol == 5 else None
        sent = publish_packet(topic, payload.encode(), qos, number, retain=retain, properties=properties)
        if qos == 0:
            self._ask(sent + _PINGREQ, PINGRESP)
            return
        code = _reason(self._ask(sent, PUBACK if qos == 1 else PUBREC))
        if qos == 2 and code < _FAILED:
            code = _reason(self._ask(packet(PUBREL << 4 | 2, struct.pack("!H", number)), PUBCOMP))
        self._say(f"publishes to {topic} at QoS {qos}: {code}")

    def listen(self) -> None:
        """Take what the broker has for it, and write it down."""
        count = -1
        while self.connected and count != len(self.heard):
            # An acknowledgement may bring more, so until a round brings nothing.
            count = len(self.heard)
            try:
                self._ask(_PINGREQ, PINGRESP)
            except Gone:
                break
        for message in self.heard[self._told :]:
            self._say("hears {} {!r} at QoS {}{}".format(*message[:3], ", retained" if message[3] else ""))
        self._told = len(self.heard)

    def drop(self) -> None:
        """End the connection without a word."""
        self._client.close()
        self.connected = False

    def leave(self) -> None:
        """Say DISCONNECT, and return when the broker has closed the connection."""
        self._client.disconnect()
        self.connected = False

    def _say(self, what: str) -> None:
        self.transcript.append(f"{self.name} {what}")

    def _identifier(self) -> bytes:
        self._numbers += 1
        return struct.pack("!H", self._numbers)

    def _no_properties(self) -> bytes:
        return variable(0) if self.protocol == 5 else b""

    def _ask(self, data: bytes, kind: int) -> bytes:
        """Send, and return the body of the answer; what comes before it is dealt with.

        Raises:
            Gone: The broker closed the connection instead; that is in the transcript.
        """
        try:
            self._client.send(data)
            while True:
                first, body = self._client.read()
                if first >> 4 == kind:
                    return body
                self._take(first, body)
        except ConnectionError:
            self._client.close()
            self.connected = False
            # The end of a connection overtakes what was sent shortly before it, or does not.
            del self.heard[self._told :]
            self._say("is sent away")
            raise Gone from None

    def _take(self, first: int, body: bytes) -> None:
        kind, qos = first >> 4, first >> 1 & 3
        if kind == PUBREL:
            self._client.send(packet(PUBCOMP << 4, body[:2]))
        elif kind == DISCONNECT:
            self._say(f"is told to go: {body[0] if body else 0}")
        elif kind == PUBLISH:
            length = struct.unpack("!H", body[:2])[0]
            topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
            if qos:
                answer = PUBACK if qos == 1 else PUBREC
                self._client.send(packet(answer << 4, rest[:2]))
                rest = rest[2:]
            if self.protocol == 5:
                rest = rest[1 + rest[0] :]
            self.heard.append((topic, rest.decode(), qos, bool(first & 1)))
        else:
            raise AssertionError(f"a packet of kind {kind} was not expected: {body!r}")


def _reason(body: bytes) -> int:
    # MQTT 5, 3.4.2.1: without it, it is 0; older versions have none.
    return body[2] if len(body) > 2 else 0
