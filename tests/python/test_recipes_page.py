"""The consumers of docs/recipes.md do what the page says, with what the devices send."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mqttasgi.testing import MqttComunicator
from support.recipes import blocks, write_package

NONSENSE = [b"", b"\xff", b"[", b"[1]", b"null", b'"online"', b"{" * 5, b"[" * 100_000, b"1e999"]


@pytest.fixture
def mysite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a module of the page."""
    write_package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield lambda name: importlib.import_module(f"mysite.{name}")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "mysite":
            del sys.modules[name]


@contextlib.asynccontextmanager
async def connected(consumer: Any, *filters: str) -> AsyncIterator[MqttComunicator]:
    played = MqttComunicator(consumer.as_asgi(), app_id=1)
    first = await played.connect()
    rest = [await played.receive_from() for _ in filters[1:]]
    assert tuple(event["mqtt"]["topic"] for event in [first, *rest]) == filters
    yield played
    await played.disconnect()


async def sent(played: MqttComunicator, count: int = 1) -> list[tuple[str, Any]]:
    """Return topics and payloads of what the consumer publishes next: never retained."""
    messages = [(await played.receive_from())["mqtt"] for _ in range(count)]
    assert all(message["qos"] == 1 and not message.get("retain") for message in messages)
    return [(message["topic"], message["payload"]) for message in messages]


async def say(played: MqttComunicator, topic: str, payload: Any, retain: bool = False) -> None:
    if not isinstance(payload, (str, bytes)):
        payload = json.dumps(payload)
    await played.publish(topic, payload, 1, retain=retain)


async def hear_nonsense(played: MqttComunicator, *topics: str) -> None:
    for topic in topics:
        for payload in NONSENSE:
            await say(played, topic, payload)
    assert await played.receive_nothing(0.2)
    assert not played.future.done()


SENSOR, LAMP = "zigbee2mqtt/hall_motion", "zigbee2mqtt/hall_lamp"
ON, OFF = ((f"{LAMP}/set", json.dumps({"state": state})) for state in ("ON", "OFF"))


