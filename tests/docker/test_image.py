"""The image and the compose file, built and run without a container engine. For `tests/run --image`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlencode

import pytest
import yaml
from websockets.sync.client import ClientConnection, connect

from support.certificates import Authority
from support.client import Client
from support.container import Container, Images
from support.ports import free_port
from support.postgres import PostgresServer
from support.processes import PATIENCE, wait_until
from support.redis import RedisServer
from support.web import ask

ROOT = Path(__file__).resolve().parents[2]
HUB = ROOT / "docs/examples/hub"
COMPOSE = ROOT / "docker/compose.yaml"
DEBIAN = ROOT / "build/image/trixie"
BASE = "docker.io/library/debian:trixie-slim"
IMAGE = "localhost/mqttasgi"  # what `docker build -t mqttasgi` and `FROM mqttasgi` mean to buildah
SERVERS = "localhost/mqttasgi-servers"
SITE = "localhost/mysite"
MAXIMUM_BYTES = 250_000_000
STOP_SECONDS = 5.0  # promised to users
SERVER_UID = 1883

Start = Callable[..., Container]


def missing() -> str:
    """Return why this machine cannot build and run images; nothing where it can."""
    if os.geteuid() != 0:
        return "only root can build and run an image without a container engine"
    absent = [name for name in ("buildah", "unshare", "nsenter") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    namespaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "true"]
    if subprocess.run(namespaces, capture_output=True).returncode:
        return "this machine does not let root make namespaces"
    if not (DEBIAN / ".complete").exists():
        return f"there is no Debian for the base image in {DEBIAN}: tests/run --image makes it"
    return ""


reason = missing()
pytestmark = [pytest.mark.skipif(bool(reason), reason=reason), pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def images() -> Images:
    """The store, with the image in it."""
    store = Images(ROOT / "build/image/store")
    settings = [DEBIAN / name for name in ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")]
    settings += sorted((DEBIAN / "etc/apt").rglob("*"))
    digest = hashlib.sha256(str((DEBIAN / ".complete").stat().st_mtime).encode())
    for path in settings:
        digest.update(path.read_bytes() if path.is_file() else b"")
    store.import_tree(DEBIAN, BASE, digest.hexdigest())
    dockerfile = ROOT / "docker/Dockerfile"
    store.build(IMAGE, dockerfile, ROOT, "--ignorefile", f"{dockerfile}.dockerignore")
    return store


@pytest.fixture(scope="session")
def site(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The same, and the image that docs/docker.md makes of an application: here, the hub with one package more."""
    folder = tmp_path_factory.mktemp("site")
    context = folder / "mysite"
    shutil.copytree(HUB, context, ignore=shutil.ignore_patterns("__pycache__", "tests", "*.sqlite3"))
    with (context / "requirements.txt").open("a") as file:
        file.write("channels_redis>=4.2,<5\n")
    found = re.search(r"```Dockerfile\n(.*?)```", (ROOT / "docs/docker.md").read_text(), re.S)
    assert found
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(found[1].replace("mysite.asgi", "hub.asgi"))
    images.build(SITE, dockerfile, context)
    return images


@pytest.fixture
def container(images: Images, tmp_path: Path) -> Iterator[Start]:
    """Make containers; they are ended and removed with the test."""
    made: list[Container] = []

    def make(tag: str, **arguments: Any) -> Container:
        made.append(Container(images, tag, tmp_path, **arguments))
        return made[-1]

    yield make
    for each in made:
        each.remove()
        assert "Traceback" not in each.text(), each.text()


def port_of(container: Container) -> int:
    return int(container.environment["MQTT_PORT"])


def move(client: Client, room: str) -> None:
    """Let somebody move in a room, and wait for the consumer's answer."""
    client.subscribe(f"home/lights/{room}/set", 1)
    client.publish("home/sensor/motion", room, qos=1)
    assert client.wait_for(f"home/lights/{room}/set").payload == b"on"


def moved(database: Path) -> list[str]:
    """Return the rooms that are in the table."""
    connection = sqlite3.connect(database)
    try:
        return [room for (room,) in connection.execute("SELECT room FROM home_motionevent ORDER BY id")]
    finally:
        connection.close()


