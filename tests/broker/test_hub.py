"""The home-automation hub of `docs/examples/hub`, in a real broker, asked over MQTT."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from support.client import Client
from support.hub import HUB, PACKAGE, manage, python
from support.ports import free_port
from support.processes import PATIENCE, wait_until
from support.redis import RedisServer
from support.web import Answer, ask

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection


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

    def run(
        *, rows: str | None = None, redis_url: str = "", persistence: bool = False, http: int | None = None
    ) -> Hub:
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
            options={} if http is None else {"http": f"127.0.0.1:{http}"},
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


# ---- the page ----

TIMEOUT = 10 * PATIENCE
USER = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ann", "", "secret")
"""


class Browser:
    """Somebody in front of the page: keeps cookies, and fills in forms."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def ask(self, path: str, method: str = "GET", **arguments: Any) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookie, **arguments.pop("headers", {})}
        answer = ask(self.port, path, method, headers=headers, **arguments)
        self.cookies.update(
            re.findall(r"\b(sessionid|csrftoken)=(\w+)", answer.headers.get("set-cookie", ""))
        )
        return answer

    def post(self, path: str, page: str, **form: str) -> Answer:
        """Send a form of a page."""
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.ask(page).body.decode())
        assert token is not None, "the page has no form"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({**form, "csrfmiddlewaretoken": token[1]})
        return self.ask(path, "POST", body=body, headers=kind)

    def live(self) -> contextlib.AbstractContextManager[ClientConnection]:
        """Return the WebSocket of the page."""
        # Only here: the tests of the consumers do without.
        from websockets.sync.client import connect

        return connect(
            f"ws://127.0.0.1:{self.port}/live/",
            origin=f"http://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            additional_headers={"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())},
            open_timeout=TIMEOUT,
            proxy=None,
        )


def shows(websocket: ClientConnection, part: str, name: str) -> str:
    """Return the next text for a place of the page."""
    for _ in range(60):
        text = json.loads(websocket.recv(TIMEOUT)).get(part, {}).get(name)
        if text is not None:
            return str(text)
    raise AssertionError(f"nothing new for {name} of {part}")


@pytest.fixture
def page(start: Callable[..., Hub], migrated: Path) -> tuple[Hub, Browser]:
    """The hub with its page, somebody who is logged in, and all consumers at work."""
    pytest.importorskip("websockets.sync.client")
    if python("-c", "import uvicorn, websockets").returncode != 0:
        pytest.skip("the applications' Python has no uvicorn and websockets")
    port = free_port()
    hub = start(http=port)
    manage(hub.database, "shell", "-c", USER)
    browser = Browser(port)
    assert browser.ask("/").headers["location"] == "/login/?next=/"
    assert browser.post("/login/", "/login/", username="ann", password="secret").status == 302
    hub.knock("home/sensor/motion", "bedroom", "home/lights/bedroom/set")
    return hub, browser


def test_a_light_that_is_clicked_hears_it(page: tuple[Hub, Browser]) -> None:
    hub, browser = page
    answer = browser.post("/switch/", "/", topic="home/lights/kitchen/set", state="on")
    assert (answer.status, answer.headers["location"]) == (302, "/")
    message = hub.client.wait_for("home/lights/kitchen/set")
    assert (message.payload, message.qos, message.retain) == (b"on", 1, False)
    assert 'aria-checked="true" aria-label="Light in kitchen"' in browser.ask("/").body.decode()
    browser.post("/switch/", "/", topic="garden/valve/main", state="open")
    assert hub.client.wait_for("garden/valve/main").payload == b"open"
    assert browser.ask("/switch/", "POST", body="topic=garden/valve/main&state=open").status == 403
    assert not hub.comes("garden/valve/main")


def test_what_happens_in_the_house_changes_the_page(page: tuple[Hub, Browser]) -> None:
    from websockets.exceptions import ConnectionClosed

    hub, browser = page
    hub.client.publish("home/kitchen/temperature", "20", qos=1, retain=True)
    with browser.live() as websocket:
        # First what the tables know, then what the broker has kept.
        wait_until(lambda: shows(websocket, "room-kitchen", "temperature") == "20 °C", 10, "what was kept")
        hub.publish("home/sensor/motion", "<b>", "kitchen")
        # The consumer of lights answers, so that both places change.
        places = set()
        while places < {"motion", "light"}:
            places |= set(json.loads(websocket.recv(TIMEOUT)).get("room-kitchen", {}))
        hub.publish("home/energy/consumption", "1234")
        assert shows(websocket, "energy", "now") == "1234 W"
        browser.post("/switch/", "/", topic="home/lights/kitchen/set", state="off")
        assert shows(websocket, "room-kitchen", "light") == "off"
        hub.broker.stop()
        with pytest.raises(ConnectionClosed):
            while True:
                websocket.recv(TIMEOUT)
    assert "did not end in" not in hub.broker.log()


def test_everything_is_served(page: tuple[Hub, Browser]) -> None:
    hub, browser = page
    home = browser.ask("/").body.decode()
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', home):
        assert browser.ask(path).status == 200, path
    hub.broker.expect_traceback = "SuspiciousFileOperation"
    for path in ("/static/../hub/settings.py", "/static/%2e%2e/%2e%2e/hub/settings.py"):
        assert browser.ask(path).status in (400, 404)
    assert browser.ask("/admin/home/command/").status == 200
    has_dashboard = python("-c", "from hub.settings import HUB_DASHBOARD as it; assert it").returncode == 0
    assert browser.ask("/dashboard/").status == (200 if has_dashboard else 404)
    assert ('href="/dashboard/"' in home) == has_dashboard
