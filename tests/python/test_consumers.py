"""MqttConsumer through MqttComunicator: events, the channel layer, the database, the reference's testing API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import Group
from django.db import OperationalError

from mqttasgi import database
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
    assert (await communicator.connect())["mqtt"]["payload"] == b"3 master hall mqtt"
    await communicator.disconnect()


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


async def test_group_messages_reach_a_consumer() -> None:
    communicator = MqttComunicator(Lights.as_asgi(), app_id=1)
    await communicator.connect()
    # The subscription is sent before the group is joined; a message's answer says that connect() is over.
    await communicator.publish("motion/x", b"y", qos=0)
    await communicator.receive_from()
    await get_channel_layer().group_send("lights", {"type": "lights.all", "text": "off"})
    assert (await communicator.receive_from())["mqtt"] == {
        "topic": "all",
        "payload": b"off",
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

    async def refresh() -> None:
        calls.append("refresh")
        await real()

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
        assert (await communicator.receive_from())["mqtt"]["payload"] == b"0"
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
