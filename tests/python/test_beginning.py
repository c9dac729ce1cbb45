"""When clients are let in and the session fetches what the broker kept; and when it is suspended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.exceptions import StopConsumer
from fake_bridge import FakeBridge
from running import Echo, Master, Start, Worker, master_of, settle, until

from mqttasgi.consumers import MqttConsumer


class Connecting(MqttConsumer):
    """Its connect() goes on when a test says so."""

    channel_layer_alias = "none"
    may: dict[Any, asyncio.Future[str]]

    async def connect(self) -> None:
        how = await self.may.setdefault(self.scope["app_id"], asyncio.get_running_loop().create_future())
        if how == "raises":
            raise RuntimeError("as told")
        if how == "ends":
            raise StopConsumer


class SpawnsTwo(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        for app_id in (1, 2):
            await self.spawn_worker(app_id, f"{__name__}.Connecting", {})


@pytest.fixture
def may(monkeypatch: pytest.MonkeyPatch) -> dict[Any, asyncio.Future[str]]:
    may: dict[Any, asyncio.Future[str]] = {}
    monkeypatch.setattr(Connecting, "may", may, raising=False)
    return may


async def test_a_master_alone_is_settled_once_it_has_connected(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    assert (bridge.has_started, bridge.settled_calls) == (True, 1)
    assert bridge.summary.startswith("1 consumer, 1 filter. mqttasgi ")
    bridge.deliver("in/x", b"1")
    await until(lambda: bool(bridge.published))
    assert bridge.settled_calls == 1


@pytest.mark.parametrize("last", ["returns", "raises", "ends", "killed"])
async def test_settled_when_every_worker_has_connected_or_ended(
    bridge: FakeBridge, start: Start, may: dict[Any, asyncio.Future[str]], last: str
) -> None:
    service = await start(SpawnsTwo.as_asgi())
    await until(lambda: len(may) == 2)
    assert bridge.has_started
    may[2].set_result("returns")
    await settle()
    assert bridge.settled_calls == 0
    if last == "killed":
        service.workers.kill(master_of(service), 1)
        await settle()
        assert bridge.settled_calls == 0
    may[1].set_result("returns" if last == "killed" else last)
    await until(lambda: bridge.settled_calls == 1)
    # A worker of later days changes nothing.
    service.workers.spawn(master_of(service), 3, f"{__name__}.Connecting", {})
    await until(lambda: 3 in may)
    may[3].set_result("returns")
    await settle()
    assert bridge.settled_calls == 1
    assert bridge.suspend_calls == 0


async def test_not_settled_before_the_master_has_connected(bridge: FakeBridge, start: Start) -> None:
    bridge.answer_at_once = False

    class Slow(MqttConsumer):
        channel_layer_alias = "none"

        async def connect(self) -> None:
            await self.spawn_worker(1, f"{__name__}.Spawned", {})
            await self.subscribe("a", 0)

    starting = asyncio.ensure_future(start(Slow.as_asgi()))
    await until(lambda: bool(bridge.unanswered))
    await settle()
    assert (bridge.has_started, bridge.settled_calls) == (False, 0)
    bridge.control("answer", bridge.unanswered[0])
    await starting
    assert bridge.settled_calls == 1


class Spawned(MqttConsumer):
    channel_layer_alias = "none"


class Fails(MqttConsumer):
    channel_layer_alias = "none"

    can_connect = True

    async def connect(self) -> None:
        await self.subscribe("a", 1)
        if not self.can_connect:
            raise RuntimeError("cannot start")

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"end":
            raise StopConsumer
        raise RuntimeError("as told")

    async def disconnect(self) -> None:
        raise RuntimeError("also at the end")


async def test_suspended_when_the_master_fails_before_its_subscriptions_end(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(Fails.as_asgi(), retries=1)
    monkeypatch.setattr(Fails, "can_connect", False)
    bridge.deliver("a", b"fail")
    await until(lambda: not bridge.subscriptions)
    assert bridge.suspend_calls == 1
    assert bridge.subscriptions_at_suspend == {(1, "a"): 1}


@pytest.mark.parametrize("how", ["returns", "fails at stop"])
async def test_not_suspended_when_the_master_ends_otherwise(
    bridge: FakeBridge, start: Start, how: str
) -> None:
    service = await start(Fails.as_asgi())
    if how == "returns":
        bridge.deliver("a", b"end")
        await until(lambda: not service.roster.by_handle)
    else:
        bridge.control("stop")
        await until(lambda: service.stopped)
        await until(lambda: "also at the end" in bridge.text())
    assert bridge.suspend_calls == 0


async def test_neither_when_the_master_fails_before_it_connected(bridge: FakeBridge, start: Start) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no lamp")

    service = await start(application)
    assert service.stopped
    assert (bridge.settled_calls, bridge.suspend_calls) == (0, 0)


async def test_a_worker_that_fails_suspends_nothing(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    monkeypatch.setattr(Worker, "broken", (1,))
    bridge.deliver("device/1", b"raise", handle=2)
    await until(lambda: 1 not in service.roster.by_app_id)
    assert bridge.suspend_calls == 0
