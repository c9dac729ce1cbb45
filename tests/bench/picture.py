"""Draws the distribution of round trips and the throughput: `picture.py RESULT.json PICTURE.svg`, run with matplotlib.

The result is that of `compare`, or of a selection that has it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
# Text stays text: smaller, and readable at every size. The same result gives the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402

OCTAVE = 16  # buckets; as in samples.h
EMPHASIS = "plugin"
STYLES = ("-", "--")


def curve(histogram: list[list[int]]) -> tuple[list[float], list[float]]:
    """Return latencies in us, and how many percent of all answers had come by then."""
    total, so_far = sum(count for _, count in histogram), 0
    latencies, shares = [], []
    for bucket, count in histogram:
        so_far += count
        latencies.append(2 ** ((bucket + 1) / OCTAVE))
        shares.append(100 * so_far / total)
    return latencies, shares


def draw_latencies(
    axes: Any, level: str, histograms: dict[str, list[list[int]]], colours: dict[str, Any]
) -> None:
    """Draw one line for each contender."""
    for name, histogram in histograms.items():
        if histogram:
            width = 2.4 if name == EMPHASIS else 1.1
            axes.plot(*curve(histogram), color=colours[name], linewidth=width, label=name)
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_title(f"Round trips, {level}")
    axes.set_xlabel("microseconds")
    axes.set_ylabel("% of the answers have come")
    axes.grid(alpha=0.3)


def draw_throughput(axes: Any, rounds: dict[str, dict[str, Any]], colours: dict[str, Any]) -> None:
    """Draw a bar for each contender and QoS, with its spread."""
    names = list(next(iter(rounds.values())))
    height = 0.8 / len(rounds)
    for number, (level, contenders) in enumerate(rounds.items()):
        for row, name in enumerate(names):
            values = [each["answered_per_s"] for each in contenders[name] if each is not None]
            if not values:
                continue
            middle = statistics.median(values)
            spread = [[middle - min(values)], [max(values) - middle]]
            axes.barh(
                row + number * height,
                middle,
                height * 0.92,
                color=colours[name],
                alpha=1 - 0.4 * number,
                xerr=spread,
                error_kw={"linewidth": 0.8},
            )
            axes.text(axes.get_xlim()[0], row + number * height, f" {level}", va="center", fontsize=6.5)
    axes.set_yticks([row + height * (len(rounds) - 1) / 2 for row in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_title("Messages a second")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x", alpha=0.3)


def main() -> None:
    """Draw."""
    result = json.loads(Path(sys.argv[1]).read_text())
    compared = result.get("scenarios", {}).get("compare", result)
    rounds, histograms = compared["rounds"], compared["histograms"]
    names = list(next(iter(rounds.values())))
    palette = plt.get_cmap("tab10")
    colours = {name: palette(number % 10) for number, name in enumerate(names)}
    figure, axes = plt.subplots(1, len(histograms) + 1, figsize=(4.2 * (len(histograms) + 1), 4.2))
    for where, (level, each) in zip(axes, histograms.items()):
        draw_latencies(where, level, each, colours)
    draw_throughput(axes[-1], rounds, colours)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    commit = f", commit {result['commit'][:12]}" if result.get("commit") else ""
    figure.suptitle(f"Mosquitto {compared['machine']['mosquitto']}{commit}")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(sys.argv[2], metadata={"Date": None, "Creator": None})


main()
