"""The examples of mqttasgi 1.0's documentation, unchanged, in a real broker.

`reference/README.md` says what is where.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

from conftest import BrokerFactory
from support.broker import Broker, virtualenv
from support.client import Client
from support.elsewhere import delivered
from support.processes import PATIENCE
from support.redis import RedisServer

PACKAGE = Path(__file__).resolve().parents[2] / "python"
REFERENCE = Path(__file__).with_name("reference")
BLOCKS = REFERENCE / "blocks"

PLACES = {
    "asgi.py": "my_application/asgi.py",
    "consumer.py": "my_application/consumers.py",
    "channel_layer.py": "my_application/consumers.py",
    "workers.py": "my_application/master.py",
    "testing_pytest.ini": "pytest.ini",
    "testing_conftest.py": "tests/conftest.py",
    "testing_tests.py": "tests/test_consumers.py",
    "response_shape.py": "response_shape.py",
    "light_automation.py": "myapp/consumers.py",
    "ai_automation.py": "myapp/consumers.py",
    "energy_monitor.py": "myapp/consumers.py",
    "rooms.py": "myapp/consumers.py",
    "irrigation.py": "myapp/consumers.py",
}
"""Each block's file in a Django project."""


def place(folder: Path, *blocks: str) -> None:
    """Put blocks into a project."""
    for block in blocks:
        target = folder / PLACES[block]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(BLOCKS / block, target)


def python(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the Python of the applications in a folder."""
    prefix = virtualenv()
    program = str(prefix / "bin" / "python3") if prefix else sys.executable
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "PYTEST_", "PYTHON"))
    }
    path = f"{folder}{os.pathsep}{PACKAGE}"
    return subprocess.run(
        [program, *map(str, arguments)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )


class Project:
    """A Django project made of blocks, and the broker that runs it.

    Attributes:
        folder: What its files are in.
        broker: Running, after `start()`.
        client: Receives whatever is published after `start()`, its own messages included.
    """

    broker: Broker
    client: Client

    def __init__(self, folder: Path, make_broker: BrokerFactory) -> None:
        self.folder = folder
        self._make_broker = make_broker

    def add(self, *blocks: str, consumers: str = "") -> Project:
        """Put blocks into the project.

        Args:
            consumers: The text of `my_application/consumers.py`, which has to know the `MyMqttConsumer` that asgi.py
                imports, for blocks that call theirs something else.
        """
        place(self.folder, *blocks)
        if consumers:
            (self.folder / "my_application" / "consumers.py").write_text(consumers)
        return self

    def start(self, application: str = "my_application.watched:application", **environment: str) -> Project:
        """Start the broker; by default with a witness in front of the blocks."""
        if application != "my_application.asgi:application":
            environment["DJANGO_SETTINGS_MODULE"] = "my_application.settings"
        self.broker = self._make_broker(
            application=application,
            python_path=[self.folder, PACKAGE],
            options={"verbosity": 1},
            environment=environment,
        )
        self.client = self.broker.client()
        # The flag of a live message says whether it was published with it only to those who ask (MQTT 5, 3.8.3.1).
        self.client.subscribe("#", options=SubscribeOptions(qos=2, retainAsPublished=True))
        return self

    def publish(self, topic: str, *payloads: str | bytes, qos: int = 1) -> None:
        """Publish the payloads one after the other, and return when the broker has them."""
        for payload in payloads:
            self.client.publish(topic, payload, qos=qos)

    def next(self, topic: str) -> tuple[str, bytes, int, bool]:
        """Return topic, payload, QoS and retain flag of the next message to a topic or filter."""
        message = self.client.wait_for(topic)
        return message.topic, bytes(message.payload), message.qos, message.retain

    def count(self, topic: str) -> int:
        """Tell how many messages to a topic have come since the start."""
        return sum(message.topic == topic for message in self.client.messages)

    def sees(self, line: str, since: int = 0) -> None:
        """Wait for a line of the witness; see `witness.py`."""
        self.broker.wait_for_log(f"witness: {re.escape(line)}$", since=since)

    def seen(self, start: str) -> list[str]:
        """Return the lines of the witness so far that begin with this, without it."""
        return re.findall(f"witness: {re.escape(start)} ?(.*)$", self.broker.log(), re.MULTILINE)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the project's database, and return the rows it finds."""
        with (
            contextlib.closing(sqlite3.connect(str(self.folder / "db.sqlite3"), timeout=20)) as connection,
            connection,
        ):
            return connection.execute(sql).fetchall()

    def stop(self, *filters: str, who: str = "master 0") -> None:
        """Stop the broker; the consumer must get to its `disconnect()`, there unsubscribe, and end without an error."""
        assert self.broker.stop() == 0
        _, goodbye = self.broker.log().split(f"witness: {who} received mqtt.disconnect\n")
        told = re.findall(f"witness: {re.escape(who)} (.*)$", goodbye, re.MULTILINE)
        assert told == [*(f"sent mqtt.usub {filter}" for filter in filters), "ended"]


@pytest.fixture(scope="module")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without blocks, its tables in the database."""
    folder = tmp_path_factory.mktemp("reference") / "project"
    shutil.copytree(REFERENCE / "project", folder, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    if python(folder, "-c", "import channels, django").returncode != 0:
        pytest.skip("the applications' Python has no Django and Channels")
    result = python(
        folder,
        *("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"),
        DJANGO_SETTINGS_MODULE="my_application.settings",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def project(broker: BrokerFactory, empty_project: Path, tmp_path: Path) -> Project:
    """A project of this test's own, without blocks."""
    folder = tmp_path / "project"
    shutil.copytree(empty_project, folder)
    return Project(folder, broker)


def test_the_blocks_are_all_there_and_unchanged() -> None:
    lines = (BLOCKS / "SHA256SUMS").read_text().splitlines()
    documented = {name: digest for digest, name in (line.split() for line in lines)}
    assert documented.keys() == PLACES.keys()
    assert documented == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in BLOCKS.iterdir()
        if path.name != "SHA256SUMS"
    }


