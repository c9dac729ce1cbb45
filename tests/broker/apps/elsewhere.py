"""Says which number has come, and who has handled it; TEST_GO names a file that each waits for.

On number/crash its process crashes, unless the file named by TEST_MENDED is there; on number/block it blocks.
"""

import asyncio
import ctypes
import logging
import os
import time
from pathlib import Path
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

log = logging.getLogger("elsewhere")


class Counting(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("number/+", 1)
        log.warning("connected as %s of %s", self.scope["process"], self.scope["processes"])

    async def receive(self, mqtt_message: Any) -> None:
        number = mqtt_message["payload"].decode()
        log.warning("begins %s", number)
        while "TEST_GO" in os.environ and not Path(os.environ["TEST_GO"]).exists():
            await asyncio.sleep(0.01)
        if mqtt_message["topic"] == "number/crash" and not Path(os.environ["TEST_MENDED"]).exists():
            ctypes.string_at(0)
        if mqtt_message["topic"] == "number/block":
            time.sleep(3600)
        await self.publish("handled", number, qos=1)
        log.warning("handled %s", number)

    async def disconnect(self) -> None:
        log.warning("disconnecting")


application = Counting.as_asgi()
