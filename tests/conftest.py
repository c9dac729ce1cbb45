"""Fixtures for every test: brokers and servers that are stopped and checked when the test ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
sys.path.insert(0, str(TESTS.parent / "python"))

from support.broker import Broker, finish_all  # noqa: E402
from support.elsewhere import CONNECTS, DIFFERENCES, Elsewhere  # noqa: E402
from support.postgres import PostgresServer  # noqa: E402
from support.redis import RedisServer  # noqa: E402


class BrokerFactory(Protocol):
    """What the fixture `broker` is: `broker(application="apps.echo:application")` returns a started Broker."""

    def __call__(self, application: str | None = None, *, start: bool = True, **arguments: Any) -> Broker: ...


def pytest_configure() -> None:
    """Let programs under test end by SIGINT: a shell ignores it for what it starts in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in tests/broker as `broker`, and skip what is inside a broker only where nothing is."""
    for item in items:
        if TESTS / "broker" in item.path.parents:
            item.add_marker(pytest.mark.broker)
        for mark in item.iter_markers("inside"):
            reason = DIFFERENCES[mark.args[0]]
            if CONNECTS:
                item.add_marker(pytest.mark.skip(reason=f"--connect: {reason}"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerFactory]:
    """Start brokers. Each is stopped when the test ends, and must then have exit status 0 and a clean log.

    Arguments are those of `Broker`, without the folder. `apps.NAME` can be imported unless `python_path` says
    otherwise; `start=False` leaves the start to the test.
    """
    brokers: list[Broker] = []

    def make(application: str | None = None, *, start: bool = True, **arguments: Any) -> Broker:
        folder = tmp_path / f"broker-{len(brokers)}"
        folder.mkdir()
        arguments.setdefault("python_path", (TESTS / "broker", TESTS.parent / "python"))
        kind = Elsewhere if CONNECTS else Broker
        made = kind(folder, application=application, **arguments)
        brokers.append(made)
        return made.start() if start else made

    yield make
    finish_all(brokers)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis server with nothing in it; `.url`, `.stop()`, `.start()`."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server with an empty database; `.url()`, `.kill()`, `.start()`, `.hang()`, `.go_on()`."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the brokers' logs beside a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(folder, Path):
        for log in sorted(folder.glob("broker-*/broker.log")):
            text = log.read_text(errors="replace")
            report.sections.append((f"{log.parent.name}: broker.log (its end)", text[-6000:]))


#: Test -> what its first try failed with.
_tried_again: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write which tests passed at the second try only, and why, to the file `MQTTASGI_SECOND_TRY`, one a line.

    pytest-rerunfailures makes the outcome `rerun`. With pytest-xdist each worker would write them as well.
    """
    if report.outcome == "rerun":  # type: ignore[comparison-overlap]
        crash = getattr(report.longrepr, "reprcrash", None)
        _tried_again[report.nodeid] = " ".join(str(getattr(crash, "message", report.longrepr)).split())[:300]
    file = os.environ.get("MQTTASGI_SECOND_TRY")
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if file and not is_worker and report.when == "call" and report.passed and report.nodeid in _tried_again:
        with open(file, "a") as names:
            names.write(f"{report.nodeid} ({_tried_again[report.nodeid]})\n")