# ---- setup, the consumer, its API ----


def test_asgi_setup(project: Project) -> None:
    """Nothing but the two blocks: asgi.py itself says where the settings are."""
    project.add("asgi.py", "consumer.py").start("my_application.asgi:application")
    project.publish("my/topic", "hello")
    assert project.next("response/topic") == ("response/topic", b"hello", 1, False)


@pytest.mark.parametrize("application", ["watched:application", "consumers:MyMqttConsumer"])
def test_writing_a_consumer(project: Project, application: str) -> None:
    project.add("asgi.py", "consumer.py").start(f"my_application.{application}")
    project.publish("my/other/topic", "not subscribed to")
    payloads = [b"zero", b"\0\xff", b""]
    for qos, payload in enumerate(payloads):
        project.publish("my/topic", payload, qos=qos)
    for payload in payloads:
        assert project.next("response/topic") == ("response/topic", payload, 1, False)
    # Each came once: a response that is too many would be the next one.
    project.publish("my/topic", "last")
    assert project.next("response/topic") == ("response/topic", b"last", 1, False)
    if application.startswith("watched"):
        assert project.seen("master 0 received mqtt.msg") == [
            f"my/topic {delivered(qos)}" for qos in (0, 1, 2, 1)
        ]
        project.stop("my/topic")


# ---- channel layers ----

GREETING = r"^Channel layer message: \{'type': 'my\.custom\.message', 'text': 'Hello from outside'\}$"


def test_channel_layer(project: Project) -> None:
    """The sender runs when the block is imported, when nobody is in the group yet, and again from a view."""
    project.add("asgi.py", "channel_layer.py").start("my_application.visited:application")
    assert not re.search(GREETING, project.broker.log(), re.MULTILINE)
    project.publish("my/topic", "one")
    project.broker.wait_for_log(GREETING)
    project.sees("master 0 handled mqtt.msg my/topic 1")
    second = len(project.broker.log())
    project.publish("my/topic", "two")
    project.broker.wait_for_log(GREETING, since=second)
    project.stop()
    assert len(re.findall(GREETING, project.broker.log(), re.MULTILINE)) == 2


def test_channel_layer_from_another_process(
    redis_server: RedisServer, project: Project, empty_project: Path
) -> None:
    if python(empty_project, "-c", "import channels_redis").returncode != 0:
        pytest.skip("the applications' Python has no channels_redis")
    project.add("asgi.py", "channel_layer.py").start(REDIS_URL=redis_server.url)
    result = python(
        project.folder,
        project.folder / "my_application" / "consumers.py",
        DJANGO_SETTINGS_MODULE="my_application.settings",
        REDIS_URL=redis_server.url,
    )
    assert result.returncode == 0, result.stderr
    project.broker.wait_for_log(GREETING)
    project.stop()
    assert len(re.findall(GREETING, project.broker.log(), re.MULTILINE)) == 1


# ---- workers ----

