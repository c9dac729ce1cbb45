"""What it costs to keep messages in a file until they are handled; and how soon a backlog is worked off."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import report
from chaos import ordinary
from contenders import Contender
from session import in_plugin
from settings import BUILD, Failure, Settings, progress
from stage import Stage, staged

Result = dict[str, Any]
PATIENCE = 600  # seconds, for a backlog
SIZE = {"durable": "{folder}/inbox", "durable_size": "4G"}
ON, OFF = "durable", "off"


def durable(settings: Settings) -> Result:
    """Measure with it and without, in turn, at QoS 1; then a backlog."""
    settings = replace(settings, qos=1)
    result: Result = {"contenders": {}, "backlog": {}, "failed": {}}
    for contender in in_plugin(settings, result["failed"]):
        contender = replace(contender, application="benchapp.durable:application")
        pair = {
            ON: replace(contender, name=ON, options={**contender.options, **SIZE}),
            OFF: replace(contender, name=OFF),
        }
        rounds: dict[str, list[report.Round]] = {name: [] for name in pair}
        try:
            for turn in range(settings.rounds):
                for name, figures in durable_round(settings, pair, turn).items():
                    rounds[name].append(figures)
                latest = "; ".join(
                    f"{name} p50 {each[-1]['p50_us']:.0f} us, {each[-1]['answered_per_s']:,.0f} messages/s, "
                    f"others' p99 {each[-1]['others_p99_us']:.0f} us"
                    for name, each in rounds.items()
                    if each[-1]
                )
                progress(f"round {turn + 1}/{settings.rounds}: {latest}")
            result["contenders"][contender.name] = rounds
            result["backlog"][contender.name] = backlog(settings, pair[ON])
        except Failure as failure:
            result["failed"][contender.name] = str(failure)
    return result


def durable_round(settings: Settings, pair: dict[str, Contender], turn: int) -> dict[str, dict[str, float]]:
    """Measure on fresh brokers, each kind on both before the next. The other one is idle meanwhile."""
    order = list(pair) if turn % 2 == 0 else list(pair)[::-1]
    figures: dict[str, dict[str, float]] = {name: {} for name in pair}
    with ExitStack() as stack:
        stages = {name: stack.enter_context(staged(settings, each)) for name, each in pair.items()}
        for name in order:
            trips = stages[name].load("roundtrip", qos=1, count=settings.count)
            figures[name].update(p50_us=trips["p50_us"], p99_us=trips["p99_us"], lost=trips["lost"])
        for name in order:
            stream = stages[name].load("throughput", qos=1, seconds=settings.seconds)
            figures[name]["answered_per_s"] = stream["answered_per_s"]
            figures[name]["lost"] += stream["lost"]
        for name in order:
            others = beside(stages[name], settings)
            figures[name].update(others_p50_us=others["p50_us"], others_p99_us=others["p99_us"])
    return figures


def beside(stage: Stage, settings: Settings) -> dict[str, float]:
    """Measure an ordinary client while others publish so many messages a second to the consumer."""
    with stage.broker.loaded(
        "flood", topic="bench/busy", qos=1, rate=settings.rate, count=100_000_000, seconds=3600
    ):
        return ordinary(stage, settings.seconds)


def backlog(settings: Settings, contender: Contender) -> dict[str, float]:
    """Let messages wait, crash, and measure how soon they are handled after the start."""
    with ExitStack() as stack:
        hold = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BUILD))) / "hold"
        hold.touch()
        stage = stack.enter_context(
            staged(settings, contender, BENCH_HOLD=str(hold), BENCH_BACKLOG=settings.backlog)
        )
        empty = stage.broker.resident_kib()
        taken = stage.load("flood", topic="bench/backlog", qos=1, count=settings.backlog, seconds=PATIENCE)
        if taken["delivered"] < settings.backlog:
            raise Failure(f"The broker took no more than {taken['delivered']:,} messages.")
        waiting = stage.broker.resident_kib()
        stage.broker.kill()
        hold.unlink()
        stage.broker.start_again()
        worked = stage.load("first", topic="bench/worked", startup=PATIENCE)
        figures = {
            **worked,
            "messages": float(settings.backlog),
            "taken_per_s": taken["delivered_per_s"],
            "worked_per_s": settings.backlog / worked["seconds"],
            "empty_kib": float(empty),
            "waiting_kib": float(waiting),
        }
        progress(
            f"a backlog of {settings.backlog:,}: {figures['worked_per_s']:,.0f} messages/s after a crash"
        )
        return figures


COLUMNS = (
    ("p50_us", "p50 µs", "≤ 1.15"),
    ("p99_us", "p99 µs", ""),
    ("answered_per_s", "messages/s", "≥ 0.8"),
    ("others_p50_us", "others' p50 µs", ""),
    ("others_p99_us", "others' p99 µs", "≤ 1.2"),
)


def durable_tables(result: Result) -> str:
    """Return one table for the cost, and one for the backlog."""
    parts = []
    settings = result["settings"]
    for rounds in result["contenders"].values():
        rows = [
            [
                name,
                *(report.ranged(figures, key) for key, _, _ in COLUMNS),
                report.total(figures, "lost"),
            ]
            for name, figures in rounds.items()
        ]
        ratios = [report.spread(report.ratios(rounds[ON], rounds[OFF], key)) for key, _, _ in COLUMNS]
        rows.append([f"{ON} / {OFF}", *ratios, ""])
        rows.append(["wanted", *(wanted for _, _, wanted in COLUMNS), ""])
        parts.append(report.table(["QoS 1", *(head for _, head, _ in COLUMNS), "lost"], rows))
        parts.append(
            f"{settings['count']:,} round trips and {settings['seconds']:g} s of throughput in each of "
            f"{report.times(settings['rounds'])}; others while {settings['rate']:,} messages a second are stored: "
            "medians (least–most), ratios within a round."
        )
    for each in result["backlog"].values():
        head = [
            "backlog",
            "taken/s",
            "handled/s",
            "MiB empty",
            "waiting",
            "after the start",
            "most",
            "at the end",
        ]
        memory = ("empty_kib", "waiting_kib", "before_kib", "most_kib", "after_kib")
        row = [
            report.number(each["messages"]),
            *(report.number(each[key]) for key in ("taken_per_s", "worked_per_s")),
            *(report.number(each[key] / 1024, 1) for key in memory),
        ]
        parts.append(report.table(head, [row]))
    return "\n\n".join(parts)
