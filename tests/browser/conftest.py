"""The example hub in a real broker, and Debian's Chromium in front of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.client import Client
from support.hub import HUB, PACKAGE, manage
from support.ports import free_port
from support.processes import PATIENCE

if TYPE_CHECKING:
    from conftest import BrokerFactory

sync_api = pytest.importorskip("playwright.sync_api")

TIMEOUT = 10_000 * PATIENCE  # milliseconds
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
USER = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ann", "", "secret")
"""


class Hub:
    """The broker with the hub and a client of its own.

    Attributes:
        broker: The broker.
        address: Where its pages are.
        client: Has heard everything that tests ask about.
    """

    def __init__(self, broker: Any, port: int) -> None:
        self.broker = broker
        self.address = f"http://127.0.0.1:{port}"
        self.client: Client = broker.client()
        self.client.subscribe("home/#", qos=1)

    def knock(self) -> None:
        """Wait until the hub's workers are there: publish until one answers."""
        for _ in range(60):
            self.client.publish("home/sensor/motion", "bedroom", qos=1)
            try:
                self.client.wait_for("home/lights/bedroom/set", timeout=0.5)
                return
            except AssertionError:
                continue
        raise AssertionError(f"no light goes on; the broker's log:\n{self.broker.log()}")

    def run(self, program: str, *arguments: str) -> float:
        """Run one of Mosquitto's clients, and return the clock's time when it was begun."""
        begun = time.time()
        subprocess.run([program, "-p", str(self.broker.port), *arguments], check=True, timeout=60)
        return begun


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the hub's tables and somebody who may do everything."""
    database = tmp_path_factory.mktemp("hub") / "migrated.sqlite3"
    manage(database, "migrate", "--verbosity", "0")
    manage(database, "shell", "-c", USER)
    return database


@pytest.fixture
def hub(broker: BrokerFactory, migrated: Path, tmp_path: Path) -> Hub:
    """A hub of the test's own, whose consumers are at work."""
    database = tmp_path / "hub.sqlite3"
    shutil.copy(migrated, database)
    port = free_port()
    started = broker(
        "hub.asgi:application",
        python_path=[HUB, PACKAGE],
        environment={"DJANGO_SETTINGS_MODULE": "hub.settings", "HUB_DATABASE": str(database)},
        options={"http": f"127.0.0.1:{port}", "connect_events": True},
    )
    made = Hub(started, port)
    made.knock()
    return made


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser with nothing in it."""
    home = tmp_path_factory.mktemp("chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=list(FLAGS),
            chromium_sandbox=os.geteuid() != 0,
            env={**os.environ, "HOME": str(home)},
        )
        yield browser
        browser.close()


class Window:
    """Pages of one visitor, and what went wrong in them.

    Attributes:
        page: Playwright's page.
        dialogs: What the pages have asked. All of it is confirmed.
        problems: Errors and warnings of the console, exceptions, and requests that failed.
    """

    def __init__(self, context: Any, address: str) -> None:
        self.address = address
        self.dialogs: list[str] = []
        self.problems: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.page.on("dialog", self._confirm)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._heard)

    def _confirm(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.accept()

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.text} at {self.page.url}")

    def log_in(self) -> None:
        """Log in by the form."""
        self.page.goto(f"{self.address}/")
        self.page.get_by_label("User name").fill("ann")
        self.page.get_by_label("Password").fill("secret")
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("button", name="Log out").wait_for()

    def open(self, path: str) -> Any:
        """Open a page, and return it when it is live."""
        self.page.goto(f"{self.address}{path}")
        sync_api.expect(self.page.locator("#connection")).to_have_text(re.compile("^Live$"), timeout=TIMEOUT)
        return self.page


@pytest.fixture
def visit(chromium: Any, hub: Hub) -> Iterator[Callable[..., Window]]:
    """Open windows, logged in unless told otherwise; none may have had a problem when the test ends."""
    opened: list[tuple[Any, Window]] = []

    def make(is_logged_in: bool = True, **options: Any) -> Window:
        context = chromium.new_context(**options)
        window = Window(context, hub.address)
        opened.append((context, window))
        if is_logged_in:
            window.log_in()
        return window

    yield make
    problems = [problem for _, window in opened for problem in window.problems]
    for context, _ in opened:
        context.close()
    assert not problems


@pytest.fixture
def window(visit: Callable[..., Window]) -> Window:
    """A window of somebody who is logged in."""
    return visit()
