"""Answers `in/<rest>` on `out/<rest>`, and says hello and goodbye."""

import os
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Echo(MqttConsumer):
    async def connect(self) -> None:
        for topic_filter in os.environ.get("TEST_FILTERS", "in/#").split():
            await self.subscribe(topic_filter, int(os.environ.get("TEST_QOS", "2")))

    async def receive(self, mqtt_message: Any) -> None:
        topic = mqtt_message["topic"].partition("/")[2]
        await self.publish(f"out/{topic}", mqtt_message["payload"], qos=mqtt_message["qos"])


application = Echo.as_asgi()
