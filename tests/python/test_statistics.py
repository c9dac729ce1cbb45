"""What the runtime counts of its consumers, and how it takes the time of a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_bridge import FakeBridge, FakeClientMessage
from running import Start, master_of, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import restarts


class Fragile(MqttConsumer):
    channel_layer_alias = "none"
    says: list[str] = []  # noqa: RUF012
    #: Whose connect() fails.
    broken: Any = None

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)
        if self.scope["app_id"] == self.broken:
            raise RuntimeError("cannot start")

    async def receive(self, mqtt_message: Any) -> None:
        payload = mqtt_message["payload"].decode()
        self.says.append(payload)
        if payload == "raise":
            raise LookupError("there is no lamp")
        if payload == "wait":
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    Fragile.says = []
    monkeypatch.setattr(restarts, "RESTART_DELAY", 0)


def numbers(bridge: FakeBridge) -> tuple[int, ...]:
    return tuple(
        bridge.statistics[f"consumers/{name}"] for name in ("running", "restarting", "failed", "restarted")
    )


def feed(bridge: FakeBridge, *payloads: str, handle: int = 1) -> None:
    for payload in payloads:
        bridge.deliver("in/x", payload.encode(), handle=handle)


async def test_consumers_are_counted(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(Fragile.as_asgi(), retries=1)
    assert numbers(bridge) == (1, 0, 0, 0)
    for app_id in (7, 8):
        service.workers.spawn(master_of(service), app_id, f"{__name__}.Fragile")
    await settle()
    assert numbers(bridge) == (3, 0, 0, 0)
    feed(bridge, "raise", "alive", handle=2)
    await until(lambda: "alive" in Fragile.says)
    assert numbers(bridge) == (3, 0, 0, 1)
    monkeypatch.setattr(Fragile, "broken", 7)
    feed(bridge, "raise", handle=2)
    await until(lambda: "given up" in bridge.text())
    await settle()
    assert numbers(bridge) == (2, 0, 1, 3)
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise", handle=3)
    await until(lambda: bridge.statistics["consumers/restarting"] == 1)
    assert numbers(bridge) == (1, 1, 1, 3)
    service.workers.kill(master_of(service), 8)
    assert numbers(bridge) == (1, 0, 1, 3)


async def test_what_waited_for_one_that_is_given_up(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its queue, behind retained messages, in everybody's hold, and on its way."""
    service = await start(Fragile.as_asgi(), retries=1)
    monkeypatch.setattr(Fragile, "broken", 0)
    dropped = "messages/dropped/consumer_ended"
    feed(bridge, "raise", "2", "3")
    bridge.control("hold", 1, 0)
    feed(bridge, "4")
    bridge.deliver("in/r", b"5", retain=True)
    bridge.control("hold", 0, 7)
    feed(bridge, "6", "7")
    await until(lambda: "given up" in bridge.text())
    await settle()
    assert bridge.statistics[dropped] == 6
    feed(bridge, "8")
    await until(lambda: bridge.statistics[dropped] == 7)
    assert Fragile.says == ["raise"]
    assert not service.stopped


async def test_what_was_given_back_by_one_that_is_given_up(bridge: FakeBridge, start: Start) -> None:
    runs: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        runs.append(len(runs))
        if len(runs) == 1:
            receive.__self__.give_back(await receive())
        raise LookupError("there is no lamp")

    service = await start(application, retries=1)
    feed(bridge, "1")
    await until(lambda: "given up" in bridge.text())
    await settle()
    assert bridge.statistics["messages/dropped/consumer_ended"] == 1
    assert not service.stopped


async def test_times_are_taken_from_receive_to_receive(bridge: FakeBridge, start: Start) -> None:
    await start(Fragile.as_asgi())
    await settle()
    assert bridge.handled_since == []  # connect() is no message
    feed(bridge, "1", "2", "wait")
    await until(lambda: len(bridge.handled_since) == 3)
    # One look at the clock is the end of a message and the beginning of the next.
    first = bridge.handled_since[0]
    assert bridge.handled_since == [first, first + 1, first + 2]
    assert bridge.now == first + 3
    feed(bridge, "4")
    await until(lambda: len(bridge.handled_since) == 4)
    # The time without a message is nobody's.
    assert bridge.handled_since[3] == first + 4
    bridge.give((1, FakeClientMessage({"id": "lamp"}), 0))
    await until(lambda: len(bridge.handled_since) == 5)
    bridge.control("stop")
    await settle()
    assert len(bridge.handled_since) == 5  # neither is disconnect()
