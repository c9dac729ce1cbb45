"""Three processes of a group elect their leader: it is killed, and so are PostgreSQL and Redis; there are never two."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.client import Client
from support.elsewhere import Command
from support.leading import TABLE
from support.postgres import PASSWORD, USER, PostgresServer
from support.processes import wait_until
from support.redis import RedisServer

PROCESSES = 3
TESTS = Path(__file__).resolve().parent.parent


class Fleet:
    """The command with its processes, and what PostgreSQL has of their terms."""

    def __init__(self, broker: BrokerFactory, folder: Path, postgres: PostgresServer, where: str) -> None:
        self.postgres = postgres
        postgres.ask(TABLE)
        self.broker = broker(plugin=None)
        self.client: Client = self.broker.client()
        self.client.subscribe("done", qos=1)
        address = {"HOST": "127.0.0.1", "PORT": postgres.port, "NAME": "postgres", "USER": USER}
        self.command = Command(
            folder / "fleet.log",
            "apps.leading:application",
            [f"mqtt://127.0.0.1:{self.broker.port}"],
            arguments=["--leader", where],
            python_path=(TESTS / "broker", TESTS, TESTS.parent / "python"),
            environment={
                "TEST_POSTGRES": json.dumps({**address, "PASSWORD": PASSWORD}),
                "TEST_POSTGRES_PORT": str(postgres.port),
            },
            processes=PROCESSES,
            group="fleet",
        ).start()

    def leader(self, *others: int) -> int:
        """Wait until a process leads that is none of these, and return its process id."""
        leading: list[str] = []
        since = self.postgres.ask("SELECT clock_timestamp()")[0]

        def is_there() -> bool:
            leading[:] = self.postgres.ask(
                f"SELECT holder FROM term WHERE upper(during) > '{since}'::timestamptz ORDER BY upper(during)"
            )
            return bool(leading) and int(leading[-1]) not in others

        # A lease, and what it takes to notice that it has ended.
        wait_until(is_there, 10, "a leader", self.command.log)
        return int(leading[-1])

    def works(self, *payloads: str) -> None:
        """See messages handled, whoever leads."""
        for payload in payloads:
            self.client.publish("work", payload, qos=1)
            assert self.client.wait_for("done", timeout=15).payload.decode() == payload

    def stop(self) -> None:
        """End in order; PostgreSQL has refused nothing that was to be written down."""
        assert self.command.stop() == 0
        assert "ExclusionViolation" not in self.command.log()


@pytest.fixture(params=["database", "redis"])
def fleet(
    request: pytest.FixtureRequest, broker: BrokerFactory, tmp_path: Path, postgres_server: PostgresServer
) -> Iterator[Fleet]:
    where = "database" if request.param == "database" else request.getfixturevalue("redis_server").url
    made = Fleet(broker, tmp_path, postgres_server, where)
    yield made
    if made.command.running:
        made.command.kill()


def test_the_leader_is_killed_again_and_again(fleet: Fleet) -> None:
    killed: list[int] = []
    for number in range(2):
        leader = fleet.leader(*killed)
        os.kill(leader, signal.SIGKILL)
        killed.append(leader)
        fleet.works(f"{number}")
    fleet.leader(*killed)
    fleet.stop()


def test_postgresql_is_away_and_comes_back(fleet: Fleet) -> None:
    fleet.leader()
    fleet.works("before")
    fleet.postgres.kill()
    fleet.works("1", "2", "3")
    fleet.postgres.start()
    fleet.leader()
    fleet.works("after")
    fleet.stop()


def test_redis_is_killed_and_comes_back_empty(
    broker: BrokerFactory, tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    fleet = Fleet(broker, tmp_path, postgres_server, redis_server.url)
    fleet.leader()
    for _ in range(2):
        redis_server.kill()
        fleet.works("meanwhile")
        redis_server.start()
        fleet.leader()
    fleet.stop()
