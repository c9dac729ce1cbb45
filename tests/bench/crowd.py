"""Few workers against many: what spawning one costs, and whether a message to one of them takes longer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import report
from contenders import Contender, expand
from settings import Failure, Settings, progress
from stage import Stage, staged

Result = dict[str, Any]
READY_PATIENCE = 900  # seconds


def many(settings: Settings) -> Result:
    """Measure each contender with each number of workers."""
    result: Result = {"contenders": {}, "failed": {}}
    for contender in expand(settings, settings.contenders):
        try:
            result["contenders"][contender.name] = many_of(
                settings, replace(contender, application="benchapp.many:application")
            )
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
    return result


def many_of(settings: Settings, contender: Contender) -> Result:
    """Measure one contender. All sizes stand side by side, so that their round trips can take turns."""
    ready: dict[str, dict[str, Any]] = {}
    rounds: dict[str, list[report.Round]] = {str(size): [] for size in settings.workers}
    with ExitStack() as stack:
        stages: dict[int, Stage] = {}
        for size in settings.workers:
            stages[size] = stack.enter_context(staged(settings, contender, BENCH_WORKERS=size))
            ready[str(size)] = stages[size].load("first", topic="bench/ready", startup=READY_PATIENCE)
            progress(f"{contender.name}: {size} workers after {ready[str(size)]['spawn_seconds']:.2f} s")
        for turn in range(settings.rounds):
            for size in settings.workers[:: 1 if turn % 2 == 0 else -1]:
                topic = f"bench/worker/{size // 2}"
                count = settings.count // contender.slower
                measured = stages[size].load("roundtrip", topic=topic, qos=settings.qos, count=count)
                rounds[str(size)].append({key: measured[key] for key in report.PERCENTILES})
                progress(
                    f"round {turn + 1}/{settings.rounds}, {contender.name}, {size} workers: "
                    f"p50 {measured['p50_us']:.0f} us"
                )
    return {"ready": ready, "rounds": rounds}


def many_tables(result: Result) -> str:
    """Return one table."""
    rows = []
    for name, measured in result["contenders"].items():
        rounds = measured["rounds"]
        first = next(iter(rounds.values()))
        for size, figures in rounds.items():
            ready = measured["ready"][size]
            each = (ready["rss_after_kib"] - ready["rss_before_kib"]) / int(size)
            rows.append(
                [
                    f"`{name}`",
                    report.number(int(size)),
                    report.number(ready["spawn_seconds"], 2),
                    report.number(each, 1),
                    *(report.ranged(figures, key) for key in ("p50_us", "p99_us")),
                    *(report.spread(report.ratios(figures, first, key)) for key in ("p50_us", "p99_us")),
                ]
            )
    head = [
        *("contender", "workers", "spawned in s", "KiB/worker", "p50 µs", "p99 µs"),
        *("p50 ratio", "p99 ratio"),
    ]
    settings = result["settings"]
    return (
        f"{report.table(head, rows)}\n\nQoS {settings['qos']}, medians (least–most) of "
        f"{report.times(settings['rounds'])}; ratios to the first of the same round."
    )
