"""The hub's consumers without a broker. Run `pytest` in the folder of manage.py."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.utils import timezone
from django.utils.module_loading import import_string
from mqttasgi.consumers import MqttConsumer
from mqttasgi.testing import MqttComunicator

from home import topics
from home.consumers import ai
from home.consumers.ai import AIAutomationConsumer
from home.consumers.availability import AvailabilityConsumer
from home.consumers.commands import CommandsConsumer
from home.consumers.energy import EnergyMonitorConsumer
from home.consumers.irrigation import IrrigationConsumer
from home.consumers.lights import LightAutomationConsumer
from home.consumers.master import MasterConsumer
from home.consumers.rooms import RoomConsumer
from home.models import Command, Device, EnergyReading, IrrigationSchedule, MotionEvent
from home.payloads import online

HUB = Path(__file__).resolve().parent.parent

# The consumers' ORM calls run in a thread with its own connection, which sees committed rows only.
pytestmark = pytest.mark.django_db(transaction=True)


@contextlib.asynccontextmanager
async def connected(
    consumer: type[MqttConsumer], filter: str, **parameters: Any
) -> AsyncIterator[MqttComunicator]:
    """A connected worker that has subscribed to `filter`, and unsubscribes when it goes."""
    comm = MqttComunicator(consumer.as_asgi(), app_id=1, consumer_parameters=parameters)
    first = await comm.connect(timeout=10)  # the first to come may import a client library
    assert first["type"] == "mqtt.sub"
    assert (first["mqtt"]["topic"], first["mqtt"]["qos"]) == (filter, 1)
    yield comm
    await comm.disconnect()
    last = await comm.receive_from()
    assert (last["type"], last["mqtt"]["topic"]) == ("mqtt.usub", filter)


async def published(comm: MqttComunicator) -> tuple[str, bytes]:
    """The next thing the consumer publishes."""
    message = await comm.receive_from(timeout=5)
    assert message["type"] == "mqtt.pub"
    assert not message["mqtt"].get("retain")
    return message["mqtt"]["topic"], message["mqtt"]["payload"]


async def send_retained(comm: MqttComunicator, topic: str, payload: bytes) -> None:
    message = {"topic": topic, "payload": payload, "qos": 1, "retain": True}
    await comm.send_input({"type": "mqtt.msg", "mqtt": message})


async def eventually(model: Any, count: int) -> list[Any]:
    """The rows of a table, in the order they came, once there are `count`."""
    deadline = time.monotonic() + 5
    while True:
        rows = await database_sync_to_async(lambda: list(model.objects.order_by("pk")))()
        if len(rows) >= count or time.monotonic() > deadline:
            assert len(rows) == count
            return rows
        await asyncio.sleep(0.01)


# --- Lights --------------------------------------------------------------------------------------


async def test_motion_switches_the_light_on_and_is_remembered() -> None:
    async with connected(LightAutomationConsumer, "home/sensor/motion") as comm:
        await comm.publish("home/sensor/motion", b"kitchen", 1)
        assert await published(comm) == ("home/lights/kitchen/set", b"on")
    assert [event.room for event in await eventually(MotionEvent, 1)] == ["kitchen"]


@pytest.mark.parametrize(
    "payload", [b"", b"#", b"a/b", b"+", b"two words", b"lights", b"\xff", b"a\0", b"x" * 65]
)
async def test_motion_in_what_is_no_room_is_logged(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(LightAutomationConsumer, "home/sensor/motion") as comm:
        await comm.publish("home/sensor/motion", payload, 1)
        await comm.publish("home/sensor/motion", "küche\n".encode(), 1)
        assert await published(comm) == ("home/lights/küche/set", b"on")
    assert "is not a room" in caplog.text
    assert [event.room for event in await eventually(MotionEvent, 1)] == ["küche"]


async def test_motion_of_yesterday_switches_nothing() -> None:
    async with connected(LightAutomationConsumer, "home/sensor/motion") as comm:
        await send_retained(comm, "home/sensor/motion", b"kitchen")
        await comm.publish("home/sensor/motion", b"living", 1)
        assert await published(comm) == ("home/lights/living/set", b"on")


# --- AI ------------------------------------------------------------------------------------------


class Scripted:
    """A model that answers from a list, and notes what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def decide(self, topic: str, value: str) -> str:
        self.asked.append((topic, value))
        await self.free.wait()
        return self.answers.pop(0)


