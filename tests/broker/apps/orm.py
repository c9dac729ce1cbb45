"""Uses the ORM each way that an async consumer can; `ProtocolTypeRouter` in front."""

from typing import Any

import apps.setup  # noqa: F401

from channels.db import database_sync_to_async
from channels.routing import ProtocolTypeRouter
from django.contrib.auth.models import Group
from mqttasgi.consumers import MqttConsumer


class Rows(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("group/+", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        name = mqtt_message["payload"].decode()
        if mqtt_message["topic"] == "group/async":
            await Group.objects.acreate(name=name)
        elif mqtt_message["topic"] == "group/wrapped":
            await database_sync_to_async(Group.objects.create)(name=name)
        names = [group.name async for group in Group.objects.order_by("name")]
        await self.publish("groups", ",".join(names))


application = ProtocolTypeRouter({"mqtt": Rows.as_asgi()})
