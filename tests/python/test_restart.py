"""Consumers that fail are started again, with what they had."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import pytest
from channels.layers import get_channel_layer
from django.db import OperationalError
from fake_bridge import FakeBridge, FakeClientMessage
from running import Start, master_of, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import restarts
from mqttasgi.runtime.restarts import restart_delay
from mqttasgi.runtime.service import Service


class Fragile(MqttConsumer):
    """Subscribes to what the test says, and fails when a message says so."""

    channel_layer_alias = "none"
    filters: tuple[str, ...] = ("in/#",)
    #: How often its connect() is to fail.
    refusals = 0
    runs: list[Fragile] = []  # noqa: RUF012
    says: list[str] = []  # noqa: RUF012

    async def connect(self) -> None:
        self.runs.append(self)
        for topic_filter in self.filters:
            await self.subscribe(topic_filter, 1)
        if Fragile.refusals:
            Fragile.refusals -= 1
            raise OSError("the lamp's cloud is away")
        self.says.append(f"connected {len(self.runs)}")

    async def receive(self, mqtt_message: Any) -> None:
        payload = mqtt_message["payload"].decode()
        self.says.append(payload)
        if payload == "raise":
            raise LookupError("there is no lamp")
        if payload == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async def disconnect(self) -> None:
        self.says.append("disconnected")
        await self.unsubscribe("in/#")


@pytest.fixture(autouse=True)
def forgets() -> None:
    Fragile.runs, Fragile.says, Fragile.filters, Fragile.refusals = [], [], ("in/#",), 0


def feed(bridge: FakeBridge, *payloads: str, handle: int = 1) -> None:
    for payload in payloads:
        bridge.deliver("in/x", payload.encode(), handle=handle)


def fails(number: int, bridge: FakeBridge) -> Callable[[], bool]:
    return lambda: bridge.text().count("ended with an error") == number


async def test_a_fresh_instance_handles_what_waits(bridge: FakeBridge, start: Start) -> None:
    await start(Fragile.as_asgi())
    feed(bridge, "1", "raise", "2", "3")
    await until(lambda: "3" in Fragile.says)
    assert Fragile.says == ["connected 1", "1", "raise", "disconnected", "connected 2", "2", "3"]
    assert Fragile.runs[0] is not Fragile.runs[1]
    assert bridge.subscriptions == {(1, "in/#"): 1}
    text = bridge.text()
    assert "(master, app_id 0) ended with an error handling a message on topic 'in/x'" in text
    assert "LookupError: there is no lamp" in text
    assert "is restarted in 0 s." in text
    assert "runs again." in text
    assert bridge.suspend_calls == 0


async def test_what_comes_meanwhile_is_kept(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where disconnect() unsubscribes, as it is told to in every example."""
    service = await start(Fragile.as_asgi())
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise")
    await until(fails(1, bridge))
    await settle()
    assert bridge.subscriptions == {(1, "in/#"): 1}
    feed(bridge, *map(str, range(100)))
    await until(lambda: not bridge.waiting)
    waiting = service.roster.by_handle[1]
    assert waiting.restart is not None
    waiting.restart.cancel()
    waiting.start()
    await until(lambda: "99" in Fragile.says)
    assert Fragile.says[4:] == list(map(str, range(100)))


async def test_subscriptions_that_are_not_made_again_end(bridge: FakeBridge, start: Start) -> None:
    Fragile.filters = ("in/#", "old")
    service = await start(Fragile.as_asgi())
    Fragile.filters = ("new", "in/#")
    feed(bridge, "raise")
    await until(lambda: "connected 2" in Fragile.says)
    await settle()
    assert set(bridge.subscriptions) == {(1, "in/#"), (1, "new")}
    assert set(service.roster.by_handle[1].subscriptions) == {"in/#", "new"}


