"""The service against a fake bridge: receiving, sending, workers, the end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from typing import Any, Callable

import pytest
from channels.exceptions import StopConsumer
from fake_bridge import FakeBridge, FakeClientMessage, FakeMessage
from running import Start, master_of, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import logs

#: Everybody's handle in "hold" and "release".
ALL = 0


class Echo(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("out", mqtt_message["payload"], qos=mqtt_message["qos"])

    async def disconnect(self) -> None:
        await self.publish("gone", "bye", qos=0)


class Worker(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(f"device/{self.scope['device_id']}", 1)
        await self.publish("hello", f"{self.scope['app_id']} {self.scope['instance_type']}")

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"spawn":
            await self.spawn_worker(99, f"{__name__}.Worker", {})
        elif mqtt_message["payload"] == b"raise":
            raise RuntimeError("as told")
        await self.publish("worked", mqtt_message["payload"])

    async def disconnect(self) -> None:
        await self.publish("bye", str(self.scope["app_id"]))


class Master(MqttConsumer):
    async def connect(self) -> None:
        for app_id in (1, 2):
            path = f"{__name__}{':' if app_id == 1 else '.'}Worker"
            await self.spawn_worker(app_id=app_id, consumer_path=path, consumer_params={"device_id": app_id})

    async def receive(self, mqtt_message: Any) -> None: ...


async def test_verbosity_changes_between_two_messages(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(logs, "set_verbosity", seen.append)
    await start(Echo.as_asgi())
    bridge.control("verbosity", 0, 2)
    bridge.give((1, FakeMessage("in/a", b"after", 0), 0))
    await until(lambda: bool(bridge.published))
    assert seen == [2]


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
    service.workers.spawn(master, 1, f"{__name__}:Worker", {"device_id": 11})
    await until(
        lambda: ("bye", b"1", 1, False) in bridge.published and (4, "device/11") in bridge.subscriptions
    )
    assert "error" not in bridge.text()


async def test_who_may_spawn_and_kill_what(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi())
    master, worker = master_of(service), service.roster.by_app_id[1].run
    with pytest.raises(PermissionError, match="only the master"):
        service.workers.spawn(worker, 5, f"{__name__}:Worker", {})
    with pytest.raises(PermissionError, match="only the master"):
        service.workers.kill(worker, 2)
    with pytest.raises(ValueError, match="app_id 2 is taken"):
        service.workers.spawn(master, 2, f"{__name__}:Worker", {})
    for nobody in (7, 0, "1"):
        with pytest.raises(ValueError, match="no worker with app_id"):
            service.workers.kill(master, nobody)


async def test_a_worker_that_is_given_up_ends_alone(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    for _ in range(2):
        bridge.deliver("device/1", b"raise", handle=2)
    await until(lambda: 1 not in service.roster.by_app_id)
    assert bridge.subscriptions == {(3, "device/2"): 1}
    text = bridge.text()
    assert "Worker (worker, app_id 1) has failed 2 times in a row and is given up." in text
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
    late: list[Any] = []

    class Leaves(Echo):
        async def mqtt_disconnect(self, event: Any) -> None:
            late.append(self)
            await super().mqtt_disconnect(event)

    service = await start(Leaves.as_asgi())
    bridge.control("stop")
    await until(lambda: service.stopped)
    with pytest.raises(RuntimeError, match="has ended and cannot subscribe"):
        await late[0].subscribe("more", 0)


# ---- properties, subscription options, identifiers ----


class Receives(MqttConsumer):
    """Writes down what it receives and is told of; a payload that is a method's name has it called."""

    channel_layer_alias = "none"
    events: list[Any]
    do: dict[bytes, Callable[[Any], Awaitable[None]]]

    async def connect(self) -> None:
        await self.do[b"connect"](self)

    async def receive(self, mqtt_message: Any) -> None:
        self.events.append(mqtt_message)
        if mqtt_message["payload"] in self.do:
            await self.do[mqtt_message["payload"]](self)

    async def client_connected(self, client: Any) -> None:
        self.events.append(("connected", client))

    async def client_disconnected(self, client: Any, reason: Any) -> None:
        self.events.append(("disconnected", client, reason))
        if client["id"] == "bad":
            raise RuntimeError("as told")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    events: list[Any] = []
    monkeypatch.setattr(Receives, "events", events, raising=False)
    return events


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Any]:
    async def nothing(self: Any) -> None: ...

    do: dict[bytes, Any] = {b"connect": nothing}
    monkeypatch.setattr(Receives, "do", do, raising=False)
    return do


