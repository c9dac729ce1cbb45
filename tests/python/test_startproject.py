"""`mqttasgi startproject`: what it refuses, and whose files it makes. That the project runs is tested with a broker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mqttasgi.command import cli, startproject


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "startproject takes one name"),
        (["a", "b"], "startproject takes one name"),
        (
            ["my-site"],
            '"my-site" cannot be the name of a Python package; take letters, digits and _, such as my_site.',
        ),
        (["../house"], '"../house" cannot be the name of a Python package'),
        (["class"], '"class" cannot be the name of a Python package'),
        (["häuser"], '"häuser" cannot be the name of a Python package'),
        ([""], '"" cannot be the name of a Python package'),
        (["--fast"], '"--fast" cannot be the name of a Python package'),
        (["tests"], '"tests" is the name of another part of a project'),
        (["json"], '"json" is the name of a Python module that is installed'),
        (["sys"], '"sys" is the name of a Python module that is installed'),
        (["mqttasgi"], '"mqttasgi" is the name of a Python module that is installed'),
        (["full"], "full is there already and is not empty"),
        (["file"], "file is there already and is no folder"),
        (["nowhere"], "nowhere is there already and is no folder"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("not there")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["startproject", *words], project=str(tmp_path)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("mqttasgi: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "house").mkdir()
    assert cli.main(["startproject", "house"], project=str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/house is made" in said
    assert f"cd {tmp_path}/house\n" in said
    files = [path for path in (tmp_path / "house").rglob("*") if path.is_file()]
    assert not [path for path in files if "{{" in path.read_text() or path.name.endswith("-tpl")]
    # Each project has a key of its own, which others on this machine cannot read.
    assert (tmp_path / "house" / ".env").stat().st_mode & 0o007 == 0
    assert cli.main(["startproject", "other"], project=str(tmp_path)) == 0
    keys = {(tmp_path / name / ".env").read_text() for name in ("house", "other")}
    assert len(keys) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_the_broker_writes_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root's broker becomes another user."""
    monkeypatch.setattr(startproject, "_BROKER_USER", "nobody")
    assert cli.main(["startproject", "house"], project=str(tmp_path)) == 0
    owner = (tmp_path / "house" / "data").stat().st_uid
    assert owner == 65534
    assert (tmp_path / "house" / ".env").stat().st_gid == 65534
    assert (tmp_path / "house" / ".env").stat().st_uid == 0
    assert "runuser -u nobody -- " in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["the folder above", "the folder that is filled"])
def test_root_gives_nothing_away_where_others_can_move_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    """The broker's user could put a link in the place of what it is given."""
    monkeypatch.setattr(startproject, "_BROKER_USER", "nobody")
    monkeypatch.delenv("SUDO_UID", raising=False)
    (tmp_path / "theirs").mkdir()
    folder, name = tmp_path / "theirs", "house"
    os.chown(folder, 65534, 65534)
    if whose == "the folder that is filled":
        folder, name = tmp_path, "theirs"
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["startproject", name], project=str(folder)) == 2
    assert "root does not make a project in" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    # Who has become root with sudo may write to it anyway.
    monkeypatch.setenv("SUDO_UID", "65534")
    assert cli.main(["startproject", name], project=str(folder)) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_is_faster_in_a_folder_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in /tmp: who reads root's command line makes that folder first."""
    monkeypatch.setattr(startproject, "_BROKER_USER", "nobody")
    monkeypatch.delenv("SUDO_UID", raising=False)
    tmp_path.chmod(0o1777)
    look = startproject.is_roots

    def be_faster(place: Path) -> bool:
        good = look(place)
        if place == tmp_path:
            (tmp_path / "house").mkdir()
            os.chown(tmp_path / "house", 65534, 65534)
        return good

    monkeypatch.setattr(startproject, "is_roots", be_faster)
    assert cli.main(["startproject", "house"], project=str(tmp_path)) == 2
    assert "root does not make a project in" in capsys.readouterr().err
    assert os.listdir(tmp_path / "house") == []


def test_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["startproject", "--help"], project=str(tmp_path)) == 0
    assert "startproject NAME" in capsys.readouterr().out
