"""Logs each line of the broker's log that is published, in the way that its environment says."""

import asyncio
import logging
import os
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

logger = logging.getLogger("apps")


class Reader(MqttConsumer):
    async def connect(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.writer = asyncio.ensure_future(self.write())
        await self.subscribe("$SYS/broker/log/#", 0)
        await self.subscribe("in/#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"] == "in/echo":
            await self.publish("out", mqtt_message["payload"])
        elif os.environ["TEST_HOW"] == "at once":
            logger.warning("saw %s", mqtt_message["payload"].decode())
        else:
            self.queue.put_nowait(mqtt_message["payload"].decode())

    async def write(self) -> None:
        """Where the consumer is not known to handle a line of the log any more."""
        while True:
            logger.warning("saw %s", await self.queue.get())


application = Reader.as_asgi()
