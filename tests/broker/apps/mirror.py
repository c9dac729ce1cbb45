"""A consumer that keeps what it received until it is asked, and remembers its subscriptions over a restart.

Driven like `apps.remote`: `do/0/<method>` with JSON arguments, answered on `did`. TEST_FILTERS names the file with the
subscriptions, each made again at start.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Mirror(MqttConsumer):
    channel_layer_alias = "none"
    is_broken = False
    """Until the broker's process ends, so that it fails again before it has handled anything."""

    async def connect(self) -> None:
        self.file = Path(os.environ["TEST_FILTERS"])
        self.filters: dict[str, int] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.received: list[list[Any]] = []
        for topic, qos in self.filters.items():
            await super().subscribe(topic, qos)
        await super().subscribe("do/0/+", 2)
        if Mirror.is_broken:
            raise RuntimeError("as told")

    async def receive(self, mqtt_message: Any) -> None:
        topic = mqtt_message["topic"]
        if topic.startswith("do/0/"):
            method = topic.rpartition("/")[2]
            arguments = json.loads(mqtt_message["payload"])
            number = arguments.pop("number")
            result = await getattr(self, f"do_{method}")(**arguments)
            await self.publish("did", json.dumps({"number": number, "result": result}), qos=1)
            return
        payload = base64.b64encode(mqtt_message["payload"]).decode()
        self.received.append([topic, payload, mqtt_message["qos"], mqtt_message["retain"]])

    async def do_subscribe(self, topic: str, qos: int) -> None:
        self.filters[topic] = qos
        self.file.write_text(json.dumps(self.filters))
        await super().subscribe(topic, qos)

    async def do_unsubscribe(self, topic: str) -> None:
        self.filters.pop(topic, None)
        self.file.write_text(json.dumps(self.filters))
        await super().unsubscribe(topic)

    async def do_ping(self) -> None:
        """Nothing."""

    async def do_report(self) -> list[list[Any]]:
        received, self.received = self.received, []
        return received

    async def do_fail(self) -> None:
        Mirror.is_broken = True
        raise RuntimeError("as told")


application = Mirror.as_asgi()
