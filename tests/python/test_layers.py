"""A channel layer whose server goes away, forgets, and comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mqttasgi import layers
from mqttasgi.layers import ConsumerLayer


class Server:
    """A layer with a server that can be away. The module is not channels.layers, so it has a server."""

    group_expiry = 0.02

    def __init__(self) -> None:
        self.away = False
        self.groups: set[tuple[str, str]] = set()
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    async def receive(self, channel: str) -> Any:
        if self.away:
            raise ConnectionError("refused")
        event = await self.events.get()
        if event == "die":
            self.away = True
            self.groups.clear()
            raise ConnectionError("reset")
        return event

    async def group_add(self, group: str, channel: str) -> None:
        if self.away:
            raise ConnectionError("refused")
        self.groups.add((group, channel))

    async def group_discard(self, group: str, channel: str) -> None:
        self.groups.discard((group, channel))


async def test_a_layer_that_comes_back_is_used_again_and_knows_its_groups(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(layers, "RETRY_FIRST", 0.001)
    server = Server()
    layer = ConsumerLayer(server)
    await layer.group_add("g", "c")
    receiving = asyncio.ensure_future(layer.receive("c"))
    server.events.put_nowait("die")
    while not server.away:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not receiving.done()
    server.away = False
    server.events.put_nowait({"type": "x"})
    assert await receiving == {"type": "x"}
    assert server.groups == {("g", "c")}
    assert [record.message.split(",")[0].split(";")[0] for record in caplog.records] == [
        "The channel layer Server is away",
        "The channel layer is back",
    ]
    await layer.close()
    assert server.groups == set()


async def test_memberships_are_renewed_before_they_lapse() -> None:
    server = Server()
    layer = ConsumerLayer(server)
    await layer.group_add("g", "c")
    server.groups.clear()
    while ("g", "c") not in server.groups:
        await asyncio.sleep(0)
    await layer.group_discard("g", "c")
    assert server.groups == set()
    await layer.close()


async def test_everything_else_is_the_layers_own() -> None:
    server = Server()
    layer = ConsumerLayer(server)
    assert layer.events is server.events
    with pytest.raises(AttributeError):
        _ = layer.nothing_of_that_name
