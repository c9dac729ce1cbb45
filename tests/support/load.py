"""The benchmark's load generator, for tests that need more messages a second than a client written in Python has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).resolve().parents[1] / "bench"
_NAMES = ("load.c", "modes.c", "soak.c", "retained.c", "wire.c", "samples.c", "util.c")


def build_load(folder: Path) -> Path:
    """Compile `tests/bench/load.c` into a folder; returns the program. Takes a second or two."""
    program = folder / "load"
    sources = [str(_SOURCES / name) for name in _NAMES]
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-std=gnu11", "-O2", *sources, "-lm", "-o", str(program)], check=True)
    return program