def stop(container: Container) -> None:
    """Stop it as Docker does, within the time that is promised."""
    started = time.monotonic()
    status = container.stop()
    seconds = time.monotonic() - started
    print(f"stopped within {seconds:.2f} s")
    assert status == 0, container.text()
    assert seconds < STOP_SECONDS, container.text()


def keep(client: Client) -> None:
    """Have something kept by the broker, and by the application."""
    move(client, "kitchen")
    client.publish("test/kept", "still here", qos=1, retain=True)
    client.publish("home/kitchen/temperature", "21.5", qos=1, retain=True)


def assert_kept(client: Client) -> None:
    client.subscribe("test/kept", 1)
    assert client.wait_for("test/kept").payload == b"still here"
    client.subscribe("home/kitchen/status", 1)
    client.publish("home/kitchen/status/get", "", qos=1)
    assert json.loads(client.wait_for("home/kitchen/status").payload)["temperature"] == 21.5
    move(client, "bedroom")


def test_the_image_is_small(images: Images) -> None:
    name, root = images.mount(IMAGE)
    try:
        printed = subprocess.run(
            ["du", "--summarize", "--bytes", root], check=True, capture_output=True, text=True
        )
        blocks = subprocess.run(
            ["du", "--summarize", "-B1", root], check=True, capture_output=True, text=True
        )
    finally:
        images.unmount(name)
    apparent, used = int(printed.stdout.split()[0]), int(blocks.stdout.split()[0])
    print(f"the image has {apparent / 1e6:.0f} MB of files, {used / 1e6:.0f} MB on disk")
    assert max(apparent, used) < MAXIMUM_BYTES


def test_an_application_in_an_image_of_its_own(site: Images, container: Start, tmp_path: Path) -> None:
    """As `docker run` would start it: Docker's default rights, and the broker is process 1."""
    data = tmp_path / "data"
    environment = {"HUB_DATABASE": "/data/db.sqlite3", "MQTT_PORT": str(free_port())}
    settings = {"environment": environment, "volumes": {"/data": data}}
    container(SITE, entrypoint=["python", "manage.py", "migrate"], **settings).run()
    # The package is there; and what Docker refuses, which the plugin must do without, is refused here.
    code = (
        "import os, channels_redis\ntry: os.unshare(os.CLONE_FILES)\nexcept PermissionError: print('refused')"
    )
    assert container(SITE, entrypoint=["python", "-c", code]).run() == "refused\n"

    running = container(SITE, **settings).start()
    running.wait_until_healthy()
    with Client(port_of(running)) as client:
        keep(client)
        assert moved(data / "db.sqlite3") == ["kitchen"]

        programs = running.processes()
        assert os.path.basename(programs[running.pid][0]) == "mosquitto", programs
        for pid in programs:
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            )
            assert status["Uid"].split() == [str(SERVER_UID)] * 4
            assert status["Gid"].split() == [str(SERVER_UID)] * 4
            assert status["Groups"].strip() == ""
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        stop(running)
        client.wait_for_disconnect()

    # The broker's configuration has passwords in it: it was in memory only.
    assert list((running.root / "tmp").iterdir()) == []

    running.start().wait_until_healthy()  # docker restart
    with Client(port_of(running)) as client:
        assert_kept(client)
    assert moved(data / "db.sqlite3") == ["kitchen", "bedroom"]
    stop(running)


CONNECTED = """\
from django.conf import settings

settings.configure()

from mqttasgi.consumers import MqttConsumer


class Asked(MqttConsumer):
    async def connect(self):
        await self.subscribe("asked", qos=1)

    async def receive(self, mqtt_message):
        await self.publish("answered", mqtt_message["payload"], qos=1)


application = Asked.as_asgi()
"""


