"""MqttConsumer through MqttComunicator: events, the channel layer, the database, the reference's testing API."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import Group
from django.db import OperationalError

from mqttasgi import database
from mqttasgi._types import Client, DisconnectReason
from mqttasgi.consumers import MqttConsumer
from mqttasgi.testing import MqttCommunicator, MqttComunicator


class Lights(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("motion/+", qos=2)
        if self.channel_layer is not None:
            await self.channel_layer.group_add("lights", self.channel_name)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("light", mqtt_message["payload"].upper(), retain=True)

    async def disconnect(self) -> None:
        await self.unsubscribe("motion/+")

    async def lights_all(self, event: Any) -> None:
        await self.publish("all", event["text"], qos=0)


async def test_the_communicator_speaks_the_events_of_the_reference() -> None:
    communicator = MqttComunicator(Lights.as_asgi(), app_id=1)
    assert await communicator.connect() == {"type": "mqtt.sub", "mqtt": {"topic": "motion/+", "qos": 2}}
    await communicator.publish("motion/hall", b"on", qos=1)
    assert await communicator.receive_from() == {
        "type": "mqtt.pub",
        "mqtt": {"topic": "light", "payload": b"ON", "qos": 1, "retain": True},
    }
    await communicator.disconnect()
    assert await communicator.receive_output() == {"type": "mqtt.usub", "mqtt": {"topic": "motion/+"}}


async def test_the_communicator_takes_shared_subscriptions() -> None:
    class Sharing(MqttConsumer):
        async def connect(self) -> None:
            await self.subscribe("$share/group/motion/+", qos=1)

    communicator = MqttComunicator(Sharing.as_asgi(), app_id=1)
    assert (await communicator.connect())["mqtt"] == {"topic": "$share/group/motion/+", "qos": 1}
    await communicator.disconnect()


async def test_scope_and_alias() -> None:
    class Scoped(MqttConsumer):
        async def connect(self) -> None:
            scope = self.scope
            await self.publish(
                "scope", f"{scope['app_id']} {scope['instance_type']} {scope['room']} {scope['type']}"
            )

    assert MqttCommunicator is MqttComunicator
    communicator = MqttCommunicator(
        Scoped.as_asgi(), app_id=3, instance_type="master", consumer_parameters={"room": "hall"}
    )
    assert (await communicator.connect())["mqtt"]["payload"] == "3 master hall mqtt"
    await communicator.disconnect()


async def test_the_scope_has_mqttasgis_versions() -> None:
    class Scoped(MqttConsumer):
        async def connect(self) -> None:
            await self.publish("scope", self.scope["version"] + " " + self.scope["spec_version"])

    parameters = {"version": "of the parameters"}
    communicator = MqttCommunicator(Scoped.as_asgi(), app_id=3, consumer_parameters=parameters)
    assert (await communicator.connect())["mqtt"]["payload"] == "2.4 0.1"
    await communicator.disconnect()


@pytest.mark.parametrize("payload", ["text", b"bytes", bytearray(b"array"), 7, 1.5, None])
async def test_a_payload_stays_what_the_consumer_published(payload: Any) -> None:
    class Publisher(MqttConsumer):
        async def connect(self) -> None:
            await self.publish("x", payload)

    communicator = MqttCommunicator(Publisher.as_asgi(), app_id=1)
    given = (await communicator.connect())["mqtt"]["payload"]
    assert type(given) is type(payload)
    assert given == payload
    await communicator.disconnect()


def test_names_that_mqttasgi_has_here_too() -> None:
    """Projects import them from there."""
    from asgiref.sync import async_to_sync
    from channels import consumer, exceptions
    from channels.db import database_sync_to_async

    import mqttasgi.consumers as ours

    assert ours.async_to_sync is async_to_sync
    assert ours.database_sync_to_async is database_sync_to_async
    assert ours.AsyncConsumer is consumer.AsyncConsumer
    assert ours.SyncConsumer is consumer.SyncConsumer
    assert ours.StopConsumer is exceptions.StopConsumer


async def test_mqttasgis_consumer_to_try_it_out() -> None:
    from mqttasgi.consumers import TestMqttConsumer

    master = MqttCommunicator(TestMqttConsumer.as_asgi(), app_id=0, instance_type="master")
    assert (await master.connect())["mqtt"] == {"topic": "spawn", "qos": 2}
    assert (await master.receive_from())["mqtt"] == {"topic": "kill", "qos": 2}
    for topic in ("spawn", "kill"):
        await master.publish(topic, b"lamp", qos=2)
        told = await master.receive_from()
        assert told["type"] == f"mqttasgi.worker.{topic}"
        assert told["command"]["app_id"] == "lamp"
    await master.disconnect()
    worker = MqttCommunicator(TestMqttConsumer.as_asgi(), app_id="lamp")
    assert (await worker.connect())["mqtt"] == {"topic": "lamp", "qos": 2}
    assert (await worker.receive_from())["mqtt"] == {"topic": "workers", "qos": 2}
    await worker.disconnect()


@pytest.mark.parametrize("module", ["server", "utils"])
def test_modules_of_mqttasgi_that_are_not_here_say_what_to_do(module: str) -> None:
    with pytest.raises(ImportError, match="There is no mqttasgi\\." + module) as failure:
        importlib.import_module(f"mqttasgi.{module}")
    assert "docs/migrating.md" in str(failure.value)


async def test_a_consumer_that_sends_nothing_times_out() -> None:
    communicator = MqttComunicator(MqttConsumer.as_asgi(), app_id=1)
    with pytest.raises(asyncio.TimeoutError):
        await communicator.connect(timeout=0.01)


async def test_what_the_broker_would_refuse_the_communicator_refuses() -> None:
    class Wrong(MqttConsumer):
        async def connect(self) -> None:
            await self.publish("a/#", b"")

    communicator = MqttComunicator(Wrong.as_asgi(), app_id=1)
    with pytest.raises(ValueError, match="wildcard"):
        await communicator.connect()


# ---- properties, replies, options, clients ----


class Told(MqttConsumer):
    """Does what the test says in connect(), and writes down what it is told."""

    channel_layer_alias = "none"

    def __init__(self, act: Any = None) -> None:
        super().__init__()
        self.act = act
        self.told: list[Any] = []

    async def connect(self) -> None:
        await self.act(self)

    async def receive(self, mqtt_message: Any) -> None:
        self.told.append(mqtt_message)
        await self.publish("told", b"")

    async def client_connected(self, client: Client) -> None:
        self.told.append(client)
        await self.publish("told", b"")

    async def client_disconnected(self, client: Client, reason: DisconnectReason) -> None:
        self.told.append((client, reason))
        await self.publish("told", b"")


async def sent_by(act: Any) -> Any:
    """The first event that a consumer sends whose connect() is `act`; raises what that raises."""
    communicator = MqttComunicator(Told(act), app_id=1)
    await communicator.send_input({"type": "mqtt.connect"})
    sent = asyncio.ensure_future(communicator.output_queue.get())
    await asyncio.wait([sent, communicator.future], return_when=asyncio.FIRST_COMPLETED)
    if not sent.done():
        sent.cancel()
        communicator.future.result()
    communicator.stop(exceptions=False)
    return sent.result()


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": "text/plain", "user_property": [("a", "1"), ("a", "2")]},
        {},
    ],
)
async def test_properties_are_in_the_event_where_they_were_given(properties: Any) -> None:
    assert await sent_by(lambda self: self.publish("a", "b", properties=properties)) == {
        "type": "mqtt.pub",
        "mqtt": {"topic": "a", "payload": "b", "qos": 1, "retain": False, "properties": properties},
    }
    without = await sent_by(lambda self: self.publish("a", "b", properties=None))
    assert "properties" not in without["mqtt"]


async def test_a_wrong_property_raises_in_the_consumer() -> None:
    with pytest.raises(ValueError, match="unknown property 'reply_to'"):
        await sent_by(lambda self: self.publish("a", "b", properties={"reply_to": "c"}))
    with pytest.raises(ValueError, match="is not UTF-8"):
        await sent_by(lambda self: self.publish("a", b"\xff", properties={"payload_format_indicator": 1}))


async def test_what_was_sent_does_not_change_with_what_the_consumer_has() -> None:
    pairs = [("a", "1")]

    async def act(self: Any) -> None:
        properties = {"user_property": pairs, "correlation_data": bytearray(b"x")}
        await self.publish("a", "", properties=properties)
        pairs.append(("b", "2"))

    sent = await sent_by(act)
    assert sent["mqtt"]["properties"] == {"user_property": [("a", "1")], "correlation_data": b"x"}


REQUEST: Any = {
    "topic": "ask",
    "payload": b"?",
    "qos": 1,
    "retain": False,
    "properties": {"response_topic": "answer/7", "correlation_data": b"7", "content_type": "text/plain"},
    "client": None,
}


async def test_a_reply_goes_where_the_request_says() -> None:
    assert await sent_by(lambda self: self.reply(REQUEST, 42)) == {
        "type": "mqtt.pub",
        "mqtt": {
            "topic": "answer/7",
            "payload": 42,
            "qos": 1,
            "retain": False,
            # Its other properties are the request's own.
            "properties": {"correlation_data": b"7"},
        },
    }


async def test_a_reply_has_the_callers_properties_before_those_of_the_request() -> None:
    properties = {"correlation_data": b"8", "message_expiry_interval": 5}
    sent = await sent_by(lambda self: self.reply(REQUEST, b"", 2, True, properties))
    assert sent["mqtt"] == {
        "topic": "answer/7",
        "payload": b"",
        "qos": 2,
        "retain": True,
        "properties": properties,
    }
    properties = {"content_type": "a/b"}
    sent = await sent_by(lambda self: self.reply(REQUEST, b"", properties=properties))
    assert sent["mqtt"]["properties"] == {"correlation_data": b"7", "content_type": "a/b"}
    assert properties == {"content_type": "a/b"}


async def test_a_reply_to_a_request_without_correlation_data_has_none() -> None:
    request = {**REQUEST, "properties": {"response_topic": "answer"}}
    sent = await sent_by(lambda self: self.reply(request, b""))
    assert "properties" not in sent["mqtt"]


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({}, "message on topic 'ask' has no response_topic"),
        ({"correlation_data": b"7"}, "has no response_topic"),
        # The broker may let a client write what it likes.
        ({"response_topic": "answer/#"}, "wildcard '#'"),
    ],
)
async def test_where_there_is_nowhere_to_reply_to(properties: Any, said: str) -> None:
    request = {**REQUEST, "properties": properties}
    with pytest.raises(ValueError, match=said):
        await sent_by(lambda self: self.reply(request, b""))


async def test_options_are_in_the_event_where_they_are_not_the_default() -> None:
    defaults = {
        "no_local": False,
        "retain_as_published": False,
        "retain_handling": 0,
        "subscription_identifier": None,
    }
    plain = {"type": "mqtt.sub", "mqtt": {"topic": "a", "qos": 1}}
    assert await sent_by(lambda self: self.subscribe("a", 1, **defaults)) == plain
    others = {
        "no_local": True,
        "retain_as_published": True,
        "retain_handling": 2,
        "subscription_identifier": 268_435_455,
    }
    for name, value in others.items():
        sent = await sent_by(lambda self, given={name: value}: self.subscribe("a", 1, **given))
        assert sent["mqtt"] == {"topic": "a", "qos": 1, name: value}
    sent = await sent_by(lambda self: self.subscribe("a", 1, **others))
    assert sent["mqtt"] == {"topic": "a", "qos": 1, **others}


@pytest.mark.parametrize(
    "given",
    [{"no_local": 0}, {"retain_as_published": None}, {"retain_handling": False}, {"retain_handling": 0.0}],
)
async def test_a_wrong_type_is_not_taken_for_the_default(given: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(given))):
        await sent_by(lambda self: self.subscribe("a", 1, **given))


async def test_a_refused_subscription_is_not_among_the_subscribed() -> None:
    refused = []

    async def act(self: Any) -> None:
        refused.append(self)
        await self.subscribe("$share/g/a", 1, no_local=True)

    with pytest.raises(ValueError, match="no_local"):
        await sent_by(act)
    assert refused[0].subscribed_topics == set()


async def test_a_published_message_has_its_properties_and_its_client() -> None:
    async def act(self: Any) -> None:
        await self.subscribe("a", 1)

    consumer = Told(act)
    communicator = MqttComunicator(consumer, app_id=1)
    await communicator.connect()
    await communicator.publish("a", "x", 1)
    await communicator.publish(
        "a",
        "x",
        1,
        retain=True,
        properties={"user_property": [("n", "v")]},
        client={"id": "lamp", "username": "hall"},
    )
    for _ in range(2):
        await communicator.receive_from()
    plain = {
        "topic": "a",
        "payload": b"x",
        "qos": 1,
        "retain": False,
        "properties": {},
        "client": None,
        "redelivered": False,
    }
    assert consumer.told == [
        plain,
        {
            **plain,
            "retain": True,
            "properties": {"user_property": [("n", "v")]},
            "client": {**CLIENT, "id": "lamp", "username": "hall"},
        },
    ]
    await communicator.disconnect()


async def test_the_communicator_refuses_what_a_broker_would_of_a_publisher() -> None:
    communicator = MqttComunicator(MqttConsumer.as_asgi(), app_id=1)
    with pytest.raises(ValueError, match="subscription_identifier"):
        await communicator.publish("a", b"", 0, properties={"subscription_identifier": [1]})
    with pytest.raises(TypeError, match="content_type"):
        await communicator.publish("a", b"", 0, properties={"content_type": 1})  # type: ignore[typeddict-item]
    with pytest.raises(ValueError, match="a client has no 'name'; it has id, username"):
        await communicator.publish("a", b"", 0, client={"name": "lamp"})


async def test_the_communicator_gives_messages_their_subscription_identifiers() -> None:
    async def act(self: Any) -> None:
        await self.subscribe("a/#", 1, subscription_identifier=7)
        await self.subscribe("a/+", 1, subscription_identifier=3)

    class Leaves(Told):
        async def receive(self, mqtt_message: Any) -> None:
            await super().receive(mqtt_message)
            await self.unsubscribe("a/+")
            await self.subscribe("a/#", 1)

    consumer = Leaves(act)
    communicator = MqttComunicator(consumer, app_id=1)
    await communicator.connect()
    await communicator.receive_from()
    for expected in ([3, 7], None):
        await communicator.publish("a/b", b"", 0)
        while (await communicator.receive_from())["type"] != "mqtt.sub":
            pass
        assert consumer.told[-1]["properties"].get("subscription_identifier") == expected
    await communicator.disconnect()


CLIENT = {
    "id": "client",
    "username": None,
    "address": "127.0.0.1",
    "protocol": "mqtt",
    "protocol_version": 5,
    "certificate": None,
}


async def watch(self: MqttConsumer) -> None:
    # Not at once, as when there is something to be looked up first.
    for _ in range(5):
        await asyncio.sleep(0)
    await self.watch_clients()


async def test_a_consumer_that_watches_is_told_of_clients() -> None:
    consumer = Told(watch)
    communicator = MqttComunicator(consumer, app_id=1)
    assert await communicator.connect() == {"type": "mqtt.client.watch"}
    certificate = {"common_name": "lamp"}
    await communicator.client_connected({})
    await communicator.client_connected({"id": "lamp", "protocol_version": 4, "certificate": certificate})
    await communicator.client_disconnected({"id": "lamp"})
    await communicator.client_disconnected({"id": "lamp"}, {"code": 0x80, "session_ends": False})
    await communicator.client_disconnected({"id": "lamp"}, {"code": None, "session_ends": None})
    for _ in range(5):
        await communicator.receive_from()
    lamp = {**CLIENT, "id": "lamp"}
    assert consumer.told == [
        CLIENT,
        {**lamp, "protocol_version": 4, "certificate": certificate},
        (lamp, {"code": 0, "name": "Normal disconnection", "session_ends": True}),
        (lamp, {"code": 0x80, "name": "Unspecified error", "session_ends": False}),
        (lamp, {"code": None, "name": "unknown", "session_ends": None}),
    ]
    await communicator.disconnect()


async def test_the_communicator_waits_for_a_consumer_that_is_about_to_watch() -> None:
    consumer = Told(watch)
    communicator = MqttComunicator(consumer, app_id=1)
    await communicator.send_input({"type": "mqtt.connect"})
    await communicator.client_connected({"id": "lamp"})
    assert await communicator.receive_from() == {"type": "mqtt.client.watch"}
    await communicator.receive_from()
    assert consumer.told == [{**CLIENT, "id": "lamp"}]
    await communicator.disconnect()


async def test_who_has_not_asked_is_not_told_of_clients() -> None:
    communicator = MqttComunicator(Lights.as_asgi(), app_id=1)
    await communicator.connect()
    with pytest.raises(RuntimeError, match="has not called watch_clients"):
        await communicator.client_connected({}, timeout=0.01)
    with pytest.raises(RuntimeError, match="has not called watch_clients"):
        await communicator.client_disconnected({}, timeout=0.01)
    await communicator.disconnect()
    # Nor who is gone, which needs no waiting for.
    with pytest.raises(RuntimeError, match="has not called watch_clients"):
        await communicator.client_connected({}, timeout=1000)


async def test_an_error_before_watching_is_the_consumers_own() -> None:
    async def act(self: Any) -> None:
        raise LookupError("as told")

    communicator = MqttComunicator(Told(act), app_id=1)
    await communicator.send_input({"type": "mqtt.connect"})
    with pytest.raises(LookupError, match="as told"):
        await communicator.client_connected({}, timeout=1000)


async def test_clients_and_reasons_with_names_that_they_do_not_have() -> None:
    communicator = MqttComunicator(Told(watch), app_id=1)
    await communicator.connect()
    with pytest.raises(ValueError, match="a client has no 'user_name'; it has id, username, address"):
        await communicator.client_connected({"user_name": "x"})
    with pytest.raises(ValueError, match="a reason has no 'reason_code'; it has code, name, session_ends"):
        await communicator.client_disconnected({}, {"reason_code": 4})
    await communicator.disconnect()


async def test_by_default_a_consumer_ignores_clients() -> None:
    class Ignores(MqttConsumer):
        async def connect(self) -> None:
            await self.watch_clients()

    communicator = MqttComunicator(Ignores.as_asgi(), app_id=1)
    await communicator.connect()
    await communicator.client_connected({})
    await communicator.client_disconnected({})
    await communicator.disconnect()
    assert await communicator.receive_nothing()


async def test_group_messages_reach_a_consumer() -> None:
    communicator = MqttComunicator(Lights.as_asgi(), app_id=1)
    await communicator.connect()
    # The subscription is sent before the group is joined; a message's answer says that connect() is over.
    await communicator.publish("motion/x", b"y", qos=0)
    await communicator.receive_from()
    await get_channel_layer().group_send("lights", {"type": "lights.all", "text": "off"})
    assert (await communicator.receive_from())["mqtt"] == {
        "topic": "all",
        "payload": "off",
        "qos": 0,
        "retain": False,
    }
    await communicator.disconnect()


async def test_events_of_both_sources_are_handled_one_at_a_time() -> None:
    inside = 0
    most = 0

    class Slow(Lights):
        async def receive(self, mqtt_message: Any) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1
            await self.publish("done", b"")

        async def lights_all(self, event: Any) -> None:
            await self.receive(event)

    communicator = MqttComunicator(Slow.as_asgi(), app_id=1)
    await communicator.connect()
    await communicator.publish("motion/x", b"", qos=0)
    await communicator.receive_from()
    for _ in range(10):
        await communicator.publish("motion/x", b"", qos=0)
        await get_channel_layer().group_send("lights", {"type": "lights.all", "text": ""})
    for _ in range(20):
        await communicator.receive_from()
    assert most == 1
    await communicator.disconnect()


@pytest.mark.parametrize("source", ["broker", "layer"])
async def test_an_error_in_a_handler_ends_the_consumer(source: str) -> None:
    class Raises(Lights):
        async def receive(self, mqtt_message: Any) -> None:
            raise LookupError("as told")

        async def lights_all(self, event: Any) -> None:
            raise LookupError("as told")

    communicator = MqttComunicator(Raises.as_asgi(), app_id=1)
    await communicator.connect()
    if source == "broker":
        await communicator.publish("motion/x", b"", qos=0)
    else:
        while not get_channel_layer().groups.get("lights"):
            await asyncio.sleep(0)
        await get_channel_layer().group_send("lights", {"type": "lights.all", "text": ""})
    with pytest.raises(LookupError, match="as told"):
        await communicator.wait()


async def test_an_event_without_a_handler_names_the_method() -> None:
    communicator = MqttComunicator(Lights.as_asgi(), app_id=1)
    await communicator.connect()
    await communicator.send_input({"type": "mqtt.surprise"})
    with pytest.raises(ValueError, match="no method mqtt_surprise"):
        await communicator.wait()


# ---- the database ----


@pytest.fixture
def fast_database(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts refreshes, with an interval that has always passed."""
    calls: list[str] = []
    real = database.refresh

    def refresh() -> None:
        calls.append("refresh")
        real()

    monkeypatch.setattr(database, "INTERVAL", 0.0)
    monkeypatch.setattr(database, "refresh", refresh)
    return calls


