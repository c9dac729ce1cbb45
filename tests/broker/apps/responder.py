"""Answers what is published to `ask/<qos>` with the payload in upper case, and says on `trouble` what went wrong."""

from __future__ import annotations

from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Responder(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("ask/+", 2)

    async def receive(self, mqtt_message: Any) -> None:
        kind = mqtt_message["topic"].rpartition("/")[2]
        payload = mqtt_message["payload"].upper()
        try:
            if kind == "plain":
                await self.reply(mqtt_message, payload)
            elif kind == "kept":
                await self.reply(mqtt_message, payload, qos=2, retain=True)
            elif kind == "described":
                await self.reply(mqtt_message, payload, qos=0, properties={"content_type": "text/plain"})
            else:
                await self.reply(mqtt_message, payload, properties={"content_type": "\0"})
        except Exception as error:
            await self.publish("trouble", f"{type(error).__name__}: {error}", qos=1)


application = Responder.as_asgi()
