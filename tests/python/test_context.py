"""Context variables, which Django's activate() and many libraries use: each consumer begins with its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Optional

import pytest
from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from channels.layers import get_channel_layer
from django.utils import translation
from fake_bridge import FakeBridge
from running import Start, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import workers

tenant: ContextVar[str] = ContextVar("tenant", default="nobody's")
local = Local()


class Sees(MqttConsumer):
    """Writes down what it finds in its context, and then puts its own name there."""

    channel_layer_alias = "none"
    seen: list[tuple[Any, str, Any]] = []  # noqa: RUF012

    async def connect(self) -> None:
        self.see()
        await self.subscribe("in/#", 1)
        name = str(self.scope["app_id"])
        tenant.set(name)
        local.tenant = name
        translation.activate("de")
        await sync_to_async(tenant.set)(name + "'s thread")
        if self.scope["instance_type"] == "master":
            await self.spawn_worker(7, f"{__name__}.Sees")

    def see(self) -> None:
        self.seen.append((self.scope["app_id"], tenant.get(), getattr(local, "tenant", None)))
        assert translation.get_language() == "en-us"

    async def receive(self, mqtt_message: Any) -> None:
        raise LookupError("there is no lamp")


@pytest.fixture(autouse=True)
def forgets() -> Iterator[None]:
    Sees.seen = []
    language = translation.get_language()
    yield
    translation.activate(language)


async def test_nothing_of_whoever_spawns_or_failed_before(bridge: FakeBridge, start: Start) -> None:
    await start(Sees.as_asgi())
    await until(lambda: len(Sees.seen) == 2)
    for handle in (1, 2):
        bridge.deliver("in/x", handle=handle)
        await until(lambda: len(Sees.seen) == 3)
        assert Sees.seen.pop() == ({1: 0, 2: 7}[handle], "nobody's", None)
    assert Sees.seen == [(0, "nobody's", None), (7, "nobody's", None)]


async def test_what_was_set_before_the_start_is_everybodys(bridge: FakeBridge, start: Start) -> None:
    """While the application was imported, say: also after a restart."""
    token = tenant.set("the project's")
    try:
        await start(Sees.as_asgi())
        await until(lambda: len(Sees.seen) == 2)
    finally:
        tenant.reset(token)
    bridge.deliver("in/x")
    bridge.deliver("in/x", handle=2)
    await until(lambda: len(Sees.seen) == 4)
    assert {seen for _, seen, _ in Sees.seen} == {"the project's"}


async def test_what_a_workers_module_sets_is_not_its_masters(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = workers.load_application

    def imports(path: str) -> Any:
        tenant.set("the module's")
        return load(path)

    masters: list[str] = []

    class Master(Sees):
        async def connect(self) -> None:
            await self.spawn_worker(7, f"{__name__}.Sees")
            masters.append(tenant.get())

    monkeypatch.setattr(workers, "load_application", imports)
    await start(Master.as_asgi())
    await until(lambda: len(Sees.seen) == 1)
    assert masters == ["nobody's"]
    assert Sees.seen[0][:2] == (7, "the module's")


class Worker(MqttConsumer):
    channel_layer_alias = "none"
    threads: list[int] = []  # noqa: RUF012

    async def receive(self, mqtt_message: Any) -> None:
        self.threads.append(await sync_to_async(threading.get_ident)())


async def test_a_workers_threads_are_not_its_masters(bridge: FakeBridge, start: Start) -> None:
    """The master may have one of its own for a while, which is nothing to do with its workers' calls."""

    class Master(MqttConsumer):
        channel_layer_alias = "none"

        async def connect(self) -> None:
            async with ThreadSensitiveContext():
                await sync_to_async(str)()
                await self.spawn_worker(7, f"{__name__}.Worker")

    Worker.threads = []
    await start(Master.as_asgi())
    bridge.deliver("in/x", handle=2)
    await until(lambda: bool(Worker.threads))
    assert Worker.threads == [await sync_to_async(threading.get_ident)()]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task cannot be given a context before Python 3.11")
@pytest.mark.parametrize("layer", ["default", "none"])
async def test_all_methods_of_a_consumer_share_theirs(bridge: FakeBridge, start: Start, layer: str) -> None:
    """As under Channels, whose consumers have one task."""
    seen: list[str] = []

    class Shares(MqttConsumer):
        channel_layer_alias = layer

        async def connect(self) -> None:
            tenant.set("connect's")
            if self.channel_layer is not None:
                await self.channel_layer.group_add("lights", self.channel_name)

        async def lights_event(self, event: Any) -> None:
            seen.append(tenant.get())
            tenant.set("the layer's")

        async def receive(self, mqtt_message: Any) -> None:
            seen.append(tenant.get())
            tenant.set("receive's")
            raise LookupError("there is no lamp")

        async def disconnect(self) -> None:
            seen.append(tenant.get())

    await start(Shares.as_asgi())
    expected = ["connect's", "receive's"]
    if layer == "default":
        await get_channel_layer().group_send("lights", {"type": "lights.event"})
        await until(lambda: len(seen) == 1)
        expected[1:1] = ["the layer's"]
    bridge.deliver("in/x")
    await until(lambda: len(seen) == len(expected))
    assert seen == expected


async def test_a_task_of_its_own_has_the_consumers(start: Start) -> None:
    tasks: list[asyncio.Task[Optional[str]]] = []

    class Starts(MqttConsumer):
        channel_layer_alias = "none"

        async def connect(self) -> None:
            tenant.set("its own")

            async def look() -> Optional[str]:
                return tenant.get()

            tasks.append(asyncio.ensure_future(look()))

    await start(Starts.as_asgi())
    assert await tasks[0] == "its own"
