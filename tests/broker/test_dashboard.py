"""The dashboard in a real broker, over HTTP and a WebSocket."""

from __future__ import annotations

import http.cookies
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from conftest import TESTS, BrokerFactory
from support.broker import Broker, virtualenv
from support.ports import free_port
from support.processes import PATIENCE
from support.web import Answer, ask

htmx = pytest.importorskip("django_htmx.jinja")
if 2 not in getattr(htmx, "EXTENSIONS", {}).get("hx-ws", ()):
    pytest.skip("django-htmx has no WebSocket extension", allow_module_level=True)

TIMEOUT = 10 * PATIENCE
USERS = """
from django.contrib.auth.models import Permission, User
User.objects.create_superuser("ann", "", "secret")
guest = User.objects.create_user("bob", "", "secret")
guest.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
"""


class Browser:
    """Somebody who is logged in: keeps cookies, and fills in forms."""

    def __init__(self, port: int, user: str = "ann") -> None:
        self.port = port
        self._cookies: dict[str, str] = {}
        self.get("/login/")
        assert self.post("/login/", "/login/", username=user, password="secret").status == 302

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def _keep(self, answer: Answer) -> Answer:
        for name, morsel in http.cookies.SimpleCookie(answer.headers.get("set-cookie", "")).items():
            self._cookies[name] = morsel.value
        return answer

    def get(self, path: str) -> str:
        answer = self._keep(ask(self.port, path, headers={"Cookie": self.cookie}))
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def post(self, path: str, page: str, **form: str) -> Answer:
        """Send a form of a page."""
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get(page))
        assert token is not None, "the page has no form"
        body = urlencode({**form, "csrfmiddlewaretoken": token[1]})
        kind = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        answer = ask(self.port, path, "POST", body=body, headers=kind)
        # A new session may come beside a new token: one header each.
        for name, value in re.findall(r"\b(sessionid|csrftoken)=(\w+)", answer.headers.get("set-cookie", "")):
            self._cookies[name] = value
        return answer

    def live(self, page: str, query: str = "", origin: str = "") -> AbstractContextManager[ClientConnection]:
        """Return the WebSocket of a page."""
        return connect(
            f"ws://127.0.0.1:{self.port}/mqttasgi/dashboard/live/{page}/{query}",
            origin=origin or f"http://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            additional_headers={"Cookie": self.cookie},
            open_timeout=TIMEOUT,
            proxy=None,
        )


class Hub:
    """A broker with the dashboard."""

    def __init__(self, broker: BrokerFactory, folder: Path, **arguments: object) -> None:
        database = folder / "project.sqlite3"
        environment = virtualenv()
        python = str(environment / "bin" / "python3") if environment else sys.executable
        variables = {
            "DJANGO_SETTINGS_MODULE": "apps.dashboard_settings",
            "TEST_DATABASE": str(database),
            "PYTHONPATH": f"{TESTS / 'broker'}:{TESTS.parent / 'python'}",
        }
        for words in (("migrate", "-v0"), ("shell", "-v0", "-c", USERS)):
            subprocess.run([python, "-m", "django", *words], env={**os.environ, **variables}, check=True)
        self.port = free_port()
        self.broker: Broker = broker(
            "apps.dashboard:application",
            options={"http": f"127.0.0.1:{self.port}", "connect_events": True},
            environment={"TEST_DATABASE": str(database)},
            **arguments,
        )


@pytest.fixture
def hub(broker: BrokerFactory, tmp_path: Path) -> Iterator[Hub]:
    yield Hub(broker, tmp_path, expect_traceback="ValueError: cannot read")


def until(websocket: ClientConnection, words: str) -> str:
    """Return the update with some words in it."""
    for _ in range(60):
        update = str(websocket.recv(TIMEOUT))
        if words in update:
            return update
    raise AssertionError(f"{words} has not come")


