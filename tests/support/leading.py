"""A process of a group with a leader's lease, which writes down when it has led. Run it with `-m support.leading`.

PostgreSQL refuses what would say of two that they have led at the same time. What is written down is true however
long the process stood still in between: it has seen itself lead before and after it asked the server for the time.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import psycopg
from django.conf import settings

from .postgres import PASSWORD, USER, PostgresServer
from .processes import PATIENCE, wait_until

TABLE = """
CREATE TABLE term (
    holder text, number integer, during tstzrange NOT NULL,
    PRIMARY KEY (holder, number), EXCLUDE USING gist (during WITH &&)
)
"""
TESTS = Path(__file__).resolve().parent.parent


class Worker:
    """What the test has of such a process."""

    def __init__(
        self, name: str, where: str, postgres: PostgresServer, folder: Path, group: str = "fleet"
    ) -> None:
        """Start it.

        Args:
            name: Written down as the leader's.
            where: The lease is.
            postgres: Where the terms are, and a lease in a database.
            folder: For its log.
            group: Whose lease it is.
        """
        self.name = name
        self._log_file = folder / f"{name}.log"
        told = {"name": name, "where": where, "port": postgres.port, "group": group}
        with self._log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.leading", json.dumps(told)],
                cwd=TESTS,
                env={**os.environ, "PYTHONPATH": str(TESTS.parent / "python")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        """Return everything it has said."""
        return self._log_file.read_text()

    def says(self, text: str, times: int = 1, timeout: float = 30) -> None:
        """Wait until its log has it so often."""
        wait_until(lambda: self.log().count(text) >= times, timeout, f"{text!r} by {self.name}", self.log)

    def stop(self) -> None:
        """Have it end in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20 * PATIENCE) == 0, self.log()

    def kill(self) -> None:
        """End it at once, whatever it is at. One that has ended stays so."""
        self.process.kill()
        self.process.wait()


# ---- in the process ----


class Terms:
    """Writes down when this process has led, until it is told to end."""

    def __init__(self, name: str, address: dict[str, Any]) -> None:
        self._name = name
        self._address = address
        #: How often it was said that the leader has changed: odd while this process leads.
        self.changes = 0
        self.ends = threading.Event()
        self._written = 0

    def changed(self, leads: bool) -> None:
        self.changes += 1
        assert (self.changes % 2 == 1) == leads

    def write(self, leads: Callable[[], bool]) -> None:
        """Go on until the end, also while PostgreSQL is away."""
        while not self.ends.is_set():
            try:
                with psycopg.connect(**self._address, autocommit=True, connect_timeout=2) as connection:
                    while not self.ends.wait(0.005):
                        self._look(connection, leads)
            except psycopg.OperationalError:
                time.sleep(0.1)

    def _look(self, connection: psycopg.Connection[Any], leads: Callable[[], bool]) -> None:
        number = self.changes
        if not (leads() and number % 2):
            return
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        if row is None or not leads() or self.changes != number:
            return
        statement = (
            "UPDATE term SET during = tstzrange(lower(during), %s, '[]') WHERE holder = %s AND number = %s"
            if number == self._written
            else "INSERT INTO term (during, holder, number) SELECT tstzrange(at, at, '[]'), %s, %s "
            "FROM (SELECT %s::timestamptz AS at) AS now ON CONFLICT (holder, number) DO NOTHING"
        )
        values = [row[0], self._name, number] if number == self._written else [self._name, number, row[0]]
        connection.execute(statement, values)
        self._written = number


def _watch(is_leader: object) -> None:
    """Say so when it changes, also while the servers do not answer."""
    was = False
    while True:
        if bool(is_leader) != was:
            was = not was
            print(f"is_leader is {was}", flush=True)
        time.sleep(0.02)


def main() -> None:
    """Be the process."""
    told = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    address = {"host": "127.0.0.1", "port": told["port"], "user": USER, "password": PASSWORD}
    database = {name.upper(): value for name, value in address.items()}
    database.update(ENGINE="django.db.backends.postgresql", NAME="postgres")
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()

    from mqttasgi.cluster.lease import IsLeader, make

    terms = Terms(told["name"], {**address, "dbname": "postgres"})
    leader = make(told["where"], told["group"], terms.changed)
    assert leader is not None
    signal.signal(signal.SIGTERM, lambda *_: terms.ends.set())
    leader.start()
    is_leader = IsLeader(leader)
    threading.Thread(target=_watch, args=[is_leader], daemon=True).start()
    print("begins", flush=True)
    terms.write(lambda: bool(is_leader))
    leader.stop()


if __name__ == "__main__":
    main()