async def test_who_publishes_and_with_what_properties(
    bridge: FakeBridge, start: Start, do: dict[bytes, Any]
) -> None:
    async def connect(self: Any) -> None:
        await self.publish("a", b"")
        await self.publish("a", b"", properties={})
        await self.publish("a", "text", properties={"payload_format_indicator": 1, "content_type": "c"})

    do[b"connect"] = connect
    service = await start(Receives.as_asgi())
    assert bridge.published_with == [(1, b""), (1, b""), (1, b"\x01\x01\x03\x00\x01c")]
    service.workers.spawn(master_of(service), 5, f"{__name__}.Receives")
    await until(lambda: len(bridge.published) == 6)
    assert [handle for handle, _ in bridge.published_with[3:]] == [2, 2, 2]


async def test_wrong_properties_and_options_raise_in_the_consumer(
    bridge: FakeBridge, start: Start, do: dict[bytes, Any]
) -> None:
    errors: list[str] = []

    async def connect(self: Any) -> None:
        for attempt in (
            self.publish("a", b"", properties=[]),
            self.publish("a", b"", properties={"content_type": 7}),
            self.publish("a", b"\xff", properties={"payload_format_indicator": 1}),
            self.publish("a", "x", properties={"subscription_identifier": 7}),
            self.subscribe("a", 0, no_local="yes"),
            self.subscribe("a", 0, retain_handling=3),
            self.subscribe("a", 0, subscription_identifier=0),
            self.subscribe("$share/g/a", 0, no_local=True),
        ):
            try:
                await attempt
            except (TypeError, ValueError) as error:
                errors.append(type(error).__name__)

    do[b"connect"] = connect
    service = await start(Receives.as_asgi())
    assert errors == ["TypeError", "TypeError", "ValueError", "ValueError", "TypeError"] + ["ValueError"] * 3
    assert bridge.published == []
    assert bridge.subscriptions == {}
    assert service.roster.by_app_id[0].subscriptions.options == {}
    assert service.roster.by_app_id[0].subscriptions.identifiers == {}


async def test_subscription_options_reach_the_broker_as_their_byte(
    bridge: FakeBridge, start: Start, do: dict[bytes, Any]
) -> None:
    async def connect(self: Any) -> None:
        await self.subscribe("a", 2)
        await self.subscribe("b", 1, no_local=True, retain_as_published=True, retain_handling=2)
        await self.subscribe("c", 0, retain_handling=1, subscription_identifier=9)

    do[b"connect"] = connect
    await start(Receives.as_asgi())
    assert bridge.subscriptions == {(1, "a"): 2, (1, "b"): 0b10_11_01, (1, "c"): 9 << 8 | 0b01_00_00}


async def test_messages_have_their_properties_and_the_identifiers_of_the_subscriptions(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any]
) -> None:
    async def connect(self: Any) -> None:
        await self.subscribe("#", 1)

    async def identify(self: Any) -> None:
        await self.subscribe("a/#", 1, subscription_identifier=8)
        await self.subscribe("a/+", 1, subscription_identifier=2)

    async def replace(self: Any) -> None:
        await self.subscribe("a/+", 1, subscription_identifier=9)

    async def remove(self: Any) -> None:
        await self.subscribe("a/+", 1)
        await self.unsubscribe("a/#")

    do.update({b"connect": connect, b"identify": identify, b"replace": replace, b"remove": remove})
    await start(Receives.as_asgi())
    theirs: dict[str, Any] = {"content_type": "x"}
    for number, payload in enumerate((b"identify", b"replace", b"remove", b"end"), 1):
        bridge.deliver("a/b", payload, properties=theirs)
        bridge.deliver("b", b"other")
        await until(lambda: len(events) == 2 * number)  # noqa: B023
    assert [
        event["properties"].get("subscription_identifier") for event in events if event["topic"] != "b"
    ] == [
        None,
        [2, 8],
        [8, 9],
        None,
    ]
    assert all(event["properties"] == {} for event in events if event["topic"] == "b")
    assert all(event["properties"]["content_type"] == "x" for event in events if event["topic"] != "b")
    assert events[0]["client"] is None
    assert theirs == {"content_type": "x"}


