"""Logs each number that is published."""

import logging
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Numbers(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("number", 1)

    async def receive(self, mqtt_message: Any) -> None:
        logging.getLogger("numbers").warning("%s", mqtt_message["payload"].decode())


application = Numbers.as_asgi()
