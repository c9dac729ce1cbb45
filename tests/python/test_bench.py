"""The benchmark says what it needs before it measures anything, and makes tables of what it has measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    assert (
        "builds compares two: name the plugin of the other build with --against, or what it lacks"
        in done.stderr
    )


def test_help_names_every_measurement() -> None:
    done = run("--help")
    for name in (
        "overview",
        "page",
        "compare",
        "many",
        "idle-traffic",
        "wakeup",
        "retained",
        "chaos",
        "session",
        "builds",
    ):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("many", "--for-page"), "--for-page measures all that the page holds, not many"),
        (("--for-page", "--plugin=x.so"), "--for-page measures the plugin of this checkout"),
        (("--for-page", "--plugin-opt=spin=0"), "--for-page measures the plugin of this checkout"),
        (("--suite=forky", "--plugin=x.so"), "name files of this machine: not with --suite"),
        (("--suite=../forky",), "../forky is not the name of a release"),
        (("--contenders=plugin,nobody",), "there is no nobody; there are floor, "),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def echoed(p50: float, answered: float, cpu: float) -> dict[str, float]:
    return {"p50_us": p50, "answered_per_s": answered, "cpu_us_per_message": cpu}


RESULTS: dict[str, Any] = {
    "compare": {
        "rounds": {
            "QoS 0": {
                "libmosquitto": [echoed(100, 1000, 10), echoed(200, 2000, 20), None],
                "plugin": [echoed(70, 900, 11), echoed(160, 2200, 18), echoed(1, 1, 1)],
                "mqttasgi@1.2.6": [echoed(1, 1, 1)] * 3,
                "mqttasgi@2.0.0": [echoed(7000, 1, 1), None, None],
            },
        },
    },
    "wakeup": {"settings": {"limit_us": 10_000}, "contenders": {"plugin": {"above_limit": 1234}}},
}


def test_what_it_comes_to() -> None:
    code = "import sys, json, figures; print(figures.table(json.load(sys.stdin)))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(RUN.parent)!r}); {code}"]
    done = subprocess.run(command, input=json.dumps(RESULTS), capture_output=True, text=True)
    assert done.stderr == ""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert rows[0] == ["figure", "median (least–most)", "wanted", "goal", "met"]
    table = {row[0]: row[1:] for row in rows[2:]}
    assert table["round trip p50 / that of the C client, QoS 0"] == ["0.75 (0.7–0.8)", "≤ 1", "≤ 0.7", "yes"]
    assert table["messages a second / those of the C client, QoS 0"] == ["1 (0.9–1.1)", "≥ 1", "≥ 1.5", "yes"]
    assert table["round trip p50 of mqttasgi's newest release / ours, QoS 0"] == [
        "100",
        "≥ 80",
        "≥ 100",
        "goal",
    ]
    assert table["publishes of an idle application later than 10 ms"] == ["1,234", "≤ 0", "≤ 0", "no"]
    # Not measured, all of it or in part.
    assert table["round trip p50 / that of the C client, QoS 1"] == ["–", "≤ 1", "≤ 0.7", "–"]
    assert table["round trip p50 with 10,000 workers / with ten"] == ["–", "≤ 1.2", "≤ 1.1", "–"]
