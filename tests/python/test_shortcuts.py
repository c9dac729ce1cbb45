"""The short ways to `receive` and from `publish`: taken only where nobody would notice."""

from __future__ import annotations

from typing import Any

import pytest
from fake_bridge import FakeBridge
from running import Echo, Start, settle, until

from mqttasgi.consumers import MqttConsumer

#: Methods that are called with an event, of a class that has its own, and what they see of one message.
SEES = {
    "dispatch": ["mqtt.connect", "mqtt.msg"],
    "mqtt_msg": ["mqtt.msg"],
    "send": ["mqtt.sub", "mqtt.pub"],
}


def seeing(name: str, seen: list[str]) -> Any:
    """Return the method of `MqttConsumer` with that name, which also writes down the types of events."""
    original = getattr(MqttConsumer, name)

    async def method(self: Any, event: Any) -> None:
        seen.append(event["type"])
        await original(self, event)

    return method


async def echo(bridge: FakeBridge) -> None:
    """Wait until a message has been answered."""
    bridge.deliver("in/a", b"x", qos=1)
    await until(lambda: bridge.published == [("out", b"x", 1, False)])


@pytest.mark.parametrize("name", SEES)
async def test_a_class_sees_the_events_of_methods_it_has_itself(
    bridge: FakeBridge, start: Start, name: str
) -> None:
    seen: list[str] = []
    await start(type("Sees", (Echo,), {name: seeing(name, seen)}).as_asgi())
    await echo(bridge)
    assert seen == SEES[name]


@pytest.mark.parametrize("name", SEES)
async def test_methods_that_somebody_has_patched_see_them(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(MqttConsumer, name, seeing(name, seen))
    await start(Echo.as_asgi())
    await echo(bridge)
    assert seen == SEES[name]


@pytest.mark.parametrize("name", SEES)
async def test_methods_of_one_instance_see_them(bridge: FakeBridge, start: Start, name: str) -> None:
    seen: list[str] = []

    class Sees(Echo):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, seeing(name, seen).__get__(self))

    await start(Sees.as_asgi())
    await echo(bridge)
    assert seen == SEES[name]


async def test_middleware_sees_them(bridge: FakeBridge, start: Start) -> None:
    seen: list[str] = []
    consumer = Echo.as_asgi()

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def sees(event: Any) -> None:
            seen.append(event["type"])
            await send(event)

        await consumer(scope, receive, sees)

    await start(middleware)
    await echo(bridge)
    assert seen == SEES["send"]


async def test_what_somebody_has_put_in_place_of_base_send_sees_them(
    bridge: FakeBridge, start: Start
) -> None:
    seen: list[str] = []

    class Wraps(Echo):
        async def connect(self) -> None:
            await super().connect()
            send = self.base_send

            async def sees(event: Any) -> None:
                seen.append(event["type"])
                await send(event)

            self.base_send = sees

    await start(Wraps.as_asgi())
    await echo(bridge)
    assert seen == ["mqtt.pub"]


async def test_the_short_way_waits_for_room(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.room = 0
    bridge.deliver("in/a", b"x", qos=1)
    bridge.deliver("in/a", b"y", qos=1)
    await settle()
    assert bridge.published == []
    bridge.room = 2
    bridge.control("writable")
    await until(lambda: bridge.published == [("out", b"x", 1, False), ("out", b"y", 1, False)])


async def test_what_waits_for_room_is_what_was_published(bridge: FakeBridge, start: Start) -> None:
    payload = bytearray(b"first")

    class Waits(Echo):
        async def receive(self, mqtt_message: Any) -> None:
            await self.publish("out", payload)

    await start(Waits.as_asgi())
    bridge.room = 0
    bridge.deliver("in/a")
    await settle()
    payload[:] = b"other"
    bridge.room = 1
    bridge.control("writable")
    await until(lambda: bridge.published == [("out", b"first", 1, False)])


async def test_a_patched_receive_is_called(bridge: FakeBridge, start: Start) -> None:
    received: list[bytes] = []

    class Patches(Echo):
        async def connect(self) -> None:
            await super().connect()

            async def receive(mqtt_message: Any) -> None:
                received.append(mqtt_message["payload"])

            setattr(self, "receive", receive)  # noqa: B010

    await start(Patches.as_asgi())
    bridge.deliver("in/a", b"x", qos=1)
    await until(lambda: received == [b"x"])
    assert bridge.published == []
