"""The benchmark says what it needs before it measures anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "bench" / "run"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *words], capture_output=True, text=True, timeout=60)


def test_everything_that_is_missing_is_said_at_once() -> None:
    nowhere = [f"--{name}=/nowhere/{name}" for name in ("plugin", "against", "mosquitto", "python", "cc")]
    done = run("builds", *nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Nothing was measured:",
        "There is no program /nowhere/mosquitto: apt-get install mosquitto, or name it with --mosquitto.",
        "There is no Python /nowhere/python: name the plugin's with --python.",
        "There is no compiler /nowhere/cc: apt-get install gcc, or name it with --cc.",
        "There is no plugin /nowhere/plugin: build it (cmake --build build), or name it with --plugin.",
        "There is no plugin /nowhere/against: build it (cmake --build build), or name it with --against.",
    ]


def test_what_is_no_plugin(tmp_path: Path) -> None:
    other, plugin = tmp_path / "other.so", tmp_path / "mqttasgi_plugin.so"
    other.write_bytes(b"\x7fELF")
    plugin.write_bytes(b"\x7fELF @(#)mqttasgi_plugin 1.0 Python 2.7.18\0")
    done = run("builds", f"--plugin={plugin}", f"--against={other}", f"--python={sys.executable}")
    version = sys.version.split()[0]
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert said == [
        f"There is no package {tmp_path}/mqttasgi beside the plugin: build all of it (cmake --build build).",
        f"{plugin} was built with Python 2.7, and {sys.executable} is Python {version}: name the one it was built "
        "with (--python).",
        f"{other} is no plugin of this project: name the file mqttasgi_plugin.so with --against.",
    ]


def test_a_comparison_needs_two() -> None:
    done = run("builds", "--cc=/nowhere/cc")
    assert "builds compares two: name the plugin of the other build with --against." in done.stderr
