"""What a test of the durable inbox knows of it, and of the consumers of `apps.durable`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from .broker import Broker
from .processes import wait_until


class Handled(NamedTuple):
    """A message as a consumer has handled it."""

    topic: str
    payload: str
    qos: int
    retain: bool
    redelivered: bool


class Keepers:
    """The consumers of one broker, whose folder is below the test's, and stays when the broker is killed.

    Attributes:
        inbox: The file that the broker keeps messages in.
        dead: The one beside it with those that were given up.
    """

    def __init__(self, folder: Path, workers: Iterable[int] = ()) -> None:
        self.folder = folder / "keepers"
        self.folder.mkdir()
        self.inbox = self.folder / "inbox"
        self.dead = self.folder / "inbox.dead"
        (self.folder / "workers").write_text(" ".join(map(str, workers)))

    @property
    def environment(self) -> dict[str, str]:
        """What the broker has to be started with."""
        return {"TEST_FOLDER": str(self.folder)}

    def shut(self, app_id: int | None = None) -> None:
        """Let a consumer, or all of them, wait with the message that it has in hand."""
        self._gate(app_id).touch()

    def open(self, app_id: int | None = None) -> None:
        """Let it, or them, go on."""
        self._gate(app_id).unlink()

    def cure(self) -> None:
        """Let what is poisoned be handled from now on."""
        (self.folder / "antidote").touch()

    def handled(self, app_id: int = 0) -> list[Handled]:
        """Return what a consumer has handled so far, in order."""
        try:
            lines = (self.folder / f"handled-{app_id}").read_text()
        except FileNotFoundError:
            return []
        # The last line may be without its end.
        return [Handled(*json.loads(line)) for line in lines.splitlines(keepends=True) if line.endswith("\n")]

    def payloads(self, app_id: int = 0) -> list[str]:
        """Return the same, without all the rest."""
        return [message.payload for message in self.handled(app_id)]

    def wait_for(self, payload: str, app_id: int = 0, timeout: float = 10) -> list[Handled]:
        """Return what a consumer has handled, as soon as that is among it."""
        wait_until(
            lambda: payload in self.payloads(app_id),
            timeout,
            f"{payload!r} to be handled by consumer {app_id}",
            lambda: f"what was: {self.payloads(app_id)[-20:]}",
        )
        return self.handled(app_id)

    def ask(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return rows of the file with the dead letters, or change it; nothing while it is not there."""
        if not self.dead_is_there():
            return []
        with closing(sqlite3.connect(self.dead, timeout=30)) as database:
            rows = database.execute(query, arguments).fetchall()
            database.commit()
            return rows

    def dead_is_there(self) -> bool:
        """Return whether there is a file with dead letters, and a table in it."""
        if not self.dead.exists():
            return False
        with closing(sqlite3.connect(self.dead, timeout=30)) as database:
            return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead_letter'").fetchall())

    def _gate(self, app_id: int | None) -> Path:
        return self.folder / ("shut" if app_id is None else f"shut-{app_id}")


def numbers(begin: int, end: int) -> list[str]:
    """Return payloads."""
    return [str(number) for number in range(begin, end)]


def publish(started: Broker, topic: str, payloads: Iterable[object], qos: int = 1) -> None:
    """Publish, and return when the broker has taken all; it then has to keep them."""
    with started.client() as client:
        for payload in payloads:
            client.publish(topic, str(payload), qos)