WORKER = '''
import json

from my_application.master import MasterConsumer


class MyMqttConsumer(MasterConsumer):
    """The master of the block subscribes to nothing; this one is also told something."""

    async def connect(self):
        await super().connect()
        await self.subscribe("my/condition", qos=1)


class WorkerConsumer(MqttConsumer):
    async def connect(self):
        await self.subscribe("my/worker", qos=1)

    async def receive(self, mqtt_message):
        known = {key: self.scope[key] for key in ("app_id", "instance_type", "device_id")}
        await self.publish("my/worker/answer", json.dumps(known))

    async def disconnect(self):
        await self.unsubscribe("my/worker")
'''


def test_a_worker_is_spawned_and_killed(project: Project) -> None:
    project.add("asgi.py", "workers.py", consumers=WORKER).start()

    def decide() -> None:
        since = len(project.broker.log())
        project.publish("my/condition", "")
        project.sees("master 0 handled mqtt.msg my/condition 1", since)

    project.sees("worker 1 sent mqtt.sub my/worker 1")
    decide()
    project.publish("my/worker", "")
    assert json.loads(project.next("my/worker/answer")[1]) == {
        "app_id": 1,
        "instance_type": "worker",
        "device_id": "sensor-01",
    }
    project.sees("worker 1 handled mqtt.msg my/worker 1")

    condition = project.folder / "condition"
    condition.touch()
    decide()
    project.sees("worker 1 received mqtt.disconnect")
    project.sees("worker 1 ended")
    condition.unlink()
    project.publish("my/worker", "")
    decide()
    assert project.seen("worker 1 received mqtt.msg") == ["my/worker 1"]
    assert project.count("my/worker/answer") == 1
    project.stop()
    project.stop("my/worker", who="worker 1")


def test_a_worker_for_every_room(project: Project) -> None:
    project.add(
        "asgi.py",
        "rooms.py",
        consumers="from myapp.consumers import MasterConsumer as MyMqttConsumer",
    ).start()
    rooms = {"living": "worker 1", "bedroom": "worker 2", "kitchen": "worker 3"}
    for room, worker in rooms.items():
        project.sees(f"{worker} sent mqtt.sub home/{room}/# 1")
    project.publish("home/cellar/lamp", "no worker of its own")
    for room, worker in rooms.items():
        project.publish(f"home/{room}/lamp", "on", qos=2)
        project.publish(f"home/{room}", "parent of #")
        project.sees(f"{worker} handled mqtt.msg home/{room} 1")
    for room, worker in rooms.items():
        assert project.seen(f"{worker} received mqtt.msg") == [
            f"home/{room}/lamp 1",
            f"home/{room} 1",
        ]
    project.stop()
    for room, worker in rooms.items():
        project.stop(f"home/{room}/#", who=worker)


# ---- testing without a broker ----


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in the folder of the testing blocks, as its reader would."""
    place(folder, "consumer.py", "testing_pytest.ini", "testing_conftest.py", "testing_tests.py")
    (folder / "my_application" / "__init__.py").touch()
    return python(folder, "-m", "pytest", "-p", "no:cacheprovider", "-v", *arguments)


@pytest.mark.parametrize("arguments", [(), ("-p", "no:django")], ids=["plain", "without pytest-django"])
def test_testing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = pytest_in(tmp_path, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.findall(r"^tests/test_consumers\.py::(\w+) PASSED", result.stdout, re.MULTILINE)
    assert passed == ["test_subscribe_on_connect", "test_publish_on_message"]
    assert re.search(r"^=+ 2 passed in ", result.stdout, re.MULTILINE), result.stdout


RESPONSES = """
import pytest
from mqttasgi.testing import MqttComunicator
from my_application.consumers import MyMqttConsumer


async def test_responses():
    comm = MqttComunicator(MyMqttConsumer.as_asgi(), app_id=1)
    subscribed = await comm.connect()
    await comm.publish("my/topic", b"...", qos=1)
    published = await comm.receive_from()
    await comm.disconnect()
    print([subscribed, published, await comm.receive_from()])
