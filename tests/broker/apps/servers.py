"""Consumers that need PostgreSQL, that need Redis, and that need neither. The master only spawns them.

| app_id | hears | and                                                                                   |
|--------|-------|---------------------------------------------------------------------------------------|
| 1      | `row` | writes a row of that name, once however often it comes, then publishes it to `written` |
| 2      | `say` | sends it to the group `house`                                                          |
| 3      |       | publishes what comes to that group to `heard`                                          |
| 4      | `ping`| publishes it to `pong`                                                                 |

WebSockets at /house/ get what comes to the group, too.
"""

from typing import Any

import apps.setup  # noqa: F401
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.auth.models import Group
from django.core.asgi import get_asgi_application
from django.urls import path
from mqttasgi.consumers import MqttConsumer


class Rows(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("row", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        await Group.objects.aget_or_create(name=mqtt_message["payload"].decode())
        await self.publish("written", mqtt_message["payload"], qos=1)


class Says(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("say", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        text = mqtt_message["payload"].decode()
        await self.channel_layer.group_send("house", {"type": "house.said", "text": text})


class Hears(MqttConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("house", self.channel_name)

    async def house_said(self, event: Any) -> None:
        await self.publish("heard", event["text"], qos=1)


class Pings(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("ping", qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("pong", mqtt_message["payload"], qos=1)


class Master(MqttConsumer):
    async def connect(self) -> None:
        for app_id, consumer in enumerate((Rows, Says, Hears, Pings), 1):
            await self.spawn_worker(app_id, f"apps.servers.{consumer.__name__}")


class House(AsyncWebsocketConsumer):
    groups = ("house",)

    async def house_said(self, event: Any) -> None:
        await self.send(event["text"])


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("house/", House.as_asgi())]),
        "mqtt": Master.as_asgi(),
    }
)
