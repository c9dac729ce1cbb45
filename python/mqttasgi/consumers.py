"""The consumer class that applications derive from."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, Callable, Optional, TypeVar

from asgiref.sync import async_to_sync as async_to_sync
from channels.consumer import AsyncConsumer, get_handler_name
from channels.consumer import SyncConsumer as SyncConsumer
from channels.db import database_sync_to_async as database_sync_to_async
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer

from . import database
from ._mqtt import Payload
from ._properties import Properties
from ._types import Application, Client, DisconnectReason, Event, MqttMessage, Receive, Scope, Send
from .layers import ConsumerLayer
from .runtime import mistakes

logger = logging.getLogger(__name__)

_Self = TypeVar("_Self", bound="MqttConsumer")

#: Seconds that the disconnect() of a consumer which has failed may take.
LEAVE_TIMEOUT = 5.0

#: Methods to be overridden, which are awaited; so are those for events of the channel layer, of which nobody
#: knows the names.
AWAITED = ("connect", "receive", "disconnect", "client_connected", "client_disconnected")

#: What subscribe() takes besides filter and QoS, where it is not given.
_SUBSCRIPTION_DEFAULTS = {
    "no_local": False,
    "retain_as_published": False,
    "retain_handling": 0,
    "subscription_identifier": None,
    "shared": True,
}


def _tell(receive: Receive, what: str, *arguments: Any) -> None:
    """Call a method of whoever feeds this consumer, where that is the runtime."""
    method: Optional[Callable[..., None]] = getattr(getattr(receive, "__self__", None), what, None)
    if method is not None:
        method(*arguments)


def _awaitable(method: Callable[..., Any], called: Any) -> Awaitable[Any]:
    """Return what a method has returned, unless it is not async: as_asgi() cannot see that of each."""
    if called is None:
        raise TypeError(mistakes.is_not_async(method))
    awaitable: Awaitable[Any] = called
    return awaitable


class MqttConsumer(AsyncConsumer):
    """A Channels consumer that subscribes and publishes.

    Override `connect`, `receive` and `disconnect`, and where it watches clients, `client_connected` and
    `client_disconnected`. Events, the channel layer's included, are handled one at
    a time. In `scope` are `app_id` (0 for the master), `instance_type` ("master" or "worker") and, in a
    worker, the `consumer_params` it was spawned with.
    """

    scope: Scope

    #: How to publish without an event: the runtime's way, where neither this class's `send` nor anybody
    #: between the two wants to see each.
    _publish_at_once: Optional[Callable[..., bool]] = None
    #: Whether messages go to `receive`, and nobody wants to see their events.
    _receives_at_once = False

    def __new__(cls: type[_Self], *arguments: Any, **named: Any) -> _Self:
        if mistakes.is_called_as_application(arguments):
            raise mistakes.ConsumerError(mistakes.needs_as_asgi(cls))
        instance: _Self = super().__new__(cls)
        return instance

    @classmethod
    def as_asgi(cls, *wrong: Any, **initkwargs: Any) -> Application:
        """Return the ASGI application that makes an instance for each run, with these arguments.

        Raises `TypeError` for a class with a method that must be async and is not.
        """
        if mistakes.is_called_as_application(wrong):
            name = f"{cls.__name__}.as_asgi"
            raise mistakes.ConsumerError(f"{name} is to be called; write {name}()")
        mistakes.check_methods(cls, AWAITED)
        application: Application = super().as_asgi(*wrong, **initkwargs)
        return application

    def __init__(self) -> None:
        #: The filters subscribed to and not unsubscribed from.
        self.subscribed_topics: set[str] = set()

    # ---- to be overridden ----

    async def connect(self) -> None:
        """Subscribe. Called once, before any message."""

    async def receive(self, mqtt_message: MqttMessage) -> None:
        """Handle a message for a subscription; they come in the order in which the broker took them.

        With the option `durable`, it has been handled when this returns, and comes again where this raises.
        """
        if type(self).receive is MqttConsumer.receive:
            mistakes.say_that_receive_is_missing(type(self), mqtt_message["topic"])

    async def disconnect(self) -> None:
        """Finish. Called last: the broker stops, the master killed this worker, or another method raised."""

    async def client_connected(self, client: Client) -> None:
        """Handle that a client has connected; called for each after `watch_clients`.

        A client may do so that is connected already (MQTT 5, 3.1.4).
        """

    async def client_disconnected(self, client: Client, reason: DisconnectReason) -> None:
        """Handle that a client's connection has ended; called for each after `watch_clients`."""

    # ---- to be called ----

    async def publish(
        self,
        topic: str,
        payload: Payload,
        qos: int = 1,
        retain: bool = False,
        properties: Optional[Properties] = None,
    ) -> None:
        """Publish a message, with properties for those who receive it by MQTT 5 (3.3.2.3).

        Returns once the message is on its way to the broker, and waits for room where too many are. Raises
        `ValueError` or `TypeError` for a topic, QoS, payload or property that MQTT does not allow.
        """
        at_once = self._publish_at_once
        if (
            at_once is not None
            and self.base_send is self._own_send
            and at_once(topic, payload, qos, retain, properties)
        ):
            return
        mqtt: dict[str, Any] = {"topic": topic, "payload": payload, "qos": qos, "retain": retain}
        if properties is not None:
            mqtt["properties"] = properties
        await self.send({"type": "mqtt.pub", "mqtt": mqtt})

    async def reply(
        self,
        mqtt_message: MqttMessage,
        payload: Payload,
        qos: int = 1,
        retain: bool = False,
        properties: Optional[Properties] = None,
    ) -> None:
        """Answer a message: publish to its `response_topic`, with its `correlation_data` (MQTT 5, 4.10).

        `properties` are added; one that is given both ways is the caller's. Returns and raises as `publish`.
        Raises `ValueError` when the message has no `response_topic`, and when that, which is its publisher's
        choice, is not a topic to publish to.
        """
        request = mqtt_message.get("properties", {})
        topic = request.get("response_topic")
        if topic is None:
            raise ValueError(
                f"the message on topic {mqtt_message['topic']!r} has no response_topic to reply to; its "
                f"properties are {request!r:.120}"
            )
        answer: Properties = {}
        if "correlation_data" in request:
            answer["correlation_data"] = request["correlation_data"]
        if properties is not None:
            answer = {**answer, **properties}
        await self.publish(topic, payload, qos, retain, answer or None)

    async def subscribe(
        self,
        topic: str,
        qos: int,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        subscription_identifier: Optional[int] = None,
        shared: bool = True,
    ) -> None:
        """Subscribe to a topic filter; with a filter it has already, change QoS, options and identifier.

        The options are those of MQTT 5, 3.8.3.1: `no_local` keeps away what this consumer itself publishes,
        which shared subscriptions cannot; `retain_as_published` leaves `retain` of live messages as their
        publisher set it; `retain_handling` 0 brings the retained messages at each call, 1 only where the
        filter is new, 2 never. `subscription_identifier`, 1 to 268,435,455, is in the properties of the
        messages that match the filter (MQTT 5, 3.8.2.1.2). `shared=False` is for every process of a group,
        where there is one (`--group`), with the retained messages.

        Returns once the subscription is in force: whatever is published from then on is received. Raises
        `ValueError` or `TypeError` for a filter, QoS, option or identifier that MQTT does not allow.
        """
        mqtt: dict[str, Any] = {"topic": topic, "qos": qos}
        given = {
            "no_local": no_local,
            "retain_as_published": retain_as_published,
            "retain_handling": retain_handling,
            "subscription_identifier": subscription_identifier,
            "shared": shared,
        }
        # By identity: 0 is equal to False, but the wrong type for it.
        mqtt.update(
            (name, value) for name, value in given.items() if value is not _SUBSCRIPTION_DEFAULTS[name]
        )
        await self.send({"type": "mqtt.sub", "mqtt": mqtt})
        self.subscribed_topics.add(topic)

    async def unsubscribe(self, topic: str) -> None:
        """End the subscription to a filter.

        Messages already on their way are still received, some of them perhaps before this returns; what is
        published after that is not.
        """
        self.subscribed_topics.discard(topic)
        await self.send({"type": "mqtt.usub", "mqtt": {"topic": topic}})

    async def watch_clients(self) -> None:
        """Ask to be told of the broker's clients, by `client_connected` and `client_disconnected`.

        Returns once that is in force. Where the broker tells who connects, the clients that are connected
        already come first, each as if it had just connected. Mosquitto 2.0 always tells who disconnects, but
        who connects only with the plugin's option `connect_events true`.
        """
        await self.send({"type": "mqtt.client.watch"})

    async def spawn_worker(
        self, app_id: Any, consumer_path: str, consumer_params: Optional[dict[str, Any]] = None
    ) -> None:
        """Start another consumer, in the master only.

        `consumer_path` is `package.module.Class` or `package.module:Class`; `consumer_params` are added to
        its scope. Returns once it is started; its `connect` runs on its own. Raises `PermissionError` in a
        worker, `ValueError` when `app_id` is taken.
        """
        await self.send(
            {
                "type": "mqttasgi.worker.spawn",
                "command": {
                    "app_id": app_id,
                    "consumer_path": consumer_path,
                    "consumer_params": consumer_params,
                },
            }
        )

    async def kill_worker(self, app_id: Any) -> None:
        """End a worker, in the master only.

        The worker gets no new messages from then on, handles those it has, then its `disconnect`; its
        `app_id` is free at once. Raises `PermissionError` in a worker, `ValueError` when there is no such
        worker.
        """
        await self.send({"type": "mqttasgi.worker.kill", "command": {"app_id": app_id}})

    # ---- events ----

    async def mqtt_connect(self, event: Event) -> None:
        await _awaitable(self.connect, self.connect())

    async def mqtt_msg(self, event: Event) -> None:
        called = self.receive(event["mqtt"])
        await (_awaitable(self.receive, called) if called is None else called)

    async def mqtt_client_connect(self, event: Event) -> None:
        mqtt = event["mqtt"]
        await _awaitable(self.client_connected, self.client_connected(mqtt["client"]))

    async def mqtt_client_disconnect(self, event: Event) -> None:
        mqtt = event["mqtt"]
        called = self.client_disconnected(mqtt["client"], mqtt["reason"])
        await _awaitable(self.client_disconnected, called)

    async def mqtt_disconnect(self, event: Event) -> None:
        self._leaving = True
        await self._disconnect()
        raise StopConsumer

    async def _disconnect(self) -> None:
        await _awaitable(self.disconnect, self.disconnect())

    async def dispatch(self, message: Event) -> None:
        """Call the method that the event's type names."""
        try:
            await self._handle(message)
        except Exception as error:
            if database.is_due_after(error):
                database.refresh()
            raise

    def _handle(self, message: Event) -> Awaitable[None]:
        """Call the method that the event's type names, and return what is to be awaited.

        That is `receive` where nobody wants the event: with each coroutine in between, every message costs
        more.
        """
        if database.is_due():
            database.refresh()
        if self._receives_at_once and message["type"] == "mqtt.msg":
            called: Optional[Awaitable[None]] = self.receive(message["mqtt"])
            return _awaitable(self.receive, called) if called is None else called
        handler: Optional[Callable[[Event], Awaitable[None]]]
        handler = getattr(self, get_handler_name(message), None)
        if handler is None:
            raise ValueError(
                f"{type(self).__name__} got an event of type {message['type']!r} and has no method "
                f"{get_handler_name(message)} for it"
            )
        called = handler(message)
        return _awaitable(handler, called) if called is None else called

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run once, as an ASGI application.

        Channels' own loop makes a task for each event; this one awaits `receive` in a plain loop, and the
        channel layer in a second one, with a lock that keeps their events apart.
        """
        self.scope = scope
        self.base_send = self._own_send = send
        if _is(self.send, _SEND):
            self._publish_at_once = getattr(getattr(send, "__self__", None), "publish_at_once", None)
        self._receives_at_once = _is(self.mqtt_msg, _MQTT_MSG)
        self._one_at_a_time = asyncio.Lock()
        self._leaving = False
        self._failed = False
        self._context: Optional[contextvars.Context] = None
        layer = get_channel_layer(self.channel_layer_alias)
        try:
            if layer is None:
                self.channel_layer = None
                await self._handle_events(receive)
            else:
                self.channel_layer = ConsumerLayer(layer)
                self.channel_name = await layer.new_channel()
                await self._handle_both(receive, self.channel_layer)
        except (Exception, SystemExit, KeyboardInterrupt):
            await self._leave()
            raise

    def _task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Return a task of this consumer's, with the same context variables as its others.

        What connect() sets, every handler finds, as under Channels.
        """
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 11):
            return asyncio.Task(coroutine, loop=loop, context=self._context)
        return loop.create_task(coroutine)  # of which each then has a copy

    async def _leave(self) -> None:
        """Let a consumer that has failed disconnect, if it can."""
        if self._leaving:
            return
        send = self.base_send

        async def send_the_rest(event: Event) -> None:
            # Subscriptions stay in force for the one that takes this one's place.
            if event.get("type") != "mqtt.usub":
                await send(event)

        self.base_send = send_the_rest
        try:
            await asyncio.wait_for(self._task(self._disconnect()), LEAVE_TIMEOUT)
        except Exception as error:
            logger.error(
                "%s failed, and so did its disconnect(): %s: %s",
                type(self).__name__,
                type(error).__name__,
                error,
                exc_info=error,
            )

    async def _handle_events(self, receive: Receive) -> None:
        dispatches = not _is(self.dispatch, _DISPATCH)
        try:
            while True:
                message = await receive()
                if dispatches or message["type"] != "mqtt.msg":
                    await self.dispatch(message)
                else:
                    await self._handle(message)
        except StopConsumer:
            pass
        except Exception as error:
            if database.is_due_after(error):
                database.refresh()
            raise

    async def _handle_locked(self, receive: Receive) -> None:
        try:
            while True:
                message = await receive()
                began = False
                try:
                    async with self._one_at_a_time:
                        if self._failed:
                            return
                        began = True
                        await self.dispatch(message)
                except BaseException:
                    # The other task may wait for the lock with an event of its own.
                    self._failed = True
                    raise
                finally:
                    if not began:
                        # It is for the consumer's next run.
                        _tell(receive, "give_back", message)
        except StopConsumer:
            pass

    async def _handle_both(self, receive: Receive, layer: ConsumerLayer) -> None:
        """Handle both until one ends, by StopConsumer or by an exception, which is then this one's too.

        The other one is cancelled, which is not the fault of the message that it may be handling.
        """
        taken = 0

        async def receive_from_layer() -> Event:
            nonlocal taken
            if taken:
                _tell(receive, "forgive")  # the one before has been handled
            taken += 1
            event = await layer.receive(self.channel_name)
            _tell(receive, "note_event")
            return event

        self._context = contextvars.copy_context()
        tasks = [
            self._task(self._handle_locked(receive)),
            self._task(self._handle_locked(receive_from_layer)),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await layer.close()
        if tasks[0] not in ended and isinstance(results[0], BaseException):
            _tell(receive, "interrupt")
        for task, result in zip(tasks, results):
            # One that was cancelled by its own handler has failed.
            if isinstance(result, BaseException) and (
                task in ended or not isinstance(result, asyncio.CancelledError)
            ):
                raise result


_DISPATCH, _MQTT_MSG, _SEND = MqttConsumer.dispatch, MqttConsumer.mqtt_msg, MqttConsumer.send


def _is(method: Callable[..., Any], original: Callable[..., Any]) -> bool:
    """Whether a consumer's method is that of `MqttConsumer`, neither overridden nor patched."""
    return getattr(method, "__func__", None) is original


class TestMqttConsumer(MqttConsumer):
    """What mqttasgi has for a first try.

    A message to `spawn` starts a worker, one to `kill` ends it; its payload is the `app_id`. Workers log what
    is published to their `app_id` and to `workers`.
    """

    #: No test of pytest's.
    __test__ = False

    async def connect(self) -> None:
        is_master = self.scope["instance_type"] == "master"
        for topic in ("spawn", "kill") if is_master else (str(self.scope["app_id"]), "workers"):
            await self.subscribe(topic, 2)

    async def receive(self, mqtt_message: MqttMessage) -> None:
        topic, payload = mqtt_message["topic"], mqtt_message["payload"]
        logger.debug("app_id %r got %r on topic %r", self.scope["app_id"], payload, topic)
        if self.scope["instance_type"] != "master":
            return
        if topic == "spawn":
            path = f"{TestMqttConsumer.__module__}:{TestMqttConsumer.__name__}"
            await self.spawn_worker(payload.decode(), path, {"test": "test"})
        else:
            await self.kill_worker(payload.decode())
