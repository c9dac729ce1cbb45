"""Django's connections, in each kind of thread that may have one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import breakable
import pytest
import pytest_asyncio
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import OperationalError, connections

from mqttasgi import database
from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime.threads import LoopExecutor

EVENT = {"type": "mqtt.msg", "mqtt": {"topic": "x", "payload": b"", "qos": 0, "retain": False}}


class Notes(MqttConsumer):
    """Has an event's ORM call made of a word that it keeps."""

    channel_layer_alias = "none"
    order: list[str] = []  # noqa: RUF012
    queries = True

    async def receive(self, mqtt_message: Any) -> None:
        if self.queries:
            await sync_to_async(self.order.append)("query")
        await self.publish("handled", b"")


class WithoutDatabase(Notes):
    queries = False


def run(application: type[MqttConsumer]) -> ApplicationCommunicator:
    """Runs it as the broker would: its connections are its own."""
    return ApplicationCommunicator(
        application.as_asgi(), {"type": "mqtt", "app_id": 0, "instance_type": "master"}
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each look at the connections, which is due at each event."""
    Notes.order = []
    # What earlier tests have left to that thread could clear the flag.
    SyncToAsync.single_thread_executor.submit(int).result(30)

    def look() -> None:
        Notes.order.append("look")

    monkeypatch.setattr(database, "INTERVAL", 0.0)
    monkeypatch.setattr(database, "close_old_connections", look)
    monkeypatch.setattr(database, "_connection_open", True)
    # Nothing has a connection in these tests, so the flag would be cleared.
    monkeypatch.setattr(database._here, "is_open", True)
    return Notes.order


@pytest.fixture
def busy(looks: list[str]) -> Iterator[Callable[[], None]]:
    """The database thread runs a long job of another consumer's, until it is called or the test has ended."""
    begun, over = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        over.wait(60)

    done = SyncToAsync.single_thread_executor.submit(job)
    assert begun.wait(60)

    def end() -> None:
        over.set()
        done.result(60)

    yield end
    end()


async def handles(communicator: ApplicationCommunicator) -> None:
    """Waits for at most as long as a job would keep it."""
    await communicator.send_input(EVENT)
    assert (await communicator.receive_output(30))["mqtt"]["topic"] == "handled"


async def ends(communicator: ApplicationCommunicator) -> None:
    await communicator.send_input({"type": "mqtt.disconnect"})
    await communicator.wait(30)


async def test_nobody_waits_for_another_consumers_query(busy: Callable[[], None], looks: list[str]) -> None:
    communicator = run(WithoutDatabase)
    for _ in range(5):
        await handles(communicator)
    assert looks == []
    busy()
    await sync_to_async(looks.append)("then")
    # However long it was busy, once is enough.
    assert looks == ["look", "then"]
    await ends(communicator)


async def test_after_an_error_nobody_waits_either(busy: Callable[[], None], looks: list[str]) -> None:
    class Breaks(WithoutDatabase):
        async def receive(self, mqtt_message: Any) -> None:
            raise OperationalError("gone away")

    database._connection_open = False
    communicator = run(Breaks)
    await communicator.send_input(EVENT)
    with pytest.raises(OperationalError):
        await communicator.wait(30)
    assert looks == []
    busy()
    await sync_to_async(looks.append)("then")
    assert looks == ["look", "then"]


async def test_the_look_comes_before_the_events_own_query(looks: list[str]) -> None:
    communicator = run(Notes)
    await handles(communicator)
    assert looks == ["look", "query"]
    await ends(communicator)


async def test_also_where_a_consumer_has_a_thread_of_its_own(
    looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asgiref then gives its calls to that one."""
    threads: list[int] = []

    class Own(Notes):
        async def receive(self, mqtt_message: Any) -> None:
            async with ThreadSensitiveContext():
                threads.append(await sync_to_async(threading.get_ident)())
                database.refresh()
                await sync_to_async(self.order.append)("query")
            await self.publish("handled", b"")

    def look() -> None:
        threads.append(threading.get_ident())

    # None but the one in there is due.
    monkeypatch.setattr(database, "INTERVAL", 3600.0)
    monkeypatch.setattr(database, "close_old_connections", look)
    communicator = run(Own)
    await handles(communicator)
    assert len(threads) == 2
    assert len(set(threads)) == 1
    await ends(communicator)


async def test_an_error_of_it_is_logged_and_the_consumers_concern_is_none(
    looks: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise OperationalError("cannot be closed")

    monkeypatch.setattr(database, "close_old_connections", fails)
    communicator = run(Notes)
    await handles(communicator)
    await handles(communicator)
    await ends(communicator)
    record = caplog.records[0]
    assert (record.name, record.levelno) == ("mqttasgi.database", logging.WARNING)
    assert record.exc_info is not None
    assert "cannot be closed" in str(record.exc_info[1])


# ---- the threads of the loop's executor ----


@pytest.fixture
def server(django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A database whose server can be restarted."""
    # In a file: Django never closes a connection to a database in memory.
    own = {"ENGINE": "breakable", "NAME": tmp_path / "db.sqlite3", "CONN_MAX_AGE": None}
    settings = {**connections.databases["default"], **own}
    monkeypatch.setitem(connections.databases, "server", settings)
    with django_db_blocker.unblock():
        yield


@pytest_asyncio.fixture
async def executor() -> AsyncIterator[LoopExecutor]:
    """The runtime's, with one thread, whose connection is closed at the end."""
    executor = LoopExecutor(max_workers=1)
    asyncio.get_running_loop().set_default_executor(executor)
    yield executor
    executor.submit(connections.close_all).result(30)


def query() -> str:
    with connections["server"].cursor() as cursor:
        cursor.execute("select 'answer'")
        return str(cursor.fetchone()[0])


async def to_thread() -> str:
    return await asyncio.to_thread(query)


async def run_in_executor() -> str:
    return await asyncio.get_running_loop().run_in_executor(None, query)


async def not_thread_sensitive() -> str:
    return str(await sync_to_async(query, thread_sensitive=False)())


@pytest.mark.parametrize("ask", [to_thread, run_in_executor, not_thread_sensitive])
@pytest.mark.usefixtures("server", "executor")
async def test_a_thread_recovers_from_the_databases_restart(ask: Any) -> None:
    """After one error, which nobody could have foreseen."""
    assert await ask() == "answer"
    for _ in range(3):
        breakable.restart()
        with pytest.raises(OperationalError, match="is lost"):
            await ask()
        assert await ask() == "answer"


@pytest.mark.usefixtures("server", "executor")
async def test_a_thread_closes_what_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> Any:
        query()
        connection = connections["server"]
        connection.close_at = 0.0
        return connection.connection

    monkeypatch.setattr(database, "INTERVAL", 3600.0)
    first = await asyncio.to_thread(connect)
    assert await asyncio.to_thread(connect) is first
    monkeypatch.setattr(database, "INTERVAL", 0.0)
    assert await asyncio.to_thread(connect) is not first


@pytest.mark.usefixtures("executor")
async def test_a_thread_without_a_connection_looks_at_none(looks: list[str]) -> None:
    await asyncio.to_thread(looks.append, "job")
    assert looks == ["job"]


def test_the_loops_executor_is_a_thread_pool() -> None:
    """As asyncio demands, with the names that its own has."""
    executor = LoopExecutor()
    assert isinstance(executor, ThreadPoolExecutor)
    name = executor.submit(lambda: threading.current_thread().name).result(30)
    assert name.startswith("asyncio")
    with pytest.raises(LookupError):
        executor.submit({}.__getitem__, 1).result(30)
    executor.shutdown()
