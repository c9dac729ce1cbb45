"""Mistakes in applications that would else be silent, or misleading."""

from __future__ import annotations

import functools
import re
import sys
import types
from typing import Any, Optional

import pytest
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from fake_bridge import FakeBridge
from running import Start, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import mistakes
from mqttasgi.runtime.application import ApplicationError, load_application
from mqttasgi.runtime.mistakes import what_is_wrong_with


class Good(MqttConsumer):
    channel_layer_alias = "none"

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("out", mqtt_message["payload"])


# ---- methods that are not async ----


def nothing(self: Any, message: Any) -> None:
    print(message)


def nothing_or(self: Any, message: Any) -> None:
    if message:
        return
    try:
        print(message)
    finally:
        print()
    return None


def generator(self: Any, message: Any) -> Any:
    yield message


async def asynchronous_generator(self: Any, message: Any) -> Any:
    yield message


@pytest.mark.parametrize("method", ["connect", "receive", "disconnect", "client_connected"])
@pytest.mark.parametrize("function", [nothing, nothing_or, generator, asynchronous_generator])
def test_a_method_that_cannot_be_awaited_is_refused_at_start(method: str, function: Any) -> None:
    consumer = type("Kitchen", (Good,), {method: function})
    place = rf"{function.__name__}\(\) \({re.escape(__file__)}, line {function.__code__.co_firstlineno}\)"
    with pytest.raises(mistakes.ConsumerError, match=place) as raised:
        consumer.as_asgi()
    # Where a TypeError was caught before, it still is.
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ApplicationError)


def test_the_sentence_says_what_to_write() -> None:
    class Kitchen(Good):
        def receive(self, mqtt_message: Any) -> None:  # type: ignore[override]
            print(mqtt_message)

    line = Kitchen.receive.__code__.co_firstlineno
    with pytest.raises(mistakes.ConsumerError) as raised:
        Kitchen.as_asgi()
    assert str(raised.value) == (
        f"{Kitchen.receive.__qualname__}() ({__file__}, line {line}) is not async; write `async def receive`"
    )


async def good(self: Any, message: Any) -> None:
    pass


def returns_a_coroutine(self: Any, message: Any) -> Any:
    return good(self, message)


def returns_one_of_two(self: Any, message: Any) -> Any:
    if not message:
        return None
    return good(self, message)


@functools.wraps(good)
def wrapped(*arguments: Any) -> None:
    pass


@types.coroutine
def old_coroutine(self: Any, message: Any) -> Any:
    yield


def raises(self: Any, message: Any) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        good,
        returns_a_coroutine,
        returns_one_of_two,
        wrapped,
        old_coroutine,
        # Python 3.9 adds a return to it.
        pytest.param(
            raises, marks=pytest.mark.skipif(sys.version_info < (3, 10), reason="it seems to return")
        ),
        functools.partial(good, 1),
        7,
    ],
)
def test_what_may_be_awaitable_is_not_refused(function: Any) -> None:
    assert what_is_wrong_with(function) is None
    type("Kitchen", (Good,), {"receive": function}).as_asgi()


@pytest.mark.parametrize("method", ["receive", "lights_on"])
async def test_what_only_its_call_shows(bridge: FakeBridge, start: Start, method: str) -> None:
    """A method that may return something to await, and does not; one for the layer, whose name is any."""

    def maybe(self: Any, message: Any) -> Optional[Any]:
        return good(self, message) if message is None else None

    async def connect(self: Any) -> None:
        if self.channel_layer is not None:
            await self.channel_layer.group_add("lights", self.channel_name)

    alias = "none" if method == "receive" else "default"
    members = {method: maybe, "connect": connect, "channel_layer_alias": alias}
    await start(type("Kitchen", (Good,), members).as_asgi())
    if method == "receive":
        bridge.deliver("in/x")
    else:
        await get_channel_layer().group_send("lights", {"type": "lights.on"})
    await until(lambda: "ended with an error" in bridge.text())
    assert f"maybe() ({__file__}, line {maybe.__code__.co_firstlineno}) is not async; write" in bridge.text()


# ---- no receive() ----


