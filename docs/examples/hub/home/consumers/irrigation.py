"""Garden irrigation: open the valve when the soil is dry and the schedule has this hour.

Nothing here closes the valve. Use one with a timer of its own (each `open` starts it anew), so that
no dead sensor, hub or network leaves the water running.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.utils import timezone
from mqttasgi.consumers import MqttConsumer

from home import topics
from home.models import IrrigationSchedule
from home.payloads import number

logger = logging.getLogger(__name__)


class IrrigationConsumer(MqttConsumer):
    async def connect(self) -> None:
        self.dry_percent = self.scope.get("dry_percent", 30.0)
        await self.subscribe(topics.MOISTURE, qos=1)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        if mqtt_message.get("retain"):
            return
        moisture = number(mqtt_message["payload"])
        # A sensor with a broken cable reports -1 or 1023: that is not a dry garden.
        if moisture is None or not 0 <= moisture <= 100:
            logger.warning("irrigation: %.80r is not a percentage", mqtt_message["payload"])
            return
        if moisture < self.dry_percent and await self.scheduled():
            await self.publish(topics.VALVE, b"open", qos=2)

    async def scheduled(self) -> bool:
        """Tell whether the garden may be watered in this hour of the hub's time zone."""
        schedules = IrrigationSchedule.objects.filter(
            active=True, start_hour=timezone.localtime().hour
        )
        return await database_sync_to_async(schedules.exists)()

    async def disconnect(self) -> None:
        await self.unsubscribe(topics.MOISTURE)
