"""A project written for mqttasgi 1.x, moved by starting it with this command instead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from conftest import BrokerFactory
from support.broker import passwords
from support.client import Client
from support.command import command_environment
from support.command_broker import CommandBroker, command
from support.processes import PATIENCE, free_port

EXISTING = Path(__file__).with_name("existing")
LOGIN = {"username": "hub", "password": "correct horse battery"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project, with its database made as its own process would."""
    folder = tmp_path / "project"
    shutil.copytree(EXISTING, folder, ignore=shutil.ignore_patterns("__pycache__"))
    python = command()[0]
    migrated = subprocess.run(
        [python, "manage.py", "migrate", "--verbosity", "0"],
        cwd=folder,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert migrated.returncode == 0, migrated.stderr
    return folder


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Callable[..., CommandBroker]]:
    """Start the project; its port is the one thing that a test cannot leave as it is."""
    folder = tmp_path / "broker-command"
    folder.mkdir()
    made: list[CommandBroker] = []

    def run(port: int, **variables: str) -> CommandBroker:
        # User mosquitto could not look into the test's folder.
        words = ("--user", "root") if os.geteuid() == 0 else ()
        words = (*words, "my_application.asgi:application")
        variables["MQTT_PORT"] = str(port)
        made.append(CommandBroker(folder, *words, project=project, variables=variables, port=port))
        made[0].start()
        return made[0]

    yield run
    for broker in made:
        broker.finish()


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


def test_it_runs_as_it_is(start: Callable[..., CommandBroker], project: Path) -> None:
    """`mqttasgi my_application.asgi:application`, in its folder."""
    started = start(free_port())
    use(started.client(**LOGIN))
    with pytest.raises(ConnectionError):
        started.client(username="hub", password="guessed")
    # VERBOSITY=1 in its .env.
    started.wait_for_log("worker 2 is in the hall")
    assert started.stop() == 0
    check_unchanged(project)


def test_it_keeps_its_broker(
    broker: BrokerFactory, start: Callable[..., CommandBroker], project: Path, tmp_path: Path
) -> None:
    """The same with the broker that it had, which is mirrored."""
    remote = broker(
        plugin=None, anonymous=False, lines=[passwords(tmp_path, **{LOGIN["username"]: LOGIN["password"]})]
    )
    watcher = remote.client(**LOGIN)
    watcher.subscribe("house/status", qos=1)
    started = start(remote.port, MQTTASGI_BRIDGE="true")
    watcher.wait_for("house/status", timeout=20)
    use(remote.client(**LOGIN))
    assert {m.payload for m in watcher.messages} == {b"online"}
    assert "as house-hub (" in remote.log()
    assert started.stop() == 0
    check_unchanged(project)
