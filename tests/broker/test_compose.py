"""The profile `servers` of docker/compose.yaml: its hub, with a real PostgreSQL and a real Redis but no container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import BrokerFactory
from support.hub import HUB, PACKAGE, manage
from support.ports import free_port
from support.postgres import PostgresServer
from support.processes import wait_until
from support.redis import RedisServer
from support.web import ask

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"


@pytest.fixture(scope="module")
def services() -> Any:
    """What the file says of each."""
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]


def test_either_profile_is_whole(services: Any) -> None:
    """Whoever is started has everybody that it waits for, and nobody of the other profile."""
    assert {name for name, said in services.items() if "profiles" not in said} == {"migrate", "mqttasgi"}
    for name, said in services.items():
        for other in said.get("depends_on", {}):
            assert services[other].get("profiles") == said.get("profiles"), name
        assert said["image"].count("/") == 0, "a registry's host"
    for name in ("hub", "hub-migrate"):
        packages = services[name]["build"]["args"]["PACKAGES"]
        assert {"psycopg[binary]", "channels_redis"} <= set(packages.split())
        assert 'ARG PACKAGES=""' in DOCKERFILE.read_text()
    password = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert services["hub"]["environment"]["DATABASE_URL"] == f"postgresql://hub:{password}@postgres/hub"
    # Besides where it is built and what it needs, it is the other one.
    same = set(services["mqttasgi"]) - {"image", "build", "depends_on", "environment"}
    assert {key: services["hub"][key] for key in same} == {key: services["mqttasgi"][key] for key in same}


def test_the_hub_with_postgresql_and_redis(
    broker: BrokerFactory,
    services: Any,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    port = free_port()
    here = {
        "DATABASE_URL": postgres_server.url(),
        "REDIS_URL": redis_server.url,
        "MQTTASGI_HTTP": f"127.0.0.1:{port}",
        "MQTTASGI_DURABLE": str(tmp_path / "inbox.db"),
        "HUB_DATABASE": "/nowhere/db.sqlite3",  # nobody asks for it
    }
    assert set(here) < set(services["hub"]["environment"])
    environment = {**services["hub"]["environment"], **here, "DJANGO_SETTINGS_MODULE": "hub.settings"}

    def run(*arguments: str) -> None:
        manage(Path(here["HUB_DATABASE"]), *arguments, **environment)

    run(*services["hub-migrate"]["entrypoint"][2:])
    started = broker(
        environment.pop("MQTTASGI_APPLICATION"),
        python_path=[HUB, PACKAGE],
        environment=environment,
        expect_traceback=True,  # of what fails while the servers are away
    )
    client = started.client()
    client.subscribe("home/+/announce", qos=1)
    client.subscribe("home/lights/+/set", qos=1)

    def move(room: str) -> None:
        client.publish("home/sensor/motion", room, qos=1)
        assert client.wait_for("home/lights/+/set", timeout=20).topic == f"home/lights/{room}/set"

    def rooms() -> list[str]:
        return postgres_server.ask("SELECT room FROM home_motionevent ORDER BY id")

    started.wait_for_log("Session with the listener")
    move("kitchen")
    run("announce", "Dinner")
    assert client.wait_for("home/+/announce", timeout=20).payload == b"Dinner"
    assert ask(port, "/login/").status == 200

    pid = started.pid
    postgres_server.kill()
    redis_server.kill()
    client.publish("home/sensor/motion", "bedroom", qos=1)
    started.wait_for_log(r"LightAutomationConsumer \(worker, app_id 1\) is restarted in 1 s")
    started.wait_for_log("The channel layer RedisChannelLayer is away", timeout=10)
    assert ask(port, "/static/home/house.css").status == 200
    postgres_server.start()
    redis_server.start()
    assert client.wait_for("home/lights/+/set", timeout=20).topic == "home/lights/bedroom/set"
    move("living")
    assert rooms() == ["kitchen", "bedroom", "living"]
    wait_until(lambda: started.log().count("The channel layer is back") >= 3, 20, "all rooms in their group")
    run("announce", "Tea")
    wait_until(
        lambda: client.wait_for("home/+/announce", timeout=20).payload == b"Tea",
        20,
        "the second announcement",
    )
    assert started.pid == pid
