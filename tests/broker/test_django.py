"""Django inside the broker: the ORM, sync consumers, channel layers with a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import virtualenv
from support.redis import RedisServer

HERE = Path(__file__).parent


def django(database: Path, *arguments: str, redis: str = "") -> None:
    """Runs a management command in a process of its own."""
    environment = virtualenv()
    python = str(environment / "bin" / "python3") if environment else sys.executable
    subprocess.run(
        [python, "-m", "django", *arguments],
        check=True,
        timeout=60,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "apps.django_settings",
            "PYTHONPATH": str(HERE),
            "TEST_DATABASE": str(database),
            "TEST_REDIS": redis,
        },
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "db.sqlite3"
    django(file, "migrate", "--verbosity", "0")
    return file


def test_the_orm_in_an_async_consumer(broker: BrokerFactory, database: Path) -> None:
    client = broker("apps.orm:application", environment={"TEST_DATABASE": str(database)}).client()
    client.subscribe("groups", qos=1)
    client.publish("group/async", "a", qos=1)
    assert client.wait_for("groups").payload == b"a"
    client.publish("group/wrapped", "b", qos=1)
    assert client.wait_for("groups").payload == b"a,b"


def test_the_orm_in_threads_after_an_error(broker: BrokerFactory, database: Path) -> None:
    """The database has been restarted, say: no thread keeps a connection that does not work any more."""
    client = broker("apps.orm:application", environment={"TEST_DATABASE": str(database)}).client()
    client.subscribe("broken", qos=1)
    client.publish("group/threads", qos=1)
    assert client.wait_for("broken", timeout=30).payload == b"0"


def test_errors_begin_with_what_to_do(broker: BrokerFactory, database: Path) -> None:
    """Which consumer, which topic, what to do; the traceback comes after that."""
    started = broker(
        "apps.orm:application",
        environment={"TEST_DATABASE": str(database)},
        expect_traceback="SynchronousOnlyOperation",
    )
    started.client().publish("group/direct", b"", qos=1)
    started.wait_for_log(
        r"Consumer apps\.orm:application \(master, app_id 0\) ended with an error handling a message on topic "
        r"'group/direct': The ORM was called from async code\. Use "
    )


def test_migrations_that_are_missing_are_said_at_start(broker: BrokerFactory, tmp_path: Path) -> None:
    file = tmp_path / "empty.sqlite3"
    file.touch()
    started = broker(
        "apps.orm:application", environment={"TEST_DATABASE": str(file)}, expect_traceback="in acreate"
    )
    started.wait_for_log(
        r"Database 'default' lacks \d+ migrations \(auth, contenttypes\)\. Apply them: .* migrate"
    )
    started.client().publish("group/async", "a", qos=1)
    started.wait_for_log(
        r"handling a message on topic 'group/async': The database lacks a table \(no such table: auth_group\)\. "
        r"Apply the migrations: .* migrate"
    )


def test_a_database_that_is_complete_is_not_spoken_of(broker: BrokerFactory, database: Path) -> None:
    started = broker("apps.orm:application", environment={"TEST_DATABASE": str(database)})
    client = started.client()
    client.subscribe("groups", qos=1)
    client.publish("group/async", "a", qos=1)
    client.wait_for("groups")
    assert "migration" not in started.log()
    assert "SQLite database" not in started.log()


def test_the_orm_in_a_sync_consumer(broker: BrokerFactory, database: Path) -> None:
    client = broker("apps.sync:application", environment={"TEST_DATABASE": str(database)}).client()
    client.subscribe("group/count", qos=1)
    for number in (1, 2, 3):
        client.publish("group/new", str(number), qos=1)
        assert client.wait_for("group/count").payload == str(number).encode()


def test_another_process_reaches_a_consumer_over_redis(
    broker: BrokerFactory, redis_server: RedisServer, tmp_path: Path
) -> None:
    pytest.importorskip("channels_redis")
    started = broker("apps.groups:application", environment={"TEST_REDIS": redis_server.url})
    client = started.client()
    for topic in ("lights", "pong"):
        client.subscribe(topic, qos=1)
    unused = tmp_path / "unused.sqlite3"

    def send(text: str) -> None:
        code = (
            "from asgiref.sync import async_to_sync; from channels.layers import get_channel_layer; "
            "async_to_sync(get_channel_layer().group_send)"
            f"('lights', {{'type': 'lights.all', 'text': '{text}'}})"
        )
        django(unused, "shell", "-c", code, redis=redis_server.url)

    send("on")
    assert client.wait_for("lights").payload == b"on"

    # Redis goes away, with everything it knew; messages go on.
    redis_server.stop()
    started.wait_for_log("The channel layer RedisChannelLayer is away", timeout=20)
    client.publish("ping", b"1", qos=1)
    assert client.wait_for("pong").payload == b"1"
    redis_server.start()
    started.wait_for_log("The channel layer is back", timeout=60)
    send("off")
    assert client.wait_for("lights").payload == b"off"
