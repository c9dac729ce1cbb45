"""One worker per room: knows the room's last state, answers for it, makes announcements there."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from mqttasgi.consumers import MqttConsumer

from home.payloads import number, presence

logger = logging.getLogger(__name__)

GROUP = "rooms"  # channel-layer group of all room workers


class RoomConsumer(MqttConsumer):
    temperature: float | None = None
    presence: bool | None = None

    async def connect(self) -> None:
        self.room = self.scope["room"]
        await self.subscribe(f"home/{self.room}/#", qos=1)
        await self.channel_layer.group_add(GROUP, self.channel_name)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        # `home/<room>/#` brings our own `status` and `announce` back too. Only inputs are listed
        # here, so those, and whatever else lives under the room, are passed over.
        payload = mqtt_message["payload"]
        topic = mqtt_message["topic"].removeprefix(f"home/{self.room}/")
        if topic == "temperature":
            self.temperature = self.reading(topic, payload, number(payload), self.temperature)
        elif topic == "presence":
            self.presence = self.reading(topic, payload, presence(payload), self.presence)
        elif topic == "status/get" and not mqtt_message.get("retain"):
            await self.publish(f"home/{self.room}/status", self.status(), qos=1)

    def reading(self, name: str, payload: bytes, value: Any, last: Any) -> Any:
        """Return `value`; where the payload was none, log that and return the `last` good one."""
        if value is not None:
            return value
        logger.warning("%s: %.80r is not a %s", self.room, payload, name)
        return last

    def status(self) -> bytes:
        """Return the room as JSON. What no sensor has said yet is null."""
        return json.dumps(
            {"room": self.room, "temperature": self.temperature, "presence": self.presence}
        ).encode()

    async def room_announce(self, event: Mapping[str, Any]) -> None:
        """Take `{"type": "room.announce", "text": …}` from the channel layer to the room."""
        await self.publish(f"home/{self.room}/announce", event["text"].encode(), qos=1)

    async def disconnect(self) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)
        await self.unsubscribe(f"home/{self.room}/#")
