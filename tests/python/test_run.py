"""What a run receives and sends: properties, options of subscriptions, identifiers, clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

import pytest
from fake_bridge import FakeBridge, FakeClientMessage, FakeMessage
from running import ALL, Start, consumer_that_has_ended, master_of, settle, until

from mqttasgi.consumers import MqttConsumer


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
    async def watch_and_raise(self: Any) -> None:
        await watch(self)
        raise RuntimeError("as told")

    service = await start(Receives.as_asgi(), retries=1)
    do[b"connect"] = watch
    for app_id in (1, 2):
        service.workers.spawn(master_of(service), app_id, f"{__name__}.Receives")
    await until(lambda: bridge.watchers == [2, 3])
    if how == "killed":
        service.workers.kill(master_of(service), 1)
        assert bridge.watchers == [3]
    else:
        do[b"connect"] = watch_and_raise
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
    ended = await consumer_that_has_ended(bridge, start)
    with pytest.raises(RuntimeError, match="has ended and cannot watch clients"):
        await ended.watch_clients()
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
