"""Virtual environments below build/bench, one for each set of packages that a contender or the picture needs."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from machine import run_quietly
from settings import BUILD, NEWEST, Failure, Settings, progress

WEEK = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Environment:
    """The folder build/bench/venv-<name> with these requirements in it."""

    name: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Return where it is, or will be."""
        return BUILD / f"venv-{self.name}"

    def _made_for(self, settings: Settings) -> str:
        return "\n".join([settings.python, *self.requirements])

    def is_made(self, settings: Settings) -> bool:
        """Return whether it is there, made with this Python for these requirements."""
        mark = self.folder / ".made-for"
        return mark.exists() and mark.read_text() == self._made_for(settings)

    def make(self, settings: Settings) -> None:
        """Make it where it is not there; look once a week whether there is something newer.

        Raises Failure when it cannot be made. Without a newer version, or without a package index, the old one stays.
        """
        mark = self.folder / ".made-for"
        pip = [str(self.folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        if not self.is_made(settings):
            progress(f"making {self.folder}: {', '.join(self.requirements)}")
            shutil.rmtree(self.folder, ignore_errors=True)
            run_quietly([settings.python, "-m", "venv", str(self.folder)])
            run_quietly([*pip, *self.requirements])
        elif time.time() - mark.stat().st_mtime > WEEK:
            progress(f"looking for newer releases: {', '.join(self.requirements)}")
            try:
                run_quietly([*pip, "--upgrade", *self.requirements])
            except Failure as failure:
                progress(f"no newer ones: {failure}")
        else:
            return
        mark.write_text(self._made_for(settings))

    def packages(self) -> dict[str, str]:
        """Return the versions of what is installed in it."""
        found = [
            *self.folder.glob("lib/python*/site-packages/*.dist-info"),
            *self.folder.glob("lib/python*/site-packages/*.egg-info"),
        ]
        pairs = sorted(re.split(r"-py3|\.(?:dist|egg)-info", path.name)[0].rpartition("-") for path in found)
        return {name.lower(): version for name, _, version in pairs if name not in ("pip", "setuptools")}


CLIENTS = Environment("clients", ("gmqtt", "paho-mqtt>=2", "uvloop"))
PICTURE = Environment("picture", ("matplotlib",))


def for_channels(version: str) -> Environment:
    """Return the one for the plugin; its own package ``mqttasgi`` is not in it, the plugin finds that itself."""
    return Environment(version, ("django", _pinned("channels", version), "uvloop"))


def for_connect() -> Environment:
    """Return the one for our processes beside the broker, whose package is the checkout's."""
    return Environment("connect", ("django", "channels", "paho-mqtt>=2.2,<2.3", "python-dotenv", "uvloop"))


def for_mqttasgi(version: str) -> Environment:
    """Return the one with the original server and what it brings along."""
    return Environment(f"mqttasgi-{version}", (_pinned("mqttasgi", version), "django", "channels"))


def for_host(host: str, version: str) -> Environment | None:
    """Return what a contender needs that runs in this host; None where that is no Python."""
    if host == "plugin":
        return for_channels(version)
    if host == "mqttasgi":
        return for_mqttasgi(version)
    if host == "connect":
        return for_connect()
    return CLIENTS if host == "client" else None


def mqttasgi_release(version: str) -> str:
    """Return which release "newest" was when its environment was made; "newest" before that."""
    return for_mqttasgi(version).packages().get("mqttasgi", version) if version == NEWEST else version


def _pinned(package: str, version: str) -> str:
    return package if version == NEWEST else f"{package}=={version}"
