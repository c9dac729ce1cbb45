"""Subscribes to a filter that takes more than a small packet, at the start and when it is told to."""

from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

LONG = "long/" + "y" * 400


class LongFilter(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(LONG, 1)
        await self.subscribe("kept/+", 1)
        await self.subscribe("again", 0)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"] == "again":
            await self.subscribe(LONG, 1)
        await self.publish("heard", mqtt_message["topic"], qos=1)


application = LongFilter.as_asgi()