async def test_connect_may_end_what_its_last_run_left(bridge: FakeBridge, start: Start) -> None:
    class Tidy(Fragile):
        async def connect(self) -> None:
            await self.unsubscribe("in/#")
            await super().connect()

    await start(Tidy.as_asgi())
    feed(bridge, "raise", "alive")
    await until(lambda: "alive" in Fragile.says)
    assert bridge.subscriptions == {(1, "in/#"): 1}


async def test_it_is_given_up_after_retries_in_a_row(bridge: FakeBridge, start: Start) -> None:
    """Those in which it could not even start."""
    service = await start(Fragile.as_asgi(), retries=2)
    Fragile.refusals = 2
    feed(bridge, "raise", "1")
    await until(lambda: "1" in Fragile.says)
    Fragile.refusals = 3
    feed(bridge, "raise", "2")
    await until(lambda: "is given up" in bridge.text())
    await settle()
    assert "has failed 3 times in a row before it got a message and is given up" in bridge.text()
    assert len(Fragile.runs) == 7
    assert "2" not in Fragile.says
    assert bridge.subscriptions == {}
    assert bridge.suspend_calls == 1
    assert not service.stopped


async def test_a_start_that_a_server_which_is_away_has_refused_is_no_failed_one(
    bridge: FakeBridge, start: Start
) -> None:
    class Database(Fragile):
        async def connect(self) -> None:
            try:
                await super().connect()
            except Exception as error:
                raise OperationalError("connection failed: Connection refused") from error

    await start(Database.as_asgi(), retries=2)
    Fragile.refusals = 10
    feed(bridge, "raise", "alive")
    await until(lambda: "alive" in Fragile.says)
    assert "is given up" not in bridge.text()


async def test_for_ever(bridge: FakeBridge, start: Start) -> None:
    await start(Fragile.as_asgi(), retries=0)
    Fragile.refusals = 50
    feed(bridge, "raise", "alive")
    await until(lambda: "alive" in Fragile.says)
    assert len(Fragile.runs) == 52


