"""One run of a consumer's application: ASGI's `receive` and `send`.

One direction each way: what waits in the consumer's inbox is received, and what the application sends goes to
the plugin.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import FrameType
from typing import TYPE_CHECKING, Any, Optional, Union

from .._events import add_identifiers, check_event, complete_client_event
from .._mqtt import Payload, check_qos, check_topic, encode_payload
from .._properties import Properties, encode_properties
from .._types import Event
from . import commands, processes
from .bridge import Delivery
from .durable import Handling
from .lines import LOG_TOPICS, of_log, source

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .service import Service

#: Events that one consumer may take without the others getting a turn.
TURN = 32


class Run:
    """What begins with `mqtt.connect` and ends when the application returns or raises. Loop thread only.

    Tasks that the application leaves behind may still call it: they receive nothing any more, and change
    nothing of what the consumer's next run has.
    """

    __slots__ = (
        "_began",
        "_coroutine",
        "_create_future",
        "_got_event",
        "_handled",
        "_identifiers",
        "_inbox",
        "_publish",
        "_queue",
        "_service",
        "_source",
        "_taken",
        "connected_at",
        "consumer",
        "ended",
        "handling",
        "is_leaving",
        "number",
        "task",
        "topic",
    )

    def __init__(self, service: Service, consumer: HostedConsumer) -> None:
        self._service = service
        self.consumer = consumer
        #: 1 for the consumer's first.
        self.number = consumer.runs
        #: Topic of the message that is being handled; None: none is.
        self.topic: Optional[str] = None
        #: When connect() had returned, by the loop's clock; None: it has not.
        self.connected_at: Optional[float] = None
        self.ended = False
        #: It has got its mqtt.disconnect.
        self.is_leaving = False
        #: None: the broker does not want to know what was handled.
        self.handling = Handling(service.durable) if service.durable.is_on else None
        self._taken = 0
        #: An event has come that is not from here.
        self._got_event = False
        #: When receive() returned the message that is being handled, as `_handled` says the time; 0: none is.
        self._began = 0
        # Looked up once for all messages.
        self._create_future = service.loop.create_future
        self._handled = service.bridge.handled
        self._publish = service.bridge.publish
        self._inbox = consumer.inbox
        self._queue: deque[Union[Delivery, Event]] = consumer.inbox.queue
        self._identifiers = consumer.subscriptions.identifiers
        self._source = consumer.source

    # ---- its beginning and end ----

    def start(self, scope: dict[str, Any]) -> None:
        """Call the application, in a task of its own."""
        #: In whose frame the application runs.
        self._coroutine: Any = self._call_application(scope)
        context = self._service.context
        #: Its result is what the application has raised.
        self.task = context.run(self._new_task)
        self.task.add_done_callback(lambda _: self._service.lifecycle.ended(self), context=context.copy())

    def _new_task(self) -> asyncio.Task[Optional[BaseException]]:
        # Not by the loop's task factory, which is the application's to set.
        return asyncio.Task(self._coroutine, loop=asyncio.get_running_loop())

    async def _call_application(self, scope: dict[str, Any]) -> Optional[BaseException]:
        """Call the application and return what it has raised.

        asyncio would raise some of it through the loop, although it concerns this consumer only.
        """
        source.set(self._source)
        try:
            await self.consumer.application(scope, self.receive, self.send)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            # Here, where the context is the consumer's: an error tracker finds what it was told there.
            self._service.log.failure(self._source, self.topic, error)
            return error
        return None

    def is_in(self, frame: FrameType) -> bool:
        """Whether the application is called in this frame. Any thread."""
        return self._coroutine.cr_frame is frame

    @property
    def has_received(self) -> bool:
        """Whether it has got anything beside mqtt.connect: its consumer can start."""
        return self._taken > 2 or bool(self._began) or self.topic is not None or self._got_event

    @property
    def has_begun(self) -> bool:
        """Whether it has got its mqtt.connect."""
        return self._taken > 0

    @property
    def handled(self) -> int:
        """How many events it has handled beside mqtt.connect."""
        return max(0, self._taken - 2)

    def end(self) -> None:
        """Leave what waits to the consumer's next run."""
        self.ended = True
        if not self._taken:
            self._queue.popleft()  # its own mqtt.connect
        self._inbox.waiter = None
        self._queue = deque()

    # ---- receiving ----

    async def receive(self) -> Event:
        """ASGI's `receive`."""
        if processes.forked:
            processes.end()
        self._taken += 1
        handling = self.handling
        if handling is not None:
            handling.end()
        if self.consumer.failures and (self._began or self.topic is not None):
            self.forgive()
        self.topic = None
        if self._began:
            self._began = self._handled(self._began)
        if self._taken == 2 and not self.ended:
            self.connected_at = self._service.loop.time()
            self._service.lifecycle.connected(self.consumer)
        if self._taken % TURN == 0 and self._queue:
            self._began = 0
            await asyncio.sleep(0)
        while not self._queue:
            self._began = 0
            arrival = self._create_future()
            if not self.ended:  # then nothing comes any more
                self._inbox.waiter = arrival
            await arrival
        item = self._queue.popleft()
        if isinstance(item, tuple):
            inbox = self._inbox
            if inbox.queue_bytes:
                inbox.queue_bytes -= item[1].size
            if handling is not None:
                handling.begin(item)
            event = item[1].event(item[2])
            mqtt = event["mqtt"]
            if event["type"] == "mqtt.msg":
                self.topic = mqtt["topic"]
                if self._identifiers:
                    add_identifiers(mqtt, self.consumer.subscriptions.identifiers_of(item))
            else:
                complete_client_event(mqtt)
            if not self._began:
                self._began = self._handled(0)
        else:
            event = item
            if event["type"] == "mqtt.msg":
                self.topic = event["mqtt"]["topic"]  # it was given back
            elif event["type"] == "mqtt.disconnect":
                self.is_leaving = True
            self._began = 0
        if self._source.reads_log:
            # For what is logged from here on, in tasks and threads of the consumer's too: a line of the
            # broker's log would come back to it.
            of_log.set(self.topic is not None and self.topic.startswith(LOG_TOPICS))
        return event

    def give_back(self, event: Event) -> None:
        """Take back what was received last, for the next run.

        It was not handled, because the consumer has failed at something else meanwhile.
        """
        delivery = self.handling.take() if self.handling is not None else None
        if delivery is not None:
            self._inbox.give_back(delivery)
        else:
            self._queue.appendleft(event)
        self.topic = None

    def interrupt(self) -> None:
        """Note that what it is handling was cancelled, because the consumer has failed at something else."""
        if self.handling is not None:
            self.handling.was_interrupted = True
        self.topic = None

    def note_event(self) -> None:
        """Note that it has got an event that is not from here."""
        self._got_event = True

    def forgive(self) -> None:
        """Count earlier failures no more: an event has been handled.

        What it fails at next costs that one alone, and no longer pause.
        """
        if not self.ended:
            self.consumer.failures = 0

    # ---- sending ----

    async def send(self, event: Event) -> None:
        """ASGI's `send`. Raises in the application what is wrong with the event."""
        if isinstance(event, dict) and event.get("type") == "mqtt.pub":
            mqtt = event["mqtt"]
            # Once, whatever becomes of a bytearray or of the properties while this waits.
            arguments = encode(
                self.consumer.handle,
                mqtt["topic"],
                mqtt["payload"],
                mqtt.get("qos", 1),
                mqtt.get("retain", False),
                mqtt.get("properties"),
            )
            while not self._publish(*arguments):
                await self._service.requests.until_writable()
            return
        check_event(event)
        await commands.carry_out(self._service, self, event)

    def publish_at_once(
        self, topic: str, payload: Payload, qos: int, retain: bool, properties: Optional[Properties]
    ) -> bool:
        """Publish without an event. False: the queue is full; then `send` waits. Raises as that does."""
        return self._publish(*encode(self.consumer.handle, topic, payload, qos, retain, properties))


def encode(
    publisher: int, topic: str, payload: Payload, qos: int, retain: bool, properties: Optional[Properties]
) -> tuple[int, str, bytes, int, bool, bytes]:
    """Check a message and return what `Bridge.publish` takes."""
    check_topic(topic)
    check_qos(qos)
    # Short bytes, which is nearly all there is, need no look at their type and length.
    if payload.__class__ is not bytes or len(payload) > 65_535:
        payload = encode_payload(payload)
    encoded = b"" if properties is None else encode_properties(properties, payload)
    return publisher, topic, payload, qos, retain, encoded


#: What runs in the frame that `Run.is_in` knows, whichever run it is.
RUN_CODE = Run._call_application.__code__
