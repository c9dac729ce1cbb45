"""What a broker says, as it accepts a connection, that it can do (MQTT 5, 3.2.2.3)."""

from __future__ import annotations

from typing import Any, Optional

from .settings import FOR_EVER

#: Bytes of a PUBLISH beside topic, payload and properties, at most.
HEADER = 16


class Limits:
    """The limits of one connection; before the first there are none."""

    def __init__(self, properties: Any = None) -> None:
        """Take the properties of CONNACK as paho has them; None: there are none."""

        def said(name: str, default: int) -> int:
            value: int = getattr(properties, name, default)
            return value

        self.receive_maximum = said("ReceiveMaximum", 65_535)
        self.has_identifiers = bool(said("SubscriptionIdentifierAvailable", 1))
        self.has_shared = bool(said("SharedSubscriptionAvailable", 1))
        self._maximum_qos = said("MaximumQoS", 2)
        self._has_retained = bool(said("RetainAvailable", 1))
        self._maximum_packet = said("MaximumPacketSize", 0)
        #: Seconds; None: as the client has asked.
        self._session_expiry: Optional[int] = getattr(properties, "SessionExpiryInterval", None)

    def lowered(self, session_expiry: int) -> str:
        """Return in words where the broker gives less than was asked for; empty: nowhere.

        `session_expiry`, in seconds, is what was. Nothing else tells of it.
        """
        parts = []
        if self._maximum_qos < 2:
            parts.append(f"what is published at a higher QoS than {self._maximum_qos} goes out at that")
        if not self._has_retained:
            parts.append("nothing is retained that is published with retain")
        if self._session_expiry is not None and self._session_expiry < session_expiry:
            parts.append(
                f"messages for a process that is away are kept for {self._session_expiry} s instead of "
                + ("for ever" if session_expiry == FOR_EVER else f"{session_expiry} s")
            )
        return "; ".join(parts)

    def allowed(self, topic: str, size: int, qos: int, retain: bool) -> tuple[int, bool]:
        """Return QoS and retain of a message as the broker takes them, which would end the connection else.

        `size` is that of payload and properties. Raises ValueError for a message that is too large: it would
        be sent again over each connection, and end that.
        """
        if self._maximum_packet:
            whole = size + len(topic.encode()) + HEADER
            if whole > self._maximum_packet:
                raise ValueError(
                    f"the message on topic {topic!r:.400} has {whole} bytes, and the broker takes at most "
                    f"{self._maximum_packet} (Maximum Packet Size)"
                )
        return min(qos, self._maximum_qos), retain and self._has_retained
