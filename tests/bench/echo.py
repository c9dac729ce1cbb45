"""Round trips and throughput: `compare` of every contender, `builds` of two builds of the plugin.

As every scenario here: what measures prints its progress and returns all it measured in a form that JSON has, with
``failed`` saying why a contender is missing; what tables takes that and nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import report
from contenders import REFERENCE, Contender, expand
from settings import Failure, Settings, progress
from stage import staged

Result = dict[str, Any]
Rounds = dict[str, list[report.Round]]


def echo_round(settings: Settings, contender: Contender, histogram: Counter[int]) -> dict[str, Any]:
    """Measure round trips, then throughput, on one fresh broker; latencies are added to the histogram."""
    with staged(settings, contender) as stage:
        common: dict[str, str | int | float] = {"qos": settings.qos, "answer": contender.answer}
        trips = stage.load("roundtrip", count=max(50, settings.count // contender.slower), **common)
        stream = stage.load("throughput", seconds=settings.seconds, **common)
    histogram.update(dict(trips["histogram"]))
    answered = max(1.0, stream["sent"] - stream["lost"])
    return {
        **{key: trips[key] for key in report.PERCENTILES},
        "answered_per_s": stream["answered_per_s"],
        "cpu_us_per_message": stream["cpu_seconds"] * 1e6 / answered,
        "broker_cpu_us_per_message": stream["broker_cpu_seconds"] * 1e6 / answered,
        "longest_gap_ms": stream["longest_gap_ms"],
        "lost": trips["lost"] + stream["lost"],
        "duplicated": stream["duplicated"],
        "reordered": stream["reordered"],
    }


def said(figures: dict[str, Any]) -> str:
    """Return one round in words."""
    return f"p50 {figures['p50_us']:.0f} us, {figures['answered_per_s']:,.0f} messages/s"


def compare(settings: Settings) -> Result:
    """Measure every contender in turn, and again, as many rounds as were asked for."""
    contenders = expand(settings, settings.contenders)
    failed: dict[str, str] = {}
    levels = {f"QoS {qos}": replace(settings, qos=qos) for qos in settings.qos_levels}
    rounds: dict[str, Rounds] = {level: {each.name: [] for each in contenders} for level in levels}
    histograms = {level: {each.name: Counter[int]() for each in contenders} for level in levels}
    for turn in range(settings.rounds):
        shift = turn % len(contenders)  # nobody always follows the same one
        for level, levelled in levels.items():
            for contender in contenders[shift:] + contenders[:shift]:
                where = f"{level}, round {turn + 1}/{settings.rounds}, {contender.name}"
                figures: report.Round = None
                if f"{contender.name}, {level}" not in failed:
                    try:
                        figures = echo_round(levelled, contender, histograms[level][contender.name])
                        progress(f"{where}: {said(figures)}")
                    except Failure as failure:
                        failed[f"{contender.name}, {level}"] = str(failure)
                        progress(f"{where}: failed")
                rounds[level][contender.name].append(figures)
    return {
        "rounds": rounds,
        "histograms": {
            level: {name: sorted(counts.items()) for name, counts in each.items()}
            for level, each in histograms.items()
        },
        "failed": failed,
    }


def compare_tables(result: Result) -> str:
    """Return a table for each QoS: medians, and ratios to the reference where it was measured."""
    parts = []
    for level, rounds in result["rounds"].items():
        reference = rounds.get(REFERENCE, [])
        rows = []
        for name, figures in rounds.items():
            rows.append(
                [
                    f"`{name}`",
                    *(report.ranged(figures, key) for key in ("p50_us", "p99_us", "answered_per_s")),
                    report.ranged(figures, "cpu_us_per_message", 1),
                    "/".join(report.total(figures, key) for key in ("lost", "duplicated", "reordered")),
                    *(
                        report.spread(report.ratios(figures, reference, key))
                        for key in ("p50_us", "answered_per_s", "cpu_us_per_message")
                    ),
                ]
            )
        head = [
            *(level, "p50 µs", "p99 µs", "messages/s", "CPU µs/message", "lost/doubled/reordered"),
            *("p50 ratio", "messages/s ratio", "CPU ratio"),
        ]
        parts.append(report.table(head, rows))
    parts.append(
        f"Medians (least–most) of {report.times(result['settings']['rounds'])}; ratios to `{REFERENCE}` of the same "
        "round. CPU is that of the broker and of the client beside it, where there is one."
    )
    return "\n\n".join(parts)


BUILDS_COLUMNS = (
    ("p50_us", "p50 µs", 0),
    ("p99_us", "p99 µs", 0),
    ("answered_per_s", "messages/s", 0),
    ("cpu_us_per_message", "CPU µs/message", 2),
)


def builds(settings: Settings) -> Result:
    """Measure two builds of the plugin in turn, each with every contender that is in the plugin."""
    if settings.against is None or not settings.against.is_file():
        raise Failure("builds: --against names the plugin of the other build, which must be there.")
    # What is not compiled in, but an option.
    switched_off = tuple((part, "0") for part in settings.without if part == "watchdog")
    options = (*settings.plugin_options, *switched_off)
    both = {
        "plugin": settings,
        "against": replace(settings, plugin=settings.against, plugin_options=options),
    }
    contenders = [each for each in expand(settings, settings.contenders) if each.host == "plugin"]
    measured: dict[str, Rounds] = {contender.name: {name: [] for name in both} for contender in contenders}
    for contender in contenders:
        rounds = measured[contender.name]
        for turn in range(settings.rounds):
            # A B, B A, …: nobody is always the first.
            for name in list(both)[:: 1 if turn % 2 == 0 else -1]:
                rounds[name].append(echo_round(both[name], contender, Counter()))
            latest = "; ".join(
                f"{name} {said(figures[-1])}" for name, figures in rounds.items() if figures[-1]
            )
            progress(f"{contender.name}, round {turn + 1}/{settings.rounds}: {latest}")
    return {"rounds": measured, "failed": {}}


def builds_tables(result: Result) -> str:
    """Return a table for each contender, with the ratios of the two in its last row."""
    settings = result["settings"]
    parts = []
    for contender, rounds in result["rounds"].items():
        rows = [
            [name, *(report.ranged(figures, key, digits) for key, _, digits in BUILDS_COLUMNS)]
            for name, figures in rounds.items()
        ]
        ratios = [report.ratios(rounds["plugin"], rounds["against"], key) for key, _, _ in BUILDS_COLUMNS]
        rows.append(["plugin / against", *map(report.spread, ratios)])
        parts.append(
            f"{contender}, QoS {settings['qos']}, {report.times(settings['rounds'])}: medians (least–most), ratios "
            f"within a round.\nplugin  {settings['plugin']}\nagainst {settings['against']}"
        )
        parts.append(report.table(["build", *(head for _, head, _ in BUILDS_COLUMNS)], rows))
    return "\n\n".join(parts)
