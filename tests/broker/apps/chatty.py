"""Says at every level what it is told, tells how often it was connected, and answers in order."""

import itertools
import logging
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

logger = logging.getLogger("apps")
connections = itertools.count(1)


class Chatty(MqttConsumer):
    async def connect(self) -> None:
        self.connection = next(connections)
        await self.subscribe("say/#", 1)
        await self.subscribe("do/#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"].startswith("say/"):
            word = mqtt_message["payload"].decode()
            logger.debug("%s D", word)
            logger.info("%s I", word)
            logger.warning("%s W", word)
        await self.publish("done", f"{self.connection} {mqtt_message['payload'].decode()}", qos=1)


application = Chatty.as_asgi()
