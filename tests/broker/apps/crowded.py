"""A master that answers at once, and a worker that handles nothing until it is told to by a file.

With TEST_BLOCKS set the worker blocks the event loop meanwhile.
"""

import asyncio
import os
import time
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Quick(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.spawn_worker(1, "apps.crowded.Slow")
        await self.subscribe("both/#", 2)
        await self.subscribe("quick/#", 2)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("by/quick", mqtt_message["payload"], qos=1)


class Slow(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("both/#", 2)
        await self.subscribe("slow/#", 2)
        await self.publish("ready", b"1", qos=1, retain=True)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("taken", b"", qos=1)
        while not os.path.exists(os.environ["TEST_GO"]):
            if "TEST_BLOCKS" in os.environ:
                time.sleep(0.01)
            else:
                await asyncio.sleep(0.01)
        await self.publish("by/slow", mqtt_message["payload"], qos=1)


application = Quick.as_asgi()