"""


def test_shape_of_consumer_responses(tmp_path: Path) -> None:
    place(tmp_path, "response_shape.py")
    documented = ast.literal_eval((tmp_path / "response_shape.py").read_text())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_responses.py").write_text(RESPONSES)
    result = pytest_in(tmp_path, "-rP", "tests/test_responses.py")
    found = re.search(r"^\[\{.*\}\]$", result.stdout, re.MULTILINE)
    assert found, result.stdout + result.stderr
    subscribed, published, unsubscribed = ast.literal_eval(found[0])

    # Equal to the documented one where it applies: the payload only in a publish, the QoS not in an unsubscription.
    topic, payload, qos = (documented["mqtt"][key] for key in ("topic", "payload", "qos"))
    assert documented == {
        "type": "mqtt.sub",
        "mqtt": {"topic": topic, "payload": payload, "qos": qos},
    }
    assert subscribed == {"type": "mqtt.sub", "mqtt": {"topic": topic, "qos": 2}}
    assert published == {
        "type": "mqtt.pub",
        "mqtt": {"topic": "response/topic", "payload": payload, "qos": qos, "retain": False},
    }
    assert unsubscribed == {"type": "mqtt.usub", "mqtt": {"topic": topic}}


# ---- project ideas ----


def test_motion_triggered_lights(project: Project) -> None:
    project.add(
        "asgi.py",
        "light_automation.py",
        consumers="from myapp.consumers import LightAutomationConsumer as MyMqttConsumer",
    ).start()
    project.publish("home/sensor/motion", "living", "küche")
    project.publish("home/sensor/motion", "bedroom", qos=2)
    for room in ("living", "küche", "bedroom"):
        assert project.next("home/lights/+/set") == (f"home/lights/{room}/set", b"on", 1, False)
    rows = project.query("SELECT room FROM myapp_motionevent ORDER BY id")
    assert rows == [("living",), ("küche",), ("bedroom",)]
    project.stop("home/sensor/motion")


def test_ask_claude_before_acting(project: Project) -> None:
    project.add(
        "asgi.py",
        "ai_automation.py",
        consumers="from myapp.consumers import AIAutomationConsumer as MyMqttConsumer",
    ).start()
    project.publish("home/sensor/living/temperature", "unclear")
    project.publish("home/sensor", "31")
    assert project.next("home/actor/#") == ("home/actor", b"set to 31", 1, False)
    project.publish("home/sensor/hall/motion", "yes")
    assert project.next("home/actor/#") == ("home/actor/hall/motion", b"set to yes", 1, False)
    asked = re.findall(r"anthropic: (.*), value: (\S+)\. Reply", project.broker.log())
    begin = "claude-opus-4-6 64 user: Sensor reading — topic: "
    assert asked == [
        (f"{begin}home/sensor/living/temperature", "unclear"),
        (f"{begin}home/sensor", "31"),
        (f"{begin}home/sensor/hall/motion", "yes"),
    ]
    project.stop("home/sensor/#")


def test_energy_monitoring(project: Project) -> None:
    project.add(
        "asgi.py",
        "energy_monitor.py",
        consumers="from myapp.consumers import EnergyMonitorConsumer as MyMqttConsumer",
    ).start()
    readings = ["2999.5", "3000", "3000.5", "12", "4e3"]
    project.publish("home/energy/consumption", *readings)
    for _ in range(2):
        assert project.next("home/alerts/energy") == (
            "home/alerts/energy",
            b"high_consumption",
            2,
            False,
        )
    assert project.count("home/alerts/energy") == 2
    rows = project.query("SELECT watts FROM myapp_energyreading ORDER BY id")
    assert rows == [(float(watts),) for watts in readings]
    project.stop("home/energy/consumption")


def test_garden_irrigation(project: Project) -> None:
    project.add(
        "asgi.py",
        "irrigation.py",
        consumers="from myapp.consumers import IrrigationConsumer as MyMqttConsumer",
    ).start()
    hours = ", ".join(f"(false, {hour})" for hour in range(24))
    project.query(f"INSERT INTO myapp_irrigationschedule (active, start_hour) VALUES {hours}")

    def measure(*moistures: str) -> None:
        for moisture in moistures:
            since = len(project.broker.log())
            project.publish("garden/sensor/moisture", moisture)
            project.sees("master 0 handled mqtt.msg garden/sensor/moisture 1", since)

    measure("10")
    # Every hour but this and the next, which may begin at any moment.
    now = "CAST(strftime('%H', 'now') AS INTEGER)"
    project.query(f"UPDATE myapp_irrigationschedule SET active = start_hour NOT IN ({now}, ({now} + 1) % 24)")
    measure("20")
    project.query("UPDATE myapp_irrigationschedule SET active = true")
    measure("30.0", "29.9")
    assert project.next("garden/valve/main") == ("garden/valve/main", b"open", 2, False)
    measure("80", "0")
    assert project.next("garden/valve/main") == ("garden/valve/main", b"open", 2, False)
    assert project.count("garden/valve/main") == 2
    assert project.seen("master 0 sent mqtt.pub") == ["garden/valve/main 2"] * 2
    project.stop("garden/sensor/moisture")