def test_an_application_beside_a_broker(images: Images, container: Start, tmp_path: Path) -> None:
    """Both of this image, as docker/compose.cluster.yaml has it: a broker without the plugin, and a worker."""
    port = free_port()
    configuration = tmp_path / "etc"
    configuration.mkdir()
    text = (ROOT / "docker/cluster.conf").read_text()
    assert "\nlistener 1883\n" in text
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1")
    (configuration / "cluster.conf").write_text(text)
    program = tmp_path / "app"
    program.mkdir()
    (program / "asked.py").write_text(CONNECTED)

    broker = container(
        IMAGE,
        entrypoint=["mosquitto", "-c", "/etc/mosquitto/cluster.conf"],
        volumes={"/etc/mosquitto:ro": configuration, "/data": tmp_path / "data"},
        read_only=True,
        init=True,
    ).start()
    wait_until(lambda: " running" in broker.text(), 10, "the broker", broker.text)
    worker = container(
        IMAGE,
        command=["--connect", f"mqtt://127.0.0.1:{port}", "--group", "fleet", "asked:application"],
        volumes={"/app:ro": program},
        read_only=True,
        tmpfs=["/tmp"],
        cap_drop=True,
        no_new_privileges=True,
        init=True,
    ).start()
    wait_until(lambda: "Running: 1 consumer" in worker.text(), 30, "the worker", worker.text)
    with Client(port) as client:
        client.subscribe("answered", 1)
        client.publish("asked", "here", qos=1)
        assert client.wait_for("answered").payload == b"here"
    stop(worker)
    stop(broker)


def test_the_healthcheck_of_a_broker_that_does_not_answer(site: Images, container: Start) -> None:
    test = site.configuration(SITE)["Healthcheck"]["Test"]
    alone = container(SITE, entrypoint=test[1:])
    assert alone.start().wait() == 1
    assert alone.text() == "no broker runs in this container\n"

    running = container(SITE, environment={"MQTT_PORT": str(free_port()), "HUB_DATABASE": "/data/db.sqlite3"})
    running.start().wait_until_healthy()
    assert running.health().stdout == "the broker answers\n"
    # One that mirrors that broker opens no port, and is healthy all the same.
    environment = {
        "MQTT_HOSTNAME": "127.0.0.1",
        "MQTT_PORT": str(port_of(running)),
        "MQTTASGI_BRIDGE": "true",
    }
    mirror = container(SITE, environment={**environment, "HUB_DATABASE": "/data/db.sqlite3"}).start()
    mirror.wait_until_healthy()
    stop(mirror)

    os.kill(running.pid, signal.SIGSTOP)
    health = running.health()
    assert health.returncode == 1, health.stdout
    assert "does not answer" in health.stdout
    os.kill(running.pid, signal.SIGCONT)
    assert running.health().returncode == 0


def test_tls_and_a_login(site: Images, container: Start, tmp_path: Path) -> None:
    """The healthcheck needs neither CA nor password; the container needs no place to write to but /data."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority = Authority(folder)
    certificate = authority.issue("server")
    for path in (certificate.cert, certificate.key):
        os.chown(path, SERVER_UID, SERVER_UID)
    port = free_port()
    running = container(
        SITE,
        environment={
            "HUB_DATABASE": "/data/db.sqlite3",
            "MQTT_PORT": str(port),
            "MQTT_USERNAME": "home",
            "MQTT_PASSWORD": "a secret, with = in it",
            "TLS_CERT": "/certificates/server.crt",
            "TLS_KEY": "/certificates/server.key",
        },
        volumes={"/certificates:ro": folder, "/data": tmp_path / "data"},
        read_only=True,
        cap_drop=True,
        no_new_privileges=True,
    ).start()
    running.wait_until_healthy()
    assert running.health().stdout == "the broker answers\n"
    tls = {"ca_certs": str(authority.cert)}
    with Client(port, username="home", password="a secret, with = in it", tls=tls) as client:
        client.subscribe("home/kitchen/status", 1)
        client.publish("home/kitchen/status/get", "", qos=1)
        assert json.loads(client.wait_for("home/kitchen/status").payload)["room"] == "kitchen"
    with pytest.raises(ConnectionError):
        Client(port, username="home", password="another", tls=tls)
    stop(running)


def service(name: str, data: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Return the arguments of `Container` for a service of the compose file. Nothing in there is passed over."""
    said = yaml.safe_load(COMPOSE.read_text())["services"][name]
    for key in ("image", "build", "restart", "depends_on", "ports", "profiles"):
        said.pop(key, None)
    volumes = {}
    for text in said.pop("volumes"):
        source, _, place = text.partition(":")
        volumes[place] = (COMPOSE.parent / source).resolve() if "/" in source else data
    arguments = {
        "environment": {**said.pop("environment"), **environment},
        "volumes": volumes,
        "entrypoint": said.pop("entrypoint", None),
        "read_only": said.pop("read_only"),
        "tmpfs": said.pop("tmpfs"),
        "cap_drop": said.pop("cap_drop") == ["ALL"],
        "no_new_privileges": said.pop("security_opt") == ["no-new-privileges:true"],
        "init": said.pop("init"),
    }
    assert set(said) <= {"healthcheck"}, said
    return arguments


