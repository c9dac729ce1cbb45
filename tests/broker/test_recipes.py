"""The consumers of docs/recipes.md in a real broker, with devices that come, are cut off and come again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.recipes import blocks, write_package

ASGI = """\
import django
from django.conf import settings

settings.configure()
django.setup()

from mysite.consumers import House

application = House.as_asgi()
"""


def start(broker: BrokerFactory, folder: Path) -> tuple[Broker, Client]:
    (write_package(folder) / "asgi.py").write_text(ASGI)
    started = broker(
        "mysite.asgi:application", python_path=(folder, Path(__file__).resolve().parents[2] / "python")
    )
    started.wait_for_log("Session with the listener")
    hears = started.client()
    for topic in ("home/alerts/#", "cmnd/#", "+/rpc", "shellies/+/relay/0/command", "zigbee2mqtt/+/set"):
        hears.subscribe(topic, qos=1)
    return started, hears


def device(broker: Broker, topic: str, here: str, gone: str) -> Client:
    """A device that says that it is here, and leaves the other word as its last will."""
    client: Client = broker.client(will=(topic, gone, 1, True), protocol=4)
    client.publish(topic, here, qos=1, retain=True)
    return client


def test_devices(broker: BrokerFactory, tmp_path: Path) -> None:
    started, hears = start(broker, tmp_path / "project")
    plug = device(started, "tele/washer/LWT", "Online", "Offline")
    heater = device(started, "heater/online", "true", "false")
    bridge = device(started, "zigbee2mqtt/bridge/state", '{"state": "online"}', '{"state": "offline"}')
    bridge.publish("zigbee2mqtt/hall_lamp/availability", '{"state": "online"}', qos=1, retain=True)
    assert hears.wait_for("zigbee2mqtt/hall_lamp/set").payload == b'{"state": "OFF"}'
    bridge.publish("zigbee2mqtt/hall_motion", '{"occupancy": true, "battery": 97}')
    assert hears.wait_for("zigbee2mqtt/hall_lamp/set").payload == b'{"state": "ON"}'
    button = started.client(protocol=4)
    button.publish("shellies/shellybutton1-A4CF12F45301/input_event/0", '{"event": "S", "event_cnt": 2}')
    assert hears.wait_for("shellies/shelly1-B929CC/relay/0/command").payload == b"toggle"
    (pushed,) = (block for block in blocks("json") if "NotifyEvent" in block)
    heater.publish("heater/events/rpc", pushed, qos=1)
    assert json.loads(hears.wait_for("heater/rpc").payload)["params"]["on"] is True
    heater.abort()
    assert hears.wait_for("home/alerts/heater").payload == b"offline"
    plug.publish("tele/washer/SENSOR", '{"ENERGY": {"Power": 1840}}', qos=1)
    plug.abort()
    assert b"offline" in hears.wait_for("home/alerts/washer").payload
    # It is the broker's memory of the last wills that a new consumer finds.
    late = started.client()
    late.subscribe("+/+/LWT", qos=1)
    late.subscribe("+/online", qos=1)
    assert (late.wait_for("tele/washer/LWT").payload, late.wait_for("heater/online").payload) == (
        b"Offline",
        b"false",
    )


def test_what_a_new_start_finds(broker: BrokerFactory, tmp_path: Path) -> None:
    """Retained words alone: what a device said before is not what happens now."""
    started, hears = start(broker, tmp_path / "project")
    hears.publish("heater/online", "false", qos=1, retain=True)
    assert hears.wait_for("home/alerts/heater").payload == b"offline"
    (listening, trying) = (block for block in blocks("sh") if "mosquitto" in block)
    assert listening.startswith("mosquitto_sub -v -t 'zigbee2mqtt/#'")
    lines = [line for line in trying.splitlines() if line]
    for line in lines:
        entered, _, comment = line.partition(" #")
        words = entered.replace("mosquitto_pub", f"mosquitto_pub -p {started.port}")
        subprocess.run(["sh", "-c", words], check=True, timeout=20)
        for topic, payload in re.findall(r"(home/\S+) (\S+)", comment):
            assert hears.wait_for(topic).payload == payload.encode()
    assert hears.wait_for("cmnd/washer/POWER").payload == b"OFF"
