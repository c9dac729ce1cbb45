"""For the tests that need no broker: Django without a project, and a service with a bridge made of Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import django
import pytest
import pytest_asyncio
from django.conf import settings
from fake_bridge import FakeBridge

if TYPE_CHECKING:
    from running import Start


def pytest_configure() -> None:
    if not settings.configured:
        settings.configure(
            SECRET_KEY="only for tests",
            INSTALLED_APPS=["channels", "django.contrib.contenttypes", "django.contrib.auth"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
            DEFAULT_AUTO_FIELD="django.db.models.AutoField",
            USE_TZ=True,
        )
        django.setup()


@pytest.fixture(autouse=True)
def no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-django forbids database access outside of its mark, also to the runtime's housekeeping."""
    from mqttasgi import database

    monkeypatch.setattr(database, "_connection_open", False)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers that fail are restarted in the next turn of the loop."""
    from mqttasgi.runtime import restarts

    monkeypatch.setattr(restarts, "RESTART_DELAY", 0)


@pytest.fixture
def bridge() -> Any:
    bridge = FakeBridge()
    yield bridge
    bridge.close()


@pytest_asyncio.fixture
async def start(bridge: FakeBridge) -> AsyncIterator[Start]:
    """Start services, and end them with the test."""
    from running import LoopThatStays, until

    from mqttasgi import _host
    from mqttasgi.runtime.service import Service

    loop = asyncio.get_running_loop()
    services: list[Service] = []

    async def start_it(
        application: Any, has_session: bool = True, retries: int = 3, durable_tries: int = 0
    ) -> Any:
        service = Service(
            bridge,
            LoopThatStays(loop),  # type: ignore[arg-type]
            has_session,
            retries,
            durable_tries=durable_tries,
        )
        services.append(service)
        service.start("tests:application", application)
        await until(lambda: bridge.has_started or service.stopped)
        return service

    yield start_it
    _host.of_process = None
    loop.remove_reader(bridge.fileno())
    for service in services:
        service.stopped = True
        # Those that wait to be restarted have none yet.
        tasks = [consumer.run.task for consumer in service.roster.by_handle.values() if consumer.run]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
