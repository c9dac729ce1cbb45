"""Energy monitoring: every reading is stored, a high one alerts once on `home/alerts/energy`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from mqttasgi.consumers import MqttConsumer

from home import topics
from home.models import EnergyReading
from home.payloads import number

logger = logging.getLogger(__name__)


class EnergyMonitorConsumer(MqttConsumer):
    """Alerts above `alert_watts`; not again before a reading below `calm_watts`.

    Without the gap between the two, a kettle that hovers around the threshold would send an alert
    with every second reading.
    """

    alarmed = False

    async def connect(self) -> None:
        self.alert_watts = self.scope.get("alert_watts", 3000.0)
        self.calm_watts = self.scope.get("calm_watts", 2700.0)
        await self.subscribe(topics.CONSUMPTION, qos=1)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        if mqtt_message.get("retain"):
            return
        watts = number(mqtt_message["payload"])
        if watts is None:
            logger.warning("energy: %.80r is not a number of watts", mqtt_message["payload"])
            return
        await database_sync_to_async(EnergyReading.objects.create)(watts=watts)
        if watts > self.alert_watts and not self.alarmed:
            self.alarmed = True
            await self.publish(topics.ENERGY_ALERT, b"high_consumption", qos=2)
        elif watts < self.calm_watts:
            self.alarmed = False

    async def disconnect(self) -> None:
        await self.unsubscribe(topics.CONSUMPTION)
