"""One consumer: what it receives and what it sends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Optional, Union

from .._events import (
    add_identifiers,
    check_event,
    complete_client_event,
    keep_identifier,
    matching_identifiers,
    subscription_options,
)
from .._mqtt import check_qos, check_topic, encode_payload
from .._properties import encode_properties
from .._types import SCOPE, Application, Event
from . import processes
from .bridge import Delivery
from .holds import ConsumerHold
from .lines import LOG_TOPICS, Source, of_log, source

if TYPE_CHECKING:
    from .service import Runtime

#: Events that one consumer may take without the others getting a turn.
TURN = 32

CONNECT: Event = {"type": "mqtt.connect", "mqtt": {}}
DISCONNECT: Event = {"type": "mqtt.disconnect", "mqtt": {}}


class Consumer:
    """One running instance of an ASGI application, or one that is about to. Loop thread only."""

    __slots__ = (
        "_began",
        "_handled",
        "_hold",
        "_runtime",
        "_taken",
        "app_id",
        "application",
        "connected",
        "connected_at",
        "counted",
        "ended",
        "failures",
        "handle",
        "identifiers",
        "instance_type",
        "name",
        "parameters",
        "parent",
        "queue",
        "queue_bytes",
        "restart",
        "source",
        "stale",
        "subscriptions",
        "task",
        "topic",
        "waiter",
        "watches",
    )

    def __init__(
        self,
        runtime: Runtime,
        handle: int,
        app_id: Any,
        instance_type: str,
        name: str,
        application: Application,
        parameters: Optional[dict[str, Any]],
    ) -> None:
        self._runtime = runtime
        self.application = application
        self.parameters = parameters
        #: The master that has spawned this worker; None: it is the master.
        self.parent: Optional[Consumer] = None
        #: What the plugin knows this consumer by; one that takes a failed one's place takes its handle too.
        self.handle = handle
        self.app_id = app_id
        self.instance_type = instance_type
        self.name = name
        #: What the log knows it by.
        self.source = Source(name, app_id, instance_type)
        #: Deliveries and events that wait for receive().
        self.queue: deque[Union[Delivery, Event]] = deque()
        #: Bytes of the deliveries in it; only where consumers have bounds of their own.
        self.queue_bytes = 0
        #: Filter -> Subscription Options (MQTT 5, 3.8.3.1).
        self.subscriptions: dict[str, int] = {}
        #: Filter -> subscription identifier, of those that have one; for what comes live.
        self.identifiers: dict[str, int] = {}
        #: It has asked to be told of clients.
        self.watches = False
        self.waiter: Optional[asyncio.Future[None]] = None
        #: Topic of the message that is being handled; None: none is.
        self.topic: Optional[str] = None
        self.ended = False
        self._taken = 0
        #: When receive() returned the message that is being handled, as `_handled` says the time; 0: none is.
        self._began = 0
        self._handled = runtime.bridge.handled
        #: What waits for retained messages to come first; None: nothing does.
        self._hold: Optional[ConsumerHold] = None
        #: The application has asked for its second event: connect() has returned.
        self.connected = False
        #: When that was, by the loop's clock.
        self.connected_at = 0.0
        #: Its first connect() is not waited for any more.
        self.counted = False
        #: How often it has failed in a row, without an event handled in between.
        self.failures = 0
        #: Filters of the one that failed before it, which end if connect() does not subscribe to them again.
        self.stale: set[str] = set()
        #: What starts it later; None: it has been started.
        self.restart: Optional[asyncio.TimerHandle] = None
        self.task: asyncio.Task[Optional[BaseException]]

    def __str__(self) -> str:
        return f"{self.name} ({self.instance_type}, app_id {self.app_id!r})"

    def start(self) -> None:
        """Runs the application, beginning with `mqtt.connect`."""
        if self.restart is not None:
            self.restart = None
            self._runtime.restarted()
        scope = {
            **(self.parameters or {}),
            **SCOPE,
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "app_id": self.app_id,
            "instance_type": self.instance_type,
        }
        self.queue.appendleft(dict(CONNECT))
        context = self._runtime.context
        self.task = context.run(self._new_task, scope)
        self.task.add_done_callback(lambda _: self._runtime.ended(self), context=context.copy())

    def _new_task(self, scope: dict[str, Any]) -> asyncio.Task[Optional[BaseException]]:
        # Not by the loop's task factory, which is the application's to set.
        return asyncio.Task(run_application(self.application, scope, self), loop=asyncio.get_running_loop())

    def successor(self) -> Consumer:
        """Returns one that takes the place of this one, which has failed: what waits is for it, and
        subscriptions stay in force until its connect() has returned.
        """
        other = Consumer(
            self._runtime,
            self.handle,
            self.app_id,
            self.instance_type,
            self.name,
            self.application,
            self.parameters,
        )
        other.queue, self.queue = self.queue, deque()
        other.queue_bytes, self.queue_bytes = self.queue_bytes, 0
        other._hold, self._hold = self._hold, None
        other.subscriptions, self.subscriptions = self.subscriptions, {}
        other.identifiers, self.identifiers = self.identifiers, {}
        other.stale = set(other.subscriptions)
        other.source = self.source
        other.parent = self.parent
        other.failures = self.failures
        other.counted = self.counted
        return other

    def log_failure(self, error: BaseException) -> None:
        """Says what has ended it."""
        self._runtime.log_failure(self, error)

    def feed(self, item: Union[Delivery, Event]) -> None:
        """Puts something into the consumer's own queue, or behind what that waits for."""
        if self._hold is not None:
            if isinstance(item, tuple):
                self._hold.add(item)
                return
            # The word to disconnect: nothing comes after it.
            self._end_hold()
        if self._runtime.overload.bounds_consumers and isinstance(item, tuple):
            if not self._runtime.overload.admit(self, item, self._runtime.loop.time()):
                return
            self.queue_bytes += item[1].size
        self.queue.append(item)
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def hold(self, again: bool) -> None:
        """Keeps back what comes until `release`, except retained messages, which are to go first."""
        if self._hold is None:
            self._hold = ConsumerHold()
        self._hold.depth += 1
        self._hold.again = self._hold.again or again

    def release(self) -> None:
        """Ends a hold: the retained messages have come."""
        if self._hold is not None:
            self._hold.depth -= 1
            if self._hold.depth == 0:
                self._end_hold()

    def _end_hold(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            for delivery in hold.end(self._runtime.general_hold):
                self.feed(delivery)

    def go_on(self, delivery: Delivery) -> None:
        """Feeds what has waited in the general hold."""
        if self._hold is not None:
            self._hold.add_placed(delivery)
        else:
            self.feed(delivery)

    def forget(self) -> int:
        """Drops what it will not receive any more: messages count towards the queue's bound while they live,
        and the traceback of an error keeps a consumer alive for long.

        Returns:
            How many messages that were.
        """
        # A message that was given back is an event; those of the consumer's own life are empty.
        dropped = sum(isinstance(item, tuple) or bool(item["mqtt"]) for item in self.queue)
        if self._hold is not None:
            dropped += len(self._hold)
        self.queue.clear()
        self.queue_bytes = 0
        self._hold = None
        return dropped

    async def receive(self) -> Event:
        """ASGI's `receive`."""
        if processes.forked:
            processes.end()
        self._taken += 1
        if self.failures and (self._began or self.topic is not None):
            self.forgive()
        self.topic = None
        if self._began:
            self._began = self._handled(self._began)
        if not self.connected and self._taken == 2:
            self.connected = True
            self.connected_at = self._runtime.loop.time()
            self._runtime.connected(self)
        if self._taken % TURN == 0 and self.queue:
            self._began = 0
            await asyncio.sleep(0)
        while not self.queue:
            self._began = 0
            self.waiter = self._runtime.loop.create_future()
            await self.waiter
        item = self.queue.popleft()
        if isinstance(item, tuple):
            if self.queue_bytes:
                self.queue_bytes -= item[1].size
            event = item[1].event(item[2])
            mqtt = event["mqtt"]
            if event["type"] == "mqtt.msg":
                self.topic = mqtt["topic"]
                if self.identifiers:
                    add_identifiers(mqtt, self._identifiers_of(item))
            else:
                complete_client_event(mqtt)
            if self.source.reads_log:
                self._note_whether_of_log()
            if not self._began:
                self._began = self._handled(0)
            return event
        if item["type"] == "mqtt.msg":
            self.topic = item["mqtt"]["topic"]  # it was given back
        if self.source.reads_log:
            self._note_whether_of_log()
        self._began = 0
        return item

    def _note_whether_of_log(self) -> None:
        """For what is logged from here on, in tasks and threads of the consumer's too: a line of the broker's
        log would come back to it.
        """
        of_log.set(self.topic is not None and self.topic.startswith(LOG_TOPICS))

    def give_back(self, event: Event) -> None:
        """Takes back what was received last and not handled, because the consumer has failed at something
        else meanwhile: it is for the successor.
        """
        self.queue.appendleft(event)
        self.topic = None

    def forgive(self) -> None:
        """It has handled an event: what it fails at next costs that one alone, and no longer pause."""
        self.failures = 0

    def _identifiers_of(self, delivery: Delivery) -> list[int]:
        """A retained message comes for one subscription, whose identifier is in the options."""
        _, message, options = delivery
        if message.retain:
            return [options >> 8] if options >> 8 else []
        return matching_identifiers(message.topic, self.identifiers)

    async def send(self, event: Event) -> None:
        """ASGI's `send`. Raises in the application what is wrong with the event."""
        if isinstance(event, dict) and event.get("type") == "mqtt.pub":
            mqtt = event["mqtt"]
            topic = mqtt["topic"]
            payload = mqtt["payload"]
            qos = mqtt.get("qos", 1)
            check_topic(topic)
            check_qos(qos)
            # Short bytes, which is nearly all there is, need no look at their type and length.
            if payload.__class__ is not bytes or len(payload) > 65_535:
                payload = encode_payload(payload)
            retain = mqtt.get("retain", False)
            properties = mqtt.get("properties")
            encoded = b"" if properties is None else encode_properties(properties, payload)
            runtime = self._runtime
            while not runtime.bridge.publish(self.handle, topic, payload, qos, retain, encoded):
                await runtime.until_writable()
            return
        check_event(event)
        await self._control(event)

    async def _control(self, event: Event) -> None:
        kind = event["type"]
        if kind == "mqttasgi.worker.spawn":
            self._runtime.spawn(self, **event["command"])
            return
        if kind == "mqttasgi.worker.kill":
            self._runtime.kill(self, **event["command"])
            return
        if kind == "mqtt.client.watch":
            if self.ended:
                raise RuntimeError(f"{self} has ended and cannot watch clients")
            self.watches = True
            await self._runtime.watch_clients(self)
            return
        mqtt = event["mqtt"]
        topic_filter = mqtt["topic"]
        if kind == "mqtt.sub":
            if self.ended:
                raise RuntimeError(f"{self} has ended and cannot subscribe to {topic_filter!r}")
            if not self._runtime.has_session and topic_filter.startswith("$share/"):
                raise ValueError(
                    f"filter {topic_filter!r}: shared subscriptions need the session, which is turned off; "
                    "set plugin_opt_session full"
                )
            options = subscription_options(mqtt)
            if "$SYS/" in topic_filter:
                self.source.reads_log = True
            self.subscriptions[topic_filter] = options
            self.stale.discard(topic_filter)
            keep_identifier(self.identifiers, mqtt)
            identifier = self.identifiers.get(topic_filter, 0)
            await self._runtime.subscribe(self, topic_filter, options | identifier << 8)
        elif self.subscriptions.pop(topic_filter, None) is not None:
            self.identifiers.pop(topic_filter, None)
            self.stale.discard(topic_filter)
            await self._runtime.unsubscribe(self, topic_filter)


async def run_application(
    application: Application, scope: dict[str, Any], consumer: Consumer
) -> Optional[BaseException]:
    """Returns what the application has raised; asyncio would raise some of it through the loop, although it
    concerns this consumer only.
    """
    source.set(consumer.source)
    try:
        await application(scope, consumer.receive, consumer.send)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        # Here, where the context is the consumer's: an error tracker finds what it was told there.
        consumer.log_failure(error)
        return error
    return None