def use(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Scripted:
    model = Scripted(*answers)
    monkeypatch.setattr(ai, "load_model", lambda: model)
    return model


async def test_the_offline_model_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/motion", b"living", 1)
        await comm.publish("home/sensor/living/temperature", b"21", 1)
        await comm.publish("home/sensor/living/temperature/raw", b"99", 1)
        await comm.publish("home/sensor/living/humidity", b"99", 1)
        await comm.publish("home/sensor/bedroom/temperature", b"broken", 1)
        assert await comm.receive_nothing(0.2)
        await comm.publish("home/sensor/living/temperature", b"29.5", 1)
        assert await published(comm) == ("home/fan/living/set", b"on")
        await comm.publish("home/sensor/living/temperature", b"12", 1)
        assert await published(comm) == ("home/heating/living/set", b"on")
        await comm.publish("home/sensor/living/brightness", b"3", 1)
        assert await published(comm) == ("home/lights/living/set", b"on")


@pytest.mark.parametrize(
    "answer",
    [
        "home/sensor/motion kitchen",
        "home/sensor on",
        "home/energy/consumption 9999",
        "home/kitchen/temperature 50",
        "garden/valve/main open",
        "$SYS/broker off",
        "/home/lights off",
        "home on",
        "home/ on",
        "home//set on",
        "home/# off",
        "home/lights/+/set off",
        "home/lights/kitchen/set",
        "home/lights/kitchen/set  ",
        "home/lights/kitchen/set on\nhome/lights/living/set on",
        "home/lights/kitchen/set " + "x" * 201,
        "I would switch the light on.",
        "",
    ],
)
async def test_an_answer_that_is_no_command_is_refused(
    answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, answer, "home/lights/kitchen/set warm white")
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/door", b"open", 1)
        await comm.publish("home/sensor/window", b"open", 1)
        assert await published(comm) == ("home/lights/kitchen/set", b"warm white")
    assert "ai: refused" in caplog.text


@pytest.mark.parametrize("answer", ["none", "None.", " none\n"])
def test_none_is_an_answer(answer: str) -> None:
    assert ai.parse_action(answer) is None


async def test_a_slow_model_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = use(monkeypatch, "home/fan/living/set on", "home/fan/bedroom/set on", "none")
    model.free.clear()
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/living/temperature", b"30", 1)
        for value in range(50):
            await comm.publish("home/sensor/bedroom/temperature", b"%d" % value, 1)
        await comm.publish("home/sensor/door", b"open", 1)
        assert await comm.receive_nothing(0.2)
        model.free.set()
        assert await published(comm) == ("home/fan/living/set", b"on")
        assert await published(comm) == ("home/fan/bedroom/set", b"on")
        assert await comm.receive_nothing(0.1)
    assert model.asked == [
        ("home/sensor/living/temperature", "30"),
        ("home/sensor/bedroom/temperature", "49"),
        ("home/sensor/door", "open"),
    ]


async def test_a_model_that_never_answers_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ai, "PATIENCE", 0.05)
    model = use(monkeypatch, "home/fan/living/set on")
    model.free.clear()
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/door", b"open", 1)
        assert await comm.receive_nothing(0.3)
        model.free.set()
        await comm.publish("home/sensor/door", b"closed", 1)
        assert await published(comm) == ("home/fan/living/set", b"on")
    assert "no decision on home/sensor/door" in caplog.text


async def test_too_many_topics_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ai, "BACKLOG", 3)
    model = use(monkeypatch, *["none"] * 4)
    model.free.clear()
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/first", b"1", 1)
        assert await comm.receive_nothing(0.1)
        for name in range(5):
            await comm.publish(f"home/sensor/{name}", b"1", 1)
        assert await comm.receive_nothing(0.1)
        model.free.set()
        assert await comm.receive_nothing(0.1)
    assert len(model.asked) == 4
    assert "home/sensor/3 dropped" in caplog.text and "home/sensor/4 dropped" in caplog.text


