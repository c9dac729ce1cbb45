"""Handles nothing until it is told to by a file, so that messages wait."""

import asyncio
import os
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Slow(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("slow/#", 0)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("taken", mqtt_message["payload"], qos=1)
        while not os.path.exists(os.environ["TEST_GO"]):
            await asyncio.sleep(0.01)
        await self.publish("handled", mqtt_message["payload"], qos=1)


application = Slow.as_asgi()
