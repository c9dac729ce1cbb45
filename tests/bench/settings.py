"""What the command line said, and where things are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
APPS = HERE / "apps"


class Failure(Exception):
    """Something that was to be measured did not work. The text is for the report."""


@dataclass(frozen=True)
class Settings:
    """Immutable; every module takes what it needs from here."""

    plugin: Path
    against: Path | None  # builds: the plugin of the other build
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
    mqttasgi: str  # version of the original, from PyPI
    broker_lines: tuple[str, ...]  # of mosquitto.conf, after ours
    plugin_options: tuple[tuple[str, str], ...]  # further plugin_opt_ lines
    workers: tuple[int, ...]
    subscribers: int
    rate: int  # retained: live messages a second
    limit_us: int
