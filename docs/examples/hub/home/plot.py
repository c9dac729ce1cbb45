"""A plot as a path of SVG. Numbers go in, and nothing but digits comes out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

WIDTH, HEIGHT = 300, 80


def height(value: float, top: float) -> float:
    """Return how far below the upper edge a value between 0 and `top` is."""
    return HEIGHT - 1 - min(max(value / top, 0.0), 1.0) * (HEIGHT - 2)


def line(readings: Sequence[tuple[datetime, float]], top: float) -> str:
    """Return the line through readings, the oldest at the left edge, the newest at the right."""
    if not readings:
        return ""
    start, end = readings[0][0], readings[-1][0]
    seconds = (end - start).total_seconds() or 1.0
    return "M" + "L".join(
        f"{(at - start).total_seconds() / seconds * WIDTH:.1f} {height(value, top):.1f}"
        for at, value in readings
    )
