"""The page of the house without a broker: what it shows, and to whom."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from mqttasgi.testing import PlayedBroker

from home import live, plot
from home.house import NOTHING, House, changes
from home.models import Command, EnergyReading, MotionEvent
from hub.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = "http://localhost:8000"


@pytest.fixture
def user() -> Any:
    return get_user_model().objects.create_superuser("ann", "", "secret")


@pytest.fixture
def browser(user: Any) -> Client:
    """Somebody who is logged in, and whose forms need the token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def token(page: Any) -> str:
    """Return the CSRF token of a page's forms."""
    return str(page.content.decode().split('csrfmiddlewaretoken" value="')[1].split('"')[0])


# --- Over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/switch/"])
def test_nobody_looks_without_logging_in(path: str) -> None:
    for answer in (Client().get(path), Client().post(path)):
        assert answer.status_code == 302 and answer["location"].startswith("/login/")
    assert Client().get("/admin/").status_code == 302


def test_logging_in_and_out(user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    form = {"username": "ann", "csrfmiddlewaretoken": token(client.get("/login/"))}
    answer = client.post("/login/", {**form, "password": "<wrong>"})
    assert b"do not match" in answer.content and b"wrong" not in answer.content
    answer = client.post("/login/", {**form, "password": "secret", "next": "http://evil.example/"})
    assert answer["location"] == "/"
    page = client.get("/")
    assert page.status_code == 200
    assert client.post("/logout/", {"csrfmiddlewaretoken": token(page)})["location"] == "/login/"
    assert client.get("/").status_code == 302


def test_the_page_shows_what_the_tables_know(browser: Client) -> None:
    MotionEvent.objects.create(room="kitchen")
    EnergyReading.objects.create(watts=350.0)
    Command.objects.create(topic="home/lights/kitchen/set", state="on")
    Command.objects.create(topic="garden/valve/main", state="<b>open")
    answer = browser.get("/")
    page = answer.content.decode()
    for room in ("living", "bedroom", "kitchen"):
        assert f'data-part="room-{room}"' in page
    assert page.count('aria-checked="true"') == 1
    assert "350 W" in page
    assert "&lt;b&gt;open" in page and "<b>" not in page
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert page.count("<script") == 1 and "<style" not in page and "http://" not in page


def test_a_click_is_published(browser: Client) -> None:
    form = {"topic": "home/lights/kitchen/set", "state": "on"}
    assert browser.post("/switch/", form).status_code == 403  # without the token
    form["csrfmiddlewaretoken"] = token(browser.get("/"))
    with PlayedBroker() as played:
        assert browser.post("/switch/", form)["location"] == "/"
    sent = played.events[0]["mqtt"]
    assert (sent["topic"], sent["payload"], sent["qos"]) == ("home/lights/kitchen/set", "on", 1)
    assert b'aria-checked="true"' in browser.get("/").content
    assert browser.post("/switch/", form).status_code == 503  # no broker


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("home/lights/cellar/set", "on"),
        ("home/lights/#/set", "on"),
        ("home/lights/kitchen/set", "open"),
        ("garden/valve/main", "on"),
        ("home/alerts/energy", "on"),
        ("", ""),
    ],
)
def test_nothing_else_is_published(browser: Client, topic: str, state: str) -> None:
    form = {"topic": topic, "state": state, "csrfmiddlewaretoken": token(browser.get("/"))}
    with PlayedBroker() as played:
        assert browser.post("/switch/", form).status_code == 400
    assert not played.events


def test_the_tables_are_in_the_admin(browser: Client) -> None:
    for model in ("command", "device", "energyreading", "irrigationschedule", "motionevent"):
        assert browser.get(f"/admin/home/{model}/").status_code == 200


# --- What is shown -------------------------------------------------------------------------------


def message(topic: str, payload: bytes, retain: bool = False) -> dict[str, Any]:
    return {"topic": topic, "payload": payload, "retain": retain}


