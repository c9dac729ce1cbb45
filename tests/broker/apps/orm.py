"""Uses the ORM each way that an async consumer can; `ProtocolTypeRouter` in front."""

import asyncio
from typing import Any

import apps.setup  # noqa: F401

from channels.db import database_sync_to_async
from channels.routing import ProtocolTypeRouter
from django.contrib.auth.models import Group
from django.db import connection
from mqttasgi.consumers import MqttConsumer


def finds_a_broken_connection() -> bool:
    """Says whether this thread has one, and breaks the one it has."""
    is_broken = connection.connection is not None and connection.errors_occurred
    connection.ensure_connection()
    connection.errors_occurred = True
    connection.is_usable = lambda: False
    return is_broken


class Rows(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("group/+", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"] == "group/threads":
            # More than there are threads, so each must be used several times.
            found = [await asyncio.to_thread(finds_a_broken_connection) for _ in range(100)]
            await self.publish("broken", str(sum(found)))
            return
        if mqtt_message["topic"] == "group/direct":
            Group.objects.count()
        name = mqtt_message["payload"].decode()
        if mqtt_message["topic"] == "group/async":
            await Group.objects.acreate(name=name)
        elif mqtt_message["topic"] == "group/wrapped":
            await database_sync_to_async(Group.objects.create)(name=name)
        names = [group.name async for group in Group.objects.order_by("name")]
        await self.publish("groups", ",".join(names))


application = ProtocolTypeRouter({"mqtt": Rows.as_asgi()})
