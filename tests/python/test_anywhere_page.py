"""The examples of docs/anywhere.md do what the page says."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import Group
from django.db.models.signals import post_save
from django.test import AsyncRequestFactory, RequestFactory

from mqttasgi.testing import MqttComunicator, PlayedBroker

PAGE = Path(__file__).resolve().parents[2] / "docs/anywhere.md"


def block(name: str) -> str:
    """Return the page's file of that name."""
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if text.startswith(f"# {name}\n"))
    return found


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the page's `mysite/live.py`."""
    module = types.ModuleType("mysite.live")
    package = types.ModuleType("mysite")
    package.live = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mysite", package)
    monkeypatch.setitem(sys.modules, "mysite.live", module)
    exec(compile(block("mysite/live.py"), "mysite/live.py", "exec"), module.__dict__)
    yield module
    post_save.disconnect(module.group_saved, sender=Group)


def published(played: PlayedBroker) -> list[tuple[str, Any, bool]]:
    return [
        (event["mqtt"]["topic"], event["mqtt"]["payload"], event["mqtt"]["retain"])
        for event in played.events
        if event["type"] == "mqtt.pub"
    ]


async def test_views(live: Any) -> None:
    with PlayedBroker() as played:
        assert (await live.lamp(AsyncRequestFactory().post("/lamp"), "on")).status_code == 204
        response = await asyncio.to_thread(live.sync_lamp, RequestFactory().post("/lamp"), "off")
        assert response.status_code == 204
    assert published(played) == [("home/lamp/set", "on", True), ("home/lamp/set", "off", True)]


@pytest.mark.django_db  # Channels looks after its connections at each event
async def test_a_websocket(live: Any) -> None:
    with PlayedBroker() as played:
        browser = ApplicationCommunicator(live.Live.as_asgi(), {"type": "websocket", "path": "/live"})
        await browser.send_input({"type": "websocket.connect"})
        assert (await browser.receive_output())["type"] == "websocket.accept"
        assert (await played.receive_from())["mqtt"] == {"topic": "home/#", "qos": 0}
        await played.publish("home/door", "open", 1)
        assert (await browser.receive_output())["text"] == "home/door open"
        await browser.send_input({"type": "websocket.receive", "text": "on"})
        assert (await played.receive_from())["mqtt"]["payload"] == "on"
    assert (await browser.receive_output())["code"] == 1001
    await browser.send_input({"type": "websocket.disconnect", "code": 1001})
    await browser.wait()


@pytest.mark.django_db
def test_a_signal(live: Any) -> None:
    with PlayedBroker() as played:
        group = Group.objects.create(name="cooks")
    assert published(played) == [(f"groups/{group.pk}", "cooks", False)]


async def test_a_task(live: Any) -> None:
    communicator = MqttComunicator(live.Clock.as_asgi(), app_id=1)
    assert (await communicator.connect())["mqtt"]["topic"] == "clock/tick"
    await communicator.disconnect()


async def test_the_tests(live: Any) -> None:
    tests: dict[str, Any] = {}
    exec(compile(block("test_live.py"), "test_live.py", "exec"), tests)
    await asyncio.to_thread(tests["test_the_lamp"])
    await tests["test_the_temperature"]()


def test_the_urls() -> None:
    pytest.importorskip("prometheus_client")
    names: dict[str, Any] = {}
    exec(compile(block("mysite/urls.py"), "mysite/urls.py", "exec"), names)
    assert names["urlpatterns"][0].url_patterns[0].name == "mqttasgi-metrics"
