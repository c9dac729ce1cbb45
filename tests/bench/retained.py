"""A subscription to many retained messages in live traffic: a consumer and an ordinary client, in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import report
from contenders import Contender
from session import in_plugin
from settings import Failure, Settings, progress
from stage import staged

Result = dict[str, Any]
GOAL = 1.0  # seconds
COLLECTION_PATIENCE = 10.0  # seconds
CLIENT = Contender("libmosquitto", "collector", "")


def retained(settings: Settings) -> Result:
    """Measure each at each QoS."""
    result: Result = {"levels": {}, "failed": {}}
    consumers = [
        replace(
            contender,
            application="benchapp.retained:application",
            options={**contender.options, "session": "full"},
        )
        for contender in in_plugin(settings, result["failed"])
    ]
    for qos in settings.qos_levels:
        level = f"QoS {qos}"
        result["levels"][level] = {}
        for contender in (*consumers, CLIENT):
            try:
                measured = retained_rounds(replace(settings, qos=qos), contender)
            except Failure as failure:
                result["failed"][f"{contender.name}, {level}"] = str(failure)
                continue
            result["levels"][level][contender.name] = measured
    return result


def retained_rounds(settings: Settings, contender: Contender) -> dict[str, Any]:
    """Measure all rounds of one subscriber, on one fresh broker."""
    with staged(settings, contender) as stage:
        measured = stage.load(
            "retained",
            topic="bench/kept",
            start="bench/command",
            done="bench/complete",
            answer="bench/report",
            qos=settings.qos,
            count=settings.count,
            rate=settings.rate,
            rounds=settings.rounds,
            timeout_ms=int(COLLECTION_PATIENCE * 1000),
        )
    rounds = []
    for turn, figures in enumerate(measured["rounds"]):
        complete = figures["arrived"] == settings.count
        rounds.append(
            {
                **{key: value for key, value in figures.items() if not key.endswith("_ns")},
                "returned_ms": figures["returned_ns"] / 1e6,
                **({"complete_ms": figures["last_ns"] / 1e6} if complete else {}),
                "live_longest_ms": figures["live_longest_ns"] / 1e6,
            }
        )
        after = f"the last after {figures['last_ns'] / 1e6:.0f} ms" if figures["arrived"] else "none"
        progress(
            f"{contender.name}, QoS {settings.qos}, round {turn + 1}/{settings.rounds}: "
            f"{figures['arrived']} of {settings.count}, {after}"
        )
    return {**measured, "rounds": rounds}


HEAD = (
    *("subscriber", "QoS", "complete ms", "subscribe() ms", "arrived, least", "doubled", "not marked"),
    *("live/s sent", "live missing", "live disordered", "slowest live ms"),
)


def retained_tables(result: Result) -> str:
    """Return one table; a round that got less than all has no time."""
    rows = []
    for level, subscribers in result["levels"].items():
        for name, measured in subscribers.items():
            rounds = measured["rounds"]
            rows.append(
                [
                    f"`{name}`",
                    level.split()[-1],
                    report.ranged(rounds, "complete_ms"),
                    report.ranged(rounds, "returned_ms"),
                    report.number(min(figures["arrived"] for figures in rounds)),
                    report.total(rounds, "doubled"),
                    report.total(rounds, "unmarked"),
                    report.number(measured["live_per_s"]),
                    report.total(rounds, "live_missing"),
                    report.total(rounds, "live_disordered"),
                    report.ranged(rounds, "live_longest_ms"),
                ]
            )
    settings = result["settings"]
    return (
        f"{report.table(HEAD, rows)}\n\n{settings['count']:,} retained messages, {settings['rate']:,} live messages a "
        f"second below the same filter, {report.times(settings['rounds'])}: medians (least–most) since the call of "
        f"`subscribe()`. Wanted: all of them in {GOAL:g} s."
    )
