"""What ordinary clients notice of consumers that do all the harm of the chaos test; and on a quiet broker."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import report
from contenders import Contender
from environments import CLIENTS
from settings import PEERS, ROOT, Failure, Settings, progress
from stage import Stage, staged

from broker import child_environment

Result = dict[str, Any]
QUIET = Contender("quiet broker without the plugin", "nobody", "")
#: The same broker while the other one suffers: what the harm takes of the machine, and not of the broker.
BESIDE = "quiet broker, beside chaos"
CULPRIT = Contender(
    "under chaos",
    "plugin",
    "",
    "apps.chaos:application",
    {
        "python_path": str(ROOT / "tests" / "broker"),
        "retries": "0",
        "watchdog": "0.2",
        "queue_size": "20000",
        "client_id": "chaos-session",
    },
)
LONGER = 3  # times as long as other measurements: harm is random


class Harm:
    """The process that does it, from construction to the end of the ``with`` block."""

    def __init__(self, stage: Stage, seed: int) -> None:
        python = CLIENTS.folder / "bin" / "python"
        words = [stage.broker.port, stage.broker.child.pid, seed]
        command = [str(python), str(PEERS / "harm.py"), *map(str, words)]
        self.log = (stage.broker.folder / "harm.log").open("w+")
        self.child = subprocess.Popen(
            command,
            env=child_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def __enter__(self) -> Harm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.child.kill()
        self.child.wait()
        self.log.close()

    def say(self, word: str) -> None:
        """Return when it has obeyed; raise Failure with its last words when it has ended instead."""
        assert self.child.stdin is not None and self.child.stdout is not None
        try:
            self.child.stdin.write(f"{word}\n")
            self.child.stdin.flush()
        except OSError:
            pass
        if self.child.stdout.readline().strip() != "done":
            self.log.seek(0)
            raise Failure("\n".join(["The harm ended:", *self.log.read().splitlines()[-12:]]))


def ordinary(stage: Stage, seconds: float) -> dict[str, float]:
    """Measure an ordinary client that sends itself messages with QoS 1, each of which must come back."""
    topic = "ordinary/x"
    measured = stage.load(
        "roundtrip", qos=1, topic=topic, answer=topic, count=0, seconds=seconds, timeout_ms=10_000
    )
    return {key: measured[key] for key in (*report.PERCENTILES, "count", "lost")}


def chaos(settings: Settings) -> Result:
    """Measure the ordinary client on both brokers in turn, on the quiet one also while the other suffers."""
    rounds: dict[str, list[report.Round]] = {QUIET.name: [], BESIDE: [], CULPRIT.name: []}
    failed: dict[str, str] = {}
    try:
        with ExitStack() as stack:
            quiet = stack.enter_context(staged(settings, QUIET))
            disturbed = stack.enter_context(staged(settings, CULPRIT))
            harm = stack.enter_context(Harm(disturbed, settings.rounds))
            harm.say("settle")
            for turn in range(settings.rounds):
                rounds[QUIET.name].append(ordinary(quiet, settings.seconds))
                harm.say("go")
                rounds[BESIDE].append(ordinary(quiet, LONGER * settings.seconds))
                rounds[CULPRIT.name].append(ordinary(disturbed, LONGER * settings.seconds))
                harm.say("pause")
                latest = [
                    f"{name} p99 {each[-1]['p99_us']:.0f} us" for name, each in rounds.items() if each[-1]
                ]
                progress(f"round {turn + 1}/{settings.rounds}: {', '.join(latest)}")
            harm.say("end")
    except Failure as failure:
        failed["chaos"] = str(failure)
    return {"rounds": rounds, "failed": failed}


def chaos_tables(result: Result) -> str:
    """Return one table."""
    rounds = result["rounds"]
    rows = [
        [
            name,
            *(report.ranged(figures, key) for key in report.PERCENTILES[:3]),
            report.total(figures, "count"),
            report.total(figures, "lost"),
            report.spread(report.ratios(figures, rounds[QUIET.name], "p99_us")),
        ]
        for name, figures in rounds.items()
    ]
    head = ["ordinary client", "p50 µs", "p99 µs", "p99.9 µs", "messages", "lost", "p99 ratio"]
    return (
        f"{report.table(head, rows)}\n\nQoS 1, {report.times(result['settings']['rounds'])}. Seven consumers meanwhile "
        "raise, exit, block, flood, log, recurse, cancel tasks, start threads and processes, are killed and spawned "
        "at random; the broker reloads, clients come, go and take the session's name."
    )