async def test_a_retained_message_has_the_identifier_of_the_subscription_that_it_comes_for(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any]
) -> None:
    async def connect(self: Any) -> None:
        await self.subscribe("a/#", 1, subscription_identifier=8)
        await self.subscribe("a/+", 1, subscription_identifier=2)
        await self.subscribe("+/b", 1)

    do[b"connect"] = connect
    await start(Receives.as_asgi())
    kept = FakeMessage("a/b", b"kept", 1, retain=True)
    bridge.give((1, kept, 8 << 8 | 1))
    bridge.give((1, kept, 1))
    await until(lambda: len(events) == 2)
    assert [event["properties"] for event in events] == [{"subscription_identifier": [8]}, {}]


# ---- clients ----

LAMP: Any = {"id": "lamp", "username": None}


async def watch(self: Any) -> None:
    await self.watch_clients()


async def test_watching_is_in_force_when_it_returns(
    bridge: FakeBridge, start: Start, do: dict[bytes, Any]
) -> None:
    bridge.answer_at_once = False
    do[b"connect"] = watch
    starting = asyncio.ensure_future(start(Receives.as_asgi()))
    await until(lambda: bool(bridge.unanswered))
    await settle()
    assert bridge.watchers == [1]
    assert not bridge.has_started
    bridge.control("answer", bridge.unanswered[0])
    await starting
    assert bridge.has_started


async def test_no_memory_to_watch_with_is_an_error(
    bridge: FakeBridge, start: Start, do: dict[bytes, Any]
) -> None:
    bridge.answer_at_once = False
    do[b"connect"] = watch
    starting = asyncio.ensure_future(start(Receives.as_asgi()))
    await until(lambda: bool(bridge.unanswered))
    bridge.control("answer", bridge.unanswered[0], 1)
    await starting
    assert "MemoryError: the broker had no memory to tell" in bridge.text()


async def test_who_watches_is_told_between_messages_in_order(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any]
) -> None:
    do[b"connect"] = watch
    await start(Receives.as_asgi())
    reason = {"code": 0x8D, "session_ends": False}
    bridge.deliver("a", b"1")
    bridge.give((1, FakeClientMessage(LAMP), 0))
    bridge.deliver("a", b"2")
    bridge.give((1, FakeClientMessage(LAMP, reason), 0))
    bridge.give((1, FakeClientMessage(LAMP, {"code": None, "session_ends": None}), 0))
    await until(lambda: len(events) == 5)
    assert events[0]["payload"] == b"1"
    assert events[1] == ("connected", LAMP)
    assert events[2]["payload"] == b"2"
    assert events[3] == (
        "disconnected",
        LAMP,
        {"code": 0x8D, "name": "Keep Alive timeout", "session_ends": False},
    )
    assert events[4] == ("disconnected", LAMP, {"code": None, "name": "unknown", "session_ends": None})
    assert reason == {"code": 0x8D, "session_ends": False}


async def test_word_of_a_client_is_held_with_everybodys_messages(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any]
) -> None:
    """Who hears that a client is gone has heard all that it had to say, its last will included."""
    do[b"connect"] = watch
    await start(Receives.as_asgi())
    bridge.control("hold", ALL, 1)
    bridge.give((1, FakeClientMessage(LAMP, {"code": 0x80, "session_ends": True}), 0))
    bridge.deliver("will", b"gone", session=True)
    await until(lambda: len(events) == 1)
    assert events[0]["topic"] == "will"
    bridge.control("release", ALL, 1)
    await until(lambda: len(events) == 2)
    assert events[1][:2] == ("disconnected", LAMP)


@pytest.mark.parametrize("where", ["client", "disconnect"])
async def test_the_log_names_no_topic_where_no_message_was_handled(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any], where: str
) -> None:
    class Ends(Receives):
        async def disconnect(self) -> None:
            raise RuntimeError("as told")

    service = await start(Ends.as_asgi())
    bridge.deliver("a", b"1")
    if where == "client":
        bridge.give((1, FakeClientMessage({"id": "bad"}, {"code": 0, "session_ends": True}), 0))
    else:
        bridge.control("stop")
    await until(lambda: "RuntimeError: as told" in bridge.text())
    assert service.beginning.has_started
    assert events[0]["topic"] == "a"
    assert "ended with an error:" in bridge.text()
    assert "topic" not in bridge.text().splitlines()[0]


