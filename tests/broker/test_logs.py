"""What an application's errors and lines become, in the broker's log and beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import BrokerFactory
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
