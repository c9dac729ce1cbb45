"""Writes what docs/performance.md says of one Mosquitto, from a file with everything measured, and its picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import figures
import product
import report
from blocks import Block, with_block
from scenarios import SCENARIOS
from settings import ROOT, Failure

PAGE = ROOT / "docs" / "performance.md"
TITLES = {
    "compare": "Against clients and mqttasgi",
    "many": "Many consumers",
    "idle-traffic": "Traffic that no consumer wants",
    "wakeup": "Messages of an idle application",
    "retained": "Retained messages",
    "chaos": "Ordinary clients beside consumers that fail",
}


def require_committed() -> None:
    """Raise Failure where the figures would be those of no commit."""
    if product.git("rev-parse", "HEAD") is None:
        raise Failure("Nothing was measured: the page names a commit, and this checkout is no repository.")
    changed = product.changed()
    if changed:
        raise Failure(
            f"Nothing was measured: the page names a commit, and not committed are {', '.join(changed)}."
        )


def write(path: Path) -> None:
    """Write the page. Raises Failure where the file was not written by a run for it."""
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from error
    if "retained" not in result.get("scenarios", {}) or not result["commit"] or result["changed"]:
        raise Failure(
            f"{path} has not all that the page holds, or not from a commit: measure with --for-page."
        )
    version = result["machine"]["mosquitto"]
    block = Block(version, result["commit"], "")
    picture = PAGE.with_name(f"performance-{block.series}.svg")
    if path.with_suffix(".svg").is_file():
        shutil.copy(path.with_suffix(".svg"), picture)
    block = Block(version, result["commit"], _text(result, picture))
    PAGE.write_text(with_block(PAGE.read_text(), block))
    print(f"{PAGE} has the figures of Mosquitto {version} and commit {result['commit'][:12]}.")


def _text(result: dict[str, Any], picture: Path) -> str:
    machine, version = result["machine"], result["machine"]["mosquitto"]
    parts = [
        f"## Measured with Mosquitto {version}",
        f"Commit {result['commit'][:12]}, {machine['cpu']}, Linux {machine['kernel']}, {machine['python']}, "
        f"{_releases(result)}. Written by `tests/bench/run --for-page`: {report.times(result['settings']['rounds'])}, "
        "medians (least–most).",
        figures.table(result["scenarios"]),
    ]
    if picture.is_file():
        parts.append(f"![Distribution of round trips, and messages a second]({picture.name})")
    for name, title in TITLES.items():
        if name in result["scenarios"]:
            parts += [f"### {title}: {version}", SCENARIOS[name].tables(result["scenarios"][name])]
    return "\n\n".join(parts) + "\n"


def _releases(result: dict[str, Any]) -> str:
    """Return the releases that were measured, each package once."""
    wanted = ("django", "channels", "uvloop", "paho_mqtt", "gmqtt", "mqttasgi")
    found: dict[str, list[str]] = {name: [] for name in wanted}
    for packages in result["packages"].values():
        for name, release in packages.items():
            key = name.replace("-", "_")
            if key in found and release not in found[key]:
                found[key].append(release)
    return ", ".join(
        f"{name.replace('_', '-')} {' and '.join(releases)}" for name, releases in found.items() if releases
    )
