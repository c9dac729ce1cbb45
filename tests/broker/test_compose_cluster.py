"""docker/compose.cluster.yaml: its broker and its three workers, with a real PostgreSQL and Redis but no container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.broker import clean_environment, mosquitto_program
from support.client import Client
from support.ports import free_port
from support.postgres import PostgresServer
from support.processes import wait_until
from support.redis import RedisServer

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / "docs/examples/fleet"
WORKERS = ("worker-1", "worker-2", "worker-3")
MESSAGES = 600

Processes = dict[str, "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def services() -> Any:
    """What the file says of each."""
    return yaml.safe_load((ROOT / "docker/compose.cluster.yaml").read_text())["services"]


def test_the_file_is_whole(services: Any) -> None:
    """Whoever is started has everybody that it waits for, and the workers differ by their ids alone."""
    ids = set()
    for name in WORKERS:
        environment = dict(services[name]["environment"])
        ids.add(environment.pop("MQTT_CLIENT_ID"))
        first = dict(services["worker-1"]["environment"])
        del first["MQTT_CLIENT_ID"]
        assert environment == first, name
        assert {**services[name], "environment": {}} == {**services["worker-1"], "environment": {}}, name
    assert len(ids) == len(WORKERS)
    for name, said in services.items():
        for other, state in said.get("depends_on", {}).items():
            is_job = state["condition"] == "service_completed_successfully"
            assert is_job == (other == "migrate"), name
            assert is_job or "test" in services[other]["healthcheck"], other
        assert said["image"].count("/") == 0, "a registry's host"
    assert {"psycopg[binary]", "channels_redis"} <= set(
        services["worker-1"]["build"]["args"]["PACKAGES"].split()
    )
    assert "cluster]" in (ROOT / "docker/Dockerfile").read_text()
    password = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    url = f"postgresql://fleet:{password}@postgres/fleet"
    assert services["worker-1"]["environment"]["DATABASE_URL"] == url
    # The other file's servers, but for their names.
    others = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    for name in ("postgres", "redis"):
        assert services[name]["image"] == others[name]["image"]
        assert services[name].get("command") == others[name].get("command")


class Fleet:
    """The file's broker and workers as processes, each in a group of its own, as a container is."""

    def __init__(self, services: Any, folder: Path, here: dict[str, str]) -> None:
        self._services = services
        self._folder = folder
        self._here = here
        self.port = free_port()
        self.processes: Processes = {}

    def start(self, name: str) -> None:
        """Start a service."""
        said = self._services[name]
        environment = {**clean_environment(), "PYTHONPATH": str(ROOT / "python"), **said["environment"]}
        environment.update({key: value for key, value in self._here.items() if key in environment})
        if "MQTTASGI_CONNECT" in environment:
            environment["MQTTASGI_CONNECT"] = f"mqtt://127.0.0.1:{self.port}"
        entrypoint = said.get("entrypoint", ["python", "-m", "mqttasgi"])
        if entrypoint[0] == "mosquitto":
            entrypoint = [mosquitto_program(), "-c", str(self._configuration())]
        words = [sys.executable if word == "python" else word for word in entrypoint]
        with (self._folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words, cwd=FLEET, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _configuration(self) -> Path:
        text = (ROOT / "docker/cluster.conf").read_text()
        assert self._services["broker"]["entrypoint"][-1] == "/etc/mosquitto/cluster.conf"
        assert "\nlistener 1883\n" in text and "persistence_location /data/\n" in text
        text = text.replace("listener 1883", f"listener {self.port} 127.0.0.1")
        text = text.replace("/data/", f"{self._folder}/")
        path = self._folder / "cluster.conf"
        path.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        return path

    def kill(self, name: str) -> None:
        """End all processes of a service with SIGKILL, as the end of its container does."""
        process = self.processes[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def manage(self, command: str) -> None:
        """Run `manage.py` in a process beside the workers."""
        environment = {**clean_environment(), "PYTHONPATH": str(ROOT / "python"), **self._here}
        subprocess.run(
            [sys.executable, "manage.py", command], cwd=FLEET, env=environment, check=True, timeout=60
        )

    def log(self, name: str) -> str:
        """Return everything that a service has said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> dict[str, int]:
        """Stop all as Docker does, the broker last; return their exit statuses."""
        ended = {}
        for name in reversed(self.processes):
            self.processes[name].terminate()
        for name, process in self.processes.items():
            try:
                ended[name] = process.wait(45)
            except subprocess.TimeoutExpired:
                self.kill(name)
                ended[name] = -signal.SIGKILL
        return ended


@pytest.fixture
def fleet(
    services: Any, postgres_server: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Fleet]:
    here = {"DATABASE_URL": postgres_server.url(), "REDIS_URL": redis_server.url}
    started = Fleet(services, tmp_path, here)
    started.start("migrate")
    assert started.processes.pop("migrate").wait(60) == 0, started.log("migrate")
    started.start("broker")
    wait_until(lambda: " running" in started.log("broker"), 10, "the broker")
    for name in WORKERS:
        started.start(name)
    try:
        for name in WORKERS:
            wait_until(
                lambda name=name: "Running: " in started.log(name),
                30,
                name,
                lambda name=name: started.log(name),
            )
        yield started
    finally:
        for name, process in started.processes.items():
            if process.poll() is None:
                started.kill(name)


def test_a_killed_worker_leaves_nothing_unhandled(
    fleet: Fleet, services: Any, postgres_server: PostgresServer
) -> None:
    with Client(fleet.port) as client:
        client.subscribe("vehicles/+/warning", qos=1)
        client.subscribe("fleet/report", qos=1)
        client.publish("fleet/limit", "80", qos=1, retain=True)
        for number in range(MESSAGES):
            if number == MESSAGES // 3:
                fleet.kill("worker-2")
            if number == 2 * MESSAGES // 3:
                fleet.start("worker-2")
            position = json.dumps({"number": number, "speed": 49.0})
            client.publish(f"vehicles/bus-{number % 7}/position", position, qos=1)
        count = "SELECT count(*) FROM fleet_position"
        wait_until(lambda: postgres_server.ask(count) == [str(MESSAGES)], 30, "all positions")

        wait_until(lambda: fleet.log("worker-2").count("Running: ") == 2, 30, "worker-2")
        # The limit came to each, though it was published once.
        for number in range(12):
            position = json.dumps({"number": MESSAGES + number, "speed": 99.0})
            client.publish("vehicles/taxi/position", position, qos=1)
            assert client.wait_for("vehicles/+/warning", timeout=20).payload == b"80 km/h"

        def reports() -> list[bytes]:
            return [message.payload for message in client.messages if message.topic == "fleet/report"]

        def report_comes() -> bool:
            # There may be no leader for a moment: it may have been the one that was killed.
            fleet.manage("ask_for_report")
            time.sleep(0.5)
            return bool(reports())

        wait_until(report_comes, 20, "the leader's report")
        assert set(reports()) == {b"%d positions of 8 vehicles" % (MESSAGES + 12)}
    ended = fleet.stop()
    assert ended == dict.fromkeys(ended, 0), {name: fleet.log(name) for name in ended}
