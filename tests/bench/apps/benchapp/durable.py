"""Echoes ``bench/in``, handles ``bench/busy/#`` in silence, and works off what waits for it on ``bench/backlog/#``.

While the file ``BENCH_HOLD`` is there it does not begin with the latter. When ``BENCH_BACKLOG`` of them are handled,
``bench/worked`` gets a retained JSON object: ``seconds`` since the first, and ``VmRSS`` of the process in KiB before
the first, at most, and after the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from .common import IN, OUT, QOS, start_django

start_django()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from mqttasgi.consumers import MqttConsumer  # noqa: E402

HOLD = os.environ.get("BENCH_HOLD", "")
BACKLOG = int(os.environ.get("BENCH_BACKLOG", "0"))


def resident_kib() -> int:
    """VmRSS of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


class DurableConsumer(MqttConsumer):
    """Subscribes to all of that."""

    async def connect(self) -> None:
        self.handled = 0
        self.began = 0.0
        self.resident = [resident_kib()]
        await self.subscribe(IN, QOS)
        await self.subscribe("bench/busy/#", QOS)
        await self.subscribe("bench/backlog/#", QOS)

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        if mqtt_message["topic"] == IN:
            await self.publish(OUT, mqtt_message["payload"], qos=QOS)
        elif mqtt_message["topic"].startswith("bench/backlog/"):
            await self.work_off()

    async def work_off(self) -> None:
        """Count one of the backlog."""
        if self.handled == 0:
            while HOLD and os.path.exists(HOLD):
                await asyncio.sleep(0.05)
            self.began = time.monotonic()
        self.handled += 1
        if self.handled % max(1, BACKLOG // 100) == 0:
            self.resident.append(resident_kib())
        if self.handled == BACKLOG:
            done = {
                "seconds": time.monotonic() - self.began,
                "before_kib": self.resident[0],
                "most_kib": max(self.resident),
                "after_kib": self.resident[-1],
            }
            await self.publish("bench/worked", json.dumps(done), qos=1, retain=True)


application = ProtocolTypeRouter({"mqtt": DurableConsumer.as_asgi()})