@pytest.mark.parametrize("how", ["killed", "fails"])
async def test_a_worker_that_is_gone_watches_no_more(
    bridge: FakeBridge, start: Start, events: list[Any], do: dict[bytes, Any], how: str
) -> None:
    service = await start(Receives.as_asgi(), retries=1)
    do[b"connect"] = watch
    for app_id in (1, 2):
        service.workers.spawn(master_of(service), app_id, f"{__name__}.Receives")
    await until(lambda: bridge.watchers == [2, 3])
    if how == "killed":
        service.workers.kill(master_of(service), 1)
        assert bridge.watchers == [3]
    else:
        for _ in range(2):
            bridge.give((2, FakeClientMessage({"id": "bad"}, {"code": 0, "session_ends": True}), 0))
    await until(lambda: 2 not in service.roster.by_handle)
    assert bridge.watchers == [3]
    # What was on its way meanwhile is for nobody.
    bridge.give((2, FakeClientMessage(LAMP), 0))
    bridge.give((3, FakeClientMessage(LAMP), 0))
    await until(lambda: not bridge.waiting)
    await settle()
    assert [event for event in events if event[0] == "connected"] == [("connected", LAMP)]


async def test_watching_cannot_outlive_its_consumer(bridge: FakeBridge, start: Start) -> None:
    late: list[Any] = []

    class Leaves(Echo):
        async def mqtt_disconnect(self, event: Any) -> None:
            late.append(self)
            await super().mqtt_disconnect(event)

    service = await start(Leaves.as_asgi())
    bridge.control("stop")
    await until(lambda: service.stopped)
    with pytest.raises(RuntimeError, match="has ended and cannot watch clients"):
        await late[0].watch_clients()
    assert bridge.watchers == []


async def test_plain_applications_have_it_all_too(bridge: FakeBridge, start: Start) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "mqtt.client.watch"})
        await send(
            {
                "type": "mqtt.sub",
                "mqtt": {
                    "topic": "a",
                    "qos": 1,
                    "no_local": True,
                    "retain_as_published": False,
                    "subscription_identifier": 3,
                },
            }
        )
        await send(
            {
                "type": "mqtt.pub",
                "mqtt": {"topic": "a", "payload": b"", "properties": {"message_expiry_interval": 1}},
            }
        )
        while True:
            seen.append(await receive())

    await start(application)
    assert bridge.watchers == [1]
    assert bridge.subscriptions == {(1, "a"): 3 << 8 | 5}
    assert bridge.published_with == [(1, b"\x02\x00\x00\x00\x01")]
    bridge.give((1, FakeClientMessage(LAMP), 0))
    bridge.deliver("a", b"1")
    await until(lambda: len(seen) == 2)
    assert seen[0] == {"type": "mqtt.client.connect", "mqtt": {"client": LAMP}}
    assert seen[1]["mqtt"]["properties"] == {"subscription_identifier": [3]}


# ---- two lanes ----


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


@pytest.mark.parametrize("holds", [[], [2], [ALL], [ALL, 2]])
async def test_a_worker_that_fails_while_held_keeps_no_message(
    bridge: FakeBridge, start: Start, holds: list[int]
) -> None:
    """Messages count towards the queue's bound while they live, and a traceback is kept until a collection."""
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    gc.disable()
    try:
        for _ in range(2):
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


# ---- settled and suspended ----


class Connecting(MqttConsumer):
    """Its connect() goes on when a test says so."""

    channel_layer_alias = "none"
    may: dict[Any, asyncio.Future[str]]

    async def connect(self) -> None:
        how = await self.may.setdefault(self.scope["app_id"], asyncio.get_running_loop().create_future())
        if how == "raises":
            raise RuntimeError("as told")
        if how == "ends":
            raise StopConsumer


