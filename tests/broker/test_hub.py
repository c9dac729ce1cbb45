"""The home-automation hub of `docs/examples/hub`, in a real broker, asked over MQTT."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.broker import virtualenv
from support.client import Client
from support.processes import wait_until
from support.redis import RedisServer

ROOT = Path(__file__).resolve().parents[2]
HUB = ROOT / "docs" / "examples" / "hub"
PACKAGE = ROOT / "python"


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the Python of the applications in the hub's folder."""
    prefix = virtualenv()
    program = str(prefix / "bin" / "python3") if prefix else sys.executable
    inherited = {"PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [program, *arguments],
        cwd=HUB,
        env={**os.environ, **inherited, "DJANGO_SETTINGS_MODULE": "hub.settings", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def manage(database: Path, *arguments: str, **environment: str) -> None:
    """Run `manage.py`, which must succeed."""
    result = python("manage.py", *arguments, HUB_DATABASE=str(database), **environment)
    assert result.returncode == 0, f"manage.py {arguments[0]}: {result.stdout}{result.stderr}"


class Hub:
    """The running hub and a client that hears everything under `home/` and `garden/`."""

    def __init__(self, broker: Any, database: Path) -> None:
        self.broker = broker
        self.database = database
        self.connect()

    def connect(self) -> None:
        """Get a client that has heard nothing yet."""
        self.client = self.broker.client()
        self.client.subscribe("home/#", qos=2)
        self.client.subscribe("garden/#", qos=2)

    def restart(self) -> None:
        """Stop the broker and start it with what it kept."""
        self.client.close()
        self.broker.restart()
        self.connect()

    def query(self, sql: str) -> list[Any]:
        """Return the first column of what a query finds."""
        with contextlib.closing(sqlite3.connect(str(self.database), timeout=20)) as connection:
            return [row[0] for row in connection.execute(sql)]

    def publish(self, topic: str, *payloads: str | bytes) -> None:
        """Publish the payloads one after the other, and return when the broker has them."""
        for payload in payloads:
            self.client.publish(topic, payload, qos=1)

    def knock(self, topic: str, payload: str, answer: str) -> None:
        """Publish until something comes to `answer`, and return when it has been quiet for a while.

        The broker accepts clients when the master has been started; its workers may still be on
        their way.
        """
        for _ in range(60):
            self.publish(topic, payload)
            if self.comes(answer):
                break
        else:
            raise AssertionError(f"no answer on {answer}; the broker's log:\n{self.broker.log()}")
        while self.comes(answer):
            pass

    def comes(self, topic: str) -> bool:
        """Tell whether a message comes to the topic within half a second."""
        try:
            self.client.wait_for(topic, timeout=0.5)
        except AssertionError:
            return False
        return True

    def says(self, text: str) -> None:
        """Wait for a text in the broker's log."""
        wait_until(lambda: text in self.broker.log(), 10, f"{text!r} in the log", self.broker.log)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the hub's tables."""
    if python("-c", "import channels, django").returncode != 0:
        pytest.skip("the applications' Python has no Django and Channels")
    database = tmp_path_factory.mktemp("hub") / "migrated.sqlite3"
    manage(database, "migrate", "--verbosity", "0")
    return database


@pytest.fixture
def start(broker: Callable[..., Any], migrated: Path, tmp_path: Path) -> Callable[..., Hub]:
    """Start the hub with a database of its own."""
    database = tmp_path / "hub.sqlite3"
    shutil.copy(migrated, database)

    def run(*, rows: str | None = None, redis_url: str = "", persistence: bool = False) -> Hub:
        if rows is not None:
            manage(database, "loaddata", rows, "--verbosity", "0")
        variables = {
            "DJANGO_SETTINGS_MODULE": "hub.settings",
            "HUB_DATABASE": str(database),
            "ANTHROPIC_API_KEY": "",
            "REDIS_URL": redis_url,
        }
        started = broker(
            application="hub.asgi:application",
            python_path=[HUB, PACKAGE],
            environment=variables,
            persistence=persistence,
        )
        return Hub(started, database)

    return run


def test_motion_switches_a_light_on(start: Callable[..., Hub]) -> None:
    hub = start()
    hub.knock("home/sensor/motion", "bedroom", "home/lights/bedroom/set")
    hub.publish("home/sensor/motion", "#", "lights", b"\xff", "kitchen")
    message = hub.client.wait_for("home/lights/+/set")
    assert (message.topic, message.payload, message.qos) == ("home/lights/kitchen/set", b"on", 1)
    assert not message.retain
    rooms = hub.query("SELECT room FROM home_motionevent ORDER BY id")
    assert set(rooms) == {"bedroom", "kitchen"}
    assert rooms.count("kitchen") == 1
    hub.says("is not a room")


def test_a_model_decides(start: Callable[..., Hub]) -> None:
    hub = start()
    hub.knock("home/sensor/living/temperature", "30", "home/fan/living/set")
    # The model answers in turn: what came of the first four would be there before the last answer.
    hub.publish("home/sensor/living/temperature", "21", "warm", b"\xff")
    hub.publish("home/sensor/living/humidity", "80")
    hub.publish("home/sensor/bedroom/temperature", "12")
    message = hub.client.wait_for("home/+/+/set")
    assert (message.topic, message.payload) == ("home/heating/bedroom/set", b"on")
    hub.says("not text")


def test_one_energy_alert_per_peak(start: Callable[..., Hub]) -> None:
    hub = start()

    def stored(watts: float) -> bool:
        return watts in hub.query("SELECT watts FROM home_energyreading")

    def first_reading() -> bool:
        hub.publish("home/energy/consumption", "1")
        return stored(1.0)

    wait_until(first_reading, 30, "a stored reading", hub.broker.log)
    readings = ["2999", "3500", "much", "nan", "4000", "2800", "3100", "2000", "3200.5"]
    hub.publish("home/energy/consumption", *readings)
    wait_until(lambda: stored(3200.5), 10, "the last reading", hub.broker.log)
    for _ in range(2):
        message = hub.client.wait_for("home/alerts/energy")
        assert (message.payload, message.qos) == (b"high_consumption", 2)
    assert not hub.comes("home/alerts/energy")
    good = [float(watts) for watts in readings if watts not in ("much", "nan")]
    assert hub.query("SELECT watts FROM home_energyreading WHERE watts > 1 ORDER BY id") == good
    hub.says("is not a number of watts")


def test_every_room_has_a_worker_that_knows_its_state(start: Callable[..., Hub]) -> None:
    hub = start()
    rooms = ["living", "bedroom", "kitchen"]
    for room in rooms:
        hub.knock(f"home/{room}/status/get", "", f"home/{room}/status")
    hub.publish("home/kitchen/temperature", "21.5")
    hub.publish("home/kitchen/presence", "on", "perhaps")
    for room in rooms:
        hub.publish(f"home/{room}/status/get", "")
        message = hub.client.wait_for(f"home/{room}/status")
        here = room == "kitchen"
        assert json.loads(message.payload) == {
            "room": room,
            "temperature": 21.5 if here else None,
            "presence": True if here else None,
        }
        # The worker hears its answer too, and has nothing to say to it.
        assert not hub.comes(f"home/{room}/status")
    hub.says("is not a presence")


def test_what_the_broker_kept_is_a_state_and_no_event(start: Callable[..., Hub]) -> None:
    hub = start(persistence=True)
    hub.knock("home/sensor/motion", "bedroom", "home/lights/bedroom/set")
    hub.client.publish("home/sensor/motion", "cellar", qos=1, retain=True)
    hub.client.wait_for("home/lights/cellar/set")
    hub.client.publish("home/living/temperature", "19", qos=1, retain=True)
    hub.restart()

    def temperature() -> Any:
        hub.publish("home/living/status/get", "")
        return json.loads(hub.client.wait_for("home/living/status").payload)["temperature"]

    hub.knock("home/sensor/motion", "bedroom", "home/lights/bedroom/set")
    hub.knock("home/living/status/get", "", "home/living/status")
    wait_until(lambda: temperature() == 19.0, 10, "the kept temperature", hub.broker.log)
    assert not hub.comes("home/lights/cellar/set")
    assert hub.query("SELECT room FROM home_motionevent").count("cellar") == 1


def test_a_device_that_dies_is_reported(start: Callable[..., Hub]) -> None:
    hub = start(persistence=True)
    topic = "zigbee2mqtt/{}/availability".format

    def online() -> list[Any]:
        return hub.query("SELECT name FROM home_device WHERE online ORDER BY name")

    def device(name: str) -> Client:
        client: Client = hub.broker.client(will=(topic(name), "offline", 1, True))
        client.publish(topic(name), "online", qos=1, retain=True)
        return client

    lamp, plug = device("lamp"), device("plug")
    wait_until(lambda: online() == ["lamp", "plug"], 30, "both devices", hub.broker.log)
    lamp.abort()
    message = hub.client.wait_for("home/alerts/offline")
    assert (message.payload, message.qos) == (b"lamp", 1)
    assert online() == ["plug"]
    # What another hub's broker kept, or one whose database is new.
    plug.close()
    with contextlib.closing(sqlite3.connect(str(hub.database), timeout=20)) as connection, connection:
        connection.execute("DELETE FROM home_device")
    hub.restart()
    wait_until(lambda: online() == ["plug"], 30, "what the broker kept", hub.broker.log)
    assert hub.query("SELECT name FROM home_device ORDER BY name") == ["lamp", "plug"]
    assert not hub.comes("home/alerts/offline")


def test_a_dry_garden_is_watered_on_schedule(start: Callable[..., Hub]) -> None:
    hub = start(rows="every_hour")
    hub.knock("garden/sensor/moisture", "10", "garden/valve/main")
    hub.publish("garden/sensor/moisture", "80", "-1", "1023", "dry", "29.5")
    message = hub.client.wait_for("garden/valve/main")
    assert (message.payload, message.qos) == (b"open", 2)
    assert not hub.comes("garden/valve/main")
    hub.says("is not a percentage")


def test_no_schedule_no_water(start: Callable[..., Hub]) -> None:
    hub = start()

    def complains() -> bool:
        hub.publish("garden/sensor/moisture", "dry")
        return "is not a percentage" in hub.broker.log()

    wait_until(complains, 30, "the irrigation's worker", hub.broker.log)
    hub.publish("garden/sensor/moisture", "10")
    assert not hub.comes("garden/valve/main")


def test_manage_py_announce_reaches_every_room(redis_server: RedisServer, start: Callable[..., Hub]) -> None:
    if python("-c", "import channels_redis").returncode != 0:
        pytest.skip("the applications' Python has no channels_redis")
    hub = start(redis_url=redis_server.url)
    rooms = ["living", "bedroom", "kitchen"]
    for room in rooms:
        hub.knock(f"home/{room}/status/get", "", f"home/{room}/status")
    manage(hub.database, "announce", "Essen für alle", REDIS_URL=redis_server.url)
    heard = [hub.client.wait_for("home/+/announce") for _ in rooms]
    assert {message.topic for message in heard} == {f"home/{room}/announce" for room in rooms}
    assert {message.payload.decode() for message in heard} == {"Essen für alle"}
