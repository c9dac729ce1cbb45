"""Consumers that raise, block, flood and so on at random, while ordinary clients notice nothing."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.chaos import Chaos, settle
from support.load import build_load
from support.processes import PATIENCE, SANITIZER, wait_until

#: Without a line for each packet, which would be most of what is measured.
LOG_TYPES = ("error", "warning", "notice")


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
    settle(client)
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
                settle(client)
                before = held(started)
    finally:
        chaos.end()
    settle(client)
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