async def test_only_text_that_is_live_and_short_reaches_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = use(monkeypatch, "home/fan/living/set on")
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/camera", b"\xff\xd8", 1)
        await send_retained(comm, "home/sensor/door", b"open")
        await comm.publish("home/sensor/diary", b"x" * 1000, 1)
        await published(comm)
    assert model.asked == [("home/sensor/diary", "x" * 200)]


async def test_going_away_ends_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    model = use(monkeypatch, "home/fan/living/set on")
    model.free.clear()
    async with connected(AIAutomationConsumer, "home/sensor/#") as comm:
        await comm.publish("home/sensor/door", b"open", 1)
        assert await comm.receive_nothing(0.1)
    model.free.set()
    assert await comm.receive_nothing(0.1)


def test_which_model(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert isinstance(ai.load_model(), ai.OfflineModel)
    settings.HUB_AI_CLIENT = "home.consumers.ai.OfflineModel"
    assert isinstance(ai.load_model(), ai.OfflineModel)


def test_a_key_without_the_package(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setitem(sys.modules, "anthropic", None)
    assert isinstance(ai.default_model(), ai.OfflineModel)
    assert "package is not installed" in caplog.text


def test_a_key_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(AsyncAnthropic=lambda: "client")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setitem(sys.modules, "anthropic", package)
    model = ai.default_model()
    assert isinstance(model, ai.AnthropicModel)
    assert model.client == "client"


async def test_the_anthropic_package_is_called_as_it_wants_to_be() -> None:
    anthropic = pytest.importorskip("anthropic")
    asked = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "some-model",
                "content": [{"type": "text", "text": "home/lights/kitchen/set off"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        async with anthropic.AsyncAnthropic(api_key="key", base_url=url) as client:
            model = ai.AnthropicModel(client, "some-model")
            answer = await model.decide("home/sensor/kitchen/brightness", "900")
        server.shutdown()
    assert ai.parse_action(answer) == ("home/lights/kitchen/set", "off")
    assert asked[0]["model"] == "some-model"
    assert "home/sensor/kitchen/brightness" in asked[0]["messages"][0]["content"]
    assert "900" in asked[0]["messages"][0]["content"]


# --- Energy --------------------------------------------------------------------------------------


async def test_one_alert_per_peak() -> None:
    readings = [b"100", b"3000", b"3000.5", b"5000", b"2900", b"3100", b"2699", b"3001", b"3e3"]
    async with connected(EnergyMonitorConsumer, "home/energy/consumption") as comm:
        for watts in readings:
            await comm.publish("home/energy/consumption", watts, 1)
        stored = await eventually(EnergyReading, len(readings))
        assert await published(comm) == ("home/alerts/energy", b"high_consumption")
        assert await published(comm) == ("home/alerts/energy", b"high_consumption")
        assert await comm.receive_nothing(0.1)
    assert [reading.watts for reading in stored] == [float(watts) for watts in readings]


async def test_thresholds_come_from_the_spawning_consumer() -> None:
    async with connected(
        EnergyMonitorConsumer, "home/energy/consumption", alert_watts=10, calm_watts=5
    ) as comm:
        for watts in (b"11", b"6", b"11", b"4", b"11"):
            await comm.publish("home/energy/consumption", watts, 1)
        await eventually(EnergyReading, 5)
        await published(comm)
        await published(comm)
        assert await comm.receive_nothing(0.1)


@pytest.mark.parametrize("payload", [b"", b"much", b"nan", b"inf", b"\xff", b"12 W", b"0x10"])
async def test_a_reading_that_is_no_number_is_logged(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(EnergyMonitorConsumer, "home/energy/consumption") as comm:
        await comm.publish("home/energy/consumption", payload, 1)
        await send_retained(comm, "home/energy/consumption", b"9000")
        await comm.publish("home/energy/consumption", b"250", 1)
        stored = await eventually(EnergyReading, 1)
        assert await comm.receive_nothing(0.05)
    assert stored[0].watts == 250
    assert "is not a number of watts" in caplog.text


# --- Rooms ---------------------------------------------------------------------------------------


async def status(comm: MqttComunicator, room: str) -> dict[str, Any]:
    await comm.publish(f"home/{room}/status/get", b"", 1)
    topic, payload = await published(comm)
    assert topic == f"home/{room}/status"
    answer: dict[str, Any] = json.loads(payload)
    return answer


async def test_a_room_knows_its_last_state(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(RoomConsumer, "home/kitchen/#", room="kitchen") as comm:
        nothing = {"room": "kitchen", "temperature": None, "presence": None}
        assert await status(comm, "kitchen") == nothing
        await send_retained(comm, "home/kitchen/temperature", b"19")
        await comm.publish("home/kitchen/presence", b"ON", 1)
        known = {"room": "kitchen", "temperature": 19.0, "presence": True}
        assert await status(comm, "kitchen") == known
        await comm.publish("home/kitchen/temperature", b"21.5", 1)
        await comm.publish("home/kitchen/presence", b"off", 1)
        newer = {"room": "kitchen", "temperature": 21.5, "presence": False}
        assert await status(comm, "kitchen") == newer
        await comm.publish("home/kitchen/temperature", b"nan", 1)
        await comm.publish("home/kitchen/presence", b"maybe", 1)
        await comm.publish("home/kitchen/presence", b"\xff", 1)
        await comm.publish("home/kitchen/oven/temperature", b"180", 1)
        await comm.publish("home/kitchen", b"99", 1)
        assert await status(comm, "kitchen") == newer
    assert "b'nan' is not a temperature" in caplog.text
    assert "b'maybe' is not a presence" in caplog.text


async def test_a_retained_question_is_not_answered_at_every_start() -> None:
    async with connected(RoomConsumer, "home/kitchen/#", room="kitchen") as comm:
        await send_retained(comm, "home/kitchen/status/get", b"")
        assert await comm.receive_nothing(0.1)


async def test_an_announcement_reaches_every_room() -> None:
    kitchen = connected(RoomConsumer, "home/kitchen/#", room="kitchen")
    living = connected(RoomConsumer, "home/living/#", room="living")
    async with kitchen as first, living as second:
        # `connect` returns after the subscription; the group is joined when the room answers.
        await status(first, "kitchen")
        await status(second, "living")
        message = {"type": "room.announce", "text": "Essen für alle"}
        await get_channel_layer().group_send("rooms", message)
        payload = "Essen für alle".encode()
        assert await published(first) == ("home/kitchen/announce", payload)
        assert await published(second) == ("home/living/announce", payload)


def test_announce_says_that_memory_reaches_nobody() -> None:
    with pytest.raises(CommandError, match="in-memory channel layer .* REDIS_URL"):
        call_command("announce", "Dinner is ready")


def test_announce_sends_to_the_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Layer:
        async def group_send(self, group: str, message: dict[str, str]) -> None:
            sent.append((group, message))

    monkeypatch.setattr("home.management.commands.announce.get_channel_layer", Layer)
    output = StringIO()
    call_command("announce", "Dinner is ready", stdout=output)
    assert sent == [("rooms", {"type": "room.announce", "text": "Dinner is ready"})]
    assert "Dinner is ready" in output.getvalue()


# --- Irrigation ----------------------------------------------------------------------------------


@pytest.fixture
def half_past_six(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Half past six on a summer morning in Berlin, half past four in UTC."""
    settings.TIME_ZONE = "Europe/Berlin"
    now = datetime.datetime(2026, 6, 1, 4, 30, tzinfo=datetime.timezone.utc)
    monkeypatch.setattr(timezone, "now", lambda: now)


def schedule(hour: int, active: bool = True) -> Any:
    create = database_sync_to_async(IrrigationSchedule.objects.create)
    return create(start_hour=hour, active=active)


async def test_a_dry_garden_is_watered_on_schedule(half_past_six: None) -> None:
    await schedule(6)
    async with connected(IrrigationConsumer, "garden/sensor/moisture") as comm:
        await comm.publish("garden/sensor/moisture", b"30", 1)
        assert await comm.receive_nothing(0.1)
        await comm.publish("garden/sensor/moisture", b"29.9", 1)
        message = await comm.receive_from()
    assert message["mqtt"]["topic"] == "garden/valve/main"
    assert message["mqtt"]["payload"] == b"open"
    assert message["mqtt"]["qos"] == 2


async def test_no_water_out_of_schedule(half_past_six: None) -> None:
    await schedule(4)
    await schedule(7)
    await schedule(6, active=False)
    async with connected(IrrigationConsumer, "garden/sensor/moisture") as comm:
        await comm.publish("garden/sensor/moisture", b"5", 1)
        assert await comm.receive_nothing(0.1)


@pytest.mark.parametrize("payload", [b"", b"dry", b"nan", b"-1", b"1023", b"\xff"])
async def test_a_broken_sensor_opens_nothing(
    payload: bytes, half_past_six: None, caplog: pytest.LogCaptureFixture
) -> None:
    await schedule(6)
    async with connected(IrrigationConsumer, "garden/sensor/moisture", dry_percent=2000.0) as comm:
        await comm.publish("garden/sensor/moisture", payload, 1)
        await send_retained(comm, "garden/sensor/moisture", b"5")
        assert await comm.receive_nothing(0.1)
        await comm.publish("garden/sensor/moisture", b"99", 1)
        assert await published(comm) == ("garden/valve/main", b"open")
    assert "is not a percentage" in caplog.text


# --- Availability --------------------------------------------------------------------------------

LAMP = "zigbee2mqtt/hall lamp/availability"


async def states() -> dict[str, bool]:
    rows = await database_sync_to_async(lambda: list(Device.objects.all()))()
    return {device.name: device.online for device in rows}


async def test_a_device_that_goes_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(AvailabilityConsumer, "zigbee2mqtt/+/availability") as comm:
        await comm.publish(f"zigbee2mqtt/{'x' * 256}/availability", b"online", 1)
        payloads = [b"online", b'{"state": "offline"}', b"offline", b"x", b"ONLINE", b"offline"]
        for payload in payloads:
            await comm.publish(LAMP, payload, 1)
        assert await published(comm) == ("home/alerts/offline", b"hall lamp")
        assert await published(comm) == ("home/alerts/offline", b"hall lamp")
        assert await comm.receive_nothing(0.1)
    assert await states() == {"hall lamp": False}
    assert "b'x' is neither on- nor offline" in caplog.text
    assert "is not a device" in caplog.text


async def test_what_the_broker_kept_is_compared_with_what_was_known() -> None:
    async with connected(AvailabilityConsumer, "zigbee2mqtt/+/availability") as comm:
        await send_retained(comm, LAMP, b"online")
        await send_retained(comm, "zigbee2mqtt/plug/availability", b"offline")
        await eventually(Device, 2)
        assert await comm.receive_nothing(0.1)
    # The lamp went while the broker was away.
    async with connected(AvailabilityConsumer, "zigbee2mqtt/+/availability") as comm:
        await send_retained(comm, "zigbee2mqtt/plug/availability", b"offline")
        await send_retained(comm, LAMP, b"offline")
        assert await published(comm) == ("home/alerts/offline", b"hall lamp")
        assert await comm.receive_nothing(0.1)
    assert await states() == {"hall lamp": False, "plug": False}


async def test_a_device_that_was_given_away_is_forgotten() -> None:
    async with connected(AvailabilityConsumer, "zigbee2mqtt/+/availability") as comm:
        await comm.publish(LAMP, b"online", 1)
        await eventually(Device, 1)
        await comm.publish(LAMP, b"", 1)
        assert await comm.receive_nothing(0.1)
    assert await states() == {}


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        (b" Online\n", True),
        (b'{"state":"offline","since":5}', False),
        (b"\xff", None),
        (b"on", None),
        (b"{", None),
        (b'{"state": 1}', None),
        (b'{"other": "online"}', None),
        (b'{"a":' * 100_000, None),
    ],
)
def test_availability_payloads(payload: bytes, state: bool | None) -> None:
    assert online(payload) is state


# --- Commands ------------------------------------------------------------------------------------


async def test_what_was_said_last_is_remembered() -> None:
    comm = MqttComunicator(CommandsConsumer.as_asgi(), app_id=1)
    filters = [
        (await comm.connect())["mqtt"]["topic"],
        (await comm.receive_from())["mqtt"]["topic"],
    ]
    assert filters == ["home/lights/+/set", "garden/valve/main"]
    await send_retained(comm, "home/lights/living/set", b"on")
    for topic, payload in [
        ("home/lights/kitchen/set", b"on"),
        ("home/lights/kitchen/set", b"perhaps"),
        ("home/lights/cellar/set", b"on"),  # no room of this house
        ("home/lights/bedroom/set", b"\xff"),
        ("garden/valve/main", b"open"),
        ("home/lights/kitchen/set", b"off"),
    ]:
        await comm.publish(topic, payload, 1)
    await comm.disconnect()
    rows = {row.topic: row.state for row in await eventually(Command, 2)}
    assert rows == {"garden/valve/main": "open", "home/lights/kitchen/set": "off"}


# --- Master --------------------------------------------------------------------------------------


async def spawned(comm: MqttComunicator) -> list[dict[str, Any]]:
    messages = [await comm.connect()]
    while not await comm.receive_nothing(0.1):
        messages.append(await comm.receive_from())
    assert {message["type"] for message in messages} == {"mqttasgi.worker.spawn"}
    return [message["command"] for message in messages]


async def test_the_master_spawns_every_idea_and_every_room(settings: Any) -> None:
    settings.HUB_ROOMS = ["attic", "cellar"]
    settings.HUB_ENERGY_ALERT_WATTS = 500.0
    comm = MqttComunicator(MasterConsumer.as_asgi(), app_id=0, instance_type="master")
    workers = await spawned(comm)
    assert [(worker["consumer_path"], worker["consumer_params"]) for worker in workers] == [
        ("home.consumers.lights.LightAutomationConsumer", {}),
        ("home.consumers.ai.AIAutomationConsumer", {}),
        (
            "home.consumers.energy.EnergyMonitorConsumer",
            {"alert_watts": 500.0, "calm_watts": 2700.0},
        ),
        ("home.consumers.irrigation.IrrigationConsumer", {"dry_percent": 30.0}),
        ("home.consumers.availability.AvailabilityConsumer", {}),
        ("home.consumers.commands.CommandsConsumer", {}),
        ("home.consumers.rooms.RoomConsumer", {"room": "attic"}),
        ("home.consumers.rooms.RoomConsumer", {"room": "cellar"}),
    ]
    ids = [worker["app_id"] for worker in workers]
    assert len(set(ids)) == len(ids) and 0 not in ids
    for worker in workers:
        assert issubclass(import_string(worker["consumer_path"]), MqttConsumer)
    # A second `connect`, after a lost connection, finds the workers there.
    await comm.send_input({"type": "mqtt.connect"})
    assert await comm.receive_nothing(0.1)
    await comm.disconnect()


async def test_the_application_is_the_master() -> None:
    application = import_string("hub.asgi.application")
    comm = MqttComunicator(application, app_id=0, instance_type="master")
    assert len(await spawned(comm)) == 6 + 3
    await comm.disconnect()


@pytest.mark.parametrize(
    "rooms", [["lights"], ["sensor"], ["a/b"], ["#"], [""], ["hall", "hall"], ["den", "two words"]]
)
def test_names_that_cannot_be_rooms(rooms: list[str], settings: Any) -> None:
    settings.HUB_ROOMS = rooms
    with pytest.raises(ImproperlyConfigured, match="HUB_ROOMS"):
        topics.room_names()


def test_the_application_is_imported_into_a_fresh_interpreter() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    code = "from hub.asgi import application as a; print(sorted(a.application_mapping))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=HUB, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['http', 'mqtt', 'websocket']"


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", stdout=StringIO())


# --- All together --------------------------------------------------------------------------------


def matches(filter: str, topic: str) -> bool:
    """MQTT 5, section 4.7, for the filters of this hub."""
    if filter.endswith("/#"):
        return topic == filter[:-2] or topic.startswith(filter[:-1])
    ours, theirs = filter.split("/"), topic.split("/")
    return len(ours) == len(theirs) and all(a in ("+", b) for a, b in zip(ours, theirs))


class House:
    """Every consumer of the hub, and what a broker does between them."""

    def __init__(self) -> None:
        self.consumers: list[tuple[MqttComunicator, set[str]]] = []
        self.heard: list[tuple[str, bytes]] = []

    async def open(self) -> None:
        master = MqttComunicator(MasterConsumer.as_asgi(), app_id=0, instance_type="master")
        self.consumers.append((master, set()))
        for worker in await spawned(master):
            consumer = import_string(worker["consumer_path"])
            comm = MqttComunicator(
                consumer.as_asgi(),
                app_id=worker["app_id"],
                consumer_parameters=worker["consumer_params"],
            )
            subscribed = [await comm.connect(timeout=10)]
            while not await comm.receive_nothing(0.05):
                subscribed.append(await comm.receive_from())
            self.consumers.append((comm, {message["mqtt"]["topic"] for message in subscribed}))

    async def publish(self, topic: str, payload: bytes) -> None:
        for comm, filters in self.consumers:
            if any(matches(filter, topic) for filter in filters):
                await comm.publish(topic, payload, 1)

    async def settle(self, limit: int = 30) -> None:
        """Carry what consumers publish to those who listen, until all are silent."""
        quiet = False
        while not quiet:
            quiet = True
            for comm, _ in self.consumers:
                while not await comm.receive_nothing(0.05):
                    quiet = False
                    message = await comm.receive_from()
                    assert message["type"] == "mqtt.pub"
                    topic, payload = message["mqtt"]["topic"], message["mqtt"]["payload"]
                    self.heard.append((topic, payload))
                    assert len(self.heard) < limit, f"feedback: {self.heard}"
                    await self.publish(topic, payload)

    async def close(self) -> None:
        for comm, _ in self.consumers:
            await comm.disconnect()


async def test_nothing_feeds_back(half_past_six: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    await schedule(6)
    house = House()
    await house.open()
    await house.publish("home/sensor/motion", b"kitchen")
    await house.publish("home/sensor/living/temperature", b"30")
    await house.publish("home/energy/consumption", b"4000")
    await house.publish("home/bedroom/temperature", b"18.5")
    await house.publish("home/bedroom/status/get", b"")
    await house.publish("garden/sensor/moisture", b"10")
    await house.publish("zigbee2mqtt/lamp/availability", b"online")
    await house.publish("zigbee2mqtt/lamp/availability", b"offline")
    await house.settle()
    await get_channel_layer().group_send("rooms", {"type": "room.announce", "text": "Hello"})
    await house.settle()
    await house.close()
    state = {"room": "bedroom", "temperature": 18.5, "presence": None}
    assert sorted(house.heard) == [
        ("garden/valve/main", b"open"),
        ("home/alerts/energy", b"high_consumption"),
        ("home/alerts/offline", b"lamp"),
        ("home/bedroom/announce", b"Hello"),
        ("home/bedroom/status", json.dumps(state).encode()),
        ("home/fan/living/set", b"on"),
        ("home/kitchen/announce", b"Hello"),
        ("home/lights/kitchen/set", b"on"),
        ("home/living/announce", b"Hello"),
    ]


async def test_a_model_that_wants_to_answer_itself_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loop:
        async def decide(self, topic: str, value: str) -> str:
            return f"{topic} {value}"

    monkeypatch.setattr(ai, "load_model", Loop)
    house = House()
    await house.open()
    await house.publish("home/sensor/kitchen/temperature", b"30")
    await house.settle()
    await house.close()
    assert house.heard == []
