"""The plugin of this checkout: which commit it is, and building it as an installation would."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from machine import run_quietly
from settings import BUILD, PRODUCT, ROOT, Settings

PARTS = ("statistics", "identity", "watchdog")  # what a build can do without
SOURCES = ("plugin", "python", "CMakeLists.txt")  # what the figures are figures of


def is_built(settings: Settings, folder: Path = PRODUCT) -> bool:
    """Return whether the plugin is there, built with this Python, and nothing that it is made of is newer."""
    made = folder / ".made"
    if not made.exists() or made.read_text() != settings.python:
        return False
    folders = [ROOT / source for source in SOURCES]
    files = [path for folder in folders for path in (folder.rglob("*") if folder.is_dir() else [folder])]
    newest = max(path.stat().st_mtime for path in files if "__pycache__" not in path.parts)
    return made.stat().st_mtime >= newest


def without(names: tuple[str, ...]) -> Path:
    """Return where the plugin is built that lacks these parts."""
    return BUILD / "-".join(("without", *names))


def build(settings: Settings, folder: Path = PRODUCT, leave_out: tuple[str, ...] = ()) -> None:
    """Build it, with CMake's default options but for what is left out. Raises Failure with the compiler's words."""
    made = folder / ".made"
    if made.exists() and made.read_text() != settings.python:
        shutil.rmtree(folder)  # CMake remembers what it has found of the other Python
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"-DPython3_EXECUTABLE={settings.python}", f"-DWITHOUT={';'.join(leave_out)}"]
    run_quietly(["cmake", "-S", str(ROOT), "-B", str(folder), *options])
    run_quietly(["cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1)])
    made.write_text(settings.python)


def git(*words: str, where: Path = ROOT) -> str | None:
    """Return what git says; None where it fails, or there is no repository or no git."""
    command = ["git", "-c", f"safe.directory={where}", "-C", str(where), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit(settings: Settings) -> str:
    """Return the commit that is checked out; empty where that is not known."""
    return settings.commit or git("rev-parse", "HEAD") or ""


def changed() -> list[str]:
    """Return the files of the product that are not as committed."""
    said = git("status", "--porcelain", "--", *SOURCES) or ""
    return [line.strip().split(maxsplit=1)[1] for line in said.splitlines()]
