"""Consumers that block the event loop when they are told to, each in another way."""

import asyncio
import ctypes
import time
from typing import Any

import apps.setup  # noqa: F401
from channels.layers import get_channel_layer
from mqttasgi.consumers import MqttConsumer

#: Seconds.
LONG = 1.0


class Blocking(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        if self.scope["app_id"] == 0:
            await self.spawn_worker(1, "apps.blocking.Blocking")
            await self.spawn_worker(2, "apps.blocking.Layered")
            await self.spawn_worker(3, "apps.blocking.plain")
        await self.subscribe(f"do/{self.scope['app_id']}/#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        getattr(self, mqtt_message["topic"].split("/")[2])()
        await self.publish("done", mqtt_message["payload"], qos=1)

    def sleep(self) -> None:
        time.sleep(LONG)

    def compute(self) -> None:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            time.monotonic()  # each line that can be seen names it

    def hold_the_lock(self) -> None:
        # Unlike CDLL, PyDLL keeps Python's global lock.
        ctypes.PyDLL(None).usleep(int(2.5e6))

    def in_a_task(self) -> None:
        async def poll() -> None:
            time.sleep(LONG)

        self.task = asyncio.ensure_future(poll())

    def nothing(self) -> None:
        pass

    def tell_the_group(self) -> None:
        layer = get_channel_layer("default")
        assert layer is not None
        self.task = asyncio.ensure_future(layer.group_send("blocking", {"type": "slow.event"}))


class Layered(Blocking):
    channel_layer_alias = "default"

    async def connect(self) -> None:
        await super().connect()
        await self.channel_layer.group_add("blocking", self.channel_name)

    async def slow_event(self, event: Any) -> None:
        time.sleep(LONG)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "mqtt.sub", "mqtt": {"topic": "do/3/#", "qos": 1}})
    while (event := await receive())["type"] == "mqtt.msg":
        time.sleep(LONG)
        await send(
            {"type": "mqtt.pub", "mqtt": {"topic": "done", "payload": event["mqtt"]["payload"], "qos": 1}}
        )


application = Blocking.as_asgi()
