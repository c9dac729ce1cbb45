"""What an application's errors and lines become, in the broker's log and beside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.processes import wait_until

ERRORS = {
    "0/task": "in the task",
    "0/thread": "in the thread",
    "1/worker": "in the worker of 1",
    "0/master": "in the master of 0",
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_errors_reach_the_handlers_of_djangos_logging(
    broker: BrokerFactory, tmp_path: Path, loop: str
) -> None:
    """And the broker's log, once, although LOGGING turns off what it does not mention."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    file = tmp_path / "errors.log"
    file.touch()
    file.chmod(0o666)
    started = broker(
        "apps.logged:application",
        options={"loop": loop},
        environment={"TEST_LOG": str(file)},
        expect_traceback="RuntimeError: as told",
    )
    client = started.client()
    for topic, error in ERRORS.items():
        client.publish(f"fail/{topic}", qos=1)
        started.wait_for_log(f"RuntimeError: as told: {error}")
        wait_until(
            lambda error=error: f"as told: {error}\n" in file.read_text(),
            10,
            f"the error {error}",
            file.read_text,
        )
        assert started.log().count(f"RuntimeError: as told: {error}\n") == 1
    text = file.read_text()
    for logger, words in (
        ("asyncio", "Task exception was never retrieved"),
        ("mqttasgi.application", "Thread Thread-"),
        ("mqttasgi.consumer", "Consumer apps.logged.Fails (worker, app_id 1) ended with an error"),
        ("mqttasgi.consumer", "Consumer apps.logged:application (master, app_id 0) ended with an error"),
    ):
        assert text.count(f"ERROR {logger} {words}") == 1


def log_reader(broker: BrokerFactory, how: str) -> Broker:
    started = broker(
        "apps.log_reader:application",
        lines=["log_dest topic", "log_dest stderr", "log_type all"],
        environment={"TEST_HOW": how},
    )
    started.wait_for_log("Session with the listener")
    return started


def test_a_consumer_that_logs_what_it_reads_of_the_log(broker: BrokerFactory) -> None:
    """Its lines would come back to it; they are left out, and the log says so once."""
    started = log_reader(broker, "at once")
    client = started.client()
    client.publish("in/x", "a line of its own", qos=1)
    started.wait_for_log("apps: saw a line of its own")
    started.wait_for_log("Lines of apps.log_reader:application .* left out of this log from now on")
    client.subscribe("out", qos=1)
    for number in range(20):
        client.publish("in/echo", str(number), qos=1)
        assert client.wait_for("out", timeout=10).payload == str(number).encode()
    assert started.log().count("left out of this log") == 1
    assert "saw mqttasgi:" not in started.log()


def test_a_log_that_feeds_itself_by_a_detour(broker: BrokerFactory) -> None:
    """It is bounded, with one line a second that says so, and nobody else waits."""
    started = log_reader(broker, "later")
    client = started.client()
    client.subscribe("out", qos=1)
    began = time.monotonic()
    for number in range(200):
        client.publish("in/echo", str(number), qos=1)
        assert client.wait_for("out", timeout=10).payload == str(number).encode()
    started.wait_for_log(
        "Lines of apps.log_reader:application .* left out of this log: [0-9]+. Each consumer may"
    )
    lines = started.log().count("\nmqttasgi: apps: saw")
    # Ten seconds' worth at once, and then 100 a second; it has run before the clock did.
    assert lines <= 1000 + 100 * (time.monotonic() - began + 30)
