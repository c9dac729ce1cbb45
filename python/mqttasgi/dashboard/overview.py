"""The page with the figures, each with its last fifteen minutes as a plot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

from . import plots, values
from .observer import CLIENTS, INTERVAL, SAMPLES, STATISTICS, Sample
from .pages import Page
from .parts import Block, Cell, Part, Piece

Take = Callable[[Sample], Optional[float]]


class Line(NamedTuple):
    """A line of a plot."""

    #: What it is called beside another one; empty: it is the only one.
    name: str
    take: Take


class Figure(NamedTuple):
    """What is measured, and how it is said."""

    id: str
    title: str
    lines: tuple[Line, ...]
    say: Callable[[float], str]


def _of(name: str) -> Take:
    def take(sample: Sample) -> Optional[float]:
        return sample.values.get(name)

    return take


FIGURES = (
    Figure("received", "Messages to consumers", (Line("", lambda sample: sample.received),), values.rate),
    Figure("sent", "Messages from consumers", (Line("", lambda sample: sample.sent),), values.rate),
    Figure(
        "handling",
        "Handling a message",
        (Line("median", _of("handling/p50")), Line("99 of 100", _of("handling/p99"))),
        values.seconds_of,
    ),
    Figure(
        "delay",
        "Event loop late by",
        (Line("", lambda sample: None if sample.delay is None else sample.delay * 1e6),),
        values.seconds_of,
    ),
    Figure(
        "waiting",
        "Messages waiting",
        (
            Line("for consumers", _of("queue/inbound/messages")),
            Line("for the broker", _of("queue/outbound/messages")),
        ),
        values.count,
    ),
    Figure("clients", "Clients", (Line("", lambda sample: sample.clients),), values.count),
    Figure("memory", "Memory of the process", (Line("", _of("memory")),), values.size),
)

#: What is told as a number alone: its words, and the statistics that are added up for it.
FACTS = (
    ("Consumers running", ("consumers/running",)),
    ("Consumers waiting for a restart", ("consumers/restarting",)),
    ("Consumers given up", ("consumers/failed",)),
    ("Restarts", ("consumers/restarted",)),
    (
        "Messages dropped",
        (
            "messages/dropped/queue",
            "messages/dropped/consumer_queue",
            "messages/dropped/consumer_ended",
            "messages/dropped/memory",
        ),
    ),
    ("Messages the broker refused", ("messages/refused",)),
    ("Dead letters", ("durable/dead",)),
)


class Overview(Page):
    """How the process does."""

    name, title = "overview", "Overview"
    sources = (STATISTICS, CLIENTS)

    async def blocks(self) -> list[Block]:
        """Return the figures, the plain numbers and the table."""
        samples = list(self.observer.samples)
        if not samples:
            return [Block("overview", "empty", "waiting", [])]
        figures = [self._figure(figure, samples) for figure in FIGURES]
        facts = self._facts(samples[-1])
        since = Cell("overview-since", self._since(samples))
        minutes = self._table(samples)
        parts: list[Part] = [since, minutes]
        for entry in figures:
            parts += entry["parts"]
        parts += [cell for _, cell in facts]
        return [
            Block(
                "overview",
                "figures",
                "overview",
                parts,
                figures=figures,
                facts=facts,
                since=since,
                minutes=minutes,
            )
        ]

    def _since(self, samples: Sequence[Sample]) -> str:
        begun = values.moment(samples[0].time)
        if len(samples) == SAMPLES:
            return f"The last fifteen minutes, since {begun}."
        return f"Sampled since {begun}: it began when somebody looked. A plot has room for fifteen minutes."

    def _facts(self, last: Sample) -> list[tuple[str, Cell]]:
        told = [("Running for", values.duration(last.values.get("uptime", 0)))]
        for words, names in FACTS:
            if any(name in last.values for name in names):
                told.append((words, values.count(sum(last.values.get(name, 0) for name in names))))
        return [(words, Cell(f"fact-{number}", text)) for number, (words, text) in enumerate(told)]

    def _figure(self, figure: Figure, samples: Sequence[Sample]) -> dict[str, Any]:
        """Return what the template needs of a figure."""
        end = samples[-1].time
        # At first there is too little for all of the fifteen minutes.
        start = max(end - INTERVAL * SAMPLES, min(samples[0].time, end - 60))
        found = [[(sample.time, line.take(sample)) for sample in samples] for line in figure.lines]
        high = max((value for line in found for _, value in line if value is not None), default=0.0)
        drawn = [plots.over_time(line, start, end, high) for line in found]
        told = [(line.name, points[-1][1]) for line, points in zip(figure.lines, found)]
        now = [
            Cell(f"{figure.id}-{number}", "-" if value is None else figure.say(value), "figure")
            for number, (_, value) in enumerate(told)
        ]
        plot = Piece(
            f"plot-{figure.id}",
            end,
            "plot",
            title=f"{figure.title}, the last {values.duration(end - start, 1)}",
            began=f"{values.duration(end - start, 1)} ago",
            description=lambda: "; ".join(
                self._in_words(figure, line, points) for line, points in zip(figure.lines, drawn)
            ),
            paths=[points.path for points in drawn],
            highest=figure.say(high),
            width=plots.WIDTH,
            height=plots.HEIGHT,
        )
        named = list(zip((name for name, _ in told), now))
        return {"id": figure.id, "title": figure.title, "named": named, "plot": plot, "parts": [plot, *now]}

    def _in_words(self, figure: Figure, line: Line, points: plots.Points) -> str:
        if not points.path:
            return f"{line.name} no values yet".strip()
        return f"{line.name} from {figure.say(points.low)} to {figure.say(points.high)}".strip()

    def _table(self, samples: Sequence[Sample]) -> Piece:
        """Return the last sample of each minute, for those who do not see the plots."""
        minutes: dict[int, Sample] = {int(sample.time // 60): sample for sample in samples}
        columns = [
            (f"{figure.title}{', ' if line.name else ''}{line.name}", line.take, figure.say)
            for figure in FIGURES
            for line in figure.lines
        ]

        def rows() -> list[list[str]]:
            return [
                [values.moment(sample.time)]
                + ["-" if (value := take(sample)) is None else say(value) for _, take, say in columns]
                for sample in reversed(list(minutes.values()))
            ]

        # Not each time: somebody may be reading it.
        key = (len(minutes), int(time.time() // 60))
        return Piece("minutes", key, "minutes", columns=[title for title, _, _ in columns], rows=rows)
