"""Messages that no consumer subscribed to: a broker with the plugin against one without."""

from __future__ import annotations

from typing import Any

import report
from contenders import Contender, expand
from settings import Failure, Settings, progress
from stage import staged

Result = dict[str, Any]
WITHOUT = Contender("without", "nobody", "")


def idle_traffic(settings: Settings) -> Result:
    """Measure the same flood on both in turn."""
    result: Result = {"contenders": {}, "failed": {}}
    for contender in expand(settings, settings.contenders):
        rounds: dict[str, list[report.Round]] = {WITHOUT.name: [], contender.name: []}
        try:
            for turn in range(settings.rounds):
                pair = (WITHOUT, contender) if turn % 2 == 0 else (contender, WITHOUT)
                for each in pair:
                    figures = flood_round(settings, each)
                    rounds[each.name].append(figures)
                    progress(
                        f"round {turn + 1}/{settings.rounds}, {each.name}: "
                        f"{figures['delivered_per_s']:,.0f} deliveries/s"
                    )
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
            continue
        result["contenders"][contender.name] = rounds
    return result


def flood_round(settings: Settings, contender: Contender) -> dict[str, float]:
    """Measure one flood on a fresh broker."""
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


def idle_traffic_tables(result: Result) -> str:
    """Return one table."""
    rows = []
    for rounds in result["contenders"].values():
        for name, figures in rounds.items():
            rows.append(
                [
                    name if name == WITHOUT.name else f"with `{name}`",
                    report.ranged(figures, "delivered_per_s"),
                    report.ranged(figures, "cpu_us_per_message", 2),
                    report.total(figures, "lost"),
                    *(
                        report.spread(report.ratios(figures, rounds[WITHOUT.name], key))
                        for key in ("delivered_per_s", "cpu_us_per_message")
                    ),
                ]
            )
    settings = result["settings"]
    head = ["broker", "deliveries/s", "CPU µs/publish", "lost", "deliveries ratio", "CPU ratio"]
    return (
        f"{report.table(head, rows)}\n\nQoS {settings['qos']}, {settings['subscribers']} subscribers, "
        f"{settings['count']:,} publishes in each of {report.times(settings['rounds'])}; ratios to the broker without, "
        "of the same round."
    )
