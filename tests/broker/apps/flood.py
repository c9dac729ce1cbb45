"""Publishes as many messages as it is told to, as fast as it may."""

from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Flood(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("go", 1)

    async def receive(self, mqtt_message: Any) -> None:
        for number in range(int(mqtt_message["payload"])):
            await self.publish("flood", str(number), qos=0)


application = Flood.as_asgi()
