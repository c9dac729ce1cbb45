"""What the plugin's own MQTT session costs: with it, without it and a C client, all three side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import report
from contenders import ALL, REFERENCE, Contender, expand
from settings import Failure, Settings, progress
from stage import staged

Result = dict[str, Any]
Rounds = dict[str, list[report.Round]]


def in_plugin(settings: Settings, failed: dict[str, str]) -> list[Contender]:
    """Return the contenders that are in the plugin, the only ones with a session; the others have failed."""
    contenders = expand(settings, settings.contenders)
    for contender in contenders:
        if contender.host != "plugin":
            failed[contender.name] = "is not in the plugin: there is no session to be measured"
    return [contender for contender in contenders if contender.host == "plugin"]


def session(settings: Settings) -> Result:
    """Measure the echo application with the session and without, and a C client, in turn."""
    result: Result = {"contenders": {}, "failed": {}}
    for contender in in_plugin(settings, result["failed"]):
        full, off = (
            replace(contender, name=f"{contender.name}, {how}", options={**contender.options, "session": how})
            for how in ("full", "off")
        )
        trio = [full, off, ALL[REFERENCE]]
        measured: dict[str, Rounds] = {}
        result["contenders"][contender.name] = measured
        for qos in settings.qos_levels:
            level = f"QoS {qos}"
            measured[level] = {each.name: [] for each in trio}
            for turn in range(settings.rounds):
                try:
                    figures = session_round(replace(settings, qos=qos), trio, turn)
                except Failure as failure:
                    result["failed"][f"{contender.name}, {level}"] = str(failure)
                    break
                for name, each in figures.items():
                    measured[level][name].append(each)
                latest = "; ".join(
                    f"{name} p50 {each['p50_us']:.0f} us, {each['answered_per_s']:,.0f} messages/s"
                    for name, each in figures.items()
                )
                progress(f"{level}, round {turn + 1}/{settings.rounds}: {latest}")
    return result


def session_round(settings: Settings, contenders: list[Contender], turn: int) -> dict[str, dict[str, float]]:
    """Measure on fresh brokers: round trips to each in turn, then throughput. The others are idle meanwhile."""
    common: dict[str, str | int | float] = {"qos": settings.qos, "answer": "bench/out"}
    shift = turn % len(contenders)
    order = contenders[shift:] + contenders[:shift]
    figures: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    with ExitStack() as stack:
        stages = {
            contender.name: stack.enter_context(staged(settings, contender)) for contender in contenders
        }
        for contender in order:
            trips = stages[contender.name].load("roundtrip", count=settings.count, **common)
            figures[contender.name].update(p50_us=trips["p50_us"], p99_us=trips["p99_us"], lost=trips["lost"])
        for contender in order:
            stream = stages[contender.name].load("throughput", seconds=settings.seconds, **common)
            thousands = max(1.0, stream["sent"] - stream["lost"]) / 1000
            measured = figures[contender.name]
            measured["answered_per_s"] = stream["answered_per_s"]
            measured["broker_cpu_s_per_1000"] = stream["broker_cpu_seconds"] / thousands
            measured["cpu_s_per_1000"] = stream["cpu_seconds"] / thousands
            measured["lost"] += stream["lost"]
            measured["duplicated"] = stream["duplicated"]
            measured["reordered"] = stream["reordered"]
    return figures


COLUMNS = (
    ("p50_us", "p50 µs", 0),
    ("p99_us", "p99 µs", 0),
    ("answered_per_s", "messages/s", 0),
    ("broker_cpu_s_per_1000", "broker CPU s/1,000", 4),
    ("cpu_s_per_1000", "CPU s/1,000 with the client", 4),
)


def session_tables(result: Result) -> str:
    """Return a table for each QoS: medians with their ranges, and a last row with the ratio of the first two."""
    parts = []
    for name, levels in result["contenders"].items():
        for level, rounds in levels.items():
            rows = [
                [
                    each,
                    *(report.ranged(figures, key, digits) for key, _, digits in COLUMNS),
                    "/".join(report.total(figures, key) for key in ("lost", "duplicated", "reordered")),
                ]
                for each, figures in rounds.items()
            ]
            full, off = rounds[f"{name}, full"], rounds[f"{name}, off"]
            ratios = (report.spread(report.ratios(full, off, key)) for key, _, _ in COLUMNS)
            rows.append(["full / off", *ratios, ""])
            parts.append(
                report.table([level, *(head for _, head, _ in COLUMNS), "lost/doubled/reordered"], rows)
            )
    settings = result["settings"]
    parts.append(
        f"{settings['count']:,} round trips and {settings['seconds']:g} s of throughput in each of "
        f"{report.times(settings['rounds'])}: medians (least–most), ratios within a round."
    )
    return "\n\n".join(parts)