def test_what_a_house_does(hub: Hub) -> None:
    """Log in, see values, publish, see a consumer fail, restart it, disconnect a client."""
    browser = Browser(hub.port)
    client = hub.broker.client()
    client.publish("home/lamp", b"off", qos=1, retain=True)

    with browser.live("topics", "?topic=home/lamp") as websocket:
        until(websocket, ">off<")
        for number in range(5):
            client.publish("home/lamp", b"%d" % number, qos=1)
            until(websocket, f">{number}<")

    client.subscribe("home/#", qos=1)
    client.wait_for("home/lamp")
    form = {"topic": "home/door", "payload": "open", "qos": "1", "retain": "on"}
    answer = browser.post("/dashboard/topics/publish/", "/dashboard/topics/", **form)
    assert (answer.status, client.wait_for("home/door").payload) == (303, b"open")
    page = browser.get(answer.headers["location"])
    assert "The message was published." in page
    browser.post("/dashboard/topics/clear/", "/dashboard/topics/?topic=home/door", name="home%2Fdoor")
    assert client.wait_for("home/door").payload == b""
    hub.broker.wait_for_log("ann published to home/door, retained")

    with browser.live("consumers") as websocket:
        until(websocket, "living room")
        client.publish("fail", b"<b>oops", qos=1)
        update = until(websocket, "Traceback")
        assert "&lt;b&gt;oops" in update and "<b>oops" not in update
        update = until(websocket, "state-running")
        page = browser.get("/dashboard/consumers/")
        handle = re.findall(r'name="handle" value="(\d+)"', page)[-1]
        answer = browser.post("/dashboard/consumers/restart/", "/dashboard/consumers/", handle=handle)
        assert answer.headers["location"].endswith("said=restarted")
        until(websocket, f'id="consumer-{handle}-restarts" class="">2<')

    with browser.live("clients") as websocket:
        until(websocket, client.client_id)
        other = hub.broker.client(client_id="to-be-gone")
        until(websocket, "to-be-gone")
        answer = browser.post("/dashboard/clients/disconnect/", "/dashboard/clients/", id="to-be-gone")
        assert answer.headers["location"].endswith("said=disconnected")
        assert "to-be-gone" not in until(websocket, 'id="clients"')
        other.close()

    with browser.live("log") as websocket:
        assert "ann disconnected client to-be-gone" in until(websocket, 'id="log"')
    assert "Memory of the process" in browser.get("/dashboard/")


def test_a_guest_may_only_look(hub: Hub) -> None:
    browser = Browser(hub.port, "bob")
    for page in ("", "topics/", "consumers/", "clients/", "log/"):
        assert '<form method="post"' not in browser.get(f"/dashboard/{page}")
    for origin in ("http://evil.example", f"http://127.0.0.1:{hub.port + 1}"):
        with pytest.raises(InvalidStatus), browser.live("log", origin=origin):
            pass
    hub.broker.expect_traceback = False


def test_nothing_is_left_when_nobody_looks(hub: Hub) -> None:
    browser = Browser(hub.port)
    subscribed = r"Received SUBSCRIBE from mqttasgi-\S+\n\s+# "
    assert not re.search(subscribed, hub.broker.log())
    with browser.live("topics") as websocket:
        until(websocket, "topic-rows")
        hub.broker.wait_for_log(subscribed)
    hub.broker.wait_for_log(r"Received UNSUBSCRIBE from mqttasgi-\S+\n\s+#$", timeout=20)
    hub.broker.expect_traceback = False


def test_websockets_end_with_the_broker(hub: Hub) -> None:
    browser = Browser(hub.port)
    with browser.live("topics") as websocket:
        until(websocket, "topic-rows")
        hub.broker.stop()
        assert "did not end in" not in hub.broker.log()
        with pytest.raises(ConnectionClosed):
            while True:
                websocket.recv(TIMEOUT)
    hub.broker.expect_traceback = False
