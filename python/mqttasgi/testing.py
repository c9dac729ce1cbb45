"""Drives consumers in tests, without a broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Callable, Optional

from asgiref.testing import ApplicationCommunicator

from . import _host, database
from ._events import (
    add_identifiers,
    check_event,
    disconnect_reason,
    keep_identifier,
    matching_identifiers,
)
from ._mailbox import Mailbox
from ._mqtt import Payload, encode_payload, topic_matches
from ._played import PlayedInside
from ._properties import Properties, received_properties
from ._types import (
    ALONE,
    SCOPE,
    Application,
    Client,
    DisconnectReason,
    Event,
    MqttMessage,
    Receive,
    Scope,
    Send,
)

#: What a client is that a test says nothing else of.
_CLIENT = Client(
    id="client",
    username=None,
    address="127.0.0.1",
    protocol="mqtt",
    protocol_version=5,
    certificate=None,
)


class _Player:
    """Plays the broker of `mqttasgi.broker`: checks as that does, and tells what it is asked for."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        """Take what is called with each event, in any thread."""
        self._tell = tell
        self._mailboxes: list[Mailbox] = []
        self.inside = PlayedInside()

    async def publish(
        self, topic: str, payload: Payload, qos: int, retain: bool, properties: Optional[Properties]
    ) -> None:
        mqtt: dict[str, Any] = {"topic": topic, "payload": payload, "qos": qos, "retain": retain}
        if properties is not None:
            mqtt["properties"] = properties
        event = {"type": "mqtt.pub", "mqtt": mqtt}
        check_event(event)
        self._tell(_as_received(event))

    async def subscribe(self, mailbox: Mailbox) -> None:
        self._mailboxes.append(mailbox)
        for topic_filter in mailbox.filters:
            mqtt = {"topic": topic_filter, "qos": mailbox.options & 3}
            self._tell({"type": "mqtt.sub", "mqtt": mqtt})

    def unsubscribe(self, mailbox: Mailbox) -> asyncio.Future[None]:
        self._mailboxes.remove(mailbox)
        mailbox.end()
        mailbox.clear()
        for topic_filter in mailbox.filters:
            self._tell({"type": "mqtt.usub", "mqtt": {"topic": topic_filter}})
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        return ended

    def note(self, topic: Optional[str]) -> None: ...

    def statistics(self) -> dict[str, int]:
        return dict(self.inside.statistics)

    def feed(self, message: MqttMessage) -> bool:
        """Put a message into the mailboxes that it is for. False: there are none."""
        wanted = [mailbox for mailbox in self._mailboxes if mailbox.hears(message["topic"])]
        for mailbox in wanted:
            # As for a consumer: the lower of the publisher's QoS and the subscription's.
            own: MqttMessage = {**message, "qos": min(message["qos"], mailbox.options & 3)}
            mailbox.put(own, len(message["topic"]) + len(message["payload"]))
        return bool(wanted)

    def end(self) -> None:
        """End the mailboxes, as the broker does when it stops."""
        for mailbox in self._mailboxes:
            mailbox.end()


class PlayedBroker:
    """Plays the broker for code that is no consumer: views, WebSocket consumers, tasks, signals.

    In a `with` block, `mqttasgi.broker` in this process publishes to it and subscribes to it. Each call is in
    `events` as what `MqttConsumer` would send: "mqtt.pub", "mqtt.sub" or "mqtt.usub", checked as the broker
    does. At the end of the block iterating over messages ends, as when the broker stops.
    """

    def __init__(self) -> None:
        #: What was asked for and `receive_from` has not returned, the oldest first.
        self.events: deque[Event] = deque()
        self._player = _Player(self._add)
        #: What pages are shown of the process (`mqttasgi._inside`), for the test to say.
        self.inside = self._player.inside
        self._waiter: Optional[asyncio.Future[None]] = None
        self._before: Optional[_host.Host] = None

    def __enter__(self) -> PlayedBroker:
        """Be the broker of this process."""
        self._before = _host.of_process
        _host.of_process = self._player
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Be it no longer."""
        _host.of_process = self._before
        self._player.end()

    def _add(self, event: Event) -> None:
        self.events.append(event)
        waiter = self._waiter
        if waiter is not None:
            waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def receive_from(self, timeout: float = 1) -> Event:
        """Return the next event, within `timeout` seconds."""
        return await asyncio.wait_for(self._next(), timeout)

    async def _next(self) -> Event:
        try:
            while True:
                # Before looking: what another thread adds from here on wakes this one.
                self._waiter = asyncio.get_running_loop().create_future()
                if self.events:
                    return self.events.popleft()
                await self._waiter
        finally:
            self._waiter = None

    async def publish(
        self,
        topic: str,
        payload: Payload,
        qos: int,
        retain: bool = False,
        properties: Optional[Properties] = None,
        client: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """Send a message to every subscription that matches, as `MqttComunicator.publish` does to a consumer.

        Raises `ValueError` when there is none: the code has not subscribed yet, or to something else.
        """
        if not self._player.feed(_received(topic, payload, qos, retain, properties, client)):
            raise ValueError(f"nobody has subscribed to topic {topic!r}")


class MqttComunicator(ApplicationCommunicator):
    """Plays the broker for one consumer.

    `application` is an ASGI application (`MyConsumer.as_asgi()`), `app_id` and `instance_type` ("master" or
    "worker") are what it finds in its scope, beside `consumer_parameters`. What the consumer sends is
    checked as the broker does: a wrong topic, filter, QoS, payload or property raises in the consumer. What
    the consumer, its tasks and its `sync_to_async` threads ask of `mqttasgi.broker` comes here as well.
    """

    def __init__(
        self,
        application: Application,
        app_id: Any,
        instance_type: str = "worker",
        consumer_parameters: Optional[dict[str, Any]] = None,
    ) -> None:
        self.scope: Scope = {
            **ALONE,
            **(consumer_parameters or {}),
            **SCOPE,
            "app_id": app_id,
            "instance_type": instance_type,
        }

        #: Filter -> subscription identifier.
        self._identifiers: dict[str, int] = {}
        #: Of the consumer itself.
        self._filters: set[str] = set()
        self._player = _Player(self._tell)
        self._loop: Optional[asyncio.AbstractEventLoop] = None

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            async def completed_receive() -> Event:
                event = await receive()
                if event["type"] == "mqtt.msg" and self._identifiers:
                    mqtt = event["mqtt"]
                    add_identifiers(mqtt, matching_identifiers(mqtt["topic"], self._identifiers))
                return event

            async def checked_send(event: Event) -> None:
                check_event(event)
                await send(self._note(event))

            database.left_to_test.set(True)
            _host.of_consumer.set(self._player)
            self._loop = asyncio.get_running_loop()
            await application(scope, completed_receive, checked_send)

        super().__init__(checked, self.scope)

    @cached_property
    def _watches(self) -> asyncio.Event:
        """Set once the consumer has asked to be told of clients."""
        # Made when it is needed, because Python 3.9 binds it to the loop of that moment.
        return asyncio.Event()

    def _note(self, event: Event) -> Event:
        """Keep what is needed later of an event that the consumer sends, and return it as it leaves."""
        kind = event["type"]
        if kind == "mqtt.sub":
            keep_identifier(self._identifiers, event["mqtt"])
            self._filters.add(event["mqtt"]["topic"])
        elif kind == "mqtt.usub":
            self._identifiers.pop(event["mqtt"]["topic"], None)
            self._filters.discard(event["mqtt"]["topic"])
        elif kind == "mqtt.client.watch":
            self._watches.set()
        return _as_received(event)

    def _tell(self, event: Event) -> None:
        """Let the test see what was asked of `mqttasgi.broker`, perhaps in another thread."""
        assert self._loop is not None
        if asyncio.get_running_loop() is self._loop:
            self.output_queue.put_nowait(event)
        else:
            self._loop.call_soon_threadsafe(self.output_queue.put_nowait, event)

    async def connect(self, timeout: float = 1) -> Event:
        """Send `mqtt.connect` and return the first event that the consumer sends within `timeout` seconds."""
        await self.send_input({"type": "mqtt.connect"})
        event: Event = await self.receive_output(timeout)
        return event

    async def publish(
        self,
        topic: str,
        payload: Payload,
        qos: int,
        retain: bool = False,
        properties: Optional[Properties] = None,
        client: Optional[Mapping[str, Any]] = None,
        redelivered: bool = False,
    ) -> None:
        """Send a message to the consumer, as the broker would.

        It is one that was published live or, with `retain`, one that the broker had kept.

        `properties` are what its publisher sends, checked as the broker does; `subscription_identifier` is
        not among them: the consumer gets that where it subscribed with one. `client` is the publisher,
        completed as by `client_connected`; None where the broker would not say. `redelivered` is what it is
        for a message that the consumer may have been given before. Raises `ValueError` or
        `TypeError` for a payload, a property or a client that is wrong.

        It goes to each `broker.subscribe` that matches as well, and to that alone where the consumer's own
        filters do not match.
        """
        message = _received(topic, payload, qos, retain, properties, client, redelivered)
        if self._player.feed(message) and not any(topic_matches(own, topic) for own in self._filters):
            return
        await self.send_input({"type": "mqtt.msg", "mqtt": message})

    async def client_connected(self, client: Mapping[str, Any], timeout: float = 1) -> None:
        """Tell the consumer that a client has connected.

        `client` is a `Client`; what is left out is that of a client with the id "client" that connects from
        127.0.0.1 by MQTT 5, without a username and a certificate. A certificate is passed on as it is.

        In the broker, a consumer that has not called `watch_clients` is told nothing. It has `timeout`
        seconds to do so; then this raises `RuntimeError`, or what the consumer has raised. Raises
        `ValueError` for a name that a client does not have.
        """
        complete = _complete(client)
        await self._until_watched(timeout)
        await self.send_input({"type": "mqtt.client.connect", "mqtt": {"client": complete}})

    async def client_disconnected(
        self,
        client: Mapping[str, Any],
        reason: Optional[Mapping[str, Any]] = None,
        timeout: float = 1,
    ) -> None:
        """Tell the consumer that the connection of a client has ended.

        `reason` is a `DisconnectReason`; what it leaves out is `code` 0, "Normal disconnection",
        and `session_ends` True. Its `name` is always that of the code. `client`, `timeout` and what is raised
        are as with `client_connected`, which need not be called before.
        """
        event = {
            "type": "mqtt.client.disconnect",
            "mqtt": {"client": _complete(client), "reason": _complete_reason(reason or {})},
        }
        await self._until_watched(timeout)
        await self.send_input(event)

    async def _until_watched(self, timeout: float) -> None:
        if not self._watches.is_set():
            watches = asyncio.ensure_future(self._watches.wait())
            # The consumer's own end comes first where it raises, or returns without having asked.
            await asyncio.wait([watches, self.future], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            watches.cancel()
        if not self._watches.is_set():
            if self.future.done():
                self.future.result()
            raise RuntimeError(
                "the consumer has not called watch_clients(), so the broker would not tell it of clients"
            )

    async def receive_from(self, timeout: float = 1) -> Event:
        """Return the next event that the consumer sends, within `timeout` seconds."""
        event: Event = await self.receive_output(timeout)
        return event

    async def disconnect(self, code: int = 1000, timeout: float = 1) -> None:
        """Send `mqtt.disconnect` and wait until the consumer has ended. `code` is ignored."""
        await self.send_input({"type": "mqtt.disconnect"})
        await self.wait(timeout)


def _as_received(event: Event) -> Event:
    """Return an event with its properties as whoever receives it would see them.

    The payload stays what was published, text or a number for example, as in mqttasgi.
    """
    if event["type"] == "mqtt.pub":
        mqtt = event["mqtt"]
        if mqtt.get("properties") is not None:
            mqtt["properties"] = received_properties(mqtt["properties"], encode_payload(mqtt["payload"]))
    return event


def _received(
    topic: str,
    payload: Payload,
    qos: int,
    retain: bool,
    properties: Optional[Properties],
    client: Optional[Mapping[str, Any]],
    redelivered: bool = False,
) -> MqttMessage:
    """Return a message as it is received."""
    encoded = encode_payload(payload)
    return {
        "topic": topic,
        "payload": encoded,
        "qos": qos,
        "retain": retain,
        "properties": received_properties(properties, encoded),
        "client": None if client is None else _complete(client),
        "redelivered": redelivered,
    }


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _complete(client: Mapping[str, Any]) -> Client:
    _check_names("client", client, Client.__annotations__)
    # TypedDict has no way to say that the sum of both is one.
    complete: Client = {**_CLIENT, **client}  # type: ignore[typeddict-item]
    return complete


def _complete_reason(reason: Mapping[str, Any]) -> DisconnectReason:
    _check_names("reason", reason, DisconnectReason.__annotations__)
    return disconnect_reason(reason.get("code", 0), reason.get("session_ends", True))


def _check_names(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"a {what} has no {name!r}; it has {', '.join(known)}")


#: The name as it should have been spelled.
MqttCommunicator = MqttComunicator
