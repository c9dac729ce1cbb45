"""The plugin's built-in module without the plugin: queues in Python, and a pipe like the real one."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from mqttasgi._bridge import Options


class FakeMessage:
    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool = False, session: bool = False
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.session = session

    def event(self, qos: int) -> dict[str, Any]:
        mqtt = {
            "topic": self.topic,
            "payload": self.payload,
            "qos": min(qos, self.qos),
            "retain": self.retain,
        }
        return {"type": "mqtt.msg", "mqtt": mqtt}


class FakeBridge:
    """Answers subscriptions at once; what consumers publish is kept in `published`."""

    LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG = 8, 4, 1, 16

    def __init__(self, room: int = 1000) -> None:
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        self.waiting: list[Any] = []
        #: What publish() accepts before it says that the queue is full.
        self.room = room
        self.published: list[tuple[str, bytes, int, bool]] = []
        #: (handle, filter) -> QoS.
        self.subscriptions: dict[tuple[int, str], int] = {}
        self.lines: list[tuple[int, str]] = []
        self.has_started = False
        self.settled_calls = 0
        self.suspend_calls = 0
        self.subscriptions_at_suspend: dict[tuple[int, str], int] = {}
        self.answer_at_once = True
        self.unanswered: list[int] = []

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
    ) -> None:
        self.give((handle, FakeMessage(topic, payload, qos, retain, session or retain), 2))

    def give(self, item: Any) -> None:
        self.waiting.append(item)
        os.write(self._writable, b"x")

    def control(self, what: str, sequence: int = 0, code: int = 0) -> None:
        self.give((0, what, (sequence, code)))

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    # ---- what the runtime calls ----

    def fileno(self) -> int:
        return self._readable

    def take(self, limit: int) -> list[Any]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._readable, 4096)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        if len(self.published) >= self.room:
            return False
        self.published.append((topic, payload, qos, retain))
        return True

    def _answer(self, sequence: int) -> None:
        if sequence and self.answer_at_once:
            self.control("answer", sequence)
        elif sequence:
            self.unanswered.append(sequence)

    def subscribe(self, consumer: int, topic_filter: str, qos: int, sequence: int) -> None:
        self.subscriptions[consumer, topic_filter] = qos
        self._answer(sequence)

    def unsubscribe(self, consumer: int, topic_filter: str, sequence: int) -> None:
        self.subscriptions.pop((consumer, topic_filter), None)
        self._answer(sequence)

    def log(self, level: int, line: str) -> bool:
        self.lines.append((level, line))
        return True

    def started(self) -> None:
        self.has_started = True

    def settled(self) -> None:
        self.settled_calls += 1

    def suspend(self) -> None:
        self.suspend_calls += 1
        self.subscriptions_at_suspend = dict(self.subscriptions)

    def options(self) -> Options:
        return {
            "application": "unused:unused",
            "python_path": "",
            "loop": "asyncio",
            "verbosity": 0,
            "session": True,
            "variables": [],
        }
