"""What happens with messages, in as many processes as there are."""

from __future__ import annotations

import json
from typing import Any

from channels.db import database_sync_to_async
from mqttasgi.consumers import MqttConsumer

from fleet.models import Position


class Vehicles(MqttConsumer):
    """Keeps `vehicles/NAME/position`, and warns on `vehicles/NAME/warning` who is too fast."""

    limit = 50.0

    async def connect(self) -> None:
        # Retained, and every process has to know it.
        await self.subscribe("fleet/limit", qos=1, shared=False)
        # One of the processes gets each of these.
        await self.subscribe("vehicles/+/position", qos=1)
        await self.channel_layer.group_add("fleet", self.channel_name)

    async def receive(self, mqtt_message: dict[str, Any]) -> None:
        if mqtt_message["topic"] == "fleet/limit":
            self.limit = float(mqtt_message["payload"])
            return
        vehicle = mqtt_message["topic"].split("/")[1]
        position = json.loads(mqtt_message["payload"])
        await self.keep(vehicle, position["number"], position["speed"])
        if position["speed"] > self.limit:
            await self.publish(f"vehicles/{vehicle}/warning", f"{self.limit:g} km/h", qos=1)

    async def fleet_report(self, event: dict[str, Any]) -> None:
        """Publish what `manage.py ask_for_report` asks all processes for, in one of them."""
        if self.scope["is_leader"]:
            await self.publish("fleet/report", await self.report(), qos=1)

    @database_sync_to_async
    def keep(self, vehicle: str, number: int, speed: float) -> None:
        # The same message may come twice: the second time there is nothing to add.
        Position.objects.get_or_create(vehicle=vehicle, number=number, defaults={"speed": speed})

    @database_sync_to_async
    def report(self) -> str:
        vehicles = Position.objects.values("vehicle").distinct().count()
        return f"{Position.objects.count()} positions of {vehicles} vehicles"
