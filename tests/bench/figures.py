"""The figures that are wanted of the product, each a ratio within one interleaved run, and what they have to be."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import report
from chaos import CULPRIT, QUIET
from contenders import REFERENCE
from traffic import WITHOUT

Results = dict[str, Any]  # of the scenarios, by name
Values = Callable[[Results], list[float]]
OURS, WITHOUT_SESSION = "plugin", "plugin-nosession"


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    about: str
    must: float
    goal: float
    values: Values
    lower: bool = True  # is better

    def met(self, value: float) -> str:
        """Return how this compares with what is wanted."""
        if self.lower:
            return "goal" if value <= self.goal else "yes" if value <= self.must else "no"
        return "goal" if value >= self.goal else "yes" if value >= self.must else "no"


def _compared(qos: int, ours: str, theirs: str, key: str) -> Values:
    def values(results: Results) -> list[float]:
        rounds = results["compare"]["rounds"].get(f"QoS {qos}", {})
        return report.ratios(_rounds_of(rounds, ours), _rounds_of(rounds, theirs), key)

    return values


def _rounds_of(rounds: dict[str, list[report.Round]], name: str) -> list[report.Round]:
    """Return a contender's, of the last of its versions where there are several."""
    found = [each for shown, each in rounds.items() if shown == name or shown.startswith(f"{name}@")]
    return found[-1] if found else []


def _crowd(results: Results) -> list[float]:
    rounds = results["many"]["contenders"][OURS]["rounds"]
    return report.ratios(rounds["10000"], rounds["10"], "p50_us")


def _traffic(results: Results) -> list[float]:
    rounds = results["idle-traffic"]["contenders"][OURS]
    return report.ratios(rounds[OURS], rounds[WITHOUT.name], "delivered_per_s")


def _late(results: Results) -> list[float]:
    if results["wakeup"]["settings"]["limit_us"] != 10_000:
        return []
    return [float(results["wakeup"]["contenders"][OURS]["above_limit"])]


def _chaos(results: Results) -> list[float]:
    rounds = results["chaos"]["rounds"]
    return report.ratios(rounds[CULPRIT.name], rounds[QUIET.name], "p99_us")


def _each_qos(about: str, *arguments: Any, **options: Any) -> list[Figure]:
    must, goal, ours, theirs, key = arguments
    return [
        Figure(f"{about}, QoS {qos}", must, goal, _compared(qos, ours, theirs, key), **options)
        for qos in (0, 1)
    ]


FIGURES = [
    *_each_qos("round trip p50 / that of the C client", 1.0, 0.7, OURS, REFERENCE, "p50_us"),
    *_each_qos(
        "messages a second / those of the C client", 1.0, 1.5, OURS, REFERENCE, "answered_per_s", lower=False
    ),
    *_each_qos(
        "CPU a message / that of the C client and its broker",
        1.0,
        0.8,
        OURS,
        REFERENCE,
        "cpu_us_per_message",
    ),
    Figure(
        "round trip p50 of mqttasgi's newest release / ours, QoS 0",
        80,
        100,
        _compared(0, "mqttasgi", OURS, "p50_us"),
        lower=False,
    ),
    *_each_qos("with session / without it: round trip p50", 1.05, 1.0, OURS, WITHOUT_SESSION, "p50_us"),
    *_each_qos(
        "with session / without it: messages a second",
        0.95,
        1.0,
        OURS,
        WITHOUT_SESSION,
        "answered_per_s",
        lower=False,
    ),
    Figure(
        "traffic nobody in Python wants: with the plugin / without, messages a second",
        0.98,
        1.0,
        _traffic,
        lower=False,
    ),
    Figure("round trip p50 with 10,000 workers / with ten", 1.2, 1.1, _crowd),
    Figure("publishes of an idle application later than 10 ms", 0, 0, _late),
    Figure("p99 of ordinary clients under chaos / on a quiet broker without the plugin", 1.5, 1.2, _chaos),
]


def table(results: Results) -> str:
    """Return all in one table; a figure that was not measured has a dash."""
    rows = []
    for figure in FIGURES:
        try:
            values = figure.values(results)
        except (KeyError, IndexError):
            values = []
        sign = "≤" if figure.lower else "≥"
        met = figure.met(statistics.median(values)) if values else "–"
        rows.append(
            [figure.about, report.spread(values), f"{sign} {figure.must:g}", f"{sign} {figure.goal:g}", met]
        )
    return report.table(["figure", "median (least–most)", "wanted", "goal", "met"], rows)
