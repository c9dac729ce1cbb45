"""A consumer that subscribes on command to what the broker has kept, while the master hears live traffic.

A message on ``bench/command`` is either ``<round> <qos> <count>``, which makes the worker subscribe to ``bench/kept/#``
(``count`` retained messages on ``bench/kept/0``, ``1`` …), or ``<round>``, which ends the round. When the last retained
message was handled, ``<round>`` goes to ``bench/complete``; at the end of the round ``<round> <JSON object>`` goes to
``bench/report``, times in nanoseconds since the call of ``subscribe()``.
"""

from __future__ import annotations

import json
import time
from typing import Any

from .common import start_django

start_django()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from mqttasgi.consumers import MqttConsumer  # noqa: E402

KEPT = "bench/kept/"
LIVE = "bench/kept/live/"


class CollectorConsumer(MqttConsumer):
    """Counts and clocks one round at a time."""

    async def connect(self) -> None:
        self.forget(0)
        await self.subscribe("bench/command", 1)

    def forget(self, count: int) -> None:
        """Begins to count from nothing."""
        self.seen = bytearray(count)
        self.arrived = self.doubled = self.unmarked = 0
        self.begin = self.returned = self.last = 0
        self.live = self.live_disordered = self.live_longest = 0
        self.live_first = self.live_highest = -1

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        topic, payload = mqtt_message["topic"], mqtt_message["payload"]
        if topic.startswith(LIVE):
            if self.seen:
                stamp, number = map(int, payload.split())
                self.count_live(time.monotonic_ns() - stamp, number)
        elif topic.startswith(KEPT):
            await self.count(int(topic[len(KEPT) :]), bool(mqtt_message.get("retain")))
        else:
            await self.obey(payload.decode().split())

    async def count(self, number: int, marked: bool) -> None:
        """A retained message; marked: as such."""
        if number >= len(self.seen):
            return
        if self.seen[number]:
            self.doubled += 1
            return
        self.seen[number] = 1
        self.arrived += 1
        self.unmarked += not marked
        self.last = time.monotonic_ns()
        if self.arrived == len(self.seen):
            await self.publish("bench/complete", self.round.encode(), qos=1)

    def count_live(self, late: int, number: int) -> None:
        """A live message; late: on its way for so many nanoseconds."""
        if self.live == 0:
            self.live_first = number
        self.live_disordered += number <= self.live_highest
        self.live_highest = max(self.live_highest, number)
        self.live += 1
        self.live_longest = max(self.live_longest, late)

    async def obey(self, command: list[str]) -> None:
        """Begins a round, or ends it."""
        self.round, *subscription = command
        if subscription:
            qos, count = map(int, subscription)
            self.forget(count)
            self.begin = time.monotonic_ns()
            await self.subscribe(KEPT + "#", qos)
            self.returned = time.monotonic_ns()
            return
        if KEPT + "#" in self.subscribed_topics:
            await self.unsubscribe(KEPT + "#")
        in_order = self.live - self.live_disordered
        report = {
            "arrived": self.arrived,
            "doubled": self.doubled,
            "unmarked": self.unmarked,
            "returned_ns": self.returned - self.begin,
            "last_ns": max(0, self.last - self.begin),
            "live": self.live,
            "live_missing": self.live_highest - self.live_first + 1 - in_order if self.live else 0,
            "live_disordered": self.live_disordered,
            "live_longest_ns": self.live_longest,
        }
        await self.publish("bench/report", f"{self.round} {json.dumps(report)}".encode(), qos=1)
        self.forget(0)


class MasterConsumer(MqttConsumer):
    """Hears the live traffic all the time."""

    heard = 0

    async def connect(self) -> None:
        await self.subscribe(LIVE + "#", 1)
        await self.spawn_worker(1, "benchapp.retained:CollectorConsumer")

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        self.heard += 1


application = ProtocolTypeRouter({"mqtt": MasterConsumer.as_asgi()})
