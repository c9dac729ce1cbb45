"""Consumers that check every message they hear, while others come and go and change their filters.

    publisher p ── soak/in/p ──► ledger ── soak/seen/p ──► master ── soak/out/p ──► publisher p
                        └──────► visitors

Two ledgers live as long as the master and are answerable for half of the publishers each. Visitors live for a few
hundred messages. Ledgers and visitors talk (`soak/talk/<name>`), which the master and both ledgers hear. Every message
says which of its stream it is, so who hears all of a stream finds one that is lost, doubled or out of order.

`soak/ready` (retained) comes when the ledgers listen, `soak/progress` every so many answers, `soak/report` after a
message on `soak/finish`, when everybody has said how much he said.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

PUBLISHERS = int(os.environ.get("TEST_PUBLISHERS", "4"))
#: Answers between two messages on soak/progress.
PROGRESS = int(os.environ.get("TEST_PROGRESS", "1000"))
#: Answers between two steps of the master's churn.
CHURN = 100
#: Messages of publishers between two changes of a visitor's and a ledger's filters.
CHANGE = 16
#: Visitors that live, and that live or have yet to say goodbye.
VISITORS = 6
VISITORS_LEAVING = 12
#: So many app_ids are used in turn.
APP_IDS = 64

#: What happened in this process; everything here runs on one loop.
counts: Counter[str] = Counter()
errors: list[str] = []


def complain(text: str) -> None:
    counts["errors"] += 1
    if len(errors) < 20:
        errors.append(text)


class Streams:
    """The next number of each stream that somebody hears."""

    def __init__(self, owner: str, *, from_the_start: bool) -> None:
        self._owner = owner
        self._from_the_start = from_the_start
        self.next: dict[str, int] = {}

    def check(self, mqtt_message: Any) -> tuple[str, int]:
        """Looks at `<stream> <number> <size> <filling>`; returns the first two."""
        payload = mqtt_message["payload"]
        topic = mqtt_message["topic"]
        name, number_text, size, _ = payload.split(b" ", 3)
        stream = topic.rpartition("/")[2]
        number = int(number_text)
        if name.decode() != stream or len(payload) != int(size):
            complain(
                f"{self._owner} heard a spoilt message on {topic}: {payload[:60]!r}, {len(payload)} bytes"
            )
        if mqtt_message["qos"] != 1 or mqtt_message["retain"]:
            complain(
                f"{self._owner} heard {topic} {number} with {mqtt_message['qos']=}, {mqtt_message['retain']=}"
            )
        expected = self.next.get(topic, 0 if self._from_the_start else number)
        if number != expected:
            complain(f"{self._owner} heard {topic} {number} where {expected} was next")
        self.next[topic] = number + 1
        return stream, number

    def end(self, stream: str, count: int) -> None:
        """Somebody says that he said `count` messages."""
        heard = self.next.pop(f"soak/talk/{stream}", 0)
        if heard != count:
            complain(f"{self._owner} heard {heard} of {count} messages of {stream}")


class Base(MqttConsumer):
    """Counts what it asks for."""

    async def subscribe(self, topic: str, qos: int) -> None:
        counts["subscribed"] += 1
        await super().subscribe(topic, qos)

    async def unsubscribe(self, topic: str) -> None:
        counts["unsubscribed"] += 1
        await super().unsubscribe(topic)


class Talker(Base):
    """Says numbered messages of many sizes."""

    name: str
    said = 0

    async def say(self) -> None:
        head = f"{self.name} {self.said} "
        # Mostly short, one in a hundred of 20,000 bytes.
        size = len(head) + 7 + (20_000 if self.said % 100 == 99 else self.said * 37 % 300)
        self.said += 1
        counts["talk published"] += 1
        await self.publish(f"soak/talk/{self.name}", f"{head}{size} ".encode().ljust(size, b"."), qos=1)

    async def say_goodbye(self) -> None:
        await self.publish(f"soak/ended/{self.name}", str(self.said), qos=1)


def changing_filters(publisher: str) -> Iterator[tuple[str, str]]:
    """What to subscribe to and then to unsubscribe from: one filter at least matches `soak/in/<publisher>` always, if
    the first was subscribed to before."""
    filters = [f"soak/in/{publisher}", f"soak/in/{publisher}/#", f"+/in/{publisher}"]
    while True:
        for index, new in enumerate(filters):
            # The one before stays for a while beside the new one.
            yield new, filters[index - 2]


class Ledger(Talker):
    """Hears half of the publishers, passes on what they say, and hears all talk."""

    async def connect(self) -> None:
        self.name = f"ledger-{self.scope['number']}"
        self.streams = Streams(self.name, from_the_start=True)
        self.changes: dict[str, Iterator[tuple[str, str]]] = {}
        self.ending = False
        for publisher in map(str, range(self.scope["number"], PUBLISHERS, 2)):
            self.changes[publisher] = changing_filters(publisher)
            await self.subscribe(f"soak/in/{publisher}", 1)
        for topic_filter in ("soak/talk/+", "soak/ended/+", "soak/end"):
            await self.subscribe(topic_filter, 1)
        await self.publish("soak/listening", self.name)

    async def receive(self, mqtt_message: Any) -> None:
        kind = mqtt_message["topic"].split("/")[1]
        if kind == "in":
            publisher, number = self.streams.check(mqtt_message)
            counts["in handled"] += 1
            await self.publish(f"soak/seen/{publisher}", mqtt_message["payload"], qos=1)
            if number % CHANGE == 0:
                new, old = next(self.changes[publisher])
                await self.subscribe(new, 1 + number % 2)
                await self.unsubscribe(old)
                await self.say()
        elif kind == "talk":
            self.streams.check(mqtt_message)
            counts["talk handled"] += 1
        elif kind == "ended":
            self.streams.end(mqtt_message["topic"].rpartition("/")[2], int(mqtt_message["payload"]))
            await self.close_when_all_ended()
        else:
            self.ending = True
            await self.say_goodbye()

    async def close_when_all_ended(self) -> None:
        talks = [topic for topic in self.streams.next if topic.startswith("soak/talk/")]
        if self.ending and not talks:
            await self.publish("soak/closed", self.name)


class Visitor(Talker):
    """Hears one publisher after the other, and changes its filters as often as it can."""

    async def connect(self) -> None:
        number = self.scope["number"]
        self.name = f"visitor-{number}"
        self.streams = Streams(self.name, from_the_start=False)
        self.publishers = [str((number + step) % PUBLISHERS) for step in range(PUBLISHERS)]
        self.heard = 0
        if self.channel_layer is not None:
            await self.channel_layer.group_add("visitors", self.channel_name)
        await self.listen()

    async def listen(self) -> None:
        self.publisher = self.publishers.pop()
        self.arrived = False
        self.changes = changing_filters(self.publisher)
        await self.subscribe(f"soak/in/{self.publisher}", 1)

    async def receive(self, mqtt_message: Any) -> None:
        publisher, _ = self.streams.check(mqtt_message)
        counts["visitors handled"] += 1
        if publisher == self.publisher:
            self.arrived = True
        elif self.arrived:
            complain(f"{self.name} heard {mqtt_message['topic']}, from which it had unsubscribed")
        self.heard += 1
        if self.heard % CHANGE:
            return
        await self.say()
        step = self.heard // CHANGE
        if step % 5 == 4 and self.publishers:
            # What is on its way comes all the same, before anything of the next publisher.
            for topic_filter in self.subscribed_topics.copy():
                await self.unsubscribe(topic_filter)
            await self.listen()
        else:
            new, old = next(self.changes)
            await self.subscribe(new, step % 2 + 1)
            await self.unsubscribe(old)
        nowhere = f"soak/nowhere/{self.name}/{step}/#"
        await self.subscribe(nowhere, 0)
        if step % 2:
            await self.unsubscribe(nowhere)

    async def disconnect(self) -> None:
        await self.say_goodbye()


class VisitorWithoutLayer(Visitor):
    channel_layer_alias = "none"


class Master(Base):
    """Hears what the ledgers have seen and answers it, spawns and kills visitors, and hears all talk."""

    async def connect(self) -> None:
        self.streams = Streams("master", from_the_start=True)
        self.listening: set[str] = set()
        self.closed: set[str] = set()
        #: app_ids of the visitors that live, the oldest first.
        self.visitors: list[Any] = []
        self.spawned = self.gone = 0
        self.finishing = False
        for topic_filter in (
            "soak/seen/+",
            "soak/talk/+",
            "soak/ended/+",
            "soak/listening",
            "soak/closed",
            "soak/finish",
        ):
            await self.subscribe(topic_filter, 1)
        for number in range(2):
            await self.spawn_worker(f"ledger-{number}", "apps.soak.Ledger", {"number": number})

    async def receive(self, mqtt_message: Any) -> None:
        kind = mqtt_message["topic"].split("/")[1]
        if kind == "seen":
            publisher, number = self.streams.check(mqtt_message)
            counts["answered"] += 1
            await self.publish(f"soak/out/{publisher}", str(number), qos=1)
            if counts["answered"] % CHURN == 0:
                await self.churn()
            if counts["answered"] % PROGRESS == 0:
                await self.publish("soak/progress", json.dumps(self.progress()), qos=1)
        elif kind == "talk":
            self.streams.check(mqtt_message)
            counts["talk handled"] += 1
        elif kind == "ended":
            await self.ended(mqtt_message["topic"].rpartition("/")[2], int(mqtt_message["payload"]))
        elif kind == "listening":
            self.listening.add(mqtt_message["payload"].decode())
            if len(self.listening) == 2:
                await self.publish("soak/ready", b"1", qos=1, retain=True)
        elif kind == "closed":
            self.closed.add(mqtt_message["payload"].decode())
            if len(self.closed) == 2:
                await self.publish("soak/report", json.dumps(self.report()), qos=1)
        else:
            self.finishing = True
            while self.visitors:
                await self.kill_worker(self.visitors.pop(0))
            await self.end_when_all_are_gone()

    async def churn(self) -> None:
        if len(self.visitors) >= VISITORS:
            app_id = self.visitors.pop(0)
            await self.kill_worker(app_id)
            if self.spawned % 10 == 0:
                # Its app_id is free although it is still busy with what it had.
                await self.spawn(app_id)
        if self.spawned - self.gone < VISITORS_LEAVING:
            number = self.spawned % APP_IDS
            await self.spawn(number + 1 if number % 2 else f"visitor {number}")
            if self.spawned % 7 == 0:
                # Before it has run at all.
                await self.kill_worker(self.visitors.pop())

    async def spawn(self, app_id: Any) -> None:
        path = "apps.soak:Visitor" if self.spawned % 2 else "apps.soak.VisitorWithoutLayer"
        await self.spawn_worker(app_id, path, {"number": self.spawned})
        self.visitors.append(app_id)
        self.spawned += 1

    async def ended(self, name: str, said: int) -> None:
        self.streams.end(name, said)
        if name.startswith("visitor"):
            self.gone += 1
            if self.finishing:
                await self.end_when_all_are_gone()

    async def end_when_all_are_gone(self) -> None:
        if self.gone == self.spawned:
            await self.publish("soak/end", b"", qos=1)

    def progress(self) -> dict[str, Any]:
        return {
            "answered": counts["answered"],
            "errors": counts["errors"],
            "complaints": errors,
            "spawned": self.spawned,
            "visitors": self.spawned - self.gone,
            "tasks": len(asyncio.all_tasks()),
            "blocks": sys.getallocatedblocks(),
        }

    def report(self) -> dict[str, Any]:
        return {**self.progress(), **counts, "streams": len(self.streams.next)}


application = Master.as_asgi()
