"""Medians, ratios and tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

Round = Optional[dict[str, float]]  # None: this round failed
PERCENTILES = ("p50_us", "p99_us", "p999_us", "max_us")


def medians(rounds: Sequence[Round]) -> dict[str, float]:
    """Return the median of each figure over the rounds that have it."""
    measured = [figures for figures in rounds if figures is not None]
    keys = dict.fromkeys(key for figures in measured for key in figures)
    return {key: statistics.median(figures[key] for figures in measured if key in figures) for key in keys}


def ratios(rounds: Sequence[Round], reference: Sequence[Round], key: str) -> list[float]:
    """Return this contender's figure to the reference's, round by round: both were measured in the same few seconds."""
    return [
        ours[key] / theirs[key]
        for ours, theirs in zip(rounds, reference)
        if ours is not None and theirs is not None and theirs.get(key) and key in ours
    ]


def spread(values: Sequence[float]) -> str:
    """Return `median (least–most)`, which tells how far to trust it."""
    if not values:
        return "–"
    if len(values) == 1:
        return _short(values[0])
    return f"{_short(statistics.median(values))} ({_short(min(values))}–{_short(max(values))})"


def _short(value: float) -> str:
    """Return three digits of a ratio, and all before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else number(value)


def ranged(rounds: Sequence[Round], key: str, digits: int = 0) -> str:
    """Return `median (least–most)` of a figure, with thousands separated."""
    values = [figures[key] for figures in rounds if figures is not None and key in figures]
    if not values:
        return "–"
    middle = number(statistics.median(values), digits)
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})"


def times(rounds: int) -> str:
    """Return how many rounds, in words."""
    return "1 round" if rounds == 1 else f"{rounds} rounds"


def total(rounds: Sequence[Round], key: str) -> str:
    """Return the sum of a figure over the rounds that have it."""
    return number(sum(figures[key] for figures in rounds if figures is not None and key in figures))


def number(value: float | None, digits: int = 0) -> str:
    """Return it with thousands separated."""
    return "–" if value is None else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return it in Markdown, with the columns aligned: the first to the left, figures to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width) if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


def head(description: dict[str, Any]) -> str:
    """Return what machine and versions these are, a line for each."""
    lines = []
    for key, value in description.items():
        if isinstance(value, dict):
            versions = [f"{key} {name}: {_versions(packages)}" for name, packages in value.items()]
            lines.extend(versions)
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def failures(failed: dict[str, str]) -> str:
    """Return whoever failed, with the reason; nothing when nobody did."""
    return "\n\n".join(f"FAILED {name}: {reason}" for name, reason in failed.items())


def write(path: Path, result: dict[str, Any]) -> None:
    """Write everything that was measured, for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
