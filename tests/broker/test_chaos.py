"""Consumers that raise, block, flood and so on at random, while ordinary clients notice nothing."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.load import build_load
from support.processes import PATIENCE, SANITIZER, wait_until

WORKERS = range(1, 7)
#: Without a line for each packet, which would be most of what is measured.
LOG_TYPES = ("error", "warning", "notice")
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


@dataclass
class Trips:
    """What ordinary clients measured in one slice of time."""

    count: int
    lost: int
    p50_us: float
    p99_us: float


def measure(program: Path, port: int, seconds: float) -> Trips:
    """Let an ordinary client send itself messages with QoS 1, each of which must come back."""
    arguments: dict[str, object] = {
        "--port": port,
        "--qos": 1,
        "--topic": "ordinary/x",
        "--answer": "ordinary/x",
        "--count": 0,
        "--seconds": seconds,
        "--timeout-ms": int(10_000 * PATIENCE),
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    done = subprocess.run([str(program), "roundtrip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return Trips(result["count"], result["lost"], result["p50_us"], result["p99_us"])


class Chaos:
    """Does harm from a thread of its own, at random, while it is let."""

    def __init__(self, started: Broker, seed: int) -> None:
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


def settle(started: Broker, client: Client) -> None:
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


def held(started: Broker) -> dict[str, Any]:
    return {
        "descriptors": started.descriptors(),
        "threads": started.threads(),
        "rss": started.rss(),
    }


@pytest.mark.parametrize(
    ("slices", "seconds"),
    [
        (2, 5.0),
        pytest.param(20, 30.0, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_ordinary_clients_notice_nothing(
    broker: BrokerFactory, tmp_path: Path, slices: int, seconds: float
) -> None:
    program = build_load(tmp_path)
    plain = broker(plugin=None, log_types=LOG_TYPES)
    started = broker(
        "apps.chaos:application",
        options={"retries": 0, "watchdog": 0.2, "queue_size": 20_000, "client_id": "chaos-session"},
        log_types=LOG_TYPES,
        expect_traceback=True,
    )
    client = started.client()
    client.subscribe("chaos/done", qos=1)
    settle(started, client)
    chaos = Chaos(started, seed=slices)
    ratios: list[float] = []
    before: dict[str, Any] = {}
    try:
        for number in range(slices):
            quiet_trips = measure(program, plain.port, seconds / 4)
            chaos.let(True)
            trips = measure(program, started.port, seconds)
            chaos.let(False)
            assert started.running
            ratios.append(trips.p99_us / quiet_trips.p99_us)
            print(
                f"{number + 1}/{slices}: p50 {trips.p50_us:.0f} us against {quiet_trips.p50_us:.0f}, "
                f"p99 {trips.p99_us:.0f} against {quiet_trips.p99_us:.0f}, {ratios[-1]:.2f} times; "
                f"{trips.count} messages, {trips.lost} lost, {started.rss() / 1e6:.0f} MB",
                flush=True,
            )
            assert trips.lost == 0
            if number == 0:
                settle(started, client)
                before = held(started)
    finally:
        chaos.end()
    settle(started, client)
    print(dict(chaos.done), f"median of the ratios of p99: {median(ratios):.2f}", before, held(started))

    def is_back() -> bool:
        now = held(started)
        return bool(
            now["descriptors"] <= before["descriptors"]
            and now["threads"] <= before["threads"]
            # A sanitizer keeps what is freed.
            and (SANITIZER or now["rss"] <= before["rss"] + 30_000_000)
        )

    wait_until(is_back, 30, "what it held before", lambda: f"{before}, now {held(started)}")
