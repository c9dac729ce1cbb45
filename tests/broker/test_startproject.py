"""What `mqttasgi startproject` makes, as somebody goes on with it: migrate, its test, the broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.broker import finish_all
from support.command import Command, as_root, command_environment, run_command
from support.ports import free_port


@pytest.fixture
def house(tmp_path: Path) -> Path:
    done = run_command("startproject", "house", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "house"


def run(house: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=house,
        env=command_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_database_that_is_still_missing_is_named(house: Path) -> None:
    words = [*as_root(), "--check", "-H", "127.0.0.1", "-p", str(free_port())]
    done = run_command(*words, folder=house)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note    Database 'default' lacks 1 migration (house). Apply it: " in done.stdout
    assert f"{house}/manage.py migrate\n" in done.stdout
    run(house, "manage.py", "migrate")
    assert "note" not in run_command(*words, folder=house).stdout


def test_its_test_passes(house: Path) -> None:
    assert "1 passed" in run(house, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider")


@pytest.fixture
def started(house: Path, tmp_path: Path) -> Iterator[Command]:
    """Which application, its .env says."""
    run(house, "manage.py", "migrate")
    folder = tmp_path / "broker-0"
    folder.mkdir()
    made = Command(folder, None, python_path=None)
    made.project = house
    yield made.start()
    finish_all([made])


def test_it_runs_in_a_broker(house: Path, started: Command) -> None:
    assert "No changes detected" in run(house, "manage.py", "makemigrations", "--check", "--dry-run")
    run(house, "manage.py", "check", "--fail-level", "WARNING")
    client = started.client()
    client.subscribe("averages/#", qos=1)
    for payload, average in ((b"20", b"20.00"), (b"21", b"20.50")):
        client.publish("sensors/hall", payload, qos=1)
        assert client.wait_for("averages/hall").payload == average