async def test_a_minute_of_health_forgives(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also a consumer of which nobody knows whether it gets any messages."""
    runs: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        runs.append(len(runs))
        waits = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waits.cancel()
        raise LookupError("there is no lamp")

    monkeypatch.setattr(restarts, "HEALTHY_AFTER", 0)
    await start(application, retries=1)
    await until(lambda: len(runs) == 5)
    assert "given up" not in bridge.text()
    monkeypatch.setattr(restarts, "HEALTHY_AFTER", 3600)
    await until(lambda: "is given up" in bridge.text())


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how many failures each pause was made so long."""
    seen: list[int] = []

    def delay(failures: int) -> float:
        seen.append(failures)
        return 0

    monkeypatch.setattr(restarts, "restart_delay", delay)
    return seen


@pytest.mark.parametrize("good", [1, 9])
async def test_a_device_with_broken_messages_costs_those_alone(
    bridge: FakeBridge, start: Start, failures: list[int], good: int
) -> None:
    await start(Fragile.as_asgi(), retries=1)
    expected = []
    for number in range(100):
        payloads = [f"{number}.{index}" for index in range(good)]
        feed(bridge, *payloads, "raise")
        expected += payloads
        await until(fails(number + 1, bridge))
    await until(lambda: len(Fragile.runs) == 101)
    handled = [said for said in Fragile.says if "." in said]
    assert handled == expected
    assert failures == [1] * 100
    assert "is given up" not in bridge.text()


async def test_messages_that_are_all_broken(bridge: FakeBridge, start: Start, failures: list[int]) -> None:
    """They never cost the consumer; the pause grows."""
    await start(Fragile.as_asgi(), retries=1)
    feed(bridge, "good", *["raise"] * 20, "alive")
    await until(lambda: "alive" in Fragile.says)
    assert failures == list(range(1, 21))
    feed(bridge, "raise", "alive again")
    await until(lambda: "alive again" in Fragile.says)
    assert failures[20:] == [1]


async def test_a_connect_that_fails_sometimes(bridge: FakeBridge, start: Start, failures: list[int]) -> None:
    class Flaky(Fragile):
        async def connect(self) -> None:
            await super().connect()
            # The first and each third from then on succeed.
            if len(self.runs) % 3 != 1:
                raise OSError("the lamp's cloud is away")

    await start(Flaky.as_asgi())
    for number in range(20):
        feed(bridge, f"good {number}", "raise")
        await until(lambda number=number: len(Fragile.runs) == 3 * number + 4)  # type: ignore[misc]
    assert failures == [1, 2, 3] * 20
    assert [said for said in Fragile.says if "good" in said] == [f"good {number}" for number in range(20)]


async def test_a_consumer_that_cannot_even_start(bridge: FakeBridge, start: Start) -> None:
    class Broken(Fragile):
        async def connect(self) -> None:
            await super().connect()
            if len(self.runs) > 1:
                raise OSError("the lamp's cloud is away")

    await start(Broken.as_asgi())
    feed(bridge, "good", "raise", "never")
    await until(lambda: "has failed 4 times in a row" in bridge.text())
    assert len(Fragile.runs) == 5
    assert "never" not in Fragile.says


async def test_a_client_of_which_the_consumer_cannot_be_told(
    bridge: FakeBridge, start: Start, failures: list[int]
) -> None:
    """As with messages: the others count as handled."""

    class Watches(Fragile):
        async def client_connected(self, client: Any) -> None:
            self.says.append(client["id"])
            if client["id"] == "bad":
                raise LookupError("there is no lamp")

    await start(Watches.as_asgi(), retries=1)
    for number in range(10):
        for client_id in ("good", "bad"):
            bridge.give((1, FakeClientMessage({"id": client_id}), 0))
        await until(fails(number + 1, bridge))
    await until(lambda: len(Fragile.runs) == 11)
    assert failures == [1] * 10


def test_the_delay_doubles_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "RESTART_DELAY", 1.0)
    assert [restart_delay(failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert restart_delay(10**6) == 30


async def test_a_cancelled_consumer_is_one_that_failed(bridge: FakeBridge, start: Start) -> None:
    await start(Fragile.as_asgi())
    feed(bridge, "cancel", "after")
    await until(lambda: "after" in Fragile.says)
    assert "was cancelled" in bridge.text()


async def test_a_worker_is_restarted_with_its_parameters(bridge: FakeBridge, start: Start) -> None:
    service = await start(Fragile.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Fragile", {"room": "hall"})
    await until(lambda: len(Fragile.runs) == 2)
    feed(bridge, "raise", "worked", handle=2)
    await until(lambda: "worked" in Fragile.says)
    scope = Fragile.runs[-1].scope
    assert (scope["app_id"], scope["instance_type"], scope["room"]) == (7, "worker", "hall")
    assert "(worker, app_id 7) ended with an error" in bridge.text()


async def waiting_worker(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> Service:
    service: Service = await start(Fragile.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Fragile")
    await until(lambda: len(Fragile.runs) == 2)
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise", handle=2)
    await until(fails(1, bridge))
    return service


async def test_a_worker_can_be_killed_while_it_waits(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = await waiting_worker(bridge, start, monkeypatch)
    with pytest.raises(ValueError, match="is taken"):
        service.workers.spawn(master_of(service), 7, f"{__name__}.Fragile")
    service.workers.kill(master_of(service), 7)
    assert set(bridge.subscriptions) == {(1, "in/#")}
    service.workers.spawn(master_of(service), 7, f"{__name__}.Fragile")
    await until(lambda: len(Fragile.runs) == 3)
    assert set(bridge.subscriptions) == {(1, "in/#"), (3, "in/#")}


async def test_the_end_does_not_wait_for_it(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = await waiting_worker(bridge, start, monkeypatch)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert bridge.subscriptions == {}
    assert Fragile.says.count("disconnected") == 2


async def test_what_is_left_of_a_failed_one_gets_nothing(bridge: FakeBridge, start: Start) -> None:
    """A task that it has left running neither takes messages nor subscribes."""
    thieves: list[asyncio.Task[Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "mqtt.sub", "mqtt": {"topic": "in/#", "qos": 1}})
        first = not thieves
        if first:

            async def steal() -> Any:
                return await receive()

            thieves.append(asyncio.ensure_future(steal()))
            await asyncio.sleep(0)
            raise LookupError("there is no lamp")
        Fragile.says.append((await receive())["mqtt"]["payload"].decode())
        with pytest.raises(RuntimeError, match="has ended"):
            await old_send({"type": "mqtt.sub", "mqtt": {"topic": "x", "qos": 1}})
        Fragile.says.append("done")
        await receive()

    sends: list[Any] = []

    async def remembering(scope: Any, receive: Any, send: Any) -> None:
        sends.append(send)
        await application(scope, receive, send)

    async def old_send(event: Any) -> None:
        await sends[0](event)

    await start(remembering)
    feed(bridge, "mine")
    await until(lambda: "done" in Fragile.says)
    assert Fragile.says == ["mine", "done"]
    assert not thieves[0].done()
    thieves[0].cancel()


class Spawns(Fragile):
    """Spawns a worker as the documentation's masters do, with the parameters that the test says."""

    parameters: dict[str, Any] = {}  # noqa: RUF012

    async def connect(self) -> None:
        await super().connect()
        await self.spawn_worker(7, f"{__name__}.Fragile", self.parameters)


async def test_a_master_finds_its_workers_again(
    bridge: FakeBridge,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connect() spawns them as before: who is there goes on, with other parameters anew."""
    service = await start(Spawns.as_asgi())
    await until(lambda: len(Fragile.runs) == 2)
    feed(bridge, "raise")
    await until(lambda: len(Fragile.runs) == 3)
    feed(bridge, "still there", handle=2)
    await until(lambda: "still there" in Fragile.says)
    with pytest.raises(ValueError, match="is taken"):
        service.workers.spawn(master_of(service), 7, f"{__name__}.Fragile", {})
    monkeypatch.setattr(Spawns, "parameters", {"room": "hall"})
    feed(bridge, "raise")
    await until(lambda: len(Fragile.runs) == 5)
    assert Fragile.runs[-1].scope["room"] == "hall"
    assert set(bridge.subscriptions) == {(1, "in/#"), (3, "in/#")}
    assert "is given up" not in bridge.text()


class Layered(MqttConsumer):
    """Fails at an event of its channel layer, while a message waits."""

    says: list[str] = []  # noqa: RUF012

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)
        assert self.channel_layer is not None
        await self.channel_layer.group_add("lights", self.channel_name)

    async def receive(self, mqtt_message: Any) -> None:
        self.says.append(mqtt_message["payload"].decode())

    async def lights_fail(self, event: Any) -> None:
        self.says.append("fails")
        await asyncio.sleep(0.01)
        raise LookupError("there is no lamp")

    async def lights_wait(self, event: Any) -> None:
        self.says.append("waits")
        await asyncio.Event().wait()


async def test_a_message_that_waited_for_the_layers_event(bridge: FakeBridge, start: Start) -> None:
    """It is not named as what the consumer failed at, and its next run gets it."""
    Layered.says.clear()
    await start(Layered.as_asgi())
    await get_channel_layer().group_send("lights", {"type": "lights.fail"})
    await until(lambda: Layered.says == ["fails"])
    feed(bridge, "1", "2")
    await until(fails(1, bridge))
    assert "ended with an error:" in bridge.text()
    await until(lambda: Layered.says == ["fails", "1", "2"])


async def test_events_of_the_layer_count_as_handled(
    bridge: FakeBridge, start: Start, failures: list[int]
) -> None:
    class Mixed(Layered):
        async def lights_on(self, event: Any) -> None:
            self.says.append("on")

    Layered.says.clear()
    await start(Mixed.as_asgi(), retries=1)
    feed(bridge, "1")
    await until(lambda: Layered.says == ["1"])
    for number in range(5):
        await get_channel_layer().group_send("lights", {"type": "lights.on"})
        await get_channel_layer().group_send("lights", {"type": "lights.fail"})
        await until(fails(number + 1, bridge))
        await until(lambda number=number: bridge.text().count("runs again") == number + 1)  # type: ignore[misc]
    assert failures == [1] * 5
    # It has handled a message before, which is not what it failed at.
    assert "handling a message" not in bridge.text()


async def test_a_message_that_waited_when_all_tasks_were_cancelled(bridge: FakeBridge, start: Start) -> None:
    """The next run gets that one, too."""
    Layered.says.clear()
    mine = asyncio.current_task()
    await start(Layered.as_asgi())
    await get_channel_layer().group_send("lights", {"type": "lights.wait"})
    await until(lambda: Layered.says == ["waits"])
    feed(bridge, "1", "2")
    await settle()
    for task in asyncio.all_tasks() - {mine}:
        task.cancel()
    await until(fails(1, bridge))
    assert "CancelledError: its task was cancelled" in bridge.text()
    await until(lambda: Layered.says == ["waits", "1", "2"])


async def test_one_that_fails_before_it_receives_is_told_to_connect_once(
    bridge: FakeBridge, start: Start
) -> None:
    received: list[str] = []
    runs: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        runs.append(len(runs))
        if len(runs) == 2:
            raise LookupError("there is no lamp")
        while True:
            received.append((await receive())["type"])
            if len(runs) == 1 and len(received) == 2:
                raise LookupError("there is no lamp")

    await start(application)
    feed(bridge, "raise", "2")
    await until(lambda: len(received) == 4)
    assert received == ["mqtt.connect", "mqtt.msg", "mqtt.connect", "mqtt.msg"]


async def test_what_a_run_leaves_behind_changes_nothing_of_the_next(bridge: FakeBridge, start: Start) -> None:
    service = await start(Fragile.as_asgi())
    left, run = Fragile.runs[0], master_of(service)
    feed(bridge, "raise", "raise")
    await until(lambda: "connected 3" in Fragile.says)
    failures = service.roster.by_handle[1].failures
    with pytest.raises(RuntimeError, match="has ended and cannot subscribe"):
        await left.subscribe("more", 0)
    await left.unsubscribe("in/#")
    assert bridge.subscriptions == {(1, "in/#"): 1}
    # A task of it that receives gets nothing, and does not count as an event that was handled.
    again = asyncio.ensure_future(run.receive())
    await settle()
    assert service.roster.by_handle[1].failures == failures == 2
    feed(bridge, "alive")
    await until(lambda: "alive" in Fragile.says)
    assert not again.done()
    again.cancel()


async def test_a_worker_killed_before_it_is_back_disconnects(bridge: FakeBridge, start: Start) -> None:
    may = asyncio.Event()

    class Slow(Fragile):
        async def connect(self) -> None:
            if self.runs:
                await may.wait()
            await super().connect()

    service = await start(Slow.as_asgi())
    may.set()
    globals()["Slow"] = Slow
    service.workers.spawn(master_of(service), 7, f"{__name__}.Slow")
    await until(lambda: "connected 2" in Fragile.says)
    may.clear()
    feed(bridge, "raise", handle=2)
    await until(lambda: service.roster.by_handle[2].runs == 2)
    await settle()
    service.workers.kill(master_of(service), 7)
    may.set()
    await until(lambda: Fragile.says.count("disconnected") == 2)
    await settle()
    assert bridge.text().count("ended with an error") == 1
    assert list(service.roster.by_handle) == [1]
    del globals()["Slow"]
