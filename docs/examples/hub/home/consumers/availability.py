"""Availability: which devices are there, and an alert on `home/alerts/offline` when one goes.

A device says `online` when it connects, and leaves `offline` with the broker as its last will; both
are retained. So the table is complete as soon as this consumer has subscribed, and a device that
loses its power is noticed all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from mqttasgi.consumers import MqttConsumer

from home import topics
from home.models import Device
from home.payloads import online

logger = logging.getLogger(__name__)


class AvailabilityConsumer(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(topics.AVAILABILITY, qos=1)

    async def receive(self, mqtt_message: Mapping[str, Any]) -> None:
        # Retained or live makes no difference here: what counts is that a state has changed, and
        # the table remembers the last one, over a restart too.
        name = topics.device_name(mqtt_message["topic"])
        payload = mqtt_message["payload"]
        state = online(payload)
        if name is None:
            logger.warning("availability: %.80r is not a device", mqtt_message["topic"])
        elif not payload:
            # This is how a retained message is deleted: the device has been given away.
            await database_sync_to_async(self.forget)(name)
        elif state is None:
            logger.warning("availability: %s: %.80r is neither on- nor offline", name, payload)
        elif await database_sync_to_async(self.remember)(name, state) and not state:
            await self.publish(topics.OFFLINE_ALERT, name.encode(), qos=1)

    def remember(self, name: str, state: bool) -> bool:
        """Store a state; return whether the device is known and had another one before."""
        device, new = Device.objects.get_or_create(name=name, defaults={"online": state})
        changed = not new and device.online != state
        if changed:
            device.online = state
            device.save()
        return changed

    def forget(self, name: str) -> None:
        Device.objects.filter(name=name).delete()

    async def disconnect(self) -> None:
        await self.unsubscribe(topics.AVAILABILITY)
