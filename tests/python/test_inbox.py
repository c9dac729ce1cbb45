"""What waits for consumers while something older is on its way by the other lane."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from fake_bridge import FakeBridge, FakeMessage
from running import ALL, Master, Start, Worker, master_of, settle, until

from mqttasgi.consumers import MqttConsumer


class Hears(MqttConsumer):
    """Writes down the payloads it gets, with an R before a retained one."""

    channel_layer_alias = "none"
    heard: list[str]

    async def connect(self) -> None:
        await self.subscribe("#", 2)

    async def receive(self, mqtt_message: Any) -> None:
        kept = "R" if mqtt_message["retain"] else ""
        self.heard.append(f"{kept}{mqtt_message['payload'].decode()}")

    async def disconnect(self) -> None:
        self.heard.append("bye")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(Hears, "heard", heard, raising=False)
    return heard


def say(bridge: FakeBridge, *words: str, handle: int = 1, topic: str = "t") -> None:
    """Delivers `word` the direct lane, `Rword` as retained, `Sword` live through the session."""
    for word in words:
        text = word.lstrip("RS").encode()
        bridge.deliver(topic, text, 1, handle, retain=word[0] == "R", session=word[0] in "RS")


async def test_a_held_consumer_gets_what_was_retained_first(
    bridge: FakeBridge, start: Start, heard: list[str]
) -> None:
    await start(Hears.as_asgi())
    say(bridge, "1")
    bridge.control("hold", 1)
    say(bridge, "2", "3", "S4", "R3", "5", "R3")
    await settle()
    assert heard == ["1"]
    bridge.control("release", 1)
    say(bridge, "6", "R6")
    await settle()
    assert heard == ["1", "2", "R3", "4", "5", "6", "R6"]


async def test_holds_of_a_consumer_nest_and_end_with_the_last(
    bridge: FakeBridge, start: Start, heard: list[str]
) -> None:
    await start(Hears.as_asgi())
    bridge.control("hold", 1, 0)
    bridge.control("hold", 1, 1)
    say(bridge, "1", "R1")
    bridge.control("release", 1)
    say(bridge, "2")
    await settle()
    assert heard == []
    bridge.control("release", 1)
    await settle()
    assert heard == ["1", "R1", "2"]
    # The next one is a hold of its own.
    bridge.control("hold", 1)
    say(bridge, "3", "R3")
    bridge.control("release", 1)
    await settle()
    assert heard[3:] == ["R3"]


@pytest.mark.parametrize("handle", [ALL, 1, 77])
async def test_a_release_without_a_hold_does_nothing(
    bridge: FakeBridge, start: Start, heard: list[str], handle: int
) -> None:
    await start(Hears.as_asgi())
    bridge.control("release", handle, 1)
    bridge.control("release", handle, 1)
    say(bridge, "1")
    bridge.control("hold", handle, 2)
    say(bridge, "2")
    bridge.control("release", handle, 2)
    bridge.control("release", handle, 2)
    say(bridge, "3")
    await settle()
    assert heard == ["1", "2", "3"]
    assert bridge.text() == ""


async def test_everybodys_hold_keeps_back_the_direct_lane_alone(
    bridge: FakeBridge, start: Start, heard: list[str]
) -> None:
    await start(Hears.as_asgi())
    say(bridge, "1")
    bridge.control("hold", ALL, 1)
    say(bridge, "2", "Swill")
    bridge.control("hold", ALL, 2)
    say(bridge, "3", "Swill2")
    await settle()
    assert heard == ["1", "will", "will2"]
    bridge.control("release", ALL, 1)
    say(bridge, "4")
    await settle()
    assert heard[3:] == ["2"]
    bridge.control("release", ALL, 2)
    say(bridge, "5")
    await settle()
    assert heard[4:] == ["3", "4", "5"]


async def test_everybodys_hold_begins_and_ends_within_one_take(
    bridge: FakeBridge, start: Start, heard: list[str]
) -> None:
    service = await start(Hears.as_asgi())
    bridge.control("hold", ALL, 1)
    say(bridge, "1", "S0")
    bridge.control("release", ALL, 1)
    say(bridge, "2")
    await settle()
    assert heard == ["0", "1", "2"]
    assert service.general_hold is None


@pytest.mark.parametrize("first", [ALL, 1])
async def test_a_consumer_held_twice_over(
    bridge: FakeBridge, start: Start, heard: list[str], first: int
) -> None:
    await start(Hears.as_asgi())
    bridge.control("hold", ALL, 1)
    bridge.control("hold", 1)
    say(bridge, "2", "3", "4", "R3", "Swill")
    bridge.control("release", first, 1)
    await settle()
    assert heard == ([] if first == ALL else ["will"])
    bridge.control("release", 1 if first == ALL else ALL, 1)
    await settle()
    # The retained message is not before an older one, and not twice, whichever hold ends first.
    assert [word for word in heard if word != "will"] == ["2", "R3", "4"]
    assert heard.count("will") == 1


async def test_a_retained_message_keeps_its_place_through_the_next_hold(
    bridge: FakeBridge, start: Start, heard: list[str]
) -> None:
    await start(Hears.as_asgi())
    bridge.control("hold", ALL, 1)
    bridge.control("hold", 1)
    say(bridge, "2", "R2", "3")
    bridge.control("release", 1)
    bridge.control("hold", 1)
    bridge.control("release", ALL, 1)
    say(bridge, "R9", topic="other")
    await settle()
    assert heard == []
    bridge.control("release", 1)
    await settle()
    assert heard == ["R9", "R2", "3"]


async def test_only_who_is_held_waits(bridge: FakeBridge, start: Start) -> None:
    await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    bridge.control("hold", 2)
    bridge.deliver("device/1", b"first", handle=2)
    bridge.deliver("device/2", b"second", handle=3)
    await settle()
    assert [payload for _, payload, _, _ in bridge.published[2:]] == [b"second"]
    bridge.control("release", 2)
    await settle()
    assert [payload for _, payload, _, _ in bridge.published[2:]] == [b"second", b"first"]


class Spawns(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.spawn_worker(1, f"{__name__}.Hears", {})


@pytest.mark.parametrize("holds", [[2], [ALL], [ALL, 2], [2, ALL], [2, 2]])
async def test_a_worker_killed_while_held_gets_everything_first(
    bridge: FakeBridge, start: Start, heard: list[str], holds: list[int]
) -> None:
    service = await start(Spawns.as_asgi())
    await settle()
    say(bridge, "1", handle=2)
    for handle in holds:
        bridge.control("hold", handle, 1 if handle == ALL else 0)
    say(bridge, "2", "3", "4", handle=2)
    if 2 in holds:
        say(bridge, "R3", handle=2)
    await settle()
    assert heard == ["1"]
    service.workers.kill(master_of(service), 1)
    # What comes later does not.
    say(bridge, "5", "R5", handle=2)
    for handle in holds:
        bridge.control("release", handle, 1)
    await settle()
    assert heard == ["1", "2", "R3" if 2 in holds else "3", "4", "bye"]
    assert list(service.roster.by_handle) == [1]
    assert service.general_hold is None
    assert bridge.text() == ""


@pytest.mark.parametrize("holds", [[1], [ALL], [ALL, 1], [1, 1]])
async def test_stop_delivers_what_waits_before_the_disconnect(
    bridge: FakeBridge, start: Start, heard: list[str], holds: list[int]
) -> None:
    service = await start(Hears.as_asgi())
    for handle in holds:
        bridge.control("hold", handle, 1 if handle == ALL else 0)
    say(bridge, "1", "2")
    if 1 in holds:
        say(bridge, "R0")
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert heard == [*(["R0"] if 1 in holds else []), "1", "2", "bye"]


@pytest.mark.parametrize("holds", [[], [1], [ALL]])
async def test_stop_leaves_what_waits_where_others_keep_it(
    bridge: FakeBridge, start: Start, heard: list[str], holds: list[int]
) -> None:
    service = await start(Hears.as_asgi())
    service.leaves_what_waits = True
    for handle in holds:
        bridge.control("hold", handle, 1 if handle == ALL else 0)
    say(bridge, "1", "2")
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert heard == ["bye"]


@pytest.mark.parametrize("holds", [[], [2], [ALL], [ALL, 2]])
async def test_a_worker_that_fails_while_held_keeps_no_message(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch, holds: list[int]
) -> None:
    """Messages count towards the queue's bound while they live, and a traceback is kept until a collection."""
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    monkeypatch.setattr(Worker, "broken", (1,))
    gc.disable()
    try:
        bridge.deliver("device/1", b"raise", handle=2)
        for handle in holds:
            bridge.control("hold", handle, 1)
        messages = [FakeMessage("device/1", b"x", 0) for _ in range(3)]
        messages.append(FakeMessage("device/1", b"y", 0, retain=True, session=True))
        alive = [weakref.ref(message) for message in messages]
        while messages:
            bridge.give((2, messages.pop(), 0))
        await until(lambda: 1 not in service.roster.by_app_id)
        await settle()
        assert [reference() for reference in alive] == [None] * 4
    finally:
        gc.enable()
    for handle in holds:
        bridge.control("release", handle, 1)
    bridge.control("hold", 2)
    bridge.deliver("device/1", b"late", handle=2)
    bridge.deliver("device/2", b"fine", handle=3)
    await until(lambda: ("worked", b"fine", 1, False) in bridge.published)
