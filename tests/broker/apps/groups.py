"""Publishes what comes over the channel layer."""

from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Groups(MqttConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("lights", self.channel_name)
        await self.subscribe("ping", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("pong", mqtt_message["payload"])

    async def lights_all(self, event: Any) -> None:
        await self.publish("lights", event["text"])


application = Groups.as_asgi()
