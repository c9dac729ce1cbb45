"""Motion-triggered lights: `home/sensor/motion` says the room, the lights there go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from mqttasgi.consumers import MqttConsumer

from home import topics
from home.models import MotionEvent
from home.payloads import text

logger = logging.getLogger(__name__)


class LightAutomationConsumer(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(topics.MOTION, qos=1)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        if mqtt_message.get("retain"):
            return
        room = text(mqtt_message["payload"])
        # The room becomes part of a topic: `../#` or `lights` must not get there.
        if room is None or not topics.is_room_name(room):
            logger.warning("motion: %.80r is not a room", mqtt_message["payload"])
            return
        await database_sync_to_async(MotionEvent.objects.create)(room=room)
        await self.publish(f"home/lights/{room}/set", b"on", qos=1)

    async def disconnect(self) -> None:
        await self.unsubscribe(topics.MOTION)
