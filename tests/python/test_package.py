"""The Python package as pip builds it: what it says of itself, what is in it, what it leaves behind."""

from __future__ import annotations

import email
import email.message
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python"
LEFT_OUT = ("__pycache__", "*.pyc", ".mypy_cache", ".ruff_cache")


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Without the plugin, which takes a compiler and the rest of the checkout: tests/packages has that."""
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "python"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    before = files_below(source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*pip, "-w", str(folder), str(source)], check=True, env={**os.environ, "SKBUILD_WHEEL_CMAKE": "0"}
    )
    assert files_below(source) == before, "building leaves files behind"
    (made,) = folder.glob("*.whl")
    return zipfile.ZipFile(made)


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_everything_of_the_package_is_in_it(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.startswith("mqttasgi/")}
    there = {f"mqttasgi/{name}" for name in files_below(SOURCE / "mqttasgi")}
    assert packed == {
        name for name in there if not re.search(r"__pycache__|\.(mypy|ruff)_cache|\.pyc$", name)
    }


def test_what_it_says_of_itself(wheel: zipfile.ZipFile) -> None:
    said = metadata(wheel)
    assert said["Name"] == "mqttasgi-broker"
    assert (
        said["Version"]
        == re.search(r'__version__ = "(.*)"', (SOURCE / "mqttasgi/__init__.py").read_text())[1]
    )  # type: ignore[index]
    assert said["Requires-Python"] == ">=3.9"
    assert said["Description-Content-Type"] == "text/markdown"
    assert "MqttConsumer" in said.get_payload()
    assert said["License-Expression"] == "MIT"
    assert said.get_all("License-File") == ["LICENSE"]
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
    assert any("Framework :: Django" in name for name in said.get_all("Classifier") or [])
    assert any("sivulich/mqttasgi" in url for url in said.get_all("Project-URL") or [])


def test_the_licence_is_the_projects() -> None:
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
