"""What is said about errors of Django's, and about databases at start."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured, SynchronousOnlyOperation
from django.db import OperationalError, ProgrammingError
from fake_bridge import FakeBridge

from mqttasgi.runtime import advice, logs

ENGINE = "django.db.backends.sqlite3"


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`DATABASES`, empty."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(advice, "_databases", lambda: found)
    return found


@pytest.fixture
def data(tmp_path: Path, databases: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an SQLite database, for a user to whom modes apply, which root is not."""
    folder = tmp_path / "my data"
    folder.mkdir()
    sqlite3.connect(folder / "db.sqlite3").close()
    (folder / "db.sqlite3").touch()
    databases["default"] = {"ENGINE": ENGINE, "NAME": folder / "db.sqlite3"}

    def access(path: Any, mode: int) -> bool:
        if not os.path.exists(path):
            return False
        allowed = stat.S_IMODE(os.stat(path).st_mode) >> 6 if Path(path).is_relative_to(tmp_path) else 7
        return allowed & mode == mode

    monkeypatch.setattr(advice.os, "access", access)
    monkeypatch.setattr(advice, "_user", lambda: "mosquitto")
    yield folder
    folder.chmod(0o700)


def chained(outer: BaseException, inner: BaseException) -> BaseException:
    try:
        try:
            raise inner
        except BaseException as error:
            raise outer from error
    except BaseException as error:
        return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SynchronousOnlyOperation("You cannot call this from an async context"), "The ORM was called from async code"),
        (AppRegistryNotReady("Apps aren't loaded yet."), "Models were imported before Django was set up"),
        (
            ImproperlyConfigured("Requested setting DATABASES, but settings are not configured. You must ..."),
            "asgi.py has to set DJANGO_SETTINGS_MODULE",
        ),
        (
            ImproperlyConfigured("The SECRET_KEY setting must not be empty."),
            "are wrong or not complete: The SECRET_KEY setting must not be empty.",
        ),
        (OperationalError("no such table: house_reading"), "Apply the migrations: "),
        (OperationalError("no such column: house_reading.at"), "Apply the migrations: "),
        (ProgrammingError('relation "house_reading" does not exist\nLINE 1: SELECT'), "Apply the migrations: "),
        (
            ProgrammingError('column "at" of relation "house_reading" does not exist\nLINE 1: INSERT'),
            "lacks a column",
        ),
        (ProgrammingError(1146, "Table 'shop.house_reading' doesn't exist"), "lacks a table"),
        (OperationalError(1054, "Unknown column 'house_reading.at' in 'field list'"), "lacks a column"),
        (
            OperationalError(
                'connection to server at "127.0.0.1", port 5432 failed: Connection refused\n\tIs the server running?'
            ),
            'cannot be used (connection to server at "127.0.0.1", port 5432 failed: Connection refused): is its server',
        ),
        (OperationalError('connection failed: FATAL:  database "shop" does not exist'), "HOST, PORT, NAME, USER and"),
        (OperationalError("connection timeout expired"), "is its server there"),
        (OperationalError("[Errno -2] Name or service not known"), "is its server there, and are HOST, PORT"),
        (OperationalError(2002, "Can't connect to MySQL server on '127.0.0.1' (115)"), "is its server there"),
        (OperationalError(1045, "Access denied for user 'ann'@'localhost'"), "USER and PASSWORD"),
        (sqlite3.OperationalError("no such table: x"), "Apply the migrations: "),
        (OperationalError("database is locked"), '"OPTIONS": {"timeout": 20}'),
        (OperationalError("attempt to write a readonly database"), "cannot write the SQLite database"),
        (OperationalError("unable to open database file"), "cannot write the SQLite database"),
        (chained(ValueError("a form"), OperationalError("no such table: x")), "Apply the migrations: "),
        (ValueError("no such table"), None),
        (OperationalError("server closed the connection unexpectedly"), None),
        (None, None),
    ],
)  # fmt: skip
def test_what_to_do_about_an_error(
    databases: dict[str, Any], error: BaseException | None, sentence: str | None
) -> None:
    said = advice.about(error)
    assert said is None if sentence is None else said is not None and sentence in said
    assert said is None or "\n" not in said


