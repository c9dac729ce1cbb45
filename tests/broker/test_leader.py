"""The leader's lease with real servers: processes and servers are killed, and there are never two leaders."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from support.leading import TABLE, Worker
from support.postgres import PostgresServer
from support.processes import wait_until
from support.redis import RedisServer

LOST = "does not lead any more"
BACK = "again."


class Fleet:
    """Three processes of a group, and what PostgreSQL has of their terms."""

    def __init__(self, where: str, postgres: PostgresServer, folder: Path) -> None:
        self.where = where
        self.postgres = postgres
        self.folder = folder
        self.workers: dict[str, Worker] = {}

    def start(self, *names: str, group: str = "fleet") -> None:
        for name in names:
            self.workers[name] = Worker(name, self.where, self.postgres, self.folder, group)
        for name in names:
            self.workers[name].says("begins")

    def ends(self) -> None:
        """Nobody has failed, which a process does that PostgreSQL refuses."""
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.stop()
        # Who was killed has said nothing of the kind before.
        assert all("Traceback" not in worker.log() for worker in self.workers.values()), self.log()

    def log(self) -> str:
        return "\n".join(f"{name}:\n{worker.log()}" for name, worker in self.workers.items())

    def terms(self) -> list[str]:
        """Return who has led, in order."""
        return self.postgres.ask("SELECT holder FROM term ORDER BY lower(during)")

    def leader(self, *others: str) -> Worker:
        """Wait until somebody leads, who is none of these, and has done so for a while."""
        leading: list[str] = []
        since = self.postgres.ask("SELECT clock_timestamp()")[0]

        def is_there() -> bool:
            self._look()
            leading[:] = self.postgres.ask(
                f"SELECT holder FROM term WHERE upper(during) > '{since}'::timestamptz"
            )
            return bool(leading) and leading[-1] not in others

        # A lease and what it takes to notice that it has ended are 10 s.
        wait_until(is_there, 10, "a leader", self.log)
        return self.workers[leading[-1]]

    def _look(self) -> None:
        failed = [
            worker
            for worker in self.workers.values()
            if worker.process.poll() not in (None, 0, -signal.SIGKILL)
        ]
        assert not failed, self.log()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    """A server with the table that refuses two leaders."""
    postgres_server.ask(TABLE)
    return postgres_server


@pytest.fixture
def make_fleet(postgres: PostgresServer, tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    made: list[Fleet] = []

    def make(where: str) -> Fleet:
        made.append(Fleet(where, postgres, tmp_path))
        return made[-1]

    yield make
    for fleet in made:
        for worker in fleet.workers.values():
            worker.kill()


@pytest.fixture(params=["database", "redis"])
def fleet(request: pytest.FixtureRequest, make_fleet: Callable[[str], Fleet]) -> Fleet:
    where = "database" if request.param == "database" else request.getfixturevalue("redis_server").url
    fleet = make_fleet(where)
    fleet.start("a", "b", "c")
    return fleet


@pytest.fixture
def in_redis(redis_server: RedisServer, make_fleet: Callable[[str], Fleet]) -> Fleet:
    fleet = make_fleet(redis_server.url)
    fleet.start("a", "b", "c")
    return fleet


@pytest.fixture
def in_database(make_fleet: Callable[[str], Fleet]) -> Fleet:
    fleet = make_fleet("database")
    fleet.start("a", "b", "c")
    return fleet


@pytest.mark.long
def test_another_leads_when_the_leader_ends_or_is_killed(fleet: Fleet) -> None:
    first = fleet.leader()
    first.kill()
    second = fleet.leader(first.name)
    second.stop()
    third = fleet.leader(first.name, second.name)
    fleet.start("d")
    third.stop()
    assert fleet.leader(first.name, second.name, third.name).name == "d"
    fleet.ends()
    assert fleet.terms() == [first.name, second.name, third.name, "d"]


def test_a_leader_that_stood_still_leads_no_more(fleet: Fleet) -> None:
    first = fleet.leader()
    first.process.send_signal(signal.SIGSTOP)
    second = fleet.leader(first.name)
    first.process.send_signal(signal.SIGCONT)
    first.says(LOST)
    assert fleet.leader() is second
    fleet.ends()


@pytest.mark.long
def test_postgresql_is_killed_for_longer_than_a_lease(in_database: Fleet, postgres: PostgresServer) -> None:
    first = in_database.leader()
    postgres.kill()
    first.says(LOST)
    for worker in in_database.workers.values():
        worker.says("cannot be had")
    postgres.start()
    in_database.leader()
    for worker in in_database.workers.values():
        worker.says(BACK)
        assert worker.log().count("cannot be had") == 1
    in_database.ends()


def test_postgresql_is_killed_and_back_at_once(in_database: Fleet, postgres: PostgresServer) -> None:
    for _ in range(3):
        in_database.leader()
        postgres.kill()
        postgres.start()
    in_database.leader()
    in_database.ends()


@pytest.mark.long
def test_postgresql_hangs(in_database: Fleet, postgres: PostgresServer) -> None:
    first = in_database.leader()
    postgres.hang()
    first.says("is_leader is False")  # while its thread waits for an answer
    postgres.go_on()
    in_database.leader()
    in_database.ends()


def test_redis_is_killed_and_back_without_the_lease(in_redis: Fleet, redis_server: RedisServer) -> None:
    client = Redis.from_url(redis_server.url)

    def restart() -> None:
        redis_server.kill()
        redis_server.start()

    for _ in range(3):
        in_redis.leader()
        restart()
        # Who has the new lease does not lead yet, and who led before does so for a while.
        wait_until(lambda: bool(client.exists("mqttasgi:leader:fleet")), 10, "a new lease", in_redis.log)
        restart()
    in_redis.leader()
    in_redis.ends()
    client.close()


@pytest.mark.long
def test_redis_is_away_and_hangs(in_redis: Fleet, redis_server: RedisServer) -> None:
    first = in_redis.leader()
    redis_server.kill()
    first.says(LOST)
    redis_server.start()
    second = in_redis.leader()
    redis_server.hang()
    second.says(LOST, times=second.log().count(LOST) + 1)
    redis_server.go_on()
    in_redis.leader()
    in_redis.ends()


def test_postgresql_would_tell_of_two(make_fleet: Callable[[str], Fleet], postgres: PostgresServer) -> None:
    fleet = make_fleet("database")
    fleet.start("a")
    fleet.leader()
    fleet.start("b", group="another fleet")
    wait_until(
        lambda: any(worker.process.poll() for worker in fleet.workers.values()), 10, "the refusal", fleet.log
    )
    assert "ExclusionViolation" in fleet.log()


def test_who_may_not_make_the_table_is_told_how(postgres: PostgresServer) -> None:
    program = """
import sys
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "HOST": "127.0.0.1", "PORT": sys.argv[1],
    "USER": "guest", "PASSWORD": "guest",
}})
from mqttasgi.cluster.lease_database import DatabaseStore
from mqttasgi.cluster.lease_store import StoreError
try:
    DatabaseStore("default").acquire("fleet", "a", 8)
except StoreError as error:
    print(error.lasting, error)
else:
    print("leads")
"""

    def run() -> str:
        import sys

        return subprocess.run(
            [sys.executable, "-c", program, str(postgres.port)], check=True, capture_output=True, text=True
        ).stdout

    postgres.ask("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    postgres.ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    said = run()
    assert "True the table mqttasgi_lease could not be made (permission denied for schema public" in said
    postgres.ask(said[said.index("CREATE TABLE") : said.index("; and allow")])
    assert (
        "True permission denied for table mqttasgi_lease; its user must be allowed SELECT, INSERT and"
        in run()
    )
    postgres.ask("GRANT SELECT, INSERT, UPDATE ON mqttasgi_lease TO guest")
    assert run() == "leads\n"
