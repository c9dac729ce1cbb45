"""The dashboard in a Django project, with Django's and Channels' test clients and a played broker.

`test_dashboard.py` runs it in a process of its own, because Django is set up once in each, with the project's
database in the environment variable `TEST_DATABASE`.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import pytest
import pytest_asyncio
from django.conf import settings
from django.urls import include, path

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["testserver", "hub.local"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "django_htmx",
        "mqttasgi.dashboard",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth"]},
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TEST_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGIN_URL="/login/",
    STATIC_URL="/static/",
    TIME_ZONE="UTC",
    USE_TZ=True,
)
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from asgiref.testing import ApplicationCommunicator  # noqa: E402
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.test.utils import override_settings, setup_test_environment  # noqa: E402

from mqttasgi._state import ClientView, ConsumerView, LogLine  # noqa: E402
from mqttasgi.dashboard import live, observer, topics, tree  # noqa: E402
from mqttasgi.dashboard.routing import websocket_urlpatterns  # noqa: E402
from mqttasgi.testing import PlayedBroker  # noqa: E402

urlpatterns = [path("dashboard/", include("mqttasgi.dashboard.urls"))]
application = AuthMiddlewareStack(URLRouter(websocket_urlpatterns))

PAGES = ("", "topics/", "consumers/", "clients/", "log/")
NAMES = ("overview", "topics", "consumers", "clients", "log")
#: What must not come out of it as it is.
HOSTILE = "<script>alert(1)</script>'\"&\x1b[31m\u202egpj"
ALL = ("view_dashboard", "publish", "manage")


@pytest.fixture(scope="module", autouse=True)
def project() -> None:
    setup_test_environment()
    call_command("migrate", verbosity=0)


@pytest.fixture
def played() -> Iterator[PlayedBroker]:
    with PlayedBroker() as playing:
        playing.inside.statistics.update({"messages/received": 7, "memory": 50_000_000, "uptime": 61})
        playing.inside.consumer_views.append(
            ConsumerView(5, HOSTILE, repr(HOSTILE), "failed", 1.7e9, 2, 30, 4, f"Trace\n {HOSTILE}", 1.7e9)
        )
        playing.inside.client_views.append(
            ClientView(HOSTILE, HOSTILE, "127.0.0.1", "MQTT 5", f"CN={HOSTILE}", 1.7e9)
        )
        playing.inside.lines.append(LogLine(1, 1.7e9, "warning", HOSTILE))
        yield playing


@pytest_asyncio.fixture(autouse=True)
async def quick(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr("mqttasgi.dashboard.views._FIRST", 0.05)
    yield
    await sync_to_async(connections.close_all)()


def make_user(*permissions: str) -> User:
    User.objects.all().delete()
    user = User.objects.create(username="ann")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    return user


async def logged_in(*permissions: str, csrf: bool = False) -> AsyncClient:
    client = AsyncClient(enforce_csrf_checks=csrf)
    await client.aforce_login(await sync_to_async(make_user)(*permissions))
    return client


async def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


class Socket(ApplicationCommunicator):
    """What Channels has as `WebsocketCommunicator`, which cannot be imported without daphne."""

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        event = await self.receive_output(timeout=5)
        return bool(event["type"] == "websocket.accept")

    async def receive_from(self) -> str:
        event = await self.receive_output(timeout=5)
        assert event["type"] == "websocket.send", event
        return str(event["text"])

    async def send_to(self, text: str | None = None, data: bytes | None = None) -> None:
        await self.send_input({"type": "websocket.receive", "text": text, "bytes": data})

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait(timeout=5)


def opened(
    client: AsyncClient | None,
    page: str = "overview",
    origin: str = "http://testserver",
    query: str = "",
    scheme: str = "ws",
    forwarded: str = "",
) -> Socket:
    headers = [(b"host", b"testserver")]
    if forwarded:
        headers.append((b"x-forwarded-proto", forwarded.encode()))
    if origin:
        headers.append((b"origin", origin.encode()))
    if client is not None:
        headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
    scope = {
        "type": "websocket",
        "scheme": scheme,
        "path": f"/mqttasgi/dashboard/live/{page}/",
        "query_string": query.lstrip("?").encode(),
        "headers": headers,
        "subprotocols": [],
    }
    return Socket(application, scope)


async def accepts(communicator: Socket) -> bool:
    accepted = await communicator.connect()
    if accepted:
        await communicator.disconnect()
    return accepted


async def until_received(communicator: Socket, words: str) -> str:
    """Return the update that has some words in it."""
    for _ in range(40):
        update = await communicator.receive_from()
        if words in update:
            return str(update)
    raise AssertionError(f"{words} has not come")


def assert_harmless(text: str) -> None:
    """Nothing that others have made up is markup, and nothing changes how the rest is read."""
    assert "alert(1)" in text
    for forbidden in ("<script>alert", "\x1b", "\u202e", "\x00", "<img", "'\"&\\x1b"):
        assert forbidden not in text


# ---- the project ----


def test_the_project_is_as_it_should_be() -> None:
    call_command("check", fail_level="WARNING")
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    call_command("dumpdata", output=os.devnull, verbosity=0)
    call_command("dumpdata", output=os.devnull, verbosity=0, use_base_manager=True)
    assert "mqttasgi_dashboard_dashboard" not in connections["default"].introspection.table_names()
    found = Permission.objects.filter(content_type__app_label="mqttasgi_dashboard")
    assert sorted(found.values_list("codename", flat=True)) == ["manage", "publish", "view_dashboard"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from mqttasgi.dashboard.apps import check_applications, check_packages

    monkeypatch.setattr("django_htmx.jinja.EXTENSIONS", {})
    assert [error.id for error in check_packages()] == ["mqttasgi.E002"]
    with override_settings(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]):
        assert [error.id for error in check_applications()] == ["mqttasgi.E003", "mqttasgi.E003"]


# ---- who may what ----


@pytest.mark.parametrize("page", PAGES)
async def test_pages_are_for_those_who_may(played: PlayedBroker, page: str) -> None:
    answer = await AsyncClient().get(f"/dashboard/{page}")
    assert (answer.status_code, answer.url) == (302, f"/login/?next=/dashboard/{page}")
    assert (await (await logged_in()).get(f"/dashboard/{page}")).status_code == 403
    assert (await (await logged_in("manage", "publish")).get(f"/dashboard/{page}")).status_code == 403
    answer = await (await logged_in("view_dashboard")).get(f"/dashboard/{page}")
    text = await text_of(answer)
    assert 'method="post"' not in text
    assert (answer.headers["Cache-Control"], answer.headers["X-Frame-Options"]) == (
        "no-store, private",
        "DENY",
    )
    assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", text), "for a strict policy"
    assert all(where[:1] in "/#?" for where in re.findall(r'(?:src|href)="([^"]*)"', text)), "from here alone"


ACTIONS = {
    "topics/publish/": ("publish", {"topic": "a/b", "payload": "x\r\ny", "qos": "1", "retain": "on"}),
    "topics/clear/": ("publish", {"name": "a%2Fb"}),
    "consumers/restart/": ("manage", {"handle": "5"}),
    "clients/disconnect/": ("manage", {"id": "%3Ca%0A"}),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_actions_are_for_those_who_may(played: PlayedBroker, action: str) -> None:
    permission, form = ACTIONS[action]
    where = f"/dashboard/{action}"
    (other,) = {"publish", "manage"} - {permission}
    assert (await AsyncClient().post(where, form)).status_code == 302
    for held in ((), ("view_dashboard", other), (permission,)):
        assert (await (await logged_in(*held)).post(where, form)).status_code == 403
    client = await logged_in("view_dashboard", permission, csrf=True)
    assert (await client.get(where)).status_code == 405
    assert (await client.post(where, form)).status_code == 403, "without a token"
    assert not played.events and not played.inside.restarted and not played.inside.kicked
    page = await text_of(await client.get(f"/dashboard/{action.split('/')[0]}/?topic=a/b"))
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None
    played.events.clear()
    answer = await client.post(where, {**form, "csrfmiddlewaretoken": token[1]})
    assert answer.status_code == 303
    assert answer.url.startswith(f"/dashboard/{action.split('/')[0]}/?said=")


async def test_what_actions_do(played: PlayedBroker) -> None:
    client = await logged_in(*ALL)
    for action, (_, form) in ACTIONS.items():
        await client.post(f"/dashboard/{action}", form)
    assert [event["mqtt"] for event in played.events] == [
        {"topic": "a/b", "payload": "x\ny", "qos": 1, "retain": True},
        {"topic": "a/b", "payload": b"", "qos": 1, "retain": True},
    ]
    assert played.inside.restarted == [5]
    assert played.inside.kicked == ["<a\n"]
    answer = await client.post("/dashboard/consumers/restart/", {"handle": "9"}, follow=True)
    assert "There is no such consumer any more" in await text_of(answer)
    answer = await client.post("/dashboard/consumers/restart/", {"handle": "²"}, follow=True)
    assert "There is no such consumer any more" in await text_of(answer)


@pytest.mark.parametrize(
    "form", [{"topic": "a/#"}, {"topic": ""}, {"topic": "a", "qos": "7"}, {"topic": "a\0<b>"}, {}]
)
async def test_a_form_with_a_mistake(played: PlayedBroker, form: dict[str, str]) -> None:
    client = await logged_in(*ALL)
    answer = await client.post("/dashboard/topics/publish/", {"payload": "<b>kept", **form})
    assert answer.status_code == 400
    assert b"&lt;b&gt;kept" in answer.content
    assert b'role="alert"' in answer.content
    assert not [event for event in played.events if event["type"] == "mqtt.pub"]


async def test_outside_of_a_broker() -> None:
    client = await logged_in(*ALL)
    for page in PAGES:
        answer = await client.get(f"/dashboard/{page}")
        assert answer.status_code == 503
        assert b"outside of the broker" in answer.content
    for action, (_, form) in ACTIONS.items():
        assert (await client.post(f"/dashboard/{action}", form)).status_code == 503


# ---- WebSockets ----


@pytest.mark.parametrize("page", NAMES)
async def test_websockets_are_for_those_who_may(played: PlayedBroker, page: str) -> None:
    assert not await accepts(opened(None, page))
    assert not await accepts(opened(await logged_in(), page))
    assert not await accepts(opened(await logged_in("publish", "manage"), page))
    assert await accepts(opened(await logged_in("view_dashboard"), page))


async def test_there_are_no_others(played: PlayedBroker) -> None:
    assert not await accepts(opened(await logged_in(*ALL), "secrets"))


@pytest.mark.parametrize("hosts", [["testserver"], ["*"]])
async def test_only_pages_of_this_site_may(played: PlayedBroker, hosts: list[str]) -> None:
    client = await logged_in("view_dashboard")
    foreign = (
        *("", "null", "http://evil.example", "http://testserver.evil.example", "http://testserver:81"),
        *(
            "https://testserver:80",
            "http://evil.example:80",
            "https://testserver",
            "ftp://testserver",
            "http://",
            "http://[",
            "testserver",
        ),
    )
    with override_settings(ALLOWED_HOSTS=hosts):
        for origin in foreign:
            assert not await accepts(opened(client, origin=origin)), origin
        for origin in ("http://testserver", "http://testserver:80"):
            assert await accepts(opened(client, origin=origin)), origin
            assert not await accepts(opened(client, origin=origin, scheme="wss")), origin
        for origin in ("https://testserver", "https://testserver:443"):
            assert await accepts(opened(client, origin=origin, scheme="wss")), origin
            assert not await accepts(opened(client, origin=origin, forwarded="https")), origin
            with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
                assert await accepts(opened(client, origin=origin, forwarded="https")), origin
                assert not await accepts(opened(client, origin=origin, scheme="wss", forwarded="http")), (
                    origin
                )
        with override_settings(CSRF_TRUSTED_ORIGINS=["https://hub.example", "https://*.home.example"]):
            for origin in ("https://hub.example", "https://a.home.example", "https://a.b.home.example"):
                assert await accepts(opened(client, origin=origin)), origin
                assert not await accepts(opened(client, origin=origin.replace("https", "http"))), origin
            for origin in ("https://a.hub.example", "https://nothome.example", "https://a.home.example.evil"):
                assert not await accepts(opened(client, origin=origin)), origin
    with override_settings(ALLOWED_HOSTS=["hub.local"]):
        assert not await accepts(opened(client))


async def test_who_logs_out_sees_no_more(played: PlayedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "RECHECK", 0.0)
    client = await logged_in("view_dashboard")
    communicator = opened(client)
    assert await communicator.connect()
    await until_received(communicator, "overview")
    await client.alogout()
    await ends(communicator)


async def test_who_loses_the_permission_sees_no_more(
    played: PlayedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RECHECK", 0.0)
    communicator = opened(await logged_in("view_dashboard"), "log")
    assert await communicator.connect()
    user = await User.objects.aget()
    await user.user_permissions.aclear()
    await ends(communicator)


async def ends(communicator: Socket) -> None:
    while (event := await communicator.receive_output(timeout=5))["type"] == "websocket.send":
        pass
    assert event == {"type": "websocket.close", "code": live.NOT_ALLOWED}
    await communicator.disconnect()


# ---- what is on the pages ----


@pytest.mark.parametrize("page", NAMES)
async def test_nothing_that_comes_is_markup(played: PlayedBroker, page: str) -> None:
    client = await logged_in(*ALL)
    topic = f"home/{HOSTILE}".replace("\x1b", "").replace("\u202e", "")
    communicator = opened(client, page, query=f"?topic={topic.replace('&', '%26')}")
    assert await communicator.connect()
    if page == "topics":
        await played.receive_from()
        for payload in (HOSTILE, f'{{"<img src=x>": ["{chr(92)}ud800"]}}', "<img src=x>\0", f"[{HOSTILE}"):
            await played.publish(topic, payload, 0)
        await played.publish("t/" + "<script>alert(1)" * 4000, "x" * 100_000 + HOSTILE, 0)
        await played.publish(topic, HOSTILE, 0)
    words = {"overview": "Memory", "log": "warning"}.get(page, "alert(1)")
    update = await until_received(communicator, words)
    await asyncio.sleep(0.05)
    asked = {"topic": topic, "filter": "</script><script>alert(1)"} if page == "topics" else {}
    text = await text_of(await client.get(f"/dashboard/{'' if page == 'overview' else page + '/'}", asked))
    if page != "overview":
        assert_harmless(update)
        assert_harmless(text)
    await communicator.disconnect()


async def test_a_page_is_kept_up_to_date(played: PlayedBroker) -> None:
    communicator = opened(await logged_in("view_dashboard"), "topics")
    assert await communicator.connect()
    assert (await played.receive_from())["mqtt"]["topic"] == "#"
    await until_received(communicator, "No message has come yet")
    await played.publish("home/lamp", "21", 0, retain=True)
    update = await until_received(communicator, "lamp")
    assert 'id="topic-rows"' in update and ">21<" in update
    began = time.monotonic()
    await played.publish("home/lamp", "22", 0)
    update = await until_received(communicator, ">22<")
    assert time.monotonic() - began < 1
    assert 'id="topic-rows"' not in update, "only what has changed"
    await communicator.send_to('{"filter": "nothing"}')
    await until_received(communicator, "No topic matches")
    await communicator.send_to('{"filter": "home/+"}')
    await until_received(communicator, "lamp")
    await communicator.send_to('{"filter": "home/#/a"}')
    assert "#" in await until_received(communicator, "problem")
    for nonsense in ("", "[]", "{", "[" * 9000, '{"filter": 3}', '"' + "x" * 20_000 + '"'):
        await communicator.send_to(nonsense)
    await communicator.send_to(data=b"\0")
    await communicator.send_to('{"pause": "1"}')
    await until_received(communicator, 'aria-pressed="true"')
    await played.publish("home/lamp", "23", 0)
    assert await communicator.receive_nothing(timeout=1.2)
    await communicator.send_to('{"pause": "1", "filter": ""}')
    await until_received(communicator, ">23<")
    await communicator.disconnect()


async def test_new_lines_of_the_log_come_by_themselves(played: PlayedBroker) -> None:
    communicator = opened(await logged_in("view_dashboard"), "log", query="?level=notice")
    assert await communicator.connect()
    await until_received(communicator, 'id="log"')
    for number, level in ((2, "debug"), (3, "error"), (9, "notice")):
        played.inside.lines.append(LogLine(number, 1.7e9, level, f"line {number}"))
    played.inside.change("log")
    update = await until_received(communicator, "line 3")
    assert "beforeend:#log" in update and "line 9" in update
    assert "line 2" not in update and "alert" not in update
    await communicator.disconnect()


async def test_it_costs_nothing_while_nobody_looks(
    played: PlayedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "LINGER", 0.05)
    client = await logged_in("view_dashboard")
    assert not played.events
    both = [opened(client, "topics"), opened(client, "clients")]
    for communicator in both:
        assert await communicator.connect()
        await communicator.receive_from()
    assert (await played.receive_from())["type"] == "mqtt.sub"
    assert played.inside.viewers == 1
    for communicator in both:
        await communicator.disconnect()
    assert (await played.receive_from())["type"] == "mqtt.usub"
    await asyncio.sleep(0.2)
    assert played.inside.viewers == 0
    assert played.inside._watchers == []
    assert observer.observer().topics[observer.TOPICS].by_name == {}


# ---- bounds ----


async def test_a_slow_browser_gets_less(played: PlayedBroker) -> None:
    """What changes while it takes nothing is not kept for it, and it gets no more than seven updates a second."""
    client = await logged_in("view_dashboard")
    sent: list[str] = []
    is_open = asyncio.Event()
    is_open.set()
    events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    events.put_nowait({"type": "websocket.connect"})
    scope = opened(client, "topics").scope

    async def send(event: dict[str, Any]) -> None:
        await is_open.wait()
        if event["type"] == "websocket.send":
            sent.append(event["text"])

    task = asyncio.ensure_future(application(scope, events.get, send))
    assert (await played.receive_from())["type"] == "mqtt.sub"
    began = asyncio.get_running_loop().time()
    for number in range(200):
        await played.publish("a", str(number), 0)
        await asyncio.sleep(0.005)
    assert len(sent) <= 2 + (asyncio.get_running_loop().time() - began) / live.PAUSE
    is_open.clear()
    before = len(sent)
    for number in range(3000):
        await played.publish(f"b/{number % 50}", "x" * 100, 0)
        await asyncio.sleep(0.0001)
    assert len(sent) == before
    is_open.set()
    await asyncio.sleep(0.6)
    assert len(sent) <= before + 4
    assert sum(map(len, sent[before:])) < 200_000
    events.put_nowait({"type": "websocket.disconnect", "code": 1001})
    await asyncio.wait_for(task, 5)


async def test_no_more_look_than_may(played: PlayedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "VIEWERS", 1)
    client = await logged_in("view_dashboard")
    communicator = opened(client)
    assert await communicator.connect()
    assert not await accepts(opened(client))
    assert (await client.get("/dashboard/")).status_code == 503
    await communicator.disconnect()
    assert await accepts(opened(client))


async def test_a_browser_that_is_gone_before_it_is_let_in(played: PlayedBroker) -> None:
    """It is not counted among those who look."""
    scope = opened(await logged_in("view_dashboard"), "topics").scope

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(event: dict[str, Any]) -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await application(scope, receive, send)
    assert observer.observer().viewers == 0


async def test_a_million_topics(played: PlayedBroker) -> None:
    client = await logged_in(*ALL)
    communicator = opened(client, "topics")
    assert await communicator.connect()
    await played.receive_from()
    await until_received(communicator, "No message")
    kept = observer.observer().topics[observer.TOPICS]
    for number in range(1_000_000):
        kept.put(f"site/{number % 100}/device/{number}", b"x" * 2000, False, 0.0)
        if not number % 1000:
            await asyncio.sleep(0)
    assert len(kept.by_name) <= topics.TOPICS
    assert kept.bytes <= topics.BYTES
    assert kept.messages == 1_000_000
    began = time.monotonic()
    text = await text_of(await client.get("/dashboard/topics/"))
    assert time.monotonic() - began < 5
    assert len(text) < 200_000
    assert text.count("<tr role") <= tree.ROWS + 1
    assert "messages of further topics are not shown" in text
    for wanted in ("device/1", "site/+/device/#"):
        text = await text_of(await client.get("/dashboard/topics/", {"filter": wanted}))
        assert text.count("<tr role") <= tree.ROWS + 1
        assert re.search(r"of [\d,]+ topics", text)
    await communicator.disconnect()


async def test_the_overview_in_words(played: PlayedBroker) -> None:
    text = html.unescape(await text_of(await (await logged_in("view_dashboard")).get("/dashboard/")))
    assert "Sampled since" in text and "it began when somebody looked" in text
    assert "50 MB" in text and "1 min 1 s" in text
    assert re.search(r"<title id=.*>Messages to consumers, the last", text)
    assert "NaN" not in text and "None" not in text
