"""How long to wait before something that fails is tried again."""

from __future__ import annotations


def pause(failures: int, first: float, most: float) -> float:
    """Return the seconds after so many failures in a row: `first`, doubled with each, up to `most`."""
    return min(most, first * float(2 ** min(failures - 1, 30)))