class Rows(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.publish("ready", b"")

    async def receive(self, mqtt_message: Any) -> None:
        payload = mqtt_message["payload"]
        if payload == b"async":
            await self.publish("count", str(await Group.objects.acount()))
        elif payload == b"wrapped":
            await self.publish("count", str(await database_sync_to_async(Group.objects.count)()))
        elif payload == b"break":
            raise OperationalError("gone away")
        else:
            await self.publish("nothing", b"")


def outside_of_a_test() -> ApplicationCommunicator:
    """Runs the consumer as the broker would: its connections are its own."""
    return ApplicationCommunicator(Rows.as_asgi(), {"type": "mqtt", "app_id": 0, "instance_type": "master"})


def message(payload: bytes) -> dict[str, Any]:
    return {"type": "mqtt.msg", "mqtt": {"topic": "x", "payload": payload, "qos": 0, "retain": False}}


async def test_a_driven_consumer_leaves_the_tests_connection_alone(fast_database: list[str]) -> None:
    database._on_connection_created()
    communicator = MqttComunicator(Rows.as_asgi(), app_id=1)
    await communicator.connect()
    await communicator.publish("x", b"nothing", qos=0)
    await communicator.receive_from()
    await communicator.publish("x", b"break", qos=0)
    with pytest.raises(OperationalError):
        await communicator.wait()
    assert fast_database == []


@pytest.mark.django_db(transaction=True)
async def test_the_orm_works_inside_a_consumer() -> None:
    communicator = MqttComunicator(Rows.as_asgi(), app_id=1)
    await communicator.connect()
    for how in (b"async", b"wrapped"):
        await communicator.publish("x", how, qos=0)
        assert (await communicator.receive_from())["mqtt"]["payload"] in (0, "0")
    await communicator.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_connections_are_looked_at_only_while_one_is_open(fast_database: list[str]) -> None:
    database._connection_open = False
    communicator = outside_of_a_test()
    await communicator.send_input(message(b"nothing"))
    await communicator.receive_output()
    assert fast_database == []
    database._on_connection_created()
    await communicator.send_input(message(b"nothing"))
    await communicator.receive_output()
    assert fast_database == ["refresh"]
    await communicator.send_input({"type": "mqtt.disconnect"})
    await communicator.wait()


@pytest.mark.django_db(transaction=True)
async def test_a_database_error_is_cleaned_up_after_and_still_raised(fast_database: list[str]) -> None:
    database._connection_open = False
    communicator = outside_of_a_test()
    await communicator.send_input(message(b"break"))
    with pytest.raises(OperationalError, match="gone away"):
        await communicator.wait()
    assert fast_database == ["refresh"]
