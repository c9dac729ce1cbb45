"""One MQTT 5 connection of a process, by paho-mqtt on the process's own event loop.

Acknowledging is manual: a PUBACK goes out when a message has been handled, not when it has come. Nothing is
subscribed at QoS 2: paho sends PUBREC as a message comes, so what a killed process had would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, Protocol

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .._backoff import pause
from .._reasons import about_code
from .address import Address
from .client import Client
from .limits import Limits
from .log import Log
from .message import encoded
from .refusals import about_error, about_silence
from .settings import Settings

#: Seconds before the next try: at first, and at most after doubling with each.
DELAY, DELAY_MAX = 1.0, 30.0
#: Seconds between two looks at keep-alive.
LOOK = 1.0
#: Seconds that connecting to one address may take.
CONNECT_TIMEOUT = 10.0
#: Messages of QoS 1 and 2 that may be on their way to the broker, at most.
IN_FLIGHT = 1000


class Receiver(Protocol):
    """Whom a connection tells what comes. Loop thread only."""

    def up(self, session_present: bool) -> None:
        """Note that the broker has accepted the connection, with or without a session from before."""

    def down(self) -> None:
        """Note that the connection is lost; another one is tried."""

    def message(self, message: paho.MQTTMessage) -> None: ...

    def unreadable(self, topic: str, why: str) -> None:
        """Note that a message was passed over: no client may send such a one, and the broker has taken it."""

    def subscribed(self, number: int, codes: list[int]) -> None:
        """Note what a SUBACK or an UNSUBACK says of each filter."""

    def room(self) -> None:
        """Note that something has left, so that `publish` may take more."""

    def refused(self, code: int) -> None:
        """Note that the broker has not taken a message, by its reason code."""

    def given_up(self) -> None:
        """Note that no connection is tried any more; the log says why."""


class Connection:
    """Connects to the first address that answers, and again when that is lost. Loop thread only."""

    def __init__(
        self,
        settings: Settings,
        receiver: Receiver,
        log: Log,
        queue_size: int,
    ) -> None:
        """Take whom to tell, where it is said what happens, and how many messages may wait to leave.

        Raises ValueError, with a sentence, where there can be no TLS with these files.
        """
        self._settings = settings
        self._receiver = receiver
        self._loop: asyncio.AbstractEventLoop
        self._log = log
        self._queue_size = queue_size
        #: Packet identifiers of what was published at QoS 1 and 2 and has not been acknowledged.
        self._unacknowledged: set[int] = set()
        #: How many there may be.
        self._window = min(IN_FLIGHT, queue_size)
        #: How many at QoS 0 have not been written.
        self._unwritten = 0
        #: How often in a row no address has answered, and how many addresses that were.
        self._tries = self._failed_addresses = 0
        self._next_address = 0
        self._is_up = False
        #: When it was up last, by the loop's clock.
        self._up_at = 0.0
        #: The broker's, of the last connection, and what was said of them.
        self.limits = Limits()
        self._lowered = ""
        self._ends = False
        #: Why the connection is not up, as the broker has said it.
        self._reason: Optional[str] = None
        #: The next try, or the end of patience with the broker's answer.
        self._timer: Optional[asyncio.Handle] = None
        self._patience: Optional[asyncio.TimerHandle] = None
        self._looker: Optional[asyncio.TimerHandle] = None
        # Names, connections and handshakes are waited for in it.
        self._thread = ThreadPoolExecutor(1, "mqttasgi-connect")
        self._starts_clean = settings.clean_start
        self._client = self._new_client()

    def _new_client(self) -> Client:
        settings = self._settings
        first = settings.addresses[0]  # the others have its scheme
        client = Client(
            paho.CallbackAPIVersion.VERSION2,
            settings.client_id,
            protocol=paho.MQTTv5,
            transport="websockets" if first.websockets else "tcp",
            manual_ack=True,
        )
        if first.websockets:
            client.ws_set_options(path=first.path)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if first.tls:
            client.tls_set_context(_tls(settings))
        if settings.will_topic:
            client.will_set(
                settings.will_topic, settings.will_payload.encode(), settings.will_qos, settings.will_retain
            )
        client.unreadable = self._receiver.unreadable
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages = 0  # the window here is less
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribed
        client.on_unsubscribe = self._on_subscribed
        client.on_publish = self._on_publish
        return client

    # ---- connecting ----

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to connect, on this loop."""
        self._loop = loop
        self._client.run_on(loop)
        self._looker = self._loop.call_later(LOOK, self._look)
        self._connect()

    def _connect(self) -> None:
        self._timer = None
        address = self._settings.addresses[self._next_address % len(self._settings.addresses)]
        self._next_address += 1
        self._reason = None
        task = self._loop.run_in_executor(self._thread, self._connect_to, address)
        task.add_done_callback(lambda done: self._tried(address, done.exception()))

    def _connect_to(self, address: Address) -> None:
        """Wait until CONNECT is on its way. The connecting thread."""
        settings = self._settings
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry
        properties.ReceiveMaximum = settings.receive_maximum
        self._client.connect(
            address.host,
            address.port,
            settings.keepalive,
            clean_start=self._starts_clean,
            properties=properties,
        )

    def _tried(self, address: Address, error: Optional[BaseException]) -> None:
        if error is not None:
            self._failed(f"{address}: {about_error(error, address)}")
        elif not self._is_up and self._timer is None:
            self._patience = self._loop.call_later(CONNECT_TIMEOUT, self._lose_patience)

    def _lose_patience(self) -> None:
        """End a connection on which the broker does not answer CONNECT."""
        self._reason = "it takes the connection and does not answer; is it an MQTT broker's port?"
        sock = self._client.socket()
        if sock is not None and not self._is_up:
            # A WebSocket of paho has no shutdown().
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    def _be_patient_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _failed(self, why: str) -> None:
        """Try again later, or give up."""
        why += "" if why.endswith("?") else "."
        self._be_patient_no_more()
        if self._ends or self._timer is not None:
            return
        self._failed_addresses += 1
        if self._failed_addresses % len(self._settings.addresses):
            self._log.warning(f"No connection to {why} Another address is tried.")
            # Not at once after one that was up for a moment: two clients with one id would take it from each
            # other for ever.
            self._timer = self._loop.call_at(self._up_at + DELAY, self._connect)
            return
        self._tries += 1
        if self._settings.retries and self._tries >= self._settings.retries:
            tried = "once" if self._tries == 1 else f"{self._tries} times"
            self._log.warning(f"No connection to {why} It was tried {tried} (--retries; 0 is for ever).")
            self._receiver.given_up()
            return
        delay = pause(self._tries, DELAY, DELAY_MAX)
        self._log.warning(f"No connection to {why} The next try is in {delay:g} s.")
        self._timer = self._loop.call_later(delay, self._connect)

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        if code.is_failure:
            self._reason = about_code(code.value, getattr(properties, "ReasonString", ""))
            return  # paho ends the connection
        self._be_patient_no_more()
        self._starts_clean = False
        self._tries = self._failed_addresses = 0
        self._is_up = True
        self._up_at = self._loop.time()
        self.limits = Limits(properties)
        # paho heeds only what it was told when it was made.
        self._window = min(IN_FLIGHT, self._queue_size, self.limits.receive_maximum)
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._log.notice(f"Connected to {self.address}.")
        self._say_lowered()
        self._receiver.up(flags.session_present)
        self._receiver.room()

    def _say_lowered(self) -> None:
        lowered = self.limits.lowered(self._settings.session_expiry)
        if lowered and lowered != self._lowered:
            self._log.warning(f"This broker's settings allow less than is asked for: {lowered}.")
        self._lowered = lowered

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if message.qos == 2:
            message.mid = 0  # it is not to be acknowledged
        self._receiver.message(message)

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        was_up, self._is_up = self._is_up, False
        self._unwritten = 0  # what is not written is lost, as QoS 0 may be
        if was_up:
            self._receiver.down()
        if self._ends:
            return
        address = self.address
        why = self._reason or ("the connection was lost" if was_up else about_silence(address))
        if flags.is_disconnect_packet_from_server:
            why = about_code(code.value, getattr(properties, "ReasonString", ""))
        self._failed(f"{address}: {why}")

    def _look(self) -> None:
        self._looker = self._loop.call_later(LOOK, self._look)
        self._client.loop_misc()

    # ---- what is sent ----

    @property
    def address(self) -> Address:
        """The one that was tried last."""
        return self._settings.addresses[(self._next_address - 1) % len(self._settings.addresses)]

    @property
    def is_up(self) -> bool:
        """Whether the broker has accepted the connection, and it is there."""
        return self._is_up

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, be it that only DISCONNECT has not been written."""
        return self._client.socket() is not None

    @property
    def leaving(self) -> int:
        """How many messages were published and have not left; QoS 1 and 2: have not been acknowledged."""
        return self._unwritten + len(self._unacknowledged)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes) -> bool:
        """Send a PUBLISH, QoS 1 and 2 also when a connection is there again. False: there is no room.

        `properties` are as on the wire. Raises ValueError for what the broker does not take.
        """
        qos, retain = self.limits.allowed(topic, len(payload) + len(properties), qos, retain)
        if qos:
            if len(self._unacknowledged) >= self._window:
                return False
            given = encoded(properties) if properties else None
            published = self._client.publish(topic, payload, qos, retain, given)
            while published.rc == paho.MQTT_ERR_QUEUE_SIZE:  # an old one still has this identifier
                published = self._client.publish(topic, payload, qos, retain, given)
            self._unacknowledged.add(published.mid)
        else:
            if not self._is_up or self._unwritten >= self._queue_size:
                return False
            given = encoded(properties) if properties else None
            self._unwritten += 1  # it may be written before publish() returns
            if self._client.publish(topic, payload, 0, retain, given).rc:
                self._unwritten = max(0, self._unwritten - 1)
                return False
        return True

    def _on_publish(self, _client: Any, _data: Any, number: int, code: ReasonCode, _properties: Any) -> None:
        if number in self._unacknowledged:
            self._unacknowledged.discard(number)
        else:
            self._unwritten = max(0, self._unwritten - 1)
        if code.is_failure:
            self._receiver.refused(code.value)
        if 2 * len(self._unacknowledged) <= self._window and 2 * self._unwritten <= self._queue_size:
            self._receiver.room()

    def subscribe(self, topic_filter: str, options: int, identifier: int) -> int:
        """Send a SUBSCRIBE, and return its number; `Receiver.subscribed` is called with that.

        `options` is the byte of MQTT 5, 3.8.3.1.
        """
        properties = Properties(PacketTypes.SUBSCRIBE)
        if self.limits.has_identifiers:
            properties.SubscriptionIdentifier = identifier
        asked = SubscribeOptions(
            options & 3, bool(options & 4), bool(options & 8), retainHandling=options >> 4 & 3
        )
        _, number = self._client.subscribe(topic_filter, options=asked, properties=properties)
        return number or 0

    def unsubscribe(self, topic_filter: str) -> int:
        """Send an UNSUBSCRIBE, and return its number."""
        _, number = self._client.unsubscribe(topic_filter)
        return number or 0

    def _on_subscribed(self, _client: Any, _data: Any, number: int, codes: Any, _properties: Any) -> None:
        self._receiver.subscribed(number, [code.value for code in codes])

    def acknowledge(self, number: int) -> None:
        """Send the PUBACK of a message that came by this connection; 0: it needs none."""
        if number and self._is_up:
            self._client.ack(number, 1)

    def end(self, keeps_session: bool) -> None:
        """Send DISCONNECT, as soon as the loop runs, and connect no more."""
        self._ends = True
        for timer in (self._timer, self._looker, self._patience):
            if timer is not None:
                timer.cancel()
        properties = Properties(PacketTypes.DISCONNECT)
        if not keeps_session:
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._thread.shutdown(wait=False)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.cacert)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"No TLS: {settings.cacert} (--cacert) has no certificates: {error}.") from None
    # From Python 3.13 on it would refuse the CAs that people make for their brokers, which say no key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(
                f"No TLS: {settings.cert} (--cert) and {settings.key} (--key) are no certificate and key: "
                f"{error}."
            ) from None
    return context
