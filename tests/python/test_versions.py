"""Which versions are at work, and the line about what runs."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

import mqttasgi
from mqttasgi import _versions
from mqttasgi.command import launch
from mqttasgi.runtime import summary


@dataclass
class Running:
    name: str
    instance_type: str = "worker"
    subscriptions: dict[str, int] = field(default_factory=dict)


OURS = "mqttasgi-broker"


def install(folder: Path, name: str, version: str, *files: str) -> None:
    """Writes down in a folder that a distribution is there, with these files of its module mqttasgi."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (information / "RECORD").write_text("".join(f"mqttasgi/{file},,\n" for file in files))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where packages are looked for."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_a_plugin_of_the_same_version() -> None:
    assert _versions.difference(mqttasgi.__version__) is None


def test_a_plugin_of_another_version() -> None:
    complaint = _versions.difference("0.0.1", "/usr/lib/mqttasgi_plugin.so")
    assert complaint is not None
    assert complaint.startswith(
        "The plugin /usr/lib/mqttasgi_plugin.so is version 0.0.1, and the Python package"
    )
    assert f"is version {mqttasgi.__version__}" in complaint


def test_no_other_package(site: Path) -> None:
    assert _versions.stranger() is None
    install(site, OURS, mqttasgi.__version__, "_types.py")
    assert _versions.stranger() is None


def test_another_program_of_this_name(site: Path) -> None:
    install(site, "mqttasgi", "2.0.0", "server.py")
    complaint = _versions.stranger()
    assert complaint is not None
    assert complaint.startswith(f"{site} has mqttasgi 2.0.0, another program of this name")
    assert "pip uninstall mqttasgi" in complaint


def test_this_package_in_another_version(site: Path) -> None:
    install(site, OURS, "0.0.1", "_types.py")
    complaint = _versions.stranger()
    assert complaint is not None
    assert complaint.startswith(
        f"{site} has mqttasgi-broker 0.0.1, and the plugin brings {mqttasgi.__version__}"
    )


@pytest.mark.parametrize(
    "version, file, what",
    [
        ("2.0.0", "server.py", "the program of that name on PyPI"),
        ("0.0.1", "_types.py", "an earlier version"),
    ],
)
def test_two_distributions_with_one_module(
    site: Path, monkeypatch: pytest.MonkeyPatch, version: str, file: str, what: str
) -> None:
    """Of which one has overwritten the other's files; that this package's own is there says nothing."""
    monkeypatch.setattr(_versions, "__file__", str(site / "mqttasgi" / "_versions.py"))
    install(site, OURS, "0.0.2", "_types.py")
    assert _versions.clash() is None
    install(site, "mqttasgi", version, file)
    complaint = _versions.clash()
    assert complaint is not None
    assert complaint.startswith(f"{site} has mqttasgi {version} and mqttasgi-broker 0.0.2, ")
    assert f"the first is {what}" in complaint
    assert "pip uninstall mqttasgi mqttasgi-broker" in complaint


def test_packages_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(_versions.metadata, "distributions", fails)
    assert _versions.stranger() is None
    assert _versions.clash() is None


def test_what_runs() -> None:
    text = summary.text([Running("apps.echo:application", "master", {"in/#": 1})])
    assert text.startswith(f"1 consumer, 1 filter. mqttasgi {mqttasgi.__version__}, Python ")
    assert platform.python_version() in text and text.endswith(".")


def test_who_runs() -> None:
    workers = [Running("apps.Room", "worker", {"room/#": 1, "all": 0})] * 3
    workers += [Running(f"apps.Other{number}", "worker", {f"{number}": 1}) for number in range(6)]
    text = summary.text([Running("apps:application", "master"), *workers])
    assert text.startswith(
        "10 consumers (the master, 3 apps.Room, 1 apps.Other0, 1 apps.Other1, 1 apps.Other2, 1 apps.Other3 and 2 "
        "more), 8 filters. "
    )


def test_a_name_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django", object())
    text = summary.text([Running("a:b", "master"), Running("\udcff")])
    assert "1 ?" in text and "Django" not in text


def test_the_command_beside_another_plugin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = launch.Plugin("/usr/lib/mqttasgi_plugin.so", "0.0.1", "3.9.2")
    monkeypatch.setattr(launch, "find_plugin", lambda: found)
    launch._warn_of_versions()
    said = capsys.readouterr().err
    assert said.startswith("mqttasgi: The plugin /usr/lib/mqttasgi_plugin.so is version 0.0.1")
    assert said.count("\n") == 1
    for version in (mqttasgi.__version__, None):
        found = launch.Plugin("/usr/lib/mqttasgi_plugin.so", version, None)
        launch._warn_of_versions()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_versions, "clash", lambda: "Two of one name.")
    launch._warn_of_versions()
    assert capsys.readouterr().err == "mqttasgi: Two of one name.\n"


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\tlibssl.so.3 => /lib/libssl.so.3 (0x0)\n\tlibpython3.11.so.1.0 => not found\n"
    monkeypatch.setattr(launch, "_run", lambda command: SimpleNamespace(stdout=said))
    plugin = launch.Plugin("/usr/lib/mqttasgi_plugin.so", None, None)
    with pytest.raises(launch.LaunchError) as raised:
        launch._check_libraries(plugin)
    assert str(raised.value) == (
        "/usr/lib/mqttasgi_plugin.so needs libpython3.11.so.1.0, which this machine has not: apt-get install "
        "libpython3.11"
    )
    said = said.replace("not found", "/lib/libpython3.11.so.1.0 (0x0)")
    launch._check_libraries(plugin)
