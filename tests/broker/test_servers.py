"""PostgreSQL and Redis go away, hang and come back: consumers that need them go on, and so does all the rest."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from conftest import BrokerFactory
from support.client import Client
from support.ports import free_port
from support.postgres import PASSWORD, USER, PostgresServer
from support.processes import PATIENCE, wait_until
from support.redis import RedisServer

TABLE = "CREATE TABLE auth_group (id serial PRIMARY KEY, name varchar(150) UNIQUE NOT NULL)"


class House:
    """A broker with the consumers of `apps.servers`, and a client that hears what they publish.

    A message is given up, and a consumer that cannot start, at the second failure: it is not meant for these.
    """

    def __init__(self, broker: BrokerFactory, folder: Path, *, durable: bool = True, **servers: Any) -> None:
        self.inbox = folder / "inbox.db"
        self.http = free_port()
        postgres: PostgresServer | None = servers.get("postgres")
        redis: RedisServer | None = servers.get("redis")
        environment = {}
        if postgres is not None:
            address = {"HOST": "127.0.0.1", "PORT": postgres.port, "NAME": "postgres", "USER": USER}
            environment["TEST_POSTGRES"] = json.dumps({**address, "PASSWORD": PASSWORD})
        if redis is not None:
            environment["TEST_REDIS"] = redis.url
        options = {"durable": self.inbox, "durable_tries": 2} if durable else {}
        self.broker = broker(
            "apps.servers:application",
            options={**options, "retries": 1, "http": f"127.0.0.1:{self.http}"},
            environment=environment,
            expect_traceback=True,  # of each failure, from whichever driver
        )
        self.pid = self.broker.pid
        self.client: Client = self.broker.client()
        for topic in ("written", "heard", "pong"):
            self.client.subscribe(topic, qos=1)

    def publish(self, topic: str, *payloads: str) -> None:
        """Publish, and return when the broker has taken all."""
        for payload in payloads:
            self.client.publish(topic, payload, qos=1)

    def comes(self, topic: str, *payloads: str, timeout: float = 15) -> None:
        """Wait for these, and for nothing else in between."""
        for payload in payloads:
            assert self.client.wait_for(topic, timeout=timeout).payload.decode() == payload

    def writes(self, text: str) -> None:
        """See a row written, by a connection that is then open."""
        self.publish("row", text)
        self.comes("written", text)

    def hears(self, text: str) -> None:
        """Say something until it is heard: who joins a group does so in the background."""

        def is_heard() -> bool:
            self.publish("say", text)
            try:
                while self.client.wait_for("heard", timeout=0.3).payload.decode() != text:
                    pass
            except AssertionError:
                return False
            return True

        wait_until(is_heard, 20, f"{text!r} over the channel layer", self.broker.log)

    def goes_on(self) -> None:
        """Look that who needs no server is served at once."""
        began = time.monotonic()
        self.publish("ping", "1")
        self.comes("pong", "1")
        assert time.monotonic() - began < 1 * PATIENCE
        assert self.broker.pid == self.pid and self.broker.running

    def fails_until(self, seconds: int, consumer: str, since: int = 0) -> None:
        """Wait until a consumer has failed so often that the pause is this long: 1, 2, 4."""
        said = rf"apps\.servers\.{consumer} \(.*\) is restarted in {seconds} s"
        self.broker.wait_for_log(said, timeout=20, since=since)

    def page(self) -> ClientConnection:
        """Open the WebSocket."""
        return connect(f"ws://127.0.0.1:{self.http}/house/", open_timeout=10 * PATIENCE, proxy=None)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    """A server with the table."""
    postgres_server.ask(TABLE)
    return postgres_server


def rows(postgres: PostgresServer) -> list[str]:
    return postgres.ask("SELECT name FROM auth_group ORDER BY id")


def test_postgresql_is_killed_for_longer_than_a_message_is_tried(
    broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer
) -> None:
    house = House(broker, tmp_path, postgres=postgres)
    house.writes("a")
    postgres.kill()
    house.publish("row", "b", "c", "d")
    house.fails_until(4, "Rows")
    house.goes_on()
    postgres.start()
    house.comes("written", "b", "c", "d")
    assert rows(postgres) == ["a", "b", "c", "d"]
    assert "dead letter" not in house.broker.log()
    house.goes_on()


@pytest.mark.inside("kept")
def test_without_durable_each_try_costs_its_message(
    broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer
) -> None:
    house = House(broker, tmp_path, durable=False, postgres=postgres)
    postgres.kill()
    house.publish("row", "a", "b", "c")
    house.fails_until(2, "Rows")
    postgres.start()
    house.comes("written", "c")
    assert rows(postgres) == ["c"]


def test_postgresql_hangs(broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer) -> None:
    """A query that was asked already waits for its answer; new connections are given up after their time-out."""
    house = House(broker, tmp_path, postgres=postgres)
    house.writes("a")
    postgres.hang()
    house.publish("row", "b")
    house.goes_on()
    time.sleep(1.5)
    postgres.go_on()
    house.comes("written", "b")
    time.sleep(1.1)  # the connection is closed before the next message
    since = len(house.broker.log())
    postgres.hang()
    house.publish("row", "c", "d")
    house.fails_until(2, "Rows", since)
    house.broker.wait_for_log("The database cannot be used .*timeout", since=since)
    house.goes_on()
    postgres.go_on()
    house.comes("written", "c", "d")
    assert rows(postgres) == ["a", "b", "c", "d"]


@pytest.mark.inside("kept")
def test_the_broker_stops_while_postgresql_hangs(
    broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer
) -> None:
    """What was not handled comes after the next start."""
    house = House(broker, tmp_path, postgres=postgres)
    house.writes("a")
    postgres.hang()
    house.publish("row", "b")
    house.goes_on()
    began = time.monotonic()
    house.client.close()
    assert house.broker.stop() == 0
    assert time.monotonic() - began < 6 * PATIENCE
    postgres.go_on()
    house.broker.start()
    wait_until(lambda: rows(postgres) == ["a", "b"], 10, "the row")


def test_a_password_that_is_not_right_any_more(
    broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer
) -> None:
    house = House(broker, tmp_path, postgres=postgres)
    house.writes("a")
    postgres.ask(f"ALTER USER {USER} PASSWORD 'another'")
    time.sleep(1.1)  # the connection is closed before the next message
    house.publish("row", "b")
    house.fails_until(4, "Rows")
    house.broker.wait_for_log(
        "The database cannot be used .*password authentication failed.*PASSWORD in DATABASES"
    )
    postgres.ask(f"ALTER USER {USER} PASSWORD '{PASSWORD}'", "another")
    house.comes("written", "b")
    house.goes_on()


def test_both_are_away_when_the_broker_starts(
    broker: BrokerFactory, tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """For longer than a consumer that cannot start is tried."""
    postgres.kill()
    redis_server.kill()
    house = House(broker, tmp_path, postgres=postgres, redis=redis_server)
    house.goes_on()
    house.publish("row", "a")
    house.fails_until(4, "Hears")
    house.fails_until(4, "Rows")
    assert "given up" not in house.broker.log()
    postgres.start()
    redis_server.start()
    house.comes("written", "a")
    house.hears("hello")


def test_redis_is_killed_and_comes_back(
    broker: BrokerFactory, tmp_path: Path, redis_server: RedisServer
) -> None:
    house = House(broker, tmp_path, redis=redis_server)
    with house.page() as page:
        house.hears("a")
        assert page.recv(10 * PATIENCE) == "a"
        redis_server.kill()
        house.broker.wait_for_log("The channel layer RedisChannelLayer is away", timeout=10)
        house.publish("say", "b")
        house.fails_until(4, "Says")
        house.goes_on()
        # Whoever opened it has to open it again.
        with pytest.raises(ConnectionClosed):
            while True:
                page.recv(10 * PATIENCE)
    redis_server.start()
    house.broker.wait_for_log("The channel layer is back", timeout=15)
    with house.page() as page:
        # The message at which the consumer has failed comes again.
        house.hears("c")
        assert page.recv(10 * PATIENCE) in ("b", "c")
    assert "dead letter" not in house.broker.log()


def test_redis_hangs_and_is_killed(broker: BrokerFactory, tmp_path: Path, redis_server: RedisServer) -> None:
    house = House(broker, tmp_path, redis=redis_server)
    house.hears("a")
    redis_server.hang()
    house.publish("say", "b")
    house.goes_on()
    time.sleep(1.5)
    redis_server.go_on()
    house.comes("heard", "b")
    redis_server.hang()
    house.publish("say", "c")
    house.goes_on()
    redis_server.kill()
    redis_server.start()
    house.hears("d")
    house.goes_on()
