"""The pages: what each shows, as blocks of parts. A page is somebody's, with what that one has asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .. import _inside
from .._state import ConsumerView, LogLine
from ..dead import error_line, printable
from . import values
from .access import Rights
from .observer import STATE, Observer
from .parts import Block, Cell, Part, Piece

#: Characters of what somebody looks for.
MOST_WANTED = 1000
#: Lines of the log, and of a traceback, in a page.
LINES = 1000


class Page:
    """One page in one browser. Loop thread only."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: Names of the observer's sources.
    sources: tuple[str, ...]
    #: What the page's own field is to be called; empty: there is none.
    search: ClassVar[str] = ""

    def __init__(self, observer: Observer, rights: Rights, asked: Mapping[str, str]) -> None:
        """Take whose it is, and what the address or the browser asks for."""
        self.observer = observer
        self.rights = rights
        self.wanted = ""
        self.ask(asked)

    def ask(self, asked: Mapping[str, str]) -> None:
        """Take what the browser asks for now; names that the page does not know mean nothing."""
        if "filter" in asked:
            self.wanted = asked["filter"][:MOST_WANTED].strip()

    async def blocks(self) -> list[Block]:
        """Return what is in the page now."""
        raise NotImplementedError

    def tail(self) -> str:
        """Return what is added to what the browser has, as HTML for htmx."""
        return ""


class Consumers(Page):
    """Which consumers there are, and how they do."""

    name, title = "consumers", "Consumers"
    sources = (STATE,)
    search = "Name contains"

    async def blocks(self) -> list[Block]:
        """Return a list of all."""
        needle = self.wanted.lower()
        every = _inside.consumers()
        # Those that need somebody come first.
        order = {"failed": 0, "restarting": 1, "starting": 2}
        found = sorted(
            (view for view in every if needle in f"{view.name} {view.app_id}".lower()),
            key=lambda view: order.get(view.state, 3),
        )
        shown = [self._entry(view) for view in found[:200]]
        parts: list[Part] = [part for entry in shown for part in entry.values() if isinstance(part, Part)]
        total = Cell("consumers-total", self._total(len(found), every))
        key = tuple(
            (entry["handle"], entry["name"], entry["can_restart"], entry["is_bad"]) for entry in shown
        )
        return [
            Block(
                "consumers",
                (key, max(0, len(found) - len(shown))),
                "consumers",
                [total, *parts],
                consumers=shown,
                more=max(0, len(found) - len(shown)),
                total=total,
                is_filtered=bool(needle),
            )
        ]

    def _total(self, found: int, every: list[ConsumerView]) -> str:
        bad = sum(view.state in ("failed", "restarting") for view in every)
        text = values.things(len(every), "consumer")
        if self.wanted:
            text = f"{values.count(found)} of {text}"
        return f"{text}, {bad} not well" if bad else text

    def _entry(self, view: ConsumerView) -> dict[str, object]:
        """Return what the template needs of one."""
        at = f"consumer-{view.handle}"
        name = values.name(f"{view.name} {view.app_id}".strip())
        return {
            "handle": view.handle,
            "name": name,
            "is_bad": view.state in ("failed", "restarting"),
            "can_restart": self.rights.manage and view.state in ("running", "restarting", "failed"),
            "state": Cell(f"{at}-state", view.state, f"state state-{view.state}"),
            "since": Cell(f"{at}-since", values.moment(view.since)),
            "restarts": Cell(f"{at}-restarts", values.count(view.restarts)),
            "handled": Cell(f"{at}-handled", values.count(view.handled) if view.handled >= 0 else "-"),
            "waiting": Cell(f"{at}-waiting", values.count(view.waiting)),
            "error": Piece(
                f"{at}-error",
                (view.error_time, len(view.error)),
                "error",
                # As functions, because it may be long: called when it is put in.
                text=lambda: printable(values.ends(view.error), keep="\n"),
                line=lambda: values.name(error_line(view.error)),
                when=values.moment(view.error_time),
                name=name,
                is_open=view.state in ("failed", "restarting"),
            ),
        }


class Log(Page):
    """The last lines of the log, and new ones as they come."""

    name, title = "log", "Log"
    sources = (STATE,)
    search = "Line contains"
    #: From the gravest on.
    LEVELS = ("error", "warning", "notice", "info", "debug")
    level = LEVELS[-1]
    #: How often it has begun.
    _beginnings = 0

    def ask(self, asked: Mapping[str, str]) -> None:
        """Take the filter and the level, and begin anew."""
        super().ask(asked)
        if asked.get("level") in self.LEVELS:
            self.level = asked["level"]
        self._beginnings += 1
        #: Whether the browser has what it began with.
        self._has_begun = False
        #: The number of the last line that it has.
        self._last = 0

    async def blocks(self) -> list[Block]:
        """Return the lines that there are; those that come later are the tail."""
        lines: list[dict[str, str]] = []
        if not self._has_begun:
            found = _inside.log_lines()
            self._has_begun, self._last = True, found[-1].number if found else 0
            lines = [self._line(line) for line in self._wanted(found)]
        return [Block("log", self._beginnings, "log", [], lines=lines)]

    def tail(self) -> str:
        """Return the lines that have come since."""
        lines = _inside.log_lines(self._last)
        if not self._has_begun or not lines:
            return ""
        missed = lines[0].number - self._last - 1
        self._last = lines[-1].number
        shown = [self._line(line) for line in self._wanted(lines)]
        if not shown and not missed:
            return ""
        return str(Piece("", 0, "log_tail", lines=shown, missed=missed))

    def _wanted(self, lines: list[LogLine]) -> list[LogLine]:
        grave = self.LEVELS[: self.LEVELS.index(self.level) + 1]
        needle = self.wanted.lower()
        return [line for line in lines if line.level in grave and needle in line.text.lower()][-LINES:]

    def _line(self, line: LogLine) -> dict[str, str]:
        return {
            "when": values.moment(line.time),
            "level": line.level if line.level in self.LEVELS else "info",
            "text": printable(line.text, keep="\n\t"),
        }
