"""Runs consumers on the loop thread, between the inbound and the outbound queue.

One direction each way: the plugin's messages come through `Runtime._take` and are fed to the consumers they
are for; what consumers send goes through `Consumer.send` to the plugin.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import itertools
import sys
import time
from collections import deque
from typing import Any, Optional, Union

from .. import _versions
from .._events import (
    add_identifiers,
    check_event,
    disconnect_reason,
    keep_identifier,
    matching_identifiers,
    subscription_options,
)
from .._mqtt import check_qos, check_topic, encode_payload
from .._properties import encode_properties
from .._types import SCOPE, Application, Event
from . import advice, interpreter, logs, processes, summary
from .application import ApplicationError, load_application
from .bridge import Bridge, Control, Delivery, Options
from .holds import ConsumerHold, GeneralHold
from .lines import LOG_TOPICS, Lines, Source, of_log, source
from .overload import Overload
from .threads import LoopExecutor
from .watchdog import Watchdog

#: Messages taken from the inbound queue before the consumers run again.
TAKE_MAX = 256
#: Events that one consumer may take without the others getting a turn.
TURN = 32
#: Seconds before a consumer that failed is restarted: at first, and at most after doubling with each failure.
RESTART_DELAY, RESTART_DELAY_MAX = 1.0, 30.0
#: Seconds without a failure after which earlier ones do not count any more; nor do they after an event
#: that was handled.
HEALTHY_AFTER = 60.0
#: How often in a row the loop may fail before it has run anything.
LOOP_FAILURES = 3
#: Seconds, and failures, for what the application has left on the loop at the end.
CLOSE_TIMEOUT, CLOSE_FAILURES = 0.5, 10

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
        return asyncio.Task(_run(self.application, scope, self), loop=asyncio.get_running_loop())

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
            self.topic = mqtt.get("topic")
            if self.source.reads_log:
                self._note_whether_of_log()
            if self.topic is None:
                if "reason" in mqtt:
                    mqtt["reason"] = disconnect_reason(**mqtt["reason"])
            elif self.identifiers:
                add_identifiers(mqtt, self._identifiers_of(item))
            if not self._began:
                self._began = self._handled(0)
            return event
        # A message that was given back has a topic, too.
        self.topic = item["mqtt"].get("topic")
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


def restart_delay(failures: int) -> float:
    """Seconds before a consumer that has failed so often in a row is started again."""
    return min(RESTART_DELAY_MAX, RESTART_DELAY * float(2 ** min(failures - 1, 30)))


async def _run(
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


class Runtime:
    """All consumers of this process. Loop thread only."""

    def __init__(
        self,
        bridge: Bridge,
        loop: asyncio.AbstractEventLoop,
        has_session: bool = True,
        retries: int = 3,
        shutdown_timeout: float = 5.0,
        overload: Optional[Overload] = None,
        lines: Optional[Lines] = None,
    ) -> None:
        self.bridge = bridge
        self._lines = lines or Lines(bridge)
        self.overload = overload or Overload(bridge)
        self.loop = loop
        self.has_session = has_session
        #: How often in a row a consumer that fails is started again; 0: for ever.
        self.retries = retries
        #: Seconds that consumers have for their disconnect(); the rest is for the log.
        self.farewell = 0.8 * shutdown_timeout
        #: The context variables that each consumer begins with: those of the start, with what modules set
        #: while they are imported. Whoever spawns a consumer, or failed before it, has others.
        self.context = contextvars.copy_context()
        self.stopped = False
        self._started = False
        self._settled = False
        #: Consumers whose connect() has not returned.
        self._connecting = 0
        #: Consumers that have failed and wait for their next start.
        self._restarting = 0
        #: What waits for the session, whomever it is for; None: nothing does.
        self.general_hold: Optional[GeneralHold] = None
        self._handles = itertools.count(1)
        self._sequences = itertools.count(1)
        #: Every consumer that has not ended, by handle; those that were killed included.
        self._consumers: dict[int, Consumer] = {}
        #: The consumers that have an app_id, by it.
        self._by_app_id: dict[Any, Consumer] = {}
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._writable: Optional[asyncio.Future[None]] = None
        #: Those whose disconnect() the broker's end waits for; None: it does not end.
        self._leaving: Optional[set[Consumer]] = None

    # ---- from the plugin ----

    def start(self, path: str, application: Application) -> None:
        """Starts the master and begins to take messages."""
        self.context = contextvars.copy_context()
        self.loop.add_reader(self.bridge.fileno(), self._take)
        self._add(0, "master", path, application, None).start()

    def _take(self) -> None:
        items = self.bridge.take(TAKE_MAX)
        count = len(items)
        self._deliver(items)
        if self.overload.drops_oldest:
            items.clear()  # they count as long as they live
            self.overload.trim(self._consumers.values(), self.loop.time())
        if count >= TAKE_MAX:
            self.loop.call_soon(self._take)

    def _deliver(self, items: list[Union[Delivery, Control]]) -> None:
        consumers = self._consumers
        hold = self.general_hold
        for item in items:
            handle = item[0]
            if handle:
                consumer = consumers.get(handle)
                if consumer is not None:
                    if hold is not None and not item[1].session:  # type: ignore[union-attr]
                        hold.add(item)  # type: ignore[arg-type]
                    else:
                        consumer.feed(item)  # type: ignore[arg-type]
                else:
                    self.bridge.add("messages/dropped/consumer_ended", 1)
            else:
                self._control(item[1], *item[2])  # type: ignore[arg-type, misc]
                hold = self.general_hold

    def _control(self, what: str, whose: int, code: int) -> None:
        if what == "answer":
            future = self._answers.pop(whose)
            if not future.done():
                future.set_result(code)
        elif what == "writable":
            if self._writable is not None:
                self._writable.set_result(None)
                self._writable = None
        elif what == "hold":
            self._begin_hold(whose, code)
        elif what == "release":
            self._release(whose, code)
        elif what == "verbosity":
            logs.set_verbosity(code)
        elif self._leaving is None:
            self._stop()

    def _begin_hold(self, handle: int, code: int) -> None:
        if not handle:
            if self.general_hold is None:
                self.general_hold = GeneralHold()
            self.general_hold.hold(code)
        elif handle in self._consumers:
            self._consumers[handle].hold(again=bool(code))

    def _release(self, handle: int, code: int) -> None:
        if handle:
            if handle in self._consumers:
                self._consumers[handle].release()
        elif self.general_hold is not None:
            for delivery in self.general_hold.release(code):
                self._consumers[delivery[0]].go_on(delivery)
            if self.general_hold.is_over:
                self.general_hold = None

    # ---- from consumers ----

    async def until_writable(self) -> None:
        """Returns when the outbound queue, which was full, has room."""
        if self._writable is None:
            self._writable = self.loop.create_future()
        # Several wait for the same word; one that is cancelled must not take it from the others.
        await asyncio.shield(self._writable)

    async def subscribe(self, consumer: Consumer, topic_filter: str, options: int) -> None:
        """Returns when the subscription is in force."""
        sequence, future = self._question()
        self.bridge.subscribe(consumer.handle, topic_filter, options, sequence)
        if await future:
            raise MemoryError(f"the broker had no memory for a subscription to {topic_filter!r}")

    async def unsubscribe(self, consumer: Consumer, topic_filter: str) -> None:
        """Returns when the subscription has ended."""
        sequence, future = self._question()
        self.bridge.unsubscribe(consumer.handle, topic_filter, sequence)
        await future

    async def watch_clients(self, consumer: Consumer) -> None:
        """Returns when the consumer is told of clients that connect and disconnect."""
        sequence, future = self._question()
        self.bridge.watch_clients(consumer.handle, sequence)
        if await future:
            raise MemoryError(f"the broker had no memory to tell {consumer} of its clients")

    def _question(self) -> tuple[int, asyncio.Future[int]]:
        sequence = next(self._sequences)
        future: asyncio.Future[int] = self.loop.create_future()
        self._answers[sequence] = future
        return sequence, future

    def spawn(
        self,
        parent: Consumer,
        app_id: Any,
        consumer_path: str,
        consumer_params: Optional[dict[str, Any]] = None,
    ) -> None:
        """Starts a worker."""
        self._check_is_master(parent, "spawn", app_id)
        other = self._by_app_id.get(app_id)
        if other is not None:
            # A master that was restarted finds its predecessor's workers, and may say anew what they are.
            if other.parent is None or other.parent is parent:
                raise ValueError(f"app_id {app_id!r} is taken by {other}; a worker needs one of its own")
            if (other.name, other.parameters or {}) == (consumer_path, consumer_params or {}):
                other.parent = parent
                return
        application = self.context.run(load_application, consumer_path)
        if other is not None:
            self.kill(parent, app_id)
        worker = self._add(app_id, "worker", consumer_path, application, consumer_params)
        worker.parent = parent
        worker.start()

    def kill(self, parent: Consumer, app_id: Any) -> None:
        """Tells a worker to disconnect, after the messages it already has."""
        self._check_is_master(parent, "kill", app_id)
        worker = self._by_app_id.get(app_id)
        if worker is None or worker.instance_type == "master":
            raise ValueError(f"there is no worker with app_id {app_id!r} to kill")
        if worker.restart is not None:
            self._forget(worker)
            return
        del self._by_app_id[app_id]
        self._end_subscriptions(worker)
        if self.general_hold is not None:
            for delivery in self.general_hold.take(worker.handle):
                worker.go_on(delivery)
        worker.feed(dict(DISCONNECT))

    @staticmethod
    def _check_is_master(parent: Consumer, verb: str, app_id: Any) -> None:
        if parent.instance_type != "master":
            raise PermissionError(
                f"{parent} may not {verb} worker {app_id!r}: only the master (app_id 0) may"
            )

    def find(self, app_id: Any) -> Optional[Consumer]:
        """The consumer that has this very object as its app_id. Any thread, so no code of the application's
        is run, as its __hash__() or __eq__() would be.
        """
        for consumer in list(self._consumers.values()):
            if consumer.app_id is app_id:
                return consumer
        return None

    # ---- consumers' beginning and end ----

    def _add(
        self,
        app_id: Any,
        instance_type: str,
        name: str,
        application: Application,
        parameters: Optional[dict[str, Any]],
    ) -> Consumer:
        consumer = Consumer(self, next(self._handles), app_id, instance_type, name, application, parameters)
        self._connecting += 1
        self._consumers[consumer.handle] = consumer
        self._by_app_id[app_id] = consumer
        self._tell_numbers()
        return consumer

    def _tell_numbers(self) -> None:
        """Tells statistics how many consumers there are."""
        self.bridge.set("consumers/running", len(self._consumers) - self._restarting)
        self.bridge.set("consumers/restarting", self._restarting)

    def restarted(self) -> None:
        """Told by a consumer that has taken a failed one's place and now starts."""
        self._restarting -= 1
        self.bridge.add("consumers/restarted", 1)
        self._tell_numbers()

    def _end_subscriptions(self, consumer: Consumer) -> None:
        for topic_filter in consumer.subscriptions:
            self.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        consumer.subscriptions.clear()
        if consumer.watches:
            consumer.watches = False
            self.bridge.unwatch_clients(consumer.handle)

    def connected(self, consumer: Consumer) -> None:
        """Told once by each consumer, when its connect() has returned."""
        if consumer.instance_type == "master" and not self._started:
            self._started = True
            self.bridge.started()
        for topic_filter in consumer.stale:
            del consumer.subscriptions[topic_filter]
            consumer.identifiers.pop(topic_filter, None)
            self.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        consumer.stale.clear()
        if consumer.failures:
            self.bridge.log(self.bridge.LOG_WARNING, f"Consumer {consumer} runs again.")
        self._count_connected(consumer)

    def _count_connected(self, consumer: Consumer) -> None:
        if consumer.counted:
            return
        consumer.counted = True
        self._connecting -= 1
        if self._started and not self._connecting and not self._settled:
            self._settled = True
            self.bridge.settled(summary.text(self._consumers.values()))

    def ended(self, consumer: Consumer) -> None:
        """Forgets a consumer whose application has returned, or restarts one that has raised."""
        consumer.ended = True
        error: Optional[BaseException]
        if consumer.task.cancelled():
            # By the application: what is cancelled from here ends with the loop.
            error = (
                None
                if self._leaving is not None or self.stopped
                else asyncio.CancelledError("its task was cancelled")
            )
        else:
            error = consumer.task.exception() or consumer.task.result()
        if error is not None:
            if consumer.task.cancelled() or consumer.task.exception() is error:
                self.log_failure(consumer, error)  # what _run() had to let pass
            if self._is_restarted(consumer):
                return
            if consumer.instance_type == "master" and self._started and self._leaving is None:
                # Before its subscriptions end: the broker is to keep messages for them.
                self.bridge.suspend()
        self._forget(consumer)
        if not self._started and isinstance(error, ConnectionRefusedError):
            self.log(
                "The broker lets nobody in before the master consumer's connect() has returned. "
                "A client of this broker that connect() starts has to connect later, in a task of its own."
            )
        if not self._started and consumer.instance_type == "master" and not self.stopped:
            if error is None:
                self.log(f"Consumer {consumer} returned before its connect() had been handled.")
            self._finish()
        if self._leaving is not None:
            self._leaving.discard(consumer)
            if not self._leaving and not self.stopped:
                self._finish()

    def _forget(self, consumer: Consumer) -> None:
        """Ends everything that is kept for a consumer."""
        consumer.ended = True
        if consumer.restart is not None:
            consumer.restart.cancel()
            self._restarting -= 1
        self._end_subscriptions(consumer)
        del self._consumers[consumer.handle]
        dropped = consumer.forget()
        if self.general_hold is not None:
            dropped += len(self.general_hold.take(consumer.handle))
        self.bridge.add("messages/dropped/consumer_ended", dropped)
        self._tell_numbers()
        if self._by_app_id.get(consumer.app_id) is consumer:
            del self._by_app_id[consumer.app_id]
        if not self.stopped:
            self._count_connected(consumer)

    def _is_restarted(self, consumer: Consumer) -> bool:
        """Sees to it that a consumer which has failed is started again, if it is to be."""
        if self._leaving is not None or self.stopped or self._by_app_id.get(consumer.app_id) is not consumer:
            return False
        if consumer.instance_type == "master" and not self._started:
            return False  # the broker does not start without it
        if consumer.connected and self.loop.time() - consumer.connected_at >= HEALTHY_AFTER:
            consumer.failures = 0
        consumer.failures += 1
        if self.retries and consumer.failures > self.retries:
            self.log(
                f"Consumer {consumer} has failed {consumer.failures} times in a row and is given up. It "
                "has handled no message in between; restart the broker when it is mended. "
                "plugin_opt_retries says how often it is tried, 0 for ever."
            )
            self.bridge.add("consumers/failed", 1)
            return False
        if consumer.watches:
            # One that watches anew is told of all who are there.
            self.bridge.unwatch_clients(consumer.handle)
        successor = consumer.successor()
        self._consumers[consumer.handle] = successor
        self._by_app_id[consumer.app_id] = successor
        if not successor.counted:
            self._count_connected(successor)
        delay = restart_delay(successor.failures)
        self.log(f"Consumer {consumer} is restarted in {delay:g} s.")
        successor.restart = self.loop.call_later(delay, successor.start)
        self._restarting += 1
        self._tell_numbers()
        return True

    # ---- the end ----

    def _stop(self) -> None:
        """Lets every consumer disconnect, for a bounded time. No task waits for that: an application that
        cancels all tasks would end it.
        """
        self._leaving = set()
        for consumer in list(self._consumers.values()):
            if consumer.restart is not None:
                self._forget(consumer)
        consumers = list(self._consumers.values())
        self._release(0, sys.maxsize)
        for consumer in consumers:
            if consumer.app_id in self._by_app_id:
                consumer.feed(dict(DISCONNECT))
        self._leaving.update(consumers)
        if consumers:
            self.loop.call_later(self.farewell, self._end_late, consumers)
        else:
            self._finish()

    def _end_late(self, consumers: list[Consumer]) -> None:
        for consumer in consumers:
            if not consumer.task.done():
                self.log(
                    f"Consumer {consumer} did not finish its disconnect() within "
                    f"{self.farewell:g} seconds and is cancelled."
                )
                consumer.task.cancel()
        self._finish()

    def _finish(self) -> None:
        self.stopped = True
        self.loop.stop()

    # ---- the log ----

    def log(self, text: str) -> None:
        """Writes an error to the broker's log, whatever the application has done to `logging`."""
        for line in text.splitlines():
            self.bridge.log(self.bridge.LOG_ERR, line)

    def log_exception(self, text: str, error: BaseException) -> None:
        """The same with a traceback, and through `logging` as well."""
        logs.report(self.bridge, text, error, lines=self._lines)

    def log_failure(self, consumer: Consumer, error: BaseException) -> None:
        """The same for what has ended a consumer."""
        where = f" handling a message on topic {consumer.topic!r}" if consumer.topic else ""
        text = f"Consumer {consumer} ended with an error{where}:"
        logs.report(self.bridge, text, error, logs.CONSUMER, consumer.source, consumer.topic)


