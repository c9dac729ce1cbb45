"""`mqttasgi.testing` plays the broker of `mqttasgi.broker`: in a consumer that is tested, and beside consumers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.generic.websocket import AsyncWebsocketConsumer
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse

from mqttasgi import _host, broker
from mqttasgi.consumers import MqttConsumer
from mqttasgi.testing import MqttComunicator, PlayedBroker

# ---- in a consumer ----


class Kitchen(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("kitchen/#", 1)
        self.task = asyncio.ensure_future(self.watch())

    async def receive(self, mqtt_message: Any) -> None:
        what = mqtt_message["payload"].decode()
        if what == "guest":
            await broker.publish("out", 5, qos=0, properties={"content_type": "x"})
        elif what == "thread":
            await sync_to_async(async_to_sync(broker.publish))("out", "thread")
        elif what == "loop":
            await asyncio.to_thread(asyncio.run, broker.publish("out", "loop"))
        elif what == "wrong":
            await broker.publish("out/#", "")
        else:
            await self.publish("own", what)

    async def watch(self) -> None:
        async with broker.subscribe("home/+", qos=1) as messages:
            async for message in messages:
                await self.publish("heard", f"{message['payload'].decode()} {message['qos']}")

    async def disconnect(self) -> None:
        self.task.cancel()


async def connected() -> MqttComunicator:
    communicator = MqttComunicator(Kitchen.as_asgi(), app_id=1)
    assert await communicator.connect() == {"type": "mqtt.sub", "mqtt": {"topic": "kitchen/#", "qos": 1}}
    assert await communicator.receive_from() == {"type": "mqtt.sub", "mqtt": {"topic": "home/+", "qos": 1}}
    return communicator


async def test_what_a_consumer_publishes_as_a_guest_is_seen() -> None:
    communicator = await connected()
    await communicator.publish("kitchen/do", "guest", 1)
    assert await communicator.receive_from() == {
        "type": "mqtt.pub",
        "mqtt": {
            "topic": "out",
            "payload": 5,
            "qos": 0,
            "retain": False,
            "properties": {"content_type": "x"},
        },
    }
    await communicator.disconnect()
    assert await communicator.receive_from() == {"type": "mqtt.usub", "mqtt": {"topic": "home/+"}}


@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_what_its_threads_publish_too(where: str) -> None:
    communicator = await connected()
    await communicator.publish("kitchen/do", where, 1)
    event = await communicator.receive_from(10)
    assert event["mqtt"] == {"topic": "out", "payload": where, "qos": 1, "retain": False}
    await communicator.disconnect()


async def test_a_wrong_topic_raises_in_the_consumer() -> None:
    communicator = await connected()
    await communicator.publish("kitchen/do", "wrong", 1)
    with pytest.raises(ValueError, match="wildcard"):
        await communicator.wait()


async def test_messages_go_to_who_has_subscribed() -> None:
    communicator = await connected()
    await communicator.publish("home/a", "1", 2)  # to the guest alone
    assert (await communicator.receive_from())["mqtt"]["payload"] == "1 1"
    await communicator.publish("kitchen/a", "2", 0)  # to the consumer alone
    assert (await communicator.receive_from())["mqtt"]["topic"] == "own"
    await communicator.publish("elsewhere", "3", 0)  # to nobody's filter: to the consumer, as ever
    assert (await communicator.receive_from())["mqtt"]["payload"] == "3"
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_a_message_that_both_want_goes_to_both() -> None:
    class Both(Kitchen):
        async def connect(self) -> None:
            await super().connect()
            await self.subscribe("home/#", 1)

    communicator = MqttComunicator(Both.as_asgi(), app_id=1)
    await communicator.connect()
    for _ in range(2):
        assert (await communicator.receive_from())["type"] == "mqtt.sub"
    await communicator.publish("home/a", "1", 0)
    topics = {(await communicator.receive_from())["mqtt"]["topic"] for _ in range(2)}
    assert topics == {"own", "heard"}
    await communicator.disconnect()


async def test_two_consumers_do_not_hear_of_each_other() -> None:
    one, other = await connected(), await connected()
    await one.publish("kitchen/do", "guest", 1)
    await one.receive_from()
    assert await other.receive_nothing()
    for communicator in (one, other):
        await communicator.disconnect()


async def test_the_test_itself_is_outside() -> None:
    communicator = await connected()
    with pytest.raises(broker.OutsideBroker):
        await broker.publish("a", b"")
    await communicator.disconnect()


# ---- beside consumers ----


def light(request: HttpRequest) -> HttpResponse:
    async_to_sync(broker.publish)("home/light/set", "on", retain=True)
    return HttpResponse("on")


class Live(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        self.task = asyncio.ensure_future(self.send_messages())

    async def send_messages(self) -> None:
        async with broker.subscribe("home/#") as messages:
            async for message in messages:
                await self.send(text_data=message["payload"].decode())
        await self.close(1001)

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await broker.publish("home/said", text_data)

    async def disconnect(self, code: int) -> None:
        self.task.cancel()


def test_a_sync_test_of_a_view() -> None:
    with PlayedBroker() as played:
        assert light(HttpRequest()).content == b"on"
    assert list(played.events) == [
        {
            "type": "mqtt.pub",
            "mqtt": {"topic": "home/light/set", "payload": "on", "qos": 1, "retain": True},
        }
    ]


async def browser() -> ApplicationCommunicator:
    # channels.testing needs Daphne.
    communicator = ApplicationCommunicator(Live.as_asgi(), {"type": "websocket", "path": "/live"})
    await communicator.send_input({"type": "websocket.connect"})
    assert (await communicator.receive_output())["type"] == "websocket.accept"
    return communicator


async def closed(communicator: ApplicationCommunicator) -> None:
    await communicator.send_input({"type": "websocket.disconnect", "code": 1000})
    await communicator.wait()


@pytest.mark.django_db  # Channels looks after its connections at each event
async def test_a_websocket_consumer() -> None:
    with PlayedBroker() as played:
        communicator = await browser()
        assert (await played.receive_from())["type"] == "mqtt.sub"
        await played.publish("home/a", 21.5, 1)
        assert (await communicator.receive_output())["text"] == "21.5"
        await communicator.send_input({"type": "websocket.receive", "text": "hello"})
        assert (await played.receive_from())["mqtt"]["payload"] == "hello"
        await closed(communicator)
        assert (await played.receive_from()) == {"type": "mqtt.usub", "mqtt": {"topic": "home/#"}}


@pytest.mark.django_db  # Channels looks after its connections at each event
async def test_the_end_is_the_brokers() -> None:
    with PlayedBroker() as played:
        communicator = await browser()
        await played.receive_from()
    closing = await communicator.receive_output()
    assert (closing["type"], closing["code"]) == ("websocket.close", 1001)
    await closed(communicator)


async def test_a_signal() -> None:
    changed = Signal()

    def publish(sender: Any, **named: Any) -> None:
        async_to_sync(broker.publish)("changed", "1")

    changed.connect(publish)
    with PlayedBroker() as played:
        await sync_to_async(changed.send)(None)
        assert (await played.receive_from())["mqtt"]["topic"] == "changed"


async def test_an_event_from_a_thread_wakes_the_test() -> None:
    with PlayedBroker() as played:
        waiting = asyncio.ensure_future(played.receive_from(30))
        await asyncio.sleep(0)
        threading.Thread(target=lambda: asyncio.run(broker.publish("a", b""))).start()
        assert (await waiting)["mqtt"]["topic"] == "a"
        with pytest.raises(asyncio.TimeoutError):
            await played.receive_from(0.01)


async def test_a_message_that_nobody_has_subscribed_to() -> None:
    with PlayedBroker() as played:
        with pytest.raises(ValueError, match="nobody has subscribed to topic 'a'"):
            await played.publish("a", b"", 0)
        async with broker.subscribe("a", qos=0) as messages:
            await played.publish("a", b"1", 2, retain=True, client={"id": "lamp"})
            message = await messages.__anext__()
    assert (message["qos"], message["retain"]) == (0, True)
    assert message["client"] is not None and message["client"]["id"] == "lamp"


async def test_slow_readers_lose_messages_here_too() -> None:
    with PlayedBroker() as played:
        async with broker.subscribe("a", queue_size=1) as messages:
            for payload in "12":
                await played.publish("a", payload, 0)
            assert (await messages.__anext__())["payload"] == b"2"
            assert messages.lost == 1


def test_it_is_put_back() -> None:
    with PlayedBroker():
        inner = _host.of_process
        with PlayedBroker():
            assert _host.of_process is not inner
        assert _host.of_process is inner
    assert _host.of_process is None