def test_the_compose_file(images: Images, container: Start, tmp_path: Path) -> None:
    """The example, with all that the file takes away from it."""
    whole = yaml.safe_load(COMPOSE.read_text())
    image = images.configuration(IMAGE)
    said = whole["services"]["mqttasgi"]
    assert {f"{text.rpartition(':')[2]}/tcp" for text in said["ports"]} <= set(image["ExposedPorts"])
    assert said["healthcheck"]["test"] == image["Healthcheck"]["Test"]
    assert list(whole["volumes"]) == ["data", "postgres"] and list(image["Volumes"]) == ["/data"]

    data = tmp_path / "data"
    http = free_port()
    environment = {"MQTT_PORT": str(free_port()), "MQTTASGI_HTTP": f"0.0.0.0:{http}"}
    container(IMAGE, **service("migrate", data, environment)).run()
    running = container(IMAGE, **service("mqttasgi", data, environment)).start()
    running.wait_until_healthy()
    broker = next(pid for pid, words in running.processes().items() if words[0].endswith("mosquitto"))
    assert broker != running.pid, "there is no init in front of it"
    status = Path(f"/proc/{broker}/status").read_text()
    for line in ("CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    for folder in ("/app", "/var/tmp", "/var/lib/mosquitto"):
        assert "Read-only file system" in running.execute(["touch", f"{folder}/written"]).stdout
    with Client(port_of(running)) as client:
        keep(client)
        assert "Log in" in ask(http, "/login/").body.decode()
        stop(running)

    # docker compose down, and up again: another container
    again = container(IMAGE, **service("mqttasgi", data, environment)).start()
    again.wait_until_healthy()
    with Client(port_of(again)) as client:
        assert_kept(client)
    assert moved(data / "db.sqlite3") == ["kitchen", "bedroom"]
    stop(again)


def test_a_page_and_its_websocket(images: Images, container: Start, tmp_path: Path) -> None:
    """Somebody logs in to the hub, whose page and dashboard are served beside MQTT."""
    data = tmp_path / "data"
    environment = {"HUB_DATABASE": "/data/db.sqlite3", "MQTT_PORT": str(free_port())}
    settings: dict[str, Any] = {"volumes": {"/data": data, "/app:ro": HUB}}
    python = {**settings, "environment": environment}
    container(IMAGE, entrypoint=["python", "manage.py", "migrate"], **python).run()
    made = {**environment, "DJANGO_SUPERUSER_PASSWORD": "secret"}
    words = [
        "python",
        "manage.py",
        "createsuperuser",
        "--no-input",
        "--username=ann",
        "--email=a@example.org",
    ]
    container(IMAGE, entrypoint=words, **{**settings, "environment": made}).run()

    http = free_port()
    command = ["--http", f"0.0.0.0:{http}", "hub.asgi:application"]
    running = container(IMAGE, command=command, **python).start()
    running.wait_until_healthy()
    cookie = log_in(http, "ann", "secret")
    assert "kitchen" in ask(http, headers={"Cookie": cookie}).body.decode()
    assert ask(http, "/dashboard/", headers={"Cookie": cookie}).status == 200
    with live(http, cookie) as page, Client(port_of(running)) as client:
        move(client, "kitchen")
        while "motion" not in json.loads(page.recv(10 * PATIENCE)).get("room-kitchen", {}):
            pass
    stop(running)


def test_http_of_a_configuration_that_is_mounted(images: Images, container: Start, tmp_path: Path) -> None:
    """Mosquitto itself, which is told all by a file; and health, where nobody serves HTTP any more."""
    data = tmp_path / "data"
    environment = {"HUB_DATABASE": "/data/db.sqlite3"}
    volumes = {"/data": data, "/app:ro": HUB}
    container(
        IMAGE, entrypoint=["python", "manage.py", "migrate"], volumes=volumes, environment=environment
    ).run()
    mqtt, http = free_port(), free_port()
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    (folder / "mosquitto.conf").write_text(
        f"listener {mqtt}\nallow_anonymous true\nplugin /usr/lib/mqttasgi_plugin.so\n"
        "plugin_opt_application hub.asgi:application\nplugin_opt_python_path /app\n"
        f"plugin_opt_virtualenv /opt/mqttasgi\nplugin_opt_port {mqtt}\nplugin_opt_http 0.0.0.0:{http}\n"
    )
    running = container(
        IMAGE,
        entrypoint=["mosquitto", "-c", "/etc/house/mosquitto.conf"],
        volumes={**volumes, "/etc/house:ro": folder},
        environment=environment,
    ).start()
    running.wait_until_healthy()
    assert ask(http, "/login/").status == 200
    # What the healthcheck reads now names another address.
    conf = folder / "mosquitto.conf"
    conf.write_text(conf.read_text().replace(f":{http}", f":{free_port()}"))
    health = running.health()
    assert health.returncode == 1 and "nobody listens at 127.0.0.1:" in health.stdout
    stop(running)


def test_the_compose_file_with_servers(
    images: Images,
    container: Start,
    tmp_path: Path,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
) -> None:
    dockerfile = ROOT / "docker/Dockerfile"
    packages = yaml.safe_load(COMPOSE.read_text())["services"]["hub"]["build"]["args"]["PACKAGES"]
    images.build(
        SERVERS,
        dockerfile,
        ROOT,
        "--ignorefile",
        f"{dockerfile}.dockerignore",
        f"--build-arg=PACKAGES={packages}",
    )
    data = tmp_path / "data"
    http = free_port()
    environment = {
        "DATABASE_URL": postgres_server.url(),
        "REDIS_URL": redis_server.url,
        "MQTT_PORT": str(free_port()),
        "MQTTASGI_HTTP": f"0.0.0.0:{http}",
    }
    container(SERVERS, **service("hub-migrate", data, environment)).run()
    running = container(SERVERS, **service("hub", data, environment)).start()
    running.wait_until_healthy()
    with Client(port_of(running)) as client:
        move(client, "kitchen")
        assert postgres_server.ask("SELECT room FROM home_motionevent") == ["kitchen"]
        client.subscribe("home/kitchen/announce", 1)
        announced = container(SERVERS, **service("hub-migrate", data, environment) | {
            "entrypoint": ["python", "manage.py", "announce", "Dinner"]
        })  # fmt: skip
        announced.run()
        assert client.wait_for("home/kitchen/announce").payload == b"Dinner"
    assert ask(http, "/login/").status == 200
    assert not (data / "db.sqlite3").exists()
    stop(running)


def log_in(port: int, name: str, password: str) -> str:
    """Log in to the hub, and return the cookies."""
    first = ask(port, "/login/")
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', first.body.decode())
    crumb = re.search(r"csrftoken=\w+", first.headers["set-cookie"])
    assert token and crumb
    form = urlencode({"username": name, "password": password, "csrfmiddlewaretoken": token[1]})
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": crumb[0]}
    answer = ask(port, "/login/", "POST", body=form, headers=kind)
    session = re.search(r"sessionid=\w+", answer.headers["set-cookie"])
    assert answer.status == 302 and session
    return session[0]


def live(port: int, cookie: str) -> ClientConnection:
    """Open the WebSocket of the hub's page."""
    return connect(
        f"ws://127.0.0.1:{port}/live/",
        origin=f"http://127.0.0.1:{port}",  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie},
        open_timeout=10 * PATIENCE,
        proxy=None,
    )
