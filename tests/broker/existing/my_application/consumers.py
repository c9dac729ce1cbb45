import json
import logging

from channels.db import database_sync_to_async
from django.conf import settings
from mqttasgi.consumers import MqttConsumer

from my_application.models import MotionEvent

logger = logging.getLogger(__name__)


class HouseConsumer(MqttConsumer):
    """One worker per room; what concerns the whole house is done here."""

    async def connect(self):
        await self.subscribe("house/all/set", qos=2)
        await self.subscribe("house/count", qos=1)
        for number, room in enumerate(settings.HOUSE_ROOMS, start=1):
            await self.spawn_worker(
                app_id=number,
                consumer_path="my_application.consumers:RoomConsumer",
                consumer_params={"room": room},
            )
        await self.publish("house/status", b"online", qos=1, retain=True)

    async def receive(self, mqtt_message):
        if mqtt_message["topic"] == "house/all/set":
            await self.channel_layer.group_send(
                "rooms", {"type": "lights.set", "text": mqtt_message["payload"].decode()}
            )
        else:
            answer = {"count": await self.count(), "qos": mqtt_message["qos"]}
            await self.publish("house/counted", json.dumps(answer), qos=1)

    async def disconnect(self):
        await self.unsubscribe("house/all/set")

    @database_sync_to_async
    def count(self):
        return MotionEvent.objects.count()


class RoomConsumer(MqttConsumer):
    async def connect(self):
        self.room = self.scope["room"]
        await self.subscribe(f"house/{self.room}/motion", qos=1)
        await self.channel_layer.group_add("rooms", self.channel_name)
        logger.info("worker %s is in the %s", self.scope["app_id"], self.room)

    async def receive(self, mqtt_message):
        await MotionEvent.objects.acreate(room=self.room)
        await self.publish(f"house/{self.room}/light/set", b"on", qos=1)

    async def lights_set(self, event):
        await self.publish(f"house/{self.room}/light/set", event["text"], qos=1)

    async def disconnect(self):
        await self.unsubscribe(f"house/{self.room}/motion")
