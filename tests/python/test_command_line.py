"""The command line and where `.env` is found, without a broker."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path

import pytest

from mqttasgi.command import cli, options
from mqttasgi.command.command_line import parser
from mqttasgi.command.options import find_dotenv, resolve
from mqttasgi.command.values import UsageError


def parsed(line: str) -> dict[str, object]:
    found = parser("mqttasgi").parse_args(line.split())
    return {name: value for name, value in vars(found).items() if value not in (None, [])}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--h broker --po 1884 --pas secret", {"host": "broker", "port": "1884", "password": "secret"}),
        ("--hos=broker", {"host": "broker"}),
        ("--usern ann --clean false", {"username": "ann", "cleansession": "false"}),
        ("--t websockets", {"transport": "websockets"}),
        # reload, version and check are ours; mqttasgi knows nothing of them
        ("--re 0 --verb 1 --ce pem", {"retries": "0", "verbosity": "1", "cert": "pem"}),
        ("--user house", {"user": "house"}),
        ("--check", {"action": "check"}),
        ("-o x=--po", {"plugin_options": ["x=--po"]}),
    ],
)
def test_mqttasgis_parameters_may_be_abbreviated(line: str, expected: dict[str, object]) -> None:
    """As its parser takes them, which knows these thirteen only."""
    assert parsed(line) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--use true", "--use may be --username or --use-ssl or --user; write it out"),
        ("--pers folder", "unknown argument --pers, did you mean --persistence?"),
    ],
)
def test_what_is_not_clear_is_said(line: str, sentence: str) -> None:
    with pytest.raises(UsageError) as failure:
        parsed(line)
    assert str(failure.value) == sentence


def test_mqttasgis_abbreviation_of_the_user_name_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, --user is --username."""
    found = parser("mqttasgi").parse_args(["--user", "ann", "--pass", "secret", "a:b"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="-U.*--user is who the broker becomes, not who logs in"):
        resolve(found, {}, tmp_path)
    found = parser("mqttasgi").parse_args(["--user", "ann", "a:b"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="The name that clients log in with is --username"):
        resolve(found, {}, tmp_path)


def test_mqttasgis_module_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts import its main(), and services start it with `python -m mqttasgi.cli`."""
    assert importlib.import_module("mqttasgi.cli").main is cli.main
    sys.modules.pop("mqttasgi.cli")
    monkeypatch.setattr(sys, "argv", ["cli.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("mqttasgi.cli", run_name="__main__")
    assert end.value.code == 0
    assert "APPLICATION" in capsys.readouterr().out


def test_dotenv_is_found_in_the_folders_above(tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "elsewhere" / "deep"
    code = site / "src" / "code"
    for folder in (code, other):
        folder.mkdir(parents=True)
    assert find_dotenv([code, other]) is None
    (site / ".env").touch()
    assert find_dotenv([code]) == site / ".env"
    assert find_dotenv([other, code]) == site / ".env"
    (other.parent / ".env").touch()
    assert find_dotenv([other, code]) == other.parent / ".env"
    # a folder that was named comes before one above
    (code / ".env").touch()
    assert find_dotenv([other, code]) == code / ".env"


def test_dotenv_above_must_not_be_anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like one that somebody has put into /tmp."""
    folder = tmp_path / "shared" / "project"
    folder.mkdir(parents=True)
    file = tmp_path / "shared" / ".env"
    file.touch()
    owners = {folder: 1000, file: 1001}
    monkeypatch.setattr(options, "_owner", owners.get)
    monkeypatch.setattr(os, "geteuid", lambda: 1002)
    assert find_dotenv([folder]) is None
    for trusted in (0, 1000, 1002):
        owners[file] = trusted
        assert find_dotenv([folder]) == file
