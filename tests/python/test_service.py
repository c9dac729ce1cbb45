"""The service against a fake bridge: receiving, sending, workers, the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_bridge import FakeBridge, FakeMessage
from running import Echo, Master, Start, Worker, consumer_that_has_ended, master_of, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import logs
from mqttasgi.runtime.lines import Lines


async def test_options_change_between_two_messages(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(logs, "set_verbosity", seen.append)
    monkeypatch.setattr(Lines, "set_rate", lambda self, rate: seen.append(rate))
    await start(Echo.as_asgi())
    bridge.control("options", 7, 2)
    bridge.give((1, FakeMessage("in/a", b"after", 0), 0))
    await until(lambda: bool(bridge.published))
    assert seen == [2, 7]


async def test_clients_are_let_in_once_connect_has_returned(bridge: FakeBridge, start: Start) -> None:
    bridge.answer_at_once = False
    starting = asyncio.ensure_future(start(Echo.as_asgi()))
    await until(lambda: bool(bridge.unanswered))
    assert not bridge.has_started
    bridge.control("answer", bridge.unanswered[0])
    await starting
    assert bridge.has_started
    assert bridge.subscriptions == {(1, "in/#"): 1}


async def test_messages_are_handled_in_order_and_answered(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    for number in range(1000):
        bridge.deliver("in/x", str(number).encode(), qos=number % 3)
    await until(lambda: len(bridge.published) == 1000)
    assert bridge.published == [("out", str(n).encode(), n % 3, False) for n in range(1000)]


async def test_publish_waits_while_the_queue_is_full(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.room = 3
    for number in range(5):
        bridge.deliver("in/x", str(number).encode())
    await until(lambda: len(bridge.published) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bridge.published) == 3
    bridge.room = 1000
    bridge.control("writable")
    await until(lambda: len(bridge.published) == 5)
    assert [payload for _, payload, _, _ in bridge.published] == [b"0", b"1", b"2", b"3", b"4"]


async def test_workers_get_their_parameters_and_messages(bridge: FakeBridge, start: Start) -> None:
    await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    assert sorted(payload for _, payload, _, _ in bridge.published) == [b"1 worker", b"2 worker"]
    assert bridge.subscriptions == {(2, "device/1"): 1, (3, "device/2"): 1}
    bridge.deliver("device/2", b"x", handle=3)
    await until(lambda: len(bridge.published) == 3)
    assert bridge.published[-1][:2] == ("worked", b"x")


async def test_a_killed_worker_says_goodbye_and_frees_its_id(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    master = master_of(service)
    bridge.deliver("device/1", b"last", handle=2)
    await until(lambda: len(bridge.published) == 3)
    service.workers.kill(master, 1)
    assert bridge.subscriptions == {(3, "device/2"): 1}
    service.workers.spawn(master, 1, "running:Worker", {"device_id": 11})
    await until(
        lambda: ("bye", b"1", 1, False) in bridge.published and (4, "device/11") in bridge.subscriptions
    )
    assert "error" not in bridge.text()


async def test_who_may_spawn_and_kill_what(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi())
    master, worker = master_of(service), service.roster.by_app_id[1].run
    with pytest.raises(PermissionError, match="only the master"):
        service.workers.spawn(worker, 5, "running:Worker", {})
    with pytest.raises(PermissionError, match="only the master"):
        service.workers.kill(worker, 2)
    with pytest.raises(ValueError, match="app_id 2 is taken"):
        service.workers.spawn(master, 2, "running:Worker", {})
    for nobody in (7, 0, "1"):
        with pytest.raises(ValueError, match="no worker with app_id"):
            service.workers.kill(master, nobody)


async def test_a_worker_that_is_given_up_ends_alone(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    monkeypatch.setattr(Worker, "broken", (1,))
    bridge.deliver("device/1", b"raise", handle=2)
    await until(lambda: 1 not in service.roster.by_app_id)
    assert bridge.subscriptions == {(3, "device/2"): 1}
    text = bridge.text()
    assert (
        "Worker (worker, app_id 1) has failed 2 times in a row before it got a message and is given" in text
    )
    assert "Worker (worker, app_id 1) ended with an error handling a message on topic 'device/1'" in text
    assert "RuntimeError: as told" in text
    bridge.deliver("device/2", b"fine", handle=3)
    await until(lambda: ("worked", b"fine", 1, False) in bridge.published)


async def test_a_worker_that_spawns_gets_the_error_at_the_call(bridge: FakeBridge, start: Start) -> None:
    await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    bridge.deliver("device/1", b"spawn", handle=2)
    await until(lambda: "PermissionError" in bridge.text())


async def test_wrong_arguments_raise_in_the_consumer(bridge: FakeBridge, start: Start) -> None:
    errors: list[BaseException] = []

    class Careless(MqttConsumer):
        async def connect(self) -> None:
            for attempt in (
                self.subscribe("a/#/b", 0),
                self.subscribe("a", 3),
                self.publish("a/+", b""),
                self.publish("a", {"not": "a payload"}),  # type: ignore[arg-type]
                self.publish("a", b"", qos="1"),  # type: ignore[arg-type]
                self.kill_worker(1),
                self.spawn_worker(1, "no_such_module.Consumer", {}),
                self.send({"type": "http.response.start"}),
            ):
                try:
                    await attempt
                except Exception as error:
                    errors.append(error)

    await start(Careless.as_asgi())
    assert [type(error).__name__ for error in errors] == [
        "ValueError",
        "ValueError",
        "ValueError",
        "TypeError",
        "TypeError",
        "ValueError",
        "ApplicationError",
        "ValueError",
    ]
    assert bridge.published == []
    assert bridge.subscriptions == {}


@pytest.mark.parametrize("has_session", [True, False])
async def test_shared_subscriptions_need_the_session(
    bridge: FakeBridge, start: Start, has_session: bool
) -> None:
    errors: list[str] = []

    class Sharing(MqttConsumer):
        async def connect(self) -> None:
            try:
                await self.subscribe("$share/g/a", 1)
            except ValueError as error:
                errors.append(str(error))
            await self.subscribe("$shared/a", 1)

    await start(Sharing.as_asgi(), has_session)
    if has_session:
        assert not errors
        assert bridge.subscriptions == {(1, "$share/g/a"): 1, (1, "$shared/a"): 1}
    else:
        assert "'$share/g/a'" in errors[0] and "set plugin_opt_session full" in errors[0]
        assert bridge.subscriptions == {(1, "$shared/a"): 1}


async def test_an_application_that_never_imports_this_package(bridge: FakeBridge, start: Start) -> None:
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        while True:
            event = await receive()
            seen.append(event)
            if event["type"] == "mqtt.connect":
                await send({"type": "mqtt.sub", "mqtt": {"topic": "a", "qos": 0}})
            elif event["type"] == "mqtt.msg":
                await send({"type": "mqtt.pub", "mqtt": {"topic": "b", "payload": b"1"}})
            else:
                await send({"type": "mqtt.usub", "mqtt": {"topic": "a"}})
                return

    service = await start(application)
    bridge.deliver("a", b"2")
    await until(lambda: bool(bridge.published))
    assert bridge.published == [("b", b"1", 1, False)]
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert [entry["type"] for entry in seen] == ["mqtt", "mqtt.connect", "mqtt.msg", "mqtt.disconnect"]
    assert seen[0]["app_id"] == 0
    assert seen[0]["instance_type"] == "master"
    assert bridge.subscriptions == {}


async def test_stop_lets_every_consumer_disconnect(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert {payload for topic, payload, _, _ in bridge.published if topic == "bye"} == {b"1", b"2"}
    assert bridge.subscriptions == {}


async def test_stop_does_not_wait_for_a_consumer_that_hangs(bridge: FakeBridge, start: Start) -> None:

    class Hanging(Echo):
        async def disconnect(self) -> None:
            await asyncio.Event().wait()

    service = await start(Hanging.as_asgi())
    service.farewell.seconds = 0.05
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert "did not finish its disconnect()" in bridge.text()


@pytest.mark.parametrize("ending", ["raises", "returns"])
async def test_a_master_that_ends_before_it_connected_ends_the_start(
    bridge: FakeBridge, start: Start, ending: str
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if ending == "raises":
            raise LookupError("no lamp")

    service = await start(application)
    assert service.stopped
    assert not bridge.has_started
    assert ("LookupError: no lamp" if ending == "raises" else "returned before") in bridge.text()


async def test_a_consumer_with_much_to_do_lets_others_have_a_turn(bridge: FakeBridge, start: Start) -> None:
    await start(Master.as_asgi())
    await until(lambda: len(bridge.published) == 2)
    for _ in range(200):
        bridge.deliver("device/1", b"many", handle=2)
    bridge.deliver("device/2", b"one", handle=3)
    await until(lambda: len(bridge.published) == 203)
    payloads = [payload for _, payload, _, _ in bridge.published[2:]]
    assert payloads.index(b"one") < 200


async def test_a_subscription_cannot_outlive_its_consumer(bridge: FakeBridge, start: Start) -> None:
    ended = await consumer_that_has_ended(bridge, start)
    with pytest.raises(RuntimeError, match="has ended and cannot subscribe"):
        await ended.subscribe("more", 0)
