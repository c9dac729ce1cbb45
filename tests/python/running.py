"""What the tests of the runtime share beside fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

from fake_bridge import FakeBridge

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime.service import Service

#: Everybody's handle in "hold" and "release".
ALL = 0
#: Starts a service with an application and waits until its connect() has returned.
Start = Callable[..., Awaitable[Service]]


def master_of(service: Service) -> Any:
    """Return the master's run, which may spawn and kill."""
    return service.roster.by_app_id[0].run


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Lets the loop run until the condition holds."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(poll(), timeout)


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(30):
        await asyncio.sleep(0)


class LoopThatStays:
    """The test's loop, which the runtime must not stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def stop(self) -> None:
        pass


# ---- consumers ----


class Echo(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("out", mqtt_message["payload"], qos=mqtt_message["qos"])

    async def disconnect(self) -> None:
        await self.publish("gone", "bye", qos=0)


class Worker(MqttConsumer):
    #: Whose connect() fails.
    broken: tuple[int, ...] = ()

    async def connect(self) -> None:
        if self.scope["app_id"] in self.broken:
            raise RuntimeError("cannot start")
        await self.subscribe(f"device/{self.scope['device_id']}", 1)
        await self.publish("hello", f"{self.scope['app_id']} {self.scope['instance_type']}")

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"spawn":
            await self.spawn_worker(99, f"{__name__}.Worker", {})
        elif mqtt_message["payload"] == b"raise":
            raise RuntimeError("as told")
        await self.publish("worked", mqtt_message["payload"])

    async def disconnect(self) -> None:
        await self.publish("bye", str(self.scope["app_id"]))


class Master(MqttConsumer):
    async def connect(self) -> None:
        for app_id in (1, 2):
            path = f"{__name__}{':' if app_id == 1 else '.'}Worker"
            await self.spawn_worker(app_id=app_id, consumer_path=path, consumer_params={"device_id": app_id})

    async def receive(self, mqtt_message: Any) -> None: ...


async def consumer_that_has_ended(bridge: FakeBridge, start: Start) -> Echo:
    """Start a consumer and stop the service; return the consumer, of which a task could still make use."""
    made: list[Echo] = []

    class Leaves(Echo):
        async def mqtt_disconnect(self, event: Any) -> None:
            made.append(self)
            await super().mqtt_disconnect(event)

    service = await start(Leaves.as_asgi())
    bridge.control("stop")
    await until(lambda: service.stopped)
    return made[0]
