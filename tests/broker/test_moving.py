"""A project written for mqttasgi 1.x, moved by starting it with this command instead."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from conftest import BrokerFactory
from support.broker import passwords
from support.client import Client
from support.command import Command, run_command
from support.ports import free_port

EXISTING = Path(__file__).with_name("existing")
LOGIN = {"username": "hub", "password": "correct horse battery"}


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start a copy of the project, with its database made as its own process would."""
    folder = tmp_path / "broker-command"
    folder.mkdir()
    made: list[Command] = []

    def start(port: int, **environment: str) -> Command:
        # The port is the one thing that a test cannot leave as it is.
        command = Command(
            folder,
            None,
            settings={"MQTT_HOSTNAME": None, "MQTT_PORT": None},
            words=["my_application.asgi:application"],
            environment={"MQTT_PORT": str(port), **environment},
            python_path=None,
            port=port,
            listener="MQTTASGI_BRIDGE" not in environment,
        )
        made.append(command)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(EXISTING, command.project, ignore=ignored, dirs_exist_ok=True)
        migrate = ("manage.py", "migrate", "--verbosity", "0")
        migrated = run_command(folder=command.project, program=(sys.executable, *migrate))
        assert migrated.returncode == 0, migrated.stderr
        return command.start()

    yield start
    for command in made:
        command.finish()


def use(client: Client) -> None:
    """Use all that the project does."""
    client.subscribe("house/status", qos=1)
    kept = client.wait_for("house/status")
    assert (kept.payload, kept.retain) == (b"online", True)
    for topic in ("house/+/light/set", "house/counted"):
        client.subscribe(topic, qos=1)
    for room in ("kitchen", "hall", "kitchen"):
        client.publish(f"house/{room}/motion", qos=1)
        light = client.wait_for("house/+/light/set")
        assert (light.topic, light.payload) == (f"house/{room}/light/set", b"on")
    client.publish("house/all/set", "off", qos=2)
    lights = {client.wait_for("house/+/light/set").topic for _ in (1, 2)}
    assert lights == {"house/kitchen/light/set", "house/hall/light/set"}
    client.publish("house/count", qos=2)
    assert json.loads(client.wait_for("house/counted").payload) == {"count": 3, "qos": 1}


def check_unchanged(project: Path) -> None:
    for file in EXISTING.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert (project / file.relative_to(EXISTING)).read_bytes() == file.read_bytes()


def test_it_runs_as_it_is(moved: Callable[..., Command]) -> None:
    """`mqttasgi my_application.asgi:application`, in its folder."""
    started = moved(free_port())
    use(started.client(**LOGIN))
    with pytest.raises(ConnectionError):
        started.client(username="hub", password="guessed")
    # VERBOSITY=1 in its .env.
    started.wait_for_log("worker 2 is in the hall")
    assert started.stop() == 0
    check_unchanged(started.project)


def test_it_keeps_its_broker(broker: BrokerFactory, moved: Callable[..., Command], tmp_path: Path) -> None:
    """The same with the broker that it had, which is mirrored."""
    remote = broker(
        plugin=None, anonymous=False, lines=[passwords(tmp_path, **{LOGIN["username"]: LOGIN["password"]})]
    )
    watcher = remote.client(**LOGIN)
    watcher.subscribe("house/status", qos=1)
    started = moved(remote.port, MQTTASGI_BRIDGE="true")
    watcher.wait_for("house/status", timeout=20)
    use(remote.client(**LOGIN))
    assert {m.payload for m in watcher.messages} == {b"online"}
    assert "as house-hub (" in remote.log()
    assert started.stop() == 0
    check_unchanged(started.project)
