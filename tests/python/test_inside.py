"""`mqttasgi._inside` in a service with a fake bridge: what pages see of the process, and do to it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from fake_bridge import FakeBridge, FakeClientMessage
from running import Echo, Master, Start, master_of, settle, until

from mqttasgi import _inside
from mqttasgi._state import ClientView, ConsumerView, LogLine
from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import client_table, encores, inside, restarts, roster
from mqttasgi.runtime.bridge import GUEST
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


# ---- starting again ----


class Leaves(MqttConsumer):
    """Does what a test says, and says when it is told to disconnect."""

    connects = 0
    waits = ""

    async def connect(self) -> None:
        type(self).connects += 1
        await self.subscribe("in", 1)
        if self.waits == "connect":
            await asyncio.sleep(1000)
        if self.connects == 1:
            await self.subscribe("once", 1)
            await self.watch_clients()

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"wait":
            await asyncio.sleep(1000)
        elif mqtt_message["payload"] == b"raise":
            raise RuntimeError("as told")
        await asyncio.sleep(0)
        await self.publish("out", mqtt_message["payload"])

    async def disconnect(self) -> None:
        await self.unsubscribe("in")
        await self.publish("bye", b"")
        if self.waits == "disconnect":
            await asyncio.sleep(1000)
        if self.waits == "raise":
            raise RuntimeError("cannot leave")


@pytest.fixture
def leaves() -> type[Leaves]:
    return type("Leaves", (Leaves,), {})


def published(bridge: FakeBridge) -> list[str]:
    return [f"{topic} {payload.decode()}".strip() for topic, payload, _, _ in bridge.published]


async def test_one_that_runs(bridge: FakeBridge, start: Start, leaves: type[Leaves]) -> None:
    service = await start(leaves.as_asgi())
    await until(lambda: states() == {"": "running"})
    assert bridge.watchers == [1]
    assert _inside.restart(1)
    assert _inside.restart(1)  # it is about to
    for payload in (b"a", b"b"):
        bridge.deliver("in", payload)
    await until(lambda: _inside.consumers()[0].restarts == 1 and states() == {"": "running"})
    await until(lambda: len(published(bridge)) == 3)
    assert published(bridge) == ["bye", "out a", "out b"]
    (view,) = _inside.consumers()
    assert (view.handle, view.error, view.waiting) == (1, "", 0)
    # In force all the time, but for what its new run has not asked for.
    assert bridge.subscriptions == {(1, "in"): 1}
    assert bridge.watchers == []
    assert "started again, as somebody has asked for" in bridge.text()
    assert "error" not in bridge.text()
    assert bridge.statistics["consumers/restarted"] == 0
    assert bridge.statistics["consumers/running"] == 1
    assert not service.encores._asked


async def test_what_waits_is_for_the_next_run(bridge: FakeBridge, start: Start, leaves: type[Leaves]) -> None:
    await start(leaves.as_asgi())
    for number in range(50):
        bridge.deliver("in", str(number).encode())
    await until(lambda: _inside.consumers()[0].handled > 3)
    assert _inside.restart(1)
    await until(lambda: len(published(bridge)) == 51)
    got = published(bridge)
    assert got.index("bye") < 50
    got.remove("bye")
    assert got == [f"out {number}" for number in range(50)]


@pytest.mark.parametrize("waits", ["connect", "disconnect", "message"])
async def test_one_that_does_not_end_is_cancelled(
    bridge: FakeBridge, start: Start, leaves: type[Leaves], waits: str
) -> None:
    service = await start(leaves.as_asgi())
    await until(lambda: states() == {"": "running"})
    service.farewell.seconds = 0.01
    leaves.waits = waits
    if waits == "connect":
        assert _inside.restart(1)
        await until(lambda: leaves.connects == 2 and states() == {"": "starting"})
    elif waits == "message":
        bridge.deliver("in", b"wait")
        await until(lambda: bridge.waiting == [] and _inside.consumers()[0].waiting == 0)
        await settle()
    connects = leaves.connects
    assert _inside.restart(1)
    await until(lambda: "is cancelled" in bridge.text())
    leaves.waits = ""
    await until(lambda: leaves.connects == connects + 1 and states() == {"": "running"})
    assert "did not finish what it is doing and its disconnect() within 0.01 seconds" in bridge.text()
    assert service.roster.by_handle[1].failures == 0
    assert "its task was cancelled" in _inside.consumers()[0].error
    bridge.deliver("in", b"after")
    await until(lambda: "out after" in published(bridge))


class Stays(MqttConsumer):
    """Catches that it is cancelled, some times."""

    swallows = 0

    async def connect(self) -> None:
        await self.subscribe("in", 1)

    async def receive(self, mqtt_message: Any) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                type(self).swallows -= 1
                if type(self).swallows < 0:
                    raise


@pytest.mark.parametrize("again", [0.01, 1000.0])
async def test_one_that_catches_its_cancellation_is_cancelled_again(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch, again: float
) -> None:
    monkeypatch.setattr(encores, "AGAIN", again)
    monkeypatch.setattr(Stays, "swallows", 2)
    service = await start(Stays.as_asgi())
    await until(lambda: states() == {"": "running"})
    service.farewell.seconds = 0.01
    bridge.deliver("in", b"wait")
    await until(lambda: bridge.waiting == [] and _inside.consumers()[0].waiting == 0)
    await settle()
    assert _inside.restart(1)
    await until(lambda: Stays.swallows < 2)
    if again > 1:
        # By whoever asks again.
        await asyncio.sleep(0.05)
        assert (Stays.swallows, _inside.consumers()[0].restarts) == (1, 0)
        for _ in range(2):
            assert _inside.restart(1)
            await settle()
    await until(lambda: _inside.consumers()[0].restarts == 1 and states() == {"": "running"})
    assert "goes on, and is cancelled again" in bridge.text()
    assert not service.encores._asked
    assert not service.encores._cancelled


@pytest.mark.usefixtures("later")
async def test_one_that_fails_meanwhile_has_failed(
    bridge: FakeBridge, start: Start, leaves: type[Leaves]
) -> None:
    await start(leaves.as_asgi())
    await until(lambda: states() == {"": "running"})
    bridge.deliver("in", b"raise")
    await asyncio.sleep(0)
    assert _inside.restart(1)
    await until(lambda: states() == {"": "restarting"})
    # The word to disconnect is not left for the next run; and now it is started at once.
    leaves.waits = "raise"
    assert _inside.restart(1)
    await until(lambda: states() == {"": "running"})
    assert bridge.statistics["consumers/restarting"] == 0
    assert _inside.restart(1)
    await until(lambda: states() == {"": "restarting"})
    assert "cannot leave" in _inside.consumers()[0].error


async def test_workers_stay_with_a_master_that_is_started_again(bridge: FakeBridge, start: Start) -> None:
    await start(Master.as_asgi())
    await until(lambda: set(states().values()) == {"running"})
    assert _inside.restart(1)
    await until(lambda: _inside.consumers()[0].restarts == 1)
    await until(lambda: set(states().values()) == {"running"})
    assert [view.restarts for view in _inside.consumers()] == [1, 0, 0]
    assert _inside.restart(2)
    await until(lambda: _inside.consumers()[1].restarts == 1)
    assert ("bye", b"1", 1, False) in bridge.published
    bridge.deliver("device/1", b"x", handle=2)
    await until(lambda: ("worked", b"x", 1, False) in bridge.published)


async def test_what_waits_is_handled_if_the_broker_stops_first(
    bridge: FakeBridge, start: Start, leaves: type[Leaves]
) -> None:
    service = await start(leaves.as_asgi())
    for number in range(20):
        bridge.deliver("in", str(number).encode())
    await until(lambda: _inside.consumers()[0].handled > 3)
    assert _inside.restart(1)
    service.farewell.begin()
    await until(lambda: service.stopped)
    assert published(bridge) == [*(f"out {number}" for number in range(20)), "bye"]
    assert leaves.connects == 1


class Broken(MqttConsumer):
    is_broken = False

    async def connect(self) -> None:
        if self.is_broken:
            raise RuntimeError("cannot start")
        await self.subscribe("in", 1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("out", mqtt_message["payload"])


class BrokensMaster(MqttConsumer):
    async def connect(self) -> None:
        await self.spawn_worker(1, f"{__name__}.Broken", {})


@pytest.mark.parametrize("durable_tries", [0, 5])
async def test_one_that_was_given_up(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch, durable_tries: int
) -> None:
    monkeypatch.setattr(Broken, "is_broken", True)
    service = await start(BrokensMaster.as_asgi(), durable_tries=durable_tries)
    await until(lambda: states() == {"": "running", "1": "failed"})
    view = _inside.consumers()[1]
    assert (view.handle, view.restarts) == (2, 3)
    assert "cannot start" in view.error
    assert _inside.restart(2)
    await until(lambda: states()["1"] == "failed" and _inside.consumers()[1].handle != 2)
    Broken.is_broken = False
    (handle,) = (view.handle for view in _inside.consumers() if view.app_id == "1")
    assert _inside.restart(handle)
    assert not _inside.restart(handle)
    await until(lambda: states() == {"": "running", "1": "running"})
    view = _inside.consumers()[1]
    assert "cannot start" in view.error
    bridge.deliver("in", b"x", handle=view.handle)
    await until(lambda: ("out", b"x", 1, False) in bridge.published)
    assert not service.roster.given_up
    if durable_tries:
        assert ("consumer", view.handle, "worker 1 test_inside.Broken") in bridge.told


async def test_a_master_that_was_given_up(bridge: FakeBridge, start: Start) -> None:
    class Once(Broken):
        is_broken = False

    service = await start(Once.as_asgi())
    await until(lambda: states() == {"": "running"})
    Once.is_broken = True
    assert _inside.restart(1)
    await until(lambda: states() == {"": "failed"})
    Once.is_broken = False
    assert bridge.suspend_calls == 1
    # With `cleansession false` there is no session any more.
    service.encores._keeps_session = True
    assert not _inside.restart(1)
    service.encores._keeps_session = False
    assert _inside.restart(1)
    await until(lambda: states() == {"": "running"})
    assert _inside.consumers()[0].handle == 2


async def test_a_master_that_has_returned(bridge: FakeBridge, start: Start) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    await start(application)
    bridge.deliver("in")
    await until(lambda: states() == {"": "ended"})
    assert _inside.restart(1)
    await until(lambda: states() == {"": "running"})


async def test_what_cannot_be_started_again(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi())
    await until(lambda: set(states().values()) == {"running"})
    assert not _inside.restart(77)
    service.workers.kill(master_of(service), 1)
    assert states()["1"] == "ended"
    assert not _inside.restart(2)
    # A killed one is told to disconnect once, and is not started again.
    assert _inside.restart(3)
    service.workers.kill(master_of(service), 2)
    await until(lambda: set(states()) == {""})
    assert [payload for topic, payload, _, _ in bridge.published if topic == "bye"] == [b"1", b"2"]
    bridge.control("stop")
    await until(lambda: service.farewell.has_begun)
    assert not _inside.restart(1)


async def test_only_the_last_that_were_given_up_are_remembered(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(Echo.as_asgi())
    monkeypatch.setattr(roster, "GIVEN_UP", 2)
    for app_id in (5, 6, 7):
        consumer = service.lifecycle.add(app_id, "worker", "x", Echo.as_asgi(), None)
        service.lifecycle.forget(consumer)
        service.roster.give_up(consumer)
    assert [view.app_id for view in _inside.consumers()] == ["", "6", "7"]
    service.lifecycle.add(6, "worker", "y", Echo.as_asgi(), None)
    assert [(view.app_id, view.name) for view in _inside.consumers()][1:] == [("6", "y"), ("7", "x")]


# ---- clients ----


def client(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "username": None,
        "address": "127.0.0.1",
        "protocol": "mqtt",
        "protocol_version": 5,
        "certificate": None,
        **more,
    }


def comes(bridge: FakeBridge, handle: int, name: str, **more: Any) -> None:
    bridge.give((handle, FakeClientMessage(client(name, **more)), 0))


def goes(bridge: FakeBridge, handle: int, name: str) -> None:
    reason = {"code": 0, "session_ends": True}
    bridge.give((handle, FakeClientMessage(client(name), reason), 0))


async def test_clients(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    told: list[str] = []
    end = _inside.watch(told.append)
    handle = GUEST | 2
    bridge.answer_at_once = False
    opening = asyncio.ensure_future(_inside.clients().__aenter__())
    await until(lambda: len(bridge.unanswered) == 1)
    assert bridge.watchers == [handle]
    bridge.control("answer", bridge.unanswered.pop())
    comes(bridge, handle, "a")
    await until(lambda: len(bridge.unanswered) == 1)
    await settle()
    assert not opening.done()
    bridge.control("answer", bridge.unanswered.pop())
    bridge.answer_at_once = True
    watching = await opening
    assert [view.id for view in watching.all()] == ["a"]
    assert watching.all()[0] == ("a", "", "127.0.0.1", "MQTT 5", "", 0.0)
    assert watching.is_complete
    comes(
        bridge,
        handle,
        "b",
        username="ann",
        address=None,
        protocol="websockets",
        protocol_version=4,
        certificate={"subject": "CN=b"},
    )
    before = time.time()
    await until(lambda: watching.total == 2)
    second = watching.all()[1]
    assert second[:5] == ("b", "ann", "", "MQTT 3.1.1 over WebSockets", "CN=b")
    assert before <= second.since <= time.time()
    goes(bridge, handle, "a")
    await until(lambda: watching.total == 1)
    await settle()
    assert told.count("clients") == 3
    service.inside.end_clients()
    await until(lambda: not service.roster.inboxes.keys() - {1})
    assert bridge.watchers == []
    end()


async def test_several_look_at_the_same_clients(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    async with _inside.clients() as first:
        async with _inside.clients() as second:
            assert bridge.watchers == [GUEST | 2]
            comes(bridge, GUEST | 2, "a")
            await until(lambda: first.total == second.total == 1)
        assert bridge.watchers == [GUEST | 2]
    assert bridge.watchers == []
    # Who looks after that begins with nothing, whatever is still under way for those before.
    async with _inside.clients() as third:
        comes(bridge, GUEST | 2, "late")
        await settle()
        assert third.all() == []
        bridge.knows_connects = False
    async with _inside.clients() as fourth:
        assert not fourth.is_complete
    await settle()
    assert set(service.roster.inboxes) == {1}


async def test_who_is_cancelled_while_it_begins(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    bridge.answer_at_once = False
    tasks = [asyncio.ensure_future(_inside.clients().__aenter__()) for _ in range(2)]
    await until(lambda: len(bridge.unanswered) == 1)
    tasks[0].cancel()
    await settle()
    assert service.inside._clients is not None
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert service.inside._clients is None
    assert bridge.watchers == []
    for sequence in bridge.unanswered:
        bridge.control("answer", sequence)
    await until(lambda: set(service.roster.inboxes) == {1})


async def test_no_memory_for_clients(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    bridge.answer_at_once = False
    opening = asyncio.ensure_future(_inside.clients().__aenter__())
    await until(lambda: len(bridge.unanswered) == 1)
    bridge.control("answer", bridge.unanswered.pop(), 1)
    with pytest.raises(MemoryError):
        await opening
    assert service.inside._clients is None


async def test_more_clients_than_have_room(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(Echo.as_asgi())
    monkeypatch.setattr(client_table, "CLIENTS", 3)
    monkeypatch.setattr(client_table, "BYTES", 100)
    handle = GUEST | 2
    async with _inside.clients() as watching:
        for name in ("a", "b" * 99, "c" * 2, "d", "e"):
            comes(bridge, handle, name)
        await until(lambda: watching.total == 5)
        assert [view.id for view in watching.all()] == ["a", "b" * 99]
        goes(bridge, handle, "e")
        await until(lambda: watching.total == 4)
        goes(bridge, handle, "b" * 99)
        await until(lambda: watching.total == 3)
        comes(bridge, handle, "f")
        await until(lambda: "f" in [view.id for view in watching.all()])
        for name in ("a", "c" * 2, "d", "f", "x", "y"):
            goes(bridge, handle, name)
        await until(lambda: watching.total == 0)


async def test_an_end_that_is_told_late_is_the_older_connections(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    handle = GUEST | 2
    async with _inside.clients() as watching:
        comes(bridge, handle, "a", address="1.1.1.1")
        comes(bridge, handle, "a", address="2.2.2.2")
        await until(lambda: watching.total == 2)
        goes(bridge, handle, "a")
        await until(lambda: watching.total == 1)
        assert watching.all()[0].address == "2.2.2.2"


async def test_no_clients_when_the_broker_stops(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    async with _inside.clients():
        bridge.control("stop")
        await until(lambda: service.farewell.has_begun)
        with pytest.raises(_inside.OutsideBroker, match="the broker stops"):
            await _inside.clients().__aenter__()


async def test_kicking(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    bridge.clients = {"lamp"}
    assert await _inside.kick("lamp")
    assert not await _inside.kick("nobody")
    for wrong in ("la\0mp", "\ud800"):
        assert not await _inside.kick(wrong)
    assert bridge.kicked == ["lamp", "nobody"]
    assert not service.requests._answers


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
    assert _inside.log_lines(2**70) == []


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


async def test_played_clients() -> None:
    with PlayedBroker() as played:
        played.inside.client_views = [ClientView("a", "", "", "MQTT 5", "", 0.0)]
        played.inside.is_complete = False
        async with _inside.clients() as watching:
            assert played.inside.viewers == 1
            assert (watching.total, watching.is_complete, watching.all()[0].id) == (1, False, "a")
        assert played.inside.viewers == 0
        assert await _inside.kick("a") and not await _inside.kick("b")
        assert played.inside.kicked == ["a", "b"]
        assert not _inside.restart(1)
        assert played.inside.restarted == [1]
