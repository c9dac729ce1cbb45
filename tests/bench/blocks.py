"""The parts of docs/performance.md that `tests/bench/run --for-page` writes: one for each Mosquitto.

Each stands between two comments. The first says which Mosquitto, which commit of this project was measured, and a
digest of what stands between, so that the figures can't be from another build, nor changed by hand. Imports nothing of
the benchmark: a test reads it too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_BLOCK = re.compile(
    r"<!-- figures: Mosquitto (?P<version>[\d.]+), commit (?P<commit>[0-9a-f]+), digest (?P<digest>[0-9a-f]+)\."
    r"[^\n]*-->\n(?P<text>.*?)<!-- end of figures -->\n",
    re.DOTALL,
)


BEHIND = "## How it is measured"  # comes behind them


@dataclass(frozen=True)
class Block:
    """What is said of one Mosquitto. text: Markdown, ends with a newline."""

    version: str
    commit: str
    text: str
    digest: str = ""  # as the page has it

    @property
    def series(self) -> str:
        """Return `2.0` for 2.0.11: there is one block for each."""
        return ".".join(self.version.split(".")[:2])

    def digested(self) -> str:
        """Return the digest that this text has."""
        return hashlib.sha256(f"{self.version} {self.commit}\n{self.text}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """Return the block as the page has it."""
        begin = f"figures: Mosquitto {self.version}, commit {self.commit}, digest {self.digested()}."
        return (
            f"<!-- {begin} Written by tests/bench/run, not by hand. -->\n{self.text}<!-- end of figures -->\n"
        )


def blocks(page: str) -> list[Block]:
    """Return those of a page."""
    return [
        Block(found["version"], found["commit"], found["text"], found["digest"])
        for found in _BLOCK.finditer(page)
    ]


def with_block(page: str, block: Block) -> str:
    """Return the page with this block: in the place of that of the same series, or behind the others."""
    found = list(_BLOCK.finditer(page))
    for each in found:
        if Block(each["version"], "", "").series == block.series:
            return page[: each.start()] + str(block) + page[each.end() :]
    first = page.find(f"{BEHIND}\n")
    place = found[-1].end() if found else first if first >= 0 else len(page)
    rest = page[place:].lstrip("\n")
    return "\n".join([page[:place].rstrip("\n") + "\n", str(block), *([rest] if rest else [])])
