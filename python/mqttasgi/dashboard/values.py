"""How values are shown: payloads, times, sizes, rates. Text only; the templates escape it."""

from __future__ import annotations

import datetime
import json
from typing import NamedTuple, Optional

from django.utils import timezone

from .._words import duration as duration
from ..dead import as_text, hexadecimal, printable

#: Characters of a payload in a list, and of a topic or an id anywhere.
SHORT, LONG = 80, 300
#: JSON that is nested deeper, or gets larger than this by being indented, is shown as it came.
_MOST_LEVELS, _MOST_PRETTY = 300, 65_536


class Shown(NamedTuple):
    """A payload as somebody can read it."""

    #: "JSON", "text", "binary" or "empty".
    kind: str
    text: str


def shown(payload: bytes, size: int) -> Shown:
    """Return a payload, or the beginning of one that has `size` bytes, in full."""
    if not size:
        return Shown("empty", "")
    text = as_text(payload, len(payload) < size)
    if text is None:
        return Shown("binary", hexadecimal(payload))
    pretty = _pretty(payload) if len(payload) == size else None
    return Shown("text", text) if pretty is None else Shown("JSON", pretty)


def _pretty(payload: bytes) -> Optional[str]:
    """Return an object or an array of JSON indented; None: it is none, or one that nobody would read."""
    if payload.lstrip()[:1] not in (b"{", b"[") or payload.count(b"[") + payload.count(b"{") > _MOST_LEVELS:
        return None
    try:
        pretty = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return printable(pretty, keep="\n") if len(pretty) <= _MOST_PRETTY else None


def short(payload: bytes, size: int) -> str:
    """Return the beginning of a payload in one line."""
    if not size:
        return "(empty)"
    head = payload[: 4 * SHORT]
    text = as_text(head, len(head) < size)
    line = head[: SHORT // 3].hex(" ") if text is None else " ".join(text.split())
    return cut(line, SHORT) if len(line) > SHORT or len(head) == size else f"{line}…"


def cut(text: str, most: int = LONG) -> str:
    """Return at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def ends(text: str, most: int = 8000) -> str:
    """Return beginning and end of what is longer, as a traceback may be."""
    if len(text) <= most:
        return text
    return f"{text[: most // 4]}\n…\n{text[-(most - most // 4) :]}"


def name(text: str, most: int = LONG) -> str:
    """Return a topic, an id or the like in one line, without what would change how the rest is read."""
    return (
        cut(printable(text[:most]), most) if len(text) <= most else cut(f"{printable(text[:most])}……", most)
    )


def number_of(payload: bytes) -> Optional[float]:
    """Return the number that a payload is; None: it is none."""
    if not 0 < len(payload) <= 32 or b"_" in payload:
        return None
    try:
        number = float(payload)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None  # neither of NaN and infinity is


# ---- times ----


def age(seconds: float) -> str:
    """Return how long ago something was, coarsely, so that a page need not change all the time."""
    if seconds < 10:
        return "now"
    if seconds < 60:
        return f"{int(seconds / 10) * 10} s"
    return duration(seconds, parts=1)


def moment(seconds: float) -> str:
    """Return a time of the clock, with the day where it is another than today."""
    if seconds <= 0:
        return "-"
    when = timezone.localtime(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc))
    return str(when.strftime("%H:%M:%S" if when.date() == timezone.localdate() else "%Y-%m-%d %H:%M:%S"))


# ---- numbers ----


def rate(per_second: float) -> str:
    """Return how often something comes."""
    if per_second >= 10:
        return f"{per_second:,.0f}/s"
    if per_second >= 0.1:
        return f"{per_second:.1f}/s"
    if per_second * 60 >= 0.1:
        return f"{per_second * 60:.1f}/min"
    return "-"


def size(number: float) -> str:
    """Return a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def seconds_of(microseconds: float) -> str:
    """Return a short time."""
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1_000_000:.1f} s"


def count(number: float) -> str:
    """Return a number of things."""
    return f"{number:,.0f}" if number == int(number) or number >= 100 else f"{number:,.1f}"


def things(number: int, what: str) -> str:
    """Return how many there are of what."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
