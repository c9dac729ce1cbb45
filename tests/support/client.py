"""An MQTT client for tests: every call returns when what it asked for has happened."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
from typing import Any, Union

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .processes import PATIENCE

Payload = Union[str, bytes, bytearray, int, float, None]
_numbers = itertools.count(1)


class Client:
    """One connection to a broker. Use it as a context manager, or call `close()`.

    Attributes:
        paho: The paho client underneath, for what this class does not offer.
        messages: Every message that arrived, in order, with the ones `wait_for()` returned.
        refused: Reason codes of publishes that the broker refused (MQTT 5 only).
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        client_id: str = "",
        username: str | None = None,
        password: str | None = None,
        protocol: int = paho.MQTTv5,
        clean: bool = True,
        keepalive: int = 60,
        will: tuple[str, Payload, int, bool] | None = None,
        transport: str = "tcp",
        tls: dict[str, Any] | None = None,
        connect_properties: Properties | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Connect, and return after the CONNACK.

        Args:
            port: Listener's port.
            client_id: A number of its own where empty.
            protocol: `paho.MQTTv31`, `paho.MQTTv311` or `paho.MQTTv5`.
            clean: Start without the session kept for this client id.
            will: Topic, payload, QoS and retain flag of the last will.
            transport: `tcp`, `websockets` or `unix` (`host` is then the socket's path).
            tls: Arguments for paho's `tls_set()`.
            timeout: Seconds for each call that waits, before `PATIENCE`.

        Raises:
            ConnectionError: The broker refused; the text says with which reason.
            TimeoutError: No CONNACK came in time.
        """
        version5 = protocol == paho.MQTTv5
        self.messages: list[paho.MQTTMessage] = []
        self.refused: list[ReasonCode] = []
        self._timeout = timeout
        self._arrived: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._answers: dict[int, queue.Queue[list[ReasonCode]]] = {}
        self._lock = threading.Lock()  # guards _answers
        self._connected = threading.Event()
        self._disconnected = threading.Event()
        self._connack: ReasonCode | None = None
        self._closed = False

        arguments: dict[str, Any] = {} if version5 else {"clean_session": clean}
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"test-client-{next(_numbers)}",
            protocol=protocol,  # type: ignore[arg-type]
            transport=transport,  # type: ignore[arg-type]
            reconnect_on_failure=False,
            **arguments,
        )
        self.paho.max_inflight_messages_set(65535)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_message = self._on_message
        self.paho.on_subscribe = self._on_answer
        self.paho.on_unsubscribe = self._on_answer
        self.paho.on_publish = self._on_publish
        if username is not None:
            self.paho.username_pw_set(username, password)
        if will is not None:
            self.paho.will_set(*will)
        if tls is not None:
            self.paho.tls_set(**tls)
        options: dict[str, Any] = {"clean_start": clean, "properties": connect_properties} if version5 else {}
        self.paho.connect(host, port, keepalive, **options)
        connection = self.paho.socket()
        if transport != "unix" and isinstance(connection, socket.socket):
            # A PUBLISH behind a PUBACK would wait 40 ms for an acknowledgement that TCP delays.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paho.loop_start()
        if not self._connected.wait(timeout * PATIENCE):
            self.close()
            raise TimeoutError(f"no CONNACK within {timeout * PATIENCE:.1f} s")
        if self._connack is None or self._connack.is_failure:
            self.close()
            raise ConnectionError(f"the broker refused the connection: {self._connack}")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client_id(self) -> str:
        """The id the broker knows this client by."""
        return bytes(self.paho._client_id).decode()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted this client and not gone since."""
        return self._connected.is_set() and not self._disconnected.is_set()

    def subscribe(
        self,
        filter: str,
        qos: int = 0,
        *,
        options: SubscribeOptions | None = None,
        properties: Properties | None = None,
    ) -> None:
        """Subscribe, and return after the SUBACK. With `options` (MQTT 5), `qos` is in there.

        Raises:
            PermissionError: The broker refused the subscription.
            TimeoutError: No SUBACK came in time.
        """
        with self._lock:
            if options is not None:
                result, mid = self.paho.subscribe(filter, options=options, properties=properties)
            else:
                result, mid = self.paho.subscribe(filter, qos, properties=properties)
            answer = self._expect(result, mid)
        codes = self._answer(answer, f"SUBACK for {filter!r}", mid)
        if any(code.is_failure for code in codes):
            raise PermissionError(f"the broker refused {filter!r}: {', '.join(map(str, codes))}")

    def unsubscribe(self, filter: str) -> None:
        """Unsubscribe, and return after the UNSUBACK."""
        with self._lock:
            result, mid = self.paho.unsubscribe(filter)
            answer = self._expect(result, mid)
        self._answer(answer, f"UNSUBACK for {filter!r}", mid)

    def publish(
        self,
        topic: str,
        payload: Payload = b"",
        qos: int = 0,
        retain: bool = False,
        *,
        properties: Properties | None = None,
        wait: bool = True,
    ) -> None:
        """Publish. At QoS 1 and 2 return when the broker has taken the message; at QoS 0 when it is on its way.

        Args:
            wait: False returns at once at every QoS; for floods.

        Raises:
            TimeoutError: The broker did not take it in time.
        """
        info = self.paho.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"cannot publish to {topic!r}: {paho.error_string(info.rc)}")
        if wait:
            info.wait_for_publish(self._timeout * PATIENCE)
            if not info.is_published():
                raise TimeoutError(f"the broker did not take the message to {topic!r}")

    def wait_for(self, topic: str | None = None, timeout: float = 5.0) -> paho.MQTTMessage:
        """Return the next message that no `wait_for()` has looked at yet.

        Args:
            topic: A topic or filter: other messages are passed over (they stay in `messages`).
            timeout: Seconds, before `PATIENCE`.

        Raises:
            AssertionError: Nothing fitting came; the text says what else did.
        """
        limit = timeout * PATIENCE
        deadline = time.monotonic() + limit
        passed_over: list[paho.MQTTMessage] = []
        while True:
            try:
                message = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                others = ", ".join(f"{m.topic}={m.payload[:60]!r}" for m in passed_over) or "nothing"
                gone = "" if self.connected else "; the broker has closed the connection"
                raise AssertionError(
                    f"no message to {topic or 'any topic'} within {limit:.1f} s; what came: {others}{gone}"
                ) from None
            if topic is None or paho.topic_matches_sub(topic, message.topic):
                return message
            passed_over.append(message)

    def expect_nothing(self, seconds: float = 0.3) -> None:
        """Fail when a message comes that no `wait_for()` has returned. A message of one's own published after what
        should not come, and waited for, is the better proof: this one takes its time on every run."""
        try:
            message = self._arrived.get(timeout=seconds * PATIENCE)
        except queue.Empty:
            return
        raise AssertionError(f"did not expect {message.topic}={message.payload[:200]!r}")

    def wait_for_disconnect(self, timeout: float = 5.0) -> None:
        """Return when the connection has ended, from whichever side."""
        if not self._disconnected.wait(timeout * PATIENCE):
            raise AssertionError(f"still connected after {timeout * PATIENCE:.1f} s")

    def close(self) -> None:
        """Say DISCONNECT and end the client's thread. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.paho.disconnect()
            self.paho.loop_stop()

    def abort(self) -> None:
        """Drop the connection without DISCONNECT, as a client that lost power: the broker sends its last will."""
        if not self._closed:
            self._closed = True
            sock: Any = self.paho.socket()
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)
            self.paho.loop_stop()

    # Callbacks of paho, on its thread.

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._connack = reason
        self._connected.set()

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._disconnected.set()
        self._connected.set()

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        self.messages.append(message)
        self._arrived.put(message)

    def _on_answer(self, client: Any, userdata: Any, mid: int, codes: Any, properties: Any) -> None:
        with self._lock:
            answer = self._answers.get(mid)
        if answer is not None:
            answer.put(list(codes))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self.refused.append(reason)

    def _expect(self, result: int, mid: int | None) -> queue.Queue[list[ReasonCode]]:
        # Called with _lock held since before the packet left, so that its answer cannot overtake the entry.
        if result != paho.MQTT_ERR_SUCCESS or mid is None:
            raise ConnectionError(paho.error_string(result))
        return self._answers.setdefault(mid, queue.Queue())

    def _answer(self, answer: queue.Queue[list[ReasonCode]], what: str, mid: int | None) -> list[ReasonCode]:
        try:
            return answer.get(timeout=self._timeout * PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"no {what} within {self._timeout * PATIENCE:.1f} s") from None
        finally:
            with self._lock:
                if mid is not None:
                    self._answers.pop(mid, None)
