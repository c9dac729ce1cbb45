"""How values are said, in a terminal and on a page."""

from __future__ import annotations


def duration(seconds: float, parts: int = 2) -> str:
    """Return a length of time in its largest units."""
    left = max(0, int(seconds))
    said: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size or said:
            said.append(f"{left // size} {unit}")
        left %= size
    return " ".join(said[:parts]) or "0 s"
