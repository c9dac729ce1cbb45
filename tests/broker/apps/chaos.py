"""Consumers that do whatever harm they are told to.

A message on `chaos/do/<app_id>` is a JSON list: what to do, how much of it, and until when (monotonic clock). The
master (0) also spawns and kills.
"""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

WORKERS = range(1, 7)
logger = logging.getLogger(__name__)


class Culprit(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        if self.scope["app_id"] == 0:
            for worker in WORKERS:
                await self.spawn_worker(worker, "apps.chaos.Culprit")
        await self.subscribe(f"chaos/do/{self.scope['app_id']}", 2)
        await self.subscribe("chaos/flood/#", 1)

    async def disconnect(self) -> None:
        await self.publish("chaos/gone", str(self.scope["app_id"]), qos=0)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"].startswith("chaos/do/"):
            what, amount, until = json.loads(mqtt_message["payload"])
            # What has waited for a restart would only bring the next one.
            if time.monotonic() < until:
                await getattr(self, f"do_{what}")(amount)

    async def do_nothing(self, amount: int) -> None:
        await self.publish("chaos/done", f"{self.scope['app_id']} {amount}", qos=1)

    async def do_raise(self, amount: int) -> None:
        raise RuntimeError(f"chaos {amount}")

    async def do_exit(self, amount: int) -> None:
        sys.exit(amount)

    async def do_block(self, amount: int) -> None:
        time.sleep(amount / 1000)

    async def do_spin(self, amount: int) -> None:
        end = time.monotonic() + amount / 1000
        while time.monotonic() < end:
            pass

    async def do_recurse(self, amount: int) -> None:
        await self.do_recurse(amount)

    async def do_flood(self, amount: int) -> None:
        payload = b"x" * 100
        for _ in range(amount):
            await self.publish(f"chaos/flood/{self.scope['app_id']}", payload, qos=amount % 3)

    async def do_log(self, amount: int) -> None:
        for number in range(amount):
            logger.warning("chaos %d", number)

    async def do_churn(self, amount: int) -> None:
        for number in range(amount):
            await self.subscribe(f"chaos/churn/{number % 20}/+/#", number % 3)
        for number in range(min(20, amount)):
            await self.unsubscribe(f"chaos/churn/{number}/+/#")

    async def do_tasks(self, amount: int) -> None:
        tasks = [asyncio.ensure_future(asyncio.sleep(3600)) for _ in range(amount)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    async def do_cancel(self, amount: int) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    async def do_stop(self, amount: int) -> None:
        asyncio.get_event_loop().stop()

    async def do_threads(self, amount: int) -> None:
        threads = [threading.Thread(target=logger.warning, args=("chaos thread",)) for _ in range(amount)]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])

    async def do_memory(self, amount: int) -> None:
        blocks = [bytearray(1_000_000) for _ in range(amount)]
        await asyncio.sleep(0.01)
        del blocks

    async def do_process(self, amount: int) -> None:
        await asyncio.to_thread(subprocess.run, ["true"], check=True)

    async def do_respawn(self, amount: int) -> None:
        """Of the master: ends a worker, which may be waiting for its restart, and starts it anew."""
        try:
            await self.kill_worker(amount)
        except ValueError:
            logger.warning("worker %d was not there", amount)
        await self.spawn_worker(amount, "apps.chaos.Culprit")


application = Culprit.as_asgi()
