"""Consumers that keep what they hear until a test asks for it, driven by `support.consumers`.

Each command on `do/<app_id>/<method>` is answered on `did`, and carried out once: one with QoS 1 comes again when the
session's connection breaks before the broker has read its acknowledgement. At `fail` the consumer fails, at `break` its
next two starts do as well. TEST_SUBSCRIPTIONS names a JSON file with filters and their QoS, to which the master
subscribes in its connect().
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Listener(MqttConsumer):
    #: app_id -> how often its connect() is to fail.
    refusals: ClassVar[dict[Any, int]] = {}

    async def connect(self) -> None:
        self.app_id = self.scope["app_id"]
        self.messages: list[tuple[str, str, int, bool]] = []
        self.begun: set[int] = set()
        file = os.environ.get("TEST_SUBSCRIPTIONS")
        if file and self.app_id == 0:
            for topic, qos in json.loads(Path(file).read_text()).items():
                await self.subscribe(topic, qos)
        await self.subscribe(f"do/{self.app_id}/+", 2)
        if self.refusals.get(self.app_id):
            self.refusals[self.app_id] -= 1
            raise RuntimeError("as told")
        await self.publish("ready", str(self.app_id), qos=1)

    async def receive(self, mqtt_message: Any) -> None:
        topic, payload = mqtt_message["topic"], mqtt_message["payload"]
        if topic.startswith(f"do/{self.app_id}/"):
            await self.do(topic.rpartition("/")[2], self.decode(payload.decode()))
        else:
            self.messages.append(
                (topic, payload.decode(errors="replace"), mqtt_message["qos"], mqtt_message["retain"])
            )

    async def do(self, method: str, command: dict[str, Any]) -> None:
        if method == "break":
            self.refusals[self.app_id] = 2
        if method in ("fail", "break"):
            raise RuntimeError("as told")
        if command["number"] in self.begun:
            return
        self.begun.add(command["number"])
        answer = {"app_id": self.app_id, "number": command["number"]}
        try:
            answer["result"] = await getattr(self, method)(**command["arguments"])
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        await self.publish("did", self.encode(answer), qos=1)

    @staticmethod
    def decode(command: str) -> Any:
        return json.loads(command)

    @staticmethod
    def encode(answer: Any) -> str:
        return json.dumps(answer)

    async def nothing(self) -> None:
        """To be behind something else."""

    async def block(self, seconds: float) -> None:
        """Keep the event loop."""
        time.sleep(seconds)

    async def report(self) -> list[tuple[str, str, int, bool]]:
        """What has been heard since the last report."""
        messages, self.messages = self.messages, []
        return messages

    async def publish_often(self, topic: str, payload: str, qos: int, times: int) -> None:
        for _ in range(times):
            await self.publish(topic, payload, qos)


application = Listener.as_asgi()