def test_an_error_that_cannot_be_looked_at() -> None:
    class Hostile(OperationalError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert advice.about(Hostile()) is None
    loop = ValueError("a")
    loop.__cause__ = loop
    assert advice.about(loop) is None


def test_the_sentence_comes_before_the_traceback(bridge: FakeBridge, databases: dict[str, Any]) -> None:
    for text in (
        "Consumer x ended with an error handling a message on topic 'a':",
        "Cannot import it: an error",
    ):
        bridge.lines.clear()
        logs.report(bridge, text, chained(OperationalError("no such table: x"), ValueError("below")))
        lines = [line for _, line in bridge.lines]
        first = lines.index("Traceback (most recent call last):")
        assert lines[0].startswith(text)
        assert "Apply the migrations: " in lines[first - 1]


def test_a_database_that_can_be_written_is_not_spoken_of(data: Path) -> None:
    assert advice.unwritable() == []
    (data / "db.sqlite3").unlink()
    assert advice.unwritable() == []


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("file", "sudo chown mosquitto '{data}/db.sqlite3'"),
        ("folder", "sudo chown mosquitto '{data}'"),
        ("both", "sudo chown mosquitto '{data}' '{data}/db.sqlite3'"),
        ("journal", "sudo chown mosquitto '{data}/db.sqlite3-wal'"),
    ],
)
def test_what_cannot_be_written_is_named(data: Path, what: str, command: str) -> None:
    if what in ("file", "both"):
        (data / "db.sqlite3").chmod(0o444)
    if what in ("folder", "both"):
        data.chmod(0o555)
    if what == "journal":
        (data / "db.sqlite3-wal").touch(0o444)
    (said,) = advice.unwritable()
    assert f"The SQLite database {data}/db.sqlite3 (DATABASES['default'])" in said
    assert "user mosquitto must be able to write both the file and its folder" in said
    assert said.endswith(command.format(data=data))
    # And the same when it has happened.
    assert advice.about(OperationalError("attempt to write a readonly database")) == said


def test_a_folder_that_is_not_there_or_closed(data: Path, tmp_path: Path, databases: dict[str, Any]) -> None:
    data.chmod(0o600)
    (said,) = advice.unwritable()
    assert f"user mosquitto may not enter the folder {data}" in said
    databases["default"]["NAME"] = str(tmp_path / "gone" / "db.sqlite3")
    (said,) = advice.unwritable()
    assert said.endswith(f"sudo install -d -o mosquitto {tmp_path}/gone")


@pytest.mark.parametrize(
    "database",
    [
        {"ENGINE": ENGINE, "NAME": ":memory:"},
        {"ENGINE": ENGINE, "NAME": "file:/nowhere/db.sqlite3?mode=ro"},
        {"ENGINE": "django.db.backends.postgresql", "NAME": "/nowhere/db.sqlite3"},
        {"ENGINE": ENGINE},
    ],
)
def test_what_is_no_file_is_passed_over(databases: dict[str, Any], database: dict[str, Any]) -> None:
    databases["default"] = database
    assert advice.unwritable() == []


def test_without_django() -> None:
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name == "django.conf"}
    try:
        assert advice._databases() == {}
        advice.look_at_databases(check=True)
    finally:
        sys.modules.update(before)


def migrations_said(caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING, "mqttasgi.databases"):
        advice.look_at_databases(check=True)
    return [record.getMessage() for record in caplog.records]


def test_migrations_that_are_missing_are_named(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "db.sqlite3").unlink()
    (data.parent / "manage.py").touch()
    monkeypatch.setattr(sys, "path", [str(data.parent), *sys.path])
    monkeypatch.setattr(advice.os, "geteuid", lambda: 110)
    (said,) = migrations_said(caplog)
    assert said.startswith("Database 'default' lacks ")
    assert "(auth, contenttypes)" in said
    assert said.endswith(f"sudo -u mosquitto {sys.executable} {data.parent}/manage.py migrate")
    assert not (data / "db.sqlite3").exists(), "looking makes no file"


def test_a_server_that_is_not_there_is_said_at_start(
    databases: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come up a moment later: nothing ends."""
    databases["default"] = {"ENGINE": "django.db.backends.postgresql", "NAME": "house"}

    def refused(alias: str) -> list[str]:
        raise OperationalError('connection to server at "127.0.0.1", port 5432 failed: Connection refused')

    monkeypatch.setattr(advice, "_unapplied", refused)
    (said,) = migrations_said(caplog)
    assert said.startswith("Database 'default': The database cannot be used (connection to server at ")


def test_a_database_in_memory_lacks_nothing(
    databases: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    databases["default"] = {"ENGINE": ENGINE, "NAME": ":memory:"}
    assert migrations_said(caplog) == []


@pytest.mark.django_db(transaction=True)
def test_the_tests_own_database_is_complete() -> None:
    assert Group.objects.count() == 0
    assert advice._unapplied("default") == []
