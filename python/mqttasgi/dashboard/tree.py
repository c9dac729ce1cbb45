"""Which part of the topics a page shows, as rows of a tree. Any thread: it works on copies.

Whoever may publish chooses the topics, so the work is bounded by their number, however deep they are: they
are sorted once, a branch is a part of the sorted list whose end is looked up, and no topic's levels are gone
through.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from .._mqtt import check_filter

#: Rows of a page.
ROWS = 200

#: Instead of the slashes while sorting: no topic has it (MQTT 5, 1.5.4), and nothing is before it, so the
#: topics of a branch are side by side; else "a-b" would be between "a" and "a/b". And what comes after them.
_SLASH, _AFTER = "\0", "\1"


class Row(NamedTuple):
    """A topic, or a branch of which only the number of topics is shown."""

    #: The whole topic, or that of the branch without a slash at its end.
    path: str
    #: What of it stands in this row: the levels that the row above does not have.
    label: str
    depth: int
    #: How many topics are below a branch that is shown closed; 0: this is a topic, or an open branch.
    below: int
    is_topic: bool


class Tree(NamedTuple):
    """Rows, and what is not among them."""

    rows: tuple[Row, ...]
    #: Topics that the filter lets through, and how many rows more these would be.
    matching: int
    more: int


def is_filter(text: str) -> bool:
    """Return whether this is to be taken as an MQTT filter rather than as a part of topics."""
    return any(level in ("+", "#") for level in text.split("/"))


def pattern_of(topic_filter: str) -> re.Pattern[str]:
    """Return what matches the same topics as a filter (MQTT 5, 4.7); ValueError: it is none."""
    check_filter(topic_filter)
    levels = topic_filter.split("/")
    rest = ""
    if levels[-1] == "#":
        levels.pop()
        rest = "(/.*)?" if levels else ".*"
    wanted = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    # MQTT 5, 4.7.2: a wildcard in the first place is not for the broker's own topics.
    own = r"(?!\$)" if topic_filter[0] in "+#" else ""
    return re.compile(f"{own}{wanted}{rest}", re.DOTALL)


def arrange(names: Iterable[str], wanted: str, most: int = ROWS) -> Tree:
    """Return the rows for a filter, or for all topics.

    As many levels are open as there is room for; a branch that is closed says how many topics it has. Of one
    level that is too large by itself, the first ones are shown.
    """
    if not wanted:
        matching = list(names)
    elif is_filter(wanted):
        whole = pattern_of(wanted).fullmatch
        matching = [name for name in names if whole(name)]
    else:
        needle = wanted.lower()
        matching = [name for name in names if needle in name.lower()]
    root = _Branch(sorted(name.replace("/", _SLASH) for name in matching))
    rows = root.open(len(matching))
    level = root.branches
    while level and rows < most:
        # The smallest first: that shows the most, and all of a level where there is room.
        for branch in sorted(level, key=len):
            # One that does not fit now is not tried again: there will never be more room.
            rows += branch.open(most - rows)
        level = [below for branch in level for below in branch.branches]
    shown = root.rows(most)
    return Tree(tuple(shown), len(matching), max(0, rows - len(shown)))


class _Branch:
    """The topics that begin alike, and perhaps their branches."""

    def __init__(self, keys: list[str], low: int = 0, high: int = -1, begin: int = 0, depth: int = 0) -> None:
        """Take all topics as they are sorted, which of them these are, and where the own levels begin."""
        self._keys, self._low = keys, low
        self._high = len(keys) if high < 0 else high
        self._begin, self._depth = begin, depth
        #: Where the path ends that all have: also that of an only branch below, one row instead of two.
        self._end = _common(keys[low], keys[self._high - 1], begin) if depth else 0
        self.branches: list[_Branch] = []

    def __len__(self) -> int:
        """Return how many topics these are."""
        return self._high - self._low

    def open(self, room: int) -> int:
        """Find the branches of the next level if there is room; return how many rows they are."""
        if len(self) < 2 and self._depth:
            return 0  # nothing but the topic
        begin = self._end + 1 if self._depth else 0
        low = self._low + self._is_topic()
        ends: list[int] = []
        while low < self._high:
            if len(ends) >= room:
                return 0
            slash = self._keys[low].find(_SLASH, begin)
            path = self._keys[low] if slash < 0 else self._keys[low][:slash]
            low = bisect_left(self._keys, path + _AFTER, low, self._high)
            ends.append(low)
        # Of the first level there may be more than can be shown.
        shown = ends[:ROWS]
        self.branches = [
            _Branch(self._keys, low, high, begin, self._depth + 1)
            for low, high in zip([self._low + self._is_topic(), *shown], shown)
        ]
        return len(ends)

    def _is_topic(self) -> bool:
        """Whether there is a topic of just this name: it is the first then."""
        return bool(self._depth) and len(self._keys[self._low]) == self._end

    def rows(self, most: int) -> list[Row]:
        """Return the rows of all that is open, at most so many."""
        rows: list[Row] = []
        for branch in self.branches:
            if len(rows) >= most:
                break
            rows.append(branch.row())
            rows += branch.rows(most - len(rows))
        return rows

    def row(self) -> Row:
        """Return the row of this branch itself."""
        path = self._keys[self._low][: self._end].replace(_SLASH, "/")
        is_topic = self._is_topic()
        below = 0 if self.branches else len(self) - is_topic
        return Row(path, path[self._begin :], self._depth - 1, below, is_topic)


def _common(first: str, last: str, begin: int) -> int:
    """Return where the levels end that the first and last topic of a branch have in common, so all have."""
    low, high = begin, min(len(first), len(last))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == last[low:middle]:
            low = middle
        else:
            high = middle - 1
    if all(len(name) == low or name[low] == _SLASH for name in (first, last)):
        return low
    return first.rfind(_SLASH, begin, low)
