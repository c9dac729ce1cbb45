"""Many messages while consumers come, go and change their filters: none is lost, doubled or out of order, and what the
broker's process holds afterwards is what it held before."""

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
from support.client import Client
from support.load import build_load
from support.processes import PATIENCE, SANITIZER

PUBLISHERS = 4
WINDOW = 200
SAMPLES = 50
# Ledgers and the master hear all that is said.
LISTENERS = 3


@dataclass
class Sample:
    """What the broker's process held after so many messages."""

    rss: int
    descriptors: int
    threads: int
    tasks: int
    blocks: int


def run_load(program: Path, port: int, count: int) -> subprocess.Popen[str]:
    """Start the publishers."""
    timeout_ms = int(15_000 * PATIENCE)
    arguments: dict[str, object] = {
        "--port": port,
        "--count": count,
        "--publishers": PUBLISHERS,
        "--window": WINDOW,
        "--size": 65_536,
        "--topic": "soak/in",
        "--answer": "soak/out",
        "--timeout-ms": timeout_ms,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return subprocess.Popen(
        [str(program), "soak", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def watch(started: Broker, client: Client, samples: int) -> list[Sample]:
    """Look at the process each time the application says that it has come further."""
    found = []
    for _ in range(samples):
        progress = json.loads(client.wait_for("soak/progress", timeout=30).payload)
        assert progress["complaints"] == []
        found.append(
            Sample(
                started.rss(),
                started.descriptors(),
                started.threads(),
                progress["tasks"],
                progress["blocks"],
            )
        )
    return found


def middle(samples: list[Sample], what: str) -> float:
    """The median of one figure: bursts of messages under way are not growth."""
    return median(getattr(sample, what) for sample in samples)


def check_report(report: dict[str, Any], count: int) -> None:
    """Everything that was said has been handled by everybody who should."""
    assert report["complaints"] == []
    assert report["in handled"] == report["answered"] == count
    assert report["talk handled"] == LISTENERS * report["talk published"] > 0
    assert report["visitors"] == 0
    # Only the publishers' streams are left, no visitor's.
    assert report["streams"] == PUBLISHERS
    # The churn was what it should be.
    assert report["spawned"] > count / 200
    assert report["unsubscribed"] > count / 20
    assert report["visitors handled"] > count / 10


@pytest.mark.parametrize(
    "count",
    [
        50_000,
        pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_every_message_is_handled_once_and_in_order(
    broker: BrokerFactory, tmp_path: Path, count: int
) -> None:
    program = build_load(tmp_path)
    environment = {"TEST_PUBLISHERS": str(PUBLISHERS), "TEST_PROGRESS": str(count // SAMPLES)}
    started = broker("apps.soak:application", environment=environment)
    client = started.client()
    for topic in ("soak/ready", "soak/progress", "soak/report"):
        client.subscribe(topic, qos=1)
    client.wait_for("soak/ready")

    with run_load(program, started.port, count) as load:
        try:
            samples = watch(started, client, SAMPLES)
            output, _ = load.communicate(timeout=30 * PATIENCE)
        finally:
            load.kill()
    assert load.returncode == 0, output
    result = json.loads(output)
    client.publish("soak/finish", qos=1)
    report = json.loads(client.wait_for("soak/report", timeout=30).payload)
    print(result, report, *samples, sep="\n")

    assert result["sent"] == result["answered"] == count
    assert result["duplicated"] == result["reordered"] == result["foreign"] == 0
    check_report(report, count)

    early, late = samples[SAMPLES // 5 : SAMPLES * 3 // 10], samples[-SAMPLES // 10 :]
    assert middle(late, "descriptors") == middle(early, "descriptors"), started.descriptor_targets()
    assert middle(late, "threads") == middle(early, "threads")
    # A sanitizer keeps what was freed, to recognise it.
    if not SANITIZER:
        assert middle(late, "rss") - middle(early, "rss") < 2_000_000
        assert middle(late, "blocks") - middle(early, "blocks") < 5_000
