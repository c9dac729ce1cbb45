"""Measures in another Debian release: with its Mosquitto and Python, in a folder, on this machine's kernel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import product
from settings import BUILD, HERE, ROOT, Failure, progress

INSIDE = Path("src/build/bench")  # where it writes, in there


def run(suite: str, scenario: str, words: list[str]) -> tuple[int, Path]:
    """Return the exit status, and the file with everything measured, copied to build/bench/SUITE.

    Raises Failure when there is none.

    words: the command line; what names the release and what is made of the result is not passed on.
    """
    inside = ROOT / "build" / "suites" / suite / INSIDE / f"{scenario}.json"
    path = BUILD / suite / inside.name
    commit = "" if product.changed() else product.git("rev-parse", "HEAD") or ""
    command = [str(HERE / "in_suite"), suite, *_passed_on(words, scenario), "--no-picture"]
    begin = time.time()
    status = _run_to_its_end([*command, *(["--commit", commit] if commit else [])])
    if not inside.is_file() or inside.stat().st_mtime < begin:
        raise Failure(f"Nothing was measured in {suite}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(inside, path)
    progress(f"copied to {path}")
    return status, path


def _run_to_its_end(command: list[str]) -> int:
    """Return its exit status. Who ends this program ends all that runs in there, which ends its brokers."""
    child = subprocess.Popen(command, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise


def _passed_on(words: list[str], scenario: str) -> list[str]:
    kept = []
    rest = iter(words)
    for word in rest:
        if word in ("--suite", "--commit"):
            next(rest, None)
        elif word not in ("--for-page", "--no-picture", "overview") and not word.startswith(
            ("--suite=", "--commit=")
        ):
            kept.append(word)
    return kept if scenario in kept else [scenario, *kept]
