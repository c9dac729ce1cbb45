"""The one consumer the broker starts. It hears no messages itself, it spawns those that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from mqttasgi.consumers import MqttConsumer

from home.topics import room_names

FIRST_ROOM = 100  # app_id of the first room; the ideas come before


class MasterConsumer(MqttConsumer):
    # A consumer that outlives a lost connection gets `connect` again: the workers are still there.
    spawned = False

    async def connect(self) -> None:
        if self.spawned:
            return
        self.spawned = True
        await self.spawn_worker(
            app_id=1,
            consumer_path="home.consumers.lights.LightAutomationConsumer",
            consumer_params={},
        )
        await self.spawn_worker(
            app_id=2,
            consumer_path="home.consumers.ai.AIAutomationConsumer",
            consumer_params={},
        )
        await self.spawn_worker(
            app_id=3,
            consumer_path="home.consumers.energy.EnergyMonitorConsumer",
            consumer_params={
                "alert_watts": settings.HUB_ENERGY_ALERT_WATTS,
                "calm_watts": settings.HUB_ENERGY_CALM_WATTS,
            },
        )
        await self.spawn_worker(
            app_id=4,
            consumer_path="home.consumers.irrigation.IrrigationConsumer",
            consumer_params={"dry_percent": settings.HUB_IRRIGATION_DRY_PERCENT},
        )
        await self.spawn_worker(
            app_id=5,
            consumer_path="home.consumers.availability.AvailabilityConsumer",
            consumer_params={},
        )
        await self.spawn_worker(
            app_id=6,
            consumer_path="home.consumers.commands.CommandsConsumer",
            consumer_params={},
        )
        for app_id, room in enumerate(room_names(), start=FIRST_ROOM):
            await self.spawn_worker(
                app_id=app_id,
                consumer_path="home.consumers.rooms.RoomConsumer",
                consumer_params={"room": room},
            )

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        pass

    async def disconnect(self) -> None:
        pass
