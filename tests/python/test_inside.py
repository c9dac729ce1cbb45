"""`mqttasgi._inside` in a service with a fake bridge: what pages see of the process, and do to it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from fake_bridge import FakeBridge
from running import Echo, Master, Start, settle, until

from mqttasgi import _inside
from mqttasgi._state import ConsumerView, LogLine
from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import inside, restarts
from mqttasgi.testing import PlayedBroker


def states() -> dict[str, str]:
    """Return what consumers do, by their app_id."""
    return {view.app_id: view.state for view in _inside.consumers()}


class Fails(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("in", 1)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"raise":
            raise RuntimeError("as told")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers that fail are restarted a long time after the test."""
    monkeypatch.setattr(restarts, "RESTART_DELAY", 1000.0)


# ---- where it works ----


def test_outside_of_a_broker() -> None:
    for function in (_inside.consumers, _inside.log_lines, _inside.statistics):
        with pytest.raises(_inside.OutsideBroker, match=r"\(\) outside of the broker"):
            function()
    with pytest.raises(_inside.OutsideBroker):
        _inside.watch(print)


async def test_on_the_consumers_loop_only(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.statistics["messages/sent"] = 3
    errors: list[Exception] = []
    values: list[int] = []

    async def elsewhere() -> None:
        try:
            _inside.consumers()
        except _inside.OutsideBroker as error:
            errors.append(error)

    def run() -> None:
        values.append(_inside.statistics()["messages/sent"])
        asyncio.run(elsewhere())
        try:
            _inside.log_lines()
        except _inside.OutsideBroker as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await until(lambda: not thread.is_alive())
    assert values == [3]
    assert ["on another event loop" in str(error) for error in errors] == [True, True]


# ---- consumers ----


async def test_consumers_as_they_are(bridge: FakeBridge, start: Start) -> None:
    before = time.time()
    await start(Master.as_asgi())
    await until(lambda: set(states().values()) == {"running"})
    master, first, second = _inside.consumers()
    assert (master.app_id, first.app_id, second.app_id) == ("", "1", "2")
    assert [view.handle for view in (master, first, second)] == [1, 2, 3]
    assert second.name == "running.Worker"
    assert before <= master.since <= time.time()
    assert first[5:] == (0, 0, 0, "", 0.0)
    for number in range(3):
        bridge.deliver("device/1", str(number).encode(), handle=2)
    await until(lambda: _inside.consumers()[1].handled == 3)


@pytest.mark.usefixtures("later")
async def test_a_failure_and_the_start_after_it(bridge: FakeBridge, start: Start) -> None:
    service = await start(Fails.as_asgi())
    bridge.deliver("in", b"fine")
    bridge.deliver("in", b"raise")
    await until(lambda: states() == {"": "restarting"})
    (view,) = _inside.consumers()
    assert "RuntimeError: as told" in view.error and "Traceback" in view.error
    assert view.error_time <= view.since <= time.time()
    assert view.handled == 1
    bridge.deliver("in", b"later")
    await until(lambda: _inside.consumers()[0].waiting == 1)
    consumer = service.roster.by_handle[1]
    consumer.restart.cancel()  # type: ignore[union-attr]
    consumer.start()
    await until(lambda: states() == {"": "running"})
    await until(lambda: _inside.consumers()[0].handled == 2)
    (view,) = _inside.consumers()
    assert (view.restarts, view.waiting) == (1, 0)
    assert "as told" in view.error


async def test_an_app_id_that_cannot_be_shown(bridge: FakeBridge, start: Start) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no")

    service = await start(Echo.as_asgi())
    service.lifecycle.add(Odd(), "worker", "x", Echo.as_asgi(), None)
    service.lifecycle.add("x" * 1000, "worker", "x", Echo.as_asgi(), None)
    assert [view.app_id for view in _inside.consumers()][1:] == ["an object of type Odd", "'" + "x" * 399]


# ---- the log ----


async def test_the_lines_of_the_log(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.lines.clear()
    for level, text in ((8, "wrong"), (4, "hm"), (2, "so"), (1, "well"), (16, "a"), (99, "b")):
        bridge.log(level, text)
    lines = _inside.log_lines()
    assert [line.level for line in lines] == ["error", "warning", "notice", "info", "debug", "info"]
    assert lines[0] == LogLine(1, 1.0, "error", "wrong")
    assert [line.text for line in _inside.log_lines(4)] == ["a", "b"]
    assert _inside.log_lines(6) == []
    assert len(_inside.log_lines(-1)) == 6


# ---- who watches ----


@pytest.mark.usefixtures("later")
async def test_watching(bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "LOOK_AFTER", 0.01)
    service = await start(Fails.as_asgi())
    told: list[str] = []
    end = _inside.watch(told.append)
    await settle()
    assert told == []
    bridge.deliver("in", b"raise")
    await until(lambda: states() == {"": "restarting"})
    await until(lambda: "log" in told)
    assert told.count("consumers") == 1
    end()
    end()  # which does no harm
    told.clear()
    bridge.log(8, "unheard")
    service.inside.changed("consumers")
    await asyncio.sleep(0.05)
    assert told == []
    assert service.inside._look is None


async def test_once_in_a_turn_and_to_everybody(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    told: list[str] = []

    def fails(kind: str) -> None:
        raise RuntimeError("a page of the application's")

    ends = [_inside.watch(fails), _inside.watch(told.append)]
    for _ in range(3):
        service.inside.changed("clients")
        service.inside.changed("consumers")
    await settle()
    assert told == ["clients", "consumers"]
    for end in ends:
        end()


async def test_who_ends_in_the_same_turn_is_told_nothing(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    told: list[str] = []
    end = _inside.watch(told.append)
    service.inside.changed("consumers")
    end()
    await settle()
    assert told == []


# ---- in tests of applications ----


def test_played() -> None:
    view = ConsumerView(1, "a.B", "", "running", 0.0, 0, 0, 0, "", 0.0)
    told: list[str] = []
    with PlayedBroker() as played:
        assert (_inside.consumers(), _inside.log_lines(), _inside.statistics()) == ([], [], {})
        played.inside.consumer_views = [view]
        played.inside.lines = [LogLine(1, 0.0, "info", "a"), LogLine(2, 0.0, "info", "b")]
        played.inside.statistics["messages/sent"] = 7
        end = _inside.watch(told.append)
        played.inside.change("consumers")
        end()
        played.inside.change("log")
        assert told == ["consumers"]
        assert _inside.consumers() == [view]
        assert [line.text for line in _inside.log_lines(1)] == ["b"]
        assert _inside.statistics() == {"messages/sent": 7}
