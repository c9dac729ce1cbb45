"""Several scenarios one after the other: what a user wants to know, and all that docs/performance.md holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import figures
import product
import report
from contenders import expand
from machine import describe
from scenarios import SCENARIOS, settings_for
from settings import Settings, progress
from wakeup import SECONDS_EACH

Result = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which scenarios, and what differs from their own defaults where the command line says nothing."""

    about: str
    rounds: int
    seconds: float
    names: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


SELECTIONS = {
    "overview": Selection(
        "(default) what a user wants to know, in less than ten minutes",
        3,
        2.0,
        ("compare", "idle-traffic", "many", "wakeup", "chaos"),
        {"compare": 1500, "idle-traffic": 100_000, "many": 1000, "wakeup": 20_000},
    ),
    "page": Selection(
        "all that docs/performance.md holds, in about twenty minutes",
        5,
        3.0,
        ("compare", "idle-traffic", "many", "wakeup", "retained", "chaos"),
    ),
}


def run(name: str, settings: Settings) -> Result:
    """Measure a selection. The result has each scenario's under its name, and ``failed`` of all."""
    selection = SELECTIONS[name]
    chosen = {
        each: settings_for(each, replace(settings, count=settings.count or selection.counts.get(each, 0)))
        for each in selection.names
    }
    minutes = sum(_estimate(each, chosen[each]) for each in chosen) / 60
    progress(f"{', '.join(chosen)}: about {max(1, round(minutes))} min")
    result: Result = {"scenarios": {}, "failed": {}}
    for number, (each, settled) in enumerate(chosen.items(), 1):
        progress(f"{number} of {len(chosen)}, {each}: {SCENARIOS[each].about}")
        measured = result["scenarios"][each] = SCENARIOS[each].run(settled)
        result["failed"].update({f"{each}, {who}": why for who, why in measured["failed"].items()})
    result["machine"] = describe(settings)
    result["settings"] = settings.shown()
    result["commit"] = product.commit(settings)
    result["changed"] = product.changed()
    result["packages"] = packages(chosen["compare"])
    return result


def packages(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the versions in the virtual environments of these contenders, by the environment's name."""
    wanted = [each.environment for each in expand(settings, settings.contenders)]
    return {each.name: each.packages() for each in wanted if each is not None}


def _estimate(name: str, settings: Settings) -> float:
    """Return about how many seconds a scenario takes."""
    trips = settings.count * 0.0012
    turns = {
        "compare": len(settings.qos_levels)
        * len(expand(settings, settings.contenders))
        * (trips + settings.seconds + 1.5),
        "idle-traffic": 2 * (settings.count * 1e-5 + 1),
        "many": len(settings.workers) * trips,
        "retained": 4 * 1.5,
        "chaos": 4 * settings.seconds,
    }
    once = {"many": sum(settings.workers) * 0.001 + 5, "wakeup": settings.count * SECONDS_EACH, "chaos": 5.0}
    return settings.rounds * turns.get(name, 0.0) + once.get(name, 0.0)


def tables(result: Result) -> str:
    """Return what it comes to, then the tables of each scenario."""
    parts = [figures.table(result["scenarios"])]
    for name, measured in result["scenarios"].items():
        parts += [f"### {name}: {SCENARIOS[name].about}", SCENARIOS[name].tables(measured)]
    commit = f"{result['commit'] or 'unknown'}{', with changes' if result['changed'] else ''}"
    parts.append(report.head({**result["machine"], "commit": commit, "in": result["packages"]}))
    return "\n\n".join(parts)