async def test_zigbee(mysite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    zigbee = mysite("zigbee")
    monkeypatch.setattr(zigbee, "SECONDS", 0.3)
    async with connected(zigbee.HallLight, SENSOR, f"{LAMP}/availability") as played:
        await say(played, f"{LAMP}/availability", {"state": "online"}, retain=True)
        assert await sent(played) == [OFF]
        await say(played, SENSOR, {"battery": 97, "occupancy": True}, retain=True)
        await say(played, SENSOR, {"battery": 97, "linkquality": 120, "occupancy": True})
        assert await sent(played) == [ON]
        await say(played, SENSOR, {"battery": 97, "occupancy": False})
        await say(played, SENSOR, {"battery": 97, "occupancy": True})
        assert await sent(played) == [ON]
        assert await played.receive_nothing(0.5)  # somebody is there again
        await say(played, f"{LAMP}/availability", {"state": "offline"})
        await say(played, f"{LAMP}/availability", {"state": "online"})
        assert await sent(played) == [ON]
        await say(played, SENSOR, {"battery": 97, "occupancy": False})
        assert await sent(played) == [OFF]
        await hear_nonsense(played, SENSOR, f"{LAMP}/availability")


async def test_tasmota(mysite: Any) -> None:
    sensor, lwt = "tele/washer/SENSOR", "tele/washer/LWT"

    def power(watts: Any) -> dict[str, Any]:
        return {"Time": "2026-03-01T18:20:38", "ENERGY": {"Total": 103.5, "Power": watts, "Voltage": 231}}

    (shown,) = (json.loads(block) for block in blocks("json") if "ENERGY" in block)
    async with connected(mysite("tasmota").Washer, sensor, lwt) as played:
        await say(played, lwt, "Online", retain=True)
        await say(played, lwt, "Offline")  # it was not running
        await say(played, sensor, power(1))
        await say(played, sensor, shown, retain=True)
        await say(played, sensor, power(1))
        await say(played, sensor, shown)
        await say(played, sensor, power(12))
        await say(played, sensor, power("1"))
        await say(played, sensor, power(None))
        await say(played, sensor, {"ENERGY": [1, 2]})
        assert await played.receive_nothing(0.2)
        await say(played, sensor, power(2))
        done = [("home/alerts/washer", "done"), ("cmnd/washer/POWER", "OFF")]
        assert await sent(played, 2) == done
        await hear_nonsense(played, sensor, lwt)
        await say(played, sensor, power(900))
        await say(played, lwt, "Offline")
        assert (await sent(played))[0][0] == "home/alerts/washer"


async def test_shelly_of_the_first_generation(mysite: Any) -> None:
    shelly = mysite("shelly")
    async with connected(shelly.Scenes, shelly.BUTTON) as played:
        await say(played, shelly.BUTTON, {"event": "S", "event_cnt": 1}, retain=True)
        await say(played, shelly.BUTTON, {"event": "S", "event_cnt": 2})
        await say(played, shelly.BUTTON, {"event": "S", "event_cnt": 2})
        await say(played, shelly.BUTTON, {"event": "SSS", "event_cnt": 3})
        await say(played, shelly.BUTTON, {"event": ["L"], "event_cnt": 4})
        await say(played, shelly.BUTTON, {"event": "L", "event_cnt": 5})
        assert await sent(played, 3) == [*shelly.SCENES["S"], *shelly.SCENES["L"]]
        await hear_nonsense(played, shelly.BUTTON)


async def test_shelly_gen2(mysite: Any) -> None:
    topics = ["heater/events/rpc", "heater/status/switch:0", "heater/house/rpc", "heater/online"]
    events, status, answers, online = topics
    (notified,) = (json.loads(block) for block in blocks("json") if "NotifyEvent" in block)
    (switch,) = (json.loads(block) for block in blocks("json") if "apower" in block)

    async def asked(played: MqttComunicator) -> Any:
        ((topic, payload),) = await sent(played)
        frame = json.loads(payload)
        assert (topic, frame["src"], frame["method"]) == ("heater/rpc", "heater/house", "Switch.Set")
        return frame["params"]

    async with connected(mysite("shelly").Heater, *topics) as played:
        await say(played, online, "true", retain=True)
        await say(played, events, notified)
        assert await asked(played) == {"id": 0, "on": True, "toggle_after": 1800}
        await say(played, answers, {"id": 1, "src": "x", "dst": "heater/house", "result": {"was_on": False}})
        await say(played, status, switch)
        await say(played, status, {**switch, "apower": 2400, "output": False})
        for wrong in ({"params": 1}, {"params": {"events": 1}}, {"params": {"events": [1, {}]}}):
            await say(played, events, wrong)
        await say(played, events, json.dumps(notified).replace("single_push", "btn_down"))
        await hear_nonsense(played, *topics)
        await say(played, status, {**switch, "apower": 2400})
        assert await asked(played) == {"id": 0, "on": False}
        assert await sent(played) == [("home/alerts/heater", "too much")]
        await say(played, answers, {"id": 1, "error": {"code": -103, "message": "Invalid argument"}})
        assert "Invalid argument" in (await sent(played))[0][1]
        await say(played, online, "false")
        assert await sent(played) == [("home/alerts/heater", "offline")]


async def test_the_house(mysite: Any) -> None:
    """It starts what is there, once."""
    played = MqttComunicator(mysite("consumers").House.as_asgi(), app_id="", instance_type="master")
    events = [await played.connect(), *[await played.receive_from() for _ in range(3)]]
    assert {event["type"] for event in events} == {"mqttasgi.worker.spawn"}
    for event in events:
        module, _, name = event["command"]["consumer_path"].rpartition(".")
        assert hasattr(mysite(module.partition(".")[2]), name)
    await played.send_input({"type": "mqtt.connect"})
    assert await played.receive_nothing(0.1)
    await played.disconnect()