class SpawnsTwo(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        for app_id in (1, 2):
            await self.spawn_worker(app_id, f"{__name__}.Connecting", {})


@pytest.fixture
def may(monkeypatch: pytest.MonkeyPatch) -> dict[Any, asyncio.Future[str]]:
    may: dict[Any, asyncio.Future[str]] = {}
    monkeypatch.setattr(Connecting, "may", may, raising=False)
    return may


async def test_a_master_alone_is_settled_once_it_has_connected(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    assert (bridge.has_started, bridge.settled_calls) == (True, 1)
    assert bridge.summary.startswith("1 consumer, 1 filter. mqttasgi ")
    bridge.deliver("in/x", b"1")
    await until(lambda: bool(bridge.published))
    assert bridge.settled_calls == 1


@pytest.mark.parametrize("last", ["returns", "raises", "ends", "killed"])
async def test_settled_when_every_worker_has_connected_or_ended(
    bridge: FakeBridge, start: Start, may: dict[Any, asyncio.Future[str]], last: str
) -> None:
    service = await start(SpawnsTwo.as_asgi())
    await until(lambda: len(may) == 2)
    assert bridge.has_started
    may[2].set_result("returns")
    await settle()
    assert bridge.settled_calls == 0
    if last == "killed":
        service.workers.kill(master_of(service), 1)
        await settle()
        assert bridge.settled_calls == 0
    may[1].set_result("returns" if last == "killed" else last)
    await until(lambda: bridge.settled_calls == 1)
    # A worker of later days changes nothing.
    service.workers.spawn(master_of(service), 3, f"{__name__}.Connecting", {})
    await until(lambda: 3 in may)
    may[3].set_result("returns")
    await settle()
    assert bridge.settled_calls == 1
    assert bridge.suspend_calls == 0


async def test_not_settled_before_the_master_has_connected(bridge: FakeBridge, start: Start) -> None:
    bridge.answer_at_once = False

    class Slow(MqttConsumer):
        channel_layer_alias = "none"

        async def connect(self) -> None:
            await self.spawn_worker(1, f"{__name__}.Spawned", {})
            await self.subscribe("a", 0)

    starting = asyncio.ensure_future(start(Slow.as_asgi()))
    await until(lambda: bool(bridge.unanswered))
    await settle()
    assert (bridge.has_started, bridge.settled_calls) == (False, 0)
    bridge.control("answer", bridge.unanswered[0])
    await starting
    assert bridge.settled_calls == 1


class Spawned(MqttConsumer):
    channel_layer_alias = "none"


class Fails(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("a", 1)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"end":
            raise StopConsumer
        raise RuntimeError("as told")

    async def disconnect(self) -> None:
        raise RuntimeError("also at the end")


async def test_suspended_when_the_master_fails_before_its_subscriptions_end(
    bridge: FakeBridge, start: Start
) -> None:
    await start(Fails.as_asgi(), retries=1)
    for _ in range(2):
        bridge.deliver("a", b"fail")
    await until(lambda: not bridge.subscriptions)
    assert bridge.suspend_calls == 1
    assert bridge.subscriptions_at_suspend == {(1, "a"): 1}


@pytest.mark.parametrize("how", ["returns", "fails at stop"])
async def test_not_suspended_when_the_master_ends_otherwise(
    bridge: FakeBridge, start: Start, how: str
) -> None:
    service = await start(Fails.as_asgi())
    if how == "returns":
        bridge.deliver("a", b"end")
        await until(lambda: not service.roster.by_handle)
    else:
        bridge.control("stop")
        await until(lambda: service.stopped)
        await until(lambda: "also at the end" in bridge.text())
    assert bridge.suspend_calls == 0


async def test_neither_when_the_master_fails_before_it_connected(bridge: FakeBridge, start: Start) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no lamp")

    service = await start(application)
    assert service.stopped
    assert (bridge.settled_calls, bridge.suspend_calls) == (0, 0)


async def test_a_worker_that_fails_suspends_nothing(bridge: FakeBridge, start: Start) -> None:
    service = await start(Master.as_asgi(), retries=1)
    await until(lambda: len(bridge.published) == 2)
    for _ in range(2):
        bridge.deliver("device/1", b"raise", handle=2)
    await until(lambda: 1 not in service.roster.by_app_id)
    assert bridge.suspend_calls == 0