def _load(runtime: Runtime, path: str) -> Optional[Application]:
    try:
        return load_application(path)
    except ApplicationError as error:
        runtime.log(f"Cannot start the application: {error}.")
    except BaseException as error:
        runtime.log_exception(f"Cannot import the application {path}: {type(error).__name__}: {error}", error)
    return None


def _run_for_ever(runtime: Runtime) -> None:
    """Runs the loop until the runtime says so, whatever an application does to the loop."""
    failures = 0
    while not runtime.stopped:
        ran: list[bool] = []
        try:
            runtime.loop.call_soon(ran.append, True)
            runtime.loop.run_forever()
        except BaseException as error:
            # sys.exit() in a task comes out here (asyncio re-raises it); it is not the broker's end.
            runtime.log_exception("The application raised through the event loop:", error)
        else:
            if not runtime.stopped:
                runtime.log("The application stopped the event loop; it goes on.")
        failures = 0 if ran else failures + 1
        if failures == LOOP_FAILURES:
            runtime.log(
                "The event loop cannot run any more: the application may have closed a descriptor of it. The "
                "broker goes on without the application; restart it."
            )
            runtime.bridge.suspend()
            runtime.stopped = True


def _keep_open(loop: asyncio.AbstractEventLoop) -> None:
    """Between two runs, after stop(), another thread could close it."""

    def close() -> None:
        raise RuntimeError("the event loop is the broker's and cannot be closed")

    setattr(loop, "close", close)  # noqa: B010


