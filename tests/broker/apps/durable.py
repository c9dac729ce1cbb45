"""Consumers that record what they have handled, each in a file of its own, and that a test holds up and fails by files.

In the folder TEST_FOLDER: `workers` has the app_ids that the master spawns in its connect(), with spaces between; while
`shut` or `shut-<app_id>` is there, receive() waits, and while `broken` is, connect() fails; `handled-<app_id>` gets a
line for each message before receive() returns. What a message says begins with what is to be done with it; see there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

FOLDER = Path(os.environ["TEST_FOLDER"])


class Keeper(MqttConsumer):
    """Hears `all/#` and `to/<app_id>/#`, the master also `zero/#`, `two/#` and, with others, `group/#`."""

    path = "apps.durable.Keeper"

    async def connect(self) -> None:
        self.app_id = self.scope["app_id"]
        if self.file("broken").exists():
            raise RuntimeError("cannot connect")
        for filter in ("all/#", f"to/{self.app_id}/#"):
            await self.subscribe(filter, 1)
        if self.app_id == 0:
            await self.subscribe("zero/#", 0)
            await self.subscribe("two/#", 2)
            await self.subscribe("$share/group/group/#", 1)
            for word in self.file("workers").read_text().split():
                await self.spawn_worker(int(word), self.path)
        await self.publish(f"ready/{self.app_id}", b"1", qos=1, retain=True)

    async def receive(self, mqtt_message: Any) -> None:
        command, _, rest = mqtt_message["payload"].decode(errors="replace").partition(" ")
        if command == "subscribe":
            await self.subscribe(rest, 1)
        while self.file("shut").exists() or self.file(f"shut-{self.app_id}").exists():
            await asyncio.sleep(0.005)
        if command == "poison" and not self.file("antidote").exists():
            raise RuntimeError("poisoned")
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if command == "spawn":
            await self.spawn_worker(int(rest), self.path)
        if command == "kill":
            await self.kill_worker(int(rest))
        if command == "forward":
            topic, _, payload = rest.partition(" ")
            await self.publish(topic, payload, qos=1)
        self.record(mqtt_message)

    def record(self, message: Any) -> None:
        kept = [message["topic"], message["payload"].decode(errors="replace")]
        line = json.dumps([*kept, message["qos"], message["retain"], message["redelivered"]])
        file = os.open(self.file(f"handled-{self.app_id}"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def file(self, name: str) -> Path:
        return FOLDER / name


class Other(Keeper):
    """The same under another path: not the same consumer."""


application = Keeper.as_asgi()
