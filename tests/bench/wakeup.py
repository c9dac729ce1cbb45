"""An idle application publishes now and then: how long until a subscriber has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import report
from contenders import expand
from settings import Failure, Settings, progress
from stage import staged

Result = dict[str, Any]
SECONDS_EACH = 0.0013  # a publish with its pause


def wakeup(settings: Settings) -> Result:
    """Measure each contender once."""
    result: Result = {"contenders": {}, "failed": {}}
    for contender in expand(settings, settings.contenders):
        count = max(10, settings.count // contender.slower)
        contender = replace(contender, application="benchapp.wakeup:application")
        progress(f"{contender.name}: {count} publishes, about {count * SECONDS_EACH:.0f} s")
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
        result["contenders"][contender.name] = measured
    return result


def wakeup_tables(result: Result) -> str:
    """Return one table."""
    settings = result["settings"]
    rows = []
    for name, measured in result["contenders"].items():
        counts = ("count", "missing", "duplicated", "reordered", "above_limit")
        rows.append(
            [
                f"`{name}`",
                *(report.number(measured[key]) for key in counts),
                *(report.number(measured.get(key)) for key in report.PERCENTILES),
            ]
        )
        if not measured["ended"]:
            rows[-1][1] += " (not all)"
    head = [
        *("contender", "publishes", "missing", "doubled", "reordered"),
        f"later than {settings['limit_us'] / 1000:g} ms",
        *("p50 µs", "p99 µs", "p99.9 µs", "max µs"),
    ]
    return (
        f"{report.table(head, rows)}\n\nQoS {settings['qos']}, one way, from `publish()` in the application to a "
        "subscriber; pauses of up to 2 ms."
    )
