"""Runs commands, compiles the programs that measure, and says what machine and versions they run on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from settings import BUILD, HERE, Failure, Settings

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]
PROGRAMS = {
    "load": (["load.c", "modes.c", "soak.c", "retained.c", "wire.c", "samples.c", "util.c"], ["-lm"]),
    "echo_client": (["echo_client.c"], ["-lmosquitto"]),
    "collector": (["collector.c"], ["-lmosquitto"]),
}


def old_programs() -> list[str]:
    """Return the C programs that are not there, or older than a source."""
    newest = max(path.stat().st_mtime for path in [*HERE.glob("*.c"), *HERE.glob("*.h")])
    targets = {name: BUILD / name for name in PROGRAMS}
    return [
        name for name, target in targets.items() if not target.exists() or target.stat().st_mtime < newest
    ]


def build_programs(settings: Settings) -> None:
    """Compile the C programs that are older than their sources. Raises Failure with the compiler's words."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in old_programs():
        sources, libraries = PROGRAMS[name]
        files = [str(HERE / source) for source in sources]
        run_quietly(
            [settings.cc, "-std=gnu11", "-O2", *WARNINGS, *files, *libraries, "-o", str(BUILD / name)]
        )


def run_quietly(command: list[str]) -> str:
    """Return stdout; raise Failure with the end of what the command said."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-10:]
        raise Failure("\n".join([f"{' '.join(command)} failed:", *said]))
    return done.stdout


def first_line(command: list[str]) -> str:
    """Return what a command says about itself, whatever its exit status."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return f"not available ({error.strerror})"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "says nothing")


def mosquitto_version(settings: Settings) -> str:
    """Return the version of the broker that is measured, "unknown" where it does not say it."""
    found = re.search(r"\d+(\.\d+)+", first_line([settings.mosquitto, "-h"]))
    return found[0] if found else "unknown"


def cpu_model() -> str:
    """Return it as /proc/cpuinfo has it; the architecture where it has none."""
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def describe(settings: Settings) -> dict[str, str]:
    """Return what belongs at the head of every report."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cpu": f"{cpu_model()}, {os.cpu_count()} processors",
        "kernel": platform.release(),
        "load average": load,
        "mosquitto": mosquitto_version(settings),
        "libmosquitto": first_line(["pkg-config", "--modversion", "libmosquitto"]),
        "python": first_line([settings.python, "--version"]),
        "cc": first_line([settings.cc, "--version"]),
    }
