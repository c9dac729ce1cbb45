"""Who blocks the loop is found whatever its frames hold."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fake_bridge import FakeBridge

from mqttasgi.runtime import watchdog
from mqttasgi.runtime.service import Service
from mqttasgi.runtime.watchdog import Watchdog

#: A busy machine may keep the loop from its turn for a moment, which is nobody's fault.
LIMIT = 0.2


@pytest.fixture
def bridge() -> Any:
    made = FakeBridge()
    yield made
    made.close()


async def watched(bridge: FakeBridge, block: Any, limit: float = LIMIT) -> None:
    """Let something run on the loop with a watchdog beside it, then the loop until it is seen to react."""
    service = Service(bridge, asyncio.get_running_loop())
    with Watchdog(service, limit):
        block()
        end = time.monotonic() + 30
        while "react" not in bridge.text().replace("reacted", "") and limit and time.monotonic() < end:
            await asyncio.sleep(0.01)


def wait_for(bridge: FakeBridge, text: str) -> None:
    """Block the loop until the watchdog has said something."""
    end = time.monotonic() + 30
    while text not in bridge.text() and time.monotonic() < end:
        time.sleep(0.01)


async def test_it_says_so_once_and_when_it_is_over(bridge: FakeBridge) -> None:
    def block() -> None:
        wait_for(bridge, "has not reacted")
        time.sleep(3 * LIMIT)

    await watched(bridge, block)
    assert bridge.text().count("has not reacted for") == 1
    assert bridge.text().count("The event loop reacts again, after") == 1
    assert "wait_for(bridge" in bridge.text()
    assert bridge.statistics["loop/longest_block"] >= 1000 * LIMIT


async def test_frames_that_bite(bridge: FakeBridge) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise SystemError("do not look at me")

        def block(self) -> None:
            wait_for(bridge, "has not reacted")

    hostile = Hostile()
    await watched(bridge, lambda: Hostile.block(hostile))
    assert "has not reacted for" in bridge.text()
    assert "do not look at me" not in bridge.text()


async def test_off(bridge: FakeBridge) -> None:
    await watched(bridge, lambda: time.sleep(2 * LIMIT), limit=0)
    assert bridge.lines == [] and bridge.beats == 0


async def test_it_beats_and_says_that_it_ends(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "INTERVAL_MAX", 0.01)
    service = Service(bridge, asyncio.get_running_loop())
    beats = 0
    with Watchdog(service, 60):
        end = time.monotonic() + 30
        while bridge.beats < 3 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        beats = bridge.beats
    assert beats >= 3
    end = time.monotonic() + 30
    while bridge.beats and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert bridge.beats == 0
    assert bridge.lines == []
