"""Consumers that answer. Import after ``common.start_django``."""

from __future__ import annotations

from typing import Any

from mqttasgi.consumers import MqttConsumer

from .common import IN, OUT, QOS


class EchoConsumer(MqttConsumer):
    """Publishes to ``bench/out`` what it hears on ``bench/in``."""

    topic = IN

    async def connect(self) -> None:
        await self.subscribe(self.topic, QOS)

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        await self.publish(OUT, mqtt_message["payload"], qos=QOS)

    async def disconnect(self) -> None:
        await self.unsubscribe(self.topic)


class GroupConsumer(EchoConsumer):
    """The same as a member of a group."""

    group = "bench.group"

    async def connect(self) -> None:
        await self.channel_layer.group_add(self.group, self.channel_name)
        await super().connect()

    async def disconnect(self) -> None:
        await super().disconnect()
        await self.channel_layer.group_discard(self.group, self.channel_name)
