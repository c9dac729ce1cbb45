"""Commands: what each light and the valve was told last, for the page and the admin.

Whoever says it is heard: another consumer, somebody who clicks, a switch on the wall.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.utils import timezone
from mqttasgi.consumers import MqttConsumer

from home import topics
from home.models import Command
from home.payloads import text


class CommandsConsumer(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(topics.LIGHTS, qos=1)
        await self.subscribe(topics.VALVE, qos=1)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        topic, state = mqtt_message["topic"], text(mqtt_message["payload"])
        # Lights of rooms that are not in the settings would be rows without an end.
        if not mqtt_message.get("retain") and state in topics.switch_states(topic):
            await database_sync_to_async(remember)(topic, state)

    async def disconnect(self) -> None:
        await self.unsubscribe(topics.VALVE)
        await self.unsubscribe(topics.LIGHTS)


def remember(topic: str, state: str) -> None:
    """Store what was said.

    Nothing is read first: for a transaction that has read, and then wants to write while another
    one does, SQLite does not wait.
    """
    Command.objects.bulk_create([Command(topic=topic, state=state)], ignore_conflicts=True)
    Command.objects.filter(topic=topic).update(state=state, at=timezone.now())
