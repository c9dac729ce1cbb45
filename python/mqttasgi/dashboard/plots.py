"""Plots and sparklines as paths of SVG. Numbers go in, and nothing but digits comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

#: The size of a plot and of a sparkline, in units of their own.
WIDTH, HEIGHT = 300, 80
SPARK_WIDTH, SPARK_HEIGHT = 120, 24


class Points(NamedTuple):
    """A path, and what bounds it."""

    path: str
    low: float
    high: float


def over_time(
    points: Sequence[tuple[float, Optional[float]]], start: float, end: float, top: float
) -> Points:
    """Return a line through (time, value), from 0 to `top`; where a value is None, there is a gap."""
    values = [value for _, value in points if value is not None]
    scale = (HEIGHT - 2) / (top or 1.0)
    placed = (
        ((moment - start) / (end - start) * WIDTH, None if value is None else HEIGHT - 1 - value * scale)
        for moment, value in points
        if moment >= start
    )
    return Points(_path(placed), min(values, default=0.0), max(values, default=0.0))


def spark(values: Sequence[float]) -> Points:
    """Return a line through values at equal distances, between the lowest and the highest."""
    if not values:
        return Points("", 0.0, 0.0)
    low, high = min(values), max(values)
    step = SPARK_WIDTH / max(1, len(values) - 1)
    extent = (high - low) or 1.0
    middle = 0.5 if high == low else 0.0
    placed = (
        (at * step, SPARK_HEIGHT - 1 - ((value - low) / extent + middle) * (SPARK_HEIGHT - 2))
        for at, value in enumerate(values)
    )
    return Points(_path(placed), low, high)


def _path(points: Iterable[tuple[float, Optional[float]]]) -> str:
    drawn: list[str] = []
    pen = "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        # A point that is alone is a line as well, one that its round ends make seen.
        drawn.append(f"{pen}{x:.1f} {y:.1f}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return "".join(drawn)
