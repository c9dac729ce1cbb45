"""The measurements, but for those of the session. Each prints progress, then a table, and returns what it measured.

In a result, ``failed`` says why a contender is missing; the others are measured all the same.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import report
from contenders import REFERENCE, Contender, Stage, expand, prepare, staged
from settings import Failure, Settings

Result = dict[str, Any]
PERCENTILES = ("p50_us", "p99_us", "p999_us", "max_us")
PERCENTILE_HEADS = ("p50 us", "p99 us", "p99.9 us", "max us")


def progress(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def percentiles(measured: dict[str, float]) -> list[str]:
    """Cells of a table."""
    return [report.number(measured.get(key)) for key in PERCENTILES]


def echo_round(settings: Settings, contender: Contender) -> dict[str, Any]:
    """Round trips, then throughput, on one fresh broker."""
    with staged(settings, contender) as stage:
        common: dict[str, str | int | float] = {"qos": settings.qos, "answer": contender.answer}
        trips = stage.load("roundtrip", count=max(50, settings.count // contender.slower), **common)
        stream = stage.load("throughput", seconds=settings.seconds, **common)
    return {
        **{key: trips[key] for key in PERCENTILES},
        "answered_per_s": stream["answered_per_s"],
        "cpu_us_per_message": stream["cpu_seconds"] * 1e6 / max(1.0, stream["sent"] - stream["lost"]),
        "longest_gap_ms": stream["longest_gap_ms"],
        "lost": trips["lost"] + stream["lost"],
        "duplicated": stream["duplicated"],
        "reordered": stream["reordered"],
    }


def compare(settings: Settings) -> Result:
    """Every contender in turn, and again, as many rounds as were asked for."""
    contenders = expand(settings, settings.contenders)
    failed = prepare(settings, contenders)
    rounds: dict[str, list[report.Round]] = {contender.name: [] for contender in contenders}
    for turn in range(settings.rounds):
        shift = turn % len(contenders)  # nobody always follows the same one
        for contender in contenders[shift:] + contenders[:shift]:
            figures: report.Round = None
            if contender.name not in failed:
                try:
                    figures = echo_round(settings, contender)
                    progress(
                        f"round {turn + 1}/{settings.rounds} {contender.name}: p50 {figures['p50_us']:.0f} us, "
                        f"p99 {figures['p99_us']:.0f} us, {figures['answered_per_s']:.0f} messages a second"
                    )
                except Failure as failure:
                    failed[contender.name] = str(failure)
                    progress(f"round {turn + 1}/{settings.rounds} {contender.name}: failed")
            rounds[contender.name].append(figures)
    print_comparison(settings, rounds)
    return {
        "rounds": rounds,
        "medians": {name: report.medians(all) for name, all in rounds.items()},
        "failed": failed,
    }


def print_comparison(settings: Settings, rounds: dict[str, list[report.Round]]) -> None:
    """Medians, and ratios to the reference where it was measured."""
    rows = []
    for name, figures in rounds.items():
        median = report.medians(figures)
        rows.append(
            [
                name,
                *percentiles(median),
                report.number(median.get("answered_per_s")),
                report.number(median.get("cpu_us_per_message"), 1),
                *(report.number(median.get(key)) for key in ("lost", "duplicated", "reordered")),
                *(
                    report.spread(report.ratios(figures, rounds.get(REFERENCE, []), key))
                    for key in ("p50_us", "p99_us", "answered_per_s")
                ),
            ]
        )
    print(
        f"\nQoS {settings.qos}, medians of {settings.rounds} rounds; ratios to {REFERENCE} of the same round.\n"
    )
    print(
        report.table(
            [
                "contender",
                *PERCENTILE_HEADS,
                *("messages/s", "CPU us/message", "lost", "doubled", "reordered"),
                *("p50 ratio", "p99 ratio", "messages/s ratio"),
            ],
            rows,
        )
    )


BUILDS_COLUMNS = (
    ("p50_us", "p50 us", 0),
    ("p99_us", "p99 us", 0),
    ("answered_per_s", "messages/s", 0),
    ("cpu_us_per_message", "CPU us/message", 2),
)


def builds(settings: Settings) -> Result:
    """Two builds of the plugin in turn, each with every contender that is in the plugin."""
    result: Result = {"failed": {}}
    if settings.against is None or not settings.against.is_file():
        raise Failure("builds: --against names the plugin of the other build, which must be there.")
    both = {"plugin": settings, "against": replace(settings, plugin=settings.against)}
    for contender in usable(settings, result):
        rounds: dict[str, list[report.Round]] = {name: [] for name in both}
        for turn in range(settings.rounds):
            # A B, B A, …: nobody is always the first.
            for name in list(both)[:: 1 if turn % 2 == 0 else -1]:
                rounds[name].append(echo_round(both[name], contender))
            progress(
                f"{contender.name}, round {turn + 1}/{settings.rounds}: "
                + "; ".join(
                    f"{name} p50 {figures[-1]['p50_us']:.0f} us, {figures[-1]['answered_per_s']:.0f} messages/s"
                    for name, figures in rounds.items()
                    if figures[-1] is not None
                )
            )
        result[contender.name] = rounds
        rows = [
            [name, *(report.ranged(figures, key, digits) for key, _, digits in BUILDS_COLUMNS)]
            for name, figures in rounds.items()
        ]
        ratios = [report.ratios(rounds["plugin"], rounds["against"], key) for key, _, _ in BUILDS_COLUMNS]
        rows.append(["plugin / against", *map(report.spread, ratios)])
        print(
            f"\n{contender.name}, QoS {settings.qos}, {settings.rounds} rounds: medians (least–most), ratios "
            f"within a round.\nplugin  {settings.plugin}\nagainst {settings.against}\n"
        )
        print(report.table(["build", *(head for _, head, _ in BUILDS_COLUMNS)], rows), end="\n\n")
    return result


def many(settings: Settings) -> Result:
    """Few workers against many: what spawning one costs, and whether a message to one of them takes longer."""
    rows: list[list[str]] = []
    result: Result = {"failed": {}}
    contenders = [
        replace(contender, application="benchapp.many:application") for contender in usable(settings, result)
    ]
    for contender in contenders:
        try:
            result[contender.name] = many_of(settings, contender, rows)
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
    print(
        f"\nQoS {settings.qos}, medians of {settings.rounds} rounds; ratio to the first of the same round.\n"
    )
    print(
        report.table(
            ["contender", "workers", "spawn s", "KiB/worker", *PERCENTILE_HEADS, "p50 ratio", "p99 ratio"],
            rows,
        )
    )
    return result


def many_of(settings: Settings, contender: Contender, rows: list[list[str]]) -> Result:
    """All sizes stand side by side, so that their round trips can take turns."""
    ready: dict[int, dict[str, Any]] = {}
    rounds: dict[int, list[report.Round]] = {size: [] for size in settings.workers}
    with ExitStack() as stack:
        stages: dict[int, Stage] = {}
        for size in settings.workers:
            stages[size] = stack.enter_context(staged(settings, contender, BENCH_WORKERS=size))
            ready[size] = stages[size].load("first", topic="bench/ready", startup=900)
            progress(f"{contender.name}: {size} workers after {ready[size]['spawn_seconds']:.2f} s")
        for turn in range(settings.rounds):
            for size, stage in stages.items():
                topic = f"bench/worker/{size // 2}"
                measured = stage.load(
                    "roundtrip", topic=topic, qos=settings.qos, count=settings.count // contender.slower
                )
                rounds[size].append({key: measured[key] for key in PERCENTILES})
                progress(
                    f"round {turn + 1}/{settings.rounds} {contender.name}, {size} workers: "
                    f"p50 {measured['p50_us']:.0f} us"
                )
    for size in settings.workers:
        each = (ready[size]["rss_after_kib"] - ready[size]["rss_before_kib"]) / size
        first = rounds[settings.workers[0]]
        rows.append(
            [
                contender.name,
                report.number(size),
                report.number(ready[size]["spawn_seconds"], 2),
                report.number(each, 1),
                *percentiles(report.medians(rounds[size])),
                *(report.spread(report.ratios(rounds[size], first, key)) for key in ("p50_us", "p99_us")),
            ]
        )
    return {"ready": ready, "rounds": rounds}


def usable(settings: Settings, result: Result) -> list[Contender]:
    """The contenders that can be tried; why the others cannot goes to the result."""
    contenders = expand(settings, settings.contenders)
    result["failed"].update(prepare(settings, contenders))
    return [contender for contender in contenders if contender.name not in result["failed"]]


def idle_traffic(settings: Settings) -> Result:
    """Messages that no consumer subscribed to: a broker with the plugin against one without."""
    result: Result = {"failed": {}}
    without = Contender("without", "nobody", "")
    rows: list[list[str]] = []
    for contender in usable(settings, result):
        rounds: dict[str, list[report.Round]] = {"without": [], contender.name: []}
        try:
            for turn in range(settings.rounds):
                pair = (without, contender) if turn % 2 == 0 else (contender, without)
                for each in pair:
                    rounds[each.name].append(flood_round(settings, each))
                    progress(
                        f"round {turn + 1}/{settings.rounds} {each.name}: "
                        f"{report.medians(rounds[each.name][-1:])['delivered_per_s']:.0f} deliveries a second"
                    )
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
            continue
        for name, figures in rounds.items():
            median = report.medians(figures)
            compared = [
                report.spread(report.ratios(figures, rounds["without"], key))
                for key in ("delivered_per_s", "cpu_us_per_message")
            ]
            rows.append(
                [
                    name,
                    report.number(median["delivered_per_s"]),
                    report.number(median["cpu_us_per_message"], 2),
                    report.number(median["lost"]),
                    *compared,
                ]
            )
        result[contender.name] = rounds
    print(
        f"\nQoS {settings.qos}, {settings.subscribers} subscribers; ratios to the broker without, of the same round.\n"
    )
    print(
        report.table(
            ["broker", "deliveries/s", "CPU us/publish", "lost", "deliveries ratio", "CPU ratio"], rows
        )
    )
    return result


def flood_round(settings: Settings, contender: Contender) -> dict[str, float]:
    """One flood on a fresh broker."""
    with staged(settings, contender) as stage:
        measured = stage.load(
            "flood",
            topic="bench/flood",
            qos=settings.qos,
            count=settings.count,
            subscribers=settings.subscribers,
        )
    return {
        "delivered_per_s": measured["delivered_per_s"],
        "cpu_us_per_message": measured["cpu_seconds"] * 1e6 / measured["published"],
        "lost": measured["lost"],
    }


def wakeup(settings: Settings) -> Result:
    """An idle application publishes now and then: how long until a subscriber has it."""
    result: Result = {"failed": {}}
    rows = []
    for contender in usable(settings, result):
        count = max(10, settings.count // contender.slower)
        contender = replace(contender, application="benchapp.wakeup:application")
        progress(f"{contender.name}: {count} publishes, about {count * 0.0013:.0f} s")
        try:
            with staged(settings, contender, BENCH_COUNT=count) as stage:
                measured = stage.load(
                    "sink",
                    topic="bench/wakeup",
                    start="bench/start",
                    done="bench/done",
                    qos=settings.qos,
                    count=count,
                    limit_us=settings.limit_us,
                    timeout_ms=5000,
                    seconds=min(3600, 60 + count * 0.02),
                )
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
            continue
        result[contender.name] = measured
        figures = [
            report.number(measured[key])
            for key in ("count", "missing", "duplicated", "reordered", "above_limit")
        ]
        rows.append([contender.name, *figures, *percentiles(measured), "yes" if measured["ended"] else "no"])
    print(f"\nQoS {settings.qos}, one way, from publish() in the application to a subscriber.\n")
    late = f"above {settings.limit_us / 1000:g} ms"
    columns = [
        "contender",
        "messages",
        "missing",
        "doubled",
        "reordered",
        late,
        *PERCENTILE_HEADS,
        "complete",
    ]
    print(report.table(columns, rows))
    return result
