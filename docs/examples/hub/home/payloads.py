"""What sensors send, turned into values. Anyone can publish anything: both return None for that."""

from __future__ import annotations

import math


def text(payload: bytes) -> str | None:
    """Return the payload as text without surrounding white space, None where it is not UTF-8."""
    try:
        return payload.decode().strip()
    except UnicodeDecodeError:
        return None


def number(payload: bytes) -> float | None:
    """Return the payload as a finite number, None where it is none (`nan` and `inf` are none)."""
    try:
        value = float(payload)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