def test_messages_change_the_house() -> None:
    house = House.load()
    before = house.shown()
    house.take(message("home/sensor/motion", b"kitchen"))
    house.take(message("home/lights/kitchen/set", b"on"))
    house.take(message("home/living/temperature", b"21.54", retain=True))
    house.take(message("home/living/presence", b"on"))
    house.take(message("garden/sensor/moisture", b"29"))
    house.take(message("garden/valve/main", b"open"))
    house.take(message("home/energy/consumption", b"1200"))
    new = changes(before, house.shown())
    assert set(new["room-kitchen"]) == {"motion", "light"}
    assert new["room-living"] == {"temperature": "21.5 °C", "presence": "somebody"}
    assert new["garden"]["moisture"] == "29 %" and new["garden"]["valve"].startswith("open, ")
    assert new["energy"]["now"] == "1200 W"
    assert "room-bedroom" not in new


@pytest.mark.parametrize(
    ("topic", "payload", "retain"),
    [
        ("home/sensor/motion", b"cellar", False),
        ("home/sensor/motion", b"kitchen", True),
        ("home/sensor/motion", b"\xff", False),
        ("home/lights/kitchen/set", b"<script>", False),
        ("home/lights/kitchen/set", b"on", True),
        ("home/cellar/temperature", b"20", False),
        ("home/kitchen/temperature", b"nan", False),
        ("home/kitchen/presence", b"", False),
        ("home/energy/consumption", b"much", False),
        ("garden/sensor/moisture", b"1023", False),
        ("garden/valve/main", b"burst", False),
    ],
)
def test_what_makes_no_sense_changes_nothing(topic: str, payload: bytes, retain: bool) -> None:
    house = House.load()
    before = house.shown()
    house.take(message(topic, payload, retain))
    assert house.shown() == before
    assert before["room-kitchen"]["motion"] == NOTHING


def test_the_plot_is_numbers() -> None:
    now = timezone.now()
    assert plot.line([], 100.0) == ""
    assert plot.line([(now, 50.0)], 100.0) == "M0.0 40.0"
    later = now + timedelta(seconds=10)
    assert plot.line([(now, -5.0), (later, 1e308)], 100.0) == "M0.0 79.0L300.0 1.0"


# --- Live ----------------------------------------------------------------------------------------


async def opened(client: Client | None, origin: str) -> tuple[ApplicationCommunicator, bool]:
    """Return the page's WebSocket, and whether it is open."""
    headers = [(b"host", b"localhost:8000"), (b"origin", origin.encode())]
    if client is not None:
        headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
    scope = {"type": "websocket", "path": "/live/", "query_string": b"", "headers": headers}
    websocket = ApplicationCommunicator(application, {**scope, "subprotocols": []})
    await websocket.send_input({"type": "websocket.connect"})
    return websocket, (await websocket.receive_output(10))["type"] == "websocket.accept"


async def test_the_websocket_is_for_those_who_are_logged_in_here(browser: Client) -> None:
    for client, origin in [
        (None, ORIGIN),
        (browser, ""),
        (browser, "http://evil.example"),
        (browser, "http://localhost:9000"),
        (browser, "https://localhost:8000"),
    ]:
        _, is_open = await opened(client, origin)
        assert not is_open


async def test_outside_of_a_broker_the_websocket_says_goodbye(browser: Client) -> None:
    websocket, is_open = await opened(browser, ORIGIN)
    assert is_open
    assert (await websocket.receive_output(10))["code"] == live.GOING_AWAY


async def test_whoever_logs_out_sees_no_more(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RECHECK", -1.0)
    consumer = live.Live()
    consumer.scope = {"session": browser.session}
    consumer.house, consumer.changed = House(), asyncio.Event()
    consumer.changed.set()
    await sync_to_async(browser.logout)()
    assert await consumer.show() == live.NOT_ALLOWED
