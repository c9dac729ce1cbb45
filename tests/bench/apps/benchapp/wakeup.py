"""A consumer that hears nothing and publishes now and then, which must reach the broker at once.

A message on ``bench/start`` makes it publish ``BENCH_COUNT`` messages ``<CLOCK_MONOTONIC ns, 20 digits> <number>``
to ``bench/wakeup``, 0 to 2 ms apart, and then ``bench/done``. While it runs, further starts have no effect.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

from .common import QOS, start_django

start_django()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from mqttasgi.consumers import MqttConsumer  # noqa: E402

COUNT = int(os.environ.get("BENCH_COUNT", "100000"))
LONGEST_PAUSE = 0.002  # seconds


class WakeupConsumer(MqttConsumer):
    """Publishes from a task, so that the consumer itself is idle."""

    publishing: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        await self.subscribe("bench/start", QOS)

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        if self.publishing is None or self.publishing.done():
            self.publishing = asyncio.ensure_future(self.publish_all())

    async def publish_all(self) -> None:
        """One run."""
        pauses = random.Random(1)
        for number in range(COUNT):
            await asyncio.sleep(pauses.uniform(0, LONGEST_PAUSE))
            await self.publish("bench/wakeup", b"%020d %d" % (time.monotonic_ns(), number), qos=QOS)
        await self.publish("bench/done", b"", qos=1)

    async def disconnect(self) -> None:
        if self.publishing is not None:
            self.publishing.cancel()


application = ProtocolTypeRouter({"mqtt": WakeupConsumer.as_asgi()})
