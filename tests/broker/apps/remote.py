"""A consumer that a test drives by messages: each on `do/<method>` has JSON arguments.

What receive() gets otherwise is published on `got`, as JSON; the result or error of each call on `did`.
"""

import json
from typing import Any
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Remote(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(f"do/{self.scope['app_id']}/+", 2)
        await self.publish("ready", str(self.scope["app_id"]), qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        topic = mqtt_message["topic"]
        if topic.startswith(f"do/{self.scope['app_id']}/"):
            await self.do(topic.rpartition("/")[2], json.loads(mqtt_message["payload"]))
        else:
            payload = mqtt_message["payload"].decode(errors="replace")
            await self.say("got", {**mqtt_message, "payload": payload})

    async def do(self, method: str, arguments: dict[str, Any]) -> None:
        try:
            result = await getattr(self, method)(**arguments)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        await self.say("did", {"method": method, "result": result})

    async def say(self, topic: str, what: dict[str, Any]) -> None:
        await self.publish(topic, json.dumps({"app_id": self.scope["app_id"], **what}), qos=1)

    async def raise_it(self) -> None:
        self.scope["never"]

    async def explode(self) -> None:
        raise SystemExit(3)

    async def disconnect(self) -> None:
        await self.publish("gone", str(self.scope["app_id"]), qos=1)


class Fragile(Remote):
    """Lets errors through."""

    async def do(self, method: str, arguments: dict[str, Any]) -> None:
        await getattr(self, method)(**arguments)


application = Remote.as_asgi()
