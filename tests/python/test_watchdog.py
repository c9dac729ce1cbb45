"""That the loop does not react is told, and when it does again: beside a loop, and with a clock that the test sets."""

from __future__ import annotations

import asyncio
import threading
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


async def run_watched(bridge: FakeBridge, block: Any, limit: float = LIMIT) -> None:
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

    await run_watched(bridge, block)
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
    await run_watched(bridge, lambda: Hostile.block(hostile))
    assert "has not reacted for" in bridge.text()
    assert "do not look at me" not in bridge.text()


async def test_off(bridge: FakeBridge) -> None:
    await run_watched(bridge, lambda: time.sleep(2 * LIMIT), limit=0)
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


async def test_no_thread_no_watchdog(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Watchdog(Service(bridge, asyncio.get_running_loop()), 1.0):
        pass
    assert "No watchdog: can't start new thread." in bridge.text()


def test_it_says_when_it_fails(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Watchdog, now: float, late: float) -> None:
        raise LookupError("there is no loop")

    monkeypatch.setattr(Watchdog, "look", fail)
    dog = Watchdog(Service(bridge, Loop()), 0.05)  # type: ignore[arg-type]
    dog._watch()
    assert "LookupError: there is no loop" in bridge.text()


# ---- with a clock that the test sets ----

#: Of a watchdog with a clock that the test sets.
SET_LIMIT = 2.0


class Loop:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.questions: list[Any] = []

    def call_soon_threadsafe(self, callback: Any) -> None:
        self.questions.append(callback)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)  # type: ignore[attr-defined]


class Watched:
    """A watchdog whose looks, clock and loop are the test's."""

    def __init__(self, bridge: FakeBridge, clock: Clock, limit: float = SET_LIMIT) -> None:
        self.bridge, self.clock, self.loop = bridge, clock, Loop()
        service = Service(bridge, self.loop)  # type: ignore[arg-type]
        self.dog = Watchdog(service, limit)

    def after(self, seconds: float, late: float = 0.0) -> Watched:
        self.clock.now += seconds
        self.dog.look(self.clock.now, late)
        return self

    def answer(self, seconds: float = 0.0) -> Watched:
        self.clock.now += seconds
        self.loop.questions.pop()()
        return self


@pytest.fixture
def watched(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(bridge, Clock(monkeypatch))


def test_a_loop_that_answers_is_not_told_of(watched: Watched) -> None:
    for _ in range(20):
        watched.after(0.5).answer(0.3)
    assert watched.bridge.lines == []
    watched.after(0.2)
    assert watched.bridge.statistics["loop/longest_block"] in (299, 300)
    assert watched.bridge.beats == 21


def test_one_that_does_not_is_told_of_once_each_time(watched: Watched) -> None:
    watched.after(0)
    for episode in (1, 2):
        for _ in range(3):
            watched.after(0.5)
        assert watched.bridge.text().count("has not reacted") == episode - 1
        for _ in range(5):
            watched.after(0.5)
        assert watched.bridge.text().count("the loop has not reacted for 2.0 s") == episode
        assert watched.bridge.statistics["loop/longest_block"] >= 4000
        watched.answer(0.5).after(0.25)
        assert watched.bridge.text().count("The event loop reacts again, after 4.5 s.") == episode


def test_an_answer_just_before_the_look(watched: Watched) -> None:
    watched.after(0).answer(2.1).after(0.1)
    assert "did not react for 2.1 s" in watched.bridge.text()
    assert len(watched.bridge.lines) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_pythons_lock_was_held(watched: Watched, answered: bool) -> None:
    """Before the loop had answered the last question, or, as is usual, after that."""
    watched.after(0)
    if answered:
        watched.answer()
    watched.bridge.silence = 9.9
    watched.after(10, late=9.5)
    assert "Python did not run at all" in watched.bridge.text()
    assert watched.bridge.text().count("the loop has not reacted for") == 1
    watched.bridge.silence = 0.4
    watched.answer(0.01).after(0.5)
    assert "The event loop reacts again, after" in watched.bridge.text()
    assert watched.bridge.statistics["loop/longest_block"] >= 9500


def test_pythons_lock_was_held_as_soon_as_the_loop_reacted_again(watched: Watched) -> None:
    """Before the log could say that it does."""
    watched.after(0).after(2.5)
    assert watched.bridge.text().count("has not reacted for") == 1
    watched.answer(0.1)
    watched.bridge.silence = 9.9
    watched.after(10, late=9.5)
    text = watched.bridge.text()
    assert text.index("reacts again, after 2.6 s") < text.index("Python did not run at all")
    assert "before it could be seen" not in text


@pytest.mark.parametrize("answered", [True, False])
def test_the_process_was_stopped(watched: Watched, answered: bool) -> None:
    """Then the broker has not missed anything either."""
    watched.after(0)
    if answered:
        watched.answer()
    watched.bridge.silence = 0.6
    watched.after(3600, late=3599.5)
    if not answered:
        watched.answer(0.01)
    watched.after(0.5)
    assert watched.bridge.lines == []
    assert watched.bridge.statistics["loop/longest_block"] < 2000


def test_a_loop_that_is_closed_is_none_of_its_business(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(callback: Any) -> None:
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(watched.loop, "call_soon_threadsafe", closed)
    watched.after(0).after(0.5)
