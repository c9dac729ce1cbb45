"""What the command line said, and where things are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
PRODUCT = (
    BUILD / "product"
)  # where this checkout's plugin is built, with the options that an installation has
APPS = HERE / "apps"
PEERS = HERE / "peers"
NEWEST = "newest"
BEGIN = time.monotonic()


class Failure(Exception):
    """Something that was to be measured did not work. The text is for the report."""


@dataclass(frozen=True)
class Settings:
    """Immutable; every module takes what it needs from here."""

    plugin: Path
    builds_plugin: bool  # plugin is this checkout's, to be built
    against: Path | None  # builds: the plugin of the other build
    without: tuple[str, ...]  # builds: what that is built without; empty: it is built already
    mosquitto: str
    python: str  # interpreter that the virtual environments are made with: the plugin's
    cc: str
    rounds: int
    seconds: float  # of a throughput measurement
    count: int  # messages of a round trip, flood or wake-up measurement
    qos: int
    qos_levels: tuple[int, ...]  # of the scenarios that measure each
    contenders: tuple[str, ...]
    channels: tuple[str, ...]  # versions, or "newest"
    mqttasgi: tuple[str, ...]  # versions of the original, from PyPI, or "newest"
    broker_lines: tuple[str, ...]  # of mosquitto.conf, after ours
    plugin_options: tuple[tuple[str, str], ...]  # further plugin_opt_ lines
    workers: tuple[int, ...]
    subscribers: int
    rate: int  # live messages a second
    backlog: int  # durable: messages that wait
    limit_us: int
    commit: str  # of the sources, where they are in no repository

    def shown(self) -> dict[str, object]:
        """Return all of it in a form that JSON has."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in self.__dict__.items()}


def progress(text: str) -> None:
    """Print one line at once, with the time since the program began."""
    elapsed = int(time.monotonic() - BEGIN)
    print(f"[{elapsed // 60}:{elapsed % 60:02}] {text}", flush=True)
