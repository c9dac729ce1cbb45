"""A master that spawns ``BENCH_WORKERS`` echo consumers, worker n on ``bench/worker/<n>``.

When all have subscribed, ``bench/ready`` gets a retained JSON object: ``workers``, ``spawn_seconds``, and the
``VmRSS`` of the process before and after in KiB.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from typing import Any

from .common import start_django

start_django()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from mqttasgi.consumers import MqttConsumer  # noqa: E402

from .consumers import EchoConsumer  # noqa: E402

WORKERS = int(os.environ.get("BENCH_WORKERS", "10"))


def resident_kib() -> int:
    """VmRSS of this process, after a garbage collection."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


class Progress:
    """How many workers have subscribed. One process, one loop, hence one of these."""

    subscribed = 0
    all_subscribed = asyncio.Event()


class WorkerConsumer(EchoConsumer):
    """Answers on its own topic."""

    async def connect(self) -> None:
        self.topic = f"bench/worker/{self.scope['number']}"
        await super().connect()
        Progress.subscribed += 1
        if Progress.subscribed == WORKERS:
            Progress.all_subscribed.set()


class MasterConsumer(MqttConsumer):
    """Spawns beside ``connect``, whose duration the start-up of the server may be waiting for."""

    async def connect(self) -> None:
        self.spawning = asyncio.ensure_future(self.spawn_all())

    async def spawn_all(self) -> None:
        """Spawns, waits for all to subscribe, and reports."""
        before = resident_kib()
        begin = time.monotonic()
        for number in range(WORKERS):
            await self.spawn_worker(number + 1, "benchapp.many:WorkerConsumer", {"number": number})
        await Progress.all_subscribed.wait()
        report: dict[str, Any] = {
            "workers": WORKERS,
            "spawn_seconds": round(time.monotonic() - begin, 6),
            "rss_before_kib": before,
            "rss_after_kib": resident_kib(),
        }
        await self.publish("bench/ready", json.dumps(report).encode(), qos=1, retain=True)

    async def disconnect(self) -> None:
        self.spawning.cancel()


application = ProtocolTypeRouter({"mqtt": MasterConsumer.as_asgi()})
