"""Builds what the benchmark needs under build/bench, and says what machine and versions it ran on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from settings import BUILD, HERE, Failure, Settings

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]
PROGRAMS = {
    "load": (["load.c", "modes.c", "soak.c", "retained.c", "wire.c", "samples.c", "util.c"], ["-lm"]),
    "echo_client": (["echo_client.c"], ["-lmosquitto"]),
    "collector": (["collector.c"], ["-lmosquitto"]),
}


def build_programs(settings: Settings) -> None:
    """Compiles the C programs that are older than their sources. Raises Failure with the compiler's words."""
    BUILD.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in [*HERE.glob("*.c"), *HERE.glob("*.h")])
    for name, (sources, libraries) in PROGRAMS.items():
        target = BUILD / name
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        files = [str(HERE / source) for source in sources]
        run_quietly([settings.cc, "-std=gnu11", "-O2", *WARNINGS, *files, *libraries, "-o", str(target)])


def virtual_environment(settings: Settings, name: str, requirements: list[str]) -> Path:
    """The folder build/bench/venv-<name> with these packages in it, made when it is missing or was made for others.

    What "newest" was at that time stays: remove the folder to have it looked up again.
    """
    folder = BUILD / f"venv-{name}"
    mark = folder / ".made-for"
    made_for = "\n".join([settings.python, *requirements])
    if not mark.exists() or mark.read_text() != made_for:
        print(f"making {folder}: {', '.join(requirements)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run_quietly([settings.python, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        run_quietly([*pip, *requirements])
        mark.write_text(made_for)
    return folder


def channels_environment(settings: Settings, version: str) -> Path:
    """For the plugin; its own package ``mqttasgi`` is not in it, the plugin finds that itself."""
    channels = "channels" if version == "newest" else f"channels=={version}"
    return virtual_environment(settings, version, ["django", channels, "uvloop"])


def mqttasgi_environment(settings: Settings) -> Path:
    """The original server with what it brings along."""
    return virtual_environment(settings, "mqttasgi", [f"mqttasgi=={settings.mqttasgi}", "django", "channels"])


def run_quietly(command: list[str]) -> str:
    """Returns stdout; raises Failure with the end of what the command said."""
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
    """What a command says about itself, whatever its exit status."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return f"not available ({error.strerror})"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "says nothing")


def cpu_model() -> str:
    """As /proc/cpuinfo has it; the architecture where it has none."""
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def packages(folder: Path) -> dict[str, str]:
    """Versions of what is installed in a virtual environment."""
    found = [
        *folder.glob("lib/python*/site-packages/*.dist-info"),
        *folder.glob("lib/python*/site-packages/*.egg-info"),
    ]
    pairs = sorted(re.split(r"-py3|\.(?:dist|egg)-info", path.name)[0].rpartition("-") for path in found)
    return {name.lower(): version for name, _, version in pairs if name not in ("pip", "setuptools")}


def describe(settings: Settings) -> dict[str, object]:
    """For the head of every report."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cpu": f"{cpu_model()}, {os.cpu_count()} processors",
        "kernel": platform.release(),
        "load average": load,
        "mosquitto": first_line([settings.mosquitto, "-h"]),
        "libmosquitto": first_line(["pkg-config", "--modversion", "libmosquitto"]),
        "python": first_line([settings.python, "--version"]),
        "cc": first_line([settings.cc, "--version"]),
        "source": first_line(["git", "-C", str(HERE), "describe", "--always", "--dirty"]),
        "packages": {
            folder.name: packages(folder)
            for folder in sorted(BUILD.glob("venv-*"))
            if (folder / ".made-for").exists()
        },
    }