async def test_a_consumer_without_receive(
    bridge: FakeBridge, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(MqttConsumer):
        channel_layer_alias = "none"

        async def recieve(self, mqtt_message: Any) -> None:
            pass

    await start(Silent.as_asgi())
    assert not caplog.records
    for number in range(3):
        bridge.deliver(f"in/{number}")
    await until(lambda: bool(caplog.records))
    await settle()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mqttasgi.consumers", "WARNING")
    assert (
        "Silent gets messages, the first on topic 'in/0', and has no method receive(" in record.getMessage()
    )
    assert record.getMessage().endswith("It has recieve(): did you mean that?")


async def test_a_receive_that_calls_what_it_overrides(
    bridge: FakeBridge, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Polite(Good):
        async def receive(self, mqtt_message: Any) -> None:
            await super(Good, self).receive(mqtt_message)
            await super().receive(mqtt_message)

    await start(Polite.as_asgi())
    bridge.deliver("in/x")
    await until(lambda: bool(bridge.published))
    assert not caplog.records


# ---- applications ----


class Lamps(types.ModuleType):
    """A module whose attributes are made when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        return APPLICATIONS[name][0]()


def plain(scope: Any, receive: Any, send: Any) -> None:
    print(scope)


#: What makes it, and what the sentence about it says; None: it is fine.
APPLICATIONS: dict[str, tuple[Any, Optional[str]]] = {
    "fine": (lambda: ProtocolTypeRouter({"mqtt": Good.as_asgi()}), None),
    "the_class": (lambda: Good, None),
    "an_instance": (lambda: Good(), None),
    "django": (get_asgi_application, "'lamps:django' is Django's own application, which answers HTTP alone; put it "
               'beside a consumer: ProtocolTypeRouter({"http": get_asgi_application(), "mqtt": MyConsumer.as_asgi()})'),
    "wsgi": (get_wsgi_application, "'lamps:wsgi' is a WSGI application, which answers HTTP alone; name the one in "
             "asgi.py"),
    "no_slot": (lambda: ProtocolTypeRouter({"http": get_asgi_application(), "websocket": plain}),
                "'lamps:no_slot' has no \"mqtt\" among its protocols ('http', 'websocket'); add \"mqtt\": "
                "MyConsumer.as_asgi() to its ProtocolTypeRouter"),
    "empty": (lambda: ProtocolTypeRouter({}), "has no \"mqtt\" among its protocols (none)"),
    "class_in_router": (lambda: ProtocolTypeRouter({"mqtt": Good}),
                        f"\"mqtt\" in 'lamps:class_in_router': {__name__}.Good is a class and no ASGI application; "
                        "write Good.as_asgi()"),
    "method_in_router": (lambda: ProtocolTypeRouter({"mqtt": Good.as_asgi}),
                         "Good.as_asgi is to be called; write "),
    "number_in_router": (lambda: ProtocolTypeRouter({"mqtt": 7}), "is 7, which is not an ASGI application"),
    "plain_in_router": (lambda: ProtocolTypeRouter({"mqtt": plain}), "is not async; write `async def plain`"),
    "method": (lambda: Good.as_asgi, "'lamps:method' is no ASGI application: "),
    "plain": (lambda: plain, f"'lamps:plain' is no ASGI application: plain() ({__file__}, line "),
}  # fmt: skip


@pytest.mark.parametrize("name", list(APPLICATIONS))
def test_applications(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lamps", Lamps("lamps"))
    sentence = APPLICATIONS[name][1]
    if sentence is None:
        assert callable(load_application(f"lamps:{name}"))
    else:
        with pytest.raises(ApplicationError, match=re.escape(sentence)):
            load_application(f"lamps:{name}")


async def test_a_class_where_nobody_can_see_it(bridge: FakeBridge, start: Start) -> None:
    """Behind an application of the user's, say."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await Good(scope, receive, send)  # type: ignore[misc]

    await start(middleware)
    assert f"{__name__}.Good is a class and no ASGI application; write Good.as_asgi()" in bridge.text()


async def test_as_asgi_where_nobody_can_see_it(bridge: FakeBridge, start: Start) -> None:
    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        application: Any = Good.as_asgi(scope, receive, send)
        await application

    await start(middleware)
    assert "Good.as_asgi is to be called; write Good.as_asgi()" in bridge.text()


async def test_arguments_of_the_users_own_reach_the_consumer(bridge: FakeBridge, start: Start) -> None:
    class Room(Good):
        def __init__(self, room: str) -> None:
            super().__init__()
            self.room = room

        async def connect(self) -> None:
            await self.publish("room", self.room)

    await start(Room.as_asgi(room="hall"))
    await until(lambda: bridge.published == [("room", b"hall", 1, False)])
    assert Room("x").room == "x"
