"""What the plugin's own MQTT session costs, and how soon it brings what the broker kept.

As in scenarios.py: each measurement prints progress, then a table, and returns everything it measured.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import report
from contenders import ALL, REFERENCE, Contender, Stage, staged
from scenarios import Result, progress, usable
from settings import Failure, Settings

SESSION_PATIENCE = 15.0  # seconds
SESSION_GOAL = 1.15  # p50 with the session to without, at most
RETAINED_GOAL = 1.0  # seconds
COLLECTION_PATIENCE = 10.0  # seconds
Rounds = dict[str, list[report.Round]]


def in_plugin(settings: Settings, result: Result) -> list[Contender]:
    """The usable contenders that are in the plugin, the only ones with a session; the others have failed."""
    contenders = usable(settings, result)
    for contender in contenders:
        if contender.host != "plugin":
            result["failed"][contender.name] = "is not in the plugin: there is no session to be measured"
    return [contender for contender in contenders if contender.host == "plugin"]


def await_session(stage: Stage, contender: Contender, failed: dict[str, str]) -> None:
    """Waits for the session where there should be one; says in the result that there was none, and goes on."""
    if contender.options.get("session") != "full" or contender.name in failed:
        return
    if not stage.logged("Session with the listener at", SESSION_PATIENCE):
        words = stage.broker.last_words()
        failed[contender.name] = f"had no session after {SESSION_PATIENCE:.0f} s; measured without.\n{words}"


def session(settings: Settings) -> Result:
    """The echo application with the session and without, and a C client, all three side by side."""
    result: Result = {"failed": {}}
    for contender in in_plugin(settings, result):
        full, off = (
            replace(contender, name=f"{contender.name}, {how}", options={**contender.options, "session": how})
            for how in ("full", "off")
        )
        for qos in settings.qos_levels:
            trio = [full, off, ALL[REFERENCE]]
            rounds: Rounds = {each.name: [] for each in trio}
            for turn in range(settings.rounds):
                try:
                    figures = session_round(replace(settings, qos=qos), trio, turn, result["failed"])
                except Failure as failure:
                    result["failed"][f"{contender.name}, QoS {qos}"] = str(failure)
                    break
                for name, measured in figures.items():
                    rounds[name].append(measured)
                progress(
                    f"QoS {qos}, round {turn + 1}/{settings.rounds}: "
                    + "; ".join(
                        f"{name} p50 {measured['p50_us']:.0f} us, {measured['answered_per_s']:.0f} messages/s"
                        for name, measured in figures.items()
                    )
                )
            result[f"{contender.name}, QoS {qos}"] = rounds
            print_session(settings, qos, rounds, full.name, off.name)
    return result


def session_round(
    settings: Settings, contenders: list[Contender], turn: int, failed: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Fresh brokers; round trips to each in turn, then throughput of each in turn. The others are idle meanwhile."""
    common: dict[str, str | int | float] = {"qos": settings.qos, "answer": "bench/out"}
    shift = turn % len(contenders)
    order = contenders[shift:] + contenders[:shift]
    figures: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    with ExitStack() as stack:
        stages = {
            contender.name: stack.enter_context(staged(settings, contender)) for contender in contenders
        }
        for contender in contenders:
            await_session(stages[contender.name], contender, failed)
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


SESSION_COLUMNS = (
    ("p50_us", "p50 us", 0),
    ("p99_us", "p99 us", 0),
    ("answered_per_s", "messages/s", 0),
    ("broker_cpu_s_per_1000", "broker CPU s/1,000", 4),
    ("cpu_s_per_1000", "CPU s/1,000 with the client", 4),
)


def print_session(settings: Settings, qos: int, rounds: Rounds, full: str, off: str) -> None:
    """Medians with their ranges, and a last row with the ratio of the first two."""
    rows = []
    for name, figures in rounds.items():
        cells = [report.ranged(figures, key, digits) for key, _, digits in SESSION_COLUMNS]
        rows.append(
            [name, *cells, *(total(figures, key) for key in ("lost", "duplicated", "reordered"))],
        )
    ratios = {key: report.ratios(rounds[full], rounds[off], key) for key, _, _ in SESSION_COLUMNS}
    rows.append(["full / off", *(report.spread(values) for values in ratios.values()), "", "", ""])
    print(
        f"\nQoS {qos}, {settings.count} round trips and {settings.seconds:g} s of throughput in each of "
        f"{settings.rounds} rounds: medians (least–most), ratios within a round. p50 ratio wanted: at most "
        f"{SESSION_GOAL}.\n"
    )
    heads = [head for _, head, _ in SESSION_COLUMNS]
    print(report.table(["who answers", *heads, "lost", "doubled", "reordered"], rows), end="\n\n")


def total(figures: list[report.Round], key: str) -> str:
    """A cell."""
    return report.number(sum(measured[key] for measured in figures if measured is not None))


def retained(settings: Settings) -> Result:
    """A subscription to many retained messages in live traffic: a consumer and an ordinary client, in turn."""
    result: Result = {"failed": {}}
    client = Contender("libmosquitto", "collector", "")
    consumers = [
        replace(
            contender,
            application="benchapp.retained:application",
            options={**contender.options, "session": "full"},
        )
        for contender in in_plugin(settings, result)
    ]
    rows: list[list[str]] = []
    for qos in settings.qos_levels:
        for contender in (*consumers, client):
            try:
                measured = retained_rounds(replace(settings, qos=qos), contender, result["failed"])
            except Failure as failure:
                result["failed"][f"{contender.name}, QoS {qos}"] = str(failure)
                continue
            result[f"{contender.name}, QoS {qos}"] = measured
            rows.append(retained_row(contender.name, qos, measured))
    print(
        f"\n{settings.count} retained messages, {settings.rate} live messages a second below the same filter, "
        f"{settings.rounds} rounds: medians (least–most) since the call of subscribe(). Wanted: all of them in "
        f"{RETAINED_GOAL:g} s.\n"
    )
    print(report.table([head for head, *_ in RETAINED_COLUMNS], rows))
    return result


def retained_rounds(settings: Settings, contender: Contender, failed: dict[str, str]) -> dict[str, Any]:
    """All rounds of one subscriber, on one fresh broker."""
    with staged(settings, contender) as stage:
        await_session(stage, contender, failed)
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


RETAINED_COLUMNS = (
    ("subscriber", ""),
    ("QoS", ""),
    ("complete ms", "complete_ms"),
    ("subscribe() ms", "returned_ms"),
    ("arrived, least", ""),
    ("doubled", ""),
    ("not marked", ""),
    ("live/s sent", ""),
    ("live missing", ""),
    ("live disordered", ""),
    ("slowest live ms", "live_longest_ms"),
)


def retained_row(name: str, qos: int, measured: dict[str, Any]) -> list[str]:
    """In the order of the columns; a round that got less than all has no time."""
    rounds = measured["rounds"]
    cells = {head: report.ranged(rounds, key, 0) for head, key in RETAINED_COLUMNS if key}
    cells["subscriber"] = name
    cells["QoS"] = str(qos)
    cells["arrived, least"] = report.number(min(figures["arrived"] for figures in rounds))
    cells["doubled"] = total(rounds, "doubled")
    cells["not marked"] = total(rounds, "unmarked")
    cells["live/s sent"] = report.number(measured["live_per_s"])
    cells["live missing"] = total(rounds, "live_missing")
    cells["live disordered"] = total(rounds, "live_disordered")
    return [cells[head] for head, _ in RETAINED_COLUMNS]
