"""Which part of the topics a page shows, as rows of a tree. Any thread: it works on copies."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .._mqtt import check_filter

#: Rows of a page.
ROWS = 200


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
    root = _Branch("", "", 0, matching)
    root.open()
    rows = root.size()
    while rows < most:
        # The smallest first: that shows the most, and all of a level where there is room.
        closed = sorted(root.closed(), key=lambda branch: (branch.depth, len(branch.names)))
        opened = 0
        for branch in closed:
            branch.open()
            if rows + branch.size() > most:
                branch.close()
                continue
            rows += branch.size()
            opened += 1
        if not opened:
            break
    shown = root.rows(most)
    return Tree(tuple(shown), len(matching), max(0, rows - len(shown)))


class _Branch:
    """The topics that begin alike, and perhaps their branches."""

    def __init__(self, path: str, label: str, depth: int, names: Sequence[str]) -> None:
        self.path, self.label, self.depth = path, label, depth
        self.names = names
        self.branches: list[_Branch] = []
        self.is_open = False

    def open(self) -> None:
        """Find the branches of the next level."""
        at = len(self.path) + 1 if self.depth else 0
        found: dict[str, list[str]] = {}
        for name in self.names:
            if at and len(name) < at:
                continue  # the topic of this branch itself
            end = name.find("/", at)
            found.setdefault(name if end < 0 else name[:end], []).append(name)
        # Where there are more than can be shown, sorting all would be for nothing.
        self.branches = [
            _Branch(path, path[at:], self.depth + 1, found[path]).joined()
            for path in heapq.nsmallest(ROWS, found)
        ]
        self._unseen = len(found) - len(self.branches)
        self.is_open = True

    def close(self) -> None:
        """Forget the branches."""
        self.branches, self.is_open = [], False

    def joined(self) -> _Branch:
        """Return this, or the only branch that it would have: one row instead of two."""
        branch = self
        while not branch.is_topic() and not branch.is_leaf():
            at = len(branch.path) + 1
            end = branch.names[0].find("/", at)
            path = branch.names[0] if end < 0 else branch.names[0][:end]
            if not all(name == path or name.startswith(f"{path}/") for name in branch.names):
                break
            label = f"{branch.label}/{path[at:]}"
            branch = _Branch(path, label, branch.depth, branch.names)
        return branch

    def is_topic(self) -> bool:
        """Whether there is a topic of just this name."""
        return self.path in self.names if len(self.names) < 2 else self.path == min(self.names, key=len)

    def is_leaf(self) -> bool:
        """Whether there is nothing but that topic."""
        return len(self.names) == 1 and self.names[0] == self.path

    def closed(self) -> list[_Branch]:
        """Return all below that could be opened."""
        if not self.is_open:
            return [] if self.is_leaf() else [self]
        return [found for branch in self.branches for found in branch.closed()]

    def size(self) -> int:
        """Return how many rows the next level has."""
        return len(self.branches) + self._unseen

    def rows(self, most: int) -> list[Row]:
        """Return the rows of all that is open, at most so many."""
        rows: list[Row] = []
        for branch in self.branches:
            if len(rows) >= most:
                break
            below = 0 if branch.is_open or branch.is_leaf() else len(branch.names) - branch.is_topic()
            rows.append(Row(branch.path, branch.label, branch.depth - 1, below, branch.is_topic()))
            if branch.is_open:
                rows += branch.rows(most - len(rows))
        return rows
