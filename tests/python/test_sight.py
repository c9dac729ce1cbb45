"""What the loop's thread is seen to do, and for whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, Optional

import pytest
from fake_bridge import FakeBridge
from running import Start, master_of, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime.roster import Roster
from mqttasgi.runtime.service import Service
from mqttasgi.runtime.sight import STACK_MAX, Sight, look_at


class Guilty(MqttConsumer):
    channel_layer_alias: Optional[str] = "none"  # type: ignore[assignment]

    async def connect(self) -> None:
        await self.subscribe("#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        look()
        if mqtt_message["topic"] == "task":
            self.task = asyncio.ensure_future(self.poll())

    async def poll(self) -> None:
        look()

    async def client_connected(self, client: Any) -> None:
        look()


class Hostile(Guilty):
    """Resists whoever looks at it from outside."""

    armed = False

    def __getattribute__(self, name: str) -> Any:
        if Hostile.armed:
            raise SystemExit(f"{name} was looked at")
        return super().__getattribute__(name)

    async def receive(self, mqtt_message: Any) -> None:
        mqtt_message["topic"] = Hostile
        Hostile.armed = True
        look()
        Hostile.armed = False


#: What another thread saw, each time somebody called look().
seen: list[Sight] = []
#: Whose consumers it knows.
rosters: list[Roster] = []


def look() -> None:
    """Lets another thread see this one, as it would if this one slept here."""
    this = threading.get_ident()
    thread = threading.Thread(target=lambda: seen.append(look_at(this, rosters[0])))
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def forgets() -> Iterator[None]:
    seen.clear()
    yield
    rosters.clear()


async def accused(start: Start, application: Any) -> Service:
    service = await start(application)
    rosters.append(service.roster)
    return service


@pytest.mark.parametrize("layer", ["none", "default"])
async def test_a_consumer_and_its_message(
    bridge: FakeBridge, start: Start, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guilty, "channel_layer_alias", layer)
    await accused(start, Guilty.as_asgi())
    bridge.deliver("a/b")
    await until(lambda: bool(seen))
    assert seen[0].who == (
        "Consumer tests:application (master, app_id 0) blocks the event loop, handling a message on topic 'a/b'"
    )
    assert "receive" in [function for _, _, function in seen[0].places]
    assert seen[0].others == []


async def test_other_events_by_their_type(bridge: FakeBridge, start: Start) -> None:
    await accused(start, Guilty.as_asgi())
    from fake_bridge import FakeClientMessage

    bridge.give((1, FakeClientMessage({"id": "lamp"}), 0))
    await until(lambda: bool(seen))
    assert seen[0].who.endswith("handling an event of type 'mqtt.client.connect'")


async def test_a_worker_is_not_its_master(bridge: FakeBridge, start: Start) -> None:
    service = await accused(start, Guilty.as_asgi())
    service.workers.spawn(master_of(service), "hall", f"{__name__}.Guilty")
    bridge.deliver("a/b", handle=2)
    await until(lambda: bool(seen))
    assert "(worker, app_id 'hall') blocks" in seen[0].who


class Name:
    """An app_id that notes who computes with it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __hash__(self) -> int:
        self.threads.add(threading.get_ident())
        return 1

    def __eq__(self, other: object) -> bool:
        self.threads.add(threading.get_ident())
        return self is other


async def test_an_app_id_is_not_computed_with(bridge: FakeBridge, start: Start) -> None:
    """That would be the application's code, on the watchdog's thread."""
    name = Name()
    service = await accused(start, Guilty.as_asgi())
    service.workers.spawn(master_of(service), name, f"{__name__}.Guilty")
    bridge.deliver("a/b", handle=2)
    await until(lambda: bool(seen))
    assert "test_sight.Guilty (worker" in seen[0].who
    assert name.threads == {threading.get_ident()}


async def test_a_task_of_a_consumer(bridge: FakeBridge, start: Start) -> None:
    await accused(start, Guilty.as_asgi())
    bridge.deliver("task")
    await until(lambda: len(seen) == 2)
    assert seen[1].who == ("A task of consumer tests:application (master, app_id 0) blocks the event loop")


async def test_a_task_of_nobodys(bridge: FakeBridge, start: Start) -> None:
    await accused(start, Guilty.as_asgi())

    async def poll() -> None:
        look()

    await asyncio.ensure_future(poll())
    assert seen[0].who == "A task that the application started blocks the event loop"


async def test_plain_asgi(bridge: FakeBridge, start: Start) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        look()

    await accused(start, application)
    bridge.deliver("a/b")
    await until(lambda: bool(seen))
    assert seen[0].who.endswith("blocks the event loop, handling a message on topic 'a/b'")


async def test_what_resists_is_looked_at_all_the_same(bridge: FakeBridge, start: Start) -> None:
    await accused(start, Hostile.as_asgi())
    bridge.deliver("a/b")
    await until(lambda: bool(seen))
    assert "(master, app_id 0) blocks the event loop" in seen[0].who


def test_frames_of_any_kind_do_no_harm(bridge: FakeBridge) -> None:
    class Names(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> Any:
            if name == "self":
                raise SystemExit("self was looked at")
            return super().__getitem__(name)

        get = __getitem__  # type: ignore[assignment]

    class Meta(type):
        @classmethod
        def __prepare__(cls, *arguments: Any) -> Any:
            return Names()

        def __subclasscheck__(cls, other: Any) -> bool:
            raise SystemExit("it was asked what it is")

        __instancecheck__ = __subclasscheck__

    rosters.append(Roster(bridge))

    class Body(metaclass=Meta):
        look()

    class Liar(metaclass=Meta):
        @property
        def __class__(self) -> Any:
            raise SystemExit("it was asked for its class")

        def method(self) -> None:
            look()

    Liar().method()
    assert [sight.who for sight in seen] == ["A task that the application started blocks the event loop"] * 2


def test_a_deep_stack_is_cut(bridge: FakeBridge) -> None:
    rosters.append(Roster(bridge))

    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        else:
            look()

    dig(100)
    assert len(seen[0].places) == STACK_MAX
    assert seen[0].omitted >= 70
    report = seen[0].report(2.0, False)
    assert "frames further out" in report[1]
    assert "in dig" in "\n".join(report)
