"""Consumers under load that fail now and then, are restarted, spawn, kill and publish, and record what they handle.

Each message is a publisher's name and a number. Everybody but the guest hears `load/<publisher>`; the master passes
what it gets on to one of the others, by `passed/<app_id>/<publisher>`. In the folder TEST_FOLDER `handled-<app_id>` has
a line for each message: its topic, publisher, number, and 1 where it was redelivered.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

FOLDER = Path(os.environ["TEST_FOLDER"])
#: Spawned by each master's connect(); and one that comes and goes, and hears nothing but what is passed on.
WORKERS, GUEST = (1, 2), 3
#: Seconds between two failures of one consumer.
FAILURES = float(os.environ.get("TEST_FAILURES", "3"))

ready: dict[int, asyncio.Event] = {app_id: asyncio.Event() for app_id in (*WORKERS, GUEST)}


class Busy(MqttConsumer):
    async def connect(self) -> None:
        self.app_id = self.scope["app_id"]
        self.fails_at = time.monotonic() + random.expovariate(1 / FAILURES)
        if self.app_id != GUEST:
            await self.subscribe("load/+", 1)
        await self.subscribe(f"passed/{self.app_id}/+", 1)
        if self.app_id:
            ready[self.app_id].set()
            return
        for worker in WORKERS:
            await self.spawn_worker(worker, "apps.durable_chaos.Busy")
        # The listener opens when this returns, and what comes then is for them, too.
        for worker in WORKERS:
            await ready[worker].wait()

    async def receive(self, mqtt_message: Any) -> None:
        topic, payload = mqtt_message["topic"], mqtt_message["payload"].decode()
        publisher, number = payload.split()
        if time.monotonic() > self.fails_at:
            raise RuntimeError("now and then")
        if random.random() < 0.02:
            await asyncio.sleep(random.expovariate(200))
        if self.app_id == 0:
            await self.pass_on(publisher, int(number))
        line = f"{topic} {payload} {int(mqtt_message['redelivered'])}\n"
        file = os.open(FOLDER / f"handled-{self.app_id}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)

    async def pass_on(self, publisher: str, number: int) -> None:
        """Each to one worker, every so often to the guest, who is spawned for it, and killed later."""
        to = number % len(WORKERS) + 1
        if number % 40 == 0:
            to = GUEST
            if not ready[GUEST].is_set():
                await self.spawn_worker(GUEST, "apps.durable_chaos.Busy")
                await ready[GUEST].wait()
        await self.publish(f"passed/{to}/{publisher}", f"{publisher} {number}", qos=1)
        if number % 400 == 399 and ready[GUEST].is_set():
            ready[GUEST].clear()
            await self.kill_worker(GUEST)


application = Busy.as_asgi()
