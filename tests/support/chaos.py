"""What drives the consumers of `apps.chaos`: harm at random, for the test and for the benchmark."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from typing import Any, Protocol

from .client import Client
from .processes import wait_until

WORKERS = range(1, 7)
#: What consumers are told to do, how much of it at most, and how often among the others.
HARM = {
    "nothing": (1, 4),
    "raise": (100, 6),
    "exit": (3, 2),
    "block": (300, 6),
    "spin": (100, 3),
    "recurse": (1, 2),
    "flood": (5000, 6),
    "log": (300, 3),
    "churn": (60, 4),
    "tasks": (3000, 2),
    "cancel": (1, 1),
    "stop": (1, 2),
    "threads": (8, 2),
    "memory": (30, 2),
    "process": (1, 2),
}


class Target(Protocol):
    """The broker that the harm is done in."""

    def client(self, **arguments: Any) -> Client:
        """Return a new client that is connected."""

    def reload(self) -> None:
        """Make the broker read its configuration file again."""


class Chaos:
    """Does harm from a thread of its own, at random, while it is let."""

    def __init__(self, started: Target, seed: int) -> None:
        self._started = started
        self._random = random.Random(seed)
        self._client = started.client()
        self._go = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="chaos")
        self._error: Exception | None = None
        self.done: Counter[str] = Counter()
        self._thread.start()

    def let(self, go: bool) -> None:
        """Begin, or pause."""
        if go:
            self._go.set()
        else:
            self._go.clear()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._ends = True
        self._go.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while self._go.wait() and not self._ends:
                self._harm()
                time.sleep(self._random.uniform(0.02, 0.3))
        except Exception as error:
            self._error = error

    def _harm(self) -> None:
        kinds = [*HARM, "respawn", "client", "abort", "session", "reload"]
        weights = [often for _, often in HARM.values()] + [4, 4, 2, 1, 1]
        kind = self._random.choices(kinds, weights)[0]
        self.done[kind] += 1
        if kind in HARM:
            most, _ = HARM[kind]
            self._tell(self._random.choice([0, *WORKERS]), kind, self._random.randint(1, most))
        elif kind == "respawn":
            self._tell(0, kind, self._random.choice(WORKERS))
        elif kind == "reload":
            self._started.reload()
        elif kind == "session":
            # Who takes the session's name ends its connection; it comes back.
            self._started.client(client_id="chaos-session").close()
        else:
            visitor = self._started.client(will=("chaos/flood/will", "gone", 1, False))
            visitor.subscribe("chaos/flood/#", qos=1)
            if kind == "abort":
                visitor.abort()
            else:
                visitor.close()

    def _tell(self, app_id: int, what: str, amount: int) -> None:
        command = json.dumps([what, amount, time.monotonic() + 1])
        self._client.publish(f"chaos/do/{app_id}", command, qos=self._random.randint(0, 2))


def settle(client: Client) -> None:
    """Return when every consumer does what it is told again."""
    number = 0

    def all_answer() -> bool:
        nonlocal number
        number += 1
        for app_id in (0, *WORKERS):
            client.publish(
                f"chaos/do/{app_id}", json.dumps(["nothing", number, time.monotonic() + 60]), qos=1
            )
        wanted = {f"{app_id} {number}" for app_id in (0, *WORKERS)}
        deadline = time.monotonic() + 5
        while wanted and time.monotonic() < deadline:
            try:
                wanted.discard(client.wait_for("chaos/done", timeout=1).payload.decode())
            except AssertionError:
                continue
        return not wanted

    wait_until(all_answer, 120, "an answer of each consumer")
