"""Drives consumers in tests, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Optional

from asgiref.testing import ApplicationCommunicator

from . import database
from ._events import (
    add_identifiers,
    check_event,
    disconnect_reason,
    keep_identifier,
    matching_identifiers,
)
from ._mqtt import Payload, encode_payload
from ._properties import Properties, received_properties
from ._types import (
    SCOPE,
    Application,
    Client,
    DisconnectReason,
    Event,
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


class MqttComunicator(ApplicationCommunicator):
    """Plays the broker for one consumer.

    `application` is an ASGI application (`MyConsumer.as_asgi()`), `app_id` and `instance_type` ("master" or
    "worker") are what it finds in its scope, beside `consumer_parameters`. What the consumer sends is
    checked as the broker does: a wrong topic, filter, QoS, payload or property raises in the consumer.
    """

    def __init__(
        self,
        application: Application,
        app_id: Any,
        instance_type: str = "worker",
        consumer_parameters: Optional[dict[str, Any]] = None,
    ) -> None:
        self.scope: Scope = {
            **(consumer_parameters or {}),
            **SCOPE,
            "app_id": app_id,
            "instance_type": instance_type,
        }

        #: Filter -> subscription identifier.
        self._identifiers: dict[str, int] = {}

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
        if kind == "mqtt.pub":
            # The payload stays what the consumer published, text or a number for example, as in mqttasgi.
            mqtt = event["mqtt"]
            if mqtt.get("properties") is not None:
                mqtt["properties"] = received_properties(mqtt["properties"], encode_payload(mqtt["payload"]))
        elif kind == "mqtt.sub":
            keep_identifier(self._identifiers, event["mqtt"])
        elif kind == "mqtt.usub":
            self._identifiers.pop(event["mqtt"]["topic"], None)
        elif kind == "mqtt.client.watch":
            self._watches.set()
        return event

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
        """
        encoded = encode_payload(payload)
        await self.send_input(
            {
                "type": "mqtt.msg",
                "mqtt": {
                    "topic": topic,
                    "payload": encoded,
                    "qos": qos,
                    "retain": retain,
                    "properties": received_properties(properties, encoded),
                    "client": None if client is None else _complete(client),
                    "redelivered": redelivered,
                },
            }
        )

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
