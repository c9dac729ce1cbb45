"""The plugin's built-in module without the plugin: queues in Python, and a pipe like the real one."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import Any, Callable, Optional

from mqttasgi import __version__
from mqttasgi.runtime.bridge import Batch, Options
from support import option_table

DEFAULTS = option_table.for_python()


class FakeMessage:
    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool = False,
        session: bool = False,
        properties: Optional[dict[str, Any]] = None,
        client: Optional[dict[str, Any]] = None,
        stored: int = 0,
        tries: int = 0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.session = session
        #: The same objects in each event, as the real module might have it.
        self.properties = properties if properties is not None else {}
        self.client = client
        self.stored = stored
        self.tries = tries
        self.size = len(topic) + len(payload)

    @property
    def is_droppable(self) -> bool:
        return not self.session and not self.stored

    def event(self, options: int) -> dict[str, Any]:
        mqtt = {
            "topic": self.topic,
            "payload": self.payload,
            "qos": min(options & 3, self.qos),
            "retain": self.retain,
            "properties": self.properties,
            "client": self.client,
            "redelivered": bool(options & 0x10),
        }
        return {"type": "mqtt.msg", "mqtt": mqtt}


class FakeClientMessage(FakeMessage):
    """Tells that a client has connected or, with a reason, disconnected."""

    def __init__(self, client: dict[str, Any], reason: Optional[dict[str, Any]] = None) -> None:
        super().__init__("", b"", 0, client=client)
        self.reason = reason

    @property
    def is_droppable(self) -> bool:
        return False

    def event(self, options: int) -> dict[str, Any]:
        if self.reason is None:
            return {"type": "mqtt.client.connect", "mqtt": {"client": self.client}}
        return {"type": "mqtt.client.disconnect", "mqtt": {"client": self.client, "reason": self.reason}}


class FakeControl(tuple):
    """What the waiting deliveries, which are tuples too, are told from."""


class FakeBridge:
    """Answers subscriptions at once; what consumers publish is kept in `published`."""

    LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG = 8, 4, 2, 1, 16
    VERSION = __version__

    def __init__(self, room: int = 1000) -> None:
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        self.waiting: list[Any] = []
        #: What publish() accepts before it says that the queue is full.
        self.room = room
        self.published: list[tuple[str, bytes, int, bool]] = []
        #: (handle of who published, properties), for each of `published`.
        self.published_with: list[tuple[int, bytes]] = []
        #: (handle, filter) -> Subscription Options.
        self.subscriptions: dict[tuple[int, str], int] = {}
        #: Handles.
        self.watchers: list[int] = []
        self.lines: list[tuple[int, str]] = []
        #: Whether Mosquitto would tell who connects; ids of clients that can be kicked; those that were asked for.
        self.knows_connects = True
        self.clients: set[str] = set()
        self.kicked: list[str] = []
        self.has_started = False
        self.settled_calls = 0
        #: What the last of them said.
        self.summary = ""
        self.suspend_calls = 0
        self.subscriptions_at_suspend: dict[tuple[int, str], int] = {}
        self.answer_at_once = True
        #: What is_over() compares: how many messages there are, which a test says, and may be.
        self.queue_size = 1000
        self.crowd: Callable[[], int] = lambda: 0
        #: Statistics, by name.
        self.statistics: Counter[str] = Counter()
        self.unanswered: list[int] = []
        #: How often Python has said that it runs; and for how long the broker pretends not to have heard it.
        self.beats = 0
        self.silence = 0.0
        #: A clock that goes on with each look at it, and what it was when the handled messages were received.
        self.now = 100
        self.handled_since: list[int] = []
        #: What the runtime says of stored messages and of whom they are for, in this order, as the calls are.
        self.told: list[tuple[Any, ...]] = []
        #: Those of "failed".
        self.tracebacks: list[str] = []

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._writable)

    # ---- what a test does ----

    def deliver(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        handle: int = 1,
        retain: bool = False,
        session: bool = False,
        properties: Optional[dict[str, Any]] = None,
        stored: int = 0,
        tries: int = 0,
    ) -> None:
        message = FakeMessage(
            topic, payload, qos, retain, session or retain, properties, stored=stored, tries=tries
        )
        self.give((handle, message, 2))

    def give(self, item: Any) -> None:
        self.waiting.append(item)
        os.write(self._writable, b"x")

    def control(self, what: str, whose: int = 0, code: int = 0) -> None:
        """Of a hold and a release: `whose` is a consumer's handle or, with the hold's number, 0 for all."""
        if what in ("hold", "release") and whose:
            what += "_consumer"
        parts: dict[str, tuple[Any, ...]] = {
            "answer": (whose, code),
            "hold": (code,),
            "release": (code,),
            "hold_consumer": (whose, bool(code)),
            "release_consumer": (whose,),
            "options": (code, whose),
        }
        self.give(FakeControl((what, *parts.get(what, ()))))

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    # ---- what the runtime calls ----

    def fileno(self) -> int:
        return self._readable

    def take(self, limit: int) -> list[Batch]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._readable, 4096)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        batches: list[Batch] = []
        deliveries: list[Any] = []
        for item in taken:
            if isinstance(item, FakeControl):
                batches.append((deliveries, item))
                deliveries = []
            else:
                deliveries.append(item)
        if deliveries:
            batches.append((deliveries, None))
        return batches

    def is_over(self, sixteenths: int) -> bool:
        return self.crowd() > self.queue_size * sixteenths / 16

    def publish(
        self, consumer: int, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes
    ) -> bool:
        if len(self.published) >= self.room:
            return False
        self.published.append((topic, payload, qos, retain))
        self.published_with.append((consumer, properties))
        return True

    def _answer(self, sequence: int) -> None:
        if sequence and self.answer_at_once:
            self.control("answer", sequence)
        elif sequence:
            self.unanswered.append(sequence)

    def subscribe(self, consumer: int, topic_filter: str, options: int, sequence: int) -> None:
        self.subscriptions[consumer, topic_filter] = options
        self._answer(sequence)

    def unsubscribe(self, consumer: int, topic_filter: str, sequence: int) -> None:
        self.subscriptions.pop((consumer, topic_filter), None)
        self._answer(sequence)

    def watch_clients(self, consumer: int, sequence: int) -> None:
        if consumer not in self.watchers:
            self.watchers.append(consumer)
        self._answer(sequence)

    def unwatch_clients(self, consumer: int, sequence: int) -> None:
        self.watchers.remove(consumer)
        self._answer(sequence)

    def tells_connects(self) -> bool:
        return self.knows_connects

    def kick(self, client_id: str, sequence: int) -> None:
        client_id.encode()
        if "\0" in client_id:
            raise ValueError("embedded null character")
        self.kicked.append(client_id)
        self.control("answer", sequence, 0 if client_id in self.clients else 6)

    def log(self, level: int, line: str) -> bool:
        self.lines.append((level, line))
        return True

    def log_lines(self, after: int) -> list[tuple[int, float, int, str]]:
        numbered = enumerate(self.lines, 1)
        return [(number, float(number), level, line) for number, (level, line) in numbered if number > after]

    def last_log_line(self) -> int:
        return len(self.lines)

    def started(self) -> None:
        self.has_started = True

    def settled(self, summary: str) -> None:
        self.settled_calls += 1
        self.summary = summary

    def suspend(self) -> None:
        self.suspend_calls += 1
        self.subscriptions_at_suspend = dict(self.subscriptions)

    def add(self, name: str, by: int) -> None:
        self.statistics[name] += by

    def set(self, name: str, value: int) -> None:
        self.statistics[name] = value

    def raise_to(self, name: str, value: int) -> None:
        self.statistics[name] = max(self.statistics[name], value)

    def values(self) -> dict[str, int]:
        return dict(self.statistics)

    def beat(self) -> float:
        self.beats += 1
        return self.silence

    def rest(self) -> None:
        self.beats = 0

    def handled(self, since: int) -> int:
        if since:
            self.handled_since.append(since)
        self.now += 1
        return self.now

    def consumer(self, handle: int, name: str) -> None:
        self.told.append(("consumer", handle, name))

    def consumer_gone(self, handle: int, keeps: bool) -> None:
        self.told.append(("consumer_gone", handle, keeps))

    def done(self, handled: list[tuple[int, int]]) -> None:
        self.told.append(("done", *handled))

    def failed(self, handle: int, stored: int, tries: int, traceback: str, dead: bool) -> None:
        self.tracebacks.append(traceback)
        self.told.append(("failed", handle, stored, tries, dead))

    def options(self) -> Options:
        return {
            "durable": "",
            "durable_tries": 5,
            **DEFAULTS,
            "application": "unused:unused",
            "loop": "asyncio",
            "watchdog": 0.0,
        }  # type: ignore