def _finish_tasks(runtime: Runtime) -> None:
    """Cancels the tasks that are left, and lets them end. One may raise SystemExit or cancel this wait."""
    loop = runtime.loop
    loop.set_task_factory(None)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    end = time.monotonic() + CLOSE_TIMEOUT
    for _ in range(CLOSE_FAILURES):
        left = [task for task in tasks if not task.done()]
        remaining = end - time.monotonic()
        if not left or remaining <= 0:
            return
        try:
            loop.run_until_complete(asyncio.wait(left, timeout=remaining))
        except (SystemExit, KeyboardInterrupt) as error:
            runtime.log_exception("The application raised through the event loop at its end:", error)
        except BaseException:
            continue  # this wait was cancelled or, by a stop() from before, interrupted


def _close(runtime: Runtime) -> None:
    loop = runtime.loop
    with contextlib.suppress(BaseException):
        _finish_tasks(runtime)
    with contextlib.suppress(BaseException):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), CLOSE_TIMEOUT))
    with contextlib.suppress(BaseException):
        processes.end_all(runtime.log)
    # What the application registered for the end of the process, which the broker's end does not run. The
    # loop's own threads are not waited for: one that hangs would hold up the broker.
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def run() -> None:
    """Called by the plugin on the loop thread: runs the application until the broker stops."""
    import _mqttasgi  # type: ignore[import-not-found]

    bridge: Bridge = _mqttasgi
    options: Options = bridge.options()
    lines = interpreter.prepare(bridge, options)
    complaint = _versions.difference(bridge.VERSION) or _versions.stranger()
    if complaint:
        bridge.log(bridge.LOG_WARNING, complaint)
    loop = lines.loop = interpreter.new_event_loop(options["loop"])
    asyncio.set_event_loop(loop)
    loop.set_default_executor(LoopExecutor())
    loop.set_exception_handler(logs.loop_exception_handler(bridge, lines))
    _keep_open(loop)
    processes.stay_out_of(loop)
    overload = Overload(
        bridge, options["consumer_queue_size"], options["consumer_queue_bytes"], options["overload"]
    )
    runtime = Runtime(
        bridge, loop, options["session"], options["retries"], options["shutdown_timeout"], overload, lines
    )
    # Before the loop runs: Django refuses database access from inside a running one.
    application = _load(runtime, options["application"])
    logs.keep_loggers()
    if application is not None:
        advice.look_at_databases(options["check"])
    if application is not None and options["check"]:
        bridge.started()
    elif application is not None:
        loop.call_soon(runtime.start, options["application"], application)
        with Watchdog(runtime, options["watchdog"], _run.__code__):
            _run_for_ever(runtime)
    _close(runtime)
